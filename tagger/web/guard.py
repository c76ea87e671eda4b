"""Stands before the routes: who may ask is decided here, then what that role may do. It knows Starlette."""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs

from anyio import CapacityLimiter, to_thread
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tagger.web.access import COOKIE, SESSION_SECONDS, Access, bearer
from tagger.web.answers import body_of, error_answer, failure, file_answer, json_answer, redirect
from tagger.web.caller import Caller
from tagger.web.files import PageFile
from tagger.web.passwords import BlockedError
from tagger.web.roles import Right, Role, may

log = logging.getLogger(__name__)

_MOST_CHARACTERS = 4_096
"""Longest path and query, characters."""
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "media-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # `no-referrer` would take the origin from the login's form
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "microphone=(), camera=(), geolocation=()",
}
"""Headers of every answer."""
_MOST_CHECKS = 4
"""Most passwords that are looked at, or wait for it, in threads."""
_OPEN = ("/login", "/static/")
"""Paths that need no login: the form itself, and the page's own files."""


class Guard:
    """Refuses what may not be asked, before any route sees it, and adds HEADERS to every answer.

    Routes find who asks in the request's `state`: `caller` and `role`. An open path has no role. `is_told`: an
    exception that nobody foresaw is in the log.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access
        self._checks = CapacityLimiter(_MOST_CHECKS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return

        has_begun = False

        async def send_guarded(message: Message) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                own = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message["headers"], *own]}
            await send(message)

        try:
            answer = await self._refusal(Request(scope)) or self._app
        except BlockedError as error:
            answer = error_answer(HTTPStatus.TOO_MANY_REQUESTS, str(error))
        except Exception as error:
            answer = failure(error)
        try:
            await answer(scope, receive, send_guarded)
        except ClientDisconnect:
            return
        except Exception as error:
            if getattr(Request(scope).state, "is_told", False):  # and answered
                return
            last = failure(error)
            if not has_begun:
                await last(scope, receive, send_guarded)

    async def _refusal(self, request: Request) -> Response | None:
        """
        Raises:
            BlockedError: the request's password was not looked at.
        """
        # As the routes see it. `request.url` is made of the host that the request names, which may hold a path.
        path = request.scope["path"]
        if len(path) + len(request.scope["query_string"]) > _MOST_CHARACTERS:
            return error_answer(HTTPStatus.REQUEST_URI_TOO_LONG, "the address is too long")
        headers = {name: ", ".join(request.headers.getlist(name)) for name in request.headers}
        caller = self._access.caller(headers, request.client.host if request.client is not None else "")
        request.state.caller, request.state.check = caller, self.check
        if (problem := self._access.problem(request.method, path, headers, caller)) is not None:
            return error_answer(HTTPStatus.FORBIDDEN, problem)
        if any(path == each or (each.endswith("/") and path.startswith(each)) for each in _OPEN):
            return None
        role = self._access.role_of(caller, request.cookies.get(COOKIE))
        if role is None and (given := bearer(headers)) is not None:
            role = await self.check(given, caller)
        request.state.role = role
        if role is not None:
            return None
        if path == "/":
            return Response(status_code=HTTPStatus.SEE_OTHER, headers={"Location": "login"})
        return error_answer(HTTPStatus.UNAUTHORIZED, "log in, or send the password as Authorization: Bearer")

    async def check(self, password: str, caller: Caller) -> Role | None:
        """Whose password it is. Few wait in threads, so that nobody else waits for a thread.

        Raises:
            BlockedError: it was not looked at; it may be so since it waits.
        """
        if self._access.is_blocked(caller):
            raise BlockedError
        return await to_thread.run_sync(self._access.check, password, caller, limiter=self._checks)


def route(path: str, answer: Callable[[Request], Awaitable[Response]], right: Right | None, *methods: str) -> Route:
    """A route for those who have a right; None: for owners."""

    async def answer_if_allowed(request: Request) -> Response:
        if not may(request.state.role, right):
            return error_answer(HTTPStatus.FORBIDDEN, "guests may not; log in with the owner's password")
        return await answer(request)

    return Route(path, answer_if_allowed, methods=list(methods or ["GET"]))


def session_routes(access: Access, form: PageFile) -> Sequence[Route]:
    """Routes by which somebody logs in, logs out, and learns who they are.

    Args:
        form: the page that asks for the password.
    """

    async def login(request: Request) -> Response:
        if request.method != "POST":
            return file_answer(request, form)
        caller: Caller = request.state.caller
        if access.is_blocked(caller):
            return redirect("login?blocked")
        body = (await body_of(request)).decode("utf-8", "replace")
        try:
            given = parse_qs(body, max_num_fields=4).get("password", [""])[0]
        except ValueError:
            raise HTTPException(HTTPStatus.BAD_REQUEST, "the form has too many fields") from None
        try:
            role = await request.state.check(given, caller)
        except BlockedError:
            return redirect("login?blocked")
        if role is None:
            log.warning("the live page: a wrong password from %s", caller.address)
            return redirect("login?wrong")
        access.log_out(request.cookies.get(COOKIE, ""))
        answer = redirect("./")
        answer.set_cookie(COOKIE, access.log_in(role), max_age=int(SESSION_SECONDS), **_cookie(caller))
        return answer

    async def logout(request: Request) -> Response:
        access.log_out(request.cookies.get(COOKIE, ""))
        answer = redirect("login")
        answer.delete_cookie(COOKIE, **_cookie(request.state.caller))
        return answer

    async def me(request: Request) -> Response:
        caller, role = request.state.caller, request.state.role
        return json_answer(
            {
                "role": role,
                "rights": [right for right in Right if may(role, right)],
                "login": access.asks and not caller.is_logged_in,
                "base": caller.base,
            }
        )

    return [
        Route("/login", login, methods=["GET", "POST"]),  # open: nobody has a role yet
        route("/logout", logout, Right.SEE, "POST"),
        route("/api/me", me, Right.SEE),
    ]


def _cookie(caller: Caller) -> dict[str, Any]:
    """Attributes of the session's cookie."""
    return {"httponly": True, "samesite": "strict", "secure": caller.scheme == "https", "path": caller.base}
