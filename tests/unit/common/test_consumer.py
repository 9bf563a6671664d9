"""From a delivery to a verdict."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import ClassVar

import pytest
import structlog
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from structlog.testing import capture_logs

from indaco_common.bus.brake import Brake
from indaco_common.bus.consumer import Consumer, NoMetrics
from indaco_common.bus.embedded import EmbeddedBus
from indaco_common.bus.port import Dead, Delivery, Done, Later, Verdict
from indaco_common.bus.retry import MAX_ATTEMPTS
from indaco_common.clock import ManualClock, SystemClock
from indaco_common.envelope import Context, seal
from indaco_common.errors import (
    AlreadyHandled,
    Conflict,
    Invalid,
    NotFound,
    NotYet,
    QuotaExceeded,
    TooManyRequests,
    Unavailable,
)  # fmt: skip
from indaco_common.store.aggregate import Aggregate
from indaco_common.store.repository import Repository
from indaco_common.store.sqlite import SqliteStore
from indaco_common.testing.bells import ALPHA, TOPOLOGY, Rang, Rusted, bells, sealed, settled, until

Handle = Callable[[Rang, Context], Awaitable[None]]
HOUR = timedelta(hours=1)
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Bell(Aggregate):
    KIND: ClassVar[str] = "bell"
    rings: int = 0

    @classmethod
    def new(cls, id: str) -> "Bell":
        return cls(id=id)


class Recorded(NoMetrics):
    def __init__(self) -> None:
        self.outcomes: list[tuple[str, str]] = []
        self.brakes: list[bool] = []

    def handled(self, type: str, outcome: str, seconds: float, /) -> None:
        self.outcomes.append((type, outcome))

    def brake(self, engaged: bool, /) -> None:  # noqa: FBT001
        self.brakes.append(engaged)


@pytest.fixture
async def bus(tmp_path: Path) -> AsyncIterator[EmbeddedBus]:
    bus = EmbeddedBus(tmp_path / "bus.db")
    await bus.start()
    await bus.declare(TOPOLOGY)
    yield bus
    await bus.stop()


@pytest.fixture
def metrics() -> Recorded:
    return Recorded()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def receive(bus: EmbeddedBus, clock: ManualClock, metrics: Recorded) -> Callable[..., Awaitable[Verdict]]:
    """Gives one message to handlers and returns the verdict."""

    async def receive(*handlers: Handle, attempt: int = 0, age: timedelta = timedelta()) -> Verdict:
        message = seal(Rang(bell_id="b"), Context(), source="test", version=1, index=0, now=clock.now() - age)
        consumer = Consumer(ALPHA, bus, {Rang.TYPE: list(handlers)}, clock, metrics=metrics, timeout_s=0.2)
        return await consumer.receive(Delivery(message.body, attempt))

    return receive


def raising(error: Exception) -> Handle:
    async def handle(_message: Rang, _ctx: Context) -> None:
        raise error

    return handle


class Handler:
    """Fails with *errors* one after the other, then succeeds."""

    def __init__(self, *errors: Exception) -> None:
        self.errors, self.calls = list(errors), 0
        self.ctx: Context | None = None

    async def __call__(self, _message: Rang, ctx: Context) -> None:
        self.calls, self.ctx = self.calls + 1, ctx
        if self.errors:
            raise self.errors.pop(0)


async def test_a_handled_message_is_done(receive, metrics) -> None:
    handler = Handler()
    assert await receive(handler, attempt=2) == Done()
    assert handler.ctx is not None
    assert handler.ctx.attempt == 2
    assert metrics.outcomes == [(Rang.TYPE, "done")]


@pytest.mark.parametrize("error", [NotYet("too early"), NotFound("no bell b"), Unavailable("store is away")])
@pytest.mark.parametrize(("attempt", "tier"), [(0, 0), (1, 1), (2, 2), (3, 3), (4, 3), (100, 3)])
async def test_what_waits_goes_down_the_tiers_and_stays_in_the_last(receive, error, attempt, tier) -> None:
    verdict = await receive(raising(error), attempt=attempt, age=23 * HOUR)
    assert verdict == Later(tier, attempt + 1, f"{error.code}: {error.detail}")


async def test_what_waits_dies_after_a_day(receive) -> None:
    assert await receive(raising(NotYet("too early")), attempt=150, age=25 * HOUR) == Dead("not-yet: too early")


async def test_an_old_message_that_is_replayed_has_its_attempts(receive) -> None:
    assert isinstance(await receive(raising(Unavailable()), attempt=0, age=900 * HOUR), Later)
    assert isinstance(await receive(raising(Unavailable()), attempt=MAX_ATTEMPTS - 1, age=900 * HOUR), Later)


@pytest.mark.parametrize("error", [TooManyRequests("slow down"), Conflict("lost again")])
async def test_other_retryable_errors_die_after_eight_attempts(receive, error) -> None:
    assert await receive(raising(error), attempt=7) == Later(3, 8, f"{error.code}: {error.detail}")
    assert await receive(raising(error), attempt=8) == Dead(f"{error.code}: {error.detail}")


async def test_retry_after_chooses_a_tier_that_is_long_enough(receive) -> None:
    assert (await receive(raising(TooManyRequests(retry_after_s=30)))).tier == 2
    assert (await receive(raising(TooManyRequests(retry_after_s=86400)))).tier == 3
    assert (await receive(raising(TooManyRequests(retry_after_s=0.5)), attempt=1)).tier == 1


async def test_what_will_never_succeed_dies_at_once(receive, metrics) -> None:
    assert await receive(raising(QuotaExceeded(resource="vcpu", asked=16, free=4))) == Dead(
        "quota-exceeded: vcpu: 16 asked, 4 free"
    )
    assert await receive(raising(Invalid("x" * 1000))) == Dead(("invalid: " + "x" * 1000)[:300])
    assert metrics.outcomes == [(Rang.TYPE, "dead")] * 2


async def test_a_bug_kills_the_message_and_its_text_stays_in_the_log(receive) -> None:
    with capture_logs() as lines:
        verdict = await receive(raising(ValueError("password=hunter2")))
    assert isinstance(verdict, Dead)
    assert verdict.error.startswith("internal-error: ValueError in test_consumer.py:")
    assert "hunter2" not in verdict.error
    assert any(line["event"] == "message.crashed" and line["exc_info"] for line in lines)


async def test_a_handler_that_takes_too_long_is_stopped_and_tried_later(receive) -> None:
    async def handle(_message: Rang, _ctx: Context) -> None:
        await asyncio.sleep(60)

    assert await receive(handle) == Later(0, 1, "timeout: the handler took too long")


async def test_a_lost_race_is_run_again_at_once(receive) -> None:
    handler = Handler(*[Conflict("lost")] * 4)
    assert await receive(handler) == Done()
    assert handler.calls == 5


async def test_a_race_lost_five_times_waits(receive) -> None:
    handler = Handler(*[Conflict("lost")] * 9)
    assert await receive(handler) == Later(0, 1, "conflict: lost")
    assert handler.calls == 5


async def test_what_was_handled_before_is_done(receive) -> None:
    assert await receive(Handler(AlreadyHandled("by bell"))) == Done()
    assert await receive(Handler(Conflict("lost"), AlreadyHandled("by bell"))) == Done()


async def test_every_handler_runs_and_one_that_may_succeed_later_decides(receive) -> None:
    good = Handler()
    assert await receive(raising(Invalid("never")), raising(NotYet("later")), good) == Later(0, 1, "not-yet: later")
    assert good.calls == 1
    assert await receive(raising(Invalid("never")), good) == Dead("invalid: never")
    assert good.calls == 2


async def test_a_message_that_nobody_handles_here_is_done_with_a_warning(bus, clock, metrics) -> None:
    consumer = Consumer(ALPHA, bus, {}, clock, metrics=metrics)
    with capture_logs() as lines:
        assert await consumer.receive(Delivery(sealed(Rusted(bell_id="b")).body)) == Done()
    assert [(line["event"], line["log_level"]) for line in lines] == [("message.ignored", "warning")]
    assert metrics.outcomes == [(Rusted.TYPE, "ignored")]


async def test_what_is_no_envelope_dies(bus, clock, metrics) -> None:
    consumer = Consumer(ALPHA, bus, {}, clock, metrics=metrics)
    verdict = await consumer.receive(Delivery(b"\xff"))
    assert isinstance(verdict, Dead)
    assert verdict.error.startswith("invalid: envelope")
    assert metrics.outcomes == [("", "dead")]


async def test_a_message_that_was_published_under_another_name_is_nobodys_word(bus, clock, metrics) -> None:
    heard: list[Rang] = []

    async def hear(message: Rang, _ctx: Context) -> None:
        heard.append(message)

    consumer = Consumer(ALPHA, bus, {Rang.TYPE: [hear]}, clock, metrics=metrics)
    body = seal(Rang(bell_id="b"), Context(), source="test", version=1, index=0, now=clock.now()).body
    verdict = await consumer.receive(Delivery(body, routed_as="accounting.record.opened.v1"))
    assert verdict == Dead("forged: it was published as accounting.record.opened.v1")
    assert (heard, metrics.outcomes) == ([], [(Rang.TYPE, "dead")])
    assert await consumer.receive(Delivery(body, routed_as=Rang.TYPE)) == Done()
    assert len(heard) == 1


async def test_cancelling_leaves_no_verdict(receive) -> None:
    async def handle(_message: Rang, _ctx: Context) -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await receive(handle)


async def test_the_handler_logs_with_the_identity_of_its_message(receive) -> None:
    async def handle(_message: Rang, ctx: Context) -> None:
        bound.update(structlog.contextvars.get_contextvars(), id=ctx.id)

    bound: dict[str, object] = {}
    await receive(handle)
    assert bound["service"] == ALPHA
    assert (bound["type"], bound["subject"], bound["correlation_id"]) == (Rang.TYPE, "bell/b", "b")
    assert bound["message_id"] == bound["id"]


async def test_a_span_is_linked_to_the_producer_and_carried_on(bus, clock) -> None:
    exporter, provider, handler = InMemorySpanExporter(), TracerProvider(), Handler()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    message = seal(Rang(bell_id="b"), Context(traceparent=TRACEPARENT), source="t", version=1, index=0, now=clock.now())
    consumer = Consumer(ALPHA, bus, {Rang.TYPE: [handler]}, clock, tracer=provider.get_tracer("test"))
    await consumer.receive(Delivery(message.body))
    (span,) = exporter.get_finished_spans()
    assert (span.name, span.kind.name) == (f"process indaco.{ALPHA}", "CONSUMER")
    assert f"{span.links[0].context.trace_id:032x}" in TRACEPARENT
    assert handler.ctx is not None
    assert (handler.ctx.traceparent or "").startswith(f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-")
    provider.shutdown()


async def test_a_span_tells_of_a_failure(bus, clock) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    consumer = Consumer(ALPHA, bus, {Rang.TYPE: [raising(Invalid("no"))]}, clock, tracer=provider.get_tracer("test"))
    await consumer.receive(Delivery(bells(1)[0].body))
    (span,) = exporter.get_finished_spans()
    assert (span.status.status_code.name, span.status.description) == ("ERROR", "invalid: no")
    provider.shutdown()


async def test_a_message_that_comes_twice_changes_its_aggregate_once(bus, tmp_path) -> None:
    async def handle(message: Rang, ctx: Context) -> None:
        async with repository.upsert(message.bell_id, ctx) as bell:
            bell.rings += 1

    store, clock = SqliteStore(tmp_path / "store.db"), SystemClock()
    await store.start()
    repository = Repository(store, Bell, source=ALPHA, clock=clock, saved=lambda *_: None)
    consumer = Consumer(ALPHA, bus, {Rang.TYPE: [handle]}, clock)
    (message,) = bells(1)
    for _ in range(3):
        assert await consumer.receive(Delivery(message.body)) == Done()
    assert (await repository.get("b-0")).rings == 1
    await store.stop()


class Outage:
    """A dependency that can be away: a handler needs it, and so does its ping."""

    def __init__(self) -> None:
        self.is_on, self.tried = True, 0
        self.attempts: list[int] = []

    async def ping(self) -> None:
        if self.is_on:
            raise Unavailable("the store does not answer")

    async def handle(self, _message: Rang, ctx: Context) -> None:
        self.tried += 1
        if self.is_on:
            raise Unavailable("the store does not answer")
        self.attempts.append(ctx.attempt)


def a_braked_consumer(bus: EmbeddedBus, outage: Outage, metrics: Recorded, *, pinged: bool = True) -> Consumer:
    brake = Brake(
        ALPHA, bus, metrics=metrics, dependencies=[outage.ping] if pinged else (), first_delay_s=0.05, max_delay_s=0.2
    )
    return Consumer(ALPHA, bus, {Rang.TYPE: [outage.handle]}, SystemClock(), metrics=metrics, brake=brake)


@pytest.mark.parametrize("pinged", [True, False])
async def test_the_brake_keeps_messages_in_the_queue_during_an_outage(bus, metrics, pinged) -> None:
    outage = Outage()
    consumer = a_braked_consumer(bus, outage, metrics, pinged=pinged)
    await bus.publish(bells(100))
    await consumer.start()
    await until(lambda: consumer.is_paused)
    await asyncio.sleep(0.5)
    assert (await bus.state(ALPHA)).ready >= 60
    assert not await consumer.caught_up(SystemClock().now() - HOUR)
    outage.is_on = False
    await until(lambda: len(outage.attempts) == 100)
    assert metrics.brakes == [True, False]
    assert not consumer.is_paused
    assert max(outage.attempts) <= 1
    await consumer.drain()


async def test_attempts_are_not_spent_while_the_brake_holds(bus, metrics) -> None:
    outage = Outage()
    consumer = a_braked_consumer(bus, outage, metrics)
    delivery = Delivery(bells(1)[0].body, attempt=3)
    await consumer.start()
    for _ in range(10):
        await consumer.receive(delivery)
    await until(lambda: consumer.is_paused)
    verdict = await consumer.receive(delivery)
    assert isinstance(verdict, Later)
    assert verdict.attempt == 3
    await consumer.drain()


async def test_a_far_away_outage_does_not_brake_the_service(bus, metrics) -> None:
    outage, away = Outage(), Outage()
    away.is_on = False
    brake = Brake(ALPHA, bus, metrics=metrics, dependencies=[away.ping], first_delay_s=0.05)
    consumer = Consumer(ALPHA, bus, {Rang.TYPE: [outage.handle]}, SystemClock(), metrics=metrics, brake=brake)
    await bus.publish(bells(40))
    await consumer.start()
    await until(lambda: outage.tried >= 40)
    assert metrics.brakes == []
    await consumer.drain()


async def test_it_has_seen_up_to_the_newest_message_handled(bus, clock) -> None:
    consumer = Consumer(ALPHA, bus, {Rang.TYPE: [Handler()]}, clock, look_s=0.0)
    assert consumer.seen_until() is None
    for age in (2 * HOUR, HOUR, 3 * HOUR):
        message = seal(Rang(bell_id="b"), Context(), source="t", version=1, index=0, now=clock.now() - age)
        await consumer.receive(Delivery(message.body))
    assert consumer.seen_until() == clock.now() - HOUR
    assert await consumer.caught_up(clock.now() - HOUR)


async def test_two_looks_at_an_empty_queue_are_as_good_as_a_message(bus, clock) -> None:
    consumer = Consumer(ALPHA, bus, {}, clock, look_s=0.0)
    moment = clock.now()
    assert not await consumer.caught_up(moment)
    clock.advance(HOUR)
    assert await consumer.caught_up(moment)
    assert consumer.seen_until() == moment


async def test_it_has_not_caught_up_while_messages_wait(bus, clock) -> None:
    consumer = Consumer(ALPHA, bus, {}, clock, look_s=0.0)
    await bus.publish(bells(1))
    assert not await consumer.caught_up(clock.now())
    assert not await consumer.caught_up(clock.now())
    assert consumer.seen_until() is None


async def test_it_has_not_caught_up_while_a_message_is_under_way(bus, clock) -> None:
    async def handle(_message: Rang, _ctx: Context) -> None:
        await gate.wait()

    gate = asyncio.Event()
    consumer = Consumer(ALPHA, bus, {Rang.TYPE: [handle]}, clock, look_s=0.0)
    receiving = asyncio.create_task(consumer.receive(Delivery(bells(1)[0].body)))
    await asyncio.sleep(0)
    assert not await consumer.caught_up(clock.now())
    assert not await consumer.caught_up(clock.now())
    gate.set()
    await receiving


async def test_the_whole_way_from_the_bus_and_back(bus, metrics) -> None:
    async def handle(message: Rang, ctx: Context) -> None:
        if message.bell_id == "b-1" and not ctx.attempt:
            raise NotYet("too early")
        if message.bell_id == "b-2":
            raise Invalid("cracked")

    consumer = Consumer(ALPHA, bus, {Rang.TYPE: [handle]}, SystemClock(), metrics=metrics)
    await consumer.start()
    await bus.publish(bells(5))
    await settled(bus, ALPHA, dead=1)
    await consumer.drain()
    (letter,) = await bus.dead_letters(ALPHA)
    assert letter.error == "invalid: cracked"
    assert sorted(outcome for _, outcome in metrics.outcomes) == ["dead", "done", "done", "done", "done", "later"]
