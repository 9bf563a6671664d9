"""Simulated sites: the file that a simulated cloud lives in, its faults, and the credentials that it honours.

The driver (orchestrator) and the issuer (vault-broker) of the kind ``simulated`` share a site through one folder, ``<path>/<provider>/``:
``site.db`` holds the site's secret, its leases and its machines; ``faults.json`` breaks and mends it while it runs. Both are plain
files, so a site outlives every process, several processes use it at once, and a test or a person can look into it.

An endpoint is ``simulated:<path>?<option>=<value>&…`` with the options of :class:`SiteOptions`; an empty path is ``$INDACO_SIMULATED``,
else ``simulated`` in the data folder (``$INDACO_DATA``, else ``data``).
"""

import asyncio
import base64
import binascii
import hashlib
import hmac
import json
import os
import random
import secrets
import sqlite3
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Self, TypeVar
from urllib.parse import parse_qsl

import pydantic
import structlog

from indaco_common.clock import Clock, SystemClock
from indaco_common.errors import CredentialRejected, Invalid, PolicyRefused, Unavailable

KIND = "simulated"
FAULTS = "faults.json"
Connection = sqlite3.Connection

_BUSY_S = 1.5  # how long a transaction waits for another process; well below the 10 s that a driver's call may take
_ANSWER_S = 8.0  # when a hanging call is given up; with one transaction it stays below 10 s
_HANG_STEP_S = 0.05  # how often a hanging call looks whether the site was mended
_SCHEMA = """
CREATE TABLE IF NOT EXISTS site(name TEXT PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS leases(key TEXT PRIMARY KEY, region TEXT NOT NULL, project TEXT NOT NULL,
                                  expires_at INTEGER NOT NULL, revoked_at INTEGER);
"""

T = TypeVar("T")
Rate = Annotated[float, pydantic.Field(ge=0, le=1)]
Seconds = Annotated[float, pydantic.Field(ge=0, le=86_400)]
Count = Annotated[int, pydantic.Field(ge=0, le=1_000_000)]
log = structlog.stdlib.get_logger()


class SiteOptions(pydantic.BaseModel):
    """How a site behaves; each option may stand in the endpoint's query, and in ``faults.json``, which wins and is read live."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    boot_s: Seconds = 0.5
    """From a machine's creation until it runs."""
    boot_fail_rate: Rate = 0.0
    """The share of machines that end as failed instead."""
    capacity: Count = 100
    """Instances per region."""
    cpus: Count | None = None
    """vCPUs per region; 8 per instance unless told."""
    memory_gib: Count | None = None
    """Memory per region; 32 GiB per instance unless told."""
    images: str = ""
    """Comma-separated names of the only images there are; empty accepts any."""
    down: bool = False
    """Nothing answers."""
    fail_rate: Rate = 0.0
    """The share of calls that fail before they have an effect."""
    lose_answers: Rate = 0.0
    """The share of calls that have their effect and then fail."""
    reject_credentials: Rate = 0.0
    """The share of calls whose good credential is refused."""
    hang_s: Seconds = 0.0
    """How long a call hangs before it goes on."""
    hang_rate: Rate = 1.0
    """The share of calls that hang for *hang_s*."""
    hang_until: float = 0.0
    """All calls hang until then (seconds since 1970)."""
    seed: int | None = None
    """Makes the faults of one process repeatable."""


def parse_endpoint(endpoint: str, provider: str) -> tuple[Path, SiteOptions]:
    """Return the folder of *provider*'s site and its options. Raises Invalid."""
    kind, colon, rest = endpoint.partition(":")
    if kind != KIND or not colon:
        raise Invalid(f"{endpoint!r} is not an endpoint of a simulated site")
    path, _, query = rest.partition("?")
    try:
        options = SiteOptions.model_validate(dict(parse_qsl(query, strict_parsing=bool(query))))
    except pydantic.ValidationError as error:
        wrong = ", ".join(str(part) for detail in error.errors() for part in detail["loc"])
        raise Invalid(f"the endpoint of {provider} has wrong options: {wrong}") from error
    except ValueError as error:
        raise Invalid(f"the endpoint of {provider} has a wrong query: {error}") from error
    data = Path(os.environ.get("INDACO_DATA") or "data")
    root = Path(path or os.environ.get("INDACO_SIMULATED") or data / "simulated")
    return root.absolute() / provider, options


