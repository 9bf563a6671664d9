"""From the outbox to the bus, on a real store and a real bus."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from indaco_common.bus.embedded import EmbeddedBus
from indaco_common.bus.topology import Topology
from indaco_common.clock import ManualClock
from indaco_common.envelope import Sealed
from indaco_common.errors import Unavailable
from indaco_common.relay import LEASE_S, Relay
from indaco_common.store.port import Entry, JournalQuery
from indaco_common.store.sqlite import SqliteStore
from indaco_common.testing.bells import ALPHA, TOPOLOGY, Ear, Melt, bells, sealed, settled, until


class Counted:
    def __init__(self) -> None:
        self.count = 0

    def published(self, count: int, /) -> None:
        self.count += count


class Store(SqliteStore):
    """The real store, whose settling fails as often as told."""

    failures = 0

    async def settle(self, published: Sequence[Entry], now) -> None:
        if self.failures:
            self.failures -= 1
            raise Unavailable("the disk is full")
        await super().settle(published, now)


class Bus(EmbeddedBus):
    """The real bus, which counts calls and can be held up."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.gate = asyncio.Event()
        self.gate.set()
        self.published: list[str] = []
        self.lost = 0  # how many of the next call are lost, as with a connection that breaks

    async def publish(self, messages: Sequence[Sealed], *, mandatory: frozenset[str] = frozenset()) -> list[str]:
        await self.gate.wait()
        lost, self.lost = self.lost, 0
        confirmed = await super().publish(messages[: len(messages) - lost], mandatory=mandatory)
        self.published += confirmed
        return confirmed


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = Store(tmp_path / "store.db")
    await store.start()
    yield store
    await store.stop()


@pytest.fixture
async def bus(tmp_path: Path) -> AsyncIterator[Bus]:
    bus = Bus(tmp_path / "bus.db")
    await bus.start()
    await bus.declare(TOPOLOGY)
    yield bus
    await bus.stop()


@pytest.fixture
async def relay(store: Store, bus: Bus, clock: ManualClock) -> AsyncIterator[Relay]:
    """A relay that runs, and polls so seldom that only hints count."""
    relay = Relay(store, bus, clock, poll_s=60.0, metrics=Counted())
    running = asyncio.create_task(relay.run())
    await asyncio.sleep(0.05)
    yield relay
    await relay.stop()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def save(store: SqliteStore, clock: ManualClock, id: str, messages: Sequence[Sealed], version: int = 0) -> None:
    await store.save(
        "bell", id, version=version, state=b"{}", index={}, due_at=None, outbox=messages, message_id=None, now=clock.now()
    )  # fmt: skip


async def is_empty(store: SqliteStore, clock: ManualClock) -> bool:
    return await store.outbox_age_s(clock.now() + timedelta(hours=1)) == 0.0


async def emptied(store: SqliteStore, clock: ManualClock) -> None:
    async with asyncio.timeout(10):
        while not await is_empty(store, clock):
            await asyncio.sleep(0.01)


async def test_what_is_saved_is_published_journalled_and_removed(store, bus, clock, relay) -> None:
    messages = bells(30)
    for number, message in enumerate(messages):
        await save(store, clock, f"b-{number}", [message])
    relay.hint()
    await emptied(store, clock)
    await settled(bus, ALPHA, ready=30)
    assert sorted(await store.journal(JournalQuery())) == sorted(message.body for message in messages)
    assert relay.is_healthy


async def test_a_hint_wakes_it_at_once(store, bus, clock, relay) -> None:
    for number, message in enumerate(bells(3)):
        await save(store, clock, f"b-{number}", [message])
        relay.hint()
        await until(lambda: len(bus.published) == number + 1, 2.0)  # noqa: B023


async def test_what_no_hint_spoke_of_is_found_by_the_poll(store, bus, clock) -> None:
    relay = Relay(store, bus, clock, poll_s=0.05)
    running = asyncio.create_task(relay.run())
    await asyncio.sleep(0.02)
    await save(store, clock, "b", bells(1))
    await until(lambda: len(bus.published) == 1, 2.0)
    await relay.stop()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_messages_of_one_aggregate_are_published_in_turn(store, bus, clock, relay) -> None:
    messages, ear = bells(60), Ear()
    for version in range(20):
        await save(store, clock, "b", messages[3 * version : 3 * version + 3], version)
        relay.hint()
        await asyncio.sleep(0)
    await emptied(store, clock)
    assert bus.published == [message.id for message in messages]
    await bus.subscribe(ALPHA, ear, prefetch=1)
    await ear.hears(60)
    assert ear.bells == [f"b-{number}" for number in range(60)]


