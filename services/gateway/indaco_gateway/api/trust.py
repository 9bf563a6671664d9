"""/v1/admin/trust: whom the gateway believes; for operators."""

import structlog
from aiohttp import web

from indaco_common.web import describe
from indaco_gateway.identity.access import Access

_log = structlog.get_logger(__name__)


class TrustApi:
    """What operators do when an issuer has withdrawn a key, or a user a group."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/v1/admin/trust/flush", self.flush)]

    @describe("Forget keys and verified tokens", tag="administration", answers={204: None}, errors=(401, 403))
    async def flush(self, request: web.Request) -> web.Response:
        """What this gateway process knows of issuers' keys, of tokens and of groups is forgotten, and asked for anew. Operators only."""
        principal = await self._access.operator(request)
        await self._access.look(anew=True)
        self._access.authenticator.forget()
        _log.warning("auth.flushed", by=f"{principal.subject}@{principal.issuer}")
        return web.Response(status=204)
