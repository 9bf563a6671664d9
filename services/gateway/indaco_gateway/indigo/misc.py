"""What INDIGO has beside deployments: the greeting, /info, /configuration."""

from importlib.metadata import version

from aiohttp import web

from indaco_common.web import json_response
from indaco_gateway.access import Access


def routes(access: Access) -> list[web.RouteDef]:
    build = {"version": version("indaco"), "artifact": "indaco", "name": "indaco", "group": "indaco"}

    async def greet(_: web.Request) -> web.Response:
        return web.Response(text="INDIGO-Orchestrator")

    async def info(_: web.Request) -> web.Response:
        """Public, as the build information of INDIGO's server is."""
        return json_response({"build": build})

    async def configuration(request: web.Request) -> web.Response:
        """Every role of INDIGO's other services is played here."""
        await access.caller(request)
        return json_response(dict.fromkeys(("cpr_url", "slam_url", "cmdb_url", "im_url"), access.base(request)))

    return [web.get("/", greet), web.get("/info", info), web.get("/configuration", configuration)]
