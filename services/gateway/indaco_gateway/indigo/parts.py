"""What belongs to one deployment: template, outputs, timeline, log, extra information."""

from aiohttp import web

from indaco_common.errors import Unavailable
from indaco_common.secrets.port import Secrets
from indaco_common.store import Store
from indaco_common.web import describe, json_response
from indaco_gateway.identity.access import Access, Right
from indaco_gateway.model.resources import resources

from .machines import extra_info
from .shapes import IndigoOutputs, IndigoTimeline

TAG = "deployments"


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
        ]

    @describe("Show the template", tag=TAG, answers={200: "text/plain"}, errors=(401, 404, 429, 503))
    async def template(self, request: web.Request) -> web.Response:
        """As it was last submitted; the name of the media type follows `Accept`, the text does not."""
        operation, _ = await self._access.operation(request, Right.READ)
        text = await self._store.get_blob(operation.template)
        if text is None:
            raise Unavailable("The template is not in the store")
        return _text(request, text.decode())

    @describe("Show the outputs", tag=TAG, answers={200: IndigoOutputs}, errors=(401, 403, 404, 429, 503))
    async def outputs(self, request: web.Request) -> web.Response:
        """All outputs, secret ones too."""
        operation, _ = await self._access.operation(request, Right.OWN)
        outputs = dict(operation.outputs)
        if operation.secret_outputs:
            outputs |= await self._secrets.get(f"outputs/{operation.id}") or {}
        return json_response(outputs)

    @describe("Show the timeline", tag=TAG, answers={200: IndigoTimeline}, errors=(401, 404, 429))
    async def timeline(self, request: web.Request) -> web.Response:
        """Every step, oldest first."""
        operation, _ = await self._access.operation(request, Right.READ)
        return json_response({"content": [step.model_dump(mode="json") for step in operation.timeline]})

    @describe("Show the log", tag=TAG, answers={200: "text/plain"}, errors=(401, 403, 404, 429))
    async def log(self, request: web.Request) -> web.Response:
        """The timeline as text, and the reason of a failure."""
        operation, _ = await self._access.operation(request, Right.OWN)
        lines = [
            f"{step.at:%Y-%m-%d %H:%M:%S}: {step.title}" + (f": {step.detail}" if step.detail else "")
            for step in operation.timeline
        ]
        return _text(request, "\n".join(filter(None, (*lines, operation.reason))))

    @describe("Show what is known of each machine", tag=TAG, answers={200: "text/plain"}, errors=(401, 403, 404, 429))
    async def extrainfo(self, request: web.Request) -> web.Response:
        """JSON as a text: INDIGO's `vmProperties` of each machine."""
        operation, _ = await self._access.operation(request, Right.OWN)
        return _text(request, extra_info(operation, resources(operation)))


def _text(request: web.Request, text: str) -> web.Response:
    """Raw text, whatever was asked for: a client that wants JSON gets the name of it, as from INDIGO."""
    wants_json = "application/json" in request.headers.get("Accept", "")
    return web.Response(text=text, content_type="application/json" if wants_json else "text/plain", charset="utf-8")
