"""Locks by name for the coroutines of one process; a lock that nobody wants costs a dictionary entry while it is held."""

import asyncio
from collections import deque


class Locks:
    """One holder per name; who waits gets it in turn."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}  # of each name that is held

    async def acquire(self, name: str) -> None:
        """Wait for *name* and hold it; whoever is cancelled meanwhile holds nothing."""
        queue = self._waiting.get(name)
        if queue is None:
            self._waiting[name] = deque()
            return
        turn = asyncio.get_running_loop().create_future()
        queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # it was given at the same moment
                self.release(name)
            raise

    def release(self, name: str) -> None:
        """Give *name* to the next who waits."""
        queue = self._waiting[name]
        while queue:
            turn = queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        del self._waiting[name]
