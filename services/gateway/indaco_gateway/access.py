"""Who asks, and may they? Authentication on each request; authorisation on each object."""

from aiohttp import ClientSession, web

from indaco_common.auth import Authenticator, Principal
from indaco_common.clock import Clock
from indaco_common.contracts.values import Group, Owner
from indaco_common.envelope import Context
from indaco_common.errors import Forbidden, NotFound
from indaco_common.store import Repository
from indaco_common.telemetry import traceparent
from indaco_common.web import request_id

from .model.operation import Operation
from .settings import GatewaySettings


class Access:
    """The door. Its HTTP session is opened at the start of the service."""

    def __init__(self, settings: GatewaySettings, operations: Repository[Operation], clock: Clock) -> None:
        self._settings, self._operations, self._clock = settings, operations, clock
        self._session: ClientSession | None = None
        self._authenticator: Authenticator | None = None

    async def open(self) -> None:
        if self._session is None:
            self._session = ClientSession()
            self._authenticator = Authenticator(self._settings.issuers, self._clock, self._session)

    async def close(self) -> None:
        if self._authenticator is not None:
            await self._authenticator.close()
        if self._session is not None:
            await self._session.close()

    async def caller(self, request: web.Request) -> Principal:
        """Return who asks. Raises: Unauthenticated, Unavailable."""
        await self.open()
        assert self._authenticator is not None
        return await self._authenticator.authenticate(request.headers.get("Authorization"))

    async def writer(self, request: web.Request) -> Principal:
        """Return who asks for a change. Raises: Unauthenticated, InsufficientScope."""
        principal = await self.caller(request)
        if self._settings.write_scopes:
            principal.require_scope(*self._settings.write_scopes)
        return principal

    def is_admin(self, principal: Principal) -> bool:
        """Administrators are those of the groups in the settings, as the first trusted issuer asserts them."""
        trusted = self._settings.issuers[:1]
        return any(i.issuer == principal.issuer for i in trusted) and not principal.groups.isdisjoint(
            self._settings.admin_groups
        )

    async def readable(self, request: web.Request) -> tuple[Operation, Principal]:
        """Return the operation in the path, if the caller may see it. Raises: NotFound, which hides what is not theirs."""
        principal, id = await self.caller(request), request.match_info["id"]
        try:
            operation = await self._operations.get(id)
        except NotFound:
            raise NotFound(f"The deployment <{id}> doesn't exist") from None
        if not (
            is_owner(operation, principal) or (self.is_admin(principal) and operation.owner.issuer == principal.issuer)
        ):
            raise NotFound(f"The deployment <{id}> doesn't exist")
        return operation, principal

    async def owned(self, request: web.Request) -> tuple[Operation, Principal]:
        """Return the operation in the path, if the caller owns it. Raises: NotFound, Forbidden."""
        operation, principal = await self.readable(request)
        if not is_owner(operation, principal):
            raise Forbidden("Only the owner of the deployment can perform this operation")
        return operation, principal


def is_owner(operation: Operation, principal: Principal) -> bool:
    return operation.owner == owner_of(principal)


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
        raise Forbidden(f"The group {asked[:100]} is not in the user's authorized groups")
    return Group(issuer=principal.issuer, path=path)


def context(request: web.Request, principal: Principal) -> Context:
    """Return the context of what the caller changes."""
    return Context(
        request_id=request_id(request), traceparent=traceparent(), auth_type="user",
        auth_id=f"{principal.subject}@{principal.issuer}",
    )  # fmt: skip
