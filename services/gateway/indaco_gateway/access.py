"""Who asks, and may they? Authentication on each request; authorisation on each object."""

from enum import Enum

from aiohttp import ClientSession, web

from indaco_common.auth import Authenticator, Principal
from indaco_common.clock import Clock
from indaco_common.contracts.values import Group, Owner
from indaco_common.envelope import Context
from indaco_common.errors import Forbidden, NotFound, Unavailable
from indaco_common.store import Repository
from indaco_common.telemetry import traceparent
from indaco_common.web import base_url, excerpt, request_id

from .model.operation import Operation
from .settings import GatewaySettings


class Right(Enum):
    """What a request wants with a deployment; who may not even read it is told that it does not exist."""

    READ = "its owner, and administrators"
    OWN = "its owner alone"
    CHANGE = "its owner and administrators, with a token that may write"


class Access:
    """The door; it opens when the service starts."""

    def __init__(self, settings: GatewaySettings, operations: Repository[Operation], clock: Clock) -> None:
        self._settings, self._operations, self._clock = settings, operations, clock
        self._admin_groups = frozenset(group.removeprefix("/") for group in settings.admin_groups)
        self._session: ClientSession | None = None
        self._authenticator: Authenticator | None = None

    async def open(self) -> None:
        self._session = ClientSession()
        self._authenticator = Authenticator(self._settings.issuers, self._clock, self._session)

    async def close(self) -> None:
        authenticator, self._authenticator = self._authenticator, None
        if authenticator is not None:
            await authenticator.close()
        if self._session is not None:
            await self._session.close()

    def base(self, request: web.Request) -> str:
        """Return what links begin with, without a trailing slash."""
        return self._settings.public_url.rstrip("/") or base_url(request)

    async def caller(self, request: web.Request) -> Principal:
        """Return who asks. Raises: Unauthenticated, Unavailable."""
        if self._authenticator is None:
            raise Unavailable("The gateway is starting", retry_after_s=1)
        return await self._authenticator.authenticate(request.headers.get("Authorization"))

    async def writer(self, request: web.Request) -> Principal:
        """Return who asks for a change. Raises: Unauthenticated, InsufficientScope."""
        principal = await self.caller(request)
        if self._settings.write_scopes:
            principal.require_scope(*self._settings.write_scopes)
        return principal

    def is_admin(self, principal: Principal) -> bool:
        """Administrators are those of the groups in the settings, as the first trusted issuer asserts them."""
        first = self._settings.issuers[0].issuer if self._settings.issuers else None
        return principal.issuer == first and not principal.groups.isdisjoint(self._admin_groups)

    async def operation(self, request: web.Request, right: Right) -> tuple[Operation, Principal]:
        """Return the operation in the path, and who asks for it. Raises: Unauthenticated, NotFound, Forbidden."""
        principal = await (self.writer(request) if right is Right.CHANGE else self.caller(request))
        id = request.match_info["id"]
        absent = NotFound(f"The deployment <{excerpt(id)}> doesn't exist")
        try:
            operation = await self._operations.get(id)
        except NotFound:
            raise absent from None
        if operation.created_at is not None and operation.owner == owner_of(principal):
            return operation, principal
        if not self.is_admin(principal) or operation.owner.issuer != principal.issuer:
            raise absent
        if right is Right.OWN:
            raise Forbidden("Only the owner of the deployment can perform this operation")
        return operation, principal


def owner_of(principal: Principal) -> Owner:
    return Owner(issuer=principal.issuer, subject=principal.subject)


def group_of(principal: Principal, asked: str | None) -> Group:
    """Return the group to act for: the one that was asked for, or the only one. Raises: Forbidden."""
    if not principal.groups:
        raise Forbidden("User's token does not contain a group claim or it is empty")
    if asked is None:
        if len(principal.groups) > 1:
            raise Forbidden(f"Say for which group: userGroup is one of {', '.join(sorted(principal.groups)[:20])}")
        (asked,) = principal.groups
    path = asked.removeprefix("/")
    if path not in principal.groups:
        raise Forbidden(f"The group {excerpt(asked)} is not in the user's authorized groups")
    return Group(issuer=principal.issuer, path=path)


def context(request: web.Request, principal: Principal) -> Context:
    """Return the context of what the caller changes."""
    return Context(
        request_id=request_id(request), traceparent=traceparent(), auth_type="user",
        auth_id=f"{principal.subject}@{principal.issuer}",
    )  # fmt: skip
