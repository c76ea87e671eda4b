"""Who may see the page. Each of these was tried as an attacker would, over the wire."""

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tagger.settings import WebSettings, is_password_hash
from tagger.web.access import Access
from tagger.web.files import page_files
from tagger.web.passwords import BlockedError, Passwords, hash_of
from tagger.web.roles import Right, Role, may
from tests.web.pages import Page, page

PASSWORD = "correct horse"
GUESTS = "battery staple"


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
    passwords = Passwords({Role.OWNER: PASSWORD}, now=lambda: now[0])
    for _ in range(5):
        assert passwords.check("wrong", "192.0.2.1") is None
    assert passwords.is_blocked("192.0.2.1")
    with pytest.raises(BlockedError):
        passwords.check(PASSWORD, "192.0.2.1")
    assert not passwords.is_blocked("192.0.2.2")
    for number in range(25):
        passwords.check("wrong", f"192.0.2.{3 + number}")
    assert passwords.is_blocked("192.0.2.99")
    now[0] = 61
    assert passwords.check(PASSWORD, "192.0.2.1") is Role.OWNER


def test_addresses_of_one_ipv6_network_are_counted_as_one() -> None:
    passwords = Passwords({Role.OWNER: PASSWORD})
    for number in range(5):
        passwords.check("wrong", f"2001:db8::{number}")
    assert passwords.is_blocked("2001:db8::9")
    assert not passwords.is_blocked("2001:db8:0:1::9")


def test_sessions_end_and_are_bounded_for_each_role() -> None:
    now = [0.0]
    access = Access(WebSettings(password=PASSWORD, guest_password=GUESTS), now=lambda: now[0])
    someone = access.caller({}, "192.0.2.1")

    def role(cookie: str | None) -> Role | None:
        return access.role_of(someone, cookie)

    first = access.log_in(Role.OWNER)
    assert role(first) is Role.OWNER
    assert role(first + "x") is None
    assert role(None) is None
    access.log_out(first)
    assert role(first) is None
    oldest = access.log_in(Role.OWNER)
    tokens = [access.log_in(Role.OWNER) for _ in range(64)]
    assert role(oldest) is None
    for _ in range(70):
        guest = access.log_in(Role.GUEST)
    assert role(guest) is Role.GUEST
    assert role(tokens[0]) is Role.OWNER
    now[0] = 31 * 86_400
    assert role(tokens[-1]) is None


def test_a_hashed_password_is_told_from_others_and_costs_once() -> None:
    pytest.importorskip("argon2", reason="argon2-cffi is not installed: scripts/setup dev")
    assert is_password_hash(hash_of(PASSWORD))
    passwords = Passwords({Role.OWNER: hash_of(PASSWORD), Role.GUEST: hash_of(GUESTS)})
    for _ in range(3):
        assert passwords.check(PASSWORD, "192.0.2.1") is Role.OWNER
        assert passwords.check(GUESTS, "192.0.2.1") is Role.GUEST
    assert passwords.check("wrong", "192.0.2.1") is None
    assert passwords.check("\udcff", "192.0.2.1") is None
    assert passwords.check(hash_of(PASSWORD), "192.0.2.1") is None


def is_looked_at(passwords: Passwords, password: str, address: str) -> bool:
    """Whether a wrong password was compared with the right one."""
    try:
        assert passwords.check(password, address) is None
    except BlockedError:
        return False
    return True


def test_a_closed_door_opens_a_minute_after_the_wrong_passwords_whatever_came_meanwhile() -> None:
    """Whoever goes on guessing is told `blocked`, then `wrong` again, and forged headers change neither."""
    now = [0.0]
    access = Access(WebSettings(password=PASSWORD), now=lambda: now[0])
    sent: list[dict[str, str]] = [{}, {"x-forwarded-for": "198.51.100.7"}, {"forwarded": "for=198.51.100.7"}]
    callers = [access.caller(headers, "192.0.2.1") for headers in sent]
    for _ in range(5):
        assert access.check("wrong", callers[0]) is None
    for now[0] in (0.0, 30.0, 59.9):
        for caller in callers:
            assert access.is_blocked(caller)
            with pytest.raises(BlockedError):
                access.check("wrong", caller)
    now[0] = 60.1
    for number in range(5):
        assert access.check("wrong", callers[number % 3]) is None
    assert all(access.is_blocked(caller) for caller in callers)


