"""An event loop in a thread of its own, for callers who have none."""

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any, Final, TypeVar, cast

T = TypeVar("T")
CLOSING_S = 10.0
_END: Final = object()


class Loop:
    """Runs coroutines for any thread but its own, one answer at a time for each."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="indaco-client", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what *work* returns, or raise what it raises; an interruption of the caller ends it. Raises: RuntimeError, if closed."""
        if self._loop.is_closed() or threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError("the client is closed" if self._loop.is_closed() else "use Client within a loop")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def iterate(self, members: AsyncIterator[T]) -> Iterator[T]:
        """Yield *members* as they come; leaving early ends what brings them."""
        try:
            while (member := self.run(_next(members))) is not _END:
                yield cast("T", member)
        finally:
            if not self._loop.is_closed() and (end := getattr(members, "aclose", None)) is not None:
                self.run(end())

    def close(self, last: Coroutine[Any, Any, None]) -> None:
        """Run *last* and end the thread; a second call does nothing."""
        if self._loop.is_closed():
            last.close()
            return
        try:
            self.run(last)
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(CLOSING_S)
            self._loop.close()


async def _next(members: AsyncIterator[Any]) -> object:
    return await anext(members, _END)
