"""Messages a second: relay and consumer against the bare client library, on one broker, in turn.

As a program (``python -m benchmarks.bus relay|noop|edit URL COUNT FOLDER``) it measures one of ours and prints JSON.
"""

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, ClassVar

from indaco_common.bus.consumer import Consumer
from indaco_common.bus.rabbitmq import RabbitBus
from indaco_common.bus.topology import Topology
from indaco_common.clock import SystemClock
from indaco_common.envelope import Context, Sealed, seal
from indaco_common.messages import Event
from indaco_common.metrics import Metrics
from indaco_common.relay import Relay
from indaco_common.settings import Settings
from indaco_common.store import Repository
from indaco_common.store.aggregate import Aggregate
from indaco_common.store.sqlite import SqliteStore
from indaco_common.telemetry import set_up_logging
from indaco_common.testing.rabbitmq import VirtualHost

from .programs import Rate, Stopwatch, compared, run
from .rows import BROKER, Figures, at_least, row

COUNT, ROUNDS, PREFETCH, BODY_BYTES = 3000, 3, 16, 1024
SERVICE = "bench"
BARE = "benchmarks/baselines/rabbitmq.py"


class Rang(Event, type="bench.bell.rang.v1", subject="bell"):
    bell_id: str
    filling: str


class Heard(Event, type="bench.ear.heard.v1", subject="ear"):
    ear_id: str


class Ear(Aggregate):
    KIND: ClassVar[str] = "ear"
    count: int = 0


TOPOLOGY = Topology({SERVICE: (Rang,)})


# ── rows


@row("msg/s", goal=at_least(0.5, on="ratio"), needs=BROKER)
def relay_publish() -> Figures:
    """Relay outboxes of SQLite (one message of 1 KiB each) to RabbitMQ: lease, confirmed publish, journal, settle. Baseline: bare
    aio-pika, confirmed publish, 100 in flight. Quorum queue, persistent; in turn, each in a process of its own, 3 rounds, medians."""
    return _compare("relay", "publish")


@row("msg/s", goal=at_least(0.5, on="ratio"), needs=BROKER)
def consumer_noop() -> Figures:
    """Take messages of 1 KiB from RabbitMQ through the whole consumer (decode, context, time-out, metrics, one JSON log line to
    /dev/null, acknowledgement) with a handler that does nothing. Baseline: bare aio-pika, consume and acknowledge. 16 unacknowledged;
    in turn, each in a process of its own, 3 rounds, medians."""
    return _compare("noop", "consume")


@row("msg/s", goal=at_least(0.25, on="ratio"), needs=BROKER)
def consumer_edit() -> Figures:
    """As consumer_noop, but the handler edits one aggregate in SQLite, emits one message and remembers the message handled, in one
    commit that is on disk before the acknowledgement. Baseline: bare aio-pika, consume and acknowledge."""
    return _compare("edit", "consume")


def _compare(mine: str, bare: str) -> Figures:
    host = VirtualHost.from_environment()
    assert host is not None
    rates: list[tuple[Rate, Rate]] = []
    try:
        for _ in range(ROUNDS):
            published = run(BARE, "publish", host.url, COUNT)
            consumed = run(BARE, "consume", host.url, COUNT)
            with tempfile.TemporaryDirectory(prefix="indaco-bench-") as folder:
                ours = run("-m", __name__, mine, host.url, COUNT, folder)
            asyncio.run(host.purge(SERVICE))
            rates.append((ours, published if bare == "publish" else consumed))
    finally:
        host.drop()
    return compared(rates, count=COUNT)


# ── programs


async def relay(url: str, count: int, folder: Path) -> Rate:
    """Relay *count* outboxes with one message each, journalled and settled."""
    store, bus, clock = SqliteStore(folder / "relay.db"), RabbitBus(url, connection_name=SERVICE), SystemClock()
    await store.start()
    await bus.start()
    await bus.declare(TOPOLOGY)
    await _fill(store, count)
    published, end = 0, asyncio.Event()

    class Counter:
        def published(self, number: int, /) -> None:
            nonlocal published
            published += number
            if published >= count:
                end.set()

    relay = Relay(store, bus, clock, metrics=Counter())
    watch = Stopwatch()
    running = asyncio.create_task(relay.run())
    await end.wait()
    rate = watch.rate(count)
    await relay.stop()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await bus.stop()
    await store.stop()
    return rate


async def _fill(store: SqliteStore, count: int) -> None:
    """Save *count* aggregates with a message each."""
    now, messages = SystemClock().now(), _messages(count)
    for start in range(0, count, 200):
        saves = (
            store.save(
                "bell", message.id, version=0, state=b"{}", index={}, due_at=None, outbox=[message], message_id=None, now=now
            )
            for message in messages[start : start + 200]
        )  # fmt: skip
        await asyncio.gather(*saves)


async def noop(url: str, count: int, _folder: Path) -> Rate:
    async def handle(_message: Rang, _ctx: Context) -> None:
        return

    return await _consume(url, count, handle)


async def edit(url: str, count: int, folder: Path) -> Rate:
    store = SqliteStore(folder / "edit.db")
    await store.start()
    ears = Repository(store, Ear, source=SERVICE, clock=SystemClock(), saved=lambda *_: None)

    async def handle(message: Rang, ctx: Context) -> None:
        async with ears.upsert(message.bell_id, ctx) as ear:
            ear.count += 1
            ear.emit(Heard(ear_id=ear.id))

    rate = await _consume(url, count, handle)
    await store.stop()
    return rate


async def _consume(url: str, count: int, handle: Callable[[Rang, Context], Awaitable[None]]) -> Rate:
    bus, end, taken = RabbitBus(url, connection_name=SERVICE), asyncio.Event(), 0
    await bus.start()
    await bus.declare(TOPOLOGY)
    messages = _messages(count)
    for start in range(0, count, 200):
        await bus.publish(messages[start : start + 200])

    class Counting(Metrics):
        def handled(self, type: str, outcome: str, seconds: float, /) -> None:
            nonlocal taken
            super().handled(type, outcome, seconds)
            taken += 1
            if taken == count:
                end.set()

    consumer = Consumer(
        SERVICE, bus, {Rang.TYPE: [handle]}, SystemClock(), metrics=Counting(SERVICE), prefetch=PREFETCH
    )
    watch = Stopwatch()
    await consumer.start()
    await end.wait()
    rate = watch.rate(count)
    await consumer.drain()
    await bus.stop()
    return rate


def _messages(count: int) -> list[Sealed]:
    """Return *count* envelopes of about 1 KiB."""
    now, filling = SystemClock().now(), "x" * (BODY_BYTES - 620)
    rung = (Rang(bell_id=f"b-{number:06d}", filling=filling) for number in range(count))
    return [seal(message, Context(), source=SERVICE, version=1, index=0, now=now) for message in rung]


def main(name: str, url: str, count: str, folder: str) -> None:
    set_up_logging(Settings(), stream=open(os.devnull, "w"))  # noqa: SIM115, PTH123 - for the life of the process
    programs: dict[str, Any] = {"relay": relay, "noop": noop, "edit": edit}
    print(json.dumps(asyncio.run(programs[name](url, int(count), Path(folder)))))


if __name__ == "__main__":
    main(*sys.argv[1:])
