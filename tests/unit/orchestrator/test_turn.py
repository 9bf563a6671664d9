"""The deployment's timer: what a claim decides, and what findings mean to the state as it is by then."""

from datetime import timedelta

import pytest

from indaco_common.contracts import orchestrator
from indaco_common.contracts.values import MAIN, Failure
from indaco_orchestrator.model import turn
from indaco_orchestrator.model.deployment import Deployment
from indaco_orchestrator.model.values import Findings, Sample, Started, Status

from .deployments import (
    at,
    awaiting_credential,
    awaiting_place,
    creating,
    deletion,
    issued,
    names,
    running,
    said,
    take_turn,
    up,
    updating,
)  # fmt: skip

FULL = Failure(code="no-capacity", detail="full")


# ── claims


def test_a_claim_says_that_something_may_have_been_made_and_renews_the_hold() -> None:
    d = creating()
    assert turn.claim(d, at(1))
    assert d.create_sent
    assert d.claimed == d.due_at == at(61).now
    assert names(d) == []  # not before a third of the hold's life
    for s in (300, 600):
        d.reached_at = at(s).now
        turn.claim(d, at(s))
        assert names(d) == ["attempt.alive"]
        turn.claim(d, at(s + 62))
        assert names(d) == []


def test_a_claim_of_what_waits_for_an_answer_has_nothing_to_call() -> None:
    d = awaiting_place()
    assert not turn.claim(d, at(10))
    assert d.claimed is None
    assert d.due_at == at(600).now


@pytest.mark.parametrize(
    ("build", "told", "status"),
    [
        (awaiting_place, ["deployment.failed"], Status.FAILED),
        (awaiting_credential, ["credential.revoke", "attempt.failed"], Status.AWAITING_PLACE),
    ],
)
def test_an_answer_that_does_not_come_is_given_up(build: type, told: list[str], status: Status) -> None:
    d: Deployment = build()
    turn.claim(d, at(599))
    assert said(d) == []
    turn.claim(d, at(600))
    assert names(d) == told
    assert d.status is status


def test_a_deadline_waits_for_what_may_still_lie_in_the_queue_and_does_not_spin() -> None:
    d = awaiting_place()
    turn.claim(d, at(700, heard=at(500).now))
    assert said(d) == []
    assert d.due_at == at(702).now  # a poll later, not at once
    turn.claim(d, at(702, heard=at(600).now))
    assert names(d) == ["deployment.failed"]
    assert d.due_at is None


def test_an_attempt_that_takes_too_long_is_given_up_and_cleaned() -> None:
    d = creating(attempt_timeout_s=100)
    turn.claim(d, at(1))
    said(d)
    d.reached_at = at(99).now
    assert turn.claim(d, at(100))
    (failed,) = said(d)
    assert isinstance(failed, orchestrator.AttemptFailed)
    assert (failed.clean, failed.reason.code) == (False, "provider-timeout")
    assert [debris.attempt for debris in d.debris] == [1]


def test_a_site_that_is_silent_while_it_should_build_is_given_up_sooner() -> None:
    d = creating()
    turn.claim(d, at(1))
    turn.claim(d, at(300))
    assert d.failure is not None
    assert d.failure.code == "unreachable"


@pytest.mark.parametrize("build", [awaiting_place, awaiting_credential, creating])
def test_an_owner_whose_patience_has_ended_gets_a_failed_deployment(build: type) -> None:
    d: Deployment = build(timeout_s=120)
    turn.claim(d, at(120))
    assert d.status is Status.FAILED
    assert names(d)[-1] == "deployment.failed"
    assert d.failure is not None
    assert d.failure.code == "timeout"


def test_patience_does_not_end_what_runs() -> None:
    d = running(timeout_s=120)
    turn.claim(d, at(500))
    assert d.status is Status.RUNNING


def test_debris_that_resists_a_deletion_is_reported_once_and_tried_on() -> None:
    d = running()
    d.deletion_requested(deletion(), at(100))
    said(d)
    turn.claim(d, at(699))
    assert said(d) == []
    assert turn.claim(d, at(700))
    assert names(d) == ["deployment.delete-failed"]
    assert turn.claim(d, at(900))
    assert said(d) == []


def test_force_names_what_it_gives_up() -> None:
    d = running()
    d.deletion_requested(deletion(force=True), at(100))
    turn.claim(d, at(129))
    assert d.status is Status.CLEANING
    assert not turn.claim(d, at(130))
    deleted = said(d)[-1]
    assert isinstance(deleted, orchestrator.DeploymentDeleted)
    assert deleted.debris == ("recas: d.1.n-0", "recas: d.1.n-1")
    assert (d.nodes, d.taken, d.serial) == ([], {}, {})


