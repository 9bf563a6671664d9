"""What every store must do. A test class inherits :class:`StoreConformance` and supplies the fixture ``store``, started and empty.

A second adapter that is only similar is the usual source of bugs: what services rely on stands here once, and each adapter runs it.
"""

import asyncio
from typing import ClassVar

import pydantic
import pytest

from indaco_common.clock import ManualClock
from indaco_common.envelope import Context
from indaco_common.errors import AlreadyHandled, Conflict, Invalid, NotFound, Unavailable
from indaco_common.messages import Event
from indaco_common.recent import Recent
from indaco_common.store.aggregate import Aggregate
from indaco_common.store.port import INBOX_LENGTH, Found, JournalQuery, Query, Store
from indaco_common.store.repository import MAX_KEPT_BYTES, Repository

from .conformance_lists import ListConformance
from .conformance_outbox import OutboxConformance
from .saves import LEASE_S, MILLISECOND, NOW, SECOND, ids, put, sealed


class Counted(Event, type="test.counter.counted.v1", subject="counter"):
    counter_id: str
    count: int


class Counter(Aggregate):
    KIND: ClassVar[str] = "counter"
    INDEX: ClassVar[tuple[str, ...]] = ("count",)
    count: int = 0
    note: str = ""

    def increase(self) -> None:
        self.count += 1
        self.emit(Counted(counter_id=self.id, count=self.count))


class Part(pydantic.BaseModel):
    """What a list may show of a counter."""

    id: str


class Count(pydantic.BaseModel):
    """What changes of a counter."""

    count: int


