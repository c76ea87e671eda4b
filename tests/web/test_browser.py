"""The page in a real browser: Debian's Chromium, driven by Playwright (`pip install playwright`)."""

import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tagger.events import LabelScore
from tests.healths import snapshot, source
from tests.programs import until
from tests.web.pages import STREAM, event, page, report, tone

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: pip install playwright")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: apt install chromium"),
]
WAIT_MS = 60_000
PIXELS = """canvas => {
    const pen = canvas.getContext("2d");
    const {data} = pen.getImageData(0, 0, canvas.width, canvas.height);
    const colours = new Set();
    for (let i = 0; i < data.length; i += 4) colours.add(data[i] << 16 | data[i + 1] << 8 | data[i + 2]);
    return colours.size;
}"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with playwright.sync_playwright() as run:
        browser = run.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def tab(chromium: Any) -> Iterator[Any]:
    """A tab. At the end of the test nothing may stand in its console: no error, and nothing that the policy stopped."""
    context = chromium.new_context(viewport={"width": 390, "height": 844}, color_scheme="dark")
    said: list[str] = []
    made = context.new_page()
    made.set_default_timeout(WAIT_MS)
    made.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    made.on("pageerror", lambda error: said.append(str(error)))
    yield made
    context.close()
    assert [line for line in said if "Failed to load resource" not in line] == []


def test_the_page_shows_what_is_heard_and_why_it_is_rejected(tab: Any) -> None:
    with page() as served:
        tap = served.live.tap("mic")
        tab.goto(served.url)
        until(lambda: served.live.watched == {"mic"}, "the page asks for the spectrogram that it shows")
        start = time.time()
        for at in range(10):
            tap.heard(tone(0.2, 1500 + 200 * at, start + at / 5))
            tab.wait_for_timeout(60)
        tab.wait_for_function(f"({PIXELS})(document.querySelector('canvas')) > 20")
        served.live.report(
            STREAM, report(start, LabelScore("dog", 0.91, None), LabelScore("siren", 0.4, "<b>below</b> enter 0.60"))
        )
        rows = tab.locator(".scores li")
        rows.nth(1).get_by_text("<b>below</b> enter 0.60").wait_for()
        assert rows.nth(0).inner_text().split("\n")[0] == "dog"
        assert "announced" in rows.nth(0).inner_text()
        assert rows.nth(0).locator(".mark").evaluate("mark => mark.style.left") == "80%"
        served.live.event(STREAM, event("e1", start, label="dog"))
        tab.locator("#latest li.open").get_by_text("dog").wait_for()
        served.live.event(STREAM, replace(event("e1", start, start + 3.2), label="dog"))
        tab.locator("#latest li:not(.open)").get_by_text("3.2 s").wait_for()
        assert tab.locator("#announcer").inner_text() == "dog, mic"


def test_the_page_speaks_the_browser_s_language_and_keeps_another(chromium: Any) -> None:
    context = chromium.new_context(locale="de-CH")
    tab = context.new_page()
    tab.set_default_timeout(WAIT_MS)
    with page() as served:
        served.live.report(
            STREAM, report(100.0, LabelScore("dog", 0.7, "rather glass_breaking"), LabelScore("Bark", 0.1, "denied"))
        )
        served.live.event(STREAM, event("e1", time.time(), label="glass_breaking"))
        tab.goto(served.url)
        tab.locator("#latest").get_by_text("Glasbruch").wait_for()
        assert tab.locator(".scores li").all_inner_texts() == [
            "Hund\n0,70\neher Glasbruch",
            "Bark\n0,10\nausgeschlossen",
        ]
        assert tab.get_by_role("link", name="Zustand").count() == 1
        assert tab.evaluate("document.documentElement.lang") == "de"
        tab.get_by_label("Sprache").select_option("es")
        tab.locator("#latest").get_by_text("cristal roto").wait_for()
        tab.reload()
        tab.locator("#latest").get_by_text("cristal roto").wait_for()
        assert tab.evaluate("document.documentElement.lang") == "es"
        assert served.json("/api/events")["events"][0]["label"] == "glass_breaking"
    context.close()


def test_a_source_is_paused_by_the_keyboard_and_its_state_is_said(tab: Any) -> None:
    with page() as served:
        tab.goto(served.url)
        button = tab.get_by_role("button", name="Pause mic")
        button.wait_for()
        button.focus()
        tab.keyboard.press("Enter")
        until(lambda: tab.evaluate("1") and served.paused == [("mic", True)], "it was paused")
        served.found = snapshot(source("mic", state="off", reason="paused", detail="paused"))
        tab.get_by_role("button", name="Resume mic").wait_for()
        assert "paused" in tab.locator(".badge").inner_text()


def test_day_and_health_and_a_daemon_that_comes_back(tab: Any) -> None:
    with page() as served:
        port = served.port
        served.live.event(STREAM, event("e1", time.time() - 1, time.time()))
        served.live.event(STREAM, event("e2", time.time() - 1, time.time(), label="siren"))
        tab.goto(f"{served.url}#day")
        tab.locator("#day tbody tr").nth(1).wait_for()
        tab.get_by_role("button", name="siren 1").click()
        until(lambda: tab.locator("#day tbody tr").count() == 1, "the label is chosen")
        tab.get_by_role("link", name="Health").click()
        tab.get_by_text("All is well").wait_for()
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    tab.locator("#connection[data-state=away]").wait_for()
    with page(address=f"127.0.0.1:{port}"):
        tab.locator("#connection[data-state=live]").wait_for()


def test_logging_in(tab: Any) -> None:
    with page(password="correct horse") as served:
        tab.goto(served.url)
        tab.get_by_label("Password").fill("wrong horse")
        tab.keyboard.press("Enter")
        tab.get_by_text("That is not the password.").wait_for()
        tab.get_by_label("Password").fill("correct horse")
        tab.keyboard.press("Enter")
        tab.locator("#connection[data-state=live]").wait_for()
        tab.get_by_role("link", name="Health").click()
        tab.get_by_role("button", name="Log out").click()
        tab.get_by_label("Password").wait_for()
