"""The page in a real browser: Debian's Chromium, driven by Playwright."""

import calendar
import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tagger.events import LabelScore, Level
from tagger.settings import MqttSettings
from tagger.sources.file import DEMO
from tagger.web.files import FOLDER
from tests.healths import snapshot, source
from tests.programs import Mosquitto, can_connect, free_port, running, subscribed, until
from tests.web.browsers import COLOURS, WAIT_MS, holds
from tests.web.pages import STREAM, Page, event, page, report, tone

pytestmark = [pytest.mark.slow, pytest.mark.browser]


def test_the_page_shows_what_is_heard_and_why_it_is_rejected(tab: Any) -> None:
    with page() as served:
        tap = served.live.tap("mic")
        tab.goto(served.url)
        until(lambda: served.live.watched == {"mic"}, "the page asks for the spectrogram that it shows")
        start = time.time()
        for at in range(10):
            tap.heard(tone(0.2, 1500 + 200 * at, start + at / 5))
            tab.wait_for_timeout(60)
        holds(tab, f"({COLOURS})(document.querySelector('canvas')) > 20")
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


def test_of_many_sources_those_on_the_screen_are_fed_and_one_is_found(tab: Any) -> None:
    names = [f"{room}_{number}" for number in range(20) for room in ("attic", "cellar")]
    with page(sources=names) as served:
        served.found = snapshot(
            *(source(each) for each in names[:-1]), source(names[-1], state="silent", reason="zeros")
        )
        now = time.time()
        for at in range(60):
            level = Level(rms_dbfs=-50.0 + at % 7, peak_dbfs=-30.0, clipped=0, time=now - 600 + 10 * at)
            served.live.audio(replace(STREAM, source="cellar_7"), level)
            served.live.audio(replace(STREAM, source="attic_0"), level)
        tab.goto(served.url)
        tab.get_by_text("40 of 40").wait_for()
        until(lambda: tab.evaluate("1") and "attic_0" in served.live.watched, "the first is fed")
        assert len(served.live.watched) < 8
        tab.locator(
            "[data-source=attic_0] canvas[aria-label='Level of attic_0 in the last 10 minutes: from -50 to -44 dB']"
        ).wait_for()
        tab.get_by_label("Find a source").fill("Cellar 7")
        tab.get_by_text("2 of 40").wait_for()  # cellar_7 and cellar_17
        assert tab.locator(".source:visible h2").all_inner_texts() == ["cellar_7", "cellar_17"]
        until(lambda: tab.evaluate("1") and served.live.watched == {"cellar_7", "cellar_17"}, "these two are fed")
        served.live.report(replace(STREAM, source="cellar_7"), report(now, LabelScore("siren", 0.93, None)))
        served.live.report(replace(STREAM, source="attic_1"), report(now, LabelScore("dog", 0.91, None)))
        tab.locator("[data-source=cellar_7] .scores").get_by_text("siren").wait_for()
        holds(tab, f"({COLOURS})(document.querySelector('[data-source=cellar_7] canvas.hour')) >= 3")
        tab.get_by_label("Find a source").fill("attic_1")
        tab.locator("[data-source=attic_1] .scores").get_by_text("dog").wait_for()  # it waited until it was seen
        tab.get_by_label("Find a source").fill("")
        tab.get_by_label("only those amiss").check()
        tab.get_by_text("1 of 40").wait_for()
        assert tab.locator(".source:visible h2").all_inner_texts() == ["cellar_19"]
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")


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


def test_the_map_of_a_day_is_zoomed_filtered_and_read_by_the_keyboard(tab: Any) -> None:
    with page() as served:
        noon = datetime(2026, 11, 27, 12)
        now = noon.timestamp()
        tab.clock.set_fixed_time(noon)
        for number, label in enumerate(("dog", "dog", "siren")):
            served.live.event(STREAM, event(f"e{number}", now, now + 1, label=label, peak=0.5 + 0.2 * number))
        tab.goto(f"{served.url}#day")
        tab.get_by_text("3 events.").wait_for()
        assert [row.split()[:2] for row in tab.locator("#day .map tbody th").all_inner_texts()] == [
            ["dog", "2"],
            ["siren", "1"],
        ]
        assert tab.locator("#day .field:not([data-heat='0'])").count() == 2
        tab.locator("#day [tabindex='0'].field, #day thead [tabindex='0']").focus()
        for key in ["Home", "ArrowDown", *["ArrowRight"] * 12, "Enter"]:
            tab.keyboard.press(key)
        tab.locator("#day .found tbody tr").nth(1).wait_for()
        assert "dog" in tab.locator("#day h3").inner_text()
        tab.locator("#day-label").select_option("siren")
        tab.get_by_text("1 event.").wait_for()
        tab.locator("#day-label").select_option("")
        tab.get_by_text("3 events.").wait_for()
        tab.locator("#day thead button").nth(12).click()
        tab.locator("#day .map[data-level=hour]").wait_for()
        assert tab.locator("#day .map thead button").count() == 60
        tab.keyboard.press("-")
        tab.locator("#day .map[data-level=day]").wait_for()
        tab.locator("#day .crumbs button").first.click()
        tab.locator("#day .map[data-level=year]").wait_for()
        assert tab.locator("#day .map thead button").count() == 12
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_health_and_a_daemon_that_comes_back(tab: Any) -> None:
    with page() as served:
        port = served.port
        tab.goto(f"{served.url}#health")
        tab.get_by_text("All is well").wait_for()
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    tab.locator("#connection[data-state=away]").wait_for()
    with page(address=f"127.0.0.1:{port}"):
        tab.locator("#connection[data-state=live]").wait_for()


