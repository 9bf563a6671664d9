"""/v1/usage: core-hours, memory and wall time, of one's own machines or of a group's."""

import asyncio
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

import pydantic
from aiohttp import web
from pydantic import AwareDatetime, Field

from indaco_common.auth import Principal
from indaco_common.clock import Clock
from indaco_common.contracts.values import Group, Owner
from indaco_common.errors import FieldError, Forbidden, Invalid
from indaco_common.store import Query, Repository
from indaco_common.store.port import Scalar
from indaco_common.web import describe, excerpt, json_response, read_query
from indaco_gateway.identity.access import Access
from indaco_gateway.identity.policy import Roles
from indaco_gateway.model.usage_view import Sum, Sums, UsageView, Used, Window

from .listing import Text

MAX_RECORDS = 20_000  # that one question may read
PAGE = 200
AT_ONCE = 2  # questions that are read for in one process: the others wait
MAX_ROWS = 1000
DEFAULT_WINDOW = timedelta(days=30)
YEARS = (2000, 2200)  # that windows lie in
_INSTANT = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)")

By = Literal["deployment", "provider", "owner", "group"]
KEYS: Mapping[By, Callable[[Used], Any]] = {
    "deployment": lambda used: used.deployment,
    "provider": lambda used: used.provider,
    "owner": lambda used: used.owner,
    "group": lambda used: used.group,
}
PERSONAL: frozenset[By] = frozenset({"deployment", "owner"})  # they say who of a group did what


def _instant(value: object) -> object:
    if not isinstance(value, str) or not _INSTANT.fullmatch(value):
        raise ValueError("is an instant of RFC 3339 with its time zone: 2026-11-01T00:00:00Z")
    return value


def _in_range(value: datetime) -> datetime:
    if not YEARS[0] <= value.year <= YEARS[1]:
        raise ValueError(f"lies in the years {YEARS[0]} to {YEARS[1]}")
    return value.astimezone(UTC)


Instant = Annotated[AwareDatetime, pydantic.BeforeValidator(_instant), pydantic.AfterValidator(_in_range)]


class UsageQuery(pydantic.BaseModel):
    """``scope``: ``own`` (the default; with ``group``, what is of that group), ``group`` (all of the ``group`` that is named: its members
    may ask by provider, its administrators, operators and auditors by deployment and owner too), ``all`` (operators and auditors).

    ``from`` is 30 days before ``to`` unless given, ``to`` is now. ``limit`` is of rows; those with the most core-hours come first.
    """

    scope: Literal["own", "group", "all"] = "own"
    group: Text | None = None
    begin: Annotated[Instant | None, Field(alias="from")] = None
    end: Annotated[Instant | None, Field(alias="to")] = None
    by: By = "provider"
    limit: Annotated[int, Field(ge=1, le=MAX_ROWS)] = 100

    def window(self, now: datetime) -> Window:
        """Raises: Invalid."""
        end = self.end or now
        begin = self.begin or end - DEFAULT_WINDOW
        if begin >= end:
            raise Invalid(
                "The window is empty", errors=[FieldError("?from", "lies before `to`, which is now if not given")]
            )
        return Window(begin, end, now)


class Figures(pydantic.BaseModel):
    """What machines and containers took, used or idle. ``running``: how many of them have not ended, and count until now.

    ``simulated``: all of them at simulated sites, where nothing real runs.
    """

    core_hours: float
    memory_gib_hours: float
    wall_hours: float
    machines: int
    running: int
    simulated: bool


class UsageRow(Figures):
    """The figures of one deployment, provider, owner or group: as was asked for."""

    deployment: str | None = None
    provider: str | None = None
    owner: Owner | None = None
    group: Group | None = None


class Usage(pydantic.BaseModel):
    """What was used in the window, as of *as_of*. *total* is of all rows, also of those beyond the limit; *rows* counts all."""

    begin: Annotated[AwareDatetime, Field(serialization_alias="from")]
    end: Annotated[AwareDatetime, Field(serialization_alias="to")]
    as_of: AwareDatetime
    by: By
    content: list[UsageRow]
    rows: int
    total: Figures


