"""What only the issuer can say of a token: userinfo (OpenID Connect Core §5.3) and introspection (RFC 7662).

The token goes to the endpoint of its own issuer and to nobody else; answers are remembered by the token's digest.
"""

import base64
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote_plus

import structlog

from indaco_common.auth.clients import Client
from indaco_common.auth.discovery import Discovery
from indaco_common.auth.fetch import OK, FetchFailed, IssuerHttp
from indaco_common.auth.flights import Flights
from indaco_common.auth.issuers import TrustedIssuer
from indaco_common.auth.memory import Memory, digest_of
from indaco_common.auth.principal import InvalidToken
from indaco_common.clock import Clock
from indaco_common.errors import Unavailable

USERINFO_FOR = timedelta(seconds=300)
INTROSPECTED_FOR = timedelta(seconds=60)
REFUSED_FOR = timedelta(seconds=30)
REMEMBER = 10_000  # answers
AT_ONCE = 20  # calls under way; more would be a flood, which the issuer must not get from us
RETRY_S = 5.0

SecretOf = Callable[[Client], Awaitable[str]]
"""Where the secret of a client comes from. Raises: Unavailable, FetchFailed."""

_log = structlog.get_logger(__name__)
_REFUSALS = frozenset({400, 401, 403})


@dataclass(frozen=True, slots=True)
class Said:
    """What the issuer said of a token, and until when that is believed; {} is a refusal."""

    claims: dict[str, Any] = field(repr=False)
    until: datetime


class Remote:
    """Asks issuers about tokens: one call at a time for each token, and no more than :data:`AT_ONCE` in all."""

    def __init__(self, clock: Clock, http: IssuerHttp, discovery: Discovery, secret_of: SecretOf) -> None:
        self._clock, self._http, self._discovery, self._secret_of = clock, http, discovery, secret_of
        self._known: Memory[Said] = Memory(REMEMBER)
        self._flights: Flights[bytes, Said] = Flights()

    async def userinfo(self, issuer: TrustedIssuer, token: str) -> Said:
        """Return what the userinfo endpoint says to *token*. Raises: InvalidToken, if nothing; Unavailable."""
        said = await self._ask(issuer, token, self._userinfo)
        if not said.claims:
            raise InvalidToken(
                "The token's issuer does not accept it at its userinfo endpoint; it needs the scope openid"
            )
        return said

    async def introspect(self, issuer: TrustedIssuer, token: str) -> Said:
        """Return what the introspection endpoint says of *token*. Raises: InvalidToken, if it is not active; Unavailable."""
        said = await self._ask(issuer, token, self._introspect)
        if not said.claims:
            raise InvalidToken("The token is not active")
        return said

    def forget(self) -> None:
        self._known.clear()

    async def close(self) -> None:
        await self._flights.close()

    async def _ask(
        self, issuer: TrustedIssuer, token: str, call: Callable[[TrustedIssuer, str], Awaitable[Said]]
    ) -> Said:
        # The record is part of the name: under another one the answer would be another.
        digest = digest_of(f"{hash(issuer)} {call.__name__} {token}")
        known = self._known.get(digest, self._clock.now())
        if known is not None:
            return known
        if len(self._flights) >= AT_ONCE and digest not in self._flights:
            raise Unavailable(
                "The token's issuer is being asked about too many tokens; try again", retry_after_s=RETRY_S
            )
        try:
            said = await self._flights.join(digest, lambda: call(issuer, token))
        except FetchFailed as error:
            _log.warning("auth.issuer_unavailable", issuer=issuer.issuer, reason=str(error))
            raise Unavailable("The issuer of the token cannot be reached", retry_after_s=RETRY_S) from None
        self._known.put(digest, said, until=said.until, now=self._clock.now())
        return said

    async def _userinfo(self, issuer: TrustedIssuer, token: str) -> Said:
        url = (await self._discovery.metadata(issuer)).url("userinfo_endpoint")
        answer = await self._http.send(issuer, "GET", url, headers={"Authorization": f"Bearer {token}"})
        if answer.status in _REFUSALS:
            return self._refusal()
        if answer.status != OK:
            raise FetchFailed(f"userinfo: HTTP status {answer.status}")
        return Said(answer.value, self._clock.now() + USERINFO_FOR)

    async def _introspect(self, issuer: TrustedIssuer, token: str) -> Said:
        client = issuer.introspection
        if client is None:
            raise FetchFailed("introspection is not set up")
        url = client.endpoint or (await self._discovery.metadata(issuer)).url("introspection_endpoint")
        headers = {
            "Authorization": basic(client.client_id, await self._secret_of(client)),
            "Accept": "application/json",
        }
        answer = await self._http.send(
            issuer, "POST", url, headers=headers, form={"token": token, "token_type_hint": "access_token"}
        )
        if answer.status != OK:  # 401: we are not the client that we say we are; of the token it says nothing
            raise FetchFailed(f"introspection: HTTP status {answer.status}")
        until = self._until(answer.value)
        if answer.value.get("active") is not True or until <= self._clock.now():
            return self._refusal()
        return Said(_checked(answer.value, issuer), until)

    def _refusal(self) -> Said:
        return Said({}, self._clock.now() + REFUSED_FOR)

    def _until(self, claims: dict[str, Any]) -> datetime:
        until, expiry = self._clock.now() + INTROSPECTED_FOR, claims.get("exp")
        try:
            return min(until, datetime.fromtimestamp(expiry, UTC)) if isinstance(expiry, int) else until
        except (OverflowError, OSError, ValueError):
            return until


def basic(client_id: str, secret: str) -> str:
    """Return the Authorization header of a client (RFC 6749 §2.3.1: both parts form-encoded)."""
    return "Basic " + base64.b64encode(f"{quote_plus(client_id)}:{quote_plus(secret)}".encode()).decode()


def _checked(claims: dict[str, Any], issuer: TrustedIssuer) -> dict[str, Any]:
    """Return *claims* as those of a JWT would be. A token of another issuer is none of this one's business: it is refused."""
    if claims.get("iss", issuer.issuer) not in (*issuer.names, issuer.issuer.rstrip("/") + "/"):
        return {}
    audience = claims.get("aud")
    return {**claims, "aud": audience.split()} if isinstance(audience, str) else claims