class StateConformance:
    """State, version and inbox."""

    async def test_what_was_never_saved_is_none(self, store: Store) -> None:
        assert await store.load("thing", "t-1") is None
        assert await store.load("thing", "t-1", "m-1") is None

    async def test_a_saved_state_is_loaded_with_its_version(self, store: Store) -> None:
        await put(store, state=b'{"a": 1}')
        await put(store, version=1, state=b'{"a": 2}')
        found = await store.load("thing", "t-1")
        assert found is not None
        assert (found.version, found.state, found.handled) == (2, b'{"a": 2}', False)

    async def test_the_same_id_of_another_kind_is_another_aggregate(self, store: Store) -> None:
        await put(store, state=b"thing")
        await put(store, kind="other", state=b"other")
        found = await store.load("thing", "t-1")
        assert found is not None
        assert found.state == b"thing"

    async def test_creating_what_exists_is_a_conflict(self, store: Store) -> None:
        await put(store, state=b"first")
        with pytest.raises(Conflict):
            await put(store, state=b"second", outbox=[sealed()])
        found = await store.load("thing", "t-1")
        assert found is not None
        assert found.state == b"first"
        assert await store.lease(NOW, LEASE_S, 10) == []

    @pytest.mark.parametrize("version", [1, 3])
    async def test_saving_over_another_version_is_a_conflict_and_changes_nothing(
        self, store: Store, version: int
    ) -> None:
        await put(store, index={"colour": "red"})
        await put(store, version=1, state=b"second", index={"colour": "red"})
        with pytest.raises(Conflict):
            await put(
                store, version=version, state=b"third", index={"colour": "blue"}, due_at=NOW, outbox=[sealed()], message_id="m-1"
            )  # fmt: skip
        found = await store.load("thing", "t-1", "m-1")
        assert found is not None
        assert (found.version, found.state, found.handled) == (2, b"second", False)
        assert await store.lease(NOW, LEASE_S, 10) == []
        assert await store.next_due("thing") is None
        assert (await store.find("thing", Query(equal={"colour": "blue"}))).total == 0

    async def test_saving_what_does_not_exist_is_a_conflict(self, store: Store) -> None:
        with pytest.raises(Conflict):
            await put(store, version=1)
        assert await store.load("thing", "t-1") is None

    async def test_of_racing_creators_one_wins(self, store: Store) -> None:
        results = await asyncio.gather(*[put(store, state=b"%d" % n) for n in range(10)], return_exceptions=True)
        assert sum(result is None for result in results) == 1
        assert sum(isinstance(result, Conflict) for result in results) == 9  # noqa: PLR2004

    async def test_a_handled_message_is_remembered_by_its_aggregate_only(self, store: Store) -> None:
        await put(store, message_id="m-1")
        await put(store, "t-2")
        for id, message, handled in (("t-1", "m-1", True), ("t-1", "m-2", False), ("t-2", "m-1", False)):
            found = await store.load("thing", id, message)
            assert found is not None
            assert found.handled is handled

    async def test_the_inbox_remembers_the_last_messages_and_no_more(self, store: Store) -> None:
        for version in range(INBOX_LENGTH + 10):  # a save without a message, as a timer's, takes no place
            await put(store, version=2 * version, message_id=f"m-{version}")
            await put(store, version=2 * version + 1)
        handled = []
        for message in ("m-9", "m-10", f"m-{INBOX_LENGTH + 9}"):
            found = await store.load("thing", "t-1", message)
            assert found is not None
            handled.append(found.handled)
        assert handled == [False, True, True]

    async def test_large_states_and_any_characters_come_back_as_they_were(self, store: Store) -> None:
        text = '{"name": "Größe 大きさ 🦆 \\u0000 it\'s \\"quoted\\" $set.a"}'.encode()
        large = b'{"lines": "' + bytes(range(32, 34)) * 50_000 + b'"}'
        await put(store, "t/ä ö.$ü'\"", state=text, outbox=[sealed(body=text)], message_id="m.$ä")
        await put(store, "large", state=large, outbox=[sealed(body=large)])
        first, second = await store.load("thing", "t/ä ö.$ü'\"", "m.$ä"), await store.load("thing", "large")
        assert first is not None
        assert second is not None
        assert (first.state, first.handled, second.state) == (text, True, large)
        leased = await store.lease(NOW, LEASE_S, 10)
        assert {entries[0].sealed.body for entries in leased} == {text, large}

    async def test_a_restart_keeps_everything(self, store: Store) -> None:
        first, second = sealed(), sealed()
        await put(store, state=b"kept", index={"colour": "red"}, due_at=NOW, outbox=[first], message_id="m-1")
        await store.settle([entry for [entry] in await store.lease(NOW, LEASE_S, 10)], NOW)
        await put(store, version=1, state=b"kept", index={"colour": "red"}, due_at=NOW, outbox=[second])
        await store.put_blob("sha256:1", b"blob")
        await store.stop()
        await store.start()
        found = await store.load("thing", "t-1", "m-1")
        assert found is not None
        assert (found.version, found.state, found.handled) == (2, b"kept", True)
        assert await store.due("thing", NOW + MILLISECOND, 10) == [("t-1", 2)]
        assert ids(await store.lease(NOW, LEASE_S, 10)) == [[second.id]]
        assert (await store.find("thing", Query(equal={"colour": "red"}))).total == 1
        assert await store.journal(JournalQuery()) == [first.body]
        assert await store.get_blob("sha256:1") == b"blob"

    async def test_a_stopped_store_is_unavailable_and_may_be_stopped_again(self, store: Store) -> None:
        await store.stop()
        for call in (store.load("thing", "t-1"), put(store), store.ping(), store.lease(NOW, LEASE_S, 1)):
            with pytest.raises(Unavailable):
                await call
        await store.stop()

    async def test_what_is_removed_is_forgotten_with_its_inbox_its_timer_and_its_place_in_lists(
        self, store: Store
    ) -> None:
        await put(store, "t-0", index={"colour": "red"})
        await put(store, index={"colour": "red"}, due_at=NOW, message_id="m-1")
        await store.remove("thing", "t-1", version=1)
        assert await store.load("thing", "t-1") is None
        assert await store.due("thing", NOW, 10) == []
        assert (await store.find("thing", Query(equal={"colour": "red"}))).total == 1
        await put(store, index={"colour": "blue"})  # another, under the same id
        found = await store.load("thing", "t-1", "m-1")
        assert found is not None
        assert (found.version, found.handled) == (1, False)
        assert (await store.find("thing", Query(equal={"colour": "blue"}))).total == 1

    async def test_only_what_is_at_the_version_and_has_nothing_to_send_is_removed(self, store: Store) -> None:
        await put(store, outbox=[sealed()])
        for id, version in (("t-1", 1), ("t-1", 2), ("t-2", 1)):
            with pytest.raises(Conflict):
                await store.remove("thing", id, version=version)
        await store.settle([entry for [entry] in await store.lease(NOW, LEASE_S, 10)], NOW)
        with pytest.raises(Conflict):
            await store.remove("thing", "t-1", version=2)
        await store.remove("thing", "t-1", version=1)
        assert await store.load("thing", "t-1") is None
        assert len(await store.journal(JournalQuery())) == 1

    async def test_it_answers_a_ping(self, store: Store) -> None:
        await store.ping()
        await store.ping()

    async def test_a_blob_is_kept_under_its_digest(self, store: Store) -> None:
        body = bytes(range(256)) * 1024
        await store.put_blob("sha256:abc", body)
        await store.put_blob("sha256:abc", body)
        assert await store.get_blob("sha256:abc") == body
        assert await store.get_blob("sha256:def") is None


