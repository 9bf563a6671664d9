"""How much of the sending one host, and one owner, may take at a time: receivers that hang hold their share, and the others go on.

Whoever finds no room gives the slot of its timer back at once, and is noted; who leaves a host goes on with those that were noted. So a host that
answers fast is kept as busy as its share allows, and nobody waits in a slot. The timer asks again each second: nothing depends on the notes.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

import structlog

from indaco_common.envelope import Context
from indaco_common.errors import IndacoError
from indaco_common.timers import AT_ONCE

SHARE = AT_ONCE // 4  # batches at a time, webhooks and callbacks together; each of the two has AT_ONCE slots
GOES_ON_S = 1.0  # with those that were noted, until the timer asks for them again
MAX_NOTED = 1000


@dataclass(frozen=True, slots=True)
class Job:
    """A batch for one receiver: the aggregate *id* of a *kind*, where it leads, and who wants it sent."""

    kind: str
    id: str
    host: str
    owner: str
    run: Callable[[Context], Awaitable[None]]

    @property
    def takes(self) -> tuple[tuple[str, str], ...]:
        return ("host", self.host), ("owner", self.owner)


class Shares:
    """What is being sent in this process."""

    def __init__(self, share: int = SHARE) -> None:
        self._share = share
        self._taken: Counter[tuple[str, str]] = Counter()
        self._noted: dict[str, Job] = {}

    def noted(self, id: str) -> Job | None:
        return self._noted.get(id)

    async def run(self, job: Job, ctx: Context) -> None:
        """Run *job*, and then for a while what was noted; or note it, if there is no room. Raises: what *job* raises."""
        if not self._has_room(job):
            if len(self._noted) < MAX_NOTED:
                self._noted[job.id] = job
            return
        loop = asyncio.get_running_loop()
        end = loop.time() + GOES_ON_S
        await self._run(job, ctx)
        while loop.time() < end and (other := next(filter(self._has_room, self._noted.values()), None)) is not None:
            with suppress(IndacoError):  # its own timer meets that too
                await self._run(other, Context())

    async def _run(self, job: Job, ctx: Context) -> None:
        self._noted.pop(job.id, None)
        self._taken.update(job.takes)
        try:
            with structlog.contextvars.bound_contextvars(correlation_id=job.id, subject=f"{job.kind}/{job.id}"):
                await job.run(ctx)
        finally:
            self._taken.subtract(job.takes)
            self._taken += Counter()  # keeps those above zero

    def _has_room(self, job: Job) -> bool:
        return all(self._taken[each] < self._share for each in job.takes)
