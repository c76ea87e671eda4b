"""Routes of the view Health, beside the daemon's own: other nodes, last faults, doctor's list. It knows Starlette."""

from http import HTTPStatus

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tagger.faults import Faults
from tagger.mqtt.nodes import Nodes
from tagger.web.answers import json_answer, wish_of
from tagger.web.examining import Examining
from tagger.web.guard import route
from tagger.web.roles import Right


def health_routes(nodes: Nodes, faults: Faults, examining: Examining | None) -> list[Route]:
    """
    Args:
        examining: None: the checks cannot be run, and both answers say so.
    """

    async def others(request: Request) -> Response:
        return json_answer(await run_in_threadpool(nodes.to_json))

    async def told(request: Request) -> Response:
        return json_answer(faults.to_json())

    async def found(request: Request) -> Response:
        return json_answer(there_is().to_json())

    async def examined(request: Request) -> Response:
        if await wish_of(request):
            raise HTTPException(HTTPStatus.BAD_REQUEST, "the body must be {}")
        return json_answer(there_is().start())

    async def doctor(request: Request) -> Response:
        return await (examined if request.method == "POST" else found)(request)

    def there_is() -> Examining:
        if examining is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, "this daemon cannot examine itself; run tagger doctor")
        return examining

    return [
        route("/api/nodes", others, Right.SEE),
        route("/api/faults", told, Right.SET),
        route("/api/doctor", doctor, Right.SET, "GET", "POST"),
    ]
