"""The web application: which path is answered by what, and which right it needs. It knows Starlette."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from http import HTTPStatus
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from tagger.errors import TaggerError, UserError
from tagger.web import openapi
from tagger.web.access import Access
from tagger.web.answers import error_answer, failure, file_answer, found_answer, json_answer, wish_of
from tagger.web.api import Daemon
from tagger.web.clip_routes import clip_routes
from tagger.web.files import page_files
from tagger.web.guard import Guard, route, session_routes
from tagger.web.health_routes import health_routes
from tagger.web.live import MOST_READERS
from tagger.web.roles import Right, may
from tagger.web.threshold_routes import threshold_routes


async def _joined(first: bytes, others: AsyncGenerator[bytes]) -> AsyncIterator[bytes]:
    """A message, and those that follow it."""
    async with aclosing(others):
        yield first
        async for each in others:
            yield each


def guarded(index: str, routes: Sequence[Route], access: Access) -> ASGIApp:
    """An application that shows a page, to those who may see it.

    Args:
        index: the page's file.
        routes: what the page asks.
    """
    files = page_files()

    async def page(request: Request) -> Response:
        return file_answer(request, files[index])

    async def static(request: Request) -> Response:
        found = files.get(request.path_params["name"])
        if found is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, "there is no such file")
        return file_answer(request, found)

    async def failed(request: Request, error: Exception) -> Response:
        if isinstance(error, HTTPException):
            return error_answer(error.status_code, error.detail, error.headers)
        if isinstance(error, TaggerError):
            return error_answer(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
        request.state.is_told = True
        return failure(error)

    app = Starlette(
        routes=[
            route("/", page, Right.SEE),
            Route("/static/{name:path}", static),  # open, as the login is, which needs some of them
            *session_routes(access, files["login.html"]),
            *routes,
        ],
        exception_handlers={HTTPException: failed, TaggerError: failed, Exception: failed},
    )
    app.router.redirect_slashes = False
    return Guard(app, access)


def fleet_application(find: Callable[[Mapping[str, str]], Mapping[str, Any]], access: Access) -> ASGIApp:
    """The page of a fleet.

    Args:
        find: answers what the page asks, by its parameters; raises UserError where one is wrong.
    """

    async def fleet(request: Request) -> Response:
        return await found_answer(find, dict(request.query_params))

    return guarded("fleet.html", [route("/api/fleet", fleet, Right.SEE)], access)


def application(daemon: Daemon, access: Access) -> ASGIApp:
    """The page of a daemon."""

    async def health(request: Request) -> Response:
        return json_answer(daemon.snapshot().to_json())

    async def sources(request: Request) -> Response:
        return json_answer(daemon.sources())

    async def labels(request: Request) -> Response:
        return json_answer(daemon.labels())

    async def events(request: Request) -> Response:
        return await found_answer(daemon.events, dict(request.query_params), may(request.state.role, Right.HEAR))

    async def counts(request: Request) -> Response:
        return await found_answer(daemon.counts, dict(request.query_params))

    async def levels(request: Request) -> Response:
        return await found_answer(daemon.levels, dict(request.query_params))

    async def places(request: Request) -> Response:
        return json_answer(await run_in_threadpool(daemon.places))

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
        stream = daemon.live.read(wanted)
        first = await anext(stream)  # now it counts as a reader; the response asks for the rest later
        return StreamingResponse(
            _joined(first, stream), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
        )

    async def described(request: Request) -> Response:
        return json_answer(openapi.document())

    return guarded(
        "index.html",
        [
            route("/api/health", health, Right.SEE),
            route("/api/sources", sources, Right.SEE),
            route("/api/sources/{name}", enable, Right.PAUSE, "POST"),
            route("/api/events", events, Right.SEE),
            route("/api/counts", counts, Right.SEE),
            route("/api/levels", levels, Right.SEE),
            route("/api/places", places, Right.SEE),
            route("/api/labels", labels, Right.SEE),
            *clip_routes(daemon.clips),
            *threshold_routes(daemon.thresholds),
            *health_routes(daemon.others, daemon.faults, daemon.examining),
            route("/api/live", live, Right.SEE),
            route("/api/openapi.json", described, Right.SEE),
        ],
        access,
    )
