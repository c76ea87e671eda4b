"""The web application: who may ask is decided first, then a route answers. It knows Starlette."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from http import HTTPStatus
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tagger.errors import TaggerError, UserError
from tagger.web import openapi
from tagger.web.access import COOKIE, SESSION_SECONDS, Access
from tagger.web.answers import body_of, error_answer, json_answer, wish_of
from tagger.web.api import Daemon
from tagger.web.files import PageFile, page_files
from tagger.web.live import MOST_READERS

log = logging.getLogger(__name__)

_MOST_CHARACTERS = 4_096
"""Longest path and query, characters."""
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # `no-referrer` would take the origin from the login's form
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "microphone=(), camera=(), geolocation=()",
}
"""Headers of every answer."""
_OPEN = ("/login", "/static/")
"""Paths that need no login: the form itself, and the page's own files."""


class _Guard:
    """Refuses what may not be asked, before any route sees it, and adds HEADERS to every answer."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message["headers"], *own]}
            await send(message)

        answer = self._refusal(Request(scope)) or self._app
        await answer(scope, receive, send_guarded)

    def _refusal(self, request: Request) -> Response | None:
        # As the routes see it. `request.url` is made of the host that the request names, which may hold a path.
        path = request.scope["path"]
        if len(path) + len(request.scope["query_string"]) > _MOST_CHARACTERS:
            return error_answer(HTTPStatus.REQUEST_URI_TOO_LONG, "the address is too long")
        if (problem := self._access.problem(request.method, path, request.headers)) is not None:
            return error_answer(HTTPStatus.FORBIDDEN, problem)
        if any(path == each or (each.endswith("/") and path.startswith(each)) for each in _OPEN):
            return None
        if self._access.is_known(request.headers, request.cookies.get(COOKIE), _address(request)):
            return None
        if path == "/":
            return Response(status_code=HTTPStatus.SEE_OTHER, headers={"Location": "login"})
        return error_answer(HTTPStatus.UNAUTHORIZED, "log in, or send the password as Authorization: Bearer")


def application(daemon: Daemon, access: Access) -> ASGIApp:
    """The whole application."""
    files = page_files()

    async def page(request: Request) -> Response:
        return _file(request, files["index.html"])

    async def login(request: Request) -> Response:
        if request.method != "POST":
            return _file(request, files["login.html"])
        if access.is_blocked(_address(request)):
            return _to("login?blocked")
        body = (await body_of(request)).decode("utf-8", "replace")
        given = parse_qs(body, max_num_fields=4).get("password", [""])[0]
        token = access.log_in(given, _address(request))
        if token is None:
            log.warning("the live page: a wrong password from %s", _address(request))
            return _to("login?wrong")
        answer = _to("./")
        answer.set_cookie(COOKIE, token, max_age=int(SESSION_SECONDS), httponly=True, samesite="strict")
        return answer

    async def logout(request: Request) -> Response:
        access.log_out(request.cookies.get(COOKIE, ""))
        answer = _to("login")
        answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return answer

    async def static(request: Request) -> Response:
        found = files.get(request.path_params["name"])
        if found is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, "there is no such file")
        return _file(request, found)

    async def health(request: Request) -> Response:
        return json_answer(daemon.snapshot().to_json())

    async def sources(request: Request) -> Response:
        return json_answer(daemon.sources())

    async def labels(request: Request) -> Response:
        return json_answer(daemon.labels())

    async def events(request: Request) -> Response:
        try:
            return json_answer(await run_in_threadpool(daemon.events, dict(request.query_params)))
        except UserError as error:
            return error_answer(HTTPStatus.BAD_REQUEST, str(error))

    async def enable(request: Request) -> Response:
        wanted = await wish_of(request)
        if set(wanted) != {"enabled"} or not isinstance(wanted["enabled"], bool):
            raise HTTPException(HTTPStatus.BAD_REQUEST, 'the body must be {"enabled": true} or {"enabled": false}')
        try:
            return json_answer(
                await run_in_threadpool(daemon.pause, request.path_params["name"], not wanted["enabled"])
            )
        except UserError as error:
            return error_answer(HTTPStatus.NOT_FOUND, str(error))

    async def live(request: Request) -> Response:
        if daemon.live.readers >= MOST_READERS:
            return error_answer(HTTPStatus.SERVICE_UNAVAILABLE, f"{MOST_READERS} pages are open already")
        wanted = frozenset(filter(None, request.query_params.get("columns", "").split(",")))
        stream: AsyncIterator[bytes] = daemon.live.read(wanted)
        return StreamingResponse(stream, media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    async def described(request: Request) -> Response:
        return json_answer(openapi.document())

    async def failed(request: Request, error: Exception) -> Response:
        if isinstance(error, HTTPException):
            return error_answer(error.status_code, error.detail)
        if isinstance(error, TaggerError):
            return error_answer(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
        log.warning("the live page: %s: %s", request.scope["path"], type(error).__name__, exc_info=error)
        return error_answer(HTTPStatus.INTERNAL_SERVER_ERROR, "something failed; the log says what")

    def route(path: str, answer: Callable[[Request], Awaitable[Response]], *methods: str) -> Route:
        return Route(path, answer, methods=list(methods or ["GET"]))

    app = Starlette(
        routes=[
            route("/", page),
            route("/login", login, "GET", "POST"),
            route("/logout", logout, "POST"),
            route("/static/{name:path}", static),
            route("/api/health", health),
            route("/api/sources", sources),
            route("/api/sources/{name}", enable, "POST"),
            route("/api/events", events),
            route("/api/labels", labels),
            route("/api/live", live),
            route("/api/openapi.json", described),
        ],
        exception_handlers={HTTPException: failed, TaggerError: failed, Exception: failed},
    )
    app.router.redirect_slashes = False
    return _Guard(app, access)


def _file(request: Request, file: PageFile) -> Response:
    headers = {"ETag": file.tag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
    if request.headers.get("if-none-match") == file.tag:
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(file.packed, headers={**headers, "Content-Encoding": "gzip"}, media_type=file.kind)
    return Response(file.content, headers=headers, media_type=file.kind)


def _to(where: str) -> Response:
    """To another page, by a relative address: a proxy may put this page below another path."""
    return Response(status_code=HTTPStatus.SEE_OTHER, headers={"Location": where, "Cache-Control": "no-store"})


def _address(request: Request) -> str:
    return request.client.host if request.client is not None else ""
