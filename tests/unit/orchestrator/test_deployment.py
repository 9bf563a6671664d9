"""The deployment's answers to messages: state in, event, state out."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from indaco_common.contracts import orchestrator, vault
from indaco_common.contracts.values import MAIN
from indaco_common.errors import NotYet
from indaco_common.ids import reservation_id
from indaco_orchestrator.model import turn
from indaco_orchestrator.model.deployment import Deployment
from indaco_orchestrator.model.values import Status

from .deployments import (
    ID,
    at,
    awaiting_credential,
    awaiting_place,
    creating,
    deletion,
    expiring,
    issued,
    names,
    place,
    refused,
    rejected,
    requested,
    reserved,
    running,
    said,
    take_turn,
    up,
    updated,
    updating,
)  # fmt: skip


def new() -> Deployment:
    d = Deployment.new(ID)
    assert isinstance(d, Deployment)
    return d


# ── the gateway's


def test_a_request_is_begun_once() -> None:
    d = awaiting_place()
    d.requested(requested(count=5), "other", at(5))
    assert d.status is Status.AWAITING_PLACE
    assert d.template == "digest"
    assert d.spec == {"n-0", "n-1"}
    assert d.deadline == d.due_at == at(600).now


def test_an_owner_who_waits_less_long_than_the_state_sets_the_timer() -> None:
    d = awaiting_place(timeout_s=30)
    assert d.due_at == at(30).now
    assert d.deadline == at(600).now


def test_a_deletion_before_its_request_leaves_a_tombstone_that_says_so() -> None:
    d = new()
    d.deletion_requested(deletion(), at())
    assert names(d) == ["deployment.deleted"]
    d.requested(requested(), "digest", at(1))
    assert d.status is Status.DELETED
    assert d.due_at is None


def test_a_place_that_comes_after_the_deletion_is_given_back() -> None:
    d = awaiting_place()
    d.deletion_requested(deletion(), at())
    assert names(d) == ["deployment.deleted"]
    d.placed_at(reserved(), at(1))
    (answer,) = said(d)
    assert isinstance(answer, orchestrator.ReservationReturned)
    assert (answer.agreement, answer.slot) == ("recas-1", MAIN)


def test_deleting_what_never_built_revokes_and_ends_at_once() -> None:
    d = awaiting_credential()
    d.deletion_requested(deletion(), at(1))
    assert names(d) == ["credential.revoke", "deployment.deleted"]
    assert d.taken == {}
    assert d.serial == {}


def test_deleting_what_may_have_built_cleans_first() -> None:
    d = running()
    d.deletion_requested(deletion(), at(100))
    assert d.status is Status.CLEANING
    assert names(d) == ["deployment.deleting"]
    assert [(debris.attempt, debris.slot, debris.nodes) for debris in d.debris] == [(1, MAIN, {"n-0", "n-1"})]
    assert d.taken  # its hold goes with the debris


def test_a_repeated_deletion_looks_again_now_but_not_into_a_turn_under_way() -> None:
    d = running()
    d.deletion_requested(deletion(), at(100))
    turn.claim(d, at(100))
    d.deletion_requested(deletion(force=True), at(110))
    assert d.forced
    assert d.due_at == d.claimed == at(160).now


def test_an_update_waits_until_the_deployment_runs() -> None:
    for d in (new(), awaiting_place(), creating(), updating()):
        with pytest.raises(NotYet):
            d.update_requested(updated(3, update=2), "digest", at(1))


def test_growth_is_named_anew_and_asked_for_as_a_slot_of_its_attempt() -> None:
    d = running()
    take_turn(d, 50, gone={"n-0"})
    said(d)
    d.update_requested(updated(2), "digest 2", at(60))
    _, ask = said(d)
    assert isinstance(ask, orchestrator.ReservationRequested)
    assert (ask.attempt, ask.slot, set(ask.nodes)) == (1, "u1", {"n-2"})


def test_an_update_that_needs_nothing_runs_on() -> None:
    d = running()
    d.update_requested(updated(2), "digest 2", at(60))
    (event,) = said(d)
    assert isinstance(event, orchestrator.DeploymentRunning)
    assert (d.status, event.slots, event.nodes) == (Status.RUNNING, (), ("n-0", "n-1"))


def test_an_old_update_is_nothing() -> None:
    d = running()
    d.update_requested(updated(2, update=2), "digest 2", at(60))
    said(d)
    d.update_requested(updated(5, update=1), "digest 1", at(61))
    assert d.status is Status.RUNNING
    assert said(d) == []


# ── sla's


@pytest.mark.parametrize("answer", [reserved(), rejected(), expiring()])
def test_answers_about_what_was_not_seen_yet_wait(answer: object) -> None:
    d, calls = new(), {"PlacementReserved": "placed_at", "PlacementRejected": "rejected"}
    method = getattr(d, calls.get(type(answer).__name__, "expiring"))
    with pytest.raises(NotYet):
        method(answer) if type(answer).__name__ == "PlacementExpiring" else method(answer, at())


def test_a_place_is_taken_and_its_credential_asked_for() -> None:
    d = awaiting_place()
    d.placed_at(reserved(), at(1))
    (ask,) = said(d)
    assert isinstance(ask, vault.CredentialIssue)
    assert (ask.attempt, ask.serial, ask.place) == (1, 0, place())
    assert d.status is Status.AWAITING_CREDENTIAL


def test_the_same_place_again_changes_nothing() -> None:
    d = awaiting_credential()
    d.placed_at(reserved(), at(1))
    assert said(d) == []


def test_a_place_that_debris_needs_is_not_given_back() -> None:
    d = running()
    d.deletion_requested(deletion(), at(100))
    said(d)
    d.placed_at(reserved(), at(101))
    assert said(d) == []


def test_the_same_reservation_at_another_ledger_is_given_back_there() -> None:
    d = awaiting_credential()
    d.placed_at(reserved(at_place="cnaf"), at(1))
    (answer,) = said(d)
    assert isinstance(answer, orchestrator.ReservationReturned)
    assert answer.agreement == "cnaf-1"


def test_no_place_for_the_first_attempt_fails_the_deployment() -> None:
    d = awaiting_place()
    d.rejected(rejected(), at(1))
    assert d.status is Status.FAILED
    assert names(d) == ["deployment.failed"]
    assert d.failure is not None
    assert d.failure.code == "no-place"


def test_no_further_place_tells_what_the_last_one_lacked() -> None:
    d = awaiting_credential()
    d.unauthorised(refused(), at(1))
    said(d)
    d.rejected(rejected(attempt=2), at(2))
    assert d.failure is not None
    assert d.failure.code == "policy"
    assert "exhausted" in d.failure.detail


def test_no_place_for_growth_fails_the_update_alone() -> None:
    d = running()
    d.update_requested(updated(3), "digest 2", at(10))
    said(d)
    d.rejected(rejected(1, "u1"), at(11))
    assert d.status is Status.RUNNING
    assert names(d) == ["deployment.update-failed"]
    assert (d.growth, d.debris) == (set(), [])


def test_a_hold_in_use_is_kept_and_one_that_is_not_is_returned() -> None:
    d = running()
    d.expiring(expiring())
    d.expiring(expiring(agreement="cnaf-1"))
    d.expiring(expiring(attempt=7))
    assert names(d) == ["reservation.kept", "reservation.returned", "reservation.returned"]


def test_of_a_hold_whose_news_may_be_under_way_nothing_is_said() -> None:
    waiting, growing = awaiting_place(), running()
    growing.update_requested(updated(3), "digest 2", at(10))
    with pytest.raises(NotYet):
        waiting.expiring(expiring())
    with pytest.raises(NotYet):
        growing.expiring(expiring(1, "u1"))


# ── the vault broker's


def test_the_credential_starts_the_attempt() -> None:
    d = awaiting_credential()
    d.authorised(issued(), at(5))
    assert d.status is Status.CREATING
    assert names(d) == ["attempt.started"]
    assert d.due_at == at(5).now


def test_a_credential_that_is_not_the_newest_is_revoked_and_changes_nothing() -> None:
    d = awaiting_credential()
    d.authorised(issued(serial=3), at(5))
    (answer,) = said(d)
    assert isinstance(answer, vault.CredentialRevoke)
    assert (answer.attempt, answer.serial) == (1, 3)
    assert d.status is Status.AWAITING_CREDENTIAL


def test_a_refusal_fails_the_attempt_that_waits_for_it() -> None:
    d = awaiting_credential()
    d.unauthorised(refused(), at(5))
    revoke, failed = said(d)
    assert isinstance(revoke, vault.CredentialRevoke)
    assert isinstance(failed, orchestrator.AttemptFailed)
    assert failed.clean
    assert (d.status, d.taken) == (Status.AWAITING_PLACE, {})


def test_a_refusal_while_cleaning_is_asked_about_again() -> None:
    d = running()
    d.deletion_requested(deletion(), at(100))
    take_turn(d, 101, rejected={1})
    said(d)
    d.unauthorised(refused(serial=1), at(103))
    assert (d.status, d.pending) == (Status.CLEANING, set())
    take_turn(d, 110, rejected={1})
    (ask,) = said(d)
    assert isinstance(ask, vault.CredentialIssue)
    assert ask.serial == 2


def test_a_credential_that_was_awaited_wakes_the_timer() -> None:
    d = running()
    d.deletion_requested(deletion(), at(100))
    take_turn(d, 101, rejected={1})
    d.authorised(issued(serial=1), at(102.5))
    assert d.due_at == at(102.5).now


def test_leaving_revokes_every_serial_once_nothing_is_left() -> None:
    d = running()
    take_turn(d, 50, rejected={1})
    d.authorised(issued(serial=1), at(52))
    d.deletion_requested(deletion(), at(100))
    said(d)
    take_turn(d, 200, swept={(1, MAIN): True})
    take_turn(d, 210, swept={(1, MAIN): True})
    told = said(d)
    assert [m.serial for m in told if isinstance(m, vault.CredentialRevoke)] == [0, 1]
    assert [type(m) for m in told][-2:] == [orchestrator.AttemptCleaned, orchestrator.DeploymentDeleted]
    assert d.status is Status.DELETED


# ── leaving


def test_leaving_takes_the_debris_of_slots_with_it() -> None:
    d = updating(count=4)
    take_turn(d, 20, started=up("n-2"))
    take_turn(d, 30, gone={"n-2"})
    assert [debris.slot for debris in d.debris] == ["u1"]
    d.deletion_requested(deletion(), at(100))
    (debris,) = d.debris
    assert (debris.slot, debris.nodes) == (MAIN, {"n-0", "n-1", "n-2", "n-3"})
    assert debris.since == at(100).now


@pytest.mark.parametrize(("build", "settles_at"), [(running, 100), (creating, 160)])
def test_a_place_where_every_machine_was_seen_need_not_be_watched_for_late_ones(
    build: Callable[[], Deployment], settles_at: float
) -> None:
    d = build()
    turn.claim(d, at(20))
    d.deletion_requested(deletion(), at(100))
    (debris,) = d.debris
    assert debris.settles_at == at(settles_at).now


def test_an_update_that_failed_leaves_its_reservation_to_its_debris() -> None:
    d = updating()
    d.deadline = at(12).now
    turn.claim(d, at(20))
    assert d.status is Status.RUNNING
    assert [(debris.slot, debris.nodes) for debris in d.debris] == [("u1", {"n-2"})]
    assert reservation_id(ID, 1, "u1") in d.taken
    assert d.due_at == at(20).now + timedelta(seconds=60)
