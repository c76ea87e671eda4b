"""Routes of saved clips: their list, their sound, their picture, and the marks of a review. It knows Starlette."""

from http import HTTPStatus

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tagger.errors import AudioError, UserError
from tagger.web.answers import error_answer, found_answer, json_answer, wish_of
from tagger.web.clips import ClipFile, Clips, NoClipError, ranges
from tagger.web.guard import route
from tagger.web.roles import Right

_MOST_MARK_BYTES = 65_536
"""Longest body of marks, bytes."""


def clip_routes(kept: Clips | None) -> list[Route]:
    """
    Args:
        kept: None: no audio is kept, and all of these answer that.
    """

    def clips() -> Clips:
        if kept is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, "no audio is kept; tagger listen --save-clips DIR keeps it")
        return kept

    async def listed(request: Request) -> Response:
        return await found_answer(clips().list, dict(request.query_params))

    async def marked(request: Request) -> Response:
        found, wanted = clips(), await wish_of(request, _MOST_MARK_BYTES)
        try:
            return json_answer(await run_in_threadpool(found.mark, wanted))
        except NoClipError as error:
            return error_answer(HTTPStatus.NOT_FOUND, str(error))
        except UserError as error:
            return error_answer(HTTPStatus.BAD_REQUEST, str(error))

    async def sound(request: Request) -> Response:
        try:
            return _sound(request, await run_in_threadpool(clips().file, request.path_params["id"]))
        except NoClipError as error:
            return error_answer(HTTPStatus.NOT_FOUND, str(error))

    async def picture(request: Request) -> Response:
        try:
            return json_answer(await run_in_threadpool(clips().picture, request.path_params["id"]))
        except (NoClipError, AudioError) as error:
            return error_answer(HTTPStatus.NOT_FOUND, str(error))

    return [
        route("/api/clips", listed, Right.MARK),
        route("/api/clips/marks", marked, Right.MARK, "POST"),
        route("/api/clips/{id}", sound, Right.HEAR),
        route("/api/clips/{id}/spectrogram", picture, Right.HEAR),
    ]


def _sound(request: Request, file: ClipFile) -> Response:
    kind = "attachment" if "download" in request.query_params else "inline"
    headers = {
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",
        "Content-Disposition": f'{kind}; filename="{file.name}"',
        "ETag": file.tag,
    }
    size = len(file.content)
    if request.headers.get("if-none-match") == file.tag:
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    wanted = request.headers.get("range") if request.headers.get("if-range", file.tag) == file.tag else None
    try:
        part = ranges(wanted, size)
    except ValueError:
        answer = error_answer(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, f"the clip has {size} bytes")
        answer.headers["Content-Range"] = f"bytes */{size}"
        return answer
    if part is None:
        return Response(file.content, headers=headers, media_type="audio/flac")
    first, last = part
    headers["Content-Range"] = f"bytes {first}-{last}/{size}"
    return Response(file.content[first : last + 1], HTTPStatus.PARTIAL_CONTENT, headers, "audio/flac")
