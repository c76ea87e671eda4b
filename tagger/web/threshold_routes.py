"""Routes of thresholds: what others would have given, and setting one. It knows Starlette."""

from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tagger.web.answers import found_answer, wish_of
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
        return await found_answer(thresholds.count, dict(request.query_params))

    async def changed(request: Request) -> Response:
        wanted = await wish_of(request)
        if thresholds is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, "this daemon has no thresholds to set")
        return await found_answer(thresholds.set, wanted)

    async def either(request: Request) -> Response:
        return await (changed if request.method == "POST" else counted)(request)

    return [route("/api/thresholds", either, Right.SET, "GET", "POST")]
