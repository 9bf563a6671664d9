"""sla's answers to inquiries, over a real store: as a deployment would fare, with nothing held; and old ones dropped."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from indaco_common.clock import ManualClock
from indaco_common.contracts import gateway, sla
from indaco_common.contracts.values import Group, NodeNeeds, Owner, Policy
from indaco_common.envelope import Context
from indaco_common.errors import AlreadyHandled, Conflict
from indaco_common.ids import uuid7
from indaco_common.store.sqlite import SqliteStore
from indaco_sla.model.proposal import KEEP, MAX_RANKED, MAX_REFUSED, Proposal

from .test_sla import FEDERATION, GROUP, ISSUER, ONE, OWNER, Sla

BOB = Owner(issuer=ISSUER, subject="bob")


@pytest.fixture
async def replica(tmp_path: Path) -> AsyncIterator[Sla]:
    store = SqliteStore(tmp_path / "sla.db", synchronous="OFF")
    await store.start()
    replica = Sla(tmp_path, store, ManualClock())
    await replica.start()
    await replica.relay()
    yield replica
    await store.stop()


def inquiry(replica: Sla, count: int = 1, owner: Owner = OWNER, group: Group = GROUP) -> gateway.PlanRequested:
    return gateway.PlanRequested(
        inquiry_id=uuid7(), owner=owner, group=group, nodes={"server": NodeNeeds(count=count, needs=ONE)},
        expires_at=replica.clock.now() + timedelta(minutes=10),
    )  # fmt: skip


async def proposed(replica: Sla, ask: gateway.PlanRequested, *, times: int = 1) -> sla.PlacementProposed:
    await replica.tell(ask, times=times)
    [found] = [m for m in replica.said if isinstance(m, sla.PlacementProposed) and m.inquiry_id == ask.inquiry_id]
    return found


async def test_an_inquiry_is_answered_with_places_and_what_would_be_left_and_nothing_is_held(replica: Sla) -> None:
    found = await proposed(replica, inquiry(replica, count=2))
    assert [place.provider for place in found.ranked] == ["site-a", "site-b"]
    assert (found.ranked_total, found.refused, found.at) == (2, (), replica.clock.now())
    best = found.ranked[0]
    assert best.left == {"instances": 1, "cpu_milli": 6000, "memory_mib": 6144}
    assert best.nodes["server"].needs == ONE
    assert await replica.used("cms-a") == await replica.used("cms-b") == 0
    assert not any(isinstance(message, sla.QuotaReserve) for message in replica.said)


async def test_a_repeat_gets_no_second_answer(replica: Sla) -> None:
    ask = inquiry(replica)
    await proposed(replica, ask, times=3)
    await replica.tell(ask)  # under another id, as from an inbox that has forgotten it
    assert len([message for message in replica.said if isinstance(message, sla.PlacementProposed)]) == 1


async def test_the_ledgers_count_as_they_are_now_for_the_group_and_for_the_user(replica: Sla) -> None:
    await replica.request(count=2)
    mine, bobs = await proposed(replica, inquiry(replica)), await proposed(replica, inquiry(replica, owner=BOB))
    assert [place.provider for place in mine.ranked] == ["site-b"]
    assert [(reason.provider, reason.code, reason.available) for reason in mine.refused] == [
        ("site-a", "USER_LIMIT", 0)
    ]
    assert [(place.provider, place.left["instances"]) for place in bobs.ranked] == [("site-a", 0), ("site-b", 2)]
    two = await proposed(replica, inquiry(replica, count=2, owner=BOB))
    assert [(reason.code, reason.need, reason.available) for reason in two.refused] == [("QUOTA", 2, 1)]


async def test_what_was_found_is_what_a_deployment_then_gets(replica: Sla) -> None:
    for count in (1, 2, 1, 1, 2):
        found = await proposed(replica, inquiry(replica, count=count))
        id = await replica.request(count=count)
        placed = [m for m in replica.said if isinstance(m, sla.PlacementReserved) and m.deployment_id == id]
        assert [m.place.provider for m in placed] == [place.provider for place in found.ranked[:1]]


async def test_wishes_and_groups_without_agreements_are_told_as_for_a_deployment(replica: Sla) -> None:
    wish = inquiry(replica).model_copy(update={"policy": Policy(provider="site-b")})
    found = await proposed(replica, wish)
    assert [place.provider for place in found.ranked] == ["site-b"]
    assert [reason.code for reason in found.refused] == ["MANUAL_SELECTION"]
    stranger = await proposed(replica, inquiry(replica, group=Group(issuer=ISSUER, path="atlas")))
    assert [reason.code for reason in stranger.refused] == ["NO_AGREEMENT"]


async def test_what_comes_too_late_is_not_answered(replica: Sla) -> None:
    ask = inquiry(replica)
    replica.clock.advance(timedelta(minutes=10))
    await replica.tell(ask)
    assert not any(isinstance(message, sla.PlacementProposed) for message in replica.said)
    assert await replica.store.load(Proposal.KIND, ask.inquiry_id) is None


async def test_a_proposal_is_dropped_when_no_repeat_of_its_inquiry_would_be_answered(replica: Sla) -> None:
    ask = inquiry(replica)
    await replica.tell(ask)
    replica.clock.advance(timedelta(minutes=10) + KEEP)
    [(id, version)] = await replica.store.due(Proposal.KIND, replica.clock.now(), 10)
    drop = replica._timers[Proposal]
    with pytest.raises(AlreadyHandled):
        await drop(id, Context(at_version=version + 1))
    await drop(id, Context(at_version=version))
    assert await replica.store.load(Proposal.KIND, ask.inquiry_id) is None
    await replica.tell(ask)
    assert len([message for message in replica.said if isinstance(message, sla.PlacementProposed)]) == 1


async def test_a_proposal_whose_answer_is_not_sent_yet_is_not_dropped(replica: Sla) -> None:
    ask = inquiry(replica)
    await replica._deliver(ask, uuid7(), 1)
    replica.clock.advance(timedelta(minutes=10) + KEEP)
    [(id, version)] = await replica.store.due(Proposal.KIND, replica.clock.now(), 10)
    with pytest.raises(Conflict):
        await replica._timers[Proposal](id, Context(at_version=version))
    await replica.relay()
    assert len([message for message in replica.said if isinstance(message, sla.PlacementProposed)]) == 1


async def test_the_lists_of_an_answer_are_cut_and_the_totals_count_all(replica: Sla) -> None:
    more = [f"  - {{<<: *first, id: cms-a-{n}}}" for n in range(MAX_RANKED)]
    full = [f"  - {{<<: *first, id: cms-s-{n}, suspended: true}}" for n in range(MAX_REFUSED + 5)]
    await replica.start("\n".join((FEDERATION.rstrip(), *more, *full)))
    found = await proposed(replica, inquiry(replica))
    assert (len(found.ranked), found.ranked_total) == (MAX_RANKED, MAX_RANKED + 2)
    assert (len(found.refused), found.refused_total) == (MAX_REFUSED, MAX_REFUSED + 5)
