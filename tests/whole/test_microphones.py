"""The daemon and real (virtual) microphones: they go away, come late, and hear what a file holds."""

import json
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tagger.audio.decode import decode
from tests.programs import (
    ROOT,
    Mosquitto,
    VirtualMicrophone,
    run,
    running,
    stop,
    subscribed,
    until,
    until_heard,
    write_wav,
)

pytestmark = pytest.mark.slow

TRIES = 3
"""Times that a sound is played at most: on a busy machine PulseAudio interrupts it."""


def test_clear_sounds_are_the_same_events_as_a_file_and_through_the_microphone_at_any_hop(
    broker: Mosquitto, tmp_path: Path
) -> None:
    """Live, and at another hop, windows begin at other times. The events and their times must stay the same."""
    demo = ROOT / "tagger" / "sources" / "demo" / "demo.ogg"
    as_file = [events_of(demo, hop) for hop in (0.5, 1.0)]
    for _ in range(TRIES):
        live = live_events(broker, demo, tmp_path)
        clear = as_file[0].keys() & as_file[1].keys() & live.keys()
        # A sound that is only just clear may be so to one of them alone.
        only = max(len(found.keys() - clear) for found in (*as_file, live))
        apart = max(spread([found[label] - as_file[0][label] for label in clear]) for found in (as_file[1], live))
        if len(clear) >= 5 and only <= 1 and apart <= 0.5:
            return
    pytest.fail(f"{sorted(clear)} are clear to all, {only} to one alone, and up to {apart:.1f} s apart: {live}")


def live_events(broker: Mosquitto, sound: Path, folder: Path) -> dict[str, float]:
    """Onsets of clear events through a microphone, seconds since the epoch, by label."""
    microphone = VirtualMicrophone(folder)
    try:
        listen = ("listen", "--hop", "0.5", "--json", "--mqtt", broker.url, "--node", "room")
        with subscribed(broker.port) as subscriber, running(*listen, **microphone.env) as daemon:
            until(lambda: subscriber.payloads("tagger/room/mic/scores"), "the microphone is heard")
            microphone.play(write_wav(folder / "sound.wav", np.concatenate(list(decode(sound, 32_000)))))
            until_heard(subscriber, "tagger/room/mic/scores", time.time() + 4.5)
            code, out, err = stop(daemon)
            assert code == 0, err
    finally:
        microphone.close()
    ends = [event for event in map(json.loads, out.splitlines()) if event["type"] == "end"]
    return {each["label"]: datetime.fromisoformat(each["onset"]).timestamp() for each in ends if is_clear(each)}


def spread(shifts: list[float]) -> float:
    """Largest distance from their median."""
    return max((abs(shift - float(np.median(shifts))) for shift in shifts), default=0.0)


def is_clear(event: dict[str, Any]) -> bool:
    return bool(event["peak_score"] >= 0.9)


def events_of(path: Path, hop: float) -> dict[str, float]:
    """Onsets of clear events, seconds, by label."""
    done = run("tag", "--events", "--json", "--hop", str(hop), path)
    assert done.exit_code == 0, done.stderr
    events = [event for event in map(json.loads, done.stdout.splitlines()) if is_clear(event)]
    return {event["label"]: event["onset"] for event in events}


def test_two_microphones_survive_the_loss_of_both(broker: Mosquitto, tmp_path: Path) -> None:
    microphone = VirtualMicrophone(tmp_path)
    sources = ("one", "two")

    def reports() -> list[int]:
        return [len(subscriber.payloads(f"tagger/room/{source}/scores")) for source in sources]

    try:
        listen = ("listen", "one=mic:pulse", "two=mic:default", "--mqtt", broker.url, "--node", "room")
        with subscribed(broker.port) as subscriber, running(*listen, **microphone.env) as daemon:
            until(lambda: all(reports()), "both are heard")
            microphone.close()
            offline = [f"tagger/room/{source}/status" for source in sources]
            until(lambda: all(subscriber.payloads(topic)[-1] == "offline" for topic in offline), "the loss is said")
            time.sleep(3)  # both try to open their device while there is none
            before = reports()
            microphone = VirtualMicrophone(tmp_path)
            until(lambda: all(now > then for now, then in zip(reports(), before, strict=True)), "both are back")
            code, _, err = stop(daemon)
    finally:
        microphone.close()
    assert code == 0, err


def test_a_microphone_that_goes_away_is_waited_for(broker: Mosquitto, tmp_path: Path) -> None:
    microphone = VirtualMicrophone(tmp_path)
    status, scores = "tagger/room/mic/status", "tagger/room/mic/scores"
    try:
        listen = ("listen", "--mqtt", broker.url, "--node", "room")
        with subscribed(broker.port) as subscriber, running(*listen, **microphone.env) as daemon:
            until(lambda: subscriber.payloads(scores), "the microphone is heard")
            microphone.close()
            until(lambda: subscriber.payloads(status)[-1] == "offline", "its loss is said")
            assert subscriber.payloads("tagger/room/status")[-1] == "online"
            heard = len(subscriber.payloads(scores))
            microphone = VirtualMicrophone(tmp_path)
            until(lambda: len(subscriber.payloads(scores)) > heard, "it is heard again")
            assert subscriber.payloads(status)[-1] == "online"
            code, _, err = stop(daemon)
    finally:
        microphone.close()
    assert code == 0, err
    assert "trying again in 1 s" in err


def test_a_microphone_that_comes_after_the_start_is_heard(broker: Mosquitto, tmp_path: Path) -> None:
    """As after a power cut: the daemon starts first."""
    microphone = VirtualMicrophone(tmp_path)
    microphone.close()
    node = "tagger/room"
    try:
        listen = ("listen", "mic", "demo", "--mqtt", broker.url, "--node", "room")
        with subscribed(broker.port) as subscriber, running(*listen, **microphone.env) as daemon:
            until(lambda: subscriber.payloads(f"{node}/mic/status"), "its absence is said")
            assert subscriber.payloads(f"{node}/mic/status")[-1] == "offline"
            until(lambda: subscriber.payloads(f"{node}/demo/scores"), "the other source is heard")
            assert subscriber.payloads(f"{node}/status")[-1] == "online"
            microphone = VirtualMicrophone(tmp_path)
            until(lambda: subscriber.payloads(f"{node}/mic/scores"), "the microphone is heard")
            assert subscriber.payloads(f"{node}/mic/status")[-1] == "online"
            code, _, err = stop(daemon)
    finally:
        microphone.close()
    assert code == 0, err
    assert "listening to  mic: microphone, not connected yet" in err
    assert err.count("no input device") == 1
    assert "mic: works again" in err
