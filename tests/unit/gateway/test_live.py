"""Channels: one read for all who listen, nothing lost between a read and a change, nothing kept once all have heard."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

from indaco_common.clock import SystemClock
from indaco_common.envelope import Context
from indaco_common.errors import NotFound, TooManyRequests, Unavailable
from indaco_common.hints import Hints
from indaco_common.store import Repository
from indaco_common.store.sqlite import SqliteStore
from indaco_gateway.live import Live
from indaco_gateway.model.operation import Operation

NOW = datetime(2026, 6, 1, tzinfo=UTC)


class Counting(Repository[Operation]):
    reads = 0
    is_away = False
    before: asyncio.Event | None = None

    async def get(self, id: str) -> Operation:
        self.reads += 1
        if self.is_away:
            raise Unavailable("away")
        found = await super().get(id)
        if self.before is not None:
            await self.before.wait()
        return found


@pytest.fixture
async def operations(tmp_path: Path):
    store, hints = SqliteStore(tmp_path / "gateway.db", synchronous="OFF"), Hints()
    await store.start()
    operations = Counting(store, Operation, source="gateway", clock=SystemClock(), saved=hints.saved)
    operations.hints = hints  # type: ignore[attr-defined]
    yield operations
    await store.stop()


async def step(operations: Counting, id: str = "d-1") -> None:
    async with operations.upsert(id, Context()) as operation:
        operation.note(NOW, "test.step", "Step", "")


def live(operations: Counting, most: int = 100) -> Live:
    return Live(operations, operations.hints, most)  # type: ignore[attr-defined]


async def test_all_listeners_of_a_deployment_share_one_read(operations: Counting) -> None:
    await step(operations)
    hub = live(operations)
    with hub.listening("d-1", 0, lambda: False) as first, hub.listening("d-1", 0, lambda: False) as second:
        assert first.channel is second.channel
        await asyncio.gather(*(listener.channel.read() for listener in (first, second) * 50))
        assert operations.reads == 1
        await step(operations)
        assert first.wake.is_set()
        assert second.wake.is_set()
        await asyncio.gather(first.channel.read(), second.channel.read())
        assert (operations.reads, first.channel.steps) == (2, 2)


async def test_a_change_that_comes_during_a_read_is_read_again(operations: Counting) -> None:
    await step(operations)
    with live(operations).listening("d-1", 0, lambda: False) as listener:
        operations.before = asyncio.Event()
        reading = asyncio.create_task(listener.channel.read())
        while operations.reads == 0:
            await asyncio.sleep(0)
        listener.wake.clear()
        await step(operations)
        operations.before.set()
        assert (await reading).steps == 1
        assert listener.wake.is_set()
        assert listener.channel.has_news(1)
        assert (await listener.channel.read()).steps == 2


async def test_a_read_that_fails_is_tried_again(operations: Counting) -> None:
    await step(operations)
    with live(operations).listening("d-1", 0, lambda: False) as listener:
        operations.is_away = True
        with pytest.raises(Unavailable):
            await listener.channel.read()
        operations.is_away = False
        assert listener.channel.has_news(0)
        assert (await listener.channel.read()).steps == 1
    with live(operations).listening("d-9", 0, lambda: False) as listener, pytest.raises(NotFound):
        await listener.channel.read()


async def test_what_all_have_heard_is_not_kept_and_not_read_again(operations: Counting) -> None:
    await step(operations)
    with live(operations).listening("d-1", 0, lambda: False) as listener:
        channel = listener.channel
        events = channel.events(await channel.read(), 0)
        channel.rest()
        assert channel._operation is not None  # he has not heard it yet
        listener.told = events[-1][0]
        channel.rest()
        assert (channel._operation, channel._sent, channel.has_news(listener.told)) == (None, {}, False)
        assert operations.reads == 1


async def test_events_are_numbered_from_where_the_listener_is(operations: Counting) -> None:
    for _ in range(5):
        await step(operations)
    with live(operations).listening("d-1", 0, lambda: False) as listener:
        operation = await listener.channel.read()
        for after, expected in ((0, [1, 2, 3, 4, 5]), (3, [4, 5]), (5, []), (99, [])):
            events = listener.channel.events(operation, after)
            assert [number for number, _ in events] == expected
            assert all(event.startswith(f"id: {number}\nevent: test.step\n".encode()) for number, event in events)


async def test_a_place_is_free_again_when_a_listener_goes(operations: Counting) -> None:
    hub = live(operations, most=1)
    with hub.listening("d-1", 0, lambda: False), pytest.raises(TooManyRequests), hub.listening("d-2", 0, lambda: False):
        pass
    with hub.listening("d-2", 0, lambda: False):
        assert list(hub._channels) == ["d-2"]
    assert not hub._channels


async def test_one_user_does_not_take_the_place_of_all_others(operations: Counting) -> None:
    hub = Live(operations, operations.hints, 3, 2)  # type: ignore[attr-defined]
    with hub.listening("d-1", 0, lambda: False, "ada"), hub.listening("d-2", 0, lambda: False, "ada"):
        with pytest.raises(TooManyRequests, match="You have 2"), hub.listening("d-1", 0, lambda: False, "ada"):
            pass
        with hub.listening("d-1", 0, lambda: False, "bob"):
            pass
    assert not hub._by_user
