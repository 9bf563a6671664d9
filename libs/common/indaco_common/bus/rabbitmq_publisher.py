"""Confirmed publishing: many in flight, written in order, each answered for."""

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import aio_pika.abc
import aiormq.channel
import aiormq.exceptions
from pamqp.commands import Basic
from pamqp.common import FieldValue

from indaco_common.clock import Clock
from indaco_common.envelope import CONTENT_TYPE
from indaco_common.errors import Unavailable

from .rabbitmq_link import Link, close_quietly, translated

IN_FLIGHT = 100  # unconfirmed at once: beyond it only the latency grows
ATTEMPT, ERROR, TRACEPARENT = "x-indaco-attempt", "x-indaco-error", "traceparent"

_PERSISTENT = 2
_DRAIN_BYTES = 32 * 1024  # behind a larger body the socket is drained; small ones are bounded by IN_FLIGHT
_HEAD_BYTES = 1024  # the attributes of an envelope come before its data
_TRACE = re.compile(rb'"traceparent":"([0-9a-f-]{55})"')


@dataclass(frozen=True, slots=True)
class Letter:
    """One message with its address."""

    exchange: str
    routing_key: str
    body: bytes
    properties: Basic.Properties
    mandatory: bool


def properties(
    body: bytes, *, id: str, name: str, correlation_id: str, app_id: str, clock: Clock, headers: Mapping[str, str | int]
) -> Basic.Properties:
    """Return the AMQP properties that repeat what an envelope says, for those who do not open it."""
    traced = _TRACE.search(body, 0, _HEAD_BYTES)
    table: dict[str, FieldValue] = dict(headers)
    if traced:
        table[TRACEPARENT] = traced[1].decode()
    return Basic.Properties(
        content_type=CONTENT_TYPE, delivery_mode=_PERSISTENT, message_id=id, message_type=name, correlation_id=correlation_id,
        timestamp=clock.now(), app_id=app_id, headers=table,
    )  # fmt: skip


def attempts(received: Basic.Properties) -> int:
    """Return the attempts that a message has behind it."""
    attempt = (received.headers or {}).get(ATTEMPT, 0)
    return attempt if isinstance(attempt, int) else 0


class Publisher:
    """Publishes on a channel of its own, so that a refused message does not disturb consumers."""

    def __init__(self, link: Link, *, timeout_s: float) -> None:
        self._link, self._timeout_s = link, timeout_s
        self._in_flight = asyncio.Semaphore(IN_FLIGHT)
        self._opening = asyncio.Lock()
        self._channel: aio_pika.abc.AbstractChannel | None = None

    async def stop(self) -> None:
        if self._channel is not None:
            await close_quietly(self._channel, self._timeout_s)

    async def publish(self, letters: Sequence[Letter]) -> list[bool]:
        """Publish in order; return for each whether the broker has it (False: no queue takes it, or the queue refuses).

        Raises: Unavailable, if nothing was confirmed and something failed; what is not confirmed may have arrived nevertheless.
        """
        raw = await self._ready()
        tasks: list[asyncio.Task[bool | Unavailable]] = []
        async with asyncio.TaskGroup() as group:
            for letter in letters:
                await self._in_flight.acquire()
                task = group.create_task(self._publish_one(raw, letter))
                task.add_done_callback(self._landed)
                tasks.append(task)
        answers = [task.result() for task in tasks]
        failure = next((answer for answer in answers if isinstance(answer, Unavailable)), None)
        if failure is not None and True not in answers:
            raise failure
        return [answer is True for answer in answers]

    def _landed(self, _: asyncio.Task[bool | Unavailable]) -> None:
        self._in_flight.release()

    async def _publish_one(self, raw: aiormq.channel.Channel, letter: Letter) -> bool | Unavailable:
        try:
            with translated("publish"):
                await raw.basic_publish(
                    letter.body, exchange=letter.exchange, routing_key=letter.routing_key, properties=letter.properties,
                    mandatory=letter.mandatory, timeout=self._timeout_s, wait=len(letter.body) > _DRAIN_BYTES,
                )  # fmt: skip
        except Unavailable as error:
            return not isinstance(error.__cause__, aiormq.exceptions.DeliveryError) and error
        return True

    async def _ready(self) -> aiormq.channel.Channel:
        """Return the open channel, or open one. Raises: Unavailable."""
        async with self._opening:
            if self._channel is None or self._channel.is_closed:
                self._channel = await self._link.channel(raises_returns=True)
            raw = await self._channel.get_underlay_channel()
        assert isinstance(raw, aiormq.channel.Channel)  # its abstract class does not know `wait`
        return raw
