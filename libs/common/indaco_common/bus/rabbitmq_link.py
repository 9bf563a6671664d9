"""One supervised connection to RabbitMQ.

aio-pika's robust connection is not used: what it restores it restores by itself, out of sight, and a consumer whose queue was
deleted it does not. Here a connection that is lost is simply made anew, and each user opens its own channel on the present one.
"""

import asyncio
import contextlib
from collections.abc import Iterator

import aio_pika
import aio_pika.abc
import aiormq.abc
import aiormq.exceptions
import structlog
import yarl

from indaco_common.errors import Unavailable

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

HEARTBEAT_S = 15  # a peer that vanished without a word is noticed within about three of them
RECONNECT_S = (0.2, 5.0)  # first and longest pause between attempts to connect

_FAILURES = (aiormq.exceptions.AMQPError, OSError, RuntimeError, TimeoutError, asyncio.InvalidStateError)


@contextlib.contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn whatever the client library raises into Unavailable.

    It cancels its own futures when a channel closes: that is a failure too, unless our own task is being cancelled.
    """
    try:
        yield
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise Unavailable(f"RabbitMQ: {what}: the channel was closed") from None
    except _FAILURES as error:
        raise Unavailable(f"RabbitMQ: {what}: {reason(error)}") from error


def reason(error: BaseException) -> str:
    """Return one line; addresses and reply texts are told, credentials are in neither."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return " ".join(str(error).split())[:200] or type(error).__name__


class Link:
    """Keeps one connection; *name* is what the broker's management shows."""

    def __init__(self, url: str, name: str, *, timeout_s: float) -> None:
        address = yarl.URL(url)
        self._url = address if "heartbeat" in address.query else address.update_query(heartbeat=HEARTBEAT_S)
        self._name, self._timeout_s = name, timeout_s
        self._connection: aio_pika.abc.AbstractConnection | None = None
        self._pings: aio_pika.abc.AbstractChannel | None = None
        self._up, self._lost = asyncio.Event(), asyncio.Event()
        self._supervisor: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Connect and keep connected. Raises: Unavailable, if the first attempt fails."""
        await self._connect()
        self._supervisor = asyncio.create_task(self._supervise(), name=f"RabbitMQ link {self._name}")

    async def stop(self) -> None:
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.gather(self._supervisor, return_exceptions=True)
            self._supervisor = None
        await self._disconnect()

    async def up(self) -> None:
        """Wait until there is a connection."""
        await self._up.wait()

    async def ping(self) -> None:
        """One round trip to the broker, on a channel kept for it. Raises: Unavailable."""
        if self._pings is None or self._pings.is_closed:
            self._pings = await self.channel()
        with translated("ping"):
            raw = await self._pings.get_underlay_channel()
            await raw.basic_qos(prefetch_count=1, timeout=self._timeout_s)

    async def channel(self, *, raises_returns: bool = False) -> aio_pika.abc.AbstractChannel:
        """Open a channel with publisher confirms; *raises_returns*: what no queue takes raises. Raises: Unavailable."""
        if self._connection is None:
            raise Unavailable("RabbitMQ: not connected")
        channel = self._connection.channel(on_return_raises=raises_returns)
        with translated("open a channel"):
            async with asyncio.timeout(self._timeout_s):
                await channel.initialize()
        return channel

    async def _connect(self) -> None:
        self._lost.clear()
        with translated("connect"):
            connection = await aio_pika.connect(
                self._url, timeout=self._timeout_s, client_properties={"connection_name": self._name}
            )
        connection.close_callbacks.add(self._on_close)
        self._connection = connection
        self._up.set()

    async def _disconnect(self) -> None:
        self._up.clear()
        self._pings = None
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(*_FAILURES):
                async with asyncio.timeout(self._timeout_s):
                    await connection.close()

    def _on_close(self, *_: object) -> None:
        self._lost.set()

    async def _supervise(self) -> None:
        while True:
            await self._lost.wait()
            log.warning("broker.lost", connection=self._name)
            await self._disconnect()
            await self._reconnect()
            log.info("broker.found", connection=self._name)

    async def _reconnect(self) -> None:
        delay_s, longest_s = RECONNECT_S
        while True:
            try:
                return await self._connect()
            except Unavailable as error:
                log.warning("broker.unreachable", connection=self._name, error=error.detail)
            except Exception:  # a loop that ends silently cuts a service off
                log.exception("broker.unreachable", connection=self._name)
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, longest_s)


async def close_quietly(channel: aio_pika.abc.AbstractChannel, timeout_s: float) -> None:
    """Close a channel that may be closed already. What was written before is on its way before the close is."""
    with contextlib.suppress(*_FAILURES):
        async with asyncio.timeout(timeout_s):
            await channel.close()
