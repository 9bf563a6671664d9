"""The answer to an inquiry fits into a message, however much is asked for at however many places."""

from datetime import UTC, datetime, timedelta

import pytest

from indaco_common.contracts import gateway, sla
from indaco_common.contracts.values import Group, NodeNeeds, Owner, Place, PlacedNode
from indaco_common.envelope import MAX_ENVELOPE_BYTES, Context, seal, unseal
from indaco_common.units import ResourceVector
from indaco_sla.model.placement import Match, Offer
from indaco_sla.model.proposal import MAX_RANKED, Proposal

NOW = datetime(2026, 6, 1, tzinfo=UTC)
NEEDS = ResourceVector(instances=1, cpu_milli=1000, memory_mib=1024, disk_gib=20, public_ips=1)


@pytest.mark.parametrize(("kinds", "ranked"), [(1, MAX_RANKED), (20, MAX_RANKED), (200, 5)])
def test_of_many_places_as_many_are_told_of_as_a_message_can_hold(kinds: int, ranked: int) -> None:
    names = [f"{'n' * 96}{number:03}" for number in range(kinds)]
    inquiry = gateway.PlanRequested(
        inquiry_id="q", owner=Owner(issuer="i", subject="s"), group=Group(issuer="i", path="cms"),
        nodes={name: NodeNeeds(needs=NEEDS) for name in names}, expires_at=NOW + timedelta(minutes=10),
    )  # fmt: skip
    node = PlacedNode(flavor="f" * 60, image="i" * 60, needs=NEEDS)
    offers = [
        Offer(
            place=Place(provider=f"site-{n}", kind="openstack", endpoint="", region="one", project="p", agreement=f"a{n}"),
            nodes={f"{name}-0": node for name in names}, score=0.5, terms={"headroom": 1.0},
        )
        for n in range(60)
    ]  # fmt: skip
    proposal = Proposal(id="q")
    proposal.answer(inquiry, Match(ranked=tuple(offers)), {}, NOW)
    [message] = proposal.emitted
    assert isinstance(message, sla.PlacementProposed)
    assert (len(message.ranked), message.ranked_total) == (ranked, 60)
    body = seal(message, Context(), source="sla", version=1, index=0, now=NOW).body
    assert len(body) < MAX_ENVELOPE_BYTES / 2
    assert unseal(body)[1] == message
