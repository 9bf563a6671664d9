"""How many there are, kept beside the lists in SQLite: counting 100,000 rows takes 50 ms each time, adding up a few sums none.

A question whose count was slow gets a table of its own: how many aggregates there are for each combination of the fields that it
asks about. Triggers on the narrow table keep it, in the transaction of each save, whichever process saves.
"""

import hashlib
import sqlite3
from collections.abc import Sequence
from contextlib import suppress

from indaco_common.errors import Unavailable

from .database import Database
from .port import Query

SLOW_S = 0.002  # a count that took longer is kept from then on
MAX_TABLES = (
    8  # per kind: each costs a look when an aggregate of the kind is saved, and a write when one of its fields changes
)


class Counts:
    """The tables of sums of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._tables: set[str] = set()

    def learn(self) -> None:
        """Read which tables there are."""
        sql = "SELECT name FROM sqlite_master WHERE type = 'table' AND name GLOB 'count_*'"
        self._tables = {name for (name,) in self._database.read(sql)}

    def table(self, kind: str, query: Query) -> str | None:
        """Return the table that knows the answer, if there is one: its rows have the fields as the narrow table, and ``n``."""
        name = _name(kind, counted_fields(query))
        return name if name in self._tables and not query.contains else None

    async def keep(self, kind: str, query: Query, columns: Sequence[str]) -> None:
        """Keep the count of such questions from now on; *columns* are the fields' names in the narrow table."""
        name = _name(kind, counted_fields(query))
        may_be_kept = columns and not query.contains and "id" not in counted_fields(query) and name not in self._tables
        if not may_be_kept or sum(each.startswith(f"count_{kind}_") for each in self._tables) >= MAX_TABLES:
            return
        with suppress(Unavailable):  # on a full disk a count is slow, not refused
            await self._database.run(lambda connection: _make(connection, name, f'"list_{kind}"', columns))
            self._tables.add(name)


def counted_fields(query: Query) -> list[str]:
    """Return the fields on which the total depends, in the order of the columns of its table."""
    return sorted({*query.equal, *query.any_of, *query.none_of})


def _name(kind: str, fields: Sequence[str]) -> str:
    return f"count_{kind}_{hashlib.sha256(' '.join(fields).encode()).hexdigest()[:16]}"


def _make(connection: sqlite3.Connection, name: str, of: str, columns: Sequence[str]) -> None:
    """Make the table with its triggers. All names are checked ones, or made of digests."""
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (name,)).fetchone():
        return  # another process was faster
    listed = ", ".join(columns)
    connection.execute(f'CREATE TABLE "{name}"({listed}, n INTEGER NOT NULL)')
    connection.execute(f'CREATE UNIQUE INDEX "{name}_fields" ON "{name}"({listed})')
    connection.execute(f'INSERT INTO "{name}" SELECT {listed}, count(*) FROM {of} GROUP BY {listed}')  # noqa: S608
    more, less = _added(name, columns, "NEW"), _taken(name, columns, "OLD")
    differs = " OR ".join(f"OLD.{column} IS NOT NEW.{column}" for column in columns)
    for event, condition, statements in (
        ("INSERT", "", more), ("DELETE", "", less), (f"UPDATE OF {listed}", f"WHEN {differs}", f"{less} {more}"),
    ):  # fmt: skip
        trigger = f"{name}_{event.partition(' ')[0].lower()}"
        connection.execute(f'CREATE TRIGGER "{trigger}" AFTER {event} ON {of} {condition} BEGIN {statements} END')


def _same(columns: Sequence[str], row: str) -> str:
    return " AND ".join(f"{column} IS {row}.{column}" for column in columns)  # None is a value as any other


def _added(name: str, columns: Sequence[str], row: str) -> str:
    same, values = _same(columns, row), ", ".join(f"{row}.{column}" for column in columns)
    return (
        f'INSERT INTO "{name}" SELECT {values}, 0 WHERE NOT EXISTS (SELECT 1 FROM "{name}" WHERE {same}); '  # noqa: S608
        f'UPDATE "{name}" SET n = n + 1 WHERE {same};'
    )


def _taken(name: str, columns: Sequence[str], row: str) -> str:
    same = _same(columns, row)
    return f'UPDATE "{name}" SET n = n - 1 WHERE {same}; DELETE FROM "{name}" WHERE {same} AND n = 0;'  # noqa: S608
