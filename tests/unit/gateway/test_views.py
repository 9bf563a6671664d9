"""What events change in what users see; above all, that their order and number change nothing."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from indaco_common.contracts import orchestrator
from indaco_common.messages import Event
from indaco_gateway.model import views
from indaco_gateway.model.operation import MAX_DETAIL, Operation, Outcome, Status, Task
from indaco_gateway.model.resources import resources

from .builders import (
    ID,
    MINUTE,
    NOW,
    ORCHESTRATOR,
    SLA,
    accepted,
    action_failed,
    attempt_failed,
    degraded,
    delete_failed,
    deleted,
    failed,
    failure,
    hear,
    node_removed,
    node_resumed,
    node_started,
    node_stopped,
    outputs_changed,
    place,
    reason,
    rejected,
    reserved,
    running,
    started,
)


@dataclass(frozen=True)
class Said:
    """One event as it was said: by whom, as which, when."""

    event: Event
    source: str
    sequence: str
    minute: int

    def to(self, operation: Operation) -> None:
        views.apply(
            operation, self.event, source=self.source, sequence=self.sequence, at=NOW + self.minute * MINUTE
        )  # fmt: skip


def said(*events: Event) -> tuple[Said, ...]:
    """Number *events* as their sources would have."""
    counts = {SLA: 0, ORCHESTRATOR: 0}
    story = []
    for minute, event in enumerate(events, 1):
        source = SLA if event.TYPE.startswith("sla.") else ORCHESTRATOR
        counts[source] += 1
        story.append(Said(event, source, f"{counts[source]:012d}.00", minute))
    return tuple(story)


def view(operation: Operation) -> dict[str, object]:
    """Return all that is shown but the timeline, which tells things as they were heard."""
    shown = operation.model_dump(exclude={"timeline", "steps"})
    return shown | {"resources": resources(operation)}


FAIL_OVER = said(
    reserved(refused=(reason(),)),
    started(),
    node_started(),
    node_stopped(),
    attempt_failed(),
    reserved(2, "SITE-C", refused=(reason(), reason("SITE-A"))),
    node_removed(),
    orchestrator.AttemptCleaned(deployment_id=ID, attempt=1),
    started(2, "SITE-C"),
    node_started(2, "server-0", "SITE-C"),
    node_started(2, "server-1", "SITE-C"),
    running(2, outputs={"ip": "192.0.2.8"}),
)
NO_PLACE = said(
    reserved(),
    started(),
    node_started(),
    node_started(node="server-1"),
    attempt_failed(),
    rejected(reason(), reason("SITE-A", "FAILED"), attempt=2),
    failed(),
    node_removed(),
    node_removed(node="server-1"),
    orchestrator.AttemptCleaned(deployment_id=ID, attempt=1),
)
GROWN = ("server-0", "server-1", "server-2")
UPDATES = said(
    reserved(),
    started(),
    node_started(),
    node_started(node="server-1"),
    running(),
    orchestrator.DeploymentUpdating(deployment_id=ID, update=1),
    reserved(slot="u1"),
    node_started(node="server-2"),
    running(slots=("u1",), outputs={"ip": "192.0.2.9"}, nodes=GROWN),
    running(slots=(), nodes=GROWN),
    degraded("server-1"),
    node_removed(node="server-1"),
    orchestrator.DeploymentUpdating(deployment_id=ID, update=2),
    rejected(attempt=1, slot="u2"),
    orchestrator.DeploymentUpdateFailed(deployment_id=ID, update=2, reason=failure("No cloud provider meets it")),
)
DELETION = said(
    reserved(),
    started(),
    node_started(),
    running(),
    orchestrator.DeploymentDeleting(deployment_id=ID),
    delete_failed(),
    node_removed(),
    orchestrator.AttemptCleaned(deployment_id=ID, attempt=1),
    deleted("SITE-A: vm"),
)
POWER = said(
    reserved(),
    started(),
    node_started(),
    node_started(node="server-1"),
    running(),
    node_stopped(1, 1),
    node_stopped(1, 1, node="server-1"),
    node_stopped(1, 2, minute=7),
    node_resumed(2, 3),
    node_resumed(2, 3, node="server-1", address="192.0.2.78"),
    outputs_changed(ip="192.0.2.77"),
    node_stopped(2, 3, minute=8),
    node_resumed(3, 4, address="192.0.2.79"),
    action_failed(5, "it does not stop"),
    outputs_changed(ip="192.0.2.79"),
    node_stopped(3, 5, minute=9),
    node_stopped(3, 6, minute=10),
    action_failed(7, "it does not start"),
    action_failed(8, "it still does not"),
    node_removed(node="server-1"),
)
STORIES = [FAIL_OVER, NO_PLACE, UPDATES, DELETION, POWER]


def told(story: Sequence[Said], *, deleting: bool = False) -> Operation:
    operation = accepted()
    if deleting:
        operation.delete(force=False, now=NOW)
    for one in story:
        one.to(operation)
    return operation


@pytest.mark.parametrize("story", STORIES, ids=["fail-over", "no place", "updates", "deletion", "power"])
@given(choice=st.data())
@settings(max_examples=60, deadline=None)
def test_whatever_the_order_and_however_often_the_view_is_the_same_in_the_end(
    story: tuple[Said, ...], choice: st.DataObject
) -> None:
    heard = choice.draw(st.permutations(story))
    again = choice.draw(st.lists(st.sampled_from(story), max_size=6))
    mixed = choice.draw(st.permutations([*heard, *again]))
    deleting = story is DELETION
    assert view(told(mixed, deleting=deleting)) == view(told(story, deleting=deleting))


@given(st.permutations(FAIL_OVER), st.lists(st.sampled_from(FAIL_OVER), max_size=6))
@example(list(FAIL_OVER), list(FAIL_OVER))
@settings(max_examples=25, deadline=None)
def test_the_timeline_has_each_event_once_and_counts_without_gaps(heard: list[Said], again: list[Said]) -> None:
    steps = told([*heard, *again]).timeline
    assert [step.number for step in steps] == list(range(1, len(FAIL_OVER) + 2))
    assert len({step.event for step in steps}) == len(FAIL_OVER) + 1


@given(st.permutations(DELETION))
@settings(max_examples=25, deadline=None)
def test_whoever_asked_for_the_deletion_sees_no_way_back_from_it(heard: list[Said]) -> None:
    operation = accepted()
    operation.delete(force=False, now=NOW)
    seen = []
    for one in heard:
        one.to(operation)
        seen.append(operation.status)
    assert set(seen) <= {Status.DELETE_IN_PROGRESS, Status.DELETE_FAILED, Status.DELETE_COMPLETE}
    first = seen.index(Status.DELETE_COMPLETE)
    assert set(seen[first:]) == {Status.DELETE_COMPLETE}


def states(operation: Operation) -> dict[str, str]:
    return {machine.node: machine.state for machine in resources(operation)}


def test_the_way_to_a_running_deployment_shows_in_status_task_and_machines() -> None:
    operation = accepted()
    assert (operation.task, states(operation)) == (Task.BROKERING, {"server-0": "INITIAL", "server-1": "INITIAL"})
    hear(operation, reserved(), source=SLA)
    assert (operation.task, operation.provider) == (Task.DEPLOYER, "SITE-A")
    assert states(operation) == {"server-0": "CREATING", "server-1": "CREATING"}
    hear(operation, started(), node_started())
    assert states(operation) == {"server-0": "STARTED", "server-1": "CREATING"}
    hear(operation, node_started(node="server-1"), running(secret_outputs=("key",)), first=3)
    assert (operation.status, operation.task) == (Status.CREATE_COMPLETE, Task.NONE)
    assert (operation.outputs, operation.secret_outputs) == ({"ip": "192.0.2.7"}, ("key",))
    assert set(states(operation).values()) == {"STARTED"}
    assert [(a.provider, a.region, a.outcome) for a in operation.attempts] == [("SITE-A", "one", Outcome.RUNNING)]


def test_between_two_places_it_is_brokered_again_and_the_machines_keep_their_ids() -> None:
    operation = hear(accepted(), started(), node_started())
    before = {machine.node: machine.uuid for machine in resources(operation)}
    hear(operation, attempt_failed(), first=3)
    assert (operation.status, operation.task) == (Status.CREATE_IN_PROGRESS, Task.BROKERING)
    assert states(operation) == {"server-0": "DELETING", "server-1": "INITIAL"}
    hear(operation, reserved(2, "SITE-C"), source=SLA)
    assert (operation.task, operation.provider) == (Task.DEPLOYER, "SITE-C")
    assert states(operation) == {"server-0": "CREATING", "server-1": "CREATING"}
    hear(operation, node_started(2, "server-0", "SITE-C"), first=4)
    assert {machine.node: machine.uuid for machine in resources(operation)} == before
    assert next(m for m in resources(operation) if m.node == "server-0").physical_id == "vm-2-server-0"


def test_a_failure_tells_of_every_try_and_of_every_refusal() -> None:
    operation = hear(accepted(), rejected(reason(), reason("SITE-A", "FAILED", "attempt 1: no boot")), source=SLA)
    hear(operation, started(), attempt_failed(), failed("Retries on cloud providers exhausted"))
    assert operation.status is Status.CREATE_FAILED
    assert operation.reason.splitlines() == [
        "Retries on cloud providers exhausted",
        "attempt 1 at SITE-A: no boot",
        "SITE-B two: QUOTA: 4 vCPU asked, 2 free",
    ]
    assert set(states(operation).values()) == {"ERROR"}


def test_machines_that_went_without_being_asked_for_are_named() -> None:
    operation = hear(accepted(), started(), node_started(), node_started(node="server-1"), running())
    hear(operation, degraded("server-1"), node_removed(node="server-1"), first=5)
    assert (operation.status, operation.reason) == (Status.CREATE_COMPLETE, "lost at the provider: server-1")
    assert states(operation) == {"server-0": "STARTED", "server-1": "DELETED"}


def test_an_event_that_says_nothing_of_the_status_does_not_keep_an_older_one_from_setting_it() -> None:
    cleaned = Said(orchestrator.AttemptCleaned(deployment_id=ID, attempt=1), ORCHESTRATOR, "000000000009.00", 9)
    operation = told([cleaned, Said(running(2), ORCHESTRATOR, "000000000008.00", 8)])
    assert operation.status is Status.CREATE_COMPLETE


def test_an_update_that_fails_leaves_the_outputs_and_says_why() -> None:
    operation = told(UPDATES)
    assert operation.status is Status.UPDATE_FAILED
    assert operation.reason.startswith("No cloud provider meets it")
    assert operation.outputs == {"ip": "192.0.2.9"}
    assert operation.ranked != ()
    assert states(operation)["server-2"] == "STARTED"
    assert operation.runs == GROWN


def test_an_update_is_under_way_from_when_it_was_asked_for_until_something_newer_is_heard_of_its_life() -> None:
    operation = told(UPDATES[:5])
    operation.updates, operation.awaited = 1, operation.seen["life"]
    Said(node_started(), ORCHESTRATOR, "000000000001.00", 60).to(operation)  # again: says nothing of its life
    assert (operation.status, operation.task) == (Status.UPDATE_IN_PROGRESS, Task.DEPLOYER)
    UPDATES[4].to(operation)  # the old one, again
    assert operation.status is Status.UPDATE_IN_PROGRESS
    for later in UPDATES[5:9]:
        later.to(operation)
    assert operation.status is Status.UPDATE_COMPLETE


def test_why_there_is_no_room_to_grow_is_told_and_the_choice_of_the_place_stays() -> None:
    operation = told(UPDATES[:5])
    operation.updates = 2
    event = orchestrator.DeploymentUpdateFailed(deployment_id=ID, update=2, reason=failure("No place"))
    hear(operation, rejected(reason(), slot="u1"), rejected(reason("SITE-C"), slot="u2"), source=SLA, first=50)
    hear(operation, event, first=50)
    assert operation.reason.splitlines() == ["No place", "SITE-C two: QUOTA: 4 vCPU asked, 2 free"]
    assert operation.ranked != ()


def test_a_machine_that_an_update_left_over_is_shown_as_going() -> None:
    operation = told(UPDATES[:5])
    hear(operation, node_started(node="server-2"), first=50)
    assert states(operation)["server-2"] == "STARTED"
    hear(operation, orchestrator.DeploymentUpdateFailed(deployment_id=ID, update=1, reason=failure()), first=51)
    assert states(operation) == {"server-0": "STARTED", "server-1": "STARTED", "server-2": "DELETING"}


def test_a_deletion_that_resists_is_told_and_ends_in_the_list_of_what_was_given_up() -> None:
    operation = accepted()
    operation.delete(force=True, now=NOW)
    hear(operation, running(), delete_failed())
    assert (operation.status, operation.reason) == (Status.DELETE_FAILED, "SITE-A has not removed it yet")
    hear(operation, deleted("SITE-A: vm-1"), first=3)
    assert (operation.status, operation.reason) == (Status.DELETE_COMPLETE, "given up: SITE-A: vm-1")
    assert (operation.outputs, operation.task) == ({}, Task.NONE)
    assert set(states(operation).values()) == {"DELETED"}


def test_what_providers_say_is_bounded_and_so_is_the_state_of_the_largest_deployment() -> None:
    long = "x" * 100_000
    operation = accepted(nodes={"server": {"count": 200, "needs": {"cpu_milli": 1}}})
    hear(operation, rejected(*(reason(detail=long) for _ in range(500)), attempt=255), source=SLA)
    hear(operation, *(event for n in range(1, 256) for event in (started(n), attempt_failed(n, detail=long))))
    hear(operation, failed(long), first=600)
    assert len(operation.refused) == views.MAX_REASONS
    assert max(len(attempt.reason) for attempt in operation.attempts) == MAX_DETAIL
    assert len(operation.reason) == views.MAX_REASON
    assert len(operation.model_dump_json()) < 1_000_000


@pytest.mark.parametrize("simulated", [False, True])
def test_a_simulated_place_is_called_so(*, simulated: bool) -> None:
    event = orchestrator.AttemptStarted(deployment_id=ID, attempt=1, place=place(simulated=simulated))
    title = hear(accepted(), event).timeline[-1].title
    assert title == "Attempt 1 started at SITE-A" + (" (simulated)" if simulated else "")
