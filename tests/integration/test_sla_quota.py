"""What sla tells of its ledgers, over a real store: some time after they change, by whichever replica, and once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from indaco_common.clock import ManualClock
from indaco_common.contracts import sla
from indaco_common.envelope import Context
from indaco_common.errors import Unavailable
from indaco_common.store.sqlite import SqliteStore
from indaco_sla.model.ledger import Ledger
from indaco_sla.model.quota_report import QuotaReport
from indaco_sla.reporting import RELIST_PASSES, Reporting

from .test_sla import FEDERATION, ONE, Sla


class Flaky(SqliteStore):
    """A database that does not answer while it is *away*."""

    away = False

    async def versions(self, kind: str, ids: object) -> dict[str, int]:
        if self.away:
            raise Unavailable("the database is away")
        return await super().versions(kind, ids)  # type: ignore[arg-type]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Flaky]:
    store = Flaky(tmp_path / "sla.db", synchronous="OFF")
    await store.start()
    yield store
    await store.stop()


@pytest.fixture
async def replica(tmp_path: Path, store: Flaky) -> Sla:
    replica = Sla(tmp_path, store, ManualClock())
    await replica.start()
    await replica.relay()
    return replica


def reporting(replica: Sla, every_s: float = 5) -> Reporting:
    """Another process on the same store: it knows nothing of what others have seen."""
    reports = replica.service.infra.repository(QuotaReport)
    return Reporting(replica.ledgers, reports, replica.clock, timedelta(seconds=every_s))


async def told(replica: Sla) -> list[sla.QuotaChanged]:
    """Return what was told since this was asked last."""
    replica.said.clear()
    await replica.relay()
    return [message for message in replica.said if isinstance(message, sla.QuotaChanged)]


def by_ledger(found: list[sla.QuotaChanged]) -> dict[str, tuple[int, int]]:
    return {message.ledger_id: (message.used["instances"], message.held["instances"]) for message in found}


async def test_the_first_look_tells_of_every_ledger_and_the_next_of_those_that_changed(replica: Sla) -> None:
    watch = reporting(replica)
    await watch.look()
    first = await told(replica)
    assert by_ledger(first) == {"cms-a": (0, 0), "cms-b": (0, 0)}
    assert first[0].limits == {"instances": 3, "cpu_milli": 8000, "memory_mib": 8192}
    await watch.look()
    assert await told(replica) == []
    await replica.request(count=2)
    replica.clock.advance(timedelta(seconds=7))
    await watch.look()
    [changed] = await told(replica)
    assert (changed.ledger_id, changed.held, changed.as_of) == ("cms-a", ONE * 2, replica.clock.now())


async def test_many_changes_between_two_looks_are_told_once_and_the_ledger_is_not_touched(replica: Sla) -> None:
    watch = reporting(replica)
    await watch.look()
    await told(replica)
    for _ in range(3):
        await replica.request()
    before = (await replica.ledgers.get("cms-a")).version
    await watch.look()
    assert by_ledger(await told(replica))["cms-a"] == (0, 2)  # the third is the other site's: two a user
    assert (await replica.ledgers.get("cms-a")).version == before


async def test_what_a_process_that_died_did_not_tell_is_told_by_the_next_one(replica: Sla) -> None:
    await reporting(replica).look()
    await told(replica)
    await replica.request()
    await reporting(replica).look()
    assert by_ledger(await told(replica)) == {"cms-a": (0, 1)}
    await reporting(replica).look()
    assert await told(replica) == []


async def test_replicas_that_look_at_once_tell_it_once(replica: Sla) -> None:
    watches = [reporting(replica) for _ in range(4)]
    for count in range(1, 3):
        await replica.request()
        await asyncio.gather(*(watch.look() for watch in watches))
        await asyncio.gather(*(watch.look() for watch in watches))
        found = await told(replica)
        assert len({(message.ledger_id, message.revision) for message in found}) == len(found)
        assert by_ledger(found)["cms-a"] == (0, count)


async def test_a_ledger_that_another_replica_has_opened_is_found(replica: Sla) -> None:
    watch = reporting(replica)
    await watch.look()
    await told(replica)
    more = FEDERATION + "  - {<<: *first, id: cms-c, provider: site-b}\n"
    await Sla(replica.folder, replica.store, replica.clock).start(more)
    for _ in range(RELIST_PASSES):
        await watch.look()
    assert by_ledger(await told(replica)) == {"cms-c": (0, 0)}


async def test_limits_that_were_changed_are_told(replica: Sla) -> None:
    watch = reporting(replica)
    await watch.look()
    await told(replica)
    await replica.start(FEDERATION.replace("{instances: 3, cpu_milli: 8000", "{instances: 9, cpu_milli: 8000"))
    await watch.look()
    assert {message.limits["instances"] for message in await told(replica)} == {9}


async def test_the_task_goes_on_when_the_database_was_away(replica: Sla, store: Flaky) -> None:
    store.away = True
    task = asyncio.create_task(reporting(replica, every_s=0.01).run())
    try:
        await asyncio.sleep(0.1)
        assert await told(replica) == []
        store.away = False
        async with asyncio.timeout(5):
            while not await told(replica):
                await asyncio.sleep(0.01)
        assert not task.done()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_more_ledgers_than_a_page_are_all_told_of(replica: Sla) -> None:
    for number in range(450):
        async with replica.ledgers.upsert(f"more-{number:03d}", Context()) as ledger:
            ledger.grant(provider="site-a", region="default", limits=ONE, user_limits=None)
    await reporting(replica).look()
    assert len({message.ledger_id for message in await told(replica)}) == 452
    assert isinstance(await replica.ledgers.get("more-449"), Ledger)
