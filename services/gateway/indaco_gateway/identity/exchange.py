"""Deployments outlive the token that they are asked for with: it is exchanged for one that can be renewed, kept in the vault alone.

No message carries any of it: who needs a token finds the place by whose deployment it is.
"""

import structlog
from aiohttp import web

from indaco_common.auth import (
    ExchangeClient,
    FetchFailed,
    GrantRefused,
    Kept,
    Principal,
    TokensLost,
    TrustedIssuer,
    asked_of,
    delegation_path,
)
from indaco_common.auth.flights import Flights
from indaco_common.auth.oauth_client import EXCHANGE
from indaco_common.clock import Clock
from indaco_common.errors import Conflict, Forbidden, IndacoError, Unavailable

from .access import Access
from .sessions import Sessions

NOT_OFFERED = frozenset(
    {"unsupported_grant_type", "unauthorized_client", "invalid_request"}
)  # the last is what some say to it
OF_THE_TOKEN = frozenset(
    {"invalid_grant", "invalid_request", "access_denied", "insufficient_scope"}
)  # the rest is ours to mend
RETRY_S = 5.0

_log = structlog.get_logger(__name__)


class NotExchanged(Forbidden):
    """The issuer gives nothing that lasts."""

    code, title = "token-not-exchanged", "The token cannot be exchanged"


class Exchanges:
    """Sees to it that there are tokens of whoever begins a deployment."""

    def __init__(self, access: Access, sessions: Sessions, clock: Clock) -> None:
        self._access, self._sessions, self._clock = access, sessions, clock
        self._flights: Flights[str, None] = Flights()

    async def close(self) -> None:
        """Wait for the exchanges that are under way."""
        await self._flights.land()

    async def ensure(self, request: web.Request, principal: Principal, token: str) -> None:
        """Have tokens of the caller that can be renewed, if the caller's issuer is set up for it: those that are there, if they are good.

        Raises: NotExchanged, Unavailable, if the issuer's record says that deployments need them.
        """
        issuer = self._access.authenticator.issuers.find(principal.issuer)
        client = issuer.exchange if issuer is not None else None
        if issuer is None or client is None:
            return
        path, session = delegation_path(principal.issuer, principal.subject), self._sessions.tokens_of(request)
        try:
            await self._flights.join(path, lambda: self._ensure(issuer, client, path, token, session))
        except IndacoError as error:
            _log.warning("tokens.not_exchanged", issuer=issuer.issuer, code=error.code, required=client.required)
            if client.required:
                raise

    async def _ensure(
        self, issuer: TrustedIssuer, client: ExchangeClient, path: str, token: str, session: str | None
    ) -> None:
        kept, version = await self._access.tokens.look(path)
        if kept is not None:
            if kept.role == "login" and session is not None:
                await self._finish_move(session, path, kept)
            if await self._is_good(client, path, kept):
                return
            kept, version = await self._access.tokens.look(path)
        try:
            await self._exchange(issuer, client, path, token, version)
        except GrantRefused as error:
            if error.code in NOT_OFFERED and session is not None and await self._access.tokens.move(session, path):
                _log.info("tokens.moved", issuer=issuer.issuer)
                return
            if error.code in OF_THE_TOKEN:
                raise NotExchanged(
                    f"The issuer does not exchange this token ({error.code}); log in again, or tell the gateway's operators"
                ) from None
            raise Unavailable(
                f"The gateway may not exchange tokens at this issuer ({error.code}); tell its operators"
            ) from None
        except FetchFailed as error:
            _log.warning("tokens.issuer_unavailable", issuer=issuer.issuer, reason=str(error))
            raise Unavailable("The token cannot be exchanged at its issuer now", retry_after_s=RETRY_S) from None
        if kept is not None and kept.role == "exchange":
            await self._access.tokens.give_back(kept)

    async def _finish_move(self, session: str, path: str, kept: Kept) -> None:
        """Let two copies of one grant, which a crash has left, be one again: each would end the other."""
        if (own := await self._access.tokens.unmoved(session)) is not None and own.grant == kept.grant:
            await self._access.tokens.move(session, path)

    async def _is_good(self, client: ExchangeClient, path: str, kept: Kept) -> bool:
        """Is it what would be asked for now, and alive? That it can be renewed is proved by doing so, once its token is old."""
        now = self._clock.now()
        if kept.role == "exchange" and (kept.client_id, kept.asked) != (client.client_id, asked_of(client)):
            return False
        if kept.refresh_token is None:
            return any(now < one.renew_at for one in kept.access.values())
        try:
            await self._access.tokens.fresh(path)
        except TokensLost:
            return False
        return True

    async def _exchange(
        self, issuer: TrustedIssuer, client: ExchangeClient, path: str, token: str, version: int
    ) -> None:
        """Raises: GrantRefused, FetchFailed, Unavailable."""
        if not await self._is_offered(issuer):
            raise GrantRefused("unsupported_grant_type")
        granted = await self._access.oauth.exchange(issuer, client, token)
        kept = Kept.of(issuer, "exchange", client, granted, self._clock.now())
        try:
            await self._access.tokens.replace(path, kept, version=version)
        except Conflict:  # another gateway was as fast: its tokens are as good
            return
        _log.info("tokens.exchanged", issuer=issuer.issuer, renewable=granted.refresh_token is not None)

    async def _is_offered(self, issuer: TrustedIssuer) -> bool:
        """Does the issuer exchange tokens, or not say? Raises: Unavailable."""
        try:
            offered = (await self._access.oauth.metadata(issuer)).values.get("grant_types_supported")
        except FetchFailed:
            return True  # asking will show
        return not isinstance(offered, list) or EXCHANGE in offered
