"""/v1/agreements and /v1/quotas: what groups may use where, and how much of that is free."""

from collections.abc import Callable
from typing import Annotated, TypeVar

import pydantic
from aiohttp import web
from pydantic import AwareDatetime

from indaco_common.auth import Principal
from indaco_common.clock import Clock
from indaco_common.errors import Forbidden, NotFound
from indaco_common.store import Query, Repository
from indaco_common.store.port import Scalar
from indaco_common.units import ResourceVector
from indaco_common.web import NoQuery, describe, excerpt, read_query
from indaco_gateway.identity.access import Access
from indaco_gateway.identity.policy import Roles
from indaco_gateway.model.agreement_view import AgreementState, AgreementView, audience_of

from .answers import MAX_CURSOR, answer, cursor_of, link_header, next_link, position_of
from .listing import DEFAULT_LIMIT, MAX_GROUPS, MAX_LIMIT, Text

T = TypeVar("T")
LISTING = (400, 401, 403, 503)


class AgreementsQuery(pydantic.BaseModel):
    """``group`` is one of the caller's, or one that it administers; without, all of these. Operators and auditors may name any."""

    group: Text | None = None
    provider: Text | None = None
    cursor: Annotated[str, pydantic.StringConstraints(max_length=MAX_CURSOR)] | None = None
    limit: Annotated[int, pydantic.Field(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT


class _Agreed(pydantic.BaseModel):
    group: str
    issuer: str = pydantic.Field(description="Who says who is of the group.")
    provider: str
    region: str
    state: AgreementState = pydantic.Field(description="Nothing can be had of one that is not valid.")


class AgreementShown(_Agreed):
    """What the group may use, in all and each of its users, per resource class; what is not named is not granted."""

    id: str
    project: str
    limits: ResourceVector
    user_limits: ResourceVector | None
    valid_from: AwareDatetime
    valid_to: AwareDatetime


class AgreementPage(pydantic.BaseModel):
    """A page of a list; *next* is the address of the next one, if there is more."""

    content: list[AgreementShown]
    next: str | None


class ResourceQuota(pydantic.BaseModel):
    """One resource class, in its unit: *used* by what runs, *held* for what is being built, *free* of the *limit*."""

    limit: int
    used: int
    held: int
    free: int


class QuotaShown(_Agreed):
    """How an agreement's quota stands. Without *as_of* nothing has been heard of it yet, and *resources* is empty.

    *as_of* is when it last changed, some seconds late. What the limits of one user leave may be less.
    """

    agreement: str
    resources: dict[str, ResourceQuota] = pydantic.Field(
        description="By resource class: instances, cpu_milli, memory_mib, disk_gib, …"
    )
    as_of: AwareDatetime | None


class QuotaPage(pydantic.BaseModel):
    """A page of a list; *next* is the address of the next one, if there is more."""

    content: list[QuotaShown]
    next: str | None


def query_of(asked: AgreementsQuery, principal: Principal, roles: Roles) -> Query:
    """Return the question to the store, for one more than the page has. Raises: Forbidden, Invalid."""
    reads_all = roles.reads_all(principal.issuer)
    equal: dict[str, Scalar] = {} if roles.everywhere else {"group.issuer": principal.issuer}
    if asked.group is not None:
        group = equal["group.path"] = asked.group.removeprefix("/")
        if not (reads_all or group in principal.groups or roles.administers(principal.issuer, group)):
            raise Forbidden(f"The group {excerpt(group)} is not in the user's authorized groups")
    if asked.provider is not None:
        equal["provider"] = asked.provider
    after = None if asked.cursor is None else position_of(asked.cursor, 1)[0]
    return Query(
        equal=equal, none_of={"group.path": [None]}, covered=(), contains=[] if reads_all else [("audience", _audience(principal, roles))],
        descending=False, after=None if after is None else (after, after), limit=asked.limit + 1, is_counted=False,
    )  # fmt: skip


def _audience(principal: Principal, roles: Roles) -> list[str]:
    return audience_of(sorted(principal.groups)[:MAX_GROUPS], sorted(roles.administered)[:MAX_GROUPS])


def may_see(view: AgreementView, principal: Principal, roles: Roles) -> bool:
    if view.group is None:
        return False
    issuer, path = view.group.issuer, view.group.path
    is_member = issuer == principal.issuer and path in principal.groups
    return is_member or roles.reads_all(issuer) or roles.administers(issuer, path)


class AgreementsApi:
    """Whoever is of a group may see what it may use."""

    def __init__(self, access: Access, agreements: Repository[AgreementView], clock: Clock) -> None:
        self._access, self._agreements, self._clock = access, agreements, clock

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/v1/agreements", self.index),
            web.get("/v1/agreements/{agreement}", self.show),
            web.get("/v1/quotas", self.quotas),
        ]

    @describe(
        "List agreements",
        tag="agreements",
        query=AgreementsQuery,
        answers={200: AgreementPage, 304: None},
        errors=LISTING,
    )
    async def index(self, request: web.Request) -> web.Response:
        """Those of the caller's groups, in the order of their ids; operators and auditors see all of their issuer's users' groups."""
        page, following = await self._page(request, self._agreement)
        body = AgreementPage(content=page, next=following)
        return answer(request, body, headers=link_header(following))

    @describe(
        "Show an agreement",
        tag="agreements",
        query=NoQuery,
        answers={200: AgreementShown, 304: None},
        errors=(400, 401, 404, 503),
    )
    async def show(self, request: web.Request) -> web.Response:
        principal = await self._access.caller(request)
        read_query(request, NoQuery)
        id = request.match_info["agreement"]
        absent = NotFound(f"There is no agreement {excerpt(id)}")
        try:
            found = await self._agreements.get(id)
        except NotFound:
            raise absent from None
        if not may_see(found, principal, self._access.roles(principal)):
            raise absent
        return answer(request, self._agreement(found))

    @describe(
        "List quotas", tag="agreements", query=AgreementsQuery, answers={200: QuotaPage, 304: None}, errors=LISTING
    )
    async def quotas(self, request: web.Request) -> web.Response:
        """One per agreement: of each resource class what is granted, used, held and free, as of when."""
        page, following = await self._page(request, self._quota)
        return answer(request, QuotaPage(content=page, next=following), headers=link_header(following))

    async def _page(self, request: web.Request, shown: Callable[[AgreementView], T]) -> tuple[list[T], str | None]:
        principal = await self._access.caller(request)
        asked = read_query(request, AgreementsQuery)
        found, _ = await self._agreements.find(query_of(asked, principal, self._access.roles(principal)))
        page, more = found[: asked.limit], len(found) > asked.limit
        following = next_link(request, self._access.base(request), cursor=cursor_of(page[-1].id)) if more else None
        return [shown(each) for each in page], following

    def _agreement(self, view: AgreementView) -> AgreementShown:
        assert view.group is not None
        assert view.valid_from is not None
        assert view.valid_to is not None
        return AgreementShown(
            id=view.id, group=view.group.path, issuer=view.group.issuer, provider=view.provider, region=view.region,
            project=view.project, state=view.state(self._clock.now()), limits=view.limits, user_limits=view.user_limits,
            valid_from=view.valid_from, valid_to=view.valid_to,
        )  # fmt: skip

    def _quota(self, view: AgreementView) -> QuotaShown:
        assert view.group is not None
        return QuotaShown(
            agreement=view.id, group=view.group.path, issuer=view.group.issuer, provider=view.provider, region=view.region,
            state=view.state(self._clock.now()), resources=resources_of(view), as_of=None if view.quota is None else view.quota.as_of,
        )  # fmt: skip


def resources_of(view: AgreementView) -> dict[str, ResourceQuota]:
    """Return how each class stands; limits that were lowered below what is in use leave nothing free, and not less."""
    quota = view.quota
    if quota is None:
        return {}
    return {
        name: ResourceQuota(
            limit=quota.limits[name], used=quota.used[name], held=quota.held[name],
            free=max(0, quota.limits[name] - quota.used[name] - quota.held[name]),
        )
        for name in sorted({*quota.limits, *quota.used, *quota.held})
    }  # fmt: skip
