"""Chromium: names and labels that are markup, and a page of another site that asks with the owner's cookie."""

import functools
import http.server
import itertools
import random
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.attack.target import SOURCE, Target
from bench.attack.wire import MARKUP, Tries
from tagger.events import LabelScore, Stream
from tests.healths import snapshot, source
from tests.programs import until
from tests.web.conftest import CHROMIUM
from tests.web.pages import Page, event, page, report

_FOUND = """[window.hit ?? null, document.querySelectorAll('[data-evil], main script').length,
             document.body.innerText.length]"""
_EVIL = """<!doctype html><title>evil</title><body><script>
const at = AT;
window.got = [];
const note = (what, answer) => window.got.push([what, answer.type, answer.status]);
const ask = (path, how) => fetch(at + path, how).then((answer) => note(path, answer), () => {});
const mine = {credentials: "include"};
const json = {method: "POST", credentials: "include", headers: {"Content-Type": "application/json"}};
const plain = {method: "POST", credentials: "include", mode: "no-cors", headers: {"Content-Type": "text/plain"}};
const wishes = [["/api/sources/SOURCE", {enabled: false}], ["/api/clips/marks", {marks: {e0: "wrong"}}],
                ["/api/thresholds", {source: null, label: "Siren", enter: 0.99}], ["/logout", {}]];
(async () => {
    for (const [path, wish] of wishes)
        for (const kind of [json, plain]) await ask(path, {...kind, body: JSON.stringify(wish)});
    for (const path of ["/api/events", "/api/me", "/api/clips/e0"]) {
        await ask(path, mine);
        await ask(path, {...mine, mode: "no-cors"});
    }
    const audio = new Audio(at + "/api/clips/e0");
    audio.addEventListener("canplay", () => window.got.push(["played", "", 200]));
    const script = document.createElement("script");
    script.src = at + "/static/app.js";
    script.onload = () => window.got.push(["script", "", 200]);
    document.body.append(script);
    const frame = document.createElement("iframe");
    frame.src = at + "/";
    document.body.append(frame);
    const stream = new EventSource(at + "/api/live", {withCredentials: true});
    stream.onopen = () => window.got.push(["stream", "", 200]);
    const form = document.createElement("form");
    form.method = "POST"; form.action = at + "/logout"; form.target = "sink";
    const sink = document.createElement("iframe"); sink.name = "sink";
    document.body.append(sink, form);
    form.submit();
    setTimeout(() => { document.title = "done"; }, 3000);
})();
</script>"""


@contextmanager
def _browser(tries: Tries) -> Iterator[Any]:
    """Chromium; None where it or Playwright is missing."""
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        sync_playwright = None
    if sync_playwright is None or CHROMIUM is None:
        tries.notes.append("not tried: Chromium or Playwright is missing")
        yield None
        return
    with sync_playwright() as run:
        made = run.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield made
        made.close()


def markup(target: Target, tries: Tries, rng: random.Random) -> None:
    """Names, labels and reasons that are markup are shown as text, on every view of a page that has nothing else."""
    shown = [each.replace("\u0000", " ") for each in MARKUP]
    with _browser(tries) as chromium, page() as served:
        if chromium is None:
            return
        _fill(served, shown)
        tab, said = chromium.new_page(), list[str]()
        tab.on("dialog", lambda dialog: (said.append("dialog"), dialog.dismiss()))
        for view in ("now", "day", "review", "thresholds", "health"):
            tab.goto(f"{served.url}#{view}", wait_until="load")
            tab.wait_for_timeout(3_000)
            found = tab.evaluate(_FOUND)
            is_text = found[0] is None and found[1] == 0 and found[2] > 100 and not said
            tries.look(f"view {view}: {found} {said}", 200, is_text)
        tries.answers["names, labels and reasons"] += len(shown) ** 2


def _fill(served: Page, shown: list[str]) -> None:
    streams = [Stream("attic", each, "fake", tuple(shown)) for each in shown]
    served.live.open(streams)
    served.found = snapshot(
        *(source(each, detail=each, state="retrying", reason=each) for each in shown), trouble=shown[0]
    )
    for stream, (number, label) in itertools.product(streams, enumerate(shown)):
        served.live.report(stream, report(time.time(), LabelScore(label, 0.7, label)))
        served.live.event(stream, event(f"{stream.source}-{number}", time.time() - 5, time.time(), label=label))


def other_site(target: Target, tries: Tries, rng: random.Random) -> None:
    """A page of another site, in the browser in which the owner is logged in, reads and changes nothing."""
    for host in ("127.0.0.1", "localhost"):  # the same site by another port, and another site
        with _browser(tries) as chromium, _evil(target) as port:
            if chromium is not None:
                _visit(chromium, f"http://{host}:{port}/evil.html", target, tries)


def _visit(chromium: Any, evil_url: str, target: Target, tries: Tries) -> None:
    context = chromium.new_context()
    name, _, token = target.owner_cookie.partition("=")
    cookie = {"name": name, "value": token, "url": target.origin, "httpOnly": True, "sameSite": "Strict"}
    context.add_cookies([cookie])
    own = context.new_page()
    own.goto(target.origin)
    tries.expect(f"the owner's own page: {own.url}", "login" not in own.url)
    evil = context.new_page()
    evil.goto(evil_url)
    until(lambda: evil.title() == "done", "the other site's page has asked all")
    got = evil.evaluate("window.got")
    tries.look(f"{evil_url}: {got}", 403, not [each for each in got if each[2] in (200, 206)])
    tries.answers["requests from another site's page"] += 18
    framed = [frame.content() for frame in evil.frames[1:] if frame.url.startswith(target.origin)]
    tries.expect(f"{evil_url}: the page is framed", not any('id="now"' in each for each in framed))
    status, _ = target.wire().ask("/api/me", headers=target.owner)
    tries.look(f"{evil_url}: the owner is still logged in", status, status == 200)


@contextmanager
def _evil(target: Target) -> Iterator[int]:
    with tempfile.TemporaryDirectory() as folder:
        text = _EVIL.replace("AT", repr(target.origin), 1).replace("SOURCE", SOURCE)
        (Path(folder) / "evil.html").write_text(text)
        handler = functools.partial(_Quiet, directory=folder)
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield server.server_address[1]
            server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass
