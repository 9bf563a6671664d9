"""/deployments of the INDIGO API: create, list, show, update, reset, delete."""

from aiohttp import web

from indaco_common.clock import Clock
from indaco_common.errors import Invalid
from indaco_common.recent import Recent
from indaco_common.store import Found, Repository
from indaco_common.web import describe, excerpt, idempotency_key, is_known, json_response, json_text, read_json
from indaco_gateway.identity.access import KEPT, Access, Right, Shown, context
from indaco_gateway.model.operation import Facts, Operation, Status
from indaco_gateway.races import rerun
from indaco_gateway.revision import Revision, Revisions
from indaco_gateway.submission import Submission, Submissions

from . import render
from .listing import Paging, filters_of, query_of
from .shapes import DeleteQuery, IndigoDeployment, IndigoDeployments, ListQuery, Reset

TAG = "deployments"
KEY = "A repeat under the same key gets the same deployment; 1 to 128 printable ASCII characters"


class Deployments:
    """What changes deployments, and the two views that most clients live on."""

    def __init__(
        self,
        access: Access,
        submissions: Submissions,
        revisions: Revisions,
        operations: Repository[Operation],
        clock: Clock,
    ) -> None:
        self._access, self._submissions, self._revisions = access, submissions, revisions
        self._operations, self._clock = operations, clock
        self._kept: Recent[Found, Shown] = Recent(KEPT)

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

    @describe(
        "Create a deployment", tag=TAG, body=Submission, answers={201: IndigoDeployment}, headers={"Idempotency-Key": KEY},
        errors=(400, 401, 403, 409, 413, 415, 422, 429, 503),
    )  # fmt: skip
    async def create(self, request: web.Request) -> web.Response:
        """201 with the deployment; a repeat under the same Idempotency-Key gets the same deployment."""
        principal = await self._access.writer(request)
        key = idempotency_key(request)
        body = await read_json(request, Submission)
        await self._access.delegate(request, principal)
        operation = await self._submissions.accept(body, principal, key, context(request, principal))
        base = self._access.base(request)
        headers = {"Location": f"{base}/deployments/{operation.id}", "ETag": _etag(operation)}
        return json_response(render.deployment(operation, base), status=201, headers=headers)

    @describe(
        "List deployments", tag=TAG, query=ListQuery, answers={200: IndigoDeployments}, errors=(400, 401, 403, 429)
    )
    async def index(self, request: web.Request) -> web.Response:
        """Your own, newest first; administrators see all of their issuer."""
        principal, base = await self._access.caller(request), self._access.base(request)
        filters, paging = filters_of(request), Paging.of(request)
        query = query_of(filters, paging, principal, is_admin=self._access.reads_all(principal))
        found, total = await self._operations.find_parts(query, Facts)
        content = [render.deployment(operation, base) for operation in found]
        return json_response(
            render.page(content, url=f"{base}/deployments", filters=filters, paging=paging, total=total)
        )

    @describe(
        "Show a deployment", tag=TAG, answers={200: IndigoDeployment, 304: None}, errors=(401, 404, 429),
        headers={"If-None-Match": "An ETag that is known: 304 if it still holds"},
    )  # fmt: skip
    async def show(self, request: web.Request) -> web.Response:
        base = self._access.base(request)
        found = await self._access.shown(
            request, lambda facts: json_text(render.deployment(facts, base)), self._kept, base
        )
        headers = {"ETag": _etag(found)}
        if is_known(request, _etag(found)):
            return web.Response(status=304, headers=headers)
        return json_response(found.text, headers=headers)

    @describe(
        "Update a deployment", tag=TAG, body=Revision, answers={202: IndigoDeployment},
        errors=(400, 401, 403, 404, 409, 413, 415, 422, 423, 429, 503),
    )  # fmt: skip
    async def update(self, request: web.Request) -> web.Response:
        """202 with the deployment: parameters are merged with those it has, a template replaces its own. More machines of a kind
        that runs can be asked for; anything else is refused as a whole (422), with every change and why.
        """
        operation, principal = await self._access.operation(request, Right.CHANGE)
        body = await read_json(request, Revision)
        await self._access.delegate(request, principal)
        updated = await self._revisions.accept(operation.id, body, principal, context(request, principal))
        headers = {"ETag": _etag(updated)}
        return json_response(render.deployment(updated, self._access.base(request)), status=202, headers=headers)

    @describe(
        "Delete a deployment", tag=TAG, query=DeleteQuery, answers={204: None}, errors=(401, 403, 404, 409, 423, 429)
    )
    async def delete(self, request: web.Request) -> web.Response:
        """204; a body is ignored."""
        operation, principal = await self._access.operation(request, Right.CHANGE)
        force, ctx = request.query.get("force", "").lower() == "true", context(request, principal)

        async def once() -> None:
            async with self._operations.edit(operation.id, ctx) as current:
                current.delete(force=force, now=self._clock.now())

        await rerun(once)
        return web.Response(status=204)

    @describe(
        "Reset a deletion that hangs", tag=TAG, body=Reset, answers={204: None},
        errors=(400, 401, 403, 404, 409, 415, 429),
    )  # fmt: skip
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


def _etag(operation: Facts | Shown) -> str:
    return f'"{operation.version}"'
