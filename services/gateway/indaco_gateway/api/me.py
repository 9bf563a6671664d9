"""/v1/me: who the gateway takes the caller for, and what that lets it do."""

import pydantic
from aiohttp import web
from pydantic import AwareDatetime

from indaco_common.auth import Principal, is_role
from indaco_common.web import describe, json_response
from indaco_gateway.identity.access import Access


class Me(pydantic.BaseModel):
    """The caller. (*issuer*, *subject*) is the identity; *name* is for display."""

    issuer: str
    subject: str
    name: str | None = pydantic.Field(None, description="As the issuer says; it proves nothing.")
    groups: list[str] = pydantic.Field(description='Paths: "cms/analysis". One can act for these.')
    group_roles: list[str] = pydantic.Field(
        description='Roles in groups, from entitlements: "vo.example/role=vm_operator".'
    )
    roles: list[str] = pydantic.Field(
        description="user, operator, auditor, group-admin: what the rules of this gateway make of the groups."
    )
    everywhere: list[str] = pydantic.Field(description="Those of the roles that hold for the users of all issuers.")
    administers: list[str] = pydantic.Field(
        description="Groups whose deployments the caller administers, and what lies below them."
    )
    scopes: list[str]
    can_write: bool = pydantic.Field(description="Whether the token may be used for changes.")
    expires_at: AwareDatetime = pydantic.Field(description="When the token ends.")


class MeApi:
    """What everybody may ask about themselves."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/v1/me", self.show)]

    @describe("Show who you are", tag="identity", answers={200: Me}, errors=(401,))
    async def show(self, request: web.Request) -> web.Response:
        """Identity, groups and roles, as the token proves them and the rules of this gateway read them."""
        principal = await self._access.caller(request)
        return json_response(_shown(principal, self._access))


def _shown(principal: Principal, access: Access) -> Me:
    roles = access.roles(principal)
    groups = sorted(principal.groups)
    return Me(
        issuer=principal.issuer,
        subject=principal.subject,
        name=principal.name,
        groups=[group for group in groups if not is_role(group)],
        group_roles=[group for group in groups if is_role(group)],
        roles=list(roles.names),
        everywhere=list(roles.everywhere),
        administers=sorted(roles.administered),
        scopes=sorted(principal.scopes),
        can_write=access.can_write(principal),
        expires_at=principal.expires_at,
    )