async def test_a_command_without_an_owner_stays_and_is_tried_again_when_its_lease_ends(
    store, bus, clock, relay
) -> None:
    orphan, (other, third) = sealed(Melt(bell_id="b")), bells(2)
    await save(store, clock, "b", [orphan, other])
    await save(store, clock, "c", [third])
    relay.hint()
    await until(lambda: len(bus.published) == 2)
    await asyncio.sleep(0.1)
    assert not await is_empty(store, clock)
    await bus.declare(Topology({**TOPOLOGY.bindings, "foundry": (Melt,)}))
    clock.advance(timedelta(seconds=LEASE_S + 1))
    relay.hint()
    await emptied(store, clock)
    assert bus.published[2:] == [orphan.id]
    await settled(bus, "foundry", ready=1)


async def test_events_that_were_not_confirmed_are_published_again_soon(store, bus, clock, relay) -> None:
    messages = bells(10)
    await save(store, clock, "b", messages)
    bus.lost = 4
    relay.hint()
    await until(lambda: len(bus.published) == 6)
    await emptied(store, clock)
    assert bus.published == [message.id for message in messages]
    await until(lambda: relay.is_healthy)


async def test_it_waits_for_a_bus_that_is_away_and_goes_on_by_itself(store, tmp_path, clock) -> None:
    bus = Bus(tmp_path / "late.db")
    relay = Relay(store, bus, clock)
    running = asyncio.create_task(relay.run())
    await save(store, clock, "b", bells(2))
    relay.hint()
    await until(lambda: not relay.is_healthy)
    assert bus.published == []
    await bus.start()
    await bus.declare(TOPOLOGY)
    await emptied(store, clock)
    await until(lambda: relay.is_healthy)
    assert len(bus.published) == 2
    await relay.stop()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await bus.stop()


async def test_what_the_bus_has_is_settled_later_and_not_published_twice(store, bus, clock, relay) -> None:
    store.failures = 3
    await save(store, clock, "b", bells(2))
    relay.hint()
    await emptied(store, clock)
    assert len(bus.published) == 2
    await until(lambda: relay.is_healthy)


async def test_stopping_publishes_what_is_there(store, bus, clock, relay) -> None:
    for number, message in enumerate(bells(250)):
        await save(store, clock, f"b-{number}", [message])
    await relay.stop()
    assert len(bus.published) == 250
    assert await is_empty(store, clock)


async def test_stopping_gives_back_what_could_not_be_published(store, bus, clock, relay) -> None:
    bus.gate.clear()
    await save(store, clock, "b", bells(2))
    relay.hint()
    await asyncio.sleep(0.1)
    assert await store.lease(clock.now(), LEASE_S, 10) == []
    await relay.stop(grace_s=0.1)
    (outbox,) = await store.lease(clock.now(), LEASE_S, 10)
    assert len(outbox) == 2


async def test_the_outbox_of_a_relay_that_died_is_taken_over_when_its_lease_ends(store, bus, clock, relay) -> None:
    await save(store, clock, "b", bells(1))
    assert len(await store.lease(clock.now(), LEASE_S, 10)) == 1
    relay.hint()
    await asyncio.sleep(0.1)
    assert bus.published == []
    clock.advance(timedelta(seconds=LEASE_S + 1))
    relay.hint()
    await until(lambda: len(bus.published) == 1)


async def test_two_relays_share_the_work(store, bus, clock, relay) -> None:
    other = Relay(store, bus, clock, poll_s=0.05, batch=10)
    running = asyncio.create_task(other.run())
    for start in range(0, 300, 50):
        await asyncio.gather(*(save(store, clock, f"b-{start + n}", [message]) for n, message in enumerate(bells(50))))
        relay.hint()
        other.hint()
    await emptied(store, clock)
    assert len(bus.published) == len(set(bus.published)) == 300
    await other.stop()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