def test_the_level_of_the_time_in_which_the_page_was_away_is_drawn(tab: Any) -> None:
    now = time.time()

    def hear(served: Page, minutes: int) -> None:
        for at in range(6 * minutes):
            served.live.audio(STREAM, Level(rms_dbfs=-40.0 - at, peak_dbfs=-30.0, clipped=0, time=now + 10 * at))

    with page() as served:
        port = served.port
        hear(served, 1)
        tab.goto(served.url)
        tab.locator("canvas.hour[aria-label*='from -45 to -40 dB']").wait_for()
    tab.locator("#connection[data-state=away]").wait_for()
    with page(address=f"127.0.0.1:{port}") as served:
        hear(served, 2)
        tab.locator("canvas.hour[aria-label*='from -51 to -40 dB']").wait_for()


def test_health_shows_other_nodes_faults_and_what_doctor_finds(tab: Any) -> None:
    stats = snapshot(source("door", state="retrying", reason="gone", detail="<i>unplugged</i>")).stats({})
    with page(broker=MqttSettings(node="attic")) as served, served.faults.listening():
        for topic, payload in (
            ("shed/status", "offline"),
            ("cellar/status", "online"),
            ("cellar/stats", json.dumps(stats)),
        ):
            served.nodes.note(f"tagger/{topic}", payload.encode(), False)
        logging.getLogger("tagger.x").warning("%s: <b>away</b>; trying again", "door")
        tab.goto(f"{served.url}#health")
        rows = tab.locator("#health > section tbody tr")
        tab.get_by_text("2 other nodes of mqtt://localhost:1883.").wait_for()
        cellar, shed = rows.filter(has_text="cellar"), rows.filter(has_text="shed")
        assert "online" in cellar.inner_text()
        assert "door retrying: it is gone" in cellar.inner_text()
        assert "offline" in shed.inner_text()
        fault = rows.filter(has_text="<b>away</b>")
        assert "trying again" in fault.inner_text()
        tab.get_by_role("button", name="Examine now").focus()
        tab.keyboard.press("Enter")
        tab.get_by_text("1 finding to look at").wait_for()
        assert [each.split("\n") for each in tab.locator(".findings li").all_inner_texts()] == [
            ["✓", "model", "a window takes 9 ms"],
            ["✕", "broker", "no answer", "start one"],
        ]
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_guests_are_shown_neither_faults_nor_doctor(tab: Any) -> None:
    with page(password="correct horse", guest_password="guests may look") as served:
        tab.goto(served.url)
        tab.get_by_label("Password").fill("guests may look")
        tab.keyboard.press("Enter")
        tab.get_by_role("link", name="Health").click()
        tab.get_by_text("Without a broker no other nodes are known").wait_for()
        assert tab.get_by_role("heading", name="Last faults").count() == 0
        assert tab.get_by_role("button", name="Examine now").count() == 0


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


