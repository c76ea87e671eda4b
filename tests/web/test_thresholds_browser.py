"""The view Thresholds in a real browser, with a real daemon: what is set there is what is announced from then on."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.programs import Mosquitto, can_connect, free_port, run, running, siren, subscribed, until, write_wav

pytestmark = [pytest.mark.slow, pytest.mark.browser]

RATE_HZ = 32_000


def test_a_threshold_set_on_the_page_changes_what_is_announced(tab: Any, broker: Mosquitto, tmp_path: Path) -> None:
    once = np.concatenate([siren(4), np.zeros(4 * RATE_HZ)])
    short, endless = tmp_path / "short.wav", tmp_path / "endless.wav"
    write_wav(short, np.tile(once, 4), RATE_HZ)
    write_wav(endless, np.tile(once, 100), RATE_HZ)
    config = tmp_path / "events.toml"
    config.write_text("[events.labels.siren]\nenter = 1.0\n")  # no score is
    kept, port = tmp_path / "scores.sqlite", free_port()
    flags = ["--node", "attic", "--mqtt", broker.url, "--config", config, "--score-history", kept]
    heard = run("listen", f"road={short}", *flags, "--no-realtime")
    assert heard.exit_code == 0, heard.output
    command = ["listen", f"road={endless}", *map(str, flags), "--realtime"]
    with subscribed(broker.port) as subscriber, running(*command, "--web", f"127.0.0.1:{port}"):
        until(lambda: can_connect(port), "the page is served")
        tab.goto(f"http://127.0.0.1:{port}/#thresholds")
        tab.locator("#thresholds-label").select_option("siren")
        tab.get_by_text("At 1.00:").wait_for()  # siren's counts
        tab.locator("#thresholds-enter").focus()
        tab.keyboard.press("Home")
        assert not subscriber.jsons("tagger/attic/road/event")
        tab.get_by_role("button", name="Set it for road").click()
        until(
            lambda: (
                tab.evaluate("1") and "siren" in [each["label"] for each in subscriber.jsons("tagger/attic/road/event")]
            ),
            "a siren is announced",
        )
        said = tab.locator("#thresholds code.line").inner_text()
        assert said.startswith("[events.labels.siren]") or said.startswith('[events.labels."siren"]')
