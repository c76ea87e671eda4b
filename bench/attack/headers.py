"""Headers that would open the door, be reflected, or split one request into two; requests of other sites' pages."""

import itertools
import random

from bench.attack.target import SOURCE, Target
from bench.attack.wire import FORM, MARKUP, Tries

_NAMES = ("Host", "Origin", "Referer", "Cookie", "Authorization", "X-Forwarded-For", "X-Forwarded-Host",
          "X-Forwarded-Proto", "X-Forwarded-Prefix", "X-Forwarded-Port", "Forwarded", "X-Real-IP", "X-Ingress-Path",
          "X-Remote-User-Id", "X-Remote-User-Name", "Remote-User", "X-Original-URL", "X-Rewrite-URL",
          "X-HTTP-Method-Override", "Accept-Language", "Accept-Encoding", "If-None-Match", "Range", "Content-Type",
          "Upgrade", "Expect", "Via", "Last-Event-ID", "Connection")  # fmt: skip
_VALUES = (*MARKUP, "a\tb", "http://evil.example.org", "//evil.example.org", "evil.example.org", "127.0.0.1", "null",
           "x" * 9_000, "x" * 60_000, "172.30.32.2", "127.0.0.1, 172.30.32.2", "::1", "/api/hassio_ingress/x",
           "for=127.0.0.1;host=localhost;proto=https", "\udcff\udcfe", "tagger_session=; tagger_session=0", "Bearer ",
           "Basic b3duZXI6b3duZXI=", "")  # fmt: skip
_PATHS = ("/", "/login", "/api/me", "/api/health", "/static/app.js")
_SPLITS = ("a\r\nX-Injected: 1", "a\nX-Injected: 1", "a\r\n\r\nGET /api/health HTTP/1.1", "a%0d%0aX-Injected:%201",
           "a\rX-Injected: 1", "a\u2028X-Injected: 1")  # fmt: skip
_HIDDEN = b"GET /api/health HTTP/1.1\r\nHost: localhost\r\n\r\n"
_SMUGGLED = (
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET http://evil/ HTTP/1.1\r\nHost: evil\r\n\r\n",
    b"GET http://localhost/api/health HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    + _HIDDEN,
    b"POST /login HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"
    + _HIDDEN,
    b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nContent-Length: 50\r\n\r\n" + _HIDDEN,
    b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0, 50\r\n\r\n" + _HIDDEN,
    b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length : 0\r\n\r\n" + _HIDDEN,
    b"POST /login HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + _HIDDEN,
    b"POST /login HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + _HIDDEN,
    b"POST /login HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n" + _HIDDEN,
    b"POST /login HTTP/1.1\r\nHost: localhost\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + _HIDDEN,
    b"POST /login HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n" + _HIDDEN,
    b"POST /login HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n" + _HIDDEN,
    b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: " + b"9" * 400 + b"\r\n\r\n",
    b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: +0\r\n\r\n",
    b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0x0\r\n\r\n",
    b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
    b"GET / HTTP/0.9\r\n\r\n",
    b"GET /\r\n\r\n",
    b"\x16\x03\x01\x02\x00",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"CONNECT localhost:22 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    b"GET /api/live HTTP/1.1\r\nHost: localhost\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\x00evil\r\n\r\n",
    b"GET /\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"G\x00T / HTTP/1.1\r\nHost: localhost\r\n\r\n",
)


