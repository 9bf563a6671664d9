"""Who listens to which deployment in this process: one look for all listeners of a deployment, and each goes at its own pace."""

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field

from indaco_common.errors import TooManyRequests, Unavailable
from indaco_common.hints import Hints
from indaco_common.store import Repository

from .model.operation import Operation

POLL_S = 1.0  # for what another gateway process saved, and for listeners who went away without a word
FULL_RETRY_S = 30.0


class Channel:
    """What the listeners of one deployment share: its newest state, read once for all of them, and its steps as they are sent.

    Both are forgotten when all have heard them: a thousand quiet streams keep no thousand timelines.
    """

    def __init__(self, id: str, operations: Repository[Operation]) -> None:
        self._id, self._operations = id, operations
        self._operation: Operation | None = None
        self._sent: dict[int, bytes] = {}  # number of a step → its event
        self._reading = asyncio.Lock()
        self._is_stale = True
        self.version, self.steps, self.is_over = 0, 0, False  # as it was read last
        self.listeners: list[Listener] = []

    def changed(self) -> None:
        self._is_stale = True
        for listener in self.listeners:
            listener.wake.set()

    def has_news(self, told: int) -> bool:
        return self._is_stale or told < self.steps

    async def read(self) -> Operation:
        """Return the deployment as it is now. Raises: NotFound, Unavailable."""
        if (known := self._known()) is not None:
            return known
        async with self._reading:  # one reads; those who wait find it done
            if (known := self._known()) is None:
                known = await self._read()
            return known

    def events(self, operation: Operation, after: int) -> list[tuple[int, bytes]]:
        """Return the numbered steps behind *after* as server-sent events, each made once for all."""
        new = operation.timeline[-(operation.steps - after) :] if operation.steps > after else ()
        for step in new:
            if step.number not in self._sent:
                line = json.dumps(step.model_dump(mode="json"))
                self._sent[step.number] = f"id: {step.number}\nevent: {step.type}\ndata: {line}\n\n".encode()
        return [(step.number, self._sent[step.number]) for step in new]

    def rest(self) -> None:
        """Forget what all have heard."""
        if not self._is_stale and all(listener.told >= self.steps for listener in self.listeners):
            self._operation, self._sent = None, {}

    def _known(self) -> Operation | None:
        return None if self._is_stale else self._operation

    async def _read(self) -> Operation:
        self._is_stale = False  # before the read: a change that comes during it is read again
        try:
            operation = self._operation = await self._operations.get(self._id)
        except BaseException:
            self._is_stale = True
            raise
        self.version, self.steps, self.is_over = operation.version, operation.steps, operation.deleted
        return operation


@dataclass(slots=True, eq=False)
class Listener:
    """One who waits for news of a deployment. *told* is the last step that he has heard of; *is_gone*: he has hung up."""

    channel: Channel
    told: int
    is_gone: Callable[[], bool]
    wake: asyncio.Event = field(default_factory=asyncio.Event)

    async def wait(self, seconds: float) -> None:
        """Wait for something new, or for a sign that he is gone, but no longer than *seconds*."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.wake.wait()


class Live:
    """All channels. A hint tells of this process's own saves at once; the poll, of what others saved, asks for all in one go."""

    def __init__(
        self, operations: Repository[Operation], hints: Hints, max_listeners: int, max_of_user: int | None = None
    ) -> None:
        """*max_of_user*: of one user; None: as many as of all."""
        self._operations, self._most, self._most_of_user = operations, max_listeners, max_of_user or max_listeners
        self._channels: dict[str, Channel] = {}
        self._by_user: Counter[Hashable] = Counter()
        self.is_closing = False
        hints.on_change(Operation, self._changed)

    async def run(self) -> None:
        """Until the service stops; then let all listeners go, who would hold up the stop."""
        self.is_closing = False
        try:
            while True:
                await asyncio.sleep(POLL_S)
                with contextlib.suppress(Unavailable):  # there is nothing new to tell until the store answers
                    await self._look()
        finally:
            self.is_closing = True
            for channel in self._channels.values():
                channel.changed()

    @contextlib.contextmanager
    def listening(self, id: str, told: int, is_gone: Callable[[], bool], user: Hashable = None) -> Iterator[Listener]:
        """Listen to a deployment from behind the step *told*. Raises: TooManyRequests, also if *user* alone has too many."""
        if self._by_user.total() >= self._most:
            raise TooManyRequests(
                f"There are {self._most} listeners already; come back later", retry_after_s=FULL_RETRY_S
            )
        if self._by_user[user] >= self._most_of_user:
            raise TooManyRequests(
                f"You have {self._most_of_user} listeners already; close one first", retry_after_s=FULL_RETRY_S
            )
        channel = self._channels.setdefault(id, Channel(id, self._operations))
        listener = Listener(channel, told, is_gone)
        channel.listeners.append(listener)
        self._by_user[user] += 1
        try:
            yield listener
        finally:
            self._by_user[user] -= 1
            if not self._by_user[user]:
                del self._by_user[user]
            channel.listeners.remove(listener)
            if not channel.listeners:
                del self._channels[id]

    def _changed(self, id: str) -> None:
        if (channel := self._channels.get(id)) is not None:
            channel.changed()

    async def _look(self) -> None:
        for channel in self._channels.values():
            channel.rest()
            for listener in channel.listeners:
                if listener.is_gone():
                    listener.wake.set()
        versions = await self._operations.versions(list(self._channels))
        for id, channel in self._channels.items():
            if versions.get(id) != channel.version:
                channel.changed()
