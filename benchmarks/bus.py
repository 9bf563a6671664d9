"""Messages per second: relay and consumer against the bare client library, on one broker, in turn.

    INDACO_TEST_AMQP=amqp://… INDACO_TEST_AMQP_MANAGEMENT=http://… python benchmarks/bus.py [--count 4000] [--rounds 3]

The baselines use nothing of Indaco: aio-pika alone, persistent messages of 1 KiB, a quorum queue, confirms, one acknowledgement
each. They are what a programmer would write by hand without outbox, journal, envelope, inbox, retries or logs.
"""

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import aio_pika

IN_FLIGHT, PREFETCH, BODY_BYTES = 100, 16, 1024
BARE_QUEUE, BARE_EXCHANGE, KEY = "bench.bare", "bench.events", "bench.bell.rang.v1"


@dataclass(frozen=True)
class Rate:
    """*per_s* by the clock, *cpu_us*: processor time of this process per message."""

    per_s: float
    cpu_us: float


class Stopwatch:
    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def rate(self, count: int) -> Rate:
        wall_s, cpu_s = time.perf_counter() - self._wall, time.process_time() - self._cpu
        return Rate(count / wall_s, cpu_s / count * 1e6)


# ── baselines: aio-pika alone


async def bare_publish(url: str, count: int) -> Rate:
    """Publish with confirms, 100 in flight; the messages stay for :func:`bare_consume`."""
    connection = await aio_pika.connect_robust(url)
    async with connection:
        channel = await connection.channel()
        exchange = await channel.declare_exchange(BARE_EXCHANGE, aio_pika.ExchangeType.TOPIC, durable=True)
        queue = await channel.declare_queue(BARE_QUEUE, durable=True, arguments={"x-queue-type": "quorum"})
        await queue.bind(exchange, KEY)
        body, left = os.urandom(BODY_BYTES), count

        async def work() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                message = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
                await exchange.publish(message, KEY)

        watch = Stopwatch()
        await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
        return watch.rate(count)


async def bare_consume(url: str, count: int) -> Rate:
    """Take *count* messages, acknowledge each; 16 unacknowledged at most."""
    connection = await aio_pika.connect_robust(url)
    async with connection:
        channel = await connection.channel()
        await channel.set_qos(PREFETCH)
        queue = await channel.get_queue(BARE_QUEUE)
        taken, end = 0, asyncio.Event()

        async def take(message: aio_pika.abc.AbstractIncomingMessage) -> None:
            nonlocal taken
            await message.ack()
            taken += 1
            if taken == count:
                end.set()

        watch = Stopwatch()
        tag = await queue.consume(take)
        await end.wait()
        rate = watch.rate(count)
        await queue.cancel(tag)
        return rate


# ── ours; imported late, so that a baseline's process need not load it

SERVICE = "bench"


async def relay_publish(url: str, count: int, folder: Path) -> Rate:
    """Relay *count* outboxes with one message each, from SQLite, journalled and settled; they stay for the consumers."""
    from indaco_common.bus.rabbitmq import RabbitBus
    from indaco_common.clock import SystemClock
    from indaco_common.relay import Relay
    from indaco_common.store.sqlite import SqliteStore

    store, bus, clock = SqliteStore(folder / "relay.db"), RabbitBus(url, connection_name=SERVICE), SystemClock()
    await store.start()
    await bus.start()
    await bus.declare(_topology())
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


async def _fill(store: object, count: int) -> None:
    """Save *count* aggregates with a message each."""
    from indaco_common.clock import SystemClock

    now, common = SystemClock().now(), {"state": b"{}", "index": {}, "due_at": None, "message_id": None}
    messages = _messages(count)
    for start in range(0, count, 200):
        saves = (
            store.save("bell", message.id, version=0, outbox=[message], now=now, **common)
            for message in messages[start : start + 200]
        )
        await asyncio.gather(*saves)


async def consumer_noop(url: str, count: int, _folder: Path) -> Rate:
    """Take *count* messages through the whole consumer, with a handler that does nothing."""

    async def handle(_message: object, _ctx: object) -> None:
        return

    return await _consume(url, count, handle)


