"""A SQLite file with one writer thread and group commit: what the embedded store and the embedded bus stand on.

One connection writes, in a thread of its own. All operations that wait go into one ``BEGIN IMMEDIATE`` transaction and share one
fsync, so 200 waiting callers cost little more than one; a caller is answered only after the commit. Reads by key run in the event
loop's thread (:meth:`Database.read`), long ones in a reader thread (:meth:`Database.query`); WAL keeps readers and writer apart.
"""

import asyncio
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Literal, TypeVar

import structlog

from indaco_common.errors import IndacoError, Unavailable

T = TypeVar("T")
Row = tuple[Any, ...]
Value = str | bytes | int | float | None

BATCH_OPERATIONS = 256
BATCH_S = 0.005  # a commit costs an fsync, 0.1-10 ms: work as long as that is shared well, the first caller does not wait long
WAL_LIMIT_BYTES = 64 * 1024 * 1024
READ_BUSY_MS = 1000  # a read waits only while another process recovers or deletes the WAL

# What the machine, not the program, did wrong: worth the same call later (https://sqlite.org/rescode.html).
ENVIRONMENT = frozenset({
    sqlite3.SQLITE_PERM, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_NOTADB,
})  # fmt: skip
PRIMARY_CODE = 0xFF  # an extended result code carries the primary one in its lowest byte

log = structlog.get_logger(__name__)


def translated(error: Exception) -> Exception:
    """Return Unavailable for what the disk or another process did, *error* itself for what is our bug."""
    code = getattr(error, "sqlite_errorcode", None)
    if isinstance(error, sqlite3.Error) and code is not None and code & PRIMARY_CODE in ENVIRONMENT:
        unavailable = Unavailable(f"SQLite: {error}", retry_after_s=1.0)
        unavailable.__cause__ = error
        return unavailable
    return error


class _Job:
    """An operation, who waits for it, and what came of it."""

    __slots__ = ("error", "future", "operation", "result")

    def __init__(self, operation: Callable[[sqlite3.Connection], Any], future: asyncio.Future[Any]) -> None:
        self.operation, self.future = operation, future
        self.result: Any = None
        self.error: Exception | None = None

    def attempt(self, connection: sqlite3.Connection) -> None:
        self.error = None
        try:
            self.result = self.operation(connection)
        except IndacoError as refusal:  # by contract it has changed nothing
            self.error = refusal


