"""The live page of a daemon, or none."""

import http.client
import json
import sys

from tagger.daemon.page import Page
from tagger.features.config import MelConfig
from tagger.settings import WebSettings
from tests.daemon.test_control import RULES, control_of
from tests.healths import snapshot, source
from tests.programs import free_port, refused, run, until
from tests.web.pages import page as served  # skips this file where the packages of the page are missing


def test_without_the_flag_there_is_nothing() -> None:
    page = Page(None, MelConfig())
    assert (list(page.sinks), list(page.taps("mic"))) == ([], [])
    with page.serving(snapshot, control_of("mic")[0], {}, lambda: None):
        pass


def test_the_page_is_served_on_a_port() -> None:
    with served() as page:
        assert page.ask("/")[0] == 200


def test_a_missing_package_is_said_in_one_line(monkeypatch) -> None:
    monkeypatch.delitem(sys.modules, "tagger.web.server", raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    refused(run("listen", "demo", "--web", str(free_port()), "--mqtt", "none"), "uvicorn", "scripts/setup web")


def test_the_page_pauses_a_listener_and_says_its_labels() -> None:
    control, _ = control_of("mic")
    port = free_port()
    page = Page(WebSettings(str(port)), MelConfig())
    assert len(page.sinks) == len(page.taps("mic")) == 1

    def ask(method: str, path: str, body: str | None = None) -> object:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=90)
        connection.request(method, path, body, {"Content-Type": "application/json"})
        answer = json.loads(connection.getresponse().read())
        connection.close()
        return answer

    with page.serving(lambda: snapshot(source("mic")), control, control.listeners, lambda: None):
        ask("POST", "/api/sources/mic", '{"enabled": false}')
        until(lambda: control.listeners["mic"].paused, "it is paused")
        labels = ask("GET", "/api/labels")
        assert isinstance(labels, dict)
        assert labels["mic"][0]["enter"] == RULES.each[0].enter
        sources = ask("GET", "/api/sources")
        assert isinstance(sources, dict)
        assert sources["sources"][0]["description"] == "a fake"
