"""The store on one SQLite file: state, outbox, inbox and journal in one transaction, with nothing to install or to run."""

import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Literal

from indaco_common.envelope import Sealed
from indaco_common.errors import Conflict

from .database import Database, Value
from .port import INBOX_LENGTH, Entry, Found, JournalQuery, Page, Query, Scalar
from .sqlite_listing import Listing

# Instants are microseconds since 1970. The state comes last in its row: what stands before is read without its pages. The inbox is
# a ring: the n-th handled message of an aggregate takes the place n mod INBOX_LENGTH, so that trimming costs nothing.
# An outbox row with visible_at in the future is leased, and with it the whole outbox of its aggregate.
SCHEMA = """
CREATE TABLE IF NOT EXISTS aggregates(
    key INTEGER PRIMARY KEY, kind TEXT NOT NULL, id TEXT NOT NULL, version INTEGER NOT NULL, handled INTEGER NOT NULL,
    due_at INTEGER, state BLOB NOT NULL, UNIQUE(kind, id));
CREATE INDEX IF NOT EXISTS aggregates_due ON aggregates(kind, due_at) WHERE due_at IS NOT NULL;
CREATE TABLE IF NOT EXISTS outbox(
    seq INTEGER PRIMARY KEY, aggregate INTEGER NOT NULL, visible_at INTEGER NOT NULL, created_at INTEGER NOT NULL,
    id TEXT NOT NULL, name TEXT NOT NULL, correlation_id TEXT NOT NULL, subject TEXT NOT NULL, body BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS outbox_aggregate ON outbox(aggregate, visible_at);
CREATE TABLE IF NOT EXISTS inbox(
    aggregate INTEGER NOT NULL, place INTEGER NOT NULL, message_id TEXT NOT NULL, PRIMARY KEY(aggregate, place)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS journal(
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, name TEXT NOT NULL, correlation_id TEXT NOT NULL,
    published_at INTEGER NOT NULL, body BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS journal_name ON journal(name, id, published_at);
CREATE INDEX IF NOT EXISTS journal_correlation ON journal(correlation_id, id);
CREATE INDEX IF NOT EXISTS journal_published ON journal(published_at, id);
CREATE TABLE IF NOT EXISTS blobs(digest TEXT PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS pings(place INTEGER PRIMARY KEY, count INTEGER NOT NULL);
"""

LOAD = "SELECT version, state FROM aggregates WHERE kind = ? AND id = ?"
LOAD_HANDLED = """
SELECT version, state, EXISTS(SELECT 1 FROM inbox WHERE aggregate = aggregates.key AND message_id = ?)
FROM aggregates WHERE kind = ? AND id = ?"""
CREATE = """
INSERT INTO aggregates(kind, id, version, handled, due_at, state) VALUES (?, ?, 1, ?, ?, ?)
ON CONFLICT(kind, id) DO NOTHING RETURNING key, handled"""
REPLACE = """
UPDATE aggregates SET version = version + 1, handled = handled + ?, due_at = ?, state = ?
WHERE kind = ? AND id = ? AND version = ? RETURNING key, handled"""
VERSIONS = "SELECT id, version FROM aggregates WHERE kind = ? AND id IN (SELECT value FROM json_each(?))"
REMOVE = """
DELETE FROM aggregates WHERE kind = ? AND id = ? AND version = ?
AND NOT EXISTS (SELECT 1 FROM outbox WHERE aggregate = aggregates.key) RETURNING key"""
FORGET = "DELETE FROM inbox WHERE aggregate = ?"
PUSH = """
INSERT INTO outbox(aggregate, visible_at, created_at, id, name, correlation_id, subject, body)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)"""
REMEMBER = "INSERT OR REPLACE INTO inbox(aggregate, place, message_id) VALUES (?, ?, ?)"

WAITING = "SELECT 1 FROM outbox WHERE visible_at <= ? LIMIT 1"
LEASABLE = """
SELECT DISTINCT aggregate FROM outbox WHERE visible_at <= :now AND NOT EXISTS
(SELECT 1 FROM outbox AS leased WHERE leased.aggregate = outbox.aggregate AND leased.visible_at > :now) LIMIT :limit"""
LEASED = """
SELECT kind, aggregates.id, outbox.id, name, correlation_id, subject, body
FROM outbox JOIN aggregates ON aggregates.key = aggregate WHERE aggregate = ? ORDER BY seq"""
PULL = """
DELETE FROM outbox WHERE aggregate = (SELECT key FROM aggregates WHERE kind = ? AND id = ?)
AND id IN (SELECT value FROM json_each(?))"""
RECORD = """
INSERT OR IGNORE INTO journal(id, name, correlation_id, published_at, body) VALUES (?, ?, ?, ?, ?)"""
GIVE_BACK = """
UPDATE outbox SET visible_at = created_at WHERE aggregate = (SELECT key FROM aggregates WHERE kind = ? AND id = ?)"""
PRUNE = """
DELETE FROM journal WHERE seq IN (SELECT seq FROM journal WHERE published_at < ? ORDER BY published_at LIMIT ?)"""

