"""What INDIGO has beside deployments: the greeting, /info, /configuration, and /schedules, which are not offered."""

import json
from collections.abc import Mapping
from importlib.metadata import Distribution, distribution
from typing import Any

from aiohttp import web

from indaco_common.errors import Unsupported
from indaco_common.web import describe, json_response
from indaco_gateway.identity.access import Access
from indaco_gateway.settings import GatewaySettings

from .shapes import IndigoConfiguration, IndigoInfo

ROLES = ("cpr_url", "slam_url", "cmdb_url", "im_url")
"""INDIGO's other services; the role of each is played here."""
TAG = "service"


class Misc:
    """The service itself."""

    def __init__(self, access: Access, settings: GatewaySettings) -> None:
        self._access, self._settings = access, settings
        self._info = build_info(distribution("indaco"))

    def routes(self) -> list[web.RouteDef]:
        schedules = ("/schedules", "/schedules/{id}", "/schedules/{id}/events", "/schedules/{id}/template")
        return [
            web.get("/", self.greet),
            web.get("/info", self.info),
            web.get("/configuration", self.configuration),
            web.post("/schedules", self.schedule),
            *(web.get(path, self.schedule) for path in schedules),
        ]

    @describe("The greeting", tag=TAG, answers={200: "text/plain"}, public=True)
    async def greet(self, _: web.Request) -> web.Response:
        """The text by which INDIGO's clients know the server."""
        return web.Response(text="INDIGO-Orchestrator")

    @describe("Build and revision", tag=TAG, answers={200: IndigoInfo}, public=True)
    async def info(self, _: web.Request) -> web.Response:
        """Public, as the build information of INDIGO's server is; the revision only if it was installed from git."""
        return json_response(self._info)

    @describe("Addresses of the services behind it", tag=TAG, answers={200: IndigoConfiguration}, errors=(401, 429))
    async def configuration(self, request: web.Request) -> web.Response:
        """Texts alone; every role of INDIGO's other services is played by this address."""
        await self._access.caller(request)
        own = {"monitoring_url": self._settings.monitoring_url, "vault_url": self._settings.vault_url}
        known = {name: url for name, url in own.items() if url}
        return json_response({**dict.fromkeys(ROLES, self._access.base(request)), **known})

    @describe("Deployments that follow data", tag=TAG, answers={}, errors=(401, 429, 501))
    async def schedule(self, request: web.Request) -> web.Response:
        """Not offered: 501."""
        await self._access.caller(request)
        raise Unsupported("Deployments that follow data (Rucio) are not offered; create deployments at /deployments")


def build_info(installed: Distribution) -> dict[str, object]:
    """Return what is known of the build, in INDIGO's shape; the revision is that of a git checkout that pip installed (PEP 610)."""
    build = {"version": installed.version, "artifact": "indaco", "name": "indaco", "group": "indaco"}
    origin: Mapping[str, Any] = json.loads(installed.read_text("direct_url.json") or "{}")
    commit = origin.get("vcs_info", {}).get("commit_id")
    if not commit:
        return {"build": build}
    branch = origin["vcs_info"].get("requested_revision")
    return {"build": build, "git": {"commit": {"id": commit}, **({"branch": branch} if branch else {})}}