def test_a_password_that_was_not_looked_at_is_not_called_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    with page(password=PASSWORD) as served:
        answers = [log_in(served, "wrong one")[1]["location"] for _ in range(5)]
        monkeypatch.setattr(Access, "is_blocked", lambda *_: False)  # as for one that came before the last was counted
        answers.append(log_in(served, PASSWORD)[1]["location"])
        status, _, text = served.ask("/api/me", Authorization=f"Bearer {PASSWORD}")
    assert answers == ["login?wrong"] * 5 + ["login?blocked"]
    assert (status, json.loads(text)) == (429, {"error": "too many wrong passwords; wait a minute"})


def test_many_wrong_passwords_at_once_work_out_few_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    argon2 = pytest.importorskip("argon2", reason="argon2-cffi is not installed: scripts/setup dev")
    tried, running, most = [], [0], [0]

    def verify(self: object, known: str, password: bytes) -> bool:
        tried.append(password)
        running[0] += 1
        most[0] = max(most[0], running[0])
        time.sleep(0.001)
        running[0] -= 1
        raise argon2.exceptions.VerifyMismatchError

    monkeypatch.setattr(argon2.PasswordHasher, "verify", verify)
    passwords = Passwords({Role.OWNER: hash_of(PASSWORD)})
    with ThreadPoolExecutor(20) as threads:
        found = list(threads.map(lambda i: is_looked_at(passwords, f"wrong {i}", f"192.0.2.{i % 4}"), range(200)))
    assert sum(found) == len(tried) == 20
    assert most == [1]


PRIVATE = ("/", "/api/health", "/api/sources", "/api/events", "/api/labels", "/api/live", "/api/openapi.json",
           "/api/me")  # fmt: skip


@pytest.fixture(scope="module")
def protected():
    with page(password=PASSWORD, guest_password=GUESTS) as served:
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
    assert protected.post("/api/sources/mic", '{"enabled": true}', Cookie=session)[0] == 403  # nobody says from where
    assert protected.ask("/logout", "POST", "", Cookie=session)[0] == 403
    assert protected.ask("/logout", "POST", "", Cookie=session, **origin)[0] == 303
    assert protected.ask("/api/health", Cookie=session)[0] == 401


def test_a_guest_sees_what_is_heard_and_changes_nothing(protected: Page) -> None:
    status, headers = log_in(protected, GUESTS)
    assert (status, headers["location"]) == (303, "./")
    sent: dict[str, Any] = {
        "Cookie": headers["set-cookie"].partition(";")[0],
        "Origin": f"http://127.0.0.1:{protected.port}",
    }
    asked = len(protected.paused)
    me = protected.json("/api/me", **sent)
    assert me == {"role": "guest", "rights": ["see"], "login": True, "base": "/"}
    for path in ("/api/health", "/api/sources", "/api/events", "/api/labels"):
        assert protected.ask(path, **sent)[0] == 200
    for given in (sent, {"Authorization": f"Bearer {GUESTS}"}):
        status, answer = protected.post("/api/sources/mic", '{"enabled": false}', **given)
        assert (status, answer) == (403, {"error": "guests may not; log in with the owner's password"})
    assert len(protected.paused) == asked
    assert protected.json("/api/me", Authorization=f"Bearer {PASSWORD}")["rights"] == [*Right]


def test_whoever_needs_no_password_is_the_owner() -> None:
    with page() as served:
        assert served.json("/api/me") == {"role": "owner", "rights": [*Right], "login": False, "base": "/"}


def test_a_right_that_nobody_named_is_the_owner_s() -> None:
    assert may(Role.OWNER, None)
    assert not may(Role.GUEST, None)


INGRESS = "172.30.32.2"
FROM_HOME_ASSISTANT = {
    "host": "homeassistant.local:8123",
    "x-ingress-path": "/api/hassio_ingress/AbC-_9",
    "x-forwarded-for": "None, 192.0.2.7, 172.30.32.1",
    "x-forwarded-host": "homeassistant.local:8123",
    "x-forwarded-proto": "http",
}