def test_what_the_broker_is_told_is_shown_and_a_daemon_that_starts_again_is_found(
    tab: Any, broker: Mosquitto, tmp_path: Path
) -> None:
    samples, rate_hz = soundfile.read(DEMO, dtype="float32")
    soundfile.write(tmp_path / "demo.wav", np.tile(samples, 10), rate_hz)  # it plays until the test is over
    port = free_port()
    command = [
        *("listen", f"demo={tmp_path / 'demo.wav'}", "--realtime", "--node", "attic"),
        *("--mqtt", f"mqtt://127.0.0.1:{broker.port}", "--web", f"127.0.0.1:{port}"),
    ]
    with subscribed(broker.port) as subscriber:

        def told() -> list[str]:
            return [each["id"] for each in subscriber.jsons("tagger/attic/demo/event") if each["type"] == "begin"]

        with running(*command):
            open_page(tab, f"http://127.0.0.1:{port}/")
            until(lambda: len(told()) >= 2, "two events were published")
            for id in told():
                tab.locator(f'#latest li[data-id="{id}"]').wait_for()
            holds(tab, f"({COLOURS})(document.querySelector('canvas')) > 20")
            tab.get_by_role("link", name="Health").click()
            tab.get_by_role("button", name="Examine now").click()
            for about in ("settings", "model", "source demo", "broker", "disk", "clock", "daemon"):
                tab.locator(".findings").get_by_text(about, exact=True).wait_for()
            tab.get_by_role("link", name="Now").click()
            tab.get_by_role("button", name="Pause demo").click()
            tab.get_by_role("button", name="Resume demo").wait_for()
        tab.locator("#connection[data-state=away]").wait_for()
        with running(*command):
            tab.locator("#connection[data-state=live]").wait_for()
            tab.get_by_role("button", name="Resume demo").wait_for()


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_axe_finds_nothing_in_any_view(chromium: Any, colours: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed: scripts/setup dev")
    context = chromium.new_context(
        viewport={"width": 1200, "height": 900}, color_scheme=colours, reduced_motion="reduce", bypass_csp=True
    )
    tab = context.new_page()
    tab.set_default_timeout(WAIT_MS)
    with full_page() as served:
        served.live.event(STREAM, event("e2", time.time() - 2))
        tab.goto(served.url)
        tab.locator("#latest li").nth(1).wait_for()
        for view in views(tab):
            tab.evaluate("view => { location.hash = view }", view)
            tab.locator(f"#{view}:not([hidden])").wait_for()
            holds(tab, "!document.querySelector('[aria-busy=true]')")
            found = axe.Axe().run(tab).response["violations"]
            assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in found] == [], view
    context.close()


def test_every_text_comes_from_the_file_of_the_language(tab: Any) -> None:
    marked = json.loads((FOLDER / "lang" / "en.json").read_text("utf-8"))
    for part in ("page", "reasons", "labels"):
        marked[part] = {key: f"⟦{text}⟧" for key, text in marked[part].items()}
    tab.route("**/lang/en.json", lambda route: route.fulfill(json=marked))
    with full_page() as served:
        tab.goto(served.url)
        tab.locator("#latest li").wait_for()
        for view in views(tab):
            tab.evaluate("view => { location.hash = view }", view)
            tab.locator(f"#{view}:not([hidden])").wait_for()
            holds(tab, "!document.querySelector('[aria-busy=true]')")
            assert [text for text in tab.evaluate(TEXTS) if not is_data(text)] == [], view


@contextmanager
def full_page() -> Iterator[Page]:
    """A page with something in every part of it."""
    with page(broker=MqttSettings(node="attic")) as served, served.faults.listening():
        served.live.report(STREAM, report(100.0, LabelScore("dog", 0.9, None), LabelScore("siren", 0.4, "denied")))
        served.live.event(STREAM, event("e1", time.time() - 9, time.time() - 5))
        served.nodes.note("tagger/cellar/status", b"online", False)
        served.nodes.note("tagger/cellar/stats", json.dumps(snapshot(source("mic")).stats({})).encode(), False)
        logging.getLogger("tagger.x").warning("%s: away; trying again", "mic")
        served.post("/api/doctor", "{}")
        until(lambda: not served.json("/api/doctor")["running"], "doctor has looked")
        yield served


DATA = (
    "tagger",
    "cellar",
    "mic",
    "attic",
    "mqtt",
    "-50 dBFS",
    "no audio is kept; tagger listen --save-clips DIR keeps it",
)
"""Names, units, and what the daemon says."""
TEXTS = """() => {
    const texts = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT | NodeFilter.SHOW_ELEMENT);
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
        if (node.nodeType === Node.TEXT_NODE) {
            const kept = node.parentElement.closest("noscript, option, code, [lang=en]:not(html)");
            if (!kept) texts.push(node.textContent);
        } else for (const name of ["aria-label", "title", "placeholder", "alt"]) {
            texts.push(node.getAttribute(name) ?? "");
        }
    }
    return texts.map((text) => text.trim()).filter((text) => /[a-z]{3}/i.test(text) && !text.includes("⟦"));
}"""
"""Texts of a page that hold a word and did not come from the file of the language."""


def is_data(text: str) -> bool:
    """Whether a text is no text of the page: a name, a unit, or a date, which the browser words."""
    return text in DATA or any(word in text for word in (*calendar.month_name[1:], *calendar.day_abbr))


def views(tab: Any) -> list[str]:
    """Names of the views of a page."""
    found = tab.evaluate("[...document.querySelectorAll('nav a')].map(link => link.dataset.view)")
    assert {"now", "day", "health"} <= set(found)
    return list(found)


def open_page(tab: Any, url: str) -> None:
    """Opens a page as soon as its daemon answers."""

    until(lambda: can_connect(int(url.rsplit(":", maxsplit=1)[-1].strip("/"))), "the page is served")
    tab.goto(url)
