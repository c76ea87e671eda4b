"""The page below Home Assistant's path, as the add-on shows it: through both of its proxies, in a frame."""

import http.client
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tagger.clips import verdicts
from tagger.policy import EventsConfig
from tagger.web.thresholds import Thresholds
from tests.programs import until
from tests.web.browsers import COLOURS
from tests.web.ingress import PREFIX, SESSION, ingress, own_address
from tests.web.pages import STREAM, Page, event, page, tone
from tests.web.test_clips import save
from tests.web.test_whatif import keep, rules_of, stream_of


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Page, str, Path]]:
    """A page as the add-on has it, Home Assistant's address, and the folder of clips."""
    host, root, scores = own_address(), save(tmp_path / "clips", "siren", "dog"), tmp_path / "scores.sqlite"
    keep(scores, stream_of(1, 60))
    rules = rules_of(EventsConfig())
    thresholds = Thresholds(lambda: scores, lambda _: rules, "attic", lambda *_: {})
    with (
        page(clips=root, thresholds=thresholds, host=host, login_proxies=(host,), owners=("anna",)) as made,
        ingress((host, made.port)) as home_assistant,
    ):
        yield made, home_assistant, root


def ask(url: str, path: str, method: str = "GET", body: str | None = None, **headers: str) -> tuple[int, Any, bytes]:
    """Status, headers and content of an answer through ingress, to a browser that is logged in to Home Assistant."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=90)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, PREFIX + path, body, {"Cookie": SESSION, **named})
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def test_what_home_assistant_passes_on_is_answered_as_without_it(served: tuple[Page, str, Path]) -> None:
    made, url, root = served
    status, _, text = ask(url, "/api/me")
    assert (status, json.loads(text)["role"], json.loads(text)["base"]) == (200, "owner", f"{PREFIX}/")
    status, headers, text = ask(url, "/static/app.js")
    assert (status, b"import" in text) == (200, True)
    assert ask(url, "/static/app.js", If_None_Match=headers["etag"])[0] == 304
    status, headers, text = ask(url, "/api/clips/e1", Range="bytes=0-3")
    assert (status, text, headers["content-range"].partition("/")[0]) == (206, b"fLaC", "bytes 0-3")
    assert ask(url, "/api/clips/e1?download", "HEAD")[1]["content-disposition"].startswith("attachment")
    sent = {"Content_Type": "application/json", "Origin": url}
    assert ask(url, "/api/sources/mic", "POST", '{"enabled": false}', **sent)[0] == 200
    assert made.paused == [("mic", True)]
    assert ask(url, "/api/sources/mic", "POST", '{"enabled": true}', **sent | {"Origin": "http://evil.org"})[0] == 403
    assert ask(url, "/api/sources/mic", "POST", '{"enabled": true}', Content_Type="application/json")[0] == 403
    for query in ("label=siren,dog&limit=1", "label=siren%2Cdog&limit=1"):
        assert [each["id"] for each in json.loads(ask(url, f"/api/clips?{query}")[2])["clips"]] == ["e1"]
    assert verdicts.load(root)


def test_only_whom_home_assistant_has_logged_in_comes_through(served: tuple[Page, str, Path]) -> None:
    made, url, _ = served
    assert ask(url, "/api/me", Cookie="ingress_session=another")[0] == 401
    with ingress((own_address(), made.port), user="ben") as other:  # no owner
        forged = {"X_Remote_User_Name": "anna", "X_Remote_User_Id": "anna"}
        assert json.loads(ask(other, "/api/me", **forged)[2])["role"] == "guest"
        assert ask(other, "/api/clips")[0] == 403


@pytest.mark.slow
@pytest.mark.browser
def test_every_view_works_in_home_assistant_s_frame(tab: Any, served: tuple[Page, str, Path]) -> None:
    made, url, root = served
    asked = list[str]()
    tab.on("request", lambda request: asked.append(request.url.removeprefix(url)))
    start, tap = time.time(), made.live.tap("mic")
    made.live.event(STREAM, event("e1", start - 60, start - 58, label="dog"))
    tab.goto(url)
    frame = tab.frame_locator("iframe")
    frame.locator("#connection[data-state=live]").wait_for()
    until(lambda: tab.evaluate("1") and made.live.watched == {"mic"}, "the spectrogram is asked for")
    for at in range(10):
        tap.heard(tone(0.2, 1500 + 200 * at, start + at / 5))
        tab.wait_for_timeout(60)
    until(lambda: frame.locator("canvas").first.evaluate(COLOURS) > 20, "the spectrogram is drawn")
    made.live.event(STREAM, event("e7", start, label="siren"))
    frame.locator("#latest li.open").get_by_text("siren").wait_for()
    frame.get_by_role("button", name="Pause mic").click()
    until(lambda: tab.evaluate("1") and made.paused == [("mic", True)], "it is paused")
    frame.get_by_role("link", name="Day").click()
    frame.get_by_text(re.compile(r"^[12] events?\.")).wait_for()  # one, just after midnight
    frame.get_by_role("link", name="Review").click()
    frame.locator(".clips li[aria-current]").wait_for()
    until(lambda: frame.locator("#review canvas").first.evaluate(COLOURS) > 3, "the clip's spectrogram is drawn")
    frame.locator(".clips li[aria-current]").press("Space")
    until(lambda: frame.locator("#review audio").first.evaluate("audio => audio.duration") > 3, "the clip is there")
    frame.locator(".clips li[aria-current]").press("r")
    until(lambda: tab.evaluate("1") and {"right"} <= {each.verdict for each in verdicts.load(root)}, "it is marked")
    frame.get_by_role("link", name="Thresholds").click()
    frame.locator("#thresholds-label").select_option("siren")
    frame.get_by_text("At 0.").first.wait_for()
    frame.get_by_role("link", name="Health").click()
    frame.get_by_text("All is well").wait_for()
    frame.get_by_label("Language").select_option("de")
    frame.get_by_role("link", name="Zustand").wait_for()
    assert [each for each in asked if not each.startswith(f"{PREFIX}/")] == ["/"]