def break_site(folder: Path, **faults: float | bool | str) -> None:
    """Make the site in *folder* behave as *faults* say from its next call on; with none, mend it."""
    SiteOptions.model_validate(faults)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = folder / f".{FAULTS}.{os.getpid()}.{threading.get_ident()}"
    draft.write_text(json.dumps(faults), encoding="utf-8")
    draft.replace(folder / FAULTS)


@dataclass(frozen=True, slots=True)
class Lease:
    """What the site knows of one credential."""

    key: str
    region: str
    project: str
    expires_at: datetime
    is_revoked: bool


class Site:
    """One simulated site, as one process sees it.

    All work on the file happens in one thread of its own, each piece as one transaction. Opening is lazy: a site costs nothing until
    it is asked something.
    """

    def __init__(self, folder: Path, options: SiteOptions | None = None, *, clock: Clock | None = None) -> None:
        self.folder = folder
        self.clock = clock or SystemClock()
        self._options = options or SiteOptions()
        self._current = self._options
        self._stamp: tuple[int, int] | None = None
        self.random = random.Random(self._options.seed)  # noqa: S311 - faults, not secrets
        self._connection: Connection | None = None
        self._is_closed = False
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="simulated-site")

    @classmethod
    def at(cls, endpoint: str, provider: str, *, clock: Clock | None = None) -> Self:
        """Return the site of *provider* at *endpoint*. Raises Invalid."""
        folder, options = parse_endpoint(endpoint, provider)
        return cls(folder, options, clock=clock)

    def close(self) -> None:
        """Finish the work in hand and close the file; a second call does nothing."""
        if not self._is_closed:
            self._is_closed = True
            self._thread.submit(self._close)
            self._thread.shutdown(wait=True)

    def options(self) -> SiteOptions:
        """Return how the site behaves now. A ``faults.json`` that cannot be read changes nothing and is logged once."""
        try:
            status = (self.folder / FAULTS).stat()
            stamp = (status.st_mtime_ns, status.st_ino)
        except OSError:
            self._stamp, self._current = None, self._options
            return self._current
        if stamp != self._stamp:
            self._stamp = stamp
            self._read_faults()
        return self._current

    async def answer(self) -> SiteOptions:
        """Return once the site would answer a call, with its options; hangs as they say.

        Raises Unavailable, if the site is down or hangs for longer than a call may take.
        """
        options = self.options()
        loop = asyncio.get_running_loop()
        patience = loop.time() + _ANSWER_S
        until = loop.time() + (options.hang_s if self.happens(options.hang_rate) else 0.0)
        while loop.time() < until or self.clock.now().timestamp() < options.hang_until:
            if loop.time() >= patience:
                raise Unavailable(f"the simulated site did not answer within {_ANSWER_S:g} s")
            await asyncio.sleep(_HANG_STEP_S)
            options = self.options()
            until = until if options.hang_s else 0.0
        if options.down:
            raise Unavailable("the simulated site is down")
        return options

    def happens(self, rate: float) -> bool:
        """Return True in *rate* of the calls."""
        return rate > 0 and self.random.random() < rate

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Do *work* as one transaction, without holding up the event loop.

        A caller that is cancelled waits for the commit, so that what it sees afterwards is final. Raises Unavailable, if the file
        cannot be used.
        """
        if self._is_closed:
            raise Unavailable("the simulated site was closed in this process")
        future = asyncio.get_running_loop().run_in_executor(self._thread, self.transact, work)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])
            if not future.cancelled():
                future.exception()  # the caller has gone: nobody else will look at it
            raise

    def transact(self, work: Callable[[Connection], T]) -> T:
        """Do *work* as one transaction in this thread (:meth:`run` is the asynchronous way). Raises Unavailable."""
        with self._lock:
            try:
                return self._transact(self._open(), work)
            except (sqlite3.Error, OSError) as error:
                raise Unavailable(f"the simulated site's file cannot be used: {error}") from error

    @staticmethod
    def _transact(connection: Connection, work: Callable[[Connection], T]) -> T:
        connection.execute("BEGIN IMMEDIATE")
        try:
            result = work(connection)
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")
        return result

    def _open(self) -> Connection:
        if self._connection is None:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            path = self.folder / "site.db"
            path.touch(mode=0o600)
            connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
            connection.row_factory = sqlite3.Row
            try:
                # WAL survives the death of any process; only a power cut may cost the last transactions.
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=NORMAL")
                connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
                connection.execute("INSERT OR IGNORE INTO site VALUES ('secret', ?)", (secrets.token_bytes(32),))
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _read_faults(self) -> None:
        try:
            faults = json.loads((self.folder / FAULTS).read_text(encoding="utf-8"))
            self._current = SiteOptions.model_validate({**self._options.model_dump(), **faults})
        except (OSError, TypeError, ValueError) as error:
            log.warning("faults.rejected", folder=str(self.folder), error=type(error).__name__, simulated=True)
            return
        log.info("faults.applied", folder=str(self.folder), faults=sorted(faults), simulated=True)


# Credentials: "simulated.<lease key>.<expiry>.<signature>", signed with the site's secret for one region and project.


def issue(connection: Connection, lease: Lease) -> tuple[str, datetime]:
    """Return the token of *lease* and when it expires; asked again, the first answer again. Raises PolicyRefused, if it was revoked."""
    connection.execute(
        "INSERT OR IGNORE INTO leases VALUES (?, ?, ?, ?, NULL)",
        (lease.key, lease.region, lease.project, int(lease.expires_at.timestamp())),
    )
    row = connection.execute("SELECT * FROM leases WHERE key = ?", (lease.key,)).fetchone()
    if row["revoked_at"] is not None:
        raise PolicyRefused("this lease was revoked")
    signature = _sign(connection, lease.key, row["region"], row["project"], row["expires_at"])
    name = base64.urlsafe_b64encode(lease.key.encode()).decode().rstrip("=")
    token = f"{KIND}.{name}.{row['expires_at']}.{signature}"
    return token, datetime.fromtimestamp(row["expires_at"], UTC)


def revoke(connection: Connection, key: str, now: datetime) -> None:
    """Refuse the lease's token from now on; also one that was never issued, and once more is no error."""
    connection.execute(
        "INSERT INTO leases VALUES (?, '', '', 0, ?) ON CONFLICT(key) DO UPDATE SET revoked_at = coalesce(revoked_at, excluded.revoked_at)",
        (key, int(now.timestamp())),
    )


