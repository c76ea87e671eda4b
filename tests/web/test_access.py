"""Who may see the page. Each of these was tried as an attacker would, over the wire."""

import json
import socket

import pytest

from tagger.settings import WebSettings
from tagger.web.access import Access
from tagger.web.files import page_files
from tests.web.pages import Page, page

PASSWORD = "correct horse"


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example.org", "evil.example.org:8420", "", "localhost.evil.org", "192.168.1.2", "localhost/login?"),
        *("localhost/static/?", "a@localhost", "localhost:x", "[::1", "ſ"),
    ],
)
def test_a_host_that_is_not_this_machine_is_refused(host: str) -> None:
    access = Access(WebSettings())
    assert access.problem("GET", "/", {"host": host}) is not None


@pytest.mark.parametrize("host", ["localhost", "localhost:8420", "127.0.0.1:8420", "[::1]:8420", "LOCALHOST.:1"])
def test_this_machine_may_be_named_in_all_its_ways(host: str) -> None:
    assert Access(WebSettings()).problem("GET", "/", {"host": host}) is None


def test_names_that_were_configured_and_addresses_are_taken_where_a_password_is_set() -> None:
    access = Access(WebSettings("0.0.0.0:8420", PASSWORD, ("tagger.example.org",)))
    for host in ("tagger.example.org", "192.168.1.2:8420", "[fe80::1]:8420", socket.gethostname()):
        assert access.problem("GET", "/", {"host": host}) is None
    assert access.problem("GET", "/", {"host": "rebound.example.org"}) is not None


@pytest.mark.parametrize(
    ("headers", "is_refused"),
    [
        ({}, False),
        ({"origin": "http://localhost:8420"}, False),
        ({"origin": "http://localhost:9999"}, True),
        ({"origin": "http://evil.example.org"}, True),
        ({"origin": "null"}, True),
        ({"origin": "http://evil.example.org/localhost:8420"}, True),
        ({"sec-fetch-site": "same-origin"}, False),
        ({"sec-fetch-site": "none"}, False),
        ({"sec-fetch-site": "cross-site"}, True),
        ({"sec-fetch-site": "same-site", "sec-fetch-mode": "cors"}, True),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}, True),
        ({"x-forwarded-for": "192.0.2.1"}, True),
        ({"forwarded": "for=192.0.2.1"}, True),
    ],
)
def test_other_sites_and_proxies_may_not_ask_the_interface(headers: dict[str, str], is_refused: bool) -> None:
    found = Access(WebSettings()).problem("GET", "/api/health", {"host": "localhost:8420", **headers})
    assert (found is not None) == is_refused


