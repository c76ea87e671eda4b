"""Routes of thresholds: what others would have given, and setting one. It knows Starlette."""

from http import HTTPStatus

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tagger.errors import UserError
from tagger.web.answers import error_answer, json_answer, wish_of
from tagger.web.guard import route
from tagger.web.roles import Right
from tagger.web.thresholds import Thresholds


def threshold_routes(thresholds: Thresholds | None) -> list[Route]:
    """
    Args:
        thresholds: None: all of these answer that there are none.
    """

    async def counted(request: Request) -> Response:
        if thresholds is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, "this daemon has no thresholds to show")
        try:
            return json_answer(await run_in_threadpool(thresholds.count, dict(request.query_params)))
        except UserError as error:
            return error_answer(HTTPStatus.BAD_REQUEST, str(error))

    async def changed(request: Request) -> Response:
        wanted = await wish_of(request)
        if thresholds is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, "this daemon has no thresholds to set")
        try:
            return json_answer(await run_in_threadpool(thresholds.set, wanted))
        except UserError as error:
            return error_answer(HTTPStatus.BAD_REQUEST, str(error))

    async def either(request: Request) -> Response:
        return await (changed if request.method == "POST" else counted)(request)

    return [route("/api/thresholds", either, Right.SET, "GET", "POST")]
