"""The live page in Chromium: its size, first paint, how late it shows, how quickly it filters, and what it costs.

    python bench/page.py                              # the table, in about three minutes; a quiet machine
    python bench/page.py --picture docs/page          # docs/page-light.png and docs/page-dark.png, of the demo
    python bench/page.py --views FOLDER               # every view, light and dark, on a phone and on a desk

Needs `scripts/setup dev` and Debian's Chromium. The sound is the demo, again and again, at the pace of the clock.
"""

import argparse
import http.client
import json
import os
import random
import statistics
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from PIL import Image
from playwright.sync_api import Page, sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1]))

from tagger.checkpoints.info import read_info
from tagger.history.log import EventLog, EventRow
from tagger.sources.file import DEMO
from tagger.web.files import page_files
from tests.programs import Subscriber, can_connect, free_port, running, until
from tests.web.browsers import holds
from tests.web.conftest import CHROMIUM

PAGES = 20
SLOWED = 6
COST_SECONDS = 8.0
ROUNDS = 3
EVENTS = 100_000
WATCH = """async () => {
    const { Spectrogram } = await import(new URL("static/spectrogram.js", document.baseURI));
    window.lags = [];
    window.shown = {};
    const draw = Spectrogram.prototype.draw;
    Spectrogram.prototype.draw = function () {
        if (this.newest !== null) window.lags.push(Date.now() / 1000 - this.edge);
        draw.call(this);
    };
    new MutationObserver(() => {
        for (const row of document.querySelectorAll("#latest li")) window.shown[row.dataset.id] ??= Date.now() / 1000;
    }).observe(document.getElementById("latest"), { childList: true });
}"""
FILTER = """async ([select, value]) => {
    const section = document.getElementById("day");
    const begin = performance.now();
    const box = document.getElementById(select);
    box.value = value;
    box.dispatchEvent(new Event("change"));
    while (section.getAttribute("aria-busy")) await new Promise((done) => setTimeout(done, 1));
    section.getBoundingClientRect();
    return performance.now() - begin;
}"""


@contextmanager
def daemon(folder: Path, *more: str, minutes: float = 5) -> Iterator[tuple[str, int, int]]:
    """A daemon that hears the demo again and again. Yields the page's address, the broker's port and the process id."""
    sound = folder / "demo.flac"
    if not sound.exists():
        samples, rate_hz = soundfile.read(DEMO, dtype="float32")
        soundfile.write(sound, np.tile(samples, round(minutes)), rate_hz)
    web, mqtt = free_port(), free_port()
    command = ["listen", f"kitchen={sound}", "--realtime", "--mqtt", f"embedded:{mqtt}", "--web", f"127.0.0.1:{web}"]
    with running(*command, *more, TAGGER_HOME=str(folder / "home")) as process:
        until(lambda: can_connect(web), "the page is served")
        yield f"http://127.0.0.1:{web}/", mqtt, process.pid


