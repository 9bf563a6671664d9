"""Totals that are kept: the same as counted ones, whatever happens to the aggregates, in this process or another."""

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from indaco_common.store import Query, sqlite_counts
from indaco_common.store.sqlite import SqliteStore
from indaco_common.testing.saves import put

QUERIES = (
    Query(equal={"owner": "ada"}, none_of={"status": ["deleted"]}, order_by="rank"),
    Query(equal={"owner": "ada"}, any_of={"status": ["running", None]}, order_by="id", descending=False),
    Query(equal={"owner": None}),
    Query(none_of={"status": ["failed", None]}, order_by="rank", limit=3, offset=2),
)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(tmp_path / "store.db", synchronous="OFF")
    await store.start()
    yield store
    await store.stop()


def tables(store: SqliteStore) -> list[str]:
    sql = "SELECT name FROM sqlite_master WHERE type = 'table' AND name GLOB 'count_*'"
    return [name for (name,) in store._database.read(sql)]


async def counted(store: SqliteStore, query: Query, expected: dict[str, dict[str, str | None]]) -> None:
    def fits(row: dict[str, str | None]) -> bool:
        return (
            all(row[field] == value for field, value in query.equal.items())
            and all(row[field] in values for field, values in query.any_of.items())
            and all(row[field] not in values for field, values in query.none_of.items())
        )

    page = await store.find("thing", query)
    assert page.total == sum(map(fits, expected.values())), query


@pytest.mark.parametrize("seed", range(3))
async def test_kept_totals_follow_every_save_and_removal(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    chance = random.Random(seed)
    versions: dict[str, int] = {}
    rows: dict[str, dict[str, str | None]] = {}
    other = SqliteStore(store._database.path, synchronous="OFF")
    for step in range(150):
        if step == 40:
            monkeypatch.setattr(sqlite_counts, "SLOW_S", -1.0)
        if step == 80:
            await other.start()
        writer = other if step > 80 and chance.random() < 0.5 else store
        id = f"t-{chance.randrange(12)}"
        if id in rows and chance.random() < 0.3:
            await writer.remove("thing", id, version=versions.pop(id))
            del rows[id]
        else:
            row = {
                "owner": chance.choice(["ada", "bob", None]),
                "status": chance.choice(["running", "failed", "deleted", None]),
                "rank": str(chance.randrange(3)),
            }
            await put(writer, id, version=versions.get(id, 0), index=dict(row))
            versions[id], rows[id] = versions.get(id, 0) + 1, row
        for query in QUERIES:
            await counted(store, query, rows)
    assert len(tables(store)) == 3  # two of the questions ask about the same fields
    await other.stop()
    await store.stop()
    await store.start()
    for query in QUERIES:
        await counted(store, query, rows)


async def test_a_count_that_is_quick_is_not_kept(store: SqliteStore) -> None:
    await put(store, index={"owner": "ada"})
    assert (await store.find("thing", Query(equal={"owner": "ada"}))).total == 1
    assert tables(store) == []


async def test_what_cannot_be_kept_or_would_be_too_many_is_counted(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_counts, "SLOW_S", -1.0)
    fields = [f"f{n}" for n in range(12)]
    await put(store, index=dict.fromkeys(fields, "x"))
    for query in (Query(), Query(contains=[("f1", ["x"])]), Query(equal={"id": "t-1"})):
        assert (await store.find("thing", query)).total == 1
    assert tables(store) == []
    for field in fields:
        assert (await store.find("thing", Query(equal={field: "x"}))).total == 1
    assert len(tables(store)) == sqlite_counts.MAX_TABLES


async def test_a_page_without_a_total_counts_nothing(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_counts, "SLOW_S", 0.0)
    await put(store, index={"owner": "ada"})
    page = await store.find("thing", Query(equal={"owner": "ada"}, is_counted=False))
    assert (len(page.states), page.total, tables(store)) == (1, 0, [])


async def test_a_text_that_is_looked_for_is_counted_though_the_other_fields_are_kept(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_counts, "SLOW_S", -1.0)
    for n, text in enumerate(("alpha", "beta")):
        await put(store, f"t-{n}", index={"owner": "ada", "text": text})
    assert (await store.find("thing", Query(equal={"owner": "ada"}))).total == 2
    assert (await store.find("thing", Query(equal={"owner": "ada"}, contains=[("text", ["alp"])]))).total == 1
    assert len(tables(store)) == 1
