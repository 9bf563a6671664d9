"""Saves for the conformance suite of stores: made of bytes, as a store sees them."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from indaco_common.envelope import Sealed
from indaco_common.ids import uuid7
from indaco_common.store.port import Entry, Scalar, Store

NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
LEASE_S = 15.0
SECOND = timedelta(seconds=1)
MILLISECOND = timedelta(milliseconds=1)  # the finest instant that all databases keep


def sealed(name: str = "test.thing.happened.v1", correlation_id: str = "c-1", body: bytes = b'{"n": 1}') -> Sealed:
    return Sealed(uuid7(), name, correlation_id, "thing/1", body)


async def put(
    store: Store,
    id: str = "t-1",
    version: int = 0,
    state: bytes = b"{}",
    *,
    kind: str = "thing",
    index: dict[str, Scalar] | None = None,
    due_at: datetime | None = None,
    outbox: Sequence[Sealed] = (),
    message_id: str | None = None,
    now: datetime = NOW,
) -> None:
    await store.save(
        kind, id, version=version, state=state, index=index or {}, due_at=due_at, outbox=outbox, message_id=message_id, now=now
    )  # fmt: skip


def ids(leased: list[list[Entry]]) -> list[list[str]]:
    return sorted([entry.sealed.id for entry in entries] for entries in leased)
