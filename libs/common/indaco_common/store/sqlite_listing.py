"""Listing aggregates in SQLite: a narrow table per kind beside the states, with an index for each shape of question asked.

States are some kB each; a list that walked them would read hundreds of MB. The narrow table holds the indexed fields alone, is
written only when one of them changes, and each shape (equal fields, order, filters) gets a covering index when it is first asked.
"""

import hashlib
import re
import sqlite3
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from functools import cache

from indaco_common.errors import Invalid, Unavailable

from .database import Database, Value
from .port import Found, Page, Query, Scalar

NAME = re.compile(r"^[a-z][a-z0-9_-]*$")
FIELD = re.compile(r"^[A-Za-z_][A-Za-z0-9_.]*$")
MAX_SHAPES = 24  # per kind: each costs a write when a field of it changes; questions beyond it scan the narrow table
SELECT_STATE = "SELECT version, state FROM aggregates WHERE key = ?"


class Listing:
    """The narrow tables of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._fields: dict[str, frozenset[str]] = {}
        self._shapes: dict[str, set[str]] = {}

    def learn(self) -> None:
        """Read which tables and indexes there are."""
        self._fields, self._shapes = {}, {}
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

    async def find(self, kind: str, query: Query) -> Page:
        """Return a page and the total, both of one moment. Raises: Invalid, if a field is not indexed; Unavailable."""
        if kind not in self._fields:
            await self.prepare(kind, ())
        for field in (*query.equal, *query.any_of, *query.none_of, query.order_by):
            if field != "id" and field not in self._fields[kind]:
                raise Invalid(f"{kind} cannot be listed by {field!r}")
        await self._index(kind, query)
        where, parameters = _where(query)
        way = "DESC" if query.descending else "ASC"
        order = f"id {way}" if query.order_by == "id" else f"{_column(query.order_by)} {way}, id {way}"
        table = _table(kind)
        count = f"SELECT count(*) FROM {table}{where}"  # noqa: S608 - names are checked
        keys = f"SELECT key FROM {table}{where} ORDER BY {order} LIMIT ? OFFSET ?"  # noqa: S608 - names are checked

        def read(connection: sqlite3.Connection) -> Page:
            [total] = connection.execute(count, parameters).fetchone()
            page = connection.execute(keys, (*parameters, query.limit, query.offset)).fetchall()
            return Page([Found(*connection.execute(SELECT_STATE, key).fetchone()) for key in page], total)

        return await self._database.query(read)

    async def _index(self, kind: str, query: Query) -> None:
        equal = sorted(query.equal)
        filters = sorted({*query.any_of, *query.none_of} - {*equal, query.order_by})
        fields = list(dict.fromkeys([*equal, query.order_by, "id", *filters]))
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


def _where(query: Query) -> tuple[str, list[Value]]:
    """Return the WHERE clause, if any, and its parameters. None is a value as any other, unlike SQL's NULL."""
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
    # Without a condition there is no clause either: SQLite then counts by pages, not by rows.
    return f" WHERE {' AND '.join(conditions)}" if conditions else "", parameters


def _marks(values: Collection[Scalar]) -> str:
    return ", ".join("?" * len(values))
