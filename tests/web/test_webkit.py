"""The page in WebKit, as Safari has it: WebKitGTK, driven by its own driver."""

import io
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tagger.clips import verdicts
from tagger.events import LabelScore
from tests.programs import until
from tests.web.browsers import COLOURS
from tests.web.pages import STREAM, event, page, report, tone
from tests.web.test_clips import save
from tests.web.webkit import Tab, missing, webkit

pytestmark = [pytest.mark.slow, pytest.mark.browser]


@pytest.fixture(scope="module")
def tab() -> Iterator[Tab]:
    if (lack := missing()) is not None:
        pytest.skip(lack)
    with webkit() as made:
        yield made


def test_events_arrive_and_the_spectrogram_is_drawn(tab: Tab) -> None:
    with page() as served:
        tap = served.live.tap("mic")
        tab.go(served.url)
        until(lambda: served.live.watched == {"mic"}, "the page asks for the spectrogram that it shows")
        start = time.time()
        for at in range(10):
            tap.heard(tone(0.2, 1500 + 200 * at, start + at / 5))
            time.sleep(0.06)
        tab.holds(f"({COLOURS})(document.querySelector('canvas')) > 20")
        served.live.event(STREAM, event("e1", start))
        tab.holds("document.querySelector('#latest li.open strong')?.textContent === 'dog'")
        served.live.event(STREAM, replace(event("e1", start, start + 3.2)))
        tab.holds("document.querySelector('#latest li:not(.open)')?.textContent.includes('3.2 s')")
        served.live.report(STREAM, report(start, LabelScore("siren", 0.4, "below enter 0.60")))
        tab.holds("document.querySelector('.scores .reason')?.textContent === 'below enter 0.60'")
        x, y, width, height = tab.run(
            "const box = document.querySelector('canvas').getBoundingClientRect();"
            "return [box.x, box.y, box.width, box.height].map(Math.round)"
        )
        image = pytest.importorskip("PIL.Image")

        def colours() -> int:
            shot = image.open(io.BytesIO(tab.screenshot())).convert("RGB")
            return len(shot.crop((x, y, x + width, y + height)).getcolors(1 << 20))

        until(lambda: colours() > 20, "the spectrogram is on the screen, too")


def test_clips_are_reviewed_by_keyboard(tab: Tab, tmp_path: Path) -> None:
    root = save(tmp_path / "clips", "siren", "dog")

    def said() -> dict[str, str | None]:
        return {clip.id: clip.verdict for clip in verdicts.load(root)}

    with page(clips=root) as served:
        tab.go(f"{served.url}#review")
        tab.holds("document.querySelector('.clips li[aria-current]')")
        tab.press("r")
        until(lambda: said()["e1"] == "right", "the newest is marked")
        tab.holds("document.querySelectorAll('.clips li')[1].hasAttribute('aria-current')")
        tab.press("w")
        until(lambda: said()["e0"] == "wrong", "the other is marked")
        tab.press("z")
        until(lambda: said() == {"e1": "right", "e0": None}, "one step is back")


def test_every_view_is_shown(tab: Tab) -> None:
    with page() as served:
        tab.go(served.url)
        for view in tab.run("return [...document.querySelectorAll('nav a')].map(link => link.dataset.view)"):
            tab.run(f"location.hash = '{view}'")
            tab.holds(f"!document.querySelector('#{view}').hidden && !document.querySelector('[aria-busy=true]')")
            tab.holds(f"document.querySelector('#{view}').innerText.length > 20")
            tab.holds("document.documentElement.scrollWidth <= innerWidth")
