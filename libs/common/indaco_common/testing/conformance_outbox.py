"""What every store must do with messages: outbox, leases, journal."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest

from indaco_common.envelope import Sealed
from indaco_common.ids import uuid7
from indaco_common.store.port import JournalQuery, Store

from .saves import LEASE_S, NOW, SECOND, ids, put, sealed


class OutboxConformance:
    """The part of the suite about messages."""

    async def test_messages_are_leased_in_the_order_of_their_saves(self, store: Store) -> None:
        messages = [sealed() for _ in range(5)]
        await put(store, outbox=messages[:2])
        await put(store, version=1, outbox=messages[2:4])
        await put(store, version=2, outbox=messages[4:])
        [entries] = await store.lease(NOW, LEASE_S, 10)
        assert [entry.sealed for entry in entries] == messages
        assert {(entry.kind, entry.id) for entry in entries} == {("thing", "t-1")}

    async def test_a_lease_excludes_others_until_its_end(self, store: Store) -> None:
        message = sealed()
        await put(store, outbox=[message])
        assert ids(await store.lease(NOW, LEASE_S, 10)) == [[message.id]]
        assert await store.lease(NOW + SECOND, LEASE_S, 10) == []
        lapsed = NOW + timedelta(seconds=LEASE_S + 0.1)
        assert ids(await store.lease(lapsed, LEASE_S, 10)) == [[message.id]]
        assert await store.lease(lapsed, LEASE_S, 10) == []

    async def test_racing_relays_share_the_work(self, store: Store) -> None:
        for n in range(20):
            await put(store, f"t-{n}", outbox=[sealed()])
        leases = await asyncio.gather(*[store.lease(NOW, LEASE_S, 10) for _ in range(4)])
        taken = [entry.sealed.id for leased in leases for entries in leased for entry in entries]
        rest = [entry.sealed.id for entries in await store.lease(NOW, LEASE_S, 20) for entry in entries]
        assert len(taken + rest) == len(set(taken + rest)) == 20  # noqa: PLR2004

    async def test_a_lease_takes_as_many_outboxes_as_asked_and_both_kinds(self, store: Store) -> None:
        for n in range(3):
            await put(store, f"t-{n}", outbox=[sealed()])
            await put(store, f"t-{n}", kind="other", outbox=[sealed()])
        counts = [len(await store.lease(NOW, LEASE_S, 4)) for _ in range(3)]
        assert counts == [4, 2, 0]

    async def test_a_lease_given_back_ends_at_once(self, store: Store) -> None:
        message = sealed()
        await put(store, outbox=[message])
        [entries] = await store.lease(NOW, LEASE_S, 10)
        await store.give_back(entries)
        assert ids(await store.lease(NOW, LEASE_S, 10)) == [[message.id]]

    async def test_giving_back_what_was_settled_changes_nothing(self, store: Store) -> None:
        await put(store, outbox=[sealed()])
        [entries] = await store.lease(NOW, LEASE_S, 10)
        await store.settle(entries, NOW)
        await store.give_back(entries)
        assert await store.lease(NOW, LEASE_S, 10) == []

    async def test_a_save_during_a_lease_neither_breaks_it_nor_is_held_up_by_its_end(self, store: Store) -> None:
        first, second = sealed(), sealed()
        await put(store, outbox=[first])
        [entries] = await store.lease(NOW, LEASE_S, 10)
        await put(store, version=1, outbox=[second], now=NOW + SECOND)
        assert await store.lease(NOW + SECOND, LEASE_S, 10) == []
        await store.settle(entries, NOW + SECOND)
        assert ids(await store.lease(NOW + SECOND, LEASE_S, 10)) == [[second.id]]

    async def test_what_is_left_of_a_lease_stays_leased_when_a_part_is_settled(self, store: Store) -> None:
        first, second = sealed(), sealed()
        await put(store, outbox=[first, second])
        [entries] = await store.lease(NOW, LEASE_S, 10)
        await store.settle(entries[:1], NOW)
        assert await store.lease(NOW + SECOND, LEASE_S, 10) == []
        assert ids(await store.lease(NOW + timedelta(seconds=LEASE_S + 0.1), LEASE_S, 10)) == [[second.id]]

    async def test_settling_again_changes_nothing(self, store: Store) -> None:
        message = sealed()
        await put(store, outbox=[message])
        [entries] = await store.lease(NOW, LEASE_S, 10)
        await store.settle(entries, NOW)
        await store.settle(entries, NOW + SECOND)
        assert await store.journal(JournalQuery()) == [message.body]
        assert await store.outbox_age_s(NOW) == 0
        await store.settle([], NOW)

    async def test_saves_go_on_while_messages_are_settled(self, store: Store) -> None:
        """A save and a settling relay meet at one outbox and neither undoes the other."""
        relayed: list[str] = []

        async def relay() -> None:
            while len(relayed) < 60:  # noqa: PLR2004
                leased = await store.lease(NOW, LEASE_S, 10)
                entries = [entry for entries in leased for entry in entries]
                await store.settle(entries, NOW)
                relayed.extend(entry.sealed.id for entry in entries)
                await asyncio.sleep(0)

        messages = [sealed() for _ in range(60)]
        task = asyncio.create_task(relay())
        for version, message in enumerate(messages):
            await put(store, version=version, outbox=[message])
        async with asyncio.timeout(30):
            await task
        assert relayed == [message.id for message in messages]

    async def test_the_age_of_the_outbox_is_that_of_its_oldest_message(self, store: Store) -> None:
        assert await store.outbox_age_s(NOW) == 0
        await put(store, "t-1", outbox=[sealed()])
        await put(store, "t-2", outbox=[sealed()], now=NOW + 10 * SECOND)
        await put(store, "t-1", version=1, outbox=[sealed()], now=NOW + 20 * SECOND)
        await store.lease(NOW + 20 * SECOND, LEASE_S, 10)
        assert await store.outbox_age_s(NOW + 30 * SECOND) == pytest.approx(30, abs=0.01)

    async def publish(self, store: Store, messages: Sequence[Sealed], now: datetime = NOW) -> None:
        await put(store, uuid7(), outbox=messages, now=now)
        for entries in await store.lease(now, LEASE_S, 10):
            await store.settle(entries, now)

    async def test_the_journal_is_asked_by_name_correlation_time_and_place(self, store: Store) -> None:
        a, b = "test.thing.happened.v1", "test.thing.ended.v1"
        messages = [
            sealed(name, correlation, b"%d" % n)
            for n, (name, correlation) in enumerate([(a, "c-1"), (b, "c-1"), (a, "c-2"), (b, "c-2")])
        ]
        await self.publish(store, messages[:2])
        await self.publish(store, messages[2:], NOW + 60 * SECOND)
        asked = {
            JournalQuery(): [0, 1, 2, 3],
            JournalQuery(name=a): [0, 2],
            JournalQuery(correlation_id="c-2"): [2, 3],
            JournalQuery(name=b, correlation_id="c-1"): [1],
            JournalQuery(since=NOW + 30 * SECOND): [2, 3],
            JournalQuery(since=NOW + 30 * SECOND, name=b): [3],
            JournalQuery(after=messages[1].id): [2, 3],
            JournalQuery(after=messages[0].id, limit=2): [1, 2],
            JournalQuery(name="test.other.v1"): [],
        }
        for query, expected in asked.items():
            assert await store.journal(query) == [messages[n].body for n in expected], query

    async def test_pruning_forgets_old_journal_entries_and_says_how_many(self, store: Store) -> None:
        old, young = sealed(body=b"old"), sealed(body=b"young")
        await self.publish(store, [old])
        await self.publish(store, [young], NOW + 60 * SECOND)
        assert await store.prune(NOW + 30 * SECOND) == 1
        assert await store.prune(NOW + 30 * SECOND) == 0
        assert await store.journal(JournalQuery()) == [b"young"]
