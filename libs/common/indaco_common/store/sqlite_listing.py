"""Listing aggregates in SQLite: a narrow table per kind beside the states, with an index for each shape of question asked.

States are some kB each; a list that walked them would read hundreds of MB. The narrow table holds the indexed fields alone, is
written only when one of them changes, and each shape (equal fields, order, filters) gets a covering index when it is first asked.
"""

import hashlib
import re
import sqlite3
import time
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from functools import cache

from indaco_common.errors import Invalid, Unavailable

from . import sqlite_counts
from .database import Database, Value
from .port import Found, Page, Query, Scalar
from .sqlite_counts import Counts

NAME = re.compile(r"^[a-z][a-z0-9_-]*$")
FIELD = re.compile(r"^[A-Za-z_][A-Za-z0-9_.]*$")
MAX_SHAPES = 24  # per kind: each costs a write when a field of it changes; questions beyond it scan the narrow table
SELECT_STATE = "SELECT version, state FROM aggregates WHERE key = ?"


class Listing:
    """The narrow tables of one database."""

    def __init__(self, database: Database) -> None:
        self._database, self._counts = database, Counts(database)
        self._fields: dict[str, frozenset[str]] = {}
        self._shapes: dict[str, set[str]] = {}

    def learn(self) -> None:
        """Read which tables and indexes there are."""
        self._fields, self._shapes = {}, {}
        self._counts.learn()
        for (table,) in self._database.read(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name GLOB 'list_*'"
        ):
            kind = table.removeprefix("list_")
            columns = self._database.read("SELECT name FROM pragma_table_info(?)", (table,))
            indexes = self._database.read("SELECT name FROM pragma_index_list(?)", (table,))
            self._fields[kind] = frozenset(name.removeprefix("x_") for (name,) in columns if name.startswith("x_"))
            self._shapes[kind] = {name for (name,) in indexes}

    def knows(self, kind: str, fields: Iterable[str]) -> bool:
        known = self._fields.get(kind)
        return known is not None and all(field in known for field in fields if field != "id")

    async def prepare(self, kind: str, fields: Iterable[str]) -> None:
        """Make the table of *kind* and its columns. A field that is new to old aggregates is None until they are saved again."""
        if not NAME.match(kind):
            raise ValueError(f"{kind!r} is no name of an aggregate kind")
        if bad := [field for field in fields if not FIELD.match(field)]:
            raise ValueError(f"{bad[0]!r} is no name of a field")
        wanted = frozenset(fields) - {"id"}
        await self._database.run(lambda connection: _make(connection, kind, wanted))
        self._fields[kind] = self._fields.get(kind, frozenset()) | wanted
        self._shapes.setdefault(kind, set())

    def write(
        self, connection: sqlite3.Connection, kind: str, key: int, id: str, index: Mapping[str, Scalar], *, new: bool
    ) -> None:
        """Keep the row of one aggregate, in the transaction of its save."""
        fields = tuple(field for field in index if field != "id")
        values = [index[field] for field in fields]
        if new:
            connection.execute(_insert(kind, fields), (key, id, *values))
        elif fields:
            connection.execute(_update(kind, fields), (*values, key, *values))

    def remove(self, connection: sqlite3.Connection, kind: str, key: int) -> None:
        """Forget the row of one aggregate, in the transaction of its removal."""
        if kind in self._fields:
            connection.execute(f"DELETE FROM {_table(kind)} WHERE key = ?", (key,))  # noqa: S608 - names are checked

    async def find(self, kind: str, query: Query) -> Page:
        """Return a page and the total, both of one moment. Raises: Invalid, if a field is not indexed; Unavailable."""
        if kind not in self._fields:
            await self.prepare(kind, ())
        if unknown := query.fields() - self._fields[kind]:
            raise Invalid(f"{kind} cannot be listed by {min(unknown)!r}")
        await self._index(kind, query)
        conditions, parameters = _conditions(query)
        way = "DESC" if query.descending else "ASC"
        order = f"id {way}" if query.order_by == "id" else f"{_column(query.order_by)} {way}, id {way}"
        table, kept = _table(kind), self._counts.table(kind, query)
        where = _where(conditions)
        count = f'SELECT coalesce(sum(n), 0) FROM "{kept}"{where}' if kept else f"SELECT count(*) FROM {table}{where}"  # noqa: S608 - names are checked

        def read(connection: sqlite3.Connection) -> tuple[Page, float]:
            begun = time.perf_counter()
            total = connection.execute(count, parameters).fetchone()[0] if query.is_counted else 0
            counted_s = time.perf_counter() - begun
            page: list[tuple[int]] = []
            for begin, values in _beginnings(query):
                sql = f"SELECT key FROM {table}{_where([*conditions, *begin])} ORDER BY {order} LIMIT ? OFFSET ?"  # noqa: S608 - names are checked
                left = query.limit - len(page)
                page += connection.execute(sql, (*parameters, *values, left, query.offset)).fetchall() if left else []
            return Page([Found(*connection.execute(SELECT_STATE, key).fetchone()) for key in page], total), counted_s

        found, counted_s = await self._database.query(read)
        if query.is_counted and counted_s > sqlite_counts.SLOW_S:
            await self._counts.keep(kind, query, [_column(field) for field in sqlite_counts.counted_fields(query)])
        return found

    async def _index(self, kind: str, query: Query) -> None:
        sought, filters = query.shape()
        fields = [*sought, *filters]
        name = f"list_{kind}_{hashlib.sha256(' '.join(fields).encode()).hexdigest()[:16]}"
        shapes = self._shapes[kind]
        if name in shapes or len(shapes) >= MAX_SHAPES:
            return
        columns = ", ".join(_column(field) for field in fields)
        sql = f'CREATE INDEX IF NOT EXISTS "{name}" ON {_table(kind)}({columns})'
        with suppress(Unavailable):  # on a full disk a list is slow, not refused
            await self._database.run(lambda connection: connection.execute(sql).rowcount)
            shapes.add(name)


