"""/deployments of the INDIGO API."""

import pydantic
from aiohttp import web

from indaco_common.auth import Principal
from indaco_common.clock import Clock
from indaco_common.errors import Forbidden, Invalid, NotFound, Unavailable, Unsupported
from indaco_common.secrets.port import Secrets
from indaco_common.store import Query, Repository, Store
from indaco_common.store.port import Scalar
from indaco_common.web import base_url, json_response, read_json
from indaco_gateway.access import Access, context
from indaco_gateway.model.operation import Operation, Resource, Status
from indaco_gateway.submission import Submission, Submissions

from . import render

DEFAULT_SIZE, MAX_SIZE = 10, 2000
MAX_KEY = 128
SORTABLE = {"createdAt": "created_at", "updatedAt": "updated_at", "status": "status", "cloudProviderName": "provider"}


class Reset(pydantic.BaseModel):
    """The body of PATCH /deployments/{id}."""

    status: str


class Deployments:
    """Create, list, show, delete, and what belongs to one deployment."""

    def __init__(
        self,
        access: Access,
        submissions: Submissions,
        operations: Repository[Operation],
        store: Store,
        secrets: Secrets,
        clock: Clock,
    ) -> None:
        self._access, self._submissions, self._operations = access, submissions, operations
        self._store, self._secrets, self._clock = store, secrets, clock

    def routes(self) -> list[web.RouteDef]:
        one = "/deployments/{id}"
        return [
            web.get("/deployments", self.index),
            web.post("/deployments", self.create),
            web.get(one, self.show),
            web.put(one, self.update),
            web.patch(one, self.reset),
            web.delete(one, self.delete),
            web.get(f"{one}/template", self.template),
            web.get(f"{one}/outputs", self.outputs),
            web.get(f"{one}/timeline", self.timeline),
            web.get(f"{one}/log", self.log),
            web.get(f"{one}/extrainfo", self.extrainfo),
            web.get(f"{one}/resources", self.resources),
            web.get(f"{one}/resources/{{rid}}", self.resource),
        ]

    async def create(self, request: web.Request) -> web.Response:
        """201 with the deployment; a repeat under the same Idempotency-Key gets the same deployment."""
        principal = await self._access.writer(request)
        key = request.headers.get("Idempotency-Key")
        if key is not None and not (0 < len(key) <= MAX_KEY and key.isascii() and key.isprintable()):
            raise Invalid(f"Idempotency-Key: 1 to {MAX_KEY} printable ASCII characters")
        body = await read_json(request, Submission)
        accepted = await self._submissions.accept(body, principal, key, context(request, principal))
        base = base_url(request)
        location = f"{base}/deployments/{accepted.operation.id}"
        headers = {"Location": location, "ETag": _etag(accepted.operation)}
        return json_response(render.deployment(accepted.operation, base), status=201, headers=headers)

    async def index(self, request: web.Request) -> web.Response:
        principal, base = await self._access.caller(request), base_url(request)
        filters = {n: v for n in ("createdBy", "userGroup", "excludedStatus") if (v := request.query.get(n))}
        number, size = _number(request.query.get("page"), 0, 0, 10**9), self._size(request)
        field, _, direction = request.query.get("sort", "createdAt,desc").partition(",")
        if field not in SORTABLE:
            raise Invalid(f"sort: {field[:50]!r} is not one of {', '.join(SORTABLE)}")
        query = Query(
            equal=self._visible(principal, filters), none_of={"status": self._excluded(filters)}, order_by=SORTABLE[field],
            descending=direction != "asc", offset=number * size, limit=size,
        )  # fmt: skip
        found, total = await self._operations.find(query)
        content = [render.deployment(op, base) for op in found]
        return json_response(
            render.page(content, url=f"{base}/deployments", filters=filters, number=number, size=size, total=total)
        )

    def _visible(self, principal: Principal, filters: dict[str, str]) -> dict[str, Scalar]:
        """Everybody sees their own; an administrator all of the issuer, or somebody's. Raises: Forbidden, Invalid."""
        equal: dict[str, Scalar] = {"owner.issuer": principal.issuer}
        asked, is_admin = filters.get("createdBy"), self._access.is_admin(principal)
        if asked in (None, "me") and not (asked is None and is_admin):
            equal["owner.subject"] = principal.subject
        elif asked is not None:
            subject, at, issuer = asked.partition("@")
            if not (subject and at and issuer):
                raise Invalid(f"Value {asked[:100]} for param createdBy is illegal")
            if not is_admin and (subject, issuer.rstrip("/")) != (principal.subject, principal.issuer.rstrip("/")):
                raise Forbidden(f"Only admin can retrieve deployments for {asked[:100]}")
            equal["owner.subject"] = subject
        if group := filters.get("userGroup"):
            if group.removeprefix("/") not in principal.groups:
                raise Forbidden(f"The group {group[:100]} is not in the user's authorized groups")
            equal["group.path"] = group.removeprefix("/")
        return equal

    def _excluded(self, filters: dict[str, str]) -> list[Scalar]:
        """Which states not to list; deleted ones only if nothing is said, as old clients expect."""
        if "excludedStatus" not in filters:
            return [Status.DELETE_COMPLETE.value]
        return list[Scalar](name.strip() for name in filters["excludedStatus"].split(",") if name.strip())[:20]

    def _size(self, request: web.Request) -> int:
        """INDIGO's default page, but all at once for orpy, whose paging is broken."""
        default = MAX_SIZE if request.headers.get("User-Agent", "").startswith("orpy") else DEFAULT_SIZE
        return _number(request.query.get("size"), default, 1, MAX_SIZE)

    async def show(self, request: web.Request) -> web.Response:
        op, _ = await self._access.readable(request)
        etag = _etag(op)
        if request.headers.get("If-None-Match") == etag:
            return web.Response(status=304, headers={"ETag": etag})
        return json_response(render.deployment(op, base_url(request)), headers={"ETag": etag})

    async def update(self, request: web.Request) -> web.Response:
        await self._access.owned(request)
        raise Unsupported("Updates are not offered yet; delete the deployment and create another")

    async def delete(self, request: web.Request) -> web.Response:
        """204; a body is ignored."""
        await self._access.writer(request)
        op, principal = await self._access.owned(request)
        force = request.query.get("force", "false").lower() == "true"
        async with self._operations.edit(op.id, context(request, principal)) as current:
            current.delete(force=force, now=self._clock.now())
        return web.Response(status=204)

    async def reset(self, request: web.Request) -> web.Response:
        """204; the only reset that INDIGO knows is that of a deletion that hangs."""
        await self._access.writer(request)
        op, principal = await self._access.owned(request)
        asked = (await read_json(request, Reset)).status
        if asked != Status.DELETE_FAILED:
            raise Invalid(f"Cannot reset deployment: illegal status {asked[:50]}.")
        async with self._operations.edit(op.id, context(request, principal)) as current:
            current.reset(self._clock.now())
        return web.Response(status=204)

    async def template(self, request: web.Request) -> web.Response:
        op, _ = await self._access.readable(request)
        body = await self._store.get_blob(op.template)
        if body is None:
            raise Unavailable("The template is not in the store")
        return _text(request, body.decode())

    async def outputs(self, request: web.Request) -> web.Response:
        """All outputs, secret ones too: for the owner alone."""
        op, _ = await self._access.owned(request)
        outputs = dict(op.outputs)
        if op.secret_outputs:
            outputs |= await self._secrets.get(f"outputs/{op.id}") or {}
        return json_response(outputs, headers={"Cache-Control": "no-store"})

    async def timeline(self, request: web.Request) -> web.Response:
        op, _ = await self._access.readable(request)
        return json_response({"content": [step.model_dump(mode="json") for step in op.timeline]})

    async def log(self, request: web.Request) -> web.Response:
        op, _ = await self._access.owned(request)
        lines = [f"{s.at:%Y-%m-%d %H:%M:%S}: {s.title}" + (f": {s.detail}" if s.detail else "") for s in op.timeline]
        return _text(request, "\n".join([*lines, op.reason]) if op.reason else "\n".join(lines))

    async def extrainfo(self, request: web.Request) -> web.Response:
        await self._access.owned(request)
        return _text(request, "[]")

    async def resources(self, request: web.Request) -> web.Response:
        op, _ = await self._access.readable(request)
        base = base_url(request)
        content = [render.resource(op, machine, base) for machine in op.resources]
        number, size = _number(request.query.get("page"), 0, 0, 10**9), self._size(request)
        some = content[number * size : (number + 1) * size]
        url = f"{base}/deployments/{op.id}/resources"
        return json_response(render.page(some, url=url, filters={}, number=number, size=size, total=len(content)))

    async def resource(self, request: web.Request) -> web.Response:
        op, _ = await self._access.readable(request)
        return json_response(render.resource(op, _machine(op, request.match_info["rid"]), base_url(request)))


def _machine(op: Operation, rid: str) -> Resource:
    found = next((machine for machine in op.resources if machine.uuid == rid), None)
    if found is None:
        raise NotFound(f"The resource <{rid[:100]}> in deployment <{op.id}> doesn't exist")
    return found


def _number(text: str | None, default: int, least: int, most: int) -> int:
    """Read a paging parameter as leniently as INDIGO does."""
    if text is None or not text.isascii() or not text.isdigit() or int(text[:12]) < least:
        return default
    return min(int(text[:12]), most)


def _etag(op: Operation) -> str:
    return f'"{op.version}"'


def _text(request: web.Request, text: str) -> web.Response:
    """Raw text, whatever was asked for: a client that wants JSON gets the name of it, as from INDIGO."""
    wants_json = "application/json" in request.headers.get("Accept", "")
    return web.Response(text=text, content_type="application/json" if wants_json else "text/plain", charset="utf-8")
