"""The placement: which place is asked for, what is freed where, and when it is over."""

import pytest

from indaco_common.contracts import gateway, orchestrator, sla
from indaco_common.contracts.values import MAIN, Failure, Group, NodeNeeds, Owner, Place, PlacedNode, Reason
from indaco_common.ids import DeploymentId, ReservationId, reservation_id
from indaco_common.messages import Message
from indaco_common.units import ResourceVector
from indaco_sla.model.placement import Match, Offer, Placement, Status

ID = DeploymentId("d")
NEEDS = ResourceVector(instances=1)
OWNER = Owner(issuer="i", subject="ada")
NO_ROOM = Failure(code="no-capacity", detail="full")


def place(agreement: str) -> Place:
    return Place(
        provider=f"at-{agreement}", kind="simulated", endpoint="", region="r", project="p", agreement=agreement
    )


def offer(agreement: str, *nodes: str) -> Offer:
    return Offer(
        place=place(agreement), nodes={name: PlacedNode(flavor="m", needs=NEEDS) for name in nodes or ("n-0",)}
    )


def rid(attempt: int = 1, slot: str = MAIN) -> ReservationId:
    return reservation_id(ID, attempt, slot)


def requested(max_attempts: int = 255) -> gateway.DeploymentRequested:
    return gateway.DeploymentRequested(
        deployment_id=ID, owner=OWNER, group=Group(issuer="i", path="g"), template="t", inputs={},
        nodes={"n": NodeNeeds(needs=NEEDS)}, max_attempts=max_attempts,
    )  # fmt: skip


def quota_reserved(ledger: str = "a", attempt: int = 1, slot: str = MAIN) -> sla.QuotaReserved:
    return sla.QuotaReserved(
        ledger_id=ledger, reservation_id=rid(attempt, slot), deployment_id=ID, attempt=attempt, slot=slot,
        expires_at="2026-01-01T00:15:00Z",
    )  # fmt: skip


def quota_refused(ledger: str = "a", attempt: int = 1, slot: str = MAIN) -> sla.QuotaRefused:
    return sla.QuotaRefused(
        ledger_id=ledger, reservation_id=rid(attempt, slot), deployment_id=ID, attempt=attempt, slot=slot,
        reasons=(Reason(provider=f"at-{ledger}", code="QUOTA", detail="none left"),),
    )  # fmt: skip


def attempt_failed(attempt: int = 1, *, clean: bool = False, at: str = "a") -> orchestrator.AttemptFailed:
    return orchestrator.AttemptFailed(deployment_id=ID, attempt=attempt, place=place(at), reason=NO_ROOM, clean=clean)


def cleaned(attempt: int = 1, slot: str | None = None) -> orchestrator.AttemptCleaned:
    return orchestrator.AttemptCleaned(deployment_id=ID, attempt=attempt, slot=slot)


def ran(*slots: str) -> orchestrator.DeploymentRunning:
    return orchestrator.DeploymentRunning(deployment_id=ID, attempt=1, slots=slots, nodes=("n-0",))


def growth(slot: str = "u1", attempt: int = 1) -> orchestrator.ReservationRequested:
    return orchestrator.ReservationRequested(deployment_id=ID, attempt=attempt, slot=slot, nodes={"n-1": NEEDS})


def answer(kind: type[orchestrator.ReservationKept | orchestrator.ReservationReturned], ledger: str = "a") -> Message:
    return kind(deployment_id=ID, reservation_id=rid(), attempt=1, slot=MAIN, agreement=ledger)


def said(p: Placement) -> list[Message]:
    messages = list(p.emitted)
    p.emitted.clear()
    return messages


def told(p: Placement) -> list[tuple[str, str]]:
    """Return what was emitted as (verb, ledger or slot)."""
    return [(m.TYPE.split(".")[-2], str(getattr(m, "ledger_id", "") or getattr(m, "slot", ""))) for m in said(p)]


def new() -> Placement:
    p = Placement.new(ID)
    assert isinstance(p, Placement)
    return p


def choosing(*agreements: str, max_attempts: int = 255) -> Placement:
    p = new()
    p.requested(requested(max_attempts), Match(ranked=tuple(offer(a) for a in agreements or ("a", "b"))))
    said(p)
    return p


def reserved(*agreements: str) -> Placement:
    p = choosing(*agreements)
    p.quota_reserved(quota_reserved())
    said(p)
    return p


def confirmed() -> Placement:
    p = reserved()
    p.running(ran(MAIN))
    said(p)
    return p


# ── choosing


