"""The relay: what the store's outboxes hold goes to the bus, is journalled, and leaves the outbox.

Published means committed before, and confirmed by the broker before it leaves: at least once. A relay that dies is replaced when
its lease ends; the duplicate this may cause meets the inboxes.
"""

import asyncio
from collections.abc import Sequence
from typing import Protocol

import structlog

from .bus.port import Bus
from .clock import Clock
from .errors import IndacoError, Unavailable
from .messages import REGISTRY, Command
from .store.port import Entry, Store

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

LEASE_S = 15.0
BATCH = 100
PIPELINE = 3  # batches under way: one is being leased, one published, one settled
POLL_S = 1.0  # for what no hint spoke of: another replica's leavings, a lease that ended
BACKOFF_S = (0.1, 5.0)  # first and longest pause while store or bus is away


class Metrics(Protocol):
    """What the relay reports."""

    def published(self, count: int, /) -> None:
        """Count messages that the broker has confirmed and the journal has."""


class NoMetrics:
    def published(self, count: int, /) -> None: ...


class Relay:
    """Publishes one service's outboxes: different aggregates concurrently, the entries of one in turn."""

    def __init__(
        self,
        store: Store,
        bus: Bus,
        clock: Clock,
        *,
        lease_s: float = LEASE_S,
        batch: int = BATCH,
        poll_s: float = POLL_S,
        metrics: Metrics | None = None,
        hinted: asyncio.Event | None = None,
    ) -> None:
        """*hinted*: set by whoever saves something with messages; by default only :meth:`hint` sets it."""
        self._store, self._bus, self._clock, self._metrics = store, bus, clock, metrics or NoMetrics()
        self._lease_s, self._batch, self._poll_s = lease_s, batch, poll_s
        self._hinted, self._stopping = hinted or asyncio.Event(), asyncio.Event()
        self._slots = asyncio.Semaphore(PIPELINE)
        self._carriers: set[asyncio.Task[None]] = set()
        self._backoff_s = 0.0

    def hint(self) -> None:
        """Tell that an outbox has got something, so that it need not wait for the poll."""
        self._hinted.set()

    @property
    def is_healthy(self) -> bool:
        """Whether the last call of store and bus went well."""
        return self._backoff_s == 0.0

    async def run(self) -> None:
        """Relay until cancelled; after :meth:`stop` there is nothing left to do but to wait for that."""
        while not self._stopping.is_set():
            self._hinted.clear()
            if self._backoff_s:
                await _wait(self._stopping, self._backoff_s)
            if not await self._start_batch():
                await _wait(self._hinted, self._poll_s)
        await asyncio.get_running_loop().create_future()

    async def stop(self, grace_s: float = 5.0) -> None:
        """Relay what is there for at most *grace_s*, then give back what is leased."""
        self._stopping.set()
        self._hinted.set()
        try:
            async with asyncio.timeout(grace_s):
                while self.is_healthy and (await self._start_batch() or self._carriers):
                    await asyncio.gather(*self._carriers, return_exceptions=True)
        except TimeoutError:
            log.warning("relay.cut-short", batches=len(self._carriers))
        for task in self._carriers:
            task.cancel()
        await asyncio.gather(*self._carriers, return_exceptions=True)

    async def _start_batch(self) -> bool:
        """Lease one batch and carry it in a task of its own; return whether there was anything."""
        await self._slots.acquire()
        leased: list[list[Entry]] = []
        try:
            if not self.is_healthy:  # no leases for a bus that is away
                await self._bus.ping()
            leased = await self._store.lease(self._clock.now(), self._lease_s, self._batch)
            if not leased:
                self._recovered()
        except (Unavailable, TimeoutError) as error:
            self._failed("relay.hindered", error)
        finally:
            if not leased:
                self._slots.release()
        if leased:
            entries = [entry for outbox in leased for entry in outbox]
            task = asyncio.create_task(self._carry(entries), name="relay batch")
            self._carriers.add(task)
            task.add_done_callback(self._ended)
        return bool(leased)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._carriers.discard(task)
        self._slots.release()
        self.hint()  # an aggregate may have got more while it was leased
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed("relay.crashed", error)

    async def _carry(self, entries: list[Entry]) -> None:
        """Publish and settle *entries*; what is not published is given back."""
        left = entries
        try:
            confirmed = await self._publish(entries)
            left = [entry for entry in entries if entry.sealed.id not in confirmed]
            await self._settle([entry for entry in entries if entry.sealed.id in confirmed])
            self._recovered()
        except (Unavailable, TimeoutError) as error:
            self._failed("relay.hindered", error)
            await self._give_back(left)
        except BaseException:  # stopped, or a bug
            await self._give_back(left)
            raise
        if left:
            await self._leave(left)

    async def _leave(self, left: Sequence[Entry]) -> None:
        """Keep the lease on commands that nobody owns: they are tried again at its end, not at once.

        An event is confirmed whether somebody takes it or not, so one that is not was lost with the connection or refused by a
        full queue: then all go back, and the relay slows down.
        """
        if not all(_is_command(entry.sealed.name) for entry in left):
            self._failed("relay.refused", Unavailable(f"{len(left)} messages were not confirmed"))
            await self._give_back(left)
            return
        for entry in left:
            log.error("command.unroutable", message_id=entry.sealed.id, type=entry.sealed.name)

    async def _publish(self, entries: Sequence[Entry]) -> set[str]:
        commands = frozenset(filter(_is_command, {entry.sealed.name for entry in entries}))
        return set(await self._bus.publish([entry.sealed for entry in entries], mandatory=commands))

    async def _settle(self, published: Sequence[Entry]) -> None:
        """Journal and remove; insist while the lease lasts, since the bus has them already."""
        if not published:
            return
        loop = asyncio.get_running_loop()
        end, pause_s = loop.time() + self._lease_s, BACKOFF_S[0]
        while True:
            try:
                await self._store.settle(published, self._clock.now())
                break
            except Unavailable as error:
                self._failed("relay.hindered", error)
                if loop.time() + pause_s > end:
                    raise
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, BACKOFF_S[1])
        self._metrics.published(len(published))

    async def _give_back(self, entries: Sequence[Entry]) -> None:
        if not entries:
            return
        try:
            await self._store.give_back(entries)
        except IndacoError as error:  # then the lease ends by itself
            log.warning("lease.kept", count=len(entries), error=error.detail)

    def _failed(self, event: str, error: BaseException) -> None:
        self._backoff_s = min(max(self._backoff_s * 2, BACKOFF_S[0]), BACKOFF_S[1])
        detail = error.detail if isinstance(error, IndacoError) else type(error).__name__
        log.warning(event, error=detail, backoff_s=self._backoff_s)

    def _recovered(self) -> None:
        if not self.is_healthy:
            self._backoff_s = 0.0
            log.info("relay.recovered")


def _is_command(name: str) -> bool:
    return issubclass(REGISTRY.get(name, object), Command)


async def _wait(event: asyncio.Event, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return