# ── findings: the turn itself


def test_a_turn_that_outlived_its_claim_tells_nothing() -> None:
    """Protocol seed 1741: it saw a machine that was lost then, and that the turn after it had made anew."""
    d = creating(count=1)
    turn.claim(d, at(1))
    slow = Findings(1, "", d.claimed, started={"n-0": Started("lost")})
    turn.claim(d, at(70))
    turn.apply(d, slow, at(71))
    assert d.claimed == d.due_at == at(130).now
    assert d.nodes == []
    turn.apply(d, Findings(1, "", d.claimed, started={"n-0": Started("new")}), at(72))
    assert [node.resource_id for node in d.nodes] == ["new"]


def test_the_next_look_comes_soon_at_first_and_later_ever_more_seldom() -> None:
    d = creating()
    pauses = []
    for seconds in (1, 50, 100, 250):
        take_turn(d, seconds, reached=True)
        assert d.due_at is not None
        pauses.append((d.due_at - at(seconds + 1).now).total_seconds())
    assert pauses == [2, 5.1, 10.1, 15]


def test_a_state_that_is_entered_while_a_turn_is_under_way_waits_for_its_end() -> None:
    d = creating()
    turn.claim(d, at(1))
    d.deletion_requested(deletion(), at(5))
    assert d.due_at == at(61).now


def test_a_dead_credential_is_asked_for_once() -> None:
    d = running()
    take_turn(d, 50, rejected={1})
    take_turn(d, 90, rejected={1})
    assert names(d) == ["credential.issue"]
    assert d.serial == {1: 1}


def test_an_attempt_that_is_over_needs_no_credential() -> None:
    d = awaiting_credential()
    turn.apply(d, Findings(1, "", None, rejected={9}), at(1))
    assert said(d) == []


# ── findings: progress


def test_the_deployment_runs_when_all_its_machines_do() -> None:
    d = creating()
    take_turn(d, 1, started=up("n-0"))
    assert (d.status, names(d)) == (Status.CREATING, ["node.started"])
    take_turn(d, 5, started=up("n-0", "n-1"))
    started, ran = said(d)
    assert isinstance(started, orchestrator.NodeStarted)
    assert started.node == "n-1"
    assert isinstance(ran, orchestrator.DeploymentRunning)
    assert (ran.slots, ran.nodes) == ((MAIN,), ("n-0", "n-1"))
    assert d.due_at == at(36).now


def test_a_start_is_never_in_the_future() -> None:
    d = creating()
    take_turn(d, 1, started={"n-0": Started("vm", started_at=at(100).now)})
    assert d.nodes[0].started_at == at(2).now


def test_a_place_that_cannot_do_it_fails_the_attempt() -> None:
    d = creating()
    take_turn(d, 1, started=up("n-0"), failure=FULL)
    assert d.status is Status.AWAITING_PLACE
    assert names(d) == ["node.started", "attempt.failed"]
    assert d.nodes[0].name == "n-0"  # its end is told when it is cleaned


def test_a_place_that_cannot_grow_fails_the_update_alone() -> None:
    d = updating()
    take_turn(d, 20, failure=FULL)
    assert d.status is Status.RUNNING
    assert [debris.slot for debris in d.debris] == ["u1"]


def test_an_update_is_confirmed_under_its_slot() -> None:
    d = updating()
    take_turn(d, 20, started=up("n-2"))
    ran = said(d)[-1]
    assert isinstance(ran, orchestrator.DeploymentRunning)
    assert ran.slots == ("u1",)
    assert (d.spec, d.growth, d.slot) == ({"n-0", "n-1", "n-2"}, set(), "")


def test_what_was_seen_for_another_slot_starts_nothing() -> None:
    d = running()
    turn.claim(d, at(10))
    before = Findings(1, "", d.claimed, started=up("n-0"))
    d.status, d.slot = Status.UPDATING, "u9"
    turn.apply(d, before, at(11))
    assert said(d) == []


def test_what_was_seen_of_another_attempt_is_nothing() -> None:
    d = creating()
    turn.claim(d, at(1))
    said(d)
    turn.apply(d, Findings(2, "", d.claimed, started=up("n-0", "n-1")), at(2))
    assert (d.status, said(d)) == (Status.CREATING, [])


# ── findings: losses


def test_a_machine_lost_while_creating_fails_the_attempt() -> None:
    d = creating()
    take_turn(d, 1, started=up("n-0"))
    said(d)
    take_turn(d, 10, gone={"n-0"})
    assert names(d) == ["node.removed", "attempt.failed"]
    assert d.status is Status.AWAITING_PLACE


