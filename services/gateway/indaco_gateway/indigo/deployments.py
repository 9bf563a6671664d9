"""/deployments of the INDIGO API: create, list, show, delete."""

import pydantic
from aiohttp import web

from indaco_common.clock import Clock
from indaco_common.errors import Invalid, Unsupported
from indaco_common.store import Repository
from indaco_common.web import excerpt, json_response, read_json
from indaco_gateway.access import Access, Right, context
from indaco_gateway.model.operation import Operation, Status
from indaco_gateway.races import rerun
from indaco_gateway.submission import Submission, Submissions

from . import render
from .listing import Paging, filters_of, query_of

MAX_KEY = 128  # characters of an Idempotency-Key


class Reset(pydantic.BaseModel):
    """The body of PATCH /deployments/{id}."""

    status: str


class Deployments:
    """What changes deployments, and the two views that most clients live on."""

    def __init__(
        self, access: Access, submissions: Submissions, operations: Repository[Operation], clock: Clock
    ) -> None:
        self._access, self._submissions, self._operations, self._clock = access, submissions, operations, clock

    def routes(self) -> list[web.RouteDef]:
        one = "/deployments/{id}"
        return [
            web.get("/deployments", self.index),
            web.post("/deployments", self.create),
            web.get(one, self.show),
            web.put(one, self.update),
            web.patch(one, self.reset),
            web.delete(one, self.delete),
        ]

    async def create(self, request: web.Request) -> web.Response:
        """201 with the deployment; a repeat under the same Idempotency-Key gets the same deployment."""
        principal = await self._access.writer(request)
        key = request.headers.get("Idempotency-Key")
        if key is not None and not (0 < len(key) <= MAX_KEY and key.isascii() and key.isprintable()):
            raise Invalid(f"Idempotency-Key: 1 to {MAX_KEY} printable ASCII characters")
        body = await read_json(request, Submission)
        operation = await self._submissions.accept(body, principal, key, context(request, principal))
        base = self._access.base(request)
        headers = {"Location": f"{base}/deployments/{operation.id}", "ETag": _etag(operation)}
        return json_response(render.deployment(operation, base), status=201, headers=headers)

    async def index(self, request: web.Request) -> web.Response:
        principal, base = await self._access.caller(request), self._access.base(request)
        filters, paging = filters_of(request), Paging.of(request)
        query = query_of(filters, paging, principal, is_admin=self._access.is_admin(principal))
        found, total = await self._operations.find(query)
        content = [render.deployment(operation, base) for operation in found]
        return json_response(
            render.page(content, url=f"{base}/deployments", filters=filters, paging=paging, total=total)
        )

    async def show(self, request: web.Request) -> web.Response:
        operation, _ = await self._access.operation(request, Right.READ)
        headers = {"ETag": _etag(operation)}
        if _is_known(request, operation):
            return web.Response(status=304, headers=headers)
        return json_response(render.deployment(operation, self._access.base(request)), headers=headers)

    async def update(self, request: web.Request) -> web.Response:
        await self._access.operation(request, Right.CHANGE)
        raise Unsupported("Updates are not offered yet; delete the deployment and create another")

    async def delete(self, request: web.Request) -> web.Response:
        """204; a body is ignored."""
        operation, principal = await self._access.operation(request, Right.CHANGE)
        force, ctx = request.query.get("force", "").lower() == "true", context(request, principal)

        async def once() -> None:
            async with self._operations.edit(operation.id, ctx) as current:
                current.delete(force=force, now=self._clock.now())

        await rerun(once)
        return web.Response(status=204)

    async def reset(self, request: web.Request) -> web.Response:
        """204; the only reset that INDIGO knows is that of a deletion that hangs."""
        operation, principal = await self._access.operation(request, Right.CHANGE)
        asked, ctx = (await read_json(request, Reset)).status, context(request, principal)
        if asked != Status.DELETE_FAILED:
            raise Invalid(f"Cannot reset deployment: illegal status {excerpt(asked)}.")

        async def once() -> None:
            async with self._operations.edit(operation.id, ctx) as current:
                current.reset(self._clock.now())

        await rerun(once)
        return web.Response(status=204)


def _etag(operation: Operation) -> str:
    return f'"{operation.version}"'


def _is_known(request: web.Request, operation: Operation) -> bool:
    """Has the caller this version already (If-None-Match, RFC 9110 §13.1.2: a list, weakly compared)?"""
    tags = (tag.strip().removeprefix("W/") for tag in request.headers.get("If-None-Match", "").split(","))
    return any(tag in ("*", _etag(operation)) for tag in tags)
