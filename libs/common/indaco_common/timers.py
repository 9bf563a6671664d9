"""Timers: calls a handler for each aggregate whose ``due_at`` has come, one at a time per aggregate in this process."""

import asyncio
import functools
from datetime import datetime, timedelta

import structlog

from .clock import Clock
from .envelope import Context
from .errors import AlreadyHandled, Conflict, IndacoError, NotFound, Unavailable
from .handling import Handler
from .hints import Hints
from .metrics import Metrics
from .store.aggregate import Aggregate
from .store.port import Store

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

AT_ONCE = 32
POLL_S = 1.0  # for what no hint spoke of: another replica's saves
TIMEOUT_S = 120.0
PAUSES_S = (1.0, 60.0)  # before a timer whose handler failed is tried again


class Timer:
    """The timer of one kind of aggregate in one service."""

    def __init__(
        self, kind: type[Aggregate], handler: Handler, store: Store, clock: Clock, hints: Hints, metrics: Metrics
    ) -> None:
        self._kind, self._handler, self._store, self._clock, self._metrics = kind, handler, store, clock, metrics
        self._wake = asyncio.Event()
        self._next: datetime | None = None
        self._running: dict[str, asyncio.Task[None]] = {}
        self._paused: dict[str, tuple[datetime, float]] = {}
        self._called: dict[
            str, int
        ] = {}  # at which version its handler has ended: due again at the same, nothing was saved
        self._is_draining = False
        self.name = kind.KIND
        hints.on_due(kind, self._hint)

    def _hint(self, due_at: datetime) -> None:
        if self._next is None or due_at < self._next:
            self._next = due_at
            self._wake.set()

    async def run(self) -> None:
        """Call handlers until cancelled."""
        try:
            while True:
                self._wake.clear()
                try:
                    await self._start_due()
                    pause_s = self._pause_s(await self._store.next_due(self._kind.KIND))
                except Unavailable as error:
                    log.warning("timer.hindered", aggregate=self._kind.KIND, error=error.detail)
                    pause_s = POLL_S
                await self._sleep(pause_s)
        finally:
            for task in self._running.values():
                task.cancel()
            await asyncio.gather(*self._running.values(), return_exceptions=True)

    async def drain(self) -> None:
        """Call no further handlers and wait for those under way."""
        self._is_draining = True
        await asyncio.gather(*self._running.values(), return_exceptions=True)

    async def _start_due(self) -> None:
        now, free = self._clock.now(), AT_ONCE - len(self._running)
        if free <= 0 or self._is_draining:
            return
        skipped = len(self._running) + len(self._paused)
        due = dict(await self._store.due(self._kind.KIND, now, free + skipped))
        self._forget_all_but(due, now)
        for id, version in due.items():
            if id in self._running or self._is_paused(id, version, now) or len(self._running) >= AT_ONCE:
                continue
            task = asyncio.create_task(self._call(id, version), name=f"{self._kind.KIND} {id}")
            self._running[id] = task
            task.add_done_callback(functools.partial(self._ended, id, version))

    def _is_paused(self, id: str, version: int, now: datetime) -> bool:
        """A handler that ended and saved nothing would be called again for ever: it waits as one that failed does."""
        if id in self._paused:
            return self._paused[id][0] > now
        if self._called.get(id) != version:
            return False
        self._pause(id)
        return True

    def _forget_all_but(self, due: dict[str, int], now: datetime) -> None:
        self._called = {id: version for id, version in self._called.items() if id in due}
        self._paused = {id: pause for id, pause in self._paused.items() if id in due or pause[0] > now}

    def _ended(self, id: str, version: int, _: asyncio.Task[None]) -> None:
        del self._running[id]
        self._called[id] = version
        self._wake.set()

    def _pause_s(self, next_due: datetime | None) -> float:
        """Until the next is due, but not longer than the poll; what is due already is running, paused, or waits for a slot."""
        now = self._clock.now()
        self._next = next_due if next_due is None or next_due > now else now + timedelta(seconds=POLL_S)
        return POLL_S if self._next is None else min(POLL_S, max(0.0, (self._next - now).total_seconds()))

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _call(self, id: str, version: int) -> None:
        structlog.contextvars.bind_contextvars(correlation_id=id, subject=f"{self._kind.KIND}/{id}")
        outcome = "done"
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await self._handler(id, Context(correlation_id=None, at_version=version))
            self._paused.pop(id, None)
        except (AlreadyHandled, Conflict, NotFound):
            outcome = "stale"
            self._paused.pop(id, None)
        except (IndacoError, TimeoutError) as error:
            outcome = "failed"
            log.warning("timer.failed", error=getattr(error, "detail", "timed out"))
            self._pause(id)
        except Exception:
            outcome = "crashed"
            log.exception("timer.crashed")
            self._pause(id)
        self._metrics.timer(self._kind.KIND, outcome)

    def _pause(self, id: str) -> None:
        """Try it again later and later, and let the others pass."""
        seconds = min(max(self._paused.get(id, (None, 0.0))[1] * 2, PAUSES_S[0]), PAUSES_S[1])
        self._paused[id] = (self._clock.now() + timedelta(seconds=seconds), seconds)
