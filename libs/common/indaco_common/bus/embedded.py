"""The bus of the embedded mode: one SQLite file in place of a broker, for one process.

Publishing is an insert per bound queue, retry is ``visible_at``, the dead queue is a column. Subscribers are woken in memory; the
poll is the safety net, and the way by which what another process put here (``indaco dead retry``) is seen.
"""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path

from indaco_common.clock import Clock, SystemClock
from indaco_common.envelope import TYPE_PREFIX, Sealed
from indaco_common.errors import Unavailable
from indaco_common.ids import uuid7
from indaco_common.store.database import Database

from .embedded_subscription import Subscription, Verdicts
from .port import DeadLetter, QueueState, Receiver
from .topology import Topology

POLL_S = 1.0

SCHEMA = """
CREATE TABLE IF NOT EXISTS queue (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, queue TEXT NOT NULL, id TEXT NOT NULL, name TEXT NOT NULL, envelope BLOB NOT NULL,
    visible_at REAL NOT NULL, attempt INTEGER NOT NULL DEFAULT 0, error TEXT NOT NULL DEFAULT '', dead INTEGER NOT NULL DEFAULT 0,
    published_at REAL NOT NULL, UNIQUE (queue, id)
);
CREATE INDEX IF NOT EXISTS queue_visible ON queue (queue, dead, visible_at, seq);
CREATE TABLE IF NOT EXISTS ping (id INTEGER PRIMARY KEY, at REAL NOT NULL);
"""
# What is published twice is one row; what had died and comes again (a replay) is alive again.
_INSERT = """
INSERT INTO queue (queue, id, name, envelope, visible_at, published_at) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (queue, id) DO UPDATE SET dead = 0, attempt = 0, error = '', visible_at = excluded.visible_at WHERE dead = 1
"""


