"""From a delivery to a verdict: decode, context, span, time-out, handlers, retry. The same for every broker."""

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

import structlog
from opentelemetry import propagate, trace

from indaco_common.clock import Clock
from indaco_common.envelope import Context, Envelope, unseal
from indaco_common.errors import AlreadyHandled, Conflict, IndacoError, Invalid, Unavailable
from indaco_common.handling import Handler
from indaco_common.messages import Message

from .brake import Brake, BrakeMetrics, Ping
from .port import Bus, Dead, Delivery, Done, Later, Verdict
from .retry import after_failure, describe, may_pass

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

HANDLER_TIMEOUT_S = 60.0
IMMEDIATE_RERUNS = 4  # after a Conflict: by then the winner has saved, or the aggregate is too hot for running at once
LOOK_S = 1.0  # between two looks at the queue's length
_DONE = Done()


class Metrics(BrakeMetrics, Protocol):
    """What the consumer reports."""

    def handled(self, type: str, outcome: str, seconds: float, /) -> None:
        """Count one message: *outcome* is done, ignored, later or dead; *type* is empty for what cannot be read."""


class NoMetrics:
    def handled(self, type: str, outcome: str, seconds: float, /) -> None: ...
    def brake(self, engaged: bool, /) -> None: ...  # noqa: FBT001


@dataclass(frozen=True, slots=True)
class _Outcome:
    name: str
    verdict: Verdict
    word: str


