"""The outage brake: while our own store, bus or vault is away, messages stay in the queue instead of wandering to the delay tiers."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import structlog

from indaco_common.errors import IndacoError, Unavailable

from .port import Bus

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

Ping = Callable[[], Awaitable[None]]


class BrakeMetrics(Protocol):
    def brake(self, engaged: bool, /) -> None:  # noqa: FBT001
        """Take note that consumption was stopped by an outage, or goes on."""


class Brake:
    """Counts consecutive Unavailable; at *after* of them it pauses the consumer and probes until a message gets through.

    A provider far away raises Unavailable as well, and must not stop the service for the others: so *dependencies* (the pings
    of what is ours) are asked first, and the brake holds only if one of them fails. With no dependencies every Unavailable counts.
    """

    def __init__(
        self,
        service: str,
        bus: Bus,
        *,
        metrics: BrakeMetrics,
        dependencies: Sequence[Ping] = (),
        prefetch: int = 16,
        after: int = 10,
        first_delay_s: float = 1.0,
        max_delay_s: float = 30.0,
    ) -> None:
        self._service, self._bus, self._metrics, self._dependencies = service, bus, metrics, tuple(dependencies)
        self._prefetch, self._after, self._delays_s = prefetch, after, (first_delay_s, max_delay_s)
        self._consecutive = 0
        self._is_on = False
        self._task: asyncio.Task[None] | None = None
        self._probe: asyncio.Future[bool] | None = None

    @property
    def is_on(self) -> bool:
        return self._is_on

    async def saw(self, *, unavailable: bool) -> bool:
        """Take note of how one message ended; return whether its attempt is to be spared."""
        if self._task is None and not unavailable:  # the way of nearly every message
            self._consecutive = 0
            return False
        if self._is_on:
            await self._answer_probe(succeeded=not unavailable)
            return unavailable
        self._consecutive = self._consecutive + 1 if unavailable else 0
        if self._consecutive >= self._after and self._task is None:
            self._task = asyncio.create_task(self._hold(), name=f"brake of {self._service}")
        return False

    async def stop(self) -> None:
        """Let go without resuming: the consumer is about to be drained."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task, self._is_on = None, False

    async def _answer_probe(self, *, succeeded: bool) -> None:
        if self._probe is None or self._probe.done():
            return
        self._probe.set_result(succeeded)
        if not succeeded:  # before the verdict, so that no second message follows this one
            with contextlib.suppress(IndacoError):
                await self._bus.pause(self._service)

    async def _hold(self) -> None:
        """Pause, probe ever less often, resume; whatever goes wrong meanwhile, go on trying."""
        try:
            if self._dependencies and not await self._is_down():
                return
            self._switch(on=True)
            await self._insist(lambda: self._bus.pause(self._service))
            await self._probe_until_success()
            await self._insist(lambda: self._bus.resume(self._service, prefetch=self._prefetch))
            self._switch(on=False)
        finally:
            self._consecutive, self._task, self._probe = 0, None, None

    async def _probe_until_success(self) -> None:
        delay_s, max_delay_s = self._delays_s
        while True:
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, max_delay_s)
            if await self._is_down():
                continue
            self._probe = asyncio.get_running_loop().create_future()
            await self._insist(lambda: self._bus.resume(self._service, prefetch=1))
            if await self._probe:
                return

    async def _is_down(self) -> bool:
        """Ask what is ours, one after the other; with nothing to ask only a message can tell."""
        for ping in self._dependencies:
            try:
                await ping()
            except (Unavailable, TimeoutError):
                return True
        return False

    async def _insist(self, call: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                return await call()
            except IndacoError as error:
                log.warning("consumer.brake-hindered", service=self._service, error=error.detail)
                await asyncio.sleep(self._delays_s[0])

    def _switch(self, *, on: bool) -> None:
        self._is_on = on
        self._metrics.brake(on)
        log.warning("consumer.paused" if on else "consumer.resumed", service=self._service)
