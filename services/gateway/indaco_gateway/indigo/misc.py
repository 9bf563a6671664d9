"""What INDIGO has beside deployments: the greeting, /info, /configuration."""

from importlib.metadata import version

from aiohttp import web

from indaco_common.web import base_url, json_response
from indaco_gateway.access import Access


def routes(access: Access) -> list[web.RouteDef]:
    async def greet(_: web.Request) -> web.Response:
        return web.Response(text="INDIGO-Orchestrator")

    async def info(_: web.Request) -> web.Response:
        """Public, as the build information of INDIGO's server is."""
        build = {"version": version("indaco"), "artifact": "indaco", "name": "indaco", "group": "indaco"}
        return json_response({"build": build, "git": {"branch": "main"}})

    async def configuration(request: web.Request) -> web.Response:
        await access.caller(request)
        return json_response({"cpr_url": base_url(request), "slam_url": base_url(request), "im_url": base_url(request)})

    return [web.get("/", greet), web.get("/info", info), web.get("/configuration", configuration)]