def whose(asked: UsageQuery, principal: Principal, roles: Roles) -> dict[str, Scalar]:
    """Return whose records count. Raises: Forbidden, Invalid."""
    group = asked.group and asked.group.removeprefix("/")
    if asked.scope == "own":
        own: dict[str, Scalar] = {"used.owner.issuer": principal.issuer, "used.owner.subject": principal.subject}
        return own if group is None else {**own, "used.group.path": group}
    if asked.scope == "all":
        if group is not None:
            raise Invalid("The query is wrong", errors=[FieldError("?group", "goes with scope=own or scope=group")])
        if not roles.reads_all(principal.issuer):
            raise Forbidden("Only operators and auditors see what all have used")
        return {} if roles.everywhere else {"used.owner.issuer": principal.issuer}
    if not group:
        raise Invalid("The query is incomplete", errors=[FieldError("?group", "is needed with scope=group")])
    if not (roles.administers(principal.issuer, group) or roles.reads_all(principal.issuer)):
        if group not in principal.groups:
            raise Forbidden(f"The group {excerpt(group)} is not in the user's authorized groups")
        if asked.by in PERSONAL:
            raise Forbidden(f"Only its administrators see who of the group {excerpt(group)} used what: ask by=provider")
    return {"used.group.issuer": principal.issuer, "used.group.path": group}


class UsageApi:
    """Sums of records, made when they are asked for."""

    def __init__(self, access: Access, records: Repository[UsageView], clock: Clock) -> None:
        self._access, self._records, self._clock = access, records, clock
        self._turns = asyncio.Semaphore(AT_ONCE)

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/v1/usage", self.show)]

    @describe(
        "Show what was used", tag="usage", query=UsageQuery, answers={200: Usage}, errors=(400, 401, 403, 503), limit="plan"
    )  # fmt: skip
    async def show(self, request: web.Request) -> web.Response:
        """Allocated, not busy: vCPUs and memory of each machine and container times how long it was there within the window.

        A question that more than 20,000 records would have to be read for is refused: narrow the window, or ask for one group.
        """
        principal = await self._access.caller(request)
        asked = read_query(request, UsageQuery)
        window = asked.window(self._clock.now())
        where = whose(asked, principal, self._access.roles(principal))
        async with self._turns:
            sums = await self._sums(where, Sums(window, KEYS[asked.by]))
        content = [UsageRow(**{asked.by: key}, **_figures(row)) for key, row in sums.largest(asked.limit)]
        return json_response(
            Usage(
                begin=window.begin, end=window.end, as_of=window.now, by=asked.by, content=content, rows=len(sums.rows),
                total=Figures(**_figures(sums.total)),
            )
        )  # fmt: skip

    async def _sums(self, where: Mapping[str, Scalar], sums: Sums[Any]) -> Sums[Any]:
        """Read from what still runs back to what ended before the window. Raises: Invalid, if that is too much."""
        after: tuple[Scalar, str] | None = None
        for _ in range(MAX_RECORDS // PAGE):
            query = Query(equal=where, order_by="ended_at", after=after, limit=PAGE, is_counted=False)
            page, _ = await self._records.find(query)
            sums.add(page)
            if len(page) < PAGE or page[-1].ended_at < sums.window.begin:
                return sums
            after = (page[-1].ended_at.isoformat(), page[-1].id)
        detail = f"more than {MAX_RECORDS} records end after it; begin later, or ask for one group"
        raise Invalid("That is too much to add up", errors=[FieldError("?from", detail)])


def _figures(found: Sum) -> dict[str, Any]:
    names = ("core_hours", "memory_gib_hours", "wall_hours", "machines", "running", "simulated")
    return {name: getattr(found, name) for name in names}
