"""/v1/openapi.json, /v1/asyncapi.json and /v1/docs: what can be asked here, and what is told, for programs and for people."""

import asyncio
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from aiohttp import web

from indaco_common.errors import NotFound
from indaco_common.web import Face, describe
from indaco_common.web.openapi import Api, document
from indaco_common.web.openapi_page import POLICY, page

SHIPPED = (Path(__file__).with_name("asyncapi.json"), Path(__file__).resolve().parents[4] / "docs" / "asyncapi.json")
CACHE = "public, max-age=300"
KNOWN = {"If-None-Match": "Versions that the caller has: 304 for one of them."}
UUID = {"type": "string", "format": "uuid"}
CARD = {"type": "string", "pattern": "^[a-z0-9][a-z0-9-]*$", "maxLength": 64, "examples": ["kubernetes"]}
SLUG = {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"}
PARAMETERS: dict[str, dict[str, Any]] = {
    "id": UUID,
    "rid": UUID,
    "delivery": UUID,
    "group": {"type": "string", "minLength": 1, "maxLength": 255, "examples": ["cms/analysis"]},
    "/v1/keys/{name}": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", "examples": ["default"]},
    "/v1/catalogue/{name}": CARD,
    "provider": SLUG,
    "agreement": SLUG,
    "version": {"type": "string", "pattern": r"^(?:latest|[0-9]+(?:\.[0-9]+)*)$", "maxLength": 32, "examples": ["latest"]},
}  # fmt: skip
SESSION = {
    "type": "apiKey", "in": "cookie", "name": "__Host-indaco-session",
    "description": "The cookie of a page that its user has signed in from; a request that changes something also has X-Indaco-CSRF.",
}  # fmt: skip
TAGS = {
    "deployments": "Services that run, or are on their way, or are gone.",
    "plans": "What a request would come to, without making it.",
    "events": "What happens, as it happens.",
    "resources": "Machines, containers, buckets.",
    "catalogue": "Services on offer.",
    "keys": "SSH keys.",
    "identity": "Who you are here.",
    "sessions": "Signing in from a page.",
    "subscriptions": "Events that are sent to an address of yours.",
    "callbacks": "How you know that a callback is ours.",
    "providers": "Where services may run.",
    "agreements": "What your groups may use, and have used.",
    "usage": "What was used.",
    "administration": "For operators.",
    "documents": "This description.",
    "indigo": "The API of the INDIGO PaaS Orchestrator, for its clients.",
}
DESCRIPTION = (
    "From a TOSCA template to a running service at the right site. Under ``/v1`` is the native API; errors there are problem documents "
    "(RFC 9457), and a parameter that is not known is refused. At the root is the API of the INDIGO PaaS Orchestrator for its clients. "
    "A trailing slash is tolerated everywhere. Every answer has an ``X-Request-ID``; answers to a known caller tell of its rate limit "
    "in ``RateLimit-Policy`` and ``RateLimit``, and one that is refused for it (429) says in ``Retry-After`` when to come back."
)


@dataclass(frozen=True, slots=True)
class _Made:
    body: bytes
    tag: str

    @classmethod
    def of(cls, body: bytes) -> "_Made":
        return cls(body, f'"{hashlib.sha256(body).hexdigest()}"')


def face_of(path: str) -> Face:
    """INDIGO's error bodies at the root, RFC 9457 under /v1."""
    return "native" if path.startswith("/v1/") else "indigo"


def openapi(routes: Sequence[web.AbstractRouteDef]) -> dict[str, Any]:
    """Return the document of the gateway's *routes*."""
    api = Api(
        "Indaco", version("indaco"), DESCRIPTION, face=face_of, parameters=PARAMETERS, tags=TAGS,
        security={"session": SESSION}, tag_of=lambda path, tag: "indigo" if face_of(path) == "indigo" else tag,
    )  # fmt: skip
    return document(routes, api)


class Docs:
    """Describes *routes* and its own. Made when somebody asks, once."""

    def __init__(self, routes: Sequence[web.AbstractRouteDef]) -> None:
        self._others = routes
        self._made: dict[str, _Made] = {}
        self._one_at_a_time = asyncio.Lock()

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/v1/openapi.json", self.openapi),
            web.get("/v1/asyncapi.json", self.asyncapi),
            web.get("/v1/docs", self.page),
        ]

    @property
    def described(self) -> list[web.AbstractRouteDef]:
        return [*self._others, *self.routes()]

    @describe(
        "The API as OpenAPI 3.1",
        tag="documents",
        answers={200: "application/json", 304: None},
        headers=KNOWN,
        public=True,
    )
    async def openapi(self, request: web.Request) -> web.Response:
        return _answer(request, await self._get("openapi"), "application/json")

    @describe(
        "The events as AsyncAPI 3.0",
        tag="documents",
        answers={200: "application/json", 304: None},
        errors=(404,),
        headers=KNOWN,
        public=True,
    )
    async def asyncapi(self, request: web.Request) -> web.Response:
        """What the services tell each other, and anyone who subscribes at the broker."""
        return _answer(request, await self._get("asyncapi"), "application/json")

    @describe("The API as a page", tag="documents", answers={200: "text/html", 304: None}, headers=KNOWN, public=True)
    async def page(self, request: web.Request) -> web.Response:
        here = "../" if request.path.endswith("/") else ""
        response = _answer(request, await self._get("page", here), "text/html")
        response.headers["Content-Security-Policy"] = POLICY
        return response

    async def _get(self, what: str, here: str = "") -> _Made:
        async with self._one_at_a_time:
            if what + here not in self._made:
                self._made[what + here] = await asyncio.to_thread(self._make, what, here)
            return self._made[what + here]

    def _make(self, what: str, here: str) -> _Made:
        if what == "asyncapi":
            return _Made.of(_shipped())
        made = openapi(self.described)
        if what == "openapi":
            return _Made.of(json.dumps(made, ensure_ascii=False).encode())
        links = {
            f"{here}openapi.json": "OpenAPI 3.1 document",
            f"{here}asyncapi.json": "AsyncAPI 3.0 document of the events",
        }
        return _Made.of(page(made, links).encode())


def _shipped() -> bytes:
    """Return the document of the events, which is made when Indaco is built. Raises: NotFound."""
    for file in SHIPPED:
        if file.is_file():
            return file.read_bytes()
    raise NotFound("The document of the events did not come with this installation")


def _answer(request: web.Request, made: _Made, media: str) -> web.Response:
    headers = {"ETag": made.tag, "Cache-Control": CACHE}
    known = (each.strip().removeprefix("W/") for each in request.headers.get("If-None-Match", "").split(","))
    if any(each in ("*", made.tag) for each in known):
        return web.Response(status=304, headers=headers)
    return web.Response(body=made.body, content_type=media, charset="utf-8", headers=headers)
