"""One service's consumer on RabbitMQ, which comes back by itself: after a lost connection, a closed channel, a deleted queue."""

import asyncio
import functools
from collections.abc import Awaitable, Callable

import aio_pika.abc
import aiormq.abc
import structlog
from pamqp.commands import Basic

from indaco_common.errors import Unavailable

from .port import Dead, Delivery, Done, Later, Receiver
from .rabbitmq_acks import Acknowledger
from .rabbitmq_link import Link, close_quietly, translated
from .rabbitmq_publisher import attempts
from .topology import COMMANDS, EVENTS, queue

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

REOPEN_S = (0.2, 5.0)  # first and longest pause between attempts to consume
RENEW_S = 60.0  # an idle consumer is made anew so often, see RabbitSubscription
_INSIST_S = 1.0  # between attempts to put a message off while the broker does not take it

PutOff = Callable[[bytes, Basic.Properties, Later | Dead], Awaitable[None]]


class RabbitSubscription:
    """Consumes one queue; verdicts are carried out by *put_off* and an acknowledgement, never by requeueing.

    A consumer may be cut off without a word: if a quorum queue is deleted and made again at once, RabbitMQ 3.10 sends no cancel
    and hands messages out to nobody. So a consumer that has heard nothing for *renew_s* gets a new channel, which costs next to
    nothing and brings back what was handed out.
    """

    def __init__(
        self,
        link: Link,
        service: str,
        receiver: Receiver,
        put_off: PutOff,
        *,
        prefetch: int,
        timeout_s: float,
        renew_s: float = RENEW_S,
    ) -> None:
        self._link, self._service, self._receiver, self._put_off = link, service, receiver, put_off
        self._prefetch, self._timeout_s, self._renew_s = prefetch, timeout_s, renew_s
        self._received = 0
        self._is_paused = False
        self._channel: aio_pika.abc.AbstractChannel | None = None
        self._acks: Acknowledger | None = None
        self._tag: str | None = None
        self._lost = asyncio.Event()
        self._changing = asyncio.Lock()  # one of: opening, pausing, resuming
        self._running: set[asyncio.Task[None]] = set()
        self._supervisor: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Consume and keep consuming. Raises: Unavailable, if the first attempt fails."""
        await self._open()
        self._supervisor = asyncio.create_task(self._supervise(), name=f"subscription of {self._service}")

    async def pause(self) -> None:
        """Cancel the consumer; the channel stays for the acknowledgements of what is under way. Raises: Unavailable."""
        async with self._changing:
            self._is_paused = True
            await self._cancel()

    async def resume(self, prefetch: int) -> None:
        """Consume again. Raises: Unavailable; also then it will, as soon as the broker answers."""
        async with self._changing:
            self._is_paused, self._prefetch = False, prefetch
            await self._cancel()
            if self._channel is not None and self._acks is not None and not self._channel.is_closed:
                await self._consume(self._channel, self._acks)

    async def drain(self) -> None:
        """Take nothing more, wait for what is under way, close the channel behind the last acknowledgement."""
        await self._stop_supervisor()
        try:
            await self.pause()
        except Unavailable as error:  # nothing comes from a broker that is away
            log.info("subscription.cut", service=self._service, error=error.detail)
        while self._running:
            await asyncio.wait(self._running)
        if self._acks is not None:
            await self._acks.flushed()
        await self._close()

    async def abandon(self) -> None:
        """Stop at once: what has no verdict yet goes to somebody else."""
        await self._stop_supervisor()
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        if self._acks is not None:
            await self._acks.flushed()
        await self._close()

    async def _stop_supervisor(self) -> None:
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.gather(self._supervisor, return_exceptions=True)
            self._supervisor = None

    async def _supervise(self) -> None:
        while True:
            received = self._received
            try:
                async with asyncio.timeout(self._renew_s):
                    await self._lost.wait()
            except TimeoutError:
                if received == self._received and not self._running and not self._is_paused:
                    await self._reopen()
                continue
            log.warning("subscription.lost", service=self._service)
            await self._reopen()
            log.info("subscription.restored", service=self._service)

    async def _reopen(self) -> None:
        delay_s, longest_s = REOPEN_S
        while True:
            await self._close()
            await self._link.up()
            try:
                return await self._open()
            except Unavailable as error:
                log.warning("subscription.hindered", service=self._service, error=error.detail)
            except Exception:  # a loop that ends silently stops a service
                log.exception("subscription.failed", service=self._service)
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, longest_s)

    async def _open(self) -> None:
        async with self._changing:
            channel = await self._link.channel()
            self._channel, self._lost = channel, asyncio.Event()
            lost = self._lost  # of this channel: an old one that ends late must not end the new one

            def end(*_: object) -> None:
                lost.set()

            channel.close_callbacks.add(end)
            raw = await channel.get_underlay_channel()
            raw.on_consumer_cancel_callbacks.add(end)
            self._acks = Acknowledger(raw)
            if not self._is_paused:
                await self._consume(channel, self._acks)

    async def _close(self) -> None:
        channel, self._channel, self._tag = self._channel, None, None
        if channel is not None:
            await close_quietly(channel, self._timeout_s)

    async def _consume(self, channel: aio_pika.abc.AbstractChannel, acks: Acknowledger) -> None:
        with translated(f"consume {queue(self._service)}"):
            raw = await channel.get_underlay_channel()
            await raw.basic_qos(prefetch_count=self._prefetch, timeout=self._timeout_s)
            answer = await raw.basic_consume(
                queue(self._service), functools.partial(self._on_message, acks), timeout=self._timeout_s
            )
        self._tag = answer.consumer_tag

    async def _cancel(self) -> None:
        tag, self._tag = self._tag, None
        if tag is None or self._channel is None or self._channel.is_closed:
            return
        with translated(f"cancel the consumer of {queue(self._service)}"):
            raw = await self._channel.get_underlay_channel()
            await raw.basic_cancel(tag, timeout=self._timeout_s)

    async def _on_message(self, acks: Acknowledger, message: aiormq.abc.DeliveredMessage) -> None:
        """Hand over to a task of our own: the library cancels its tasks when the channel closes, and a handler is to finish."""
        self._received += 1
        tag = message.delivery_tag or 0
        acks.delivered(tag)
        task = asyncio.create_task(self._deliver(message, acks, tag))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _deliver(self, message: aiormq.abc.DeliveredMessage, acks: Acknowledger, tag: int) -> None:
        is_new = message.exchange in (EVENTS, COMMANDS)
        delivery = Delivery(
            message.body, attempts(message.header.properties), bool(message.redelivered), message.routing_key if is_new else None
        )  # fmt: skip
        try:
            verdict = await self._receiver(delivery)
        except Exception:  # a receiver answers; one that raises is a bug, and the message must not be lost or spin
            log.exception("delivery.unanswered", service=self._service)
            verdict = Later(0, delivery.attempt + 1, "internal-error: the receiver gave no verdict")
        if isinstance(verdict, Done) or await self._was_put_off(message, verdict, acks):
            acks.finished(tag)

    async def _was_put_off(
        self, message: aiormq.abc.DeliveredMessage, verdict: Later | Dead, acks: Acknowledger
    ) -> bool:
        """Insist until the broker has the message elsewhere; on a closed channel there is no use, since it delivers again."""
        while not acks.is_closed:
            try:
                await self._put_off(message.body, message.header.properties, verdict)
            except Unavailable as error:
                log.warning("verdict.hindered", service=self._service, error=error.detail)
                await asyncio.sleep(_INSIST_S)
            else:
                return True
        return False