def _make(connection: sqlite3.Connection, kind: str, fields: Collection[str]) -> None:
    table = _table(kind)
    present = {name for (name,) in connection.execute("SELECT name FROM pragma_table_info(?)", (f"list_{kind}",))}
    if not present:
        connection.execute(f"CREATE TABLE {table}(key INTEGER PRIMARY KEY, id TEXT NOT NULL)")
        connection.execute(f"INSERT INTO {table}(key, id) SELECT key, id FROM aggregates WHERE kind = ?", (kind,))  # noqa: S608
    for field in fields:
        if f"x_{field}" not in present:
            connection.execute(f"ALTER TABLE {table} ADD COLUMN {_column(field)}")


@cache
def _insert(kind: str, fields: tuple[str, ...]) -> str:
    columns = ["key", "id", *map(_column, fields)]
    return f"INSERT INTO {_table(kind)}({', '.join(columns)}) VALUES ({_marks(columns)})"  # noqa: S608 - names are checked


@cache
def _update(kind: str, fields: tuple[str, ...]) -> str:
    """Return the statement that writes, and touches indexes, only if a field differs."""
    changes = ", ".join(f"{_column(field)} = ?" for field in fields)
    differs = " OR ".join(f"{_column(field)} IS NOT ?" for field in fields)
    return f"UPDATE {_table(kind)} SET {changes} WHERE key = ? AND ({differs})"  # noqa: S608 - names are checked


def _table(kind: str) -> str:
    return f'"list_{kind}"'


def _column(field: str) -> str:
    return "id" if field == "id" else f'"x_{field}"'


def _where(conditions: Collection[str]) -> str:
    """Return the WHERE clause, if any: without a condition SQLite counts by pages, not by rows."""
    return f" WHERE {' AND '.join(conditions)}" if conditions else ""


def _conditions(query: Query) -> tuple[list[str], list[Value]]:
    """Return the conditions, and their parameters. None is a value as any other, unlike SQL's NULL."""
    conditions, parameters = list[str](), list[Value]()
    for field, value in query.equal.items():
        conditions.append(f"{_column(field)} IS NULL" if value is None else f"{_column(field)} = ?")
        parameters += [] if value is None else [value]
    for field, values in query.any_of.items():
        given = [value for value in values if value is not None]
        null = f" OR {_column(field)} IS NULL" if None in values else ""
        conditions.append(f"({_column(field)} IN ({_marks(given)}){null})")
        parameters += given
    for field, values in query.none_of.items():
        given = [value for value in values if value is not None]
        null = f"AND {_column(field)} IS NOT NULL" if None in values else f"OR {_column(field)} IS NULL"
        conditions.append(f"({_column(field)} NOT IN ({_marks(given)}) {null})")
        parameters += given
    for field, texts in query.contains:
        conditions.append(f"({' OR '.join([f'instr({_column(field)}, ?) > 0'] * len(texts)) or '0'})")
        parameters += texts
    return conditions, parameters


def _beginnings(query: Query) -> list[tuple[list[str], list[Value]]]:
    """Return the conditions of the parts, one behind the other, in which lies what comes after ``query.after``.

    None sorts before all else, and no comparison finds it: hence two parts, each of which an index walks.
    """
    if query.after is None:
        return [([], [])]
    (value, id), than = query.after, "<" if query.descending else ">"
    among: tuple[list[str], list[Value]]
    if query.order_by == "id":
        return [([f"id {than} ?"], [id])]
    column = _column(query.order_by)
    null, rest = f"{column} IS NULL", f"{column} IS NOT NULL"
    if value is None:
        among = ([null, f"id {than} ?"], [id])
        return [among] if query.descending else [among, ([rest], [])]
    among = ([f"({column}, id) {than} (?, ?)"], [value, id])
    return [among, ([null], [])] if query.descending else [among]


def _marks(values: Collection[Scalar]) -> str:
    return ", ".join("?" * len(values))