def test_whom_home_assistant_lets_in_is_the_owner_and_nobody_else_may_ask() -> None:
    access = Access(WebSettings("0.0.0.0:8420", login_proxies=(INGRESS,)))
    caller = access.caller(FROM_HOME_ASSISTANT, INGRESS)
    assert access.problem("GET", "/", FROM_HOME_ASSISTANT, caller) is None
    assert access.role_of(caller, None) is Role.OWNER
    assert caller.base == "/api/hassio_ingress/AbC-_9/"
    frame = {"sec-fetch-site": "same-origin", "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"}
    assert access.problem("GET", "/", FROM_HOME_ASSISTANT | frame, caller) is None
    post = FROM_HOME_ASSISTANT | {"cookie": "ingress_session=x", "origin": "http://homeassistant.local:8123"}
    assert access.problem("POST", "/api/sources/mic", post, caller) is None
    assert access.problem("POST", "/", post | {"origin": "http://evil.example.org"}, caller) is not None
    assert access.problem("POST", "/", post | {"sec-fetch-site": "cross-site"}, caller) is not None
    for other in ("172.30.33.4", "172.30.32.1", "127.0.0.1", "192.0.2.1", ""):
        caller = access.caller(FROM_HOME_ASSISTANT, other)
        assert access.problem("GET", "/", FROM_HOME_ASSISTANT, caller) is not None
        assert access.problem("GET", "/static/app.js", FROM_HOME_ASSISTANT, caller) is not None


def test_users_of_home_assistant_that_are_not_named_are_guests() -> None:
    access = Access(WebSettings("0.0.0.0:8420", login_proxies=(INGRESS,), owners=("anna",)))
    for user, role in (("anna", Role.OWNER), ("ben", Role.GUEST), ("", Role.GUEST)):
        headers = FROM_HOME_ASSISTANT | {"x-remote-user-id": "81d3", "x-remote-user-name": user}
        assert access.role_of(access.caller(headers, INGRESS), None) is role
    assert access.role_of(access.caller(FROM_HOME_ASSISTANT, INGRESS), None) is Role.GUEST


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "//evil.example.org",
        "/a//b",
        "/a/../b",
        "/<script>",
        "/a b",
        "/a\r\nX: y",
        "a",
        "/" + "x" * 600,
        "/%2e",
    ],
)
def test_a_path_of_ingress_that_is_none_is_not_used(path: str) -> None:
    access = Access(WebSettings("0.0.0.0:8420", login_proxies=(INGRESS,)))
    assert access.caller(FROM_HOME_ASSISTANT | {"x-ingress-path": path}, INGRESS).base == "/"


def test_what_a_trusted_proxy_says_is_believed_and_of_others_nothing() -> None:
    access = Access(WebSettings(password=PASSWORD, hosts=("tagger.example.org",), trusted_proxies=("127.0.0.0/8",)))
    headers = {
        "host": "127.0.0.1:8420",
        "x-forwarded-for": "203.0.113.9, 192.0.2.7",
        "x-forwarded-proto": "https",
        "x-forwarded-host": "tagger.example.org",
        "x-remote-user-name": "anna",
    }
    caller = access.caller(headers, "127.0.0.1")
    assert (caller.address, caller.scheme, caller.host) == ("192.0.2.7", "https", "tagger.example.org")
    assert access.role_of(caller, None) is None  # whatever user the headers name
    assert access.problem("GET", "/", headers, caller) is None
    assert access.problem("GET", "/", headers | {"origin": "https://tagger.example.org"}, caller) is None
    assert access.problem("GET", "/", headers | {"origin": "http://tagger.example.org"}, caller) is not None
    forged = headers | {"x-forwarded-host": "rebound.example.org"}
    assert access.problem("GET", "/", forged, access.caller(forged, "127.0.0.1")) is not None
    caller = access.caller(headers, "192.0.2.66")
    assert (caller.address, caller.scheme, caller.host) == ("192.0.2.66", None, "127.0.0.1:8420")


def test_the_cookie_is_for_https_and_for_the_path_where_the_proxy_says_so() -> None:
    proxy: dict[str, Any] = {"X_Forwarded_Proto": "https", "X_Forwarded_For": "192.0.2.7", "X_Forwarded_Prefix": "/a"}
    kind = "application/x-www-form-urlencoded"
    for trusted in ((), ("127.0.0.1",)):
        with page(password=PASSWORD, trusted_proxies=trusted) as served:
            form = f"password={PASSWORD.replace(' ', '+')}"
            _, headers, _ = served.ask("/login", "POST", form, content_type=kind, **proxy)
            cookie = headers["set-cookie"].split("; ")
            assert ("Secure" in cookie, "Path=/a/" in cookie) == (bool(trusted), bool(trusted))
            assert {"HttpOnly", "SameSite=strict"} <= set(cookie)


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
