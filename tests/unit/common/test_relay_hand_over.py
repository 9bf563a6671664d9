"""A save and the lease of what it saves share one transaction, where the relay is told in time."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from indaco_common.envelope import Context, Sealed, seal
from indaco_common.errors import Conflict
from indaco_common.store.sqlite import SqliteStore
from indaco_common.testing.bells import Rang

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LEASE_S = 15.0


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    made = SqliteStore(tmp_path / "s.db")
    await made.start()
    yield made
    await made.stop()


def message() -> Sealed:
    return seal(Rang(bell_id="b"), Context(), source="test", version=1, index=0, now=NOW)


async def save(store: SqliteStore, *outbox: Sealed, version: int = 0) -> None:
    await store.save(
        "bell", "b", version=version, state=b"{}", index={}, due_at=None, outbox=outbox, message_id=None, now=NOW
    )


@pytest.fixture
def transactions(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of operations of each transaction from here on."""
    counts: list[int] = []
    database = store._database
    batch = database._batch

    def counted(*arguments: Any) -> Any:
        jobs = batch(*arguments)
        counts.append(len(jobs))
        return jobs

    monkeypatch.setattr(database, "_batch", counted)
    return counts


async def test_a_lease_asked_for_when_a_save_begins_gets_what_it_saves_in_the_same_transaction(
    store: SqliteStore, transactions: list[int]
) -> None:
    leases, made = list[asyncio.Task[Any]](), message()
    store.on_saving(lambda: leases.append(asyncio.create_task(store.lease(NOW, LEASE_S, 10))))
    await save(store)
    transactions.clear()
    await save(store, made, version=1)
    [[entry]] = await leases[0]
    assert entry.sealed == made
    assert transactions == [2]


async def test_a_save_without_messages_wakes_nobody(store: SqliteStore) -> None:
    called: list[None] = []
    store.on_saving(lambda: called.append(None))
    await save(store)
    assert called == []


async def test_a_save_that_lost_its_race_leaves_nothing_to_lease(store: SqliteStore) -> None:
    await save(store)
    leases: list[asyncio.Task[Any]] = []
    store.on_saving(lambda: leases.append(asyncio.create_task(store.lease(NOW, LEASE_S, 10))))
    with pytest.raises(Conflict):
        await save(store, message(), version=7)
    assert await leases[0] == []
    assert await store.lease(NOW, LEASE_S, 10) == []


async def test_what_was_saved_while_nobody_leased_is_found_afterwards(store: SqliteStore) -> None:
    made = message()
    await save(store, made)
    [[entry]] = await store.lease(NOW, LEASE_S, 10)
    assert entry.sealed == made
