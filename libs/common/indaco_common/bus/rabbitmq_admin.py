"""What operators and checks ask of RabbitMQ: topology, lengths, dead letters. Each call has a fresh channel, since a refusal closes it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import aiormq.abc
import pydantic_core
from pamqp.commands import Basic

from indaco_common.envelope import TYPE_PREFIX
from indaco_common.errors import Unavailable
from indaco_common.messages import REGISTRY, Command

from .port import DELAYS_S, DeadLetter, QueueState
from .rabbitmq_link import Link, close_quietly, translated
from .rabbitmq_objects import exchanges, queues, retry_bindings
from .rabbitmq_publisher import ERROR, attempts
from .topology import COMMANDS, EVENTS, Topology, dead_queue, queue, retry_exchange, retry_queue

DELIVERY_LIMIT = "delivery-limit: nobody who took it gave an answer"

BACK_LOOKS, BACK_PAUSE_S = 50, 0.02  # another operator may have taken them: then it is not waited for longer

Sender = Callable[[str, DeadLetter], Awaitable[bool]]


class Admin:
    """Works on one link; *timeout_s* is for each exchange with the broker."""

    def __init__(self, link: Link, *, timeout_s: float) -> None:
        self._link, self._timeout_s = link, timeout_s

    async def declare(self, topology: Topology) -> None:
        """Make all objects, take away the bindings of messages that a service no longer handles.

        Without the management API the present bindings cannot be listed, so those of every known message are taken away where
        they should not be; to take away what is not there is no error. Raises: Unavailable.
        """
        async with self._channel("declare the topology") as channel:
            for name, kind in exchanges(topology.services).items():
                await channel.exchange_declare(name, exchange_type=kind, durable=True, timeout=self._timeout_s)
            for service in topology.services:
                await self._declare_service(channel, service)
            wanted = set(topology.routes())
            for exchange, service, key in sorted(_conceivable(topology.services) | wanted):
                change = channel.queue_bind if (exchange, service, key) in wanted else channel.queue_unbind
                await change(queue(service), exchange, key, timeout=self._timeout_s)

    async def _declare_service(self, channel: aiormq.abc.AbstractChannel, service: str) -> None:
        for name, arguments in queues(service).items():
            await channel.queue_declare(name, durable=True, arguments=arguments, timeout=self._timeout_s)
        for key, name in retry_bindings(service).items():
            await channel.queue_bind(name, retry_exchange(service), key, timeout=self._timeout_s)

    async def verify(self, topology: Topology, service: str) -> None:
        """Look for the exchanges and for the queues of *service*; bindings cannot be seen. Raises: Unavailable."""
        if service not in topology.services:
            raise Unavailable(f"{service} has no place in the topology")
        async with self._channel("verify the topology") as channel:
            for name, kind in exchanges((service,)).items():
                await channel.exchange_declare(name, exchange_type=kind, passive=True, timeout=self._timeout_s)
            for name in queues(service):
                await channel.queue_declare(name, passive=True, timeout=self._timeout_s)

    async def state(self, service: str) -> QueueState:
        async with self._channel("count messages") as channel:
            ready = await self._count(channel, queue(service))
            delayed = [await self._count(channel, retry_queue(service, tier)) for tier in range(len(DELAYS_S))]
            dead = await self._count(channel, dead_queue(service))
        return QueueState(ready, sum(delayed), dead)

    async def dead_letters(self, service: str, limit: int) -> list[DeadLetter]:
        """Read without taking: the channel's end puts everything back."""
        async with self._channel("read dead letters") as channel:
            letters = [letter async for letter, _ in self._get_dead(channel, service, limit)]
        await self._are_back(service, len(letters))
        return letters

    async def remove_dead(self, service: str, ids: Sequence[str] | None, first: Sender | None = None) -> int:
        """Take dead letters away, after *first* was done with each and said yes; return how many."""
        chosen = None if ids is None else set(ids)
        count = seen = 0
        async with self._channel("take dead letters") as channel:
            async for letter, tag in self._get_dead(channel, service, None):
                seen += 1
                if chosen is not None and letter.id not in chosen:
                    continue
                if first is not None and not await first(service, letter):
                    continue
                await channel.basic_ack(tag)
                count += 1
        await self._are_back(service, seen - count)
        return count

    async def _are_back(self, service: str, count: int) -> None:
        """Wait until what was only read is in the queue again: the broker puts it back after the channel has ended."""
        async with self._channel("count dead letters") as channel:
            for _ in range(BACK_LOOKS):
                if await self._count(channel, dead_queue(service)) >= count:
                    return
                await asyncio.sleep(BACK_PAUSE_S)

    async def _get_dead(
        self, channel: aiormq.abc.AbstractChannel, service: str, limit: int | None
    ) -> AsyncIterator[tuple[DeadLetter, int]]:
        """Get each letter that is there now once, unacknowledged."""
        left = await self._count(channel, dead_queue(service))
        for _ in range(left if limit is None else min(left, limit)):
            message = await channel.basic_get(dead_queue(service), timeout=self._timeout_s)
            if message.delivery_tag is None:
                return
            yield _read(message), message.delivery_tag

    async def _count(self, channel: aiormq.abc.AbstractChannel, name: str) -> int:
        answer = await channel.queue_declare(name, passive=True, timeout=self._timeout_s)
        return answer.message_count or 0

    @asynccontextmanager
    async def _channel(self, purpose: str) -> AsyncIterator[aiormq.abc.AbstractChannel]:
        channel = await self._link.channel()
        try:
            with translated(purpose):
                yield await channel.get_underlay_channel()
        finally:
            await close_quietly(channel, self._timeout_s)


def _conceivable(services: Sequence[str]) -> set[tuple[str, str, str]]:
    """Return a binding of every message known in this process to every service."""
    return {
        (COMMANDS if issubclass(kind, Command) else EVENTS, service, name)
        for service in services
        for name, kind in REGISTRY.items()
    }


def _read(message: aiormq.abc.DeliveredMessage) -> DeadLetter:
    properties = message.header.properties
    headers = properties.headers or {}
    id, name = identity(message.body)
    return DeadLetter(
        id=id or properties.message_id or str(message.delivery_tag),
        name=name or properties.message_type or "",
        error=str(headers.get(ERROR) or _reason_of_death(properties)),
        attempt=attempts(properties),
        body=message.body,
    )


def identity(body: bytes) -> tuple[str, str]:
    """Return id and name of an envelope, empty where it is none."""
    try:
        envelope = pydantic_core.from_json(body)
        return str(envelope["id"]), str(envelope["type"]).removeprefix(TYPE_PREFIX)
    except (ValueError, KeyError, TypeError):
        return "", ""


def _reason_of_death(properties: Basic.Properties) -> str:
    """Return why the broker itself put it there."""
    reason = (properties.headers or {}).get("x-first-death-reason", "")
    return DELIVERY_LIMIT if reason == "delivery_limit" else str(reason)