def test_a_machine_lost_while_running_degrades_and_is_not_made_again() -> None:
    d = running()
    take_turn(d, 50, gone={"n-0"})
    removed, degraded = said(d)
    assert isinstance(removed, orchestrator.NodeRemoved)
    assert removed.stopped_at == at(51).now
    assert isinstance(degraded, orchestrator.DeploymentDegraded)
    assert (degraded.nodes, d.spec, d.status) == (("n-0",), {"n-1"}, Status.RUNNING)
    take_turn(d, 90, gone={"n-0"})
    assert said(d) == []


def test_a_deployment_that_lost_everything_fails_and_is_cleaned() -> None:
    d = running()
    take_turn(d, 50, gone={"n-0", "n-1"})
    assert names(d) == ["node.removed", "node.removed", "deployment.failed"]
    assert [debris.attempt for debris in d.debris] == [1]
    assert d.due_at is not None


def test_growth_that_is_lost_fails_the_update() -> None:
    d = updating(count=4)
    take_turn(d, 20, started=up("n-2"))
    said(d)
    take_turn(d, 30, gone={"n-2"})
    assert names(d) == ["node.removed", "deployment.degraded", "deployment.update-failed"]
    assert d.debris[0].nodes == {"n-2", "n-3"}


def test_an_old_machine_that_is_lost_does_not_stop_an_update() -> None:
    d = updating()
    take_turn(d, 20, gone={"n-0"})
    assert (d.status, d.spec) == (Status.UPDATING, {"n-1"})


# ── findings: cleaning


def test_cleaning_ends_after_two_looks_in_a_row_that_find_nothing() -> None:
    d = running()
    d.deletion_requested(deletion(), at(100))
    said(d)
    for seconds, is_clean in ((200, True), (210, False), (220, True)):
        take_turn(d, seconds, swept={(1, MAIN): is_clean})
        assert (d.status, said(d)) == (Status.CLEANING, [])
    take_turn(d, 230, swept={(1, MAIN): True})
    assert names(d) == [
        "node.removed", "node.removed", "credential.revoke", "attempt.cleaned", "deployment.deleted",
    ]  # fmt: skip
    assert d.due_at is None


def test_a_slot_is_cleaned_by_its_name_and_keeps_the_attempt() -> None:
    d = updating()
    take_turn(d, 20, failure=FULL)
    said(d)
    for seconds in (100, 110):
        take_turn(d, seconds, swept={(1, "u1"): True})
    (cleaned,) = said(d)
    assert isinstance(cleaned, orchestrator.AttemptCleaned)
    assert cleaned.slot == "u1"
    assert [use.slot for use in d.taken.values()] == [MAIN]
    assert d.serial == {1: 0}


def test_debris_is_cleaned_while_the_next_attempt_goes_on() -> None:
    d = creating()
    take_turn(d, 1, failure=FULL)
    assert d.due_at == at(2).now
    said(d)
    for seconds in (100, 110):
        take_turn(d, seconds, swept={(1, MAIN): True})
    assert names(d) == ["credential.revoke", "attempt.cleaned"]
    assert d.status is Status.AWAITING_PLACE
    assert not turn.claim(d, at(120))
    assert d.due_at == d.deadline


# ── samples and outputs


def test_samples_are_wanted_and_told_now_and_then() -> None:
    d = running()
    assert turn.wants_samples(d, at(10))
    take_turn(d, 10, samples={"n-0": Sample(1.5, 2, 3), "gone": Sample(1, 1, 1)})
    (sample,) = said(d)
    assert isinstance(sample, orchestrator.UsageSampled)
    assert (sample.node, sample.cpu_s, sample.sampled_at) == ("n-0", 1.5, at(11).now)
    assert not turn.wants_samples(d, at(11))
    assert turn.wants_samples(d, at(311))


def test_outputs_are_due_when_these_findings_make_it_run() -> None:
    d = creating()
    assert not turn.outputs_due(d, Findings(1, "", None, started=up("n-0")))
    assert turn.outputs_due(d, Findings(1, "", None, started=up("n-0", "n-1")))
    assert not turn.outputs_due(d, Findings(1, "", None, started=up("n-0", "n-1"), failure=FULL))
    assert not turn.outputs_due(running(), Findings(1, "", None, started=up("n-0", "n-1")))


def test_a_running_deployment_goes_on_being_watched() -> None:
    d = running()
    d.authorised(issued(), at(5))
    take_turn(d, 40)
    assert d.due_at == at(41).now + timedelta(seconds=30)
