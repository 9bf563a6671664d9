"""Who asks, and may they? Authentication on each request; authorisation on each object."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import NamedTuple

import structlog
from aiohttp import web

from indaco_common.auth import (
    Authenticator,
    InsufficientScope,
    InvalidToken,
    IssuerHttp,
    KeptTokens,
    OAuthClient,
    Principal,
    TrustedIssuer,
    TrustTable,
    bearer_token,
    is_role,
)
from indaco_common.clock import Clock
from indaco_common.contracts.values import Group, Owner
from indaco_common.envelope import Context
from indaco_common.errors import Forbidden, NotFound, Unavailable
from indaco_common.recent import Recent
from indaco_common.secrets.port import Secrets
from indaco_common.store import Found, Repository
from indaco_common.telemetry import traceparent
from indaco_common.web import base_url, excerpt, request_id
from indaco_gateway.model.operation import Facts, Operation
from indaco_gateway.settings import GatewaySettings

from . import trust
from .limits import Limits
from .policy import Decision, Ownership, Policy, Right, Roles

__all__ = ["KEPT", "Access", "Right", "Shown", "context", "group_of", "owner_of"]

_TOKEN = web.RequestKey("token", str)
KEPT = 1024  # operations whose texts are kept, at each face: 16 KiB of row and its text at most, some 6 KiB as a rule
WRITING_CAPABILITIES = frozenset({"compute.create", "compute.modify", "compute.cancel"})

_log = structlog.get_logger(__name__)


class Shown(NamedTuple):
    """An operation as it is shown: which version, to whom it may be, and the text."""

    version: int
    ownership: Ownership | None
    text: bytes


class Access:
    """The door; it opens when the service starts."""

    def __init__(
        self,
        settings: GatewaySettings,
        operations: Repository[Operation],
        clock: Clock,
        limits: Limits | None = None,
        secrets: Secrets | None = None,
    ) -> None:
        """*secrets* is where the secrets of our clients at the issuers may be."""
        self._settings, self._operations, self._clock, self._limits = settings, operations, clock, limits
        self._secrets, self._client_secrets = secrets, trust.ClientSecrets(secrets)
        self._oauth: OAuthClient | None = None
        self._tokens: KeptTokens | None = None
        self._http: IssuerHttp | None = None
        self._authenticator: Authenticator | None = None
        self._policy = Policy((), TrustTable(()))
        self._marks = trust.marks(settings)
        self.session_token: Callable[[web.Request], Awaitable[str | None]] | None = None
        """Returns the access token of the session that a request without an Authorization header belongs to."""
        self.delegation: Callable[[web.Request, Principal, str], Awaitable[None]] | None = None
        """What is done with the access token of who creates or updates a deployment."""

    async def open(self) -> None:
        """Raises: Invalid, if what is said of the issuers cannot be used."""
        self._marks = await asyncio.to_thread(trust.marks, self._settings)
        found = await asyncio.to_thread(trust.of_settings, self._settings)
        self._policy = found.policy()
        self._http = IssuerHttp()
        self._authenticator = Authenticator(found.issuers, self._clock, self._http, self._client_secrets)
        self._oauth = OAuthClient(self._http, self._authenticator.discovery, self._client_secrets, self._clock)
        if self._secrets is not None:
            self._tokens = KeptTokens(self._secrets, self._oauth, self._clock, self._issuer)

    async def run(self) -> None:
        """Until the service stops: take over what is new in the issuers file."""
        if self._settings.issuers_file is None:
            await asyncio.Event().wait()
        while True:
            await asyncio.sleep(self._settings.issuers_refresh_s)
            await self.look()

    async def look(self, *, anew: bool = False) -> None:
        """Look once whether the issuers file has changed; *anew*: read it in any case."""
        if anew:
            self._marks = None
        self._marks, found = await trust.changed(self._settings, self._marks)
        if found is not None and self._authenticator is not None:
            self._authenticator.trust(found.issuers)
            self._policy = found.policy()
            _log.info("auth.issuers_changed", issuers=[each.issuer for each in found.issuers if each.enabled])

    async def close(self) -> None:
        if self._tokens is not None:
            await self._tokens.close()
        authenticator, self._authenticator = self._authenticator, None
        if authenticator is not None:
            await authenticator.close()
        if self._http is not None:
            await self._http.close()

    @property
    def authenticator(self) -> Authenticator:
        """Raises: Unavailable, before it is open."""
        if self._authenticator is None:
            raise Unavailable("The gateway is starting", retry_after_s=1)
        return self._authenticator

    def _issuer(self, name: str) -> TrustedIssuer | None:
        return self.authenticator.issuers.find(name)

    @property
    def oauth(self) -> OAuthClient:
        """What we ask issuers for, as clients of theirs. Raises: Unavailable, before it is open."""
        if self._oauth is None:
            raise Unavailable("The gateway is starting", retry_after_s=1)
        return self._oauth

    @property
    def tokens(self) -> KeptTokens:
        """Tokens of users, in the vault. Raises: Unavailable, before it is open, and without a vault."""
        if self._tokens is None:
            raise Unavailable("The gateway is starting", retry_after_s=1)
        return self._tokens

    def base(self, request: web.Request) -> str:
        """Return what links begin with, without a trailing slash."""
        return self._settings.public_url.rstrip("/") or base_url(request)

    async def caller(self, request: web.Request) -> Principal:
        """Return who asks. Raises: Unauthenticated, also for a token in the query string; Unavailable, TooManyRequests."""
        if self._limits is None:
            return await self._authenticate(request)
        return await self._limits.admit(request, self._authenticate)

    async def _authenticate(self, request: web.Request) -> Principal:
        if (
            request.query_string and "access_token" in request.query
        ):  # RFC 6750 §2.3: a URL ends up in logs and histories
            raise InvalidToken(
                "A token in the URL is not accepted; get another one and send it in the Authorization header"
            )
        header = request.headers.get("Authorization")
        if header is None and self.session_token is not None and (token := await self.session_token(request)):
            request[_TOKEN] = token
        else:
            request[_TOKEN] = bearer_token(header)
        return await self.authenticator.verify(request[_TOKEN])

    async def delegate(self, request: web.Request, principal: Principal) -> None:
        """See to it that what the caller is about to begin can act for them when their token has ended, where their issuer is set up for it.

        Raises: Forbidden, Unavailable, where a deployment must not be without.
        """
        if self.delegation is not None and (token := request.get(_TOKEN)) is not None:
            await self.delegation(request, principal, token)

    async def writer(self, request: web.Request) -> Principal:
        """Return who asks for a change. Raises: Unauthenticated, InsufficientScope."""
        principal = await self.caller(request)
        if (wanted := self._lacks(principal)) is not None:
            raise InsufficientScope(wanted)
        return principal

    def can_write(self, principal: Principal) -> bool:
        """Say whether the caller's token may be used for changes."""
        return self._lacks(principal) is None

    def _lacks(self, principal: Principal) -> Collection[str] | None:
        """Return the scopes of which the token would need one; None: it may write."""
        if self._settings.write_scopes and principal.scopes.isdisjoint(self._settings.write_scopes):
            return self._settings.write_scopes
        if principal.capabilities and principal.capabilities.isdisjoint(WRITING_CAPABILITIES):
            return WRITING_CAPABILITIES
        return None

    def roles(self, principal: Principal) -> Roles:
        """Return what the rules make of the caller."""
        return self._policy.roles(principal)

    def is_admin(self, principal: Principal) -> bool:
        """Say whether the caller is an operator for the users of its own issuer."""
        return self.roles(principal).operates(principal.issuer)

    def reads_all(self, principal: Principal) -> bool:
        """Say whether the caller may see everything of its own issuer's users: operators and auditors."""
        return self.roles(principal).reads_all(principal.issuer)

    async def operator(self, request: web.Request) -> Principal:
        """Return who asks for what only operators may, with a token that may write. Raises: Unauthenticated, Forbidden."""
        principal = await self.writer(request)
        if not self.is_admin(principal):
            raise Forbidden("Only operators can do this")
        return principal

    async def operation(self, request: web.Request, right: Right) -> tuple[Operation, Principal]:
        """Return the operation in the path, and who asks for it. Raises: Unauthenticated, NotFound, Forbidden."""
        principal = await (self.writer(request) if right is Right.CHANGE else self.caller(request))
        id = request.match_info["id"]
        try:
            found = await self._operations.get(id)
        except NotFound:
            raise _absent(id) from None
        self._require(right, principal, id, _ownership(found))
        return found, principal

    async def shown(
        self, request: web.Request, make: Callable[[Facts], bytes], kept: Recent[Found, Shown], variant: str = ""
    ) -> Shown:
        """Return the text that *make* makes of the operation in the path, if the caller may see it: see :meth:`Repository.get_made`.

        Raises: Unauthenticated, NotFound.
        """
        principal = await self.caller(request)
        id = request.match_info["id"]

        def made(facts: Facts) -> Shown:
            ownership = _ownership(facts)
            return Shown(facts.version, ownership, make(facts) if ownership else b"")

        try:
            found = await self._operations.get_made(id, Facts, made, kept, variant)
        except NotFound:
            raise _absent(id) from None
        self._require(Right.READ, principal, id, found.ownership)
        return found

    def _require(self, right: Right, principal: Principal, id: str, ownership: Ownership | None) -> None:
        """Raises: NotFound, Forbidden."""
        decision = self._decide(principal, ownership, right)
        if decision is Decision.UNSEEN:
            raise _absent(id)
        if decision is Decision.REFUSED:
            raise Forbidden(
                "Only the owner of the deployment can perform this operation"
                if right is Right.OWN
                else "The deployment is yours to see and not to change"
            )

    def decide(self, principal: Principal, operation: Facts, right: Right) -> Decision:
        """Decide what the caller may do with the operation, be it with a token that may write."""
        return self._decide(principal, _ownership(operation), right)

    def _decide(self, principal: Principal, ownership: Ownership | None, right: Right) -> Decision:
        return self._policy.decide(principal, ownership, right) if ownership else Decision.UNSEEN


