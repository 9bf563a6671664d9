"""Timers on a real store: who is called, in which order, how often."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import ClassVar

import pytest

from indaco_common import timers
from indaco_common.clock import ManualClock
from indaco_common.envelope import Context
from indaco_common.errors import AlreadyHandled, Unavailable
from indaco_common.hints import Hints
from indaco_common.metrics import Metrics
from indaco_common.store import Aggregate, Repository
from indaco_common.store.sqlite import SqliteStore
from indaco_common.testing.bells import until
from indaco_common.timers import AT_ONCE, Timer

SECOND = timedelta(seconds=1)
Handler = Callable[[str, Context], Awaitable[None]]


class Alarm(Aggregate):
    KIND: ClassVar[str] = "alarm"
    rings: int = 0


class Bench:
    """A timer with all that it needs, and a way to set alarms."""

    def __init__(self, store: SqliteStore) -> None:
        self.store, self.clock, self.hints, self.metrics = store, ManualClock(), Hints(), Metrics("test")
        self.alarms = Repository(store, Alarm, source="test", clock=self.clock, saved=self.hints.saved)

    async def set(self, id: str, *, after: timedelta = timedelta(0)) -> None:
        async with self.alarms.upsert(id, Context()) as alarm:
            alarm.due_at = self.clock.now() + after

    async def silence(self, id: str, ctx: Context) -> None:
        """What a good handler does: save under the version it was called for."""
        async with self.alarms.edit(id, ctx) as alarm:
            alarm.rings, alarm.due_at = alarm.rings + 1, None

    @asynccontextmanager
    async def running(self, handler: Handler) -> AsyncIterator[Timer]:
        timer = Timer(Alarm, handler, self.store, self.clock, self.hints, self.metrics)
        task = asyncio.create_task(timer.run())
        try:
            yield timer
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def counted(self, outcome: str) -> float:
        labels = {"service": "test", "aggregate": "alarm", "outcome": outcome}
        return self.metrics.registry.get_sample_value("indaco_timers_total", labels) or 0.0


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setattr(timers, "POLL_S", 0.02)
    store = SqliteStore(tmp_path / "store.db", synchronous="OFF")
    await store.start()
    yield Bench(store)
    await store.stop()


async def test_the_most_overdue_is_called_first(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timers, "AT_ONCE", 1)
    order: list[str] = []
    for id, late in (("b", 2), ("a", 1), ("c", 3)):
        await bench.set(id, after=-late * SECOND)

    async def handler(id: str, ctx: Context) -> None:
        order.append(id)
        await bench.silence(id, ctx)

    async with bench.running(handler):
        await until(lambda: len(order) == 3)
    assert order == ["c", "b", "a"]


async def test_what_is_not_due_yet_is_left_alone_until_it_is(bench: Bench) -> None:
    await bench.set("a", after=10 * SECOND)
    async with bench.running(bench.silence):
        await asyncio.sleep(0.1)
        assert (await bench.alarms.get("a")).rings == 0
        bench.clock.advance(10 * SECOND)
        await until(lambda: bench.counted("done") == 1)


async def test_a_save_wakes_the_timer_without_waiting_for_the_poll(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timers, "POLL_S", 60)
    async with bench.running(bench.silence):
        await asyncio.sleep(0.05)
        await bench.set("a")
        await until(lambda: bench.counted("done") == 1)


async def test_the_handler_is_told_the_version_at_which_the_aggregate_was_due(bench: Bench) -> None:
    await bench.set("a")
    await bench.set("a")
    seen: list[int | None] = []

    async def handler(id: str, ctx: Context) -> None:
        seen.append(ctx.at_version)
        await bench.silence(id, ctx)

    async with bench.running(handler):
        await until(lambda: bool(seen))
    assert seen == [2]


async def test_a_timer_that_was_overtaken_changes_nothing_and_is_called_anew(bench: Bench) -> None:
    await bench.set("a")
    calls: list[int | None] = []

    async def handler(id: str, ctx: Context) -> None:
        calls.append(ctx.at_version)
        if len(calls) == 1:
            await bench.set("a")  # a message came in between
        await bench.silence(id, ctx)

    async with bench.running(handler):
        await until(lambda: bench.counted("done") == 1)
    assert (calls, bench.counted("stale")) == ([1, 2], 1)
    assert (await bench.alarms.get("a")).rings == 1


async def test_one_aggregate_has_one_handler_at_a_time(bench: Bench) -> None:
    await bench.set("a")
    begun, release = 0, asyncio.Event()

    async def handler(id: str, ctx: Context) -> None:
        nonlocal begun
        begun += 1
        await release.wait()
        await bench.silence(id, ctx)

    async with bench.running(handler):
        await until(lambda: begun == 1)
        await asyncio.sleep(0.1)
        assert begun == 1
        release.set()
        await until(lambda: bench.counted("done") == 1)


async def test_so_many_run_at_once_and_the_rest_follow(bench: Bench) -> None:
    for n in range(AT_ONCE + 8):
        await bench.set(f"a{n:02}")
    running = most = 0
    release = asyncio.Event()

    async def handler(id: str, ctx: Context) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await release.wait()
        await bench.silence(id, ctx)
        running -= 1

    async with bench.running(handler):
        await until(lambda: running == AT_ONCE)
        await asyncio.sleep(0.05)
        assert running == AT_ONCE
        release.set()
        await until(lambda: bench.counted("done") == AT_ONCE + 8)
    assert most == AT_ONCE


@pytest.mark.parametrize("error", [Unavailable("the site is down"), TimeoutError(), ValueError("a bug")])
async def test_what_failed_waits_longer_each_time_while_others_pass(bench: Bench, error: Exception) -> None:
    await bench.set("bad", after=-SECOND)
    await bench.set("good")
    calls = 0

    async def handler(id: str, ctx: Context) -> None:
        nonlocal calls
        if id == "good":
            return await bench.silence(id, ctx)
        calls += 1
        raise error

    async with bench.running(handler):
        await until(lambda: bench.counted("done") == 1)
        await asyncio.sleep(0.1)
        assert calls == 1
        bench.clock.advance(SECOND)
        await until(lambda: calls == 2)
        bench.clock.advance(SECOND)
        await asyncio.sleep(0.1)
        assert calls == 2  # the second pause is longer
        bench.clock.advance(SECOND)
        await until(lambda: calls == 3)


@pytest.mark.parametrize("error", [None, AlreadyHandled("always")])
async def test_a_handler_that_leaves_its_aggregate_due_is_not_called_in_a_hot_loop(
    bench: Bench, error: Exception | None
) -> None:
    await bench.set("a")
    calls = 0

    async def handler(id: str, ctx: Context) -> None:
        nonlocal calls
        calls += 1
        if error is not None:
            raise error

    async with bench.running(handler):
        await until(lambda: calls == 1)
        await asyncio.sleep(0.2)
        assert calls == 1
        bench.clock.advance(SECOND)
        await until(lambda: calls == 2)


async def test_a_handler_that_takes_too_long_is_cut_off(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timers, "TIMEOUT_S", 0.02)
    await bench.set("a")

    async def handler(id: str, ctx: Context) -> None:
        await asyncio.sleep(60)

    async with bench.running(handler):
        await until(lambda: bench.counted("failed") == 1)


async def test_a_store_that_is_away_does_not_end_the_timer(bench: Bench) -> None:
    await bench.set("a")
    await bench.store.stop()
    async with bench.running(bench.silence):
        await asyncio.sleep(0.05)
        await bench.store.start()
        await until(lambda: bench.counted("done") == 1)


async def test_draining_waits_for_what_runs_and_begins_nothing_new(bench: Bench) -> None:
    await bench.set("a")
    begun, release = asyncio.Event(), asyncio.Event()

    async def handler(id: str, ctx: Context) -> None:
        begun.set()
        await release.wait()
        await bench.silence(id, ctx)

    async with bench.running(handler) as timer:
        await begun.wait()
        drained = asyncio.create_task(timer.drain())
        await bench.set("b")
        await asyncio.sleep(0.05)
        assert not drained.done()
        release.set()
        await drained
        await asyncio.sleep(0.05)
        assert [(await bench.alarms.get(id)).rings for id in ("a", "b")] == [1, 0]


async def test_stopping_cancels_what_runs(bench: Bench) -> None:
    await bench.set("a")
    begun, ended = asyncio.Event(), asyncio.Event()

    async def handler(id: str, ctx: Context) -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    async with bench.running(handler):
        await begun.wait()
    assert ended.is_set()
