"""Tokens of users, kept in the vault and renewed there: by one process at a time, whichever services and replicas use them.

All of one grant lies in one secret: its access tokens, its refresh token, and who renews it now. A renewal is claimed by a write that one
process wins, asked for, and written back where the claim still stands. So the next refresh token is there before the former is
forgotten, by the same write; what is removed meanwhile stays removed. A process that dies after the issuer has answered and before
the write has lost the next refresh token: issuers that take each but once then end the grant, and the user has to come again.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import structlog

from indaco_common.auth.clients import ExchangeClient, LoginClient, Role
from indaco_common.auth.fetch import FetchFailed
from indaco_common.auth.flights import Flights
from indaco_common.auth.issuers import TrustedIssuer
from indaco_common.auth.kept import Access, Kept
from indaco_common.auth.oauth_client import GrantRefused, OAuthClient, Want
from indaco_common.clock import Clock
from indaco_common.errors import Conflict, Unauthenticated, Unavailable
from indaco_common.ids import uuid7
from indaco_common.secrets.port import Secrets

WAIT_S, LOOK_S = 15.0, 0.1  # for another process that renews
WRITE_S = 10.0  # for a vault that does not take what an issuer has given
REMEMBER = 5000
RETRY_S = 5.0

T = TypeVar("T")

_log = structlog.get_logger(__name__)


class TokensLost(Unauthenticated):
    """There are no tokens any more, and none can be had: the user has to log in again."""

    code, title = "session-ended", "The session has ended"


class KeptTokens:
    """The tokens of one process's users; one for a process."""

    def __init__(
        self, secrets: Secrets, oauth: OAuthClient, clock: Clock, issuer_of: Callable[[str], TrustedIssuer | None]
    ) -> None:
        """*issuer_of* returns the record of an issuer that is trusted now."""
        self._secrets, self._oauth, self._clock, self._issuer_of = secrets, oauth, clock, issuer_of
        self._known: OrderedDict[str, Kept] = OrderedDict()
        self._unwritten: OrderedDict[str, Kept] = OrderedDict()
        self._moved: OrderedDict[str, str] = OrderedDict()
        self._flights: Flights[tuple[str, str], tuple[Access, Role]] = Flights()

    async def keep(self, path: str, kept: Kept) -> None:
        """Put a new grant at *path*. Raises: Unavailable."""
        await self._secrets.put(path, kept.written())
        self._remember(path, kept)

    async def replace(self, path: str, kept: Kept, *, version: int) -> None:
        """Put a grant at *path* where *version* still is what is there. Raises: Conflict, after giving it back; Unavailable."""
        try:
            await self._secrets.replace(path, kept.written(), version=version)
        except Conflict:
            await self._revoke(kept)
            raise
        self._remember(path, kept)

    async def look(self, path: str) -> tuple[Kept | None, int]:
        """Return what is kept at *path*, and its version. Raises: Unavailable."""
        return await self._read(path)

    async def move(self, path: str, to: str) -> bool:
        """Let what is at *path* be at *to* from now on, for both; return False, if there is no grant that can be renewed.

        What a crash leaves at both is the same grant, of which the one that was renewed last counts: moving again makes it one.
        Raises: Conflict, while somebody renews it; Unavailable.
        """
        try:
            kept, version = await self._read(path)
        except _Moved:
            return True
        now = self._clock.now()
        if kept is None or kept.refresh_token is None:
            return False
        if kept.claimed_until > now:
            raise Conflict("The token is being renewed")
        version = await self._secrets.replace(path, kept.claimed(uuid7(), now).written(), version=version)
        there, _ = await self._read(to)
        if there is None or there.grant != kept.grant or there.serial <= kept.serial:
            await self._secrets.put(to, kept.unclaimed().written())
        await self._secrets.replace(path, {"moved_to": to}, version=version)
        self.drop(path)
        self.drop(to)
        return True

    async def unmoved(self, path: str) -> Kept | None:
        """Return what is kept at *path*; None, if nothing is, or it has been moved. Raises: Unavailable."""
        try:
            kept, _ = await self._read(path)
        except _Moved:
            return None
        return kept

    async def give_back(self, kept: Kept) -> None:
        """Have the issuer revoke a grant that is not kept any more, if it can."""
        await self._revoke(kept)

    async def fresh(self, path: str, want: Want = Want(), *, role: Role | None = None) -> Access:  # noqa: B008 - frozen
        """Return an access token that is good for some time, of a grant to our client in *role* (None: in any).

        Raises: TokensLost; Unavailable, if it is to be renewed and cannot be now.
        """
        path = self._moved.get(path, path)
        known = self._known.get(path)
        if known is not None and role in (None, known.role) and (found := known.fresh(want, self._clock.now())):
            return found
        try:
            found, given_to = await self._flights.join((path, want.name), lambda: self._renew(path, want))
        except _Moved as moved:
            to = moved.to
        else:
            if role not in (None, given_to):
                raise TokensLost("There are no tokens of this session any more; log in again")
            return found
        _bounded(self._moved, path, to)
        return await self.fresh(to, want, role=role)

    async def forget(self, path: str, *, revoke: bool = True) -> None:
        """Have the issuer revoke it, if it can, and remove it. Raises: Unavailable."""
        try:
            kept, _ = await self._read(path)
        except _Moved:  # others live on it
            kept = None
        if kept is not None and revoke:
            await self._revoke(kept)
        await self._secrets.delete(path)
        self.drop(path)

    def drop(self, path: str) -> None:
        """Forget what this process remembers of *path*."""
        for memory in (self._known, self._unwritten, self._moved):
            memory.pop(path, None)

    async def close(self) -> None:
        """Wait for the renewals that are under way: what an issuer has given is not to be lost."""
        await self._flights.land()

    async def _renew(self, path: str, want: Want) -> tuple[Access, Role]:
        """Return a token that is good for some time, and the role of the client that has it."""
        loop = asyncio.get_running_loop()
        end, me = loop.time() + WAIT_S, uuid7()
        while True:
            kept, version = await self._read(path)
            now = self._clock.now()
            if kept is None:
                self.drop(path)
                raise TokensLost("There are no tokens of this session any more; log in again")
            valid = kept.valid(want, now)
            if (found := kept.fresh(want, now)) is not None:
                self._remember(path, kept)
                return found, kept.role
            if kept.refresh_token is None:
                if valid is not None:
                    return valid, kept.role
                raise TokensLost("The token has ended, and its issuer gave nothing to renew it with; log in again")
            if kept.claimed_until <= now:
                try:
                    claimed = kept.claimed(me, now)
                    version = await self._secrets.replace(path, claimed.written(), version=version)
                except Conflict:
                    continue
                return await self._renew_claimed(path, want, claimed, version)
            if valid is not None:
                return valid, kept.role
            if loop.time() >= end:
                raise Unavailable("The token is being renewed", retry_after_s=RETRY_S)
            await asyncio.sleep(LOOK_S)

    async def _renew_claimed(self, path: str, want: Want, kept: Kept, version: int) -> tuple[Access, Role]:
        """Ask the issuer, and write what it gives."""
        now = self._clock.now()
        unwritten = self._unwritten.pop(path, None)
        if unwritten is not None and unwritten.serial == kept.serial + 1:
            await self._write(path, unwritten, version)
            return await self._renew(path, want)
        try:
            issuer, client = self._client(kept)
            asked = (
                want
                if want.audience or want.resource
                else replace(want, audience=client.audience, resource=client.resource)
            )
            granted = await self._oauth.refresh(issuer, client, kept.refresh_token or "", asked, kept.scopes)
        except (GrantRefused, FetchFailed) as error:
            return await self._not_renewed(path, want, kept, version, error)
        renewed = kept.renewed(want, granted, now)
        await self._write(path, renewed, version)
        _log.info("tokens.renewed", issuer=kept.issuer, role=kept.role)
        return renewed.access[want.name], kept.role

    async def _not_renewed(
        self, path: str, want: Want, kept: Kept, version: int, error: Exception
    ) -> tuple[Access, Role]:
        """End it, if the issuer has; else give the claim back, and the old token as long as it is good."""
        code = error.code if isinstance(error, GrantRefused) else ""
        _log.warning("tokens.not_renewed", issuer=kept.issuer, role=kept.role, reason=str(error))
        if code == "invalid_grant":
            _, found = await self._read(path)
            if found != version:  # it took so long that somebody else has claimed it
                return await self._renew(path, want)
            await self._secrets.delete(path)
            self.drop(path)
            raise TokensLost("The issuer has ended the session; log in again")
        try:
            await self._secrets.replace(path, kept.unclaimed().written(), version=version)
        except Conflict:
            raise TokensLost("There are no tokens of this session any more; log in again") from None
        if (valid := kept.valid(want, self._clock.now())) is not None:
            return valid, kept.role
        raise Unavailable("The token cannot be renewed at its issuer now", retry_after_s=RETRY_S)

    async def _write(self, path: str, kept: Kept, version: int) -> None:
        """Write what the issuer has given, for some time again and again: nobody else has it.

        Raises: TokensLost, if it was removed meanwhile; Unavailable.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + WRITE_S
        while True:
            try:
                await self._secrets.replace(path, kept.written(), version=version)
            except Conflict:
                if await self._is_written(path, kept):  # by us: the answer was lost
                    break
                await self._revoke(kept)
                self.drop(path)
                raise TokensLost("There are no tokens of this session any more; log in again") from None
            except Unavailable:
                if loop.time() >= end:
                    _bounded(self._unwritten, path, kept)
                    raise
                await asyncio.sleep(LOOK_S)
            else:
                break
        self._remember(path, kept)

    async def _is_written(self, path: str, kept: Kept) -> bool:
        found, _ = await self._read(path)
        return found is not None and found.serial >= kept.serial and found.refresh_token == kept.refresh_token

    async def _read(self, path: str) -> tuple[Kept | None, int]:
        secret, version = await self._secrets.get_version(path)
        if secret is None:
            return None, version
        if isinstance(to := secret.get("moved_to"), str):
            raise _Moved(to)
        try:
            return Kept.read(secret), version
        except (ValueError, KeyError, TypeError, IndexError):
            _log.error("tokens.unreadable", role=str(secret.get("role"))[:20])
            return None, version

    def _client(self, kept: Kept) -> tuple[TrustedIssuer, LoginClient | ExchangeClient]:
        """Return the client that the tokens were given to. Raises: GrantRefused, if there is none any more."""
        issuer = self._issuer_of(kept.issuer)
        client = None if issuer is None else issuer.login if kept.role == "login" else issuer.exchange
        if issuer is None or client is None or client.client_id != kept.client_id:
            raise GrantRefused("invalid_grant")
        return issuer, client

    async def _revoke(self, kept: Kept) -> None:
        try:
            issuer, client = self._client(kept)
        except GrantRefused:
            return
        if (token := kept.refresh_token or next((one.token for one in kept.access.values()), None)) is not None:
            is_revoked = await self._oauth.revoke(issuer, client, token)
            _log.info("tokens.given_back", issuer=kept.issuer, role=kept.role, revoked=is_revoked)

    def _remember(self, path: str, kept: Kept) -> None:
        _bounded(self._known, path, kept)


class _Moved(Exception):
    """It is at another path."""

    def __init__(self, to: str) -> None:
        super().__init__(to)
        self.to = to


def _bounded(memory: OrderedDict[str, T], path: str, value: T) -> None:
    memory[path] = value
    memory.move_to_end(path)
    if len(memory) > REMEMBER:
        memory.popitem(last=False)
