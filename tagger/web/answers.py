"""Answers of the web application, and what requests carry. It knows Starlette."""

import json
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from tagger import unforeseen
from tagger.errors import UserError
from tagger.web.files import PageFile

MOST_BYTES = 4_096
"""Longest body of a request, bytes, where its path does not say another."""


async def body_of(request: Request, most: int = MOST_BYTES) -> bytes:
    """A request's body.

    Args:
        most: its greatest length, bytes.

    Raises:
        HTTPException: it is too long, or its sender has gone.
    """
    body = b""
    try:
        async for piece in request.stream():
            body += piece
            if len(body) > most:
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body has more than {most} bytes")
    except ClientDisconnect:
        raise HTTPException(HTTPStatus.BAD_REQUEST, "the body is not complete") from None
    return body


async def wish_of(request: Request, most: int = MOST_BYTES) -> Mapping[str, Any]:
    """The JSON object that a request carries. A form, which other sites' pages can send, is refused.

    Raises:
        HTTPException: it is something else.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise HTTPException(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "the body must be application/json")
    try:
        found = json.loads(await body_of(request, most))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise HTTPException(HTTPStatus.BAD_REQUEST, "the body must be a JSON object")
    return found


def json_answer(found: Mapping[str, Any]) -> Response:
    body = json.dumps(found, separators=(",", ":"), allow_nan=False)
    return Response(body, media_type="application/json", headers={"Cache-Control": "no-store"})


async def found_answer(find: Callable[..., Mapping[str, Any]], *values: Any) -> Response:
    """What a function finds, as JSON; where what is asked for is wrong (UserError), that.

    Args:
        find: called in a thread, as it may read or compute for long.
        values: its arguments.
    """
    try:
        return json_answer(await run_in_threadpool(find, *values))
    except UserError as error:
        return error_answer(HTTPStatus.BAD_REQUEST, str(error))


def error_answer(status: int, why: str, headers: Mapping[str, str] | None = None) -> Response:
    """
    Args:
        headers: further ones, such as `Allow` where the path has other methods.
    """
    body, always = json.dumps({"error": why}), {"Cache-Control": "no-store"}
    return Response(body, status, media_type="application/json", headers={**(headers or {}), **always})


def failure(error: Exception) -> Response:
    """The answer where an exception came that nobody foresaw, which is told."""
    unforeseen.tell("the live page: a request", error)
    return error_answer(HTTPStatus.INTERNAL_SERVER_ERROR, "something failed; the log says what")


def file_answer(request: Request, file: PageFile) -> Response:
    headers = {"ETag": file.tag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
    if request.headers.get("if-none-match") == file.tag:
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(file.packed, headers={**headers, "Content-Encoding": "gzip"}, media_type=file.kind)
    return Response(file.content, headers=headers, media_type=file.kind)


def redirect(where: str) -> Response:
    """To another page, by a relative address: a proxy may put this page below another path."""
    return Response(status_code=HTTPStatus.SEE_OTHER, headers={"Location": where, "Cache-Control": "no-store"})