class RepositoryConformance:
    """The repository on this store."""

    def counters(self, store: Store) -> Repository[Counter]:
        return Repository(store, Counter, source="test", clock=ManualClock(NOW), saved=lambda *_: None)

    async def test_concurrent_edits_of_one_aggregate_lose_nothing(self, store: Store) -> None:
        """Five replicas, fifty editors: each replica has a lock of its own, so that they meet at the version."""
        replicas = [self.counters(store) for _ in range(5)]
        await replicas[0].create(Counter(id="n"), Context())

        async def increase(n: int) -> int:
            conflicts = 0
            while True:
                try:
                    async with replicas[n % 5].edit("n", Context(id=f"m-{n}")) as counter:
                        counter.increase()
                except AlreadyHandled:
                    raise
                except Conflict:
                    conflicts += 1
                else:
                    return conflicts

        conflicts = sum(await asyncio.gather(*[increase(n) for n in range(50)]))
        counter = await replicas[0].get("n")
        assert (counter.count, counter.version) == (50, 51)
        assert conflicts > 0
        [entries] = await store.lease(NOW + SECOND, LEASE_S, 10)
        assert len(entries) == 50  # noqa: PLR2004
        with pytest.raises(AlreadyHandled):
            await increase(7)

    async def test_an_error_in_an_edit_saves_nothing(self, store: Store) -> None:
        counters = self.counters(store)
        await counters.create(Counter(id="n"), Context())

        async def failing_edit() -> None:
            async with counters.edit("n", Context(id="m-1")) as counter:
                counter.increase()
                raise NotFound

        with pytest.raises(NotFound):
            await failing_edit()
        assert (await counters.get("n")).version == 1
        assert await store.lease(NOW, LEASE_S, 10) == []

    async def test_an_aggregate_is_removed_by_the_timer_that_saw_it_last(self, store: Store) -> None:
        counters = self.counters(store)
        await counters.create(Counter(id="n"), Context())
        async with counters.edit("n", Context(id="m-1")):
            pass
        with pytest.raises(AlreadyHandled):
            await counters.remove("n", Context(at_version=1))
        assert await counters.versions(["n", "x"]) == {"n": 2}
        await counters.remove("n", Context(at_version=2))
        for removal in (counters.get("n"), counters.remove("n", Context())):
            with pytest.raises(NotFound):
                await removal

    async def test_what_was_made_of_a_state_is_kept_until_it_changes(self, store: Store) -> None:
        here, elsewhere = self.counters(store), self.counters(store)
        kept, made = Recent[Found, list[int]](most=2), 0

        async def numbers(variant: str = "") -> list[int]:
            def make(part: Count) -> list[int]:
                nonlocal made
                made += 1
                return [made, part.count]

            return await here.get_made("n", Count, make, kept, variant)

        await here.create(Counter(id="n"), Context())
        assert [await numbers(), await numbers(), await numbers("other")] == [[1, 0], [1, 0], [2, 0]]
        async with elsewhere.edit("n", Context(id="m-1")) as counter:
            counter.count = 5
        assert [await numbers(), await numbers()] == [[3, 5], [3, 5]]
        async with elsewhere.edit("n", Context(id="m-2")) as counter:
            counter.note = "x" * MAX_KEPT_BYTES
        assert [await numbers(), await numbers()] == [[4, 5], [5, 5]], "what is large is not kept"
        await elsewhere.remove("n", Context())
        with pytest.raises(NotFound):
            await numbers()

    async def test_aggregates_are_listed_by_their_index(self, store: Store) -> None:
        counters = self.counters(store)
        for n in range(3):
            await counters.create(Counter(id=f"n-{n}", count=n), Context())
        found, total = await counters.find(Query(any_of={"count": [1, 2]}, order_by="count", descending=False))
        assert ([counter.count for counter in found], total) == ([1, 2], 2)
        parts, total = await counters.find_parts(Query(equal={"count": 1}), Part)
        assert (parts, total) == ([Part(id="n-1")], 1)
        for wrong in (counters.find(Query(equal={"id.x": 1})), counters.find_parts(Query(order_by="no"), Part)):
            with pytest.raises(Invalid):
                await wrong


class StoreConformance(StateConformance, OutboxConformance, ListConformance, RepositoryConformance):
    """The whole suite."""
