"""From an Authorization header to a :class:`Principal`, in an order that asks nobody before it knows whom to ask."""

import hashlib
from collections import OrderedDict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import structlog
from joserfc import jws
from joserfc.errors import JoseError

from indaco_common.auth.groups import groups_of
from indaco_common.auth.issuers import TrustedIssuer, TrustTable
from indaco_common.auth.keys import Key, KeyCache
from indaco_common.auth.principal import InvalidToken, Principal
from indaco_common.auth.tokens import MAX_HEADER, MAX_TOKEN, Unverified, bearer_token, take_apart
from indaco_common.clock import Clock

SKEW = timedelta(seconds=60)
REMEMBER_FOR = timedelta(seconds=60)  # the price of a verified token's cache: a removed user is seen this much later
REMEMBER = 10_000  # tokens
MAX_SUBJECT = 255
MAX_NAME = 255

_ID_TOKEN_CLAIMS = frozenset({"nonce", "at_hash", "c_hash"})

_log = structlog.get_logger(__name__)


class _Registry(jws.JWSRegistry):
    """joserfc's limits set to ours; the header has been judged already."""

    max_header_length = MAX_HEADER
    max_payload_length = MAX_TOKEN
    max_signature_length = MAX_TOKEN


class Authenticator:
    """Verifies access tokens (JWT) of the trusted issuers; one for a process, on the session that it is given."""

    def __init__(self, issuers: Iterable[TrustedIssuer], clock: Clock, session: aiohttp.ClientSession) -> None:
        self._table = TrustTable(issuers)
        self._clock = clock
        self._keys = KeyCache(clock, session)
        self._verified: OrderedDict[bytes, tuple[Principal, datetime]] = OrderedDict()

    async def authenticate(self, authorization: str | None) -> Principal:
        """Return the caller that the Authorization header proves.

        Raises: Unauthenticated, if there is no bearer token; InvalidToken (also a 401), if it is not accepted;
        Unavailable, if its issuer's keys cannot be had.
        """
        return await self.verify(bearer_token(authorization))

    async def verify(self, token: str) -> Principal:
        """Return the caller that *token* proves (see :meth:`authenticate`)."""
        digest = hashlib.sha256(token.encode(errors="replace")).digest()
        now = self._clock.now()
        if known := self._remembered(digest, now):
            return known
        try:
            principal = await self._verify(take_apart(token))
        except InvalidToken as error:
            _log.info("auth.token_refused", reason=error.detail)
            raise
        self._remember(digest, principal, now)
        return principal

    def forget(self) -> None:
        """Forget verified tokens and keys, so that everything is verified anew."""
        self._verified.clear()
        self._keys.forget()

    async def close(self) -> None:
        await self._keys.close()

    async def _verify(self, given: Unverified) -> Principal:
        issuer = self._table.find(given.claims.get("iss"))
        if issuer is None:
            raise InvalidToken("The token's issuer is not trusted here")
        if given.alg not in issuer.algs:
            raise InvalidToken("The token's algorithm is not one that its issuer uses")
        key = await self._keys.find(issuer, given.kid, given.alg)
        _check_signature(given, key)
        return _principal(given.claims, issuer, self._clock.now())

    def _remembered(self, digest: bytes, now: datetime) -> Principal | None:
        found = self._verified.get(digest)
        if found is None:
            return None
        if found[1] <= now:
            del self._verified[digest]
            return None
        self._verified.move_to_end(digest)
        return found[0]

    def _remember(self, digest: bytes, principal: Principal, now: datetime) -> None:
        until = min(principal.expires_at, now + REMEMBER_FOR)
        if until > now:
            self._verified[digest] = (principal, until)
            if len(self._verified) > REMEMBER:
                self._verified.popitem(last=False)


def _check_signature(given: Unverified, key: Key) -> None:
    registry = _Registry(algorithms=[given.alg], strict_check_header=False)
    try:
        jws.deserialize_compact(given.token, key, registry=registry)
    except (JoseError, ValueError):
        raise InvalidToken("The token's signature is wrong") from None


def _principal(claims: dict[str, Any], issuer: TrustedIssuer, now: datetime) -> Principal:
    expires_at = _check_times(claims, issuer, now)
    _check_audience(claims.get("aud"), issuer)
    if _ID_TOKEN_CLAIMS & claims.keys():
        raise InvalidToken("This is an ID token; send the access token")
    if not str(claims.get("wlcg.ver", "1.0")).startswith("1."):
        raise InvalidToken("The token is of an unknown version of the WLCG profile")
    subject = claims.get(issuer.user_claim)
    if not isinstance(subject, str) or not 0 < len(subject) <= MAX_SUBJECT or not _is_plain(subject):
        raise InvalidToken(f"The token's claim {issuer.user_claim} does not name a subject")
    return Principal(
        issuer=issuer.issuer,
        subject=subject,
        groups=groups_of(claims, issuer),
        scopes=_scopes(claims),
        name=_text(claims.get("name")) or _text(claims.get("preferred_username")),
        email=_text(claims.get("email")),
        expires_at=expires_at,
    )


def _check_times(claims: dict[str, Any], issuer: TrustedIssuer, now: datetime) -> datetime:
    expires_at, not_before, issued_at = (_time(claims, name) for name in ("exp", "nbf", "iat"))
    if expires_at is None:
        raise InvalidToken("The token never expires; one with an expiry is needed")
    if now >= expires_at + SKEW:
        raise InvalidToken("The token has expired")
    if any(each is not None and each > now + SKEW for each in (not_before, issued_at)):
        raise InvalidToken("The token is not valid yet")
    if expires_at - (issued_at or now) > timedelta(seconds=issuer.max_age_s):
        raise InvalidToken(f"The token lives longer than {issuer.max_age_s} s")
    return expires_at


def _time(claims: dict[str, Any], name: str) -> datetime | None:
    value = claims.get(name)
    if value is None:
        return None
    # Whole seconds only: a float may be infinite or lose precision, and no issuer that we know sends one.
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidToken(f"The token's claim {name} is not a number of seconds")
    try:
        return datetime.fromtimestamp(value, UTC)
    except (OverflowError, OSError, ValueError):
        raise InvalidToken(f"The token's claim {name} is out of range") from None


def _check_audience(value: object, issuer: TrustedIssuer) -> None:
    if value is None and not issuer.require_audience:
        return
    audiences = [value] if isinstance(value, str) else value
    if not isinstance(audiences, list) or not all(isinstance(each, str) for each in audiences):
        raise InvalidToken("The token is not for an audience; ask its issuer for one for this service")
    if issuer.audiences and not set(audiences) & set(issuer.audiences):
        raise InvalidToken("The token is for another service; its audience is not accepted here")


def _scopes(claims: dict[str, Any]) -> frozenset[str]:
    value = claims.get("scope", claims.get("scp"))
    if isinstance(value, str):
        return frozenset(value.split())
    if isinstance(value, list):
        return frozenset(each for each in value if isinstance(each, str))
    return frozenset()


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= MAX_NAME and value.isprintable() else None


def _is_plain(subject: str) -> bool:
    return subject.isascii() and subject.isprintable() and subject.strip() == subject