class EmbeddedBus:
    """A durable bus in the file *path*. Raises Unavailable from every call while the file cannot be written."""

    def __init__(self, path: Path, *, clock: Clock | None = None, poll_s: float = POLL_S) -> None:
        self._database = Database(path, SCHEMA)
        self._clock, self._poll_s = clock or SystemClock(), poll_s
        self._verdicts = Verdicts(self._database, self._clock)
        self._receivers: Mapping[str, Sequence[str]] | None = None
        self._bound: Mapping[str, frozenset[str]] = {}
        self._subscriptions: dict[str, Subscription] = {}

    async def start(self) -> None:
        await self._database.start()

    async def stop(self) -> None:
        for subscription in self._subscriptions.values():
            await subscription.abandon()
        self._subscriptions.clear()
        await self._verdicts.stop()
        await self._database.stop()

    async def ping(self) -> None:
        """Prove that the file can be written. Raises: Unavailable."""
        row = (self._now(),)
        await self._database.run(lambda connection: _run(connection, "INSERT OR REPLACE INTO ping VALUES (1, ?)", row))

    async def declare(self, topology: Topology) -> None:
        """Take note of *topology*; here it is static data in memory and need not be kept."""
        self._receivers = topology.receivers()
        self._bound = {service: frozenset(kind.TYPE for kind in kinds) for service, kinds in topology.bindings.items()}

    async def verify(self, topology: Topology, service: str) -> None:
        wanted = {kind.TYPE for kind in topology.bindings.get(service, ())}
        if service not in self._bound or not wanted <= self._bound[service]:
            raise Unavailable(f"the topology of {service} has not been declared")

    async def publish(self, messages: Sequence[Sealed], *, mandatory: frozenset[str] = frozenset()) -> list[str]:
        if self._receivers is None:  # nobody is bound yet: what is published now would be lost
            raise Unavailable("the topology has not been declared")
        now = self._now()
        taken = [(message, self._receivers.get(message.name, ())) for message in messages]
        rows = [(q, m.id, m.name, m.body, now, now) for m, services in taken for q in services]
        if rows:
            await self._database.run(lambda connection: _run_many(connection, _INSERT, rows))
            self._wake({row[0] for row in rows})
        return [message.id for message, services in taken if services or message.name not in mandatory]

    async def subscribe(self, service: str, receiver: Receiver, *, prefetch: int = 16) -> None:
        if service in self._subscriptions:
            raise ValueError(f"{service} is subscribed already")
        subscription = Subscription(
            service, receiver, self._database, self._verdicts, self._clock, prefetch=prefetch, poll_s=self._poll_s
        )
        self._subscriptions[service] = subscription
        subscription.start()

    async def pause(self, service: str) -> None:
        self._subscriptions[service].pause()

    async def resume(self, service: str, *, prefetch: int = 16) -> None:
        self._subscriptions[service].resume(prefetch)

    async def drain(self, service: str) -> None:
        if (subscription := self._subscriptions.pop(service, None)) is not None:
            await subscription.drain()

    async def state(self, service: str) -> QueueState:
        now = self._now()
        taken = self._subscriptions[service].taken if service in self._subscriptions else frozenset[int]()
        ((ready, oldest, delayed, dead),) = self._database.read(
            f"""
            SELECT count(*) FILTER (WHERE here), min(published_at) FILTER (WHERE here),
                   count(*) FILTER (WHERE NOT dead AND visible_at > ?1), count(*) FILTER (WHERE dead)
            FROM (SELECT dead, visible_at, published_at,
                         NOT dead AND visible_at <= ?1 AND seq NOT IN ({",".join(map(str, taken))}) AS here
                  FROM queue WHERE queue = ?2)
            """,  # noqa: S608 - integers of our own
            (now, service),
        )
        return QueueState(ready, delayed, dead, None if oldest is None else max(0.0, now - oldest))

    async def dead_letters(self, service: str, limit: int = 100) -> list[DeadLetter]:
        rows = self._database.read(
            "SELECT id, name, error, attempt, envelope FROM queue WHERE queue = ? AND dead = 1 ORDER BY seq LIMIT ?",
            (service, limit),
        )
        return [DeadLetter(*row) for row in rows]

    async def retry_dead(self, service: str, ids: Sequence[str] | None = None) -> int:
        now = self._now()
        count = await self._change_dead(
            "UPDATE queue SET dead = 0, attempt = 0, error = '', visible_at = :now WHERE queue = :queue AND dead = 1",
            {"queue": service, "now": now}, ids,
        )  # fmt: skip
        self._wake({service})
        return count

    async def drop_dead(self, service: str, ids: Sequence[str] | None = None) -> int:
        return await self._change_dead("DELETE FROM queue WHERE queue = :queue AND dead = 1", {"queue": service}, ids)

    async def inject(self, service: str, body: bytes) -> None:
        identifier, name = _identity(body)
        now = self._now()
        row = (service, identifier, name, body, now, now)
        await self._database.run(lambda connection: _run(connection, _INSERT, row))
        self._wake({service})

    async def _change_dead(self, statement: str, values: Mapping[str, object], ids: Sequence[str] | None) -> int:
        if ids is not None:
            statement += " AND id IN (SELECT value FROM json_each(:ids))"
            values = {**values, "ids": json.dumps(list(ids))}

        def change(connection: sqlite3.Connection) -> int:
            return connection.execute(statement, values).rowcount

        return await self._database.run(change)

    def _wake(self, services: set[str]) -> None:
        for service in services:
            if (subscription := self._subscriptions.get(service)) is not None:
                subscription.wake()

    def _now(self) -> float:
        return self._clock.now().timestamp()


def _run(connection: sqlite3.Connection, statement: str, row: Sequence[object]) -> None:
    connection.execute(statement, row)


def _run_many(connection: sqlite3.Connection, statement: str, rows: Sequence[Sequence[object]]) -> None:
    connection.executemany(statement, rows)


def _identity(body: bytes) -> tuple[str, str]:
    """Return id and name of an envelope; of what is none, a new id and no name."""
    try:
        envelope = json.loads(body)
        return str(envelope["id"]), str(envelope["type"]).removeprefix(TYPE_PREFIX)
    except (ValueError, KeyError, TypeError):
        return uuid7(), ""