def headers(target: Target, tries: Tries, rng: random.Random) -> None:
    """No header opens the door, and none is reflected."""
    wire = target.wire(5)
    for name, value, path in itertools.product(_NAMES, _VALUES, _PATHS):
        status, text = wire.ask(path, headers={name: value.replace("\u0000", "\t")})
        tries.look(f"{name}: {value} {path}", status, not (path.startswith("/api") and status == 200))
        is_reflected = any(each in text for each in ("data-evil", "window.hit=1", "evil.example.org", "hassio_ingress"))
        tries.expect(f"reflected: {name}: {value[:60]} {path}", not is_reflected)
    for split, name in itertools.product(_SPLITS, _NAMES):
        status, text = wire.ask("/login", headers={name: split})
        tries.look(f"split {name}", status, "x-injected" not in text.lower().partition("\r\n\r\n")[0])
    for count in (100, 1_000, 20_000):
        status, _ = wire.ask("/login", headers={f"X-{number}": "y" for number in range(count)})
        tries.look(f"{count} headers", status, status in (200, 400, 431, 0))
    long = wire.ask("/" + "a" * 3_900)[0], wire.ask("/" + "a" * 70_000)[0], wire.ask("/?" + "a=b&" * 900)[0]
    tries.expect(f"long addresses: {long}", all(status in (0, 303, 400, 401, 404, 414) for status in long))


def smuggling(target: Target, tries: Tries, rng: random.Random) -> None:
    """A request within a request's body is not answered with what only the owner may see."""
    for raw in _SMUGGLED:
        status, text = target.wire(1).all(raw)
        answers = text.count("HTTP/1.1 ")
        tries.look(f"{answers} answers: {raw!r}", status, status in (0, 200, 303, 400, 401, 403, 404, 405, 501))
        tries.expect(f"read: {raw!r}", '"uptime_s"' not in text)
    owned = f"Host: 127.0.0.1:{target.port}\r\nCookie: {target.owner_cookie}\r\nOrigin: {target.origin}\r\n".encode()
    for raw in _SMUGGLED:  # behind the owner's own request on one connection, as a proxy would send both
        status, text = target.wire(1).all(b"GET /api/me HTTP/1.1\r\n" + owned + b"\r\n" + raw)
        tries.look(f"behind the owner's: {raw!r}", status, status == 200)
        tries.expect(f"read behind the owner's: {raw!r}", '"uptime_s"' not in text)


def sites(target: Target, tries: Tries, rng: random.Random) -> None:
    """Pages of other sites, and names that lead here, change and read nothing, not even with the owner's cookie."""
    wire, port, body = target.wire(), target.port, b'{"enabled": false}'
    own = f"127.0.0.1:{port}"
    origins = (None, "null", "http://evil.example.org", f"http://{own}.evil.example.org", f"http://evil@{own}x",
               "http://127.0.0.1:1", f"http://evil.example.org/{own}", f"http://localhost:{port}", "", "http://",
               f"ftp://x/{own}")  # fmt: skip
    hosts = (own, "evil.example.org", f"evil.example.org:{port}", "127.0.0.1.nip.io", "localhost.evil.example.org",
             "evil@127.0.0.1")  # fmt: skip
    kinds = ("application/json", "text/plain", FORM, "multipart/form-data; boundary=x")
    asks = (("POST", f"/api/sources/{SOURCE}"), ("POST", "/logout"), ("POST", "/login"), ("POST", "/api/thresholds"),
            ("POST", "/api/clips/marks"), ("GET", "/api/events"), ("GET", "/api/me"))  # fmt: skip
    for origin, host, site, kind, (method, path) in itertools.product(
        origins, hosts, (None, "cross-site", "same-site", "none"), kinds, asks
    ):
        if host == own and site in (None, "none"):
            if method == "GET" and origin in (None, ""):
                continue  # what the owner's own browser asks
            if origin is None and path == "/login":
                continue
        if method == "GET" and kind != kinds[0]:
            continue
        sent = {"Host": host, "Cookie": target.owner_cookie, "Content-Type": kind}
        sent |= {} if origin is None else {"Origin": origin}
        sent |= {} if site is None else {"Sec-Fetch-Site": site}
        status, _ = wire.ask(path, method, sent, body if method == "POST" else b"")
        tries.look(f"{method} {path} {sent}", status, status in (400, 403))
    status, _ = wire.ask("/api/me", headers=target.owner)
    tries.look("the owner is still logged in", status, status == 200)