def _ownership(operation: Facts) -> Ownership | None:
    """Return whose the operation is; None for a mere claim on its id, which is nobody's to see."""
    if operation.created_at is None:
        return None
    owner, group = operation.owner, operation.group
    return Ownership((owner.issuer, owner.subject), (group.issuer, group.path), operation.shares)


def _absent(id: str) -> NotFound:
    return NotFound(f"The deployment <{excerpt(id)}> doesn't exist")


def owner_of(principal: Principal) -> Owner:
    return Owner(issuer=principal.issuer, subject=principal.subject)


def group_of(principal: Principal, asked: str | None) -> Group:
    """Return the group to act for: the one that was asked for, or the only one. Raises: Forbidden."""
    groups = sorted(group for group in principal.groups if not is_role(group))
    if not groups:
        raise Forbidden("User's token does not contain a group claim or it is empty")
    if asked is None:
        if len(groups) > 1:
            raise Forbidden(f"Say for which group: one of {', '.join(groups[:20])}")
        (asked,) = groups
    path = asked.removeprefix("/")
    if path not in groups:
        raise Forbidden(f"The group {excerpt(asked)} is not in the user's authorized groups")
    return Group(issuer=principal.issuer, path=path)


def context(request: web.Request, principal: Principal) -> Context:
    """Return the context of what the caller changes."""
    return Context(
        request_id=request_id(request), traceparent=traceparent(), auth_type="user",
        auth_id=f"{principal.subject}@{principal.issuer}",
    )  # fmt: skip
