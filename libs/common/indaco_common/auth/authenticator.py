"""From an Authorization header to a :class:`Principal`, in an order that asks nobody before it knows whom to ask."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import structlog
from joserfc import jws
from joserfc.errors import JoseError

from indaco_common.auth.claims import check_claims, principal_of, subject_of
from indaco_common.auth.clients import Client
from indaco_common.auth.discovery import Discovery
from indaco_common.auth.fetch import FetchFailed, IssuerHttp
from indaco_common.auth.groups import names_groups
from indaco_common.auth.issuers import TrustedIssuer, TrustTable
from indaco_common.auth.keys import Key, KeyCache
from indaco_common.auth.memory import Memory, digest_of
from indaco_common.auth.principal import InvalidToken, Principal
from indaco_common.auth.remote import Remote, Said, SecretOf
from indaco_common.auth.tokens import MAX_HEADER, MAX_TOKEN, Unverified, bearer_token, is_opaque, take_apart
from indaco_common.clock import Clock

REMEMBER_FOR = timedelta(seconds=60)  # the price of a verified token's cache: a removed user is seen this much later
REMEMBER = 10_000  # tokens
MAX_SECRET = 4096  # characters of a client's secret
UNTRUSTED = "The token's issuer is not trusted here"

_log = structlog.get_logger(__name__)


class _Registry(jws.JWSRegistry):
    """joserfc's limits set to ours; the header has been judged already."""

    max_header_length = MAX_HEADER
    max_payload_length = MAX_TOKEN
    max_signature_length = MAX_TOKEN


@dataclass(frozen=True, slots=True)
class _Verified:
    """A principal, and what it was verified by: another record, or another set of keys, must verify it anew."""

    principal: Principal
    issuer: TrustedIssuer
    generation: int


async def secret_from_file(client: Client) -> str:
    """Return the secret of a client that has it in a file. Raises: FetchFailed."""
    if client.client_secret_file is None:
        raise FetchFailed("the client's secret is in a vault, which is not there")
    try:
        text = (await asyncio.to_thread(client.client_secret_file.read_text)).strip()
    except (OSError, ValueError) as error:
        raise FetchFailed(f"the client's secret cannot be read: {type(error).__name__}") from None
    if not 0 < len(text) <= MAX_SECRET:
        raise FetchFailed(f"the client's secret has {len(text)} characters; 1 to {MAX_SECRET} are expected")
    return text


