"""One call for all who wait for the same thing at once."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class Flights(Generic[K, T]):
    """The calls that are under way, by what they ask for."""

    def __init__(self) -> None:
        self._under_way: dict[K, asyncio.Task[T]] = {}

    def __len__(self) -> int:
        return len(self._under_way)

    def __contains__(self, key: object) -> bool:
        return key in self._under_way

    async def join(self, key: K, call: Callable[[], Awaitable[T]]) -> T:
        """Return what *call* gives, or the call for *key* that is under way; a caller who leaves does not end it for the others."""
        task = self._under_way.get(key)
        if task is None:
            task = asyncio.create_task(_run(call))
            self._under_way[key] = task
            task.add_done_callback(lambda done: self._landed(key, done))
        return await asyncio.shield(task)

    async def land(self) -> None:
        """Wait for the calls that are under way."""
        await asyncio.gather(*self._under_way.values(), return_exceptions=True)

    async def close(self) -> None:
        """Stop the calls that are under way."""
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _landed(self, key: K, task: asyncio.Task[T]) -> None:
        self._under_way.pop(key, None)
        if not task.cancelled():
            task.exception()  # looked at: nobody may be left to hear of it


async def _run(call: Callable[[], Awaitable[T]]) -> T:
    return await call()
