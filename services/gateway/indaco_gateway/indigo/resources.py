"""/deployments/{id}/resources of the INDIGO API: machines, containers and buckets, and what can be done to them."""

from aiohttp import web

from indaco_common.clock import Clock
from indaco_common.errors import Invalid, NotFound
from indaco_common.store import Repository
from indaco_common.web import describe, excerpt, json_response, read_json
from indaco_gateway.identity.access import Access, Right, context
from indaco_gateway.model import acting
from indaco_gateway.model.operation import Operation
from indaco_gateway.model.resources import Resource, resources
from indaco_gateway.races import rerun

from . import render
from .listing import Paging
from .shapes import Action, IndigoResource, IndigoResourceArray, IndigoResources, ResourcesQuery, TypeQuery

UNEXPANDED = "{type}"  # of the link that every deployment has; some clients follow it as it is
TAG = "resources"


class Resources:
    """Reads, and one verb."""

    def __init__(self, access: Access, operations: Repository[Operation], clock: Clock) -> None:
        self._access, self._operations, self._clock = access, operations, clock

    def routes(self) -> list[web.RouteDef]:
        all = "/deployments/{id}/resources"  # noqa: A001 - what it is
        return [
            web.get(all, self.index),
            web.get(f"{all}/filter", self.filter),
            web.get(f"{all}/{{rid}}", self.show),
            web.post(f"{all}/{{rid}}/actions", self.act),
        ]

    @describe(
        "List resources", tag=TAG, query=ResourcesQuery, answers={200: IndigoResources}, errors=(400, 401, 404, 429)
    )
    async def index(self, request: web.Request) -> web.Response:
        """In the order of the template; `type` also finds what derives from it."""
        operation, _ = await self._access.operation(request, Right.READ)
        paging, type = Paging.of(request), request.query.get("type") or UNEXPANDED
        paging.order()
        filters = {} if type == UNEXPANDED else {"type": type}
        found = [each for each in resources(operation) if not filters or each.is_a(type)]
        begin = paging.number * paging.size
        base = self._access.base(request)
        content = [render.resource(operation, each, base) for each in found[begin : begin + paging.size]]
        url = f"{base}/deployments/{operation.id}/resources"
        return json_response(render.page(content, url=url, filters=filters, paging=paging, total=len(found)))

    @describe(
        "List the resources of a type", tag=TAG, query=TypeQuery, answers={200: IndigoResourceArray},
        errors=(400, 401, 404, 429),
    )  # fmt: skip
    async def filter(self, request: web.Request) -> web.Response:
        """A plain array of all that match."""
        operation, _ = await self._access.operation(request, Right.READ)
        type, base = request.query.get("type", "").strip(), self._access.base(request)
        if not type:
            raise Invalid("Required String parameter 'type' cannot be empty")
        found = [render.resource(operation, each, base) for each in resources(operation) if each.is_a(type)]
        return web.json_response(found)

    @describe("Show a resource", tag=TAG, answers={200: IndigoResource}, errors=(401, 404, 429))
    async def show(self, request: web.Request) -> web.Response:
        operation, _ = await self._access.operation(request, Right.READ)
        rid = request.match_info["rid"]
        found = _find(operation, rid)
        if found is None:
            raise NotFound(f"The resource <{excerpt(rid)}> in deployment <{operation.id}> doesn't exist")
        return json_response(render.resource(operation, found, self._access.base(request)))

    @describe(
        "Start or stop a machine",
        tag=TAG,
        body=Action,
        answers={202: IndigoResource},
        errors=(400, 401, 403, 404, 409, 415, 423, 429),
    )
    async def act(self, request: web.Request) -> web.Response:
        """202 with the resource: `STOPPING` until it is `STOPPED`, `STARTING` until it is `STARTED`, or what it was if that fails."""
        operation, principal = await self._access.operation(request, Right.CHANGE)
        type, rid = (await read_json(request, Action)).type, request.match_info["rid"]
        if type is None:
            raise Invalid("An action type must be provided")
        if (action := acting.named(type)) is None:
            raise Invalid(f"The action {excerpt(type)!r} is not one of {', '.join(acting.WANTED)}")
        ctx = context(request, principal)

        async def once() -> Operation:
            async with self._operations.edit(operation.id, ctx) as current:
                if (found := _find(current, rid)) is None:  # 400 as from INDIGO, which its clients show as it is
                    raise Invalid(f"Resource <{excerpt(rid)}> not found in deployment <{operation.id}>")
                acting.require_actable(current)
                acting.require_fitting(found, action)
                acting.act(current, action, [found], self._clock.now())
            return current

        acted = await rerun(once)
        [found] = [each for each in resources(acted) if each.uuid == rid]
        return json_response(render.resource(acted, found, self._access.base(request)), status=202)


def _find(operation: Operation, rid: str) -> Resource | None:
    return next((each for each in resources(operation) if each.uuid == rid), None)