def check(connection: Connection, credential: Mapping[str, str], *, region: str, project: str, now: datetime) -> None:
    """Return if the site made this credential for *region* and *project* and it is still good. Raises CredentialRejected."""
    try:
        kind, name, expiry, signature = credential["token"].split(".")
        key = base64.urlsafe_b64decode(name + "=" * (-len(name) % 4)).decode()
        expires_at = int(expiry)
    except (KeyError, ValueError, binascii.Error) as error:
        raise CredentialRejected("this is no credential of a simulated site") from error
    expected = _sign(connection, key, region, project, expires_at)
    if kind != KIND or not hmac.compare_digest(signature.encode(), expected.encode()):
        raise CredentialRejected("the credential was not made by this simulated site for this project")
    if now >= datetime.fromtimestamp(expires_at, UTC):
        raise CredentialRejected("the credential has expired")
    row = connection.execute("SELECT revoked_at FROM leases WHERE key = ?", (key,)).fetchone()
    if row is None or row["revoked_at"] is not None:
        raise CredentialRejected("the credential was revoked")


def leases(connection: Connection) -> list[Lease]:
    """Return every lease that the site ever heard of, for tests and people who check its books."""
    rows = connection.execute("SELECT * FROM leases ORDER BY key").fetchall()
    return [
        Lease(
            row["key"],
            row["region"],
            row["project"],
            datetime.fromtimestamp(row["expires_at"], UTC),
            is_revoked=row["revoked_at"] is not None,
        )
        for row in rows
    ]


def lease_until(now: datetime, ttl_s: float) -> datetime:
    """Return the expiry of a lease of *ttl_s* seconds, in whole seconds as tokens hold it, never shorter than asked."""
    return (now + timedelta(seconds=ttl_s + 1)).replace(microsecond=0)


def _sign(connection: Connection, key: str, region: str, project: str, expires_at: int) -> str:
    with closing(connection.execute("SELECT value FROM site WHERE name = 'secret'")) as cursor:
        secret = cursor.fetchone()["value"]
    message = json.dumps([key, region, project, expires_at]).encode()
    return hmac.new(secret, message, hashlib.sha256).hexdigest()