async def consumer_edit(url: str, count: int, folder: Path) -> Rate:
    """As :func:`consumer_noop`, the handler saving one aggregate with one outgoing message, its id into the inbox."""
    from indaco_common.clock import SystemClock
    from indaco_common.store.aggregate import Aggregate
    from indaco_common.store.repository import Repository
    from indaco_common.store.sqlite import SqliteStore

    rang, heard = _kinds()

    class Ear(Aggregate):
        KIND: ClassVar[str] = "ear"
        count: int = 0

        @classmethod
        def new(cls, id: str) -> "Ear":
            return cls(id=id)

    store = SqliteStore(folder / "edit.db")
    await store.start()
    repository = Repository(store, Ear, source=SERVICE, clock=SystemClock(), saved=lambda *_: None)

    async def handle(message: rang, ctx: object) -> None:
        async with repository.upsert(message.bell_id, ctx) as ear:
            ear.count += 1
            ear.emit(heard(ear_id=ear.id))

    rate = await _consume(url, count, handle)
    await store.stop()
    return rate


async def _consume(url: str, count: int, handle: Callable[..., Awaitable[None]]) -> Rate:
    from indaco_common.bus.consumer import Consumer
    from indaco_common.bus.rabbitmq import RabbitBus
    from indaco_common.clock import SystemClock
    from indaco_common.metrics import Metrics

    bus, end, clock, taken = RabbitBus(url, connection_name=SERVICE), asyncio.Event(), SystemClock(), 0
    await bus.start()
    await bus.declare(_topology())
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

    consumer = Consumer(SERVICE, bus, {KEY: [handle]}, clock, metrics=Counting(SERVICE), prefetch=PREFETCH)
    watch = Stopwatch()
    await consumer.start()
    await end.wait()
    rate = watch.rate(count)
    await consumer.drain()
    await bus.stop()
    return rate


def _kinds() -> tuple[type, type]:
    from indaco_common.messages import REGISTRY, Event

    if KEY not in REGISTRY:

        class Rang(Event, type=KEY, subject="bell"):
            bell_id: str
            filling: str

        class Heard(Event, type="bench.ear.heard.v1", subject="ear"):
            ear_id: str

    return REGISTRY[KEY], REGISTRY["bench.ear.heard.v1"]


def _topology() -> object:
    from indaco_common.bus.topology import Topology

    return Topology({SERVICE: (_kinds()[0],)})


def _messages(count: int) -> list:
    from indaco_common.clock import SystemClock
    from indaco_common.envelope import Context, seal

    rang, now = _kinds()[0], SystemClock().now()
    messages = []
    for number in range(count):
        filling = "x" * (BODY_BYTES - 620)
        rung = rang(bell_id=f"b-{number:06d}", filling=filling)
        messages.append(seal(rung, Context(), source=SERVICE, version=1, index=0, now=now))
    return messages


def _set_up_logging() -> None:
    """As in production: JSON lines at info; only the disk is spared."""
    from indaco_common.settings import Settings
    from indaco_common.telemetry import set_up_logging

    set_up_logging(Settings(), stream=open(os.devnull, "w"))  # noqa: SIM115, PTH123 - for the life of the process


async def measure(count: int, rounds: int) -> dict[str, list[Rate]]:
    """Run all in turn, *rounds* times, on a virtual host of their own."""
    from indaco_common.testing.rabbitmq import VirtualHost

    if (host := VirtualHost.from_environment()) is None:
        sys.exit("INDACO_TEST_AMQP and INDACO_TEST_AMQP_MANAGEMENT name no broker")
    rates: dict[str, list[Rate]] = {}
    ours = (relay_publish, consumer_noop, consumer_edit)
    try:
        for _ in range(rounds):
            for baseline in (bare_publish, bare_consume):
                rates.setdefault(baseline.__name__, []).append(await baseline(host.url, count))
            for function in ours:
                with tempfile.TemporaryDirectory(prefix="indaco-bench-") as folder:
                    rates.setdefault(function.__name__, []).append(await function(host.url, count, Path(folder)))
                await host.purge(SERVICE)
    finally:
        host.drop()
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    _set_up_logging()
    rates = asyncio.run(measure(arguments.count, arguments.rounds))
    against = {"relay_publish": "bare_publish", "consumer_noop": "bare_consume", "consumer_edit": "bare_consume"}
    for name, found in rates.items():
        per_s, cpu_us = statistics.median(r.per_s for r in found), statistics.median(r.cpu_us for r in found)
        line = f"{name:15} {per_s:7.0f} msg/s  {cpu_us:6.0f} µs CPU each"
        if name in against:
            base = rates[against[name]]
            by_clock = statistics.median(mine.per_s / other.per_s for mine, other in zip(found, base, strict=True))
            by_cpu = statistics.median(other.cpu_us / mine.cpu_us for mine, other in zip(found, base, strict=True))
            line += f"  {by_clock:.2f} of {against[name]} by the clock, {by_cpu:.2f} by CPU"
        print(line)


if __name__ == "__main__":
    main()