def test_the_best_offers_ledger_is_asked_and_a_repeated_request_asks_no_other() -> None:
    p, match = new(), Match(ranked=(offer("a", "n-0", "n-1"), offer("b")))
    p.requested(requested(), match)
    p.requested(requested(), match)
    (ask,) = said(p)
    assert isinstance(ask, sla.QuotaReserve)
    assert (ask.ledger_id, ask.reservation_id, ask.attempt, ask.slot) == ("a", rid(), 1, MAIN)
    assert set(ask.nodes) == {"n-0", "n-1"}


def test_where_nothing_fits_it_is_rejected_with_all_reasons() -> None:
    p, why = new(), Reason(provider="x", code="EXCLUDED", detail="no")
    p.requested(requested(), Match(refused=(why,)))
    (rejection,) = said(p)
    assert isinstance(rejection, sla.PlacementRejected)
    assert rejection.reasons == (why,)
    assert p.status is Status.REJECTED


def test_a_refusal_moves_on_to_the_next_offer_and_the_last_one_rejects() -> None:
    p = choosing()
    p.quota_refused(quota_refused("a"))
    assert told(p) == [("reserve", "b")]
    p.quota_refused(quota_refused("b"))
    (rejection,) = said(p)
    assert isinstance(rejection, sla.PlacementRejected)
    assert [reason.provider for reason in rejection.reasons] == ["at-a", "at-b"]


def test_only_the_ledger_that_is_asked_and_has_not_answered_may_refuse() -> None:
    p = choosing()
    p.quota_refused(quota_refused("a"))
    said(p)
    p.quota_refused(quota_refused("a"))  # a late repeat
    p.quota_reserved(quota_reserved("b"))
    said(p)
    p.quota_refused(quota_refused("b"))
    assert said(p) == []
    assert p.status is Status.RESERVED


def test_a_reservation_names_the_place_and_is_named_again_on_a_repeat() -> None:
    p = choosing()
    for _ in range(2):
        p.quota_reserved(quota_reserved())
        (news,) = said(p)
        assert isinstance(news, sla.PlacementReserved)
        assert (news.place.agreement, news.attempt, news.slot) == ("a", 1, MAIN)
    assert p.status is Status.RESERVED


def test_a_reservation_at_a_ledger_that_is_no_longer_asked_is_released_there() -> None:
    p = choosing()
    p.quota_refused(quota_refused("a"))
    said(p)
    p.quota_reserved(quota_reserved("a"))
    assert told(p) == [("release", "a")]
    assert p.force[rid()].ledger == "b"


# ── fail-over


def test_a_clean_failure_frees_at_once_and_asks_for_the_next_place() -> None:
    p = reserved()
    p.attempt_failed(attempt_failed(clean=True))
    assert told(p) == [("release", "a"), ("reserve", "b")]
    assert set(p.force) == {rid(2)}


def test_debris_keeps_its_hold_until_it_is_cleaned() -> None:
    p = reserved()
    p.attempt_failed(attempt_failed())
    assert told(p) == [("reserve", "b")]
    p.cleaned(cleaned())
    assert told(p) == [("release", "a")]
    assert set(p.force) == {rid(2)}


def test_a_repeated_failure_chooses_no_further_place() -> None:
    p = reserved("a", "b", "c")
    p.attempt_failed(attempt_failed())
    said(p)
    p.attempt_failed(attempt_failed())
    assert said(p) == []
    assert p.attempt == 2


def test_the_stored_answer_for_an_attempt_that_is_over_is_not_passed_on() -> None:
    p = reserved()
    p.attempt_failed(attempt_failed())
    said(p)
    p.quota_reserved(quota_reserved())
    assert said(p) == []


def test_the_number_of_attempts_ends_the_choosing() -> None:
    p = choosing("a", "b", max_attempts=1)
    p.quota_reserved(quota_reserved())
    said(p)
    p.attempt_failed(attempt_failed(clean=True))
    _, rejection = said(p)
    assert isinstance(rejection, sla.PlacementRejected)
    assert [reason.code for reason in rejection.reasons] == ["FAILED", "MAX_ATTEMPTS"]


# ── holds


def test_running_confirms_the_slots_that_it_names() -> None:
    p = reserved()
    p.running(ran(MAIN, "u7"))
    assert told(p) == [("confirm", "a")]
    assert p.status is Status.CONFIRMED


def test_alive_renews_what_is_reserved() -> None:
    asked, held = choosing(), reserved()
    for p in (asked, held):
        p.alive(orchestrator.AttemptAlive(deployment_id=ID, attempt=1))
    assert told(asked) == []
    assert told(held) == [("renew", "a")]


