"""The registry as matching needs it: in memory, a little old. Ranking may be stale, admission never is."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from indaco_common.clock import Clock
from indaco_common.contracts.values import Group
from indaco_common.errors import NotFound
from indaco_common.hints import Hints
from indaco_common.store import Aggregate, Query, Repository
from indaco_common.units import ResourceVector

from .matching import Option
from .model.ledger import Ledger
from .model.registry import Agreement, AgreementRecord, Provider

PAGE = 1000
AGREEMENTS_FACTOR = 15  # agreements change by hand and are many: what another replica changed may wait longer
A = TypeVar("A", bound=Aggregate)
T = TypeVar("T")


async def every(repository: Repository[A]) -> dict[str, A]:
    """Return all aggregates of a kind by id, in the order of their ids, a page at a time. Raises: Unavailable."""
    found: dict[str, A] = {}
    offset, total = 0, 1
    while offset < total:
        page, total = await repository.find(Query(offset=offset, limit=PAGE, descending=False))
        found |= {aggregate.id: aggregate for aggregate in page}
        offset += PAGE
    return found


class _Kept(Generic[T]):
    """What *read* returns, kept until it is *life* old or forgotten."""

    def __init__(self, read: Callable[[], Awaitable[T]], life: timedelta) -> None:
        self._read, self._life = read, life
        self._kept: tuple[datetime, T] | None = None
        self._is_forgotten = False

    def forget(self, _: str) -> None:
        self._is_forgotten = True

    async def get(self, now: datetime) -> T:
        if self._is_forgotten:
            self._is_forgotten, self._kept = False, None  # a change that comes during the read is read again
        if self._kept is None or now - self._kept[0] > self._life:
            self._kept = (now, await self._read())
        return self._kept[1]


class Offers:
    """All agreements by group, with their providers and what is used of them.

    This process's own changes count at once; another replica's within *refresh*: a provider's, a ledger's use, and
    within 15 times that an agreement's.
    """

    def __init__(
        self,
        providers: Repository[Provider],
        agreements: Repository[Agreement],
        ledgers: Repository[Ledger],
        clock: Clock,
        hints: Hints,
        refresh: timedelta,
    ) -> None:
        self._ledgers, self._clock, self._refresh = ledgers, clock, refresh
        self._providers = _Kept(lambda: every(providers), refresh)
        self._agreements = _Kept(lambda: _by_group(agreements), refresh * AGREEMENTS_FACTOR)
        self._used: dict[str, tuple[datetime, ResourceVector]] = {}
        self._reading = asyncio.Lock()  # one reads; those who wait find it done
        hints.on_change(Provider, self._providers.forget)
        hints.on_change(Agreement, self._agreements.forget)

    async def of(self, group: Group) -> list[Option]:
        """Return every option of *group*, in the order of the agreements' ids. Raises: Unavailable."""
        now = self._clock.now()
        async with self._reading:
            providers = await self._providers.get(now)
            agreements = (await self._agreements.get(now)).get(group, [])
            stale = [a.id for a in agreements if a.id not in self._used or now - self._used[a.id][0] > self._refresh]
            await asyncio.gather(*(self._read_use(ledger, now) for ledger in stale))
        options = []
        for agreement in agreements:
            provider, (_, used) = providers.get(agreement.provider), self._used[agreement.id]
            failures = provider.recent_failures(now) if provider else 0.0
            options.append(Option(agreement, provider.record if provider else None, used, failures))
        return options

    async def _read_use(self, ledger: str, now: datetime) -> None:
        try:
            used = (await self._ledgers.get(ledger)).used()
        except NotFound:
            used = ResourceVector()
        self._used[ledger] = (now, used)


async def _by_group(agreements: Repository[Agreement]) -> dict[Group, list[AgreementRecord]]:
    groups: dict[Group, list[AgreementRecord]] = {}
    for agreement in (await every(agreements)).values():
        if agreement.record is not None:
            groups.setdefault(agreement.record.group, []).append(agreement.record)
    return groups