def cpu_seconds(pid: int) -> float:
    """Processor time of all threads of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def reader(address: str, stop: threading.Event) -> None:
    """Reads what an open page would, and does nothing with it."""
    host = address.split("/")[2]
    connection = http.client.HTTPConnection(host, timeout=30)
    connection.request("GET", "/api/live?columns=kitchen")
    answer = connection.getresponse()
    while not stop.is_set() and answer.read1(1 << 16):
        pass
    connection.close()


def share_of_a_core(pid: int, address: str, pages: int) -> float:
    """Processor time of the daemon per second, while this many pages are open."""
    stop = threading.Event()
    threads = [threading.Thread(target=reader, args=(address, stop)) for _ in range(pages)]
    for thread in threads:
        thread.start()
    time.sleep(1)
    begin, before = time.monotonic(), cpu_seconds(pid)
    time.sleep(COST_SECONDS)
    share = (cpu_seconds(pid) - before) / (time.monotonic() - begin)
    stop.set()
    for thread in threads:
        thread.join()
    return share


def health(address: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{address}api/health") as answer:
        return json.load(answer)["sources"]["kitchen"]  # type: ignore[no-any-return]


def size() -> None:
    files = page_files()
    packed = {name: len(file.packed) for name, file in files.items()}
    languages = [bytes for name, bytes in packed.items() if name.startswith("lang/")]
    one = sum(packed.values()) - sum(languages) + max(languages)
    row("all of the page in one language, gzipped", f"{one / 1000:.1f} kB", "150 kB")
    row("all files of it, gzipped", f"{sum(packed.values()) / 1000:.1f} kB")


def row(what: str, value: str, wanted: str = "") -> None:
    print(f"{what:<62} {value:>18} {wanted and f'(at most {wanted})'}", flush=True)


def first_paint(browser: Any, address: str) -> None:
    painted, ready = [], []
    for _ in range(5):
        with closing(browser.new_context(viewport={"width": 390, "height": 844})) as context:
            tab = context.new_page()
            context.new_cdp_session(tab).send("Emulation.setCPUThrottlingRate", {"rate": SLOWED})
            tab.goto(address)
            tab.locator(".source h2").wait_for()
            ready.append(tab.evaluate("performance.now()"))
            entry = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
            holds(tab, f"{entry} > 0")
            painted.append(tab.evaluate(entry))
    row(f"first paint, processor slowed {SLOWED} times, median of 5", f"{statistics.median(painted):.0f} ms", "1000 ms")
    row("the cards of the sources are there, the same way", f"{statistics.median(ready):.0f} ms")


def lateness(browser: Any, address: str, mqtt: int) -> None:
    told: dict[str, float] = {}
    with closing(browser.new_context(viewport={"width": 1200, "height": 900})) as context:
        tab = context.new_page()
        tab.goto(address)
        tab.evaluate(WATCH)
        subscriber = Subscriber(mqtt, "tagger/+/+/event")
        offset = time.time() - time.monotonic()
        time.sleep(25)
        for at, message in subscriber.messages:
            payload = message.payload.decode()
            if '"begin"' in payload:
                told.setdefault(payload.split('"id":')[1].split('"')[1], at + offset)
        subscriber.close()
        lags, shown = tab.evaluate("lags"), tab.evaluate("shown")
    delays = [1000 * (shown[id] - at) for id, at in told.items() if id in shown]
    row(f"an event on the page after its MQTT message, highest of {len(delays)}", f"{max(delays):.0f} ms", "1000 ms")
    row("events of MQTT that the page did not show", str(len(told) - len(delays)), "0")
    late = f"{1000 * statistics.median(lags):.0f}, {1000 * float(np.quantile(lags, 0.95)):.0f} ms"
    row(f"the spectrogram's right edge is behind, median and 95 % of {len(lags)}", late, "500 ms")


def costs(address: str, pid: int) -> None:
    shares: dict[int, list[float]] = {pages: [] for pages in (0, 1, PAGES)}
    latencies: dict[int, list[float]] = {pages: [] for pages in shares}
    skipped = dict.fromkeys(shares, 0)
    for _ in range(ROUNDS):
        for pages, own in shares.items():
            before = health(address)
            own.append(100 * share_of_a_core(pid, address, pages))
            after = health(address)
            latencies[pages].append(after["latency_ms"]["p50"])
            skipped[pages] += after["skipped"] - before["skipped"]
    for pages, found in shares.items():
        more = statistics.median(found) - statistics.median(shares[0])
        wanted = "5 % more" if pages == PAGES else ""
        row(
            f"the daemon, {pages} pages open, median of {ROUNDS}", f"{statistics.median(found):.1f} % of a core", wanted
        )
        if pages:
            row(f"  more than without, {pages} pages", f"{more:.1f} % of a core")
        latency = f"{statistics.median(latencies[pages]):.0f} ms, {skipped[pages]}"
        row(f"  latency (p50) and skipped windows, {pages} pages", latency)


def many_events(path: Path) -> None:
    """Writes a log of 24 hours of 10 sources."""
    labels = read_info(Path(__file__).parents[1] / "tagger" / "checkpoints" / "esc50.safetensors").labels
    random.seed(0)
    midnight = time.mktime((*time.localtime()[:3], 0, 0, 0, 0, 0, -1))
    onsets = sorted(midnight + random.random() * 86_400 for _ in range(EVENTS))
    log = EventLog(path)
    log.write(
        [
            EventRow(
                id=f"e{number}", node="attic", source=f"room{random.randrange(10)}",
                label=labels[min(int(random.expovariate(0.15)), 49)], onset=onset, offset=onset + 2, score=0.9,
                peak_score=random.uniform(0.8, 1), model="esc50", cause=None,
            )
            for number, onset in enumerate(onsets)
        ]
    )  # fmt: skip
    log.close()


def filtering(browser: Any, folder: Path) -> None:
    many_events(folder / "events.sqlite")
    with daemon(folder, "--event-log", str(folder / "events.sqlite")) as (address, _, _):
        tab = opened(browser, f"{address}#day")
        tab.locator("#day .map tbody tr").nth(20).wait_for()
        tab.evaluate("document.getElementById('day-source').add(new Option('room3', 'room3'))")
        found = {
            name: statistics.median(tab.evaluate(FILTER, [select, value]) for _ in range(3) for value in values)
            for name, select, values in (
                ("source", "day-source", ("room3", "")),
                ("label", "day-label", ("dog", "")),
                ("score", "day-score", ("0.9", "0")),
            )
        }
        tab.context.close()
    for name, milliseconds in found.items():
        row(f"{EVENTS:,} events of 24 hours: filter by {name}, median of 6", f"{milliseconds:.0f} ms", "200 ms")


def opened(browser: Any, address: str, **options: Any) -> Page:
    tab: Page = browser.new_context(viewport={"width": 1200, "height": 900}, **options).new_page()
    tab.set_default_timeout(90_000)
    tab.goto(address)
    return tab


@contextmanager
def closing(context: Any) -> Iterator[Any]:
    try:
        yield context
    finally:
        context.close()


def picture(browser: Any, stem: str, folder: Path) -> None:
    """The page while the demo plays, light and dark."""
    with daemon(folder, "--event-log", str(folder / "demo.sqlite")) as (address, _, _):
        tabs = {}
        for colours in ("light", "dark"):
            context = browser.new_context(
                viewport={"width": 1180, "height": 640}, color_scheme=colours, locale="en-GB", reduced_motion="reduce"
            )
            tabs[colours] = context.new_page()
            tabs[colours].set_default_timeout(90_000)
            tabs[colours].goto(address)
        for colours, tab in tabs.items():
            tab.bring_to_front()
            tab.locator("#latest li").nth(5).wait_for()
            tab.locator(".scores .announced").first.wait_for()
            path = f"{stem}-{colours}.png"
            tab.screenshot(path=path, animations="disabled")
            Image.open(path).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)


def views(browser: Any, to: Path, folder: Path) -> None:
    """Every view, light and dark, on a phone and on a desk."""
    to.mkdir(parents=True, exist_ok=True)
    many_events(folder / "events.sqlite")
    sizes = {"phone": {"width": 390, "height": 844}, "desk": {"width": 1280, "height": 860}}
    with daemon(folder, "--event-log", str(folder / "events.sqlite")) as (address, _, _):
        time.sleep(20)
        for size, viewport in sizes.items():
            for colours in ("light", "dark"):
                context = browser.new_context(viewport=viewport, color_scheme=colours, locale="en-GB")
                tab = context.new_page()
                tab.goto(address)
                tab.locator("#latest li").first.wait_for()
                for view in tab.evaluate("[...document.querySelectorAll('nav a')].map(link => link.dataset.view)"):
                    tab.evaluate("view => { location.hash = view }", view)
                    tab.wait_for_timeout(2500)
                    tab.screenshot(path=to / f"{view}-{size}-{colours}.png")
                context.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--picture", metavar="STEM")
    parser.add_argument("--views", metavar="FOLDER", type=Path)
    parser.add_argument("--only", choices=["size", "paint", "late", "cost", "filter"], action="append")
    asked = parser.parse_args()
    parts = asked.only or ["size", "paint", "late", "cost", "filter"]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        run = stack.enter_context(sync_playwright())
        browser = run.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        stack.callback(browser.close)
        if asked.picture or asked.views:
            made: Callable[[], None] = (
                (lambda: picture(browser, asked.picture, folder))
                if asked.picture
                else (lambda: views(browser, asked.views, folder))
            )
            made()
            return
        if "size" in parts:
            size()
        if {"paint", "late", "cost"} & set(parts):
            with daemon(folder) as (address, mqtt, pid):
                time.sleep(8)
                if "paint" in parts:
                    first_paint(browser, address)
                if "late" in parts:
                    lateness(browser, address, mqtt)
                if "cost" in parts:
                    costs(address, pid)
        if "filter" in parts:
            filtering(browser, folder)


if __name__ == "__main__":
    main()
