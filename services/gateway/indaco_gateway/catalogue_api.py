"""/v1/catalogue: the services on offer, each for the groups that may use it."""

import hashlib
import json
from collections.abc import Mapping

from aiohttp import web

from indaco_common.errors import Forbidden
from indaco_common.web import json_response
from indaco_tosca.catalogue import Card, Version
from indaco_tosca.forms import form

from .access import Access, group_of
from .catalogue import ServiceCatalogue, State

SHOWN = 200  # problems


class CatalogueApi:
    """Whoever asks sees the cards for their groups, or for the one that ``?group=`` names; operators see how it stands."""

    def __init__(self, access: Access, catalogue: ServiceCatalogue) -> None:
        self._access, self._catalogue = access, catalogue

    def routes(self) -> list[web.RouteDef]:
        one = "/v1/catalogue/{name}"
        return [
            web.get("/v1/catalogue", self.index),
            web.get("/v1/catalogue/status", self.status),
            web.post("/v1/catalogue/reload", self.reload),
            web.get(one, self.show),
            web.get(f"{one}/{{version}}", self.version),
            web.get(f"{one}/{{version}}/form", self.form),
        ]

    async def index(self, request: web.Request) -> web.Response:
        cards = self._catalogue.cards(await self._groups(request))
        return _answer(request, {"content": [_summary(card) for card in cards]})

    async def show(self, request: web.Request) -> web.Response:
        """The card with its guide, and its versions, newest first."""
        card = self._catalogue.card(request.match_info["name"], await self._groups(request))
        versions = [{"version": version.number, "digest": version.digest} for version in card.versions]
        return _answer(request, {**_summary(card), "guide": card.guide, "versions": versions})

    async def version(self, request: web.Request) -> web.Response:
        """The template and its tests; ``latest`` is a version too."""
        version = self._version(request, await self._groups(request))
        tests = [{"name": case.name, "inputs": case.inputs, "expect": case.expect} for case in version.cases]
        shown = {"version": version.number, "digest": version.digest, "template": version.template, "tests": tests}
        return _answer(request, {"name": request.match_info["name"], **shown})

    async def form(self, request: web.Request) -> web.Response:
        """The inputs as a JSON Schema, with hints for whoever draws the form."""
        groups = await self._groups(request)
        version = self._version(request, groups)
        drawn = form(version.parsed, version.parameters, groups=sorted(groups)).dump()
        shown = {"version": version.number, "digest": version.digest}
        return _answer(request, {"name": request.match_info["name"], **shown, **drawn})

    async def status(self, request: web.Request) -> web.Response:
        if not self._access.is_admin(await self._access.caller(request)):
            raise Forbidden("Only administrators see how the catalogue stands")
        return json_response(self._shown(self._catalogue.state))

    async def reload(self, request: web.Request) -> web.Response:
        """Read it now; the answer is the new status, or why what was offered stays."""
        if not self._access.is_admin(await self._access.writer(request)):
            raise Forbidden("Only administrators reload the catalogue")
        return json_response(self._shown(await self._catalogue.reload()))

    async def _groups(self, request: web.Request) -> frozenset[str]:
        """Raises: Unauthenticated, Forbidden."""
        principal = await self._access.caller(request)
        asked = request.query.get("group")
        return frozenset({group_of(principal, asked).path}) if asked else principal.groups

    def _version(self, request: web.Request, groups: frozenset[str]) -> Version:
        return self._catalogue.version(request.match_info["name"], request.match_info["version"], groups)

    def _shown(self, state: State) -> dict[str, object]:
        bad = {problem.card for problem in state.catalogue.problems}
        cards = sorted(state.catalogue.cards.values(), key=lambda card: card.name)
        return {
            "source": self._catalogue.address,
            "revision": state.revision,
            "loaded_at": state.loaded_at and state.loaded_at.isoformat(),
            "error": state.error,
            "cards": [
                {"name": card.name, "versions": [version.number for version in card.versions], "groups": card.groups,
                 "is_last_good": card.name in bad}
                for card in cards
            ],
            "problems": [problem.dump() for problem in state.catalogue.problems[:SHOWN]],
        }  # fmt: skip


def _summary(card: Card) -> dict[str, object]:
    shown = {
        "name": card.name,
        "title": card.title,
        "description": card.description,
        "icon": card.icon,
        "svg": card.svg,
    }
    return {**shown, "tags": card.tags, "groups": card.groups, "version": card.versions[0].number}


def _answer(request: web.Request, body: Mapping[str, object]) -> web.Response:
    """Answer with a digest of the body as its ETag; 304 where the caller has it already."""
    text = json.dumps(body)
    tag = f'"{hashlib.sha256(text.encode()).hexdigest()}"'
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
    known = (each.strip().removeprefix("W/") for each in request.headers.get("If-None-Match", "").split(","))
    if any(each in ("*", tag) for each in known):
        return web.Response(status=304, headers=headers)
    return web.Response(text=text, content_type="application/json", headers=headers)