PRUNE_STEP = 2000  # rows at a time, so that savers wait some 20 ms at most
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


def micros(moment: datetime) -> int:
    return (moment - EPOCH) // MICROSECOND


def moment(value: int) -> datetime:
    return EPOCH + value * MICROSECOND


class SqliteStore:
    """:class:`~indaco_common.store.port.Store` on the file *path*, which one process at a time serves well."""

    def __init__(self, path: Path, *, synchronous: Literal["FULL", "NORMAL", "OFF"] = "FULL") -> None:
        self._database = Database(path, SCHEMA, synchronous=synchronous)
        self._listing = Listing(self._database)
        self._wake: Callable[[], None] = lambda: None
        self._saving = 0  # saves with messages that are not committed yet

    async def start(self) -> None:
        await self._database.start()
        self._listing.learn()

    async def stop(self) -> None:
        await self._database.stop()

    def on_saving(self, wake: Callable[[], None]) -> None:
        """A lease that is asked for at once gets into the same transaction, behind the save: one fsync serves both."""
        self._wake = wake

    async def ping(self) -> None:
        await self._database.run(_ping)
        self._database.read("SELECT count FROM pings")

    async def load(self, kind: str, id: str, message_id: str | None = None) -> Found | None:
        if message_id is None:
            rows = self._database.read(LOAD, (kind, id))
            return Found(*rows[0]) if rows else None
        rows = self._database.read(LOAD_HANDLED, (message_id, kind, id))
        return Found(rows[0][0], rows[0][1], bool(rows[0][2])) if rows else None

    async def save(
        self,
        kind: str,
        id: str,
        *,
        version: int,
        state: bytes,
        index: Mapping[str, Scalar],
        due_at: datetime | None,
        outbox: Sequence[Sealed],
        message_id: str | None,
        now: datetime,
    ) -> None:
        if not self._listing.knows(kind, index):
            await self._listing.prepare(kind, index)
        due, stamp = None if due_at is None else micros(due_at), micros(now)
        handled = 0 if message_id is None else 1

        def write(connection: sqlite3.Connection) -> None:
            if version == 0:
                row = connection.execute(CREATE, (kind, id, handled, due, state)).fetchone()
            else:
                row = connection.execute(REPLACE, (handled, due, state, kind, id, version)).fetchone()
            if row is None:
                raise Conflict(f"{kind} {id} is no longer at version {version}")
            key, count = row
            for sealed in outbox:
                connection.execute(
                    PUSH,
                    (key, stamp, stamp, sealed.id, sealed.name, sealed.correlation_id, sealed.subject, sealed.body),
                )
            if message_id is not None:
                connection.execute(REMEMBER, (key, count % INBOX_LENGTH, message_id))
            self._listing.write(connection, kind, key, id, index, new=version == 0)

        if not outbox:
            await self._database.run(write)
            return
        self._saving += 1
        self._wake()
        try:
            await self._database.run(write)
        finally:
            self._saving -= 1

    async def versions(self, kind: str, ids: Sequence[str]) -> dict[str, int]:
        return dict(self._database.read(VERSIONS, (kind, _json_list(ids))))

    async def remove(self, kind: str, id: str, *, version: int) -> None:
        """The number of the row may be given again: nothing may stay under it."""

        def forget(connection: sqlite3.Connection) -> None:
            row = connection.execute(REMOVE, (kind, id, version)).fetchone()
            if row is None:
                raise Conflict(f"{kind} {id} is not at version {version}, or has messages to send")
            connection.execute(FORGET, row)
            self._listing.remove(connection, kind, row[0])

        await self._database.run(forget)

    async def due(self, kind: str, now: datetime, limit: int) -> list[tuple[str, int]]:
        return [
            (id, version)
            for id, version in self._database.read(
                "SELECT id, version FROM aggregates WHERE kind = ? AND due_at <= ? ORDER BY due_at LIMIT ?",
                (kind, micros(now), limit),
            )
        ]

    async def next_due(self, kind: str) -> datetime | None:
        [(earliest,)] = self._database.read(
            "SELECT min(due_at) FROM aggregates WHERE kind = ? AND due_at IS NOT NULL", (kind,)
        )
        return None if earliest is None else moment(earliest)

    async def lease(self, now: datetime, lease_s: float, limit: int) -> list[list[Entry]]:
        if not self._saving and not self._database.read(WAITING, (micros(now),)):
            return []  # as most looks find; they need no turn of the writer
        end = micros(now + timedelta(seconds=lease_s))

        def take(connection: sqlite3.Connection) -> list[list[Entry]]:
            keys = connection.execute(LEASABLE, {"now": micros(now), "limit": limit}).fetchall()
            connection.executemany(
                "UPDATE outbox SET visible_at = ? WHERE aggregate = ?", [(end, *key) for key in keys]
            )
            return [
                [Entry(kind, id, Sealed(*sealed)) for kind, id, *sealed in connection.execute(LEASED, key)]
                for key in keys
            ]

        return await self._database.run(take)

    async def settle(self, published: Sequence[Entry], now: datetime) -> None:
        stamp = micros(now)
        records: list[tuple[Value, ...]] = [
            (e.sealed.id, e.sealed.name, e.sealed.correlation_id, stamp, e.sealed.body) for e in published
        ]
        pulls = [
            (kind, id, _json_list(e.sealed.id for e in entries)) for (kind, id), entries in _by_aggregate(published)
        ]

        def move(connection: sqlite3.Connection) -> None:
            connection.executemany(RECORD, records)
            connection.executemany(PULL, pulls)

        await self._database.run(move)

    async def give_back(self, entries: Sequence[Entry]) -> None:
        owners = {(entry.kind, entry.id) for entry in entries}
        await self._database.run(lambda connection: connection.executemany(GIVE_BACK, owners))

    async def outbox_age_s(self, now: datetime) -> float:
        rows = self._database.read("SELECT created_at FROM outbox ORDER BY seq LIMIT 1")
        return max(0.0, (micros(now) - rows[0][0]) / 1e6) if rows else 0.0

    async def find(self, kind: str, query: Query) -> Page:
        return await self._listing.find(kind, query)

    async def journal(self, query: JournalQuery) -> list[bytes]:
        conditions, parameters = ["id > ?"], [query.after]
        for condition, value in (("name = ?", query.name), ("correlation_id = ?", query.correlation_id)):
            if value is not None:
                conditions.append(condition)
                parameters.append(value)
        since = [] if query.since is None else [micros(query.since)]
        if since:
            conditions.append("published_at >= ?")
        # The inner query sorts ids alone; bodies are fetched for those that are asked for.
        sql = f"""SELECT body FROM journal WHERE seq IN
            (SELECT seq FROM journal WHERE {" AND ".join(conditions)} ORDER BY id LIMIT ?) ORDER BY id"""  # noqa: S608 - no values in it
        rows = await self._database.query(
            lambda connection: connection.execute(sql, (*parameters, *since, query.limit)).fetchall()
        )
        return [body for (body,) in rows]

    async def prune(self, before: datetime) -> int:
        removed = 0
        while True:
            step = await self._database.run(
                lambda connection: connection.execute(PRUNE, (micros(before), PRUNE_STEP)).rowcount
            )
            removed += step
            if step < PRUNE_STEP:
                return removed

    async def put_blob(self, digest: str, body: bytes) -> None:
        if await self.get_blob(digest) is not None:  # a template that was used before
            return
        await self._database.run(
            lambda connection: connection.execute("INSERT OR IGNORE INTO blobs VALUES (?, ?)", (digest, body)).rowcount
        )

    async def get_blob(self, digest: str) -> bytes | None:
        rows = self._database.read("SELECT body FROM blobs WHERE digest = ?", (digest,))
        return rows[0][0] if rows else None


def _ping(connection: sqlite3.Connection) -> None:
    connection.execute("INSERT INTO pings VALUES (1, 1) ON CONFLICT(place) DO UPDATE SET count = count + 1")


def _owner(entry: Entry) -> tuple[str, str]:
    return entry.kind, entry.id


def _by_aggregate(entries: Sequence[Entry]) -> Iterable[tuple[tuple[str, str], Iterable[Entry]]]:
    return groupby(sorted(entries, key=_owner), key=_owner)


def _json_list(ids: Iterable[str]) -> str:
    return json.dumps(list(ids))