def test_a_link_from_another_site_leads_to_the_page_but_no_frame_of_it() -> None:
    link = {"host": "localhost", "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert Access(WebSettings()).problem("GET", "/", link | {"sec-fetch-dest": "document"}) is None
    assert Access(WebSettings()).problem("GET", "/", link | {"sec-fetch-dest": "iframe"}) is not None
    assert Access(WebSettings()).problem("POST", "/", link) is not None


def test_a_proxy_is_let_in_where_a_password_is_set() -> None:
    access = Access(WebSettings(password=PASSWORD, hosts=("tagger.example.org",)))
    assert access.problem("GET", "/", {"host": "tagger.example.org", "x-forwarded-for": "192.0.2.1"}) is None


def test_wrong_passwords_are_counted_by_address_and_together() -> None:
    now = [0.0]
    access = Access(WebSettings(password=PASSWORD), now=lambda: now[0])
    for _ in range(5):
        assert access.log_in("wrong", "192.0.2.1") is None
    assert access.is_blocked("192.0.2.1")
    assert access.log_in(PASSWORD, "192.0.2.1") is None
    assert not access.is_known({"authorization": f"Bearer {PASSWORD}"}, None, "192.0.2.1")
    assert not access.is_blocked("192.0.2.2")
    for number in range(30):
        access.log_in("wrong", f"192.0.2.{3 + number}")
    assert access.is_blocked("192.0.2.99")
    now[0] = 61
    assert access.log_in(PASSWORD, "192.0.2.1") is not None


def test_sessions_end_and_are_bounded() -> None:
    now = [0.0]
    access = Access(WebSettings(password=PASSWORD), now=lambda: now[0])
    first = access.log_in(PASSWORD, "a")
    assert first is not None
    assert access.is_known({}, first, "a")
    assert not access.is_known({}, first + "x", "a")
    access.log_out(first)
    assert not access.is_known({}, first, "a")
    oldest = access.log_in(PASSWORD, "a")
    tokens = [access.log_in(PASSWORD, "a") for _ in range(64)]
    assert not access.is_known({}, oldest, "a")
    assert access.is_known({}, tokens[0], "a")
    now[0] = 31 * 86_400
    assert not access.is_known({}, tokens[-1], "a")


PRIVATE = ("/", "/api/health", "/api/sources", "/api/events", "/api/labels", "/api/live", "/api/openapi.json")


@pytest.fixture(scope="module")
def protected():
    with page(password=PASSWORD) as served:
        yield served


def log_in(served: Page, password: str) -> tuple[int, dict[str, str]]:
    kind = "application/x-www-form-urlencoded"
    status, headers, _ = served.ask("/login", "POST", f"password={password.replace(' ', '+')}", content_type=kind)
    return status, headers


def test_nothing_private_is_answered_without_the_password(protected: Page) -> None:
    for path in PRIVATE:
        status, headers, text = protected.ask(path)
        assert status in (401, 303), path
        assert headers.get("location", "login") == "login"
        assert "mic" not in text
    for path in ("//api/health", "/api/../api/health", "/login/../api/health", "/static/../api/health", "/API/health",
                 "/static/%2e%2e/api/health", "/api/health/", "/login%2f..%2fapi/health", "/loginx"):  # fmt: skip
        status, _, text = protected.ask(path)
        assert status in (401, 404), path
        assert "verdict" not in text
    assert protected.post("/api/sources/mic", '{"enabled": false}')[0] == 401
    assert protected.paused == []


def test_a_host_that_holds_a_path_does_not_lead_past_the_login(protected: Page) -> None:
    for host in ("localhost/login?", "localhost/static/x?", "localhost#", "localhost/login#"):
        assert protected.ask("/api/health", Host=host)[0] in (400, 403)


def test_logging_in_and_out(protected: Page) -> None:
    status, headers = log_in(protected, "wrong one")
    assert (status, headers["location"]) == (303, "login?wrong")
    assert "set-cookie" not in headers
    status, headers = log_in(protected, PASSWORD)
    assert (status, headers["location"]) == (303, "./")
    cookie = headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    session = cookie.partition(";")[0]
    assert protected.json("/api/health", Cookie=session)["verdict"] == "ok"
    origin = {"Origin": f"http://127.0.0.1:{protected.port}"}
    assert protected.post("/api/sources/mic", '{"enabled": false}', Cookie=session, **origin)[0] == 200
    foreign = protected.post("/api/sources/mic", '{"enabled": true}', Cookie=session, Origin="http://evil.org")
    assert foreign[0] == 403
    assert protected.paused == [("mic", True)]
    assert protected.ask("/logout", "POST", "", Cookie=session)[0] == 303
    assert protected.ask("/api/health", Cookie=session)[0] == 401


def test_programs_send_the_password_with_each_request(protected: Page) -> None:
    assert protected.json("/api/health", Authorization=f"Bearer {PASSWORD}")["node"] == "attic"
    for wrong in ("Bearer", "Bearer ", "Basic Y29ycmVjdCBob3JzZQ==", PASSWORD):
        assert protected.ask("/api/health", Authorization=wrong)[0] == 401


def test_every_answer_has_the_headers_that_keep_others_out(protected: Page) -> None:
    for path in ("/login", "/static/app.js", "/api/health", "/static/none", "/none"):
        _, headers, _ = protected.ask(path)
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert "server" not in headers
        assert not [name for name in headers if name.startswith("access-control")]


def test_no_path_leads_out_of_the_page_s_files() -> None:
    with page() as served:
        for name in ("../app.py", "%2e%2e/app.py", "..%2fapp.py", "..%5capp.py", "/etc/passwd", "%00", "", ".", "..",
                     "app.js/..", "app.js%00.css", "APP.JS"):  # fmt: skip
            status, headers, text = served.ask(f"/static/{name}")
            assert status == 404, name
            assert headers["content-type"] == "application/json"
            assert json.loads(text)["error"]
        assert served.ask("/static/app.js")[1]["content-type"] == "text/javascript; charset=utf-8"


def test_what_is_too_long_or_no_request_is_refused_and_the_page_goes_on() -> None:
    with page() as served:
        assert served.ask("/api/events?label=" + "x" * 10_000)[0] == 414
        assert served.post("/api/sources/mic", '{"enabled": ' + " " * 10_000 + "true}")[0] == 413
        kind = "application/x-www-form-urlencoded"
        assert served.post("/api/sources/mic", "enabled=true", content_type=kind)[0] == 415
        for body in (
            "",
            "[]",
            "null",
            "{",
            '{"enabled": 1}',
            '{"enabled": true, "more": 1}',
            "[" * 2_000,
            '{"a": NaN}',
        ):
            assert served.post("/api/sources/mic", body)[0] == 400, body
        for junk in (
            b"\x16\x03\x01\x02\x00",
            b"GET / HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\n",
            b"GET http://evil/ HTTP/1.1\r\nHost: evil\r\n\r\n",
        ):
            with socket.create_connection(("127.0.0.1", served.port), timeout=90) as client:
                client.sendall(junk)
                assert client.recv(15).startswith((b"HTTP/1.1 4", b"HTTP/1.0 4"))
        for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
            assert served.ask("/api/health", method)[0] == 405
        assert served.json("/api/health")["verdict"] == "ok"
        assert served.paused == []


def test_the_page_s_files_hold_no_code_in_markup_and_ask_no_other_server() -> None:
    files = page_files()
    assert {"index.html", "login.html", "app.js", "style.css", "icon.svg"} <= set(files)
    for name, file in files.items():
        text = file.content.decode()
        hosts = {part.split("/")[0] for part in text.split("://")[1:]}
        assert hosts <= {"www.w3.org"}, name
        assert "innerHTML" not in text
        assert "style=" not in text
        if name.endswith(".html"):
            assert "<script>" not in text
            assert " onclick" not in text
    assert sum(len(file.packed) for file in files.values()) < 150_000