def test_an_expiring_hold_is_asked_about_and_the_answer_goes_to_its_ledger() -> None:
    p = reserved()
    p.quota_expiring(sla.QuotaExpiring(**quota_reserved().model_dump(exclude={"expires_at"})))
    assert told(p) == [("expiring", MAIN)]
    p.kept(answer(orchestrator.ReservationKept))  # type: ignore[arg-type]
    p.returned(answer(orchestrator.ReservationReturned, "b"))  # type: ignore[arg-type]
    assert told(p) == [("renew", "a"), ("release", "b")]
    assert rid() in p.force
    p.returned(answer(orchestrator.ReservationReturned))  # type: ignore[arg-type]
    assert (told(p), p.force) == ([("release", "a")], {})


def test_lost_nodes_are_freed_and_the_hold_stays() -> None:
    p = confirmed()
    p.degraded(orchestrator.DeploymentDegraded(deployment_id=ID, attempt=1, nodes=("n-0",)))
    (release,) = said(p)
    assert isinstance(release, sla.QuotaRelease)
    assert release.nodes == ("n-0",)
    assert rid() in p.force


# ── growth


def test_growth_is_reserved_where_the_attempt_runs_and_is_like_what_runs() -> None:
    p = confirmed()
    p.growth_requested(growth())
    (ask,) = said(p)
    assert isinstance(ask, sla.QuotaReserve)
    assert (ask.ledger_id, ask.slot, set(ask.nodes)) == ("a", "u1", {"n-1"})
    p.quota_reserved(quota_reserved(slot="u1"))
    (news,) = said(p)
    assert isinstance(news, sla.PlacementReserved)
    assert (news.slot, news.nodes["n-1"].flavor) == ("u1", "m")


def test_growth_that_is_refused_touches_its_slot_alone() -> None:
    p = confirmed()
    p.growth_requested(growth())
    said(p)
    p.quota_refused(quota_refused(slot="u1"))
    assert told(p) == [("rejected", "u1")]
    assert p.status is Status.CONFIRMED


@pytest.mark.parametrize("attempt", [2, 3])
def test_growth_of_an_attempt_that_is_not_in_force_is_rejected(attempt: int) -> None:
    p = confirmed()
    p.growth_requested(growth(attempt=attempt))
    assert told(p) == [("rejected", "u1")]


def test_growth_is_asked_for_once_also_after_it_was_freed() -> None:
    """A repeat past the inbox must not leave a hold in force that no ledger knows: the placement would never be over."""
    p = confirmed()
    p.growth_requested(growth())
    p.quota_reserved(quota_reserved(slot="u1"))
    p.cleaned(cleaned(slot="u1"))
    said(p)
    p.growth_requested(growth())
    assert said(p) == []
    assert set(p.force) == {rid()}


def test_cleaning_a_slot_frees_it_alone_and_cleaning_the_attempt_frees_all() -> None:
    p = confirmed()
    for slot in ("u1", "u2"):
        p.growth_requested(growth(slot))
    said(p)
    p.cleaned(cleaned(slot="u1"))
    assert set(p.force) == {rid(), rid(1, "u2")}
    p.cleaned(cleaned())
    assert p.force == {}


# ── the end


def test_a_failed_deployment_frees_nothing_and_is_over_when_all_is_cleaned() -> None:
    p = reserved()
    p.failed()
    assert (said(p), p.status) == ([], Status.RESERVED)
    p.cleaned(cleaned())
    assert (told(p), p.status) == ([("release", "a")], Status.RELEASED)


def test_a_closed_placement_takes_no_next_offer_and_ends_with_its_last_answer() -> None:
    p = choosing()
    p.failed()
    p.quota_refused(quota_refused("a"))
    assert (said(p), p.status) == ([], Status.RELEASED)


def test_a_failure_that_comes_after_the_last_attempts_news_moves_nothing() -> None:
    p = reserved()
    p.failed()
    p.attempt_failed(attempt_failed(clean=True))
    assert told(p) == [("release", "a")]
    assert (p.attempt, p.status) == (1, Status.RELEASED)


def test_a_deletion_frees_everything() -> None:
    p = reserved()
    p.attempt_failed(attempt_failed())
    said(p)
    p.deleted()
    assert told(p) == [("release", "a"), ("release", "b")]
    assert (p.status, p.force) == (Status.RELEASED, {})


@pytest.mark.parametrize("end", ["failed", "deleted"])
def test_an_end_that_comes_before_its_request_is_remembered(end: str) -> None:
    p = new()
    getattr(p, end)()
    p.requested(requested(), Match(ranked=(offer("a"),)))
    assert said(p) == []
    assert p.status is Status.RELEASED


def test_a_rejected_placement_stays_so() -> None:
    p = new()
    p.requested(requested(), Match())
    p.failed()
    assert p.status is Status.REJECTED
