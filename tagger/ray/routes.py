"""The HTTP interface: a recording is the body of a POST, its answer JSON. It knows Starlette, and no Ray."""

import asyncio
import functools
import json
import logging
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from tagger import __version__
from tagger.errors import UserError, near
from tagger.ray.hearing import PARTS, Hearing, NoAudioError, TooLongError, Wish

log = logging.getLogger(__name__)

_ASKED = ("file", "top", "channel", "allow", "deny", "threshold", "parts")
_LONGEST_NAME = 1_000
_RETRY_SECONDS = "2"
_DRAIN_SECONDS, _DRAIN_BYTES = 2.0, 20_000_000
"""How much of a recording that is refused is still read."""


def application(hearing: Hearing) -> ASGIApp:
    """The routes `POST /tag`, `GET /healthz` and `GET /`."""
    return _Routes(hearing).app


class _Routes:
    """What one replica answers."""

    def __init__(self, hearing: Hearing) -> None:
        self._hearing, self._options = hearing, hearing.options
        self._threads = ThreadPoolExecutor(self._options.threads, "hear")
        self._here = 0
        """Recordings that come in, wait or are heard."""
        self.app = Starlette(
            routes=[
                Route("/tag", self._tag, methods=["POST"]),
                Route("/healthz", self._health),
                Route("/", self._about),
            ],
            exception_handlers={HTTPException: _failed, Exception: _failed},
        )
        self.app.router.redirect_slashes = False

    async def _health(self, request: Request) -> Response:
        return _answer({"status": "ok", "recordings": self._here})

    async def _about(self, request: Request) -> Response:
        options = self._options
        limits = {"most_mb": options.most_mb, "most_minutes": options.most_minutes}
        about = {"tagger": __version__, "models": options.models, "labels": self._hearing.labels}
        return _answer({**about, **limits, "tag": f"POST /tag?{'&'.join(f'{name}=' for name in _ASKED)}"})

    async def _tag(self, request: Request) -> Response:
        wish = _wish(request)
        try:
            self._hearing.rules(wish)
        except UserError as error:
            raise HTTPException(HTTPStatus.BAD_REQUEST, str(error)) from None
        if request.headers.get("content-type", "").startswith("multipart/"):
            how = "send the recording itself as the body: curl --data-binary @recording.flac"
            raise HTTPException(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"a form is no recording; {how}")
        most = round(self._options.most_mb * 1_000_000)
        length = request.headers.get("content-length", "")
        if length.isdecimal() and (len(length) > 15 or int(length) > most):
            raise _too_large(self._options.most_mb)
        async with self._room():
            with TemporaryDirectory(prefix="tagger-") as folder:
                path = Path(folder, self._hearing.name_of(wish))
                try:
                    async with asyncio.timeout(self._options.body_s):
                        await self._received(request, path, most)
                except TimeoutError:
                    raise HTTPException(HTTPStatus.REQUEST_TIMEOUT, "the recording came too slowly") from None
                request.state.is_read = True
                return await self._heard(path, wish)

    @asynccontextmanager
    async def _room(self) -> AsyncIterator[None]:
        if self._here >= self._options.most_waiting:
            headers = {"Retry-After": _RETRY_SECONDS}
            raise HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, "too many recordings wait; ask again", headers)
        self._here += 1
        try:
            yield
        finally:
            self._here -= 1

    async def _received(self, request: Request, path: Path, most: int) -> None:
        """Writes the body into a file."""
        pieces, size = aiter(request.stream()), 0
        try:
            with path.open("xb") as file:
                while (piece := await asyncio.wait_for(anext(pieces, None), self._options.idle_s)) is not None:
                    size += len(piece)
                    if size > most:
                        raise _too_large(self._options.most_mb)
                    file.write(piece)
        except ClientDisconnect:
            raise HTTPException(HTTPStatus.BAD_REQUEST, "the recording is not complete") from None
        if not size:
            raise HTTPException(HTTPStatus.BAD_REQUEST, "the body is empty; it must be a recording")

    async def _heard(self, path: Path, wish: Wish) -> Response:
        is_stopped = threading.Event()
        hear = functools.partial(self._hearing.hear, path, wish, is_stopped.is_set)
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._threads, hear)
        except NoAudioError as error:
            raise HTTPException(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, str(error)) from None
        except TooLongError as error:
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, str(error)) from None
        except UserError as error:
            raise HTTPException(HTTPStatus.BAD_REQUEST, str(error)) from None
        finally:
            is_stopped.set()
        return _answer(found, HTTPStatus.OK if found["error"] is None else HTTPStatus.UNPROCESSABLE_ENTITY)