class Authenticator:
    """Verifies access tokens of the trusted issuers; one for a process."""

    def __init__(
        self, issuers: Iterable[TrustedIssuer], clock: Clock, http: IssuerHttp, secret_of: SecretOf = secret_from_file
    ) -> None:
        """*http* is the caller's to close. Raises: ValueError, if the issuers contradict each other."""
        self._table = TrustTable(issuers)
        self._clock = clock
        self.discovery = Discovery(http, clock)
        self._keys = KeyCache(clock, http, self.discovery)
        self._remote = Remote(clock, http, self.discovery, secret_of)
        self._verified: Memory[_Verified] = Memory(REMEMBER)

    @property
    def issuers(self) -> TrustTable:
        """Whom is trusted now."""
        return self._table

    def trust(self, issuers: Iterable[TrustedIssuer]) -> None:
        """Believe these from now on, and what was verified by a record that has changed no longer. Raises: ValueError."""
        table = TrustTable(issuers)
        changed = [record.issuer for record in self._table if record not in table]
        self._table = table
        self._keys.forget(changed)

    async def authenticate(self, authorization: str | None) -> Principal:
        """Return the caller that the Authorization header proves.

        Raises: Unauthenticated, if there is no bearer token; InvalidToken (also a 401), if it is not accepted;
        Unavailable, if its issuer's keys cannot be had.
        """
        return await self.verify(bearer_token(authorization))

    async def verify(self, token: str) -> Principal:
        """Return the caller that *token* proves (see :meth:`authenticate`)."""
        digest = digest_of(token)
        if known := self._remembered(digest):
            return known
        try:
            return await self._verify(token, digest)
        except InvalidToken as error:
            _log.info("auth.token_refused", reason=error.detail)
            raise

    async def signed_claims(self, token: str, issuer: TrustedIssuer) -> dict[str, Any]:
        """Return the claims of a JWT that *issuer* has signed; nothing else about it is checked. Raises: InvalidToken, Unavailable."""
        given = take_apart(token)
        if self._issuer(given) != issuer:
            raise InvalidToken(UNTRUSTED)
        _check_signature(given, await self._keys.find(issuer, given.kid, given.alg))
        return given.claims

    def forget(self) -> None:
        """Forget verified tokens, keys and what issuers said, so that everything is verified anew (an operator's flush)."""
        self._verified.clear()
        self._keys.forget()
        self._remote.forget()
        self.discovery.forget()

    async def close(self) -> None:
        await self._keys.close()
        await self._remote.close()
        await self.discovery.close()

    async def _verify(self, token: str, digest: bytes) -> Principal:
        if is_opaque(token) and self._table.opaque is not None:
            issuer = self._table.opaque
            generation = self._keys.generation(issuer)
            said = await self._of_opaque(token, issuer)
        else:
            given = take_apart(token)
            issuer = self._issuer(given)
            key = await self._keys.find(issuer, given.kid, given.alg)
            generation = self._keys.generation(issuer)
            _check_signature(given, key)
            said = await self._of_jwt(given, issuer)
        if issuer not in self._table:  # it was taken out while we asked it
            raise InvalidToken(UNTRUSTED)
        now = self._clock.now()
        principal = principal_of(said.claims, issuer, now)
        until = min(said.until, now + REMEMBER_FOR, principal.expires_at)
        self._verified.put(digest, _Verified(principal, issuer, generation), until=until, now=now)
        return principal

    def _issuer(self, given: Unverified) -> TrustedIssuer:
        issuer = self._table.find(given.claims.get("iss"))
        if issuer is None:
            raise InvalidToken(UNTRUSTED)
        if given.alg not in issuer.algs:
            raise InvalidToken("The token's algorithm is not one that its issuer uses")
        if issuer.profile == "wlcg" and given.kid is None:
            raise InvalidToken("The token names no key, which its issuer's profile needs")
        return issuer

    async def _of_opaque(self, token: str, issuer: TrustedIssuer) -> Said:
        said = await self._remote.introspect(issuer, token)
        check_claims(said.claims, issuer, self._clock.now())
        # A refresh token is as active as an access token, and may look like one.
        if str(said.claims.get("token_type")).lower() != "bearer":
            raise InvalidToken("The token is not an access token, or its issuer does not say so (token_type)")
        return await self._with_groups(said, issuer, token)

    async def _of_jwt(self, given: Unverified, issuer: TrustedIssuer) -> Said:
        check_claims(given.claims, issuer, self._clock.now())
        return await self._with_groups(Said(given.claims, self._clock.now() + REMEMBER_FOR), issuer, given.token)

    async def _with_groups(self, known: Said, issuer: TrustedIssuer, token: str) -> Said:
        """Return what is *known* with the groups that the issuer has for the subject, where its record has us ask for them."""
        if issuer.group_source == "token" or names_groups(known.claims, issuer):
            return known
        ask = self._remote.userinfo if issuer.group_source == "userinfo" else self._remote.introspect
        said = await ask(issuer, token)
        if subject_of(said.claims, issuer) != subject_of(known.claims, issuer):
            raise InvalidToken("The token's issuer says that it is somebody else's")
        return Said(_completed(known.claims, said.claims, issuer), min(known.until, said.until))

    def _remembered(self, digest: bytes) -> Principal | None:
        found = self._verified.get(digest, self._clock.now())
        if found is None:
            return None
        if found.issuer in self._table and found.generation == self._keys.generation(found.issuer):
            return found.principal
        self._verified.drop(digest)
        return None


def _completed(claims: dict[str, Any], more: dict[str, Any], issuer: TrustedIssuer) -> dict[str, Any]:
    """Return *claims* with the groups of *more* and its names, and with nothing else of it."""
    groups = {claim.split("/")[1] if claim.startswith("/") else claim for claim in issuer.group_claims}
    names = {"name", "preferred_username", "email"} - claims.keys()
    return {**claims, **{name: more[name] for name in (groups | names) & more.keys()}}


def _check_signature(given: Unverified, key: Key) -> None:
    registry = _Registry(algorithms=[given.alg], strict_check_header=False)
    try:
        jws.deserialize_compact(given.token, key, registry=registry)
    except (JoseError, ValueError):
        raise InvalidToken("The token's signature is wrong") from None
