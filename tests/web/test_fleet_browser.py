"""The page of a fleet in a real browser."""

import json
import time
from dataclasses import replace
from typing import Any

import pytest

from tagger.events import Event
from tagger.web.files import FOLDER
from tests.web.browsers import WAIT_MS, holds
from tests.web.fleets import FleetPage, fleet_page, status

pytestmark = [pytest.mark.slow, pytest.mark.browser]


def begin(number: int, label: str = "dog") -> Event:
    return Event("begin", f"e{number}", label, 0.9, 0.93, time.time() - 5)


def fill(served: FleetPage) -> None:
    for number in (1, 2, 4):
        served.view.note(f"tagger/city-{number}/status", b"online", True)
    served.view.note("tagger/city-9/status", b"offline", True)
    served.opens("city-2", "street_1", "dog", "siren")
    served.event("city-2", "street_1", begin(1))
    served.event("city-1", "street_0", begin(2))
    served.event("city-1", "street_0", replace(begin(2), type="end", offset=time.time(), cause="takeover"))


def test_of_a_thousand_streams_those_that_are_sought_are_shown_and_the_others_counted(tab: Any) -> None:
    with fleet_page() as served:
        fill(served)
        tab.goto(served.url)
        tab.get_by_text("60 of 1,000, 1,000 in all").wait_for()
        assert tab.locator("#streams tbody tr").count() == 60
        tab.locator("#latest li.open").get_by_text("dog").wait_for()
        tab.locator("#latest").get_by_text("takeover").wait_for()
        tab.get_by_label("only those amiss").check()
        tab.get_by_text("20 of 20, 1,000 in all").wait_for()
        tab.get_by_label("only those amiss").uncheck()
        tab.get_by_label("only those with a sound now").check()
        tab.get_by_text("1 of 1, 1,000 in all").wait_for()
        assert tab.locator("#streams .sounds li").all_inner_texts() == ["dog", "siren"]
        tab.get_by_label("only those with a sound now").uncheck()
        tab.get_by_label("Find a stream").fill("STREET_12")
        tab.get_by_label("Worker", exact=True).select_option("city-3")
        tab.get_by_text("2 of 2, 1,000 in all").wait_for()  # street_122 and street_126
        served.event("city-3", "street_122", begin(3, "siren"))
        holds(tab, "document.getElementById('announcer').textContent === 'siren, street_122'")
        served.status = status(10)
        tab.get_by_text("0 of 0, 10 in all").wait_for()


@pytest.mark.parametrize("language", ["de", "en", "es", "fr"])
def test_it_fits_a_phone_in_every_language_and_axe_finds_nothing(chromium: Any, language: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed: scripts/setup dev")
    context = chromium.new_context(viewport={"width": 360, "height": 800}, locale=language, bypass_csp=True)
    tab = context.new_page()
    tab.set_default_timeout(WAIT_MS)
    with fleet_page() as served:
        fill(served)
        tab.goto(served.url)
        tab.locator("#streams tbody tr").nth(50).wait_for()
        tab.locator("#workers-shown summary").click()
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
        found = axe.Axe().run(tab).response["violations"]
        assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in found] == []
    context.close()


def test_every_text_of_it_comes_from_the_file_of_the_language(tab: Any) -> None:
    marked = json.loads((FOLDER / "lang" / "en.json").read_text("utf-8"))
    for part in ("page", "labels"):
        marked[part] = {key: f"⟦{text}⟧" for key, text in marked[part].items()}
    tab.route("**/lang/en.json", lambda route: route.fulfill(json=marked))
    with fleet_page() as served:
        fill(served)
        tab.goto(served.url)
        tab.locator("#latest li").nth(1).wait_for()
        labels = tab.locator("main label, main th[scope=col], main h2, dt, #latest strong, .badge").all_inner_texts()
        assert [text for text in labels if text and not text.startswith("⟦")] == []