def _too_large(most_mb: float) -> HTTPException:
    return HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the recording is larger than {most_mb:g} MB")


def _answer(found: Mapping[str, Any], status: int = HTTPStatus.OK) -> Response:
    body = json.dumps(found, allow_nan=False)
    return Response(body, status, media_type="application/json", headers={"Cache-Control": "no-store"})


async def _failed(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        headers = dict(error.headers or {})
        if request.method == "POST" and not await _is_at_its_end(request):
            headers["Connection"] = "close"  # else the server would read on, and throw away, for as long as they send
        return Response(json.dumps({"error": error.detail}), error.status_code, headers, "application/json")
    log.error("%s: %s", request.scope["path"], type(error).__name__, exc_info=error)
    return _answer({"error": "something failed; the log says what"}, HTTPStatus.INTERNAL_SERVER_ERROR)


async def _is_at_its_end(request: Request) -> bool:
    """Throws away what comes within a moment: clients that still send would not see the answer. Whether that is all."""
    if getattr(request.state, "is_read", False):
        return True
    if request.headers.get("content-length", "0") == "0" and "transfer-encoding" not in request.headers:
        return True
    size = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_SECONDS):
            while size < _DRAIN_BYTES:
                message = await request.receive()
                size += len(message.get("body", b""))
                if not message.get("more_body", False):
                    return True
    return False


def _wish(request: Request) -> Wish:
    """What the query asks for.

    Raises:
        HTTPException: it cannot be.
    """
    query = request.query_params
    if unknown := [name for name in query if name not in _ASKED]:
        raise HTTPException(HTTPStatus.BAD_REQUEST, f"{unknown[0][:99]}: is unknown{near(unknown[0], _ASKED)}")

    def listed(name: str) -> tuple[str, ...]:
        return tuple(part for text in query.getlist(name) for part in text.split(",") if part)

    def one(name: str, of: Callable[[str], Any], default: Any, must: str) -> Any:
        if name not in query:
            return default
        try:
            return of(query[name])
        except ValueError:
            raise HTTPException(HTTPStatus.BAD_REQUEST, f"{name}: must be {must}") from None

    def thresholds() -> tuple[tuple[str, float], ...]:
        found = []
        for text in query.getlist("threshold"):
            label, equals, value = text.rpartition("=")
            try:
                found.append((label, float(value)))
            except ValueError:
                equals = ""
            if not equals:
                raise HTTPException(HTTPStatus.BAD_REQUEST, "threshold: must be LABEL=SCORE, such as siren=0.8")
        return tuple(found)

    parts = listed("parts") or PARTS
    if set(parts) - set(PARTS):
        raise HTTPException(HTTPStatus.BAD_REQUEST, f"parts: must be some of {','.join(PARTS)}")
    return Wish(
        file=query.get("file", "recording")[:_LONGEST_NAME],
        top=one("top", _count, 5, "a number from 1 to 1000"),
        channel=one("channel", _channels, (), "mix, a number from 1, or several such as 1,3"),
        allow=tuple(query.getlist("allow")),
        deny=tuple(query.getlist("deny")),
        thresholds=thresholds(),
        parts=parts,
    )


def _count(text: str) -> int:
    if not 1 <= (found := int(text[:9])) <= 1000:
        raise ValueError
    return found


def _channels(text: str) -> tuple[int, ...]:
    if text == "mix":
        return ()
    found = tuple(int(each[:9]) for each in text.split(","))
    if min(found) < 1 or len(found) > 64:
        raise ValueError
    return found
