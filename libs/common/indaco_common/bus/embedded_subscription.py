"""One service's subscription to the embedded bus: hand out rows, bound what is under way, write verdicts in batches."""

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable

import structlog

from indaco_common.clock import Clock
from indaco_common.errors import Unavailable
from indaco_common.store.database import Database

from .port import DELAYS_S, Dead, Delivery, Done, Later, Receiver, Verdict

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_BATCH = 64  # rows read at once
_MAX_UNWRITTEN = 512  # verdicts that wait for the disk before no more rows are handed out
_RETRY_S = 0.5  # between two attempts to write verdicts
_Row = tuple[int, bytes, int]
_Pending = tuple[int, Verdict, Callable[[int], None]]


class Verdicts:
    """Writes verdicts; those that come while a batch is being written are the next batch."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database, self._clock = database, clock
        self._pending: list[_Pending] = []
        self._task: asyncio.Task[None] | None = None

    def add(self, seq: int, verdict: Verdict, written: Callable[[int], None]) -> None:
        """Queue the verdict on row *seq*; *written* is called when the file has it."""
        self._pending.append((seq, verdict, written))
        if self._task is None:
            self._task = asyncio.create_task(self._write(), name="embedded bus verdicts")

    async def stop(self) -> None:
        """Write what waits, once: what the disk does not take now is delivered again after the next start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._pending:
            try:
                await self._write_batch(self._pending)
            except Unavailable as error:
                log.warning("verdicts.lost", count=len(self._pending), error=error.detail)

    async def _write(self) -> None:
        try:
            while batch := list(self._pending):
                try:
                    await self._write_batch(batch)
                except Unavailable as error:
                    log.warning("verdicts.delayed", count=len(batch), error=error.detail)
                    await asyncio.sleep(_RETRY_S)
                    continue
                del self._pending[: len(batch)]
                for seq, _, written in batch:
                    written(seq)
        finally:
            self._task = None

    async def _write_batch(self, batch: list[_Pending]) -> None:
        now = self._clock.now().timestamp()
        done = [(seq,) for seq, verdict, _ in batch if isinstance(verdict, Done)]
        rest = [_update(seq, verdict, now) for seq, verdict, _ in batch if not isinstance(verdict, Done)]

        def write(connection: sqlite3.Connection) -> None:
            connection.executemany("DELETE FROM queue WHERE seq = ?", done)
            connection.executemany(
                "UPDATE queue SET visible_at = ?, attempt = coalesce(?, attempt), error = ?, dead = ? WHERE seq = ?",
                rest,
            )

        await self._database.run(write)


def _update(seq: int, verdict: Later | Dead | Done, now: float) -> tuple[float, int | None, str, int, int]:
    match verdict:
        case Later(tier, attempt, error):
            return now + DELAYS_S[tier], attempt, error, 0, seq
        case Dead(error):
            return now, None, error, 1, seq
        case Done():
            raise AssertionError("a row that is done is deleted")


class Subscription:
    """Gives the rows of one queue to *receiver*, at most *prefetch* at once."""

    def __init__(
        self,
        service: str,
        receiver: Receiver,
        database: Database,
        verdicts: Verdicts,
        clock: Clock,
        *,
        prefetch: int,
        poll_s: float,
    ) -> None:
        self._service, self._receiver, self._database = service, receiver, database
        self._verdicts, self._clock, self._poll_s = verdicts, clock, poll_s
        self._prefetch = prefetch
        self._buffer: deque[_Row] = deque()  # read, not handed out
        self._taken: set[int] = set()  # handed out, verdict not written yet
        self._running: set[asyncio.Task[None]] = set()
        self._unpaused = True
        self._woken = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._task: asyncio.Task[None] | None = None

    @property
    def taken(self) -> frozenset[int]:
        return frozenset(self._taken)

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=f"subscription of {self._service}")

    def wake(self) -> None:
        self._woken.set()

    def pause(self) -> None:
        self._unpaused = False
        self._buffer.clear()

    def resume(self, prefetch: int) -> None:
        self._unpaused, self._prefetch = True, prefetch
        self.wake()

    async def drain(self) -> None:
        """Hand out nothing more; wait until what is under way has its verdict on disk."""
        self.pause()
        await self._cancel_loop()
        await self._idle.wait()

    async def abandon(self) -> None:
        """Stop at once; what has no verdict yet is delivered again after the next start."""
        self.pause()
        await self._cancel_loop()
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _cancel_loop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        """Hand out what there is whenever woken, at the latest when the next row becomes visible or at the next poll."""
        while True:
            self._woken.clear()
            wait_s = self._poll_s
            try:
                self._hand_out()
                if self._has_room() and not self._buffer:
                    wait_s = self._until_next()
            except Unavailable as error:
                log.warning("subscription.hindered", service=self._service, error=error.detail)
            except Exception:  # a loop that ends silently stops a service
                log.exception("subscription.failed", service=self._service)
            try:
                async with asyncio.timeout(wait_s):
                    await self._woken.wait()
            except TimeoutError:
                continue

    def _has_room(self) -> bool:
        return self._unpaused and len(self._running) < self._prefetch and len(self._taken) < _MAX_UNWRITTEN

    def _hand_out(self) -> None:
        while self._has_room():
            if not self._buffer:
                self._fill()
            if not self._buffer:
                return
            row = self._buffer.popleft()
            self._taken.add(row[0])
            self._idle.clear()
            task = asyncio.create_task(self._deliver(*row))
            self._running.add(task)
            task.add_done_callback(self._ended)

    def _fill(self) -> None:
        """Read the next rows. The set of those under way is small, so it stands in the statement."""
        taken = ",".join(map(str, self._taken))
        self._buffer.extend(
            self._database.read(
                f"SELECT seq, envelope, attempt FROM queue WHERE queue = ? AND dead = 0 AND visible_at <= ? "  # noqa: S608
                f"AND seq NOT IN ({taken}) ORDER BY visible_at, seq LIMIT {_BATCH}",
                (self._service, self._clock.now().timestamp()),
            )
        )

    def _until_next(self) -> float:
        now = self._clock.now().timestamp()
        ((at,),) = self._database.read(
            "SELECT min(visible_at) FROM queue WHERE queue = ? AND dead = 0 AND visible_at > ?", (self._service, now)
        )
        return self._poll_s if at is None else max(0.0, min(self._poll_s, at - now))

    async def _deliver(self, seq: int, body: bytes, attempt: int) -> None:
        try:
            verdict = await self._receiver(Delivery(body, attempt, redelivered=attempt > 0))
        except Exception:  # a receiver answers; one that raises is a bug, and the message must not be lost or spin
            log.exception("delivery.unanswered", service=self._service)
            verdict = Later(0, attempt + 1, "internal-error: the receiver gave no verdict")
        self._verdicts.add(seq, verdict, self._written)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self.wake()

    def _written(self, seq: int) -> None:
        self._taken.discard(seq)
        if not self._taken:
            self._idle.set()
        if len(self._taken) + 1 >= _MAX_UNWRITTEN:
            self.wake()
