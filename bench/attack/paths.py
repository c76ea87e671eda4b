"""Paths and names that would lead out of the page's files or out of the folder of clips."""

import itertools
import json
import random
from urllib.parse import quote

from bench.attack.target import BAIT_IDS, SOURCE, Target
from bench.attack.wire import MARKUP, Tries

_UPS = ("../", "..%2f", "%2e%2e/", "%2e%2e%2f", ".%2e/", "..\\", "..%5c", "%252e%252e%252f", "..%c0%af",
        "%c0%ae%c0%ae/", "%e0%80%ae%e0%80%ae/", "..;/", "....//", "..%00/", "..%u2215", "%uff0e%uff0e/")  # fmt: skip
_TARGETS = ("etc/passwd", "app.py", "../access.py", "proc/self/environ", "windows%5cwin.ini", "%00", "events.sqlite",
            "tagger.toml", "owner", "secret.flac")  # fmt: skip
_STARTS = ("/static/", "/api/clips/", "/api/sources/", "/api/", "/", "/login/", "//")
_WHOLE = ("/etc/passwd", "//etc/passwd", "file:///etc/passwd", "C:%5cwindows%5cwin.ini", "%2fetc%2fpasswd",
          "~root/.ssh", "%5c%5chost%5cshare", "CON", "NUL", "a%00.js", "app.js%00", "app.js/", "APP.JS", "app.js%20",
          "app.js.", "*", "01ARZ3NDEKTSV4RRFFQ69G5FAV", "01ARZ3NDEKTSV4RRFFQ69G5FAV.flac", "%", "%zz", "%ff",
          "events.jsonl", "reviewed.csv")  # fmt: skip
_RANDOM = 400
"""Paths that are put together at random, each round others."""
_RANGES = ("bytes=0-0", "bytes=-1", "bytes=0-", "bytes=-0", "bytes=99999999-", "bytes=5-2", "bytes=0-1,3-4", "bytes=",
           "bytes=" + "0-0," * 2_000, "bytes=-" + "9" * 5_000, "bytes=0x1-2", "bytes=\u0663-", "lines=0-1",
           "bytes=0--1", "bytes=0-18446744073709551616", "bytes= 0 - 1", "bytes=+1-2", "bytes=1e3-")  # fmt: skip


def paths(target: Target, tries: Tries, rng: random.Random) -> None:
    """No path leads out of the page's files, and none past the login."""
    made = [
        start + up * depth + wanted
        for start, up, depth, wanted in itertools.product(_STARTS, _UPS, (1, 3, 5), _TARGETS)
    ]
    made += [start + each for start, each in itertools.product(_STARTS, _WHOLE)]
    pieces = (*_UPS, *_TARGETS, *_WHOLE, "/", "//", ".", "%2f", "static", "api", "clips", "?", "&", "=", "app.js")
    made += ["/" + "".join(rng.choices(pieces, k=rng.randint(2, 7))) for _ in range(_RANDOM)]
    known, stranger = target.wire(), target.wire()
    for path in made:
        status, text = known.ask(path, headers=target.owner)
        served = path.partition("?")[0]
        is_page = served.strip("/") in ("", "static/app.js", "login") or served.startswith(("/login", "/static/app.js"))
        tries.look(path, status, status not in (200, 206) or is_page)
        status, text = stranger.ask(path)
        tries.look(f"stranger {path}", status, (status != 200 or is_page) and '"verdict"' not in text)


def clips(target: Target, tries: Tries, rng: random.Random) -> None:
    """Only an event's id leads to a clip; no name in the table, no link and no range leads to other bytes."""
    wire, ids = target.wire(), target.clips()
    tries.expect(f"bait is listed: {ids}", not {*ids} & {*BAIT_IDS})
    real = rng.choice(ids)
    names = [*BAIT_IDS, "", ".", "..", "e0/../e1", "e0%00", "e0.flac", "e0%2e", "*", "siren", "siren%2flink.flac",
             "linked%2fsecret.flac", "..%2fsecret.flac", "%2e%2e%2f%2e%2e%2fowner", "x" * 3_000, "%ff%fe", "\udcff",
             *map(quote, MARKUP), f"{real}%20", f"%20{real}", f"{real}/", real.lower() + "_"]  # fmt: skip
    for name, end, headers in itertools.product(
        names, ("", "/spectrogram", "?download"), ({}, {"Range": "bytes=0-9"}, {"If-None-Match": "*"})
    ):
        status, text = wire.ask(f"/api/clips/{name}{end}", headers={**target.owner, **headers})
        tries.look(f"clip {name}{end}", status, status in (404, 405, 414) or (name == "\udcff" and status == 400))
    _, text = wire.ask(f"/api/clips/{real}", "HEAD", target.owner)
    for given in (*_RANGES, *(f"bytes={rng.randint(-9, 10**6)}-{rng.randint(-9, 10**6)}" for _ in range(100))):
        for end in ("", "/spectrogram"):
            status, text = wire.ask(f"/api/clips/{real}{end}", headers={**target.owner, "Range": given})
            right = (200, 206, 416, 400, 0) if not end else (200, 400, 0)
            tries.look(f"range {given[:60]}", status, status in right)
            tries.expect(f"range {given[:60]}: no clip", status not in (206,) or "audio/flac" in text.lower())
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "MOVE", "POST", "x" * 900, "get"):
        for path in (f"/api/clips/{real}", "/api/clips", "/static/app.js", "/", "/api/sources/" + SOURCE, "/api/none"):
            status, _ = wire.ask(path, method, target.owner | {"Destination": "/x", "Content-Length": "0"})
            allowed = (400, 404, 405, 415) if method in ("POST",) else (400, 404, 405, 501)
            tries.look(f"{method[:20]} {path}", status, status in allowed)
    before = sorted(str(path) for path in target.folder.rglob("*") if "clips/" not in str(path))
    json_headers = target.owner | {"Content-Type": "application/json"}
    for label in (
        *MARKUP,
        "../../x",
        "/etc/x",
        "a/b",
        "=cmd|' /C calc'!A0",
        '"quoted",\nlines',
        "x" * 5_000,
        "\ud800",
        "",
    ):
        body = json.dumps({"marks": {real: label}}).encode()
        status, _ = wire.ask("/api/clips/marks", "POST", json_headers, body)
        tries.look(f"mark {label[:40]!r}", status, status in (200, 400))
        status, _ = wire.ask("/api/clips/marks", "POST", json_headers, json.dumps({"marks": {real: "undo"}}).encode())
        tries.look("undo", status, status == 200)
    for id in (*BAIT_IDS, "e0/../../x", "../events.jsonl"):
        status, _ = wire.ask("/api/clips/marks", "POST", json_headers, json.dumps({"marks": {id: "right"}}).encode())
        tries.look(f"mark of {id}", status, status == 404)
    after = sorted(str(path) for path in target.folder.rglob("*") if "clips/" not in str(path))
    tries.expect(
        f"files came: {set(after) - set(before)}", not {each for each in set(after) - set(before) if "home" not in each}
    )