class Database:
    """One file. ``start`` and ``stop`` belong to one event loop; ``start`` after ``stop`` opens it again."""

    def __init__(
        self,
        path: Path,
        schema: str,
        *,
        synchronous: Literal["FULL", "NORMAL", "OFF"] = "FULL",
        busy_timeout_s: float = 5.0,
    ) -> None:
        """*schema* is run at each start: ``CREATE … IF NOT EXISTS``. *synchronous* below FULL may lose the last commits when
        the power fails, never when the process does.
        """
        self._path, self._schema, self._synchronous, self._busy_timeout_s = path, schema, synchronous, busy_timeout_s
        self._waiting: list[_Job] = []  # of this turn of the loop, not yet handed over
        self._handed: SimpleQueue[list[_Job] | None] = SimpleQueue()
        self._taken: deque[_Job] = deque()  # the writer's own
        self._last = False  # the writer has seen the end of its queue
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reader: sqlite3.Connection | None = None
        self._long_reader: sqlite3.Connection | None = None
        self._long_reads: ThreadPoolExecutor | None = None
        self._ended: asyncio.Future[None] | None = None

    @property
    def path(self) -> Path:
        return self._path

    async def start(self) -> None:
        """Open or create the file. Raises: Unavailable, if the disk does not let it."""
        loop = asyncio.get_running_loop()
        self._last = False
        opened: asyncio.Future[None] = loop.create_future()
        self._ended = loop.create_future()
        threading.Thread(
            target=self._writer, args=(loop, opened, self._ended), name=f"sqlite {self._path.name}", daemon=True
        ).start()
        try:
            await opened
            self._reader = self._connect_reader()
            self._long_reader = self._connect_reader()
        except (OSError, sqlite3.Error) as error:
            await self.stop()
            raise (Unavailable(str(error)) if isinstance(error, OSError) else translated(error)) from error
        self._long_reads = ThreadPoolExecutor(1, thread_name_prefix=f"sqlite reads {self._path.name}")
        self._loop = loop

    async def stop(self) -> None:
        """Finish what waits, write the log back into the file, close."""
        if self._ended is None:
            return
        self._loop, ended, self._ended = None, self._ended, None
        if self._long_reads is not None:
            await asyncio.to_thread(self._long_reads.shutdown)
        for reader in (self._reader, self._long_reader):
            if reader is not None:
                reader.close()
        self._reader = self._long_reader = self._long_reads = None
        self._hand_over()
        self._handed.put(None)
        await ended

    async def run(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        """Run *operation* in the writer thread, in a transaction shared with whatever else waits; return after the commit.

        *operation* may be run again after a rollback, so it touches nothing but its connection; it neither begins nor commits.
        If it raises one of our own errors it must have changed nothing (let the compare-and-set be its first statement): the rest
        of its transaction is committed. After any other error the transaction is rolled back and its operations are run one by one.

        Raises: what *operation* raises; Unavailable if the disk is full, fails or is locked: then nothing was changed.
        """
        loop = self._loop
        if loop is None:
            raise Unavailable(f"{self._path.name} is not open")
        future: asyncio.Future[T] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._hand_over)
        self._waiting.append(_Job(operation, future))
        return await future

    def read(self, sql: str, parameters: Sequence[Value] = ()) -> list[Row]:
        """Return all rows of a short query, read here and now in the event loop's thread; it sees every commit that was answered.

        A read by primary key costs 20-50 µs; handing it to a thread and taking the answer back costs more than that, and the thread
        would fight the writer for the interpreter. What may look at many rows belongs to :meth:`query`.

        Raises: Unavailable.
        """
        if self._reader is None:
            raise Unavailable(f"{self._path.name} is not open")
        try:
            return self._reader.execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise translated(error) from error

    async def query(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """Run a reading *function* in the reader thread, where it may take its time; all it reads is of one moment.

        Raises: Unavailable.
        """
        if self._long_reads is None or self._long_reader is None:
            raise Unavailable(f"{self._path.name} is not open")
        return await asyncio.get_running_loop().run_in_executor(
            self._long_reads, _consistently, self._long_reader, function
        )

    def _hand_over(self) -> None:
        """Give the writer all that this turn of the loop has brought.

        One by one it would begin with the first, in small transactions, and fight the loop for the interpreter at each statement.
        """
        if self._waiting:
            self._handed.put(self._waiting)
            self._waiting = []

    def _connect(self, busy_ms: float) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=busy_ms / 1000, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        connection.execute("PRAGMA temp_store=MEMORY")
        return connection

    def _connect_reader(self) -> sqlite3.Connection:
        connection = self._connect(READ_BUSY_MS)
        connection.execute("PRAGMA query_only=ON")
        return connection

    def _connect_writer(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.touch(mode=0o600)  # the log files take their mode from it
        connection = self._connect(self._busy_timeout_s * 1000)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(f"PRAGMA synchronous={self._synchronous}")
            connection.execute(f"PRAGMA journal_size_limit={WAL_LIMIT_BYTES}")
            connection.executescript(self._schema)
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _writer(
        self, loop: asyncio.AbstractEventLoop, opened: asyncio.Future[None], ended: asyncio.Future[None]
    ) -> None:
        """The writer thread: open, write batches until the queue's end, close."""
        try:
            connection = self._connect_writer()
        except (OSError, sqlite3.Error) as error:
            _call(loop, _set, opened, error)
            while self._handed.get() is not None:
                pass
            _call(loop, _set, ended, None)
            return
        _call(loop, _set, opened, None)
        while not self._last:
            if (first := self._take(block=True)) is not None:
                _call(loop, _answer, self._batch(connection, first))
        with suppress(sqlite3.Error):  # a full disk keeps the log beside the file: nothing is lost
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
        _call(loop, _set, ended, None)

    def _take(self, *, block: bool) -> _Job | None:
        """Return the next job; None if there is none (or none any more)."""
        if not self._taken:
            try:
                handed = self._handed.get(block)
            except Empty:
                return None
            if handed is None:
                self._last = True
                return None
            self._taken.extend(handed)
        return self._taken.popleft()

    def _batch(self, connection: sqlite3.Connection, first: _Job) -> list[_Job]:
        """Run *first* and what waits behind it in one transaction; every job returned is committed or has its error."""
        jobs, job, end = [], first, time.monotonic() + BATCH_S
        try:
            connection.execute("BEGIN IMMEDIATE")
            while True:
                jobs.append(job)
                job.attempt(connection)
                following = None
                if len(jobs) < BATCH_OPERATIONS and time.monotonic() < end:
                    following = self._take(block=False)
                if following is None:
                    break
                job = following
            connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - each caller gets it, or its own
            _roll_back(connection)
            self._recover(connection, jobs or [first], error)
            return jobs or [first]
        return jobs

    def _recover(self, connection: sqlite3.Connection, jobs: list[_Job], error: Exception) -> None:
        """After a failed batch: a sick disk is everybody's error, any other only that of the job which caused it."""
        cause = translated(error)
        log.warning("transaction.failed", file=self._path.name, operations=len(jobs), error=str(error))
        for job in jobs:
            job.error = translated(error) if isinstance(cause, Unavailable) or len(jobs) == 1 else None
            if job.error is None:
                _alone(connection, job)


def _alone(connection: sqlite3.Connection, job: _Job) -> None:
    try:
        connection.execute("BEGIN IMMEDIATE")
        job.attempt(connection)
        connection.execute("COMMIT")
    except Exception as error:  # noqa: BLE001 - it goes to the caller
        _roll_back(connection)
        job.error = translated(error)


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:  # SQLite itself has rolled back after some errors
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")


def _consistently(connection: sqlite3.Connection, function: Callable[[sqlite3.Connection], T]) -> T:
    try:
        connection.execute("BEGIN")
        return function(connection)
    except sqlite3.Error as error:
        raise translated(error) from error
    finally:
        _roll_back(connection)


def _call(loop: asyncio.AbstractEventLoop, function: Callable[..., None], *arguments: object) -> None:
    with suppress(RuntimeError):  # the loop was closed without stop(): nobody waits for an answer
        loop.call_soon_threadsafe(function, *arguments)


def _set(future: asyncio.Future[None], error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)


def _answer(jobs: list[_Job]) -> None:
    for job in jobs:
        if job.future.done():  # its caller was cancelled
            continue
        if job.error is None:
            job.future.set_result(job.result)
        else:
            job.future.set_exception(job.error)
