"""Tasks that never end: a failure is logged and counted, the task begins again, and health says so."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import structlog

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0


class Guards:
    """The eternal tasks of one service."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._failing: dict[str, str] = {}

    def start(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """Run *run* for ever; it is not expected to return."""
        self._tasks[name] = asyncio.create_task(self._guard(name, run), name=name)

    async def stop(self) -> None:
        """Cancel all and wait for them."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        self._tasks.clear()

    async def check(self) -> str | None:
        """A health check. Raises: RuntimeError, naming what keeps failing."""
        if self._failing:
            raise RuntimeError("; ".join(f"{name}: {error}" for name, error in self._failing.items()))
        return None

    async def _guard(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            began = asyncio.get_running_loop().time()
            try:
                await run()
                log.error("task.ended", task=name)
                self._failing[name] = "ended"
            except Exception as error:
                log.exception("task.failed", task=name)
                self._failing[name] = type(error).__name__
            if asyncio.get_running_loop().time() - began > LONGEST_PAUSE_S:
                pause_s = FIRST_PAUSE_S
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
            asyncio.get_running_loop().call_later(LONGEST_PAUSE_S, self._forgive, name)

    def _forgive(self, name: str) -> None:
        with contextlib.suppress(KeyError):
            del self._failing[name]