class Consumer:
    """Gives the messages of one service's queue to its handlers.

    A message with several handlers here is done when all are; a delivery that is repeated runs all of them again, so each is
    idempotent by its own aggregate's inbox.
    """

    def __init__(
        self,
        service: str,
        bus: Bus,
        handlers: Mapping[str, Sequence[Handler]],
        clock: Clock,
        *,
        metrics: Metrics | None = None,
        tracer: trace.Tracer | None = None,
        dependencies: Sequence[Ping] = (),
        prefetch: int = 16,
        timeout_s: float = HANDLER_TIMEOUT_S,
        brake: Brake | None = None,
        look_s: float = LOOK_S,
    ) -> None:
        """*handlers* by message name, from :func:`indaco_common.handling.collect`; *tracer* None: no spans; *dependencies*: see Brake."""
        self._service, self._bus, self._handlers, self._clock = service, bus, dict(handlers), clock
        self._metrics = metrics or NoMetrics()
        self._tracer, self._prefetch, self._timeout_s, self._look_s = tracer, prefetch, timeout_s, look_s
        self._brake = brake or Brake(service, bus, metrics=self._metrics, dependencies=dependencies, prefetch=prefetch)
        self._log = log.bind()  # made once: putting one together costs as much as a line
        self._under_way = self._received = 0
        self._seen_until: datetime | None = None
        self._empty_at: datetime | None = None
        self._next_look = 0.0

    async def start(self) -> None:
        """Subscribe. Raises: Unavailable."""
        await self._bus.subscribe(self._service, self.receive, prefetch=self._prefetch)

    async def drain(self) -> None:
        """Take no further messages and wait for those under way; the caller sets the time limit."""
        await self._brake.stop()
        await self._bus.drain(self._service)

    @property
    def is_paused(self) -> bool:
        """Whether the outage brake holds."""
        return self._brake.is_on

    def seen_until(self) -> datetime | None:
        """Return the time up to which published messages have been seen here; None: nothing is known yet.

        It is the time of the newest message handled, or the moment the queue was seen empty. A deadline earlier than that may be
        acted upon; a later one may have its answer in the queue still.
        """
        return self._seen_until

    async def caught_up(self, moment: datetime) -> bool:
        """Whether :meth:`seen_until` has reached *moment*; look at the queue if not, at most once a second.

        It counts as empty when two looks in succession find it so and nothing came in between: what a broker has handed out
        may still be on its way.
        """
        if self._seen_until is not None and self._seen_until >= moment:
            return True
        if self._brake.is_on or time.monotonic() < self._next_look:
            return False
        self._next_look = time.monotonic() + self._look_s
        before, now = self._empty_at, self._clock.now()
        self._empty_at = now if await self._is_idle() else None
        if before is not None and self._empty_at is not None:
            self._advance(before)
        return self._seen_until is not None and self._seen_until >= moment

    async def _is_idle(self) -> bool:
        received = self._received
        try:
            is_empty = (await self._bus.state(self._service)).ready == 0
        except Unavailable:
            return False
        return is_empty and not self._under_way and received == self._received

    async def receive(self, delivery: Delivery) -> Verdict:
        """Handle one delivery; the receiver given to the bus. Cancellation leaves it without a verdict."""
        started = time.perf_counter()
        self._under_way += 1
        self._received += 1
        self._empty_at = None
        try:
            outcome = await self._decide(delivery)
        finally:
            self._under_way -= 1
        elapsed_s = time.perf_counter() - started
        self._metrics.handled(outcome.name, outcome.word, elapsed_s)
        self._tell(outcome, elapsed_s)
        return outcome.verdict

    async def _decide(self, delivery: Delivery) -> _Outcome:
        structlog.contextvars.clear_contextvars()
        try:
            envelope, message = unseal(delivery.body)
        except Invalid as error:
            structlog.contextvars.bind_contextvars(service=self._service)
            return _Outcome("", Dead(describe(error)), "dead")
        structlog.contextvars.bind_contextvars(
            service=self._service, correlation_id=envelope.correlationid, message_id=envelope.id, type=envelope.name,
            subject=envelope.subject,
        )  # fmt: skip
        if delivery.routed_as not in (None, envelope.name):
            # Who may publish what is a matter of names at the broker: one within that differs is another service's.
            return _Outcome(envelope.name, Dead(f"forged: it was published as {delivery.routed_as}"), "dead")
        handlers = self._handlers.get(envelope.name)
        if message is None or not handlers:
            return _Outcome(envelope.name, _DONE, "ignored")
        failure = await self._run(handlers, message, envelope, delivery.attempt)
        spared = await self._brake.saw(unavailable=isinstance(failure, Unavailable))
        if failure is None:
            self._advance(envelope.time)
            return _Outcome(envelope.name, _DONE, "done")
        verdict = after_failure(failure, attempt=delivery.attempt, age=self._clock.now() - envelope.time)
        if isinstance(verdict, Later) and spared:
            verdict = replace(verdict, attempt=delivery.attempt)
        return _Outcome(envelope.name, verdict, "later" if isinstance(verdict, Later) else "dead")

    async def _run(
        self, handlers: Sequence[Handler], message: Message, envelope: Envelope, attempt: int
    ) -> Exception | None:
        """Run all handlers, also behind one that fails; return what failed."""
        ctx = envelope.context(attempt)
        if self._tracer is None:
            failures = [await self._run_one(handler, message, ctx) for handler in handlers]
        else:
            with self._span(self._tracer, envelope, attempt) as traceparent:
                traced = replace(ctx, traceparent=traceparent)
                failures = [await self._run_one(handler, message, traced) for handler in handlers]
                _mark_span(failures)
        return _weightiest([error for error in failures if error is not None])

    async def _run_one(self, handler: Handler, message: Message, ctx: Context) -> Exception | None:
        try:
            async with asyncio.timeout(self._timeout_s):
                await _run_with_reruns(handler, message, ctx)
        except (IndacoError, TimeoutError) as error:
            return error
        except Exception as error:  # a bug: the dead letter names its place, the log has the stack
            log.exception("message.crashed")
            return error
        return None

    @contextmanager
    def _span(self, tracer: trace.Tracer, envelope: Envelope, attempt: int) -> Iterator[str | None]:
        """Open the span of one message, linked to its producer's, and yield what the handler's own messages carry on."""
        origin = trace.get_current_span(propagate.extract({"traceparent": envelope.traceparent or ""}))
        attributes: dict[str, str | int] = {
            "messaging.operation.type": "process", "messaging.destination.name": envelope.name,
            "messaging.message.id": envelope.id, "messaging.message.conversation_id": envelope.correlationid,
            "indaco.subject": envelope.subject, "indaco.attempt": attempt,
        }  # fmt: skip
        context = origin.get_span_context()
        links = [trace.Link(context)] if context.is_valid else []
        with tracer.start_as_current_span(
            f"process indaco.{self._service}", kind=trace.SpanKind.CONSUMER, attributes=attributes, links=links
        ):
            carrier: dict[str, str] = {}
            propagate.inject(carrier)
            yield carrier.get("traceparent", envelope.traceparent)

    def _advance(self, moment: datetime) -> None:
        if self._seen_until is None or moment > self._seen_until:
            self._seen_until = moment

    def _tell(self, outcome: _Outcome, seconds: float) -> None:
        """Write the message's one line."""
        match outcome.verdict:
            case Done() if outcome.word == "ignored":
                self._log.warning("message.ignored")
            case Done():
                self._log.info("message.handled", duration_s=round(seconds, 6))
            case Later(tier, attempt, error):
                self._log.warning(
                    "message.postponed", tier=tier, attempt=attempt, error=error, duration_s=round(seconds, 6)
                )
            case Dead(error):
                self._log.error("message.died", error=error, duration_s=round(seconds, 6))


async def _run_with_reruns(handler: Handler, message: Message, ctx: Context) -> None:
    """Run *handler*, again at once after a lost race. Raises: Conflict, if it lost every time."""
    for rerun in range(IMMEDIATE_RERUNS + 1):
        try:
            return await handler(message, ctx)
        except AlreadyHandled:
            return None
        except Conflict:
            if rerun == IMMEDIATE_RERUNS:
                raise
    return None


def _mark_span(failures: Sequence[Exception | None]) -> None:
    if (failure := next(filter(None, failures), None)) is not None:
        trace.get_current_span().set_status(trace.StatusCode.ERROR, describe(failure))


def _weightiest(failures: Sequence[Exception]) -> Exception | None:
    """Return what decides about the message: a failure that may pass by itself first, so that the message is tried again."""
    return next((error for error in failures if may_pass(error)), failures[0] if failures else None)
