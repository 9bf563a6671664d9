"""The registry as matching needs it: in memory, at most some seconds old. Ranking may be stale, admission never is."""

from datetime import datetime, timedelta

from indaco_common.clock import Clock
from indaco_common.contracts.values import Group
from indaco_common.errors import NotFound
from indaco_common.hints import Hints
from indaco_common.store import Query, Repository
from indaco_common.units import ResourceVector

from .matching import Option
from .model.ledger import Ledger
from .model.registry import Agreement, Provider

PAGE = 1000


class Offers:
    """All agreements by group, with their providers and what is used of them."""

    def __init__(
        self,
        providers: Repository[Provider],
        agreements: Repository[Agreement],
        ledgers: Repository[Ledger],
        clock: Clock,
        hints: Hints,
        refresh: timedelta,
    ) -> None:
        self._providers, self._agreements, self._ledgers = providers, agreements, ledgers
        self._clock, self._refresh = clock, refresh
        self._known: dict[str, Provider] = {}
        self._by_group: dict[Group, list[Agreement]] = {}
        self._used: dict[str, tuple[datetime, ResourceVector]] = {}
        self._read_at: datetime | None = None
        hints.on_change(Provider, self._forget)
        hints.on_change(Agreement, self._forget)

    def _forget(self, _: str) -> None:
        self._read_at = None

    async def of(self, group: Group) -> list[Option]:
        """Return every option of *group*, in the order of the agreements' ids."""
        now = self._clock.now()
        if self._read_at is None or now - self._read_at > self._refresh:
            await self._read(now)
        options = []
        for agreement in self._by_group.get(group, ()):
            assert agreement.record is not None
            provider = self._known.get(agreement.record.provider)
            failures = provider.recent_failures(now) if provider else 0.0
            used = await self._use(agreement.id, now)
            options.append(Option(agreement.record, provider.record if provider else None, used, failures))
        return options

    async def _read(self, now: datetime) -> None:
        providers, _ = await self._providers.find(Query(limit=PAGE, descending=False))
        agreements, _ = await self._agreements.find(Query(limit=10 * PAGE, descending=False))
        self._known = {provider.id: provider for provider in providers}
        self._by_group = {}
        for agreement in agreements:
            if agreement.record is not None:
                self._by_group.setdefault(agreement.record.group, []).append(agreement)
        self._read_at = now

    async def _use(self, ledger: str, now: datetime) -> ResourceVector:
        read_at, used = self._used.get(ledger, (None, ResourceVector()))
        if read_at is None or now - read_at > self._refresh:
            try:
                used = (await self._ledgers.get(ledger)).used()
            except NotFound:
                used = ResourceVector()
            self._used[ledger] = (now, used)
        return used
