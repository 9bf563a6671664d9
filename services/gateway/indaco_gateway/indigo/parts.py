"""What belongs to one deployment: template, outputs, timeline, log, resources."""

from aiohttp import web

from indaco_common.errors import NotFound, Unavailable
from indaco_common.secrets.port import Secrets
from indaco_common.store import Store
from indaco_common.web import excerpt, json_response
from indaco_gateway.access import Access, Right
from indaco_gateway.model.resources import resources

from . import render
from .listing import Paging

UNEXPANDED = "{type}"  # of the link that every deployment has; some clients follow it as it is


class Parts:
    """Reads; secrets and the log are for the owner alone."""

    def __init__(self, access: Access, store: Store, secrets: Secrets) -> None:
        self._access, self._store, self._secrets = access, store, secrets

    def routes(self) -> list[web.RouteDef]:
        one = "/deployments/{id}"
        return [
            web.get(f"{one}/template", self.template),
            web.get(f"{one}/outputs", self.outputs),
            web.get(f"{one}/timeline", self.timeline),
            web.get(f"{one}/log", self.log),
            web.get(f"{one}/extrainfo", self.extrainfo),
            web.get(f"{one}/resources", self.resources),
            web.get(f"{one}/resources/{{rid}}", self.resource),
        ]

    async def template(self, request: web.Request) -> web.Response:
        operation, _ = await self._access.operation(request, Right.READ)
        text = await self._store.get_blob(operation.template)
        if text is None:
            raise Unavailable("The template is not in the store")
        return _text(request, text.decode())

    async def outputs(self, request: web.Request) -> web.Response:
        """All outputs, secret ones too."""
        operation, _ = await self._access.operation(request, Right.OWN)
        outputs = dict(operation.outputs)
        if operation.secret_outputs:
            outputs |= await self._secrets.get(f"outputs/{operation.id}") or {}
        return json_response(outputs)

    async def timeline(self, request: web.Request) -> web.Response:
        operation, _ = await self._access.operation(request, Right.READ)
        return json_response({"content": [step.model_dump(mode="json") for step in operation.timeline]})

    async def log(self, request: web.Request) -> web.Response:
        """The timeline as text, and the reason of a failure."""
        operation, _ = await self._access.operation(request, Right.OWN)
        lines = [
            f"{step.at:%Y-%m-%d %H:%M:%S}: {step.title}" + (f": {step.detail}" if step.detail else "")
            for step in operation.timeline
        ]
        return _text(request, "\n".join(filter(None, (*lines, operation.reason))))

    async def extrainfo(self, request: web.Request) -> web.Response:
        await self._access.operation(request, Right.OWN)
        return _text(request, "[]")

    async def resources(self, request: web.Request) -> web.Response:
        operation, _ = await self._access.operation(request, Right.READ)
        base, paging, type = self._access.base(request), Paging.of(request), request.query.get("type") or UNEXPANDED
        filters = {} if type == UNEXPANDED else {"type": type}
        found = [machine for machine in resources(operation) if not filters or machine.is_a(type)]
        begin = paging.number * paging.size
        content = [render.resource(operation, machine, base) for machine in found[begin : begin + paging.size]]
        url = f"{base}/deployments/{operation.id}/resources"
        return json_response(render.page(content, url=url, filters=filters, paging=paging, total=len(found)))

    async def resource(self, request: web.Request) -> web.Response:
        operation, _ = await self._access.operation(request, Right.READ)
        rid = request.match_info["rid"]
        found = next((machine for machine in resources(operation) if machine.uuid == rid), None)
        if found is None:
            raise NotFound(f"The resource <{excerpt(rid)}> in deployment <{operation.id}> doesn't exist")
        return json_response(render.resource(operation, found, self._access.base(request)))


def _text(request: web.Request, text: str) -> web.Response:
    """Raw text, whatever was asked for: a client that wants JSON gets the name of it, as from INDIGO."""
    wants_json = "application/json" in request.headers.get("Accept", "")
    return web.Response(text=text, content_type="application/json" if wants_json else "text/plain", charset="utf-8")
