"""The view Thresholds in a real browser, with a real daemon: what is set there is what is announced from then on."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tagger.policy import EventsConfig, policy
from tagger.web.thresholds import Thresholds
from tests.programs import Mosquitto, can_connect, free_port, run, running, siren, subscribed, until, write_wav
from tests.web.pages import LABELS, page

pytestmark = [pytest.mark.slow, pytest.mark.browser]

RATE_HZ = 32_000


def test_spans_that_took_too_long_to_count_are_shown_as_left_out(tab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = policy(LABELS, (0.5, 0.5), 5.0, 1.0, EventsConfig())
    thresholds = Thresholds(lambda: None, lambda _: rules, "attic", lambda *_: {})
    whole = thresholds.count
    row = {"exit": 0.3, "day": 2, "week": None, "month": None, "right": 0, "wrong": 0}
    part = {"windows": 9, "since": "2026-11-01T00:00:00Z", "counts": [row | {"enter": each} for each in (0.5, 0.9)]}
    monkeypatch.setattr(
        Thresholds, "count", lambda _, wanted: whole(wanted) | {"kept": True} | (part if "label" in wanted else {})
    )
    with page(thresholds=thresholds) as served:
        tab.goto(f"{served.url}#thresholds")
        tab.get_by_text("At 0.50: 2 events in the last day, – in the last week, – in the last month.").wait_for()
        tab.get_by_text("longer spans are still being counted").wait_for()
        assert tab.get_by_role("button", name="last day").get_attribute("aria-pressed") == "true"
        assert tab.get_by_role("button", name="last month").is_disabled()


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
