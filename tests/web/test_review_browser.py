"""The view Review in a real browser: by keyboard, several at once, and back again."""

from pathlib import Path
from typing import Any

import pytest

from tagger.clips import verdicts
from tests.programs import until
from tests.web.browsers import holds
from tests.web.pages import STREAM, event, page
from tests.web.test_clips import START, save

pytestmark = [pytest.mark.slow, pytest.mark.browser]


def test_clips_are_reviewed_by_keyboard_and_each_step_is_taken_back(tab: Any, tmp_path: Path) -> None:
    root = save(tmp_path / "clips", "siren", "dog", "siren")

    def said() -> dict[str, str | None]:
        return {clip.id: clip.given_label or clip.verdict for clip in verdicts.load(root)}

    def press(*keys: str) -> None:
        for key in keys:
            tab.keyboard.press(key)

    with page(clips=root) as served:
        tab.goto(f"{served.url}#review")
        tab.locator(".clips li[aria-current]").wait_for()
        press("r")  # the newest
        until(lambda: tab.evaluate("1") and said()["e2"] == "siren", "it is marked")
        tab.locator(".clips li").nth(1).and_(tab.locator("[aria-current]")).wait_for()
        press("o")
        tab.locator("#review-other").fill("door bell")
        press("Enter")
        until(lambda: tab.evaluate("1") and said()["e1"] == "door bell", "it has another label")
        tab.locator(".clips li").nth(2).and_(tab.locator("[aria-current]")).wait_for()
        press("a", "w")
        until(lambda: tab.evaluate("1") and set(said().values()) == {"wrong"}, "all are marked at once")
        tab.get_by_text("0 %").first.wait_for()
        assert tab.locator("#review code.line").inner_text() == verdicts.train_line(root)
        press("z")
        until(
            lambda: tab.evaluate("1") and said() == {"e0": None, "e1": "door bell", "e2": "siren"}, "one step is back"
        )
        press("z")
        until(lambda: tab.evaluate("1") and said()["e1"] is None, "two steps are taken back")
        press("z")
        until(lambda: tab.evaluate("1") and set(said().values()) == {None}, "all steps are taken back")
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
        tab.set_viewport_size({"width": 360, "height": 740})
        tab.get_by_label("Language").select_option("fr")  # has the longest words
        tab.get_by_role("button", name="Autre classe").wait_for()
        holds(tab, "document.documentElement.scrollWidth <= innerWidth")


def test_an_event_s_clip_is_played_from_the_day(tab: Any, tmp_path: Path) -> None:
    root = save(tmp_path / "clips", "dog")
    with page(clips=root) as served:
        served.live.event(STREAM, event("e0", START, START + 2))
        tab.clock.set_fixed_time(START)
        tab.goto(f"{served.url}#day")
        tab.locator("#day .field:not([data-heat='0'])").click()
        tab.get_by_role("button", name="Play dog").click()
        holds(tab, "document.querySelector('dialog audio')?.duration > 3")
        tab.get_by_role("button", name="Close").click()
