"""What matching sees of the registry: how old it may be, and what is read for it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from indaco_common.clock import ManualClock
from indaco_common.contracts.sla import QuotaReserve
from indaco_common.contracts.values import Group, Owner
from indaco_common.envelope import Context
from indaco_common.errors import Unavailable
from indaco_common.hints import Hints
from indaco_common.ids import DeploymentId, ReservationId, uuid7
from indaco_common.store import Page, Query, Repository
from indaco_common.store.sqlite import SqliteStore
from indaco_common.units import ResourceVector
from indaco_sla import offers as module
from indaco_sla.handlers import Registering
from indaco_sla.model.ledger import Ledger
from indaco_sla.model.registry import Agreement, AgreementRecord, Provider, ProviderRecord, ProviderState
from indaco_sla.offers import Offers

NOW = datetime(2026, 6, 1, tzinfo=UTC)
REFRESH = timedelta(seconds=2)
CMS, ATLAS = (Group(issuer="https://iam.example.org/", path=path) for path in ("cms", "atlas"))


class WatchedStore:
    """Counts lists that are read, and lets a test step in before one."""

    def __init__(self, inner: SqliteStore) -> None:
        self._inner = inner
        self.found: Counter[str] = Counter()
        self.before_find: Callable[[str], Awaitable[None]] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def find(self, kind: str, query: Query) -> Page:
        self.found[kind] += 1
        if self.before_find is not None:
            await self.before_find(kind)
        return await self._inner.find(kind, query)


class Replica:
    def __init__(self, store: Any, clock: ManualClock) -> None:
        self.clock, self.hints = clock, Hints()

        def repository(kind: Any) -> Any:
            return Repository(store, kind, source="sla", clock=clock, saved=self.hints.saved)

        self.providers, self.agreements, self.ledgers = repository(Provider), repository(Agreement), repository(Ledger)
        self.offers = Offers(self.providers, self.agreements, self.ledgers, clock, self.hints, REFRESH)
        self.registering = Registering(self.providers, self.agreements, self.ledgers, clock)

    async def register(self, id: str, **more: Any) -> None:
        async with self.providers.upsert(id, Context()) as provider:
            provider.register(ProviderRecord(id=id, kind="simulated", **more))

    async def sign(self, id: str, provider: str = "site", group: Group = CMS, **more: Any) -> None:
        terms: dict[str, Any] = {
            "limits": ResourceVector(instances=9),
            "valid_from": NOW,
            "valid_to": NOW + timedelta(days=9),
        }
        async with self.agreements.upsert(id, Context()) as agreement:
            agreement.sign(AgreementRecord(id=id, group=group, provider=provider, project="p", **{**terms, **more}))
        async with self.ledgers.upsert(id, Context()) as ledger:
            ledger.grant(provider=provider, region="default", limits=ResourceVector(instances=9), user_limits=None)

    async def use(self, ledger_id: str) -> None:
        ask = QuotaReserve(
            ledger_id=ledger_id, reservation_id=ReservationId(uuid7()), deployment_id=DeploymentId("d"), attempt=1, slot="main",
            owner=Owner(issuer="i", subject="s"), nodes={"n-0": ResourceVector(instances=1)},
        )  # fmt: skip
        async with self.ledgers.edit(ledger_id, Context()) as ledger:
            ledger.reserve(ask, self.clock.now())


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[WatchedStore]:
    store = SqliteStore(tmp_path / "sla.db", synchronous="OFF")
    await store.start()
    yield WatchedStore(store)
    await store.stop()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


@pytest.fixture
async def replica(store: WatchedStore, clock: ManualClock) -> Replica:
    replica = Replica(store, clock)
    await replica.register("site")
    await replica.sign("cms-site")
    return replica


async def states(replica: Replica) -> list[str]:
    return [option.provider.state if option.provider else "unknown" for option in await replica.offers.of(CMS)]


async def test_a_group_sees_its_own_agreements_in_the_order_of_their_ids(replica: Replica) -> None:
    await replica.sign("cms-b", provider="gone")
    await replica.sign("cms-a")
    await replica.sign("atlas-site", group=ATLAS)
    await replica.use("cms-site")
    options = await replica.offers.of(CMS)
    assert [option.agreement.id for option in options] == ["cms-a", "cms-b", "cms-site"]
    assert [option.used["instances"] for option in options] == [0, 0, 1]
    assert options[1].provider is None
    assert await replica.offers.of(Group(issuer="https://elsewhere.example.org/", path="cms")) == []


async def test_own_changes_count_at_once(replica: Replica) -> None:
    assert await states(replica) == [ProviderState.ACTIVE]
    await replica.register("site", state="suspended")
    assert await states(replica) == [ProviderState.SUSPENDED]
    await replica.sign("cms-b")
    assert len(await states(replica)) == 2


async def test_changes_of_another_replica_count_after_a_while(replica: Replica, store: WatchedStore) -> None:
    other = Replica(store, replica.clock)
    await states(replica)
    await other.register("site", state="suspended")
    await other.sign("cms-b")
    await other.use("cms-site")
    assert await states(replica) == [ProviderState.ACTIVE]
    replica.clock.advance(REFRESH * 1.1)
    [option] = await replica.offers.of(CMS)
    assert option.provider is not None
    assert (option.provider.state, option.used["instances"]) == (ProviderState.SUSPENDED, 1)
    replica.clock.advance(REFRESH * module.AGREEMENTS_FACTOR)
    assert len(await replica.offers.of(CMS)) == 2


async def test_failures_fade_with_time(replica: Replica) -> None:
    async with replica.providers.edit("site", Context()) as provider:
        provider.attempt_failed(replica.clock.now())
    assert [option.failures for option in await replica.offers.of(CMS)] == [1.0]
    replica.clock.advance(timedelta(minutes=10))
    assert [option.failures for option in await replica.offers.of(CMS)] == [0.5]


async def test_all_are_read_however_many(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAGE", 3)
    for i in range(10):
        await replica.sign(f"cms-{i}", provider=f"p{i}")
        await replica.register(f"p{i}")
    options = await replica.offers.of(CMS)
    assert len(options) == 11
    assert all(option.provider for option in options)


async def test_those_who_ask_at_once_cause_one_read(replica: Replica, store: WatchedStore) -> None:
    store.found.clear()
    await asyncio.gather(*(replica.offers.of(CMS) for _ in range(20)))
    assert store.found == {"provider": 1, "agreement": 1}


async def test_a_failing_provider_does_not_cause_all_agreements_to_be_read(
    replica: Replica, store: WatchedStore
) -> None:
    await states(replica)
    store.found.clear()
    async with replica.providers.edit("site", Context()) as provider:
        provider.attempt_failed(replica.clock.now())
    await states(replica)
    assert store.found == {"provider": 1}


async def test_a_read_that_fails_is_made_again(replica: Replica, store: WatchedStore) -> None:
    async def fail(_: str) -> None:
        raise Unavailable("the store does not answer")

    store.before_find = fail
    with pytest.raises(Unavailable):
        await states(replica)
    store.before_find = None
    assert await states(replica) == [ProviderState.ACTIVE]


async def test_a_change_during_a_read_is_not_missed(replica: Replica, store: WatchedStore) -> None:
    async def suspend(kind: str) -> None:
        if kind == "agreement":  # the providers have been read by then
            store.before_find = None
            await replica.register("site", state="suspended")

    store.before_find = suspend
    await states(replica)
    assert await states(replica) == [ProviderState.SUSPENDED]
