"""The bus on RabbitMQ (3.10 and later, quorum queues), with aio-pika.

Two connections: a broker that is short of memory or disk blocks those who publish, and acknowledgements must go on. Nothing is
ever requeued: a message that is put off goes, confirmed, to a delay queue whose end is the service's queue, and is then acknowledged.
"""

import asyncio
from collections.abc import Sequence

from pamqp.commands import Basic

from indaco_common.clock import Clock, SystemClock
from indaco_common.envelope import Sealed
from indaco_common.errors import Unavailable
from indaco_common.ids import uuid7
from indaco_common.messages import REGISTRY, Command

from .port import Dead, DeadLetter, Later, QueueState, Receiver
from .rabbitmq_admin import Admin, identity
from .rabbitmq_link import Link
from .rabbitmq_objects import TO_DEAD, TO_MAIN
from .rabbitmq_publisher import ATTEMPT, ERROR, Letter, Publisher, attempts, properties
from .rabbitmq_subscription import RENEW_S, RabbitSubscription
from .topology import COMMANDS, EVENTS, Topology, retry_exchange

TIMEOUT_S = 10.0


class RabbitBus:
    """One service's bus. *url* is ``amqp(s)://user:password@host:port/vhost``, *connection_name* what the broker shows."""

    def __init__(
        self,
        url: str,
        *,
        connection_name: str = "indaco",
        timeout_s: float = TIMEOUT_S,
        renew_s: float = RENEW_S,
        clock: Clock | None = None,
    ) -> None:
        """*timeout_s* is for each exchange with the broker, *renew_s* after which an idle consumer is made anew."""
        self._name, self._timeout_s, self._clock = connection_name, timeout_s, clock or SystemClock()
        self._renew_s = renew_s
        self._out = Link(url, f"{connection_name} publish", timeout_s=timeout_s)
        self._in = Link(url, f"{connection_name} consume", timeout_s=timeout_s)
        self._publisher = Publisher(self._out, timeout_s=timeout_s)
        self._admin = Admin(self._in, timeout_s=timeout_s)
        self._subscriptions: dict[str, RabbitSubscription] = {}

    async def start(self) -> None:
        try:
            await self._out.start()
            await self._in.start()
        except Unavailable:
            await self.stop()
            raise

    async def stop(self) -> None:
        for subscription in self._subscriptions.values():
            await subscription.abandon()
        self._subscriptions.clear()
        await self._publisher.stop()
        await asyncio.gather(self._in.stop(), self._out.stop())

    async def ping(self) -> None:
        """One round trip on each connection. Raises: Unavailable."""
        for link in (self._out, self._in):
            await link.ping()

    async def declare(self, topology: Topology) -> None:
        await self._admin.declare(topology)

    async def verify(self, topology: Topology, service: str) -> None:
        await self._admin.verify(topology, service)

    async def publish(self, messages: Sequence[Sealed], *, mandatory: frozenset[str] = frozenset()) -> list[str]:
        letters = [self._letter(message, mandatory) for message in messages]
        confirmed = await self._publisher.publish(letters)
        return [message.id for message, is_there in zip(messages, confirmed, strict=True) if is_there]

    async def subscribe(self, service: str, receiver: Receiver, *, prefetch: int = 16) -> None:
        if service in self._subscriptions:
            raise ValueError(f"{service} is subscribed already")

        async def put_off(body: bytes, received: Basic.Properties, verdict: Later | Dead) -> None:
            await self._put_off(service, body, received, verdict)

        subscription = RabbitSubscription(
            self._in, service, receiver, put_off, prefetch=prefetch, timeout_s=self._timeout_s, renew_s=self._renew_s
        )
        await subscription.start()
        self._subscriptions[service] = subscription

    async def pause(self, service: str) -> None:
        await self._subscriptions[service].pause()

    async def resume(self, service: str, *, prefetch: int = 16) -> None:
        await self._subscriptions[service].resume(prefetch)

    async def drain(self, service: str) -> None:
        if (subscription := self._subscriptions.pop(service, None)) is not None:
            await subscription.drain()

    async def state(self, service: str) -> QueueState:
        """Return the lengths; the age of the oldest message is not known to AMQP."""
        return await self._admin.state(service)

    async def dead_letters(self, service: str, limit: int = 100) -> list[DeadLetter]:
        return await self._admin.dead_letters(service, limit)

    async def retry_dead(self, service: str, ids: Sequence[str] | None = None) -> int:
        return await self._admin.remove_dead(service, ids, self._revive)

    async def drop_dead(self, service: str, ids: Sequence[str] | None = None) -> int:
        return await self._admin.remove_dead(service, ids)

    async def inject(self, service: str, body: bytes) -> None:
        id, name = identity(body)
        if not await self._send(service, TO_MAIN, body, self._properties(body, id or uuid7(), name)):
            raise Unavailable(f"RabbitMQ: the queue of {service} did not take the message")

    async def _revive(self, service: str, letter: DeadLetter) -> bool:
        return await self._send(service, TO_MAIN, letter.body, self._properties(letter.body, letter.id, letter.name))

    async def _put_off(self, service: str, body: bytes, received: Basic.Properties, verdict: Later | Dead) -> None:
        """Publish to the service's own delay or dead queue. Raises: Unavailable."""
        match verdict:
            case Later(tier, attempt, _):
                key = str(tier)
            case Dead(_):
                key, attempt = TO_DEAD, attempts(received)
        renewed = properties(
            body, id=received.message_id or uuid7(), name=received.message_type or "",
            correlation_id=received.correlation_id or "", app_id=received.app_id or self._name, clock=self._clock,
            headers={ATTEMPT: attempt, ERROR: verdict.error},
        )  # fmt: skip
        if not await self._send(service, key, body, renewed):
            raise Unavailable(f"RabbitMQ: {retry_exchange(service)} did not take a message for {key!r}")

    async def _send(self, service: str, key: str, body: bytes, of: Basic.Properties) -> bool:
        (is_there,) = await self._publisher.publish([Letter(retry_exchange(service), key, body, of, mandatory=True)])
        return is_there

    def _letter(self, message: Sealed, mandatory: frozenset[str]) -> Letter:
        is_mandatory = message.name in mandatory
        is_command = is_mandatory or issubclass(REGISTRY.get(message.name, object), Command)
        described = properties(
            message.body, id=message.id, name=message.name, correlation_id=message.correlation_id, app_id=self._name,
            clock=self._clock, headers={},
        )  # fmt: skip
        return Letter(COMMANDS if is_command else EVENTS, message.name, message.body, described, is_mandatory)

    def _properties(self, body: bytes, id: str, name: str) -> Basic.Properties:
        return properties(body, id=id, name=name, correlation_id="", app_id=self._name, clock=self._clock, headers={})
