"""What every store must do when asked for many: timers and lists."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from indaco_common.errors import Invalid
from indaco_common.store.port import Query, Scalar, Store

from .saves import MILLISECOND, NOW, SECOND, put


class ListConformance:
    """The part of the suite about timers and lists."""

    async def test_due_are_those_whose_time_has_come_most_overdue_first(self, store: Store) -> None:
        for n, seconds in enumerate((30, 10, 20, 40)):
            await put(store, f"t-{n}", due_at=NOW + seconds * SECOND)
        await put(store, "never")
        await put(store, "other", kind="other", due_at=NOW)
        assert await store.due("thing", NOW + 30 * SECOND + MILLISECOND, 10) == [("t-1", 1), ("t-2", 1), ("t-0", 1)]
        assert await store.due("thing", NOW + 30 * SECOND + MILLISECOND, 2) == [("t-1", 1), ("t-2", 1)]
        assert await store.due("thing", NOW, 10) == []

    async def test_next_due_is_the_earliest_or_none_and_never_too_early(self, store: Store) -> None:
        assert await store.next_due("thing") is None
        await put(store, "t-1", due_at=NOW + 2 * SECOND)
        await put(store, "t-2", due_at=NOW + SECOND)
        earliest = await store.next_due("thing")
        assert earliest is not None
        assert NOW + SECOND <= earliest <= NOW + SECOND + MILLISECOND
        assert earliest.utcoffset() == timedelta(0)
        assert await store.due("thing", earliest, 10) == [("t-2", 1)]
        await put(store, "t-2", version=1)
        await put(store, "t-1", version=1, due_at=None)
        assert await store.next_due("thing") is None

    async def fill(self, store: Store) -> None:
        rows: list[dict[str, Scalar]] = [
            {"owner": "ada", "status": "running", "rank": 3, "share": 0.5, "public": True},
            {"owner": "ada", "status": "failed", "rank": 1, "share": 1.5, "public": False},
            {"owner": "bob", "status": "running", "rank": 2, "share": None, "public": True},
            {"owner": None, "status": "deleted", "rank": 2, "share": None, "public": None},
        ]
        for n, index in enumerate(rows):
            await put(store, f"t-{n}", state=b"%d" % n, index=index)
        await put(store, "t-0", kind="other", state=b"other", index=rows[0])

    async def test_lists_select_order_and_count(self, store: Store) -> None:
        await self.fill(store)
        asked: list[tuple[dict[str, Any], str]] = [
            ({}, "3210"),
            ({"descending": False}, "0123"),
            ({"equal": {"owner": "ada"}}, "10"),
            ({"equal": {"owner": "ada", "status": "running"}}, "0"),
            ({"equal": {"owner": None}}, "3"),
            ({"equal": {"public": True}}, "20"),
            ({"equal": {"share": 0.5}}, "0"),
            ({"equal": {"id": "t-2"}}, "2"),
            ({"any_of": {"status": ["running", "deleted"]}}, "320"),
            ({"any_of": {"owner": ["bob", None]}}, "32"),
            ({"any_of": {"owner": []}}, ""),
            ({"none_of": {"status": ["deleted", "failed"]}}, "20"),
            ({"none_of": {"owner": ["ada"]}}, "32"),
            ({"none_of": {"owner": [None]}}, "210"),
            ({"none_of": {"owner": []}}, "3210"),
            ({"any_of": {"rank": [1, 2]}, "none_of": {"status": ["failed"]}, "equal": {"owner": "bob"}}, "2"),
            ({"order_by": "rank"}, "0321"),
            ({"order_by": "rank", "descending": False}, "1230"),
            ({"order_by": "owner", "descending": False}, "3012"),
            ({"equal": {"owner": "carl"}}, ""),
        ]
        for query, expected in asked:
            page = await store.find("thing", Query(**query))
            assert b"".join(found.state for found in page.states).decode() == expected, query
            assert page.total == len(expected), query

    async def test_a_page_is_a_window_and_the_total_counts_all(self, store: Store) -> None:
        await self.fill(store)
        page = await store.find("thing", Query(none_of={"status": ["failed"]}, offset=1, limit=1))
        assert ([found.state for found in page.states], page.total) == ([b"2"], 3)
        page = await store.find("thing", Query(offset=10))
        assert (page.states, page.total) == ([], 4)
        assert (await store.find("unheard-of", Query())).total == 0

    @pytest.mark.parametrize("descending", [True, False])
    @pytest.mark.parametrize("order_by", ["id", "rank", "share", "owner"])
    async def test_pages_one_behind_the_other_are_the_whole_list(
        self, store: Store, order_by: str, *, descending: bool
    ) -> None:
        """Whatever it is ordered by, equal values and None among them."""
        await self.fill(store)
        await put(store, "t-4", state=b"4", index={"owner": "ada", "status": "running", "rank": 2, "share": 0.5})
        query = Query(order_by=order_by, descending=descending)
        whole = b"".join(found.state for found in (await store.find("thing", query)).states).decode()
        values: dict[str, dict[str, Scalar]] = {
            "rank": dict(zip("01234", (3, 1, 2, 2, 2), strict=True)),
            "share": dict(zip("01234", (0.5, 1.5, None, None, 0.5), strict=True)),
            "owner": dict(zip("01234", ("ada", "ada", "bob", None, "ada"), strict=True)),
            "id": {n: f"t-{n}" for n in "01234"},
        }
        for size in (1, 2, 3, 5):
            told, after = "", None
            for _ in range(10):
                page = await store.find("thing", replace(query, after=after, limit=size, is_counted=False))
                assert page.total == 0
                assert len(page.states) <= size
                told += (now := b"".join(found.state for found in page.states).decode())
                if not now:
                    break
                after = (values[order_by][now[-1]], f"t-{now[-1]}")
            assert told == whole

    async def test_a_page_behind_another_keeps_to_the_filters(self, store: Store) -> None:
        await self.fill(store)
        query = Query(
            equal={"public": True}, none_of={"status": ["failed"]}, order_by="rank", after=(3, "t-0"), covered=()
        )
        page = await store.find("thing", query)
        assert ([found.state for found in page.states], page.total) == ([b"2"], 2)

    async def test_texts_are_found_in_a_field(self, store: Store) -> None:
        texts = {"t-0": "alpha\nBeta %_", "t-1": "beta\n.*", "t-2": "", "t-3": None, "t-4": "é大 (x) \\ $y"}
        for id, text in texts.items():
            await put(store, id, state=id[-1].encode(), index={"text": text})
        asked: list[tuple[list[tuple[str, list[str]]], str]] = [
            ([("text", ["alpha"])], "0"),
            ([("text", ["eta"])], "10"),
            ([("text", ["beta"])], "1"),
            ([("text", ["\n"])], "10"),
            ([("text", [".*"])], "1"),
            ([("text", ["%_"])], "0"),
            ([("text", ["大 (x) \\ $"])], "4"),
            ([("text", ["alpha", "大"])], "40"),
            ([("text", ["eta"]), ("text", ["alpha"])], "0"),
            ([("text", ["nowhere"])], ""),
            ([("text", [])], ""),
        ]
        for contains, expected in asked:
            page = await store.find("thing", Query(contains=contains))
            assert b"".join(found.state for found in page.states).decode() == expected, contains
            assert page.total == len(expected), contains

    async def test_versions_of_many_are_told_without_their_states(self, store: Store) -> None:
        for n in range(3):
            await put(store, f"t-{n}")
        await put(store, "t-1", version=1)
        await put(store, "t-0", kind="other")
        assert await store.versions("thing", ["t-0", "t-1", "t-9"]) == {"t-0": 1, "t-1": 2}
        assert await store.versions("thing", []) == {}
        assert await store.versions("unheard-of", ["t-0"]) == {}

    async def test_a_list_follows_each_save(self, store: Store) -> None:
        await put(store, index={"colour": "red"})
        assert (await store.find("thing", Query(equal={"colour": "red"}))).states[0].version == 1
        await put(store, version=1, index={"colour": "blue"})
        assert (await store.find("thing", Query(equal={"colour": "red"}))).total == 0
        assert (await store.find("thing", Query(equal={"colour": "blue"}))).states[0].version == 2  # noqa: PLR2004

    async def test_fields_and_the_first_question_may_come_later_than_the_aggregates(self, store: Store) -> None:
        await put(store, "t-1")
        await put(store, "t-2", index={"colour": "red"})
        page = await store.find("thing", Query(equal={"colour": None}))
        assert (page.total, (await store.find("thing", Query())).total) == (1, 2)

    async def test_a_list_by_what_is_not_indexed_is_refused(self, store: Store) -> None:
        await put(store, index={"colour": "red"})
        with pytest.raises(Invalid):
            await store.find("thing", Query(equal={"state": "x"}))
