"""Tasks that never end: a failure is logged and counted, the task begins again, and health says so."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0


class Guards:
    """The eternal tasks of one service."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._failing: dict[str, str] = {}
        self._forgiving: dict[str, asyncio.TimerHandle] = {}

    def start(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """Run *run* for ever; it is not expected to return."""
        self._tasks[name] = asyncio.create_task(self._guard(name, run), name=name)

    async def stop(self) -> None:
        """Cancel all and wait for them."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        self._tasks.clear()
        for handle in self._forgiving.values():
            handle.cancel()
        self._forgiving.clear()

    async def check(self) -> str | None:
        """A health check. Raises: RuntimeError, naming what keeps failing."""
        if self._failing:
            raise RuntimeError("; ".join(f"{name}: {error}" for name, error in self._failing.items()))
        return None

    async def _guard(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        loop, pause_s = asyncio.get_running_loop(), FIRST_PAUSE_S
        while True:
            began = loop.time()
            try:
                await run()
                log.error("task.ended", task=name)
                self._note(name, "ended")
            except Exception as error:
                log.exception("task.failed", task=name)
                self._note(name, type(error).__name__)
            if loop.time() - began > LONGEST_PAUSE_S:
                pause_s = FIRST_PAUSE_S
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
            self._forgiving[name] = loop.call_later(LONGEST_PAUSE_S, self._failing.pop, name, None)

    def _note(self, name: str, failure: str) -> None:
        """Health tells of it until the task has run well for some time."""
        self._failing[name] = failure
        if (handle := self._forgiving.pop(name, None)) is not None:
            handle.cancel()
