"""Starting and stopping machines: what is asked of whom, what is refused, and what users see until it is answered."""

import json
from collections.abc import Sequence

import pytest

from indaco_common.contracts.gateway import DeploymentActionRequested, PowerAction
from indaco_common.errors import Invalid
from indaco_gateway.model import acting
from indaco_gateway.model.conflicts import WrongState
from indaco_gateway.model.labels import Locked
from indaco_gateway.model.operation import MAX_DETAIL, Operation, Part, Status
from indaco_gateway.model.resources import Resource, resources

from .builders import (
    ID,
    MINUTE,
    NEEDS,
    NOW,
    accepted,
    action_failed,
    degraded,
    hear,
    node_removed,
    node_resumed,
    node_started,
    node_stopped,
    outputs_changed,
    running,
    started,
)


def runs() -> Operation:
    return hear(accepted(), started(), node_started(), node_started(node="server-1"), running())


def act(operation: Operation, action: PowerAction, *names: str) -> bool:
    acting.require_actable(operation)
    return acting.act(operation, action, acting.chosen(operation, action, names or None), NOW + 20 * MINUTE)


def emitted(operation: Operation) -> list[DeploymentActionRequested]:
    found = [event for event in operation.emitted if isinstance(event, DeploymentActionRequested)]
    operation.emitted.clear()
    return found


def states(operation: Operation) -> dict[str, str]:
    return {machine.node: machine.state for machine in resources(operation)}


def one(operation: Operation, node: str = "server-0") -> Resource:
    return next(machine for machine in resources(operation) if machine.node == node)


# ── what is asked


def test_a_machine_is_stopping_from_when_that_is_asked_for_until_it_is_answered() -> None:
    operation = runs()
    assert act(operation, "stop", "server-0")
    assert emitted(operation) == [
        DeploymentActionRequested(deployment_id=ID, number=1, action="stop", nodes=("server-0",))
    ]
    assert states(operation) == {"server-0": "STOPPING", "server-1": "STARTED"}
    assert (operation.status, operation.updated_at) == (Status.CREATE_COMPLETE, NOW + 20 * MINUTE)
    hear(operation, node_stopped(1, 1), first=10)
    assert states(operation) == {"server-0": "STOPPED", "server-1": "STARTED"}
    assert operation.status is Status.CREATE_COMPLETE


def test_a_machine_comes_back_with_another_address_and_the_outputs_with_it() -> None:
    operation = runs()
    act(operation, "stop", "server-0")
    hear(operation, node_stopped(1, 1), first=10)
    assert act(operation, "start", "server-0")
    assert [event.number for event in emitted(operation)] == [1, 2]
    assert states(operation)["server-0"] == "STARTING"
    hear(operation, node_resumed(2, 2), outputs_changed(ip="192.0.2.77"), first=11)
    assert (one(operation).state, one(operation).public_address) == ("STARTED", "192.0.2.77")
    assert operation.outputs == {"ip": "192.0.2.77"}
    hear(operation, running(slots=("main",)), first=4)  # an old word, again
    assert operation.outputs == {"ip": "192.0.2.77"}


def test_all_machines_that_can_be_are_asked_at_once_and_those_that_are_so_are_not() -> None:
    operation = runs()
    act(operation, "stop", "server-1")
    emitted(operation)
    assert act(operation, "stop")
    assert [event.nodes for event in emitted(operation)] == [("server-0",)]
    before = len(operation.timeline)
    assert not act(operation, "stop")
    assert (emitted(operation), operation.actions, len(operation.timeline)) == ([], 2, before)


def test_an_id_is_as_good_as_a_name_and_what_is_named_twice_is_asked_once() -> None:
    operation = runs()
    assert act(operation, "stop", "server-0", one(operation).uuid, "server-0")
    [event] = emitted(operation)
    assert event.nodes == ("server-0",)


def test_a_stop_may_be_taken_back_before_it_is_answered() -> None:
    operation = runs()
    act(operation, "stop", "server-0")
    assert act(operation, "start", "server-0")
    assert states(operation)["server-0"] == "STARTING"
    hear(operation, node_stopped(1, 1), first=10)
    assert states(operation)["server-0"] == "STARTING"
    hear(operation, node_resumed(2, 2), first=11)
    assert states(operation)["server-0"] == "STARTED"


def test_more_machines_than_a_message_carries_are_asked_by_several() -> None:
    operation = accepted(nodes={"server": {"count": 450, "needs": NEEDS}})
    hear(operation, started(), *(node_started(node=f"server-{n}") for n in range(450)), running())
    assert act(operation, "stop")
    events = emitted(operation)
    assert [(event.number, len(event.nodes)) for event in events] == [(1, 200), (2, 200), (3, 50)]
    assert len({node for event in events for node in event.nodes}) == 450
    assert set(states(operation).values()) == {"STOPPING"}
    assert operation.timeline[-1].title == "Stop requested"
    assert len(operation.timeline[-1].detail) == MAX_DETAIL


# ── what is refused


@pytest.mark.parametrize("status", [status for status in Status if status not in acting.UPDATABLE])
def test_an_action_waits_for_what_is_under_way(status: Status) -> None:
    operation = runs()
    operation.status = status
    with pytest.raises(WrongState, match=f"Cannot perform actions on deployment in {status} state"):
        act(operation, "stop")


def test_a_locked_deployment_stays_as_it_is() -> None:
    operation = runs()
    operation.lock("beam time", NOW)
    with pytest.raises(Locked, match="beam time"):
        act(operation, "stop")


def test_each_name_that_is_no_machine_is_told_with_those_that_are() -> None:
    operation = accepted(nodes={"server": {"count": 1, "needs": NEEDS}, "app": {"kind": "container", "needs": NEEDS}})
    operation.parts = {"app": Part(kind="container")}
    operation.types["app"] = "a.container"
    hear(operation, started(), node_started(), node_started(node="app-0"), running())
    with pytest.raises(Invalid) as caught:
        act(operation, "stop", "server-0", "server-9", "app-0")
    assert [(error.pointer, error.detail) for error in caught.value.errors] == [
        ("/resources/1", "'server-9' is not there; there are: server-0"),
        ("/resources/2", "Cannot stop a resource of the type a.container; it is no machine"),
    ]
    assert operation.emitted == []
    act(operation, "stop")
    assert [event.nodes for event in emitted(operation)] == [("server-0",)]


@pytest.mark.parametrize("action", ["start", "stop"])
def test_a_machine_that_is_gone_is_not_asked(action: PowerAction) -> None:
    operation = hear(runs(), degraded("server-1"), node_removed(node="server-1"), first=10)
    with pytest.raises(WrongState, match=f"Cannot {action} server-1: it is DELETED"):
        act(operation, action, "server-0", "server-1")
    assert operation.emitted == []


@pytest.mark.parametrize(
    ("said", "action", "told"),
    [
        ((), "start", "Cannot start a resource in STARTED state; it must be STOPPED"),
        ((node_stopped(1),), "stop", "Cannot stop a resource in STOPPED state; it must be STARTED"),
    ],
)
def test_indigos_action_must_have_something_to_change(said: Sequence, action: PowerAction, told: str) -> None:
    operation = hear(runs(), *said, first=10)
    with pytest.raises(Invalid, match=told):
        acting.require_fitting(one(operation), action)


# ── what is seen


def test_an_action_that_fails_leaves_the_machine_as_it_was_and_says_why() -> None:
    operation = runs()
    act(operation, "stop", "server-0")
    hear(operation, action_failed(1), first=10)
    assert (one(operation).state, one(operation).failure) == ("STARTED", "it does not stop")
    assert (operation.timeline[-1].title, operation.timeline[-1].detail) == (
        "server-0 could not be stopped",
        "it does not stop",
    )
    act(operation, "stop", "server-0")
    assert (one(operation).state, one(operation).failure) == ("STOPPING", "")
    hear(operation, node_stopped(1, 2), first=11)
    assert (one(operation).state, one(operation).failure) == ("STOPPED", "")


def test_the_failure_of_an_action_that_another_has_followed_is_not_held_against_that_one() -> None:
    operation = runs()
    act(operation, "stop", "server-0")
    act(operation, "start", "server-0")
    hear(operation, action_failed(1), first=10)
    assert (one(operation).state, one(operation).failure) == ("STARTING", "")
    assert operation.timeline[-1].title == "server-0: action 1 failed"


def test_a_machine_that_stops_by_itself_is_seen_to_stand_and_can_be_started() -> None:
    operation = hear(runs(), node_stopped(1), first=10)
    assert (one(operation).state, one(operation).updated_at) == ("STOPPED", NOW + 5 * MINUTE)
    assert act(operation, "start", "server-0")
    hear(operation, node_resumed(2, 1), first=11)
    assert one(operation).state == "STARTED"


def test_what_was_given_up_and_came_about_by_itself_is_no_failure_any_more() -> None:
    operation = runs()
    act(operation, "stop", "server-0")
    hear(operation, action_failed(1), node_stopped(1, 1), first=10)
    assert (one(operation).state, one(operation).failure) == ("STOPPED", "")


def test_the_timeline_reads_as_what_happened() -> None:
    operation = runs()
    act(operation, "stop")
    hear(operation, node_stopped(1, 1), node_stopped(1, 1, node="server-1"), first=10)
    act(operation, "start", "server-0")
    hear(operation, node_resumed(2, 2), outputs_changed(ip="192.0.2.77"), action_failed(3, "no"), first=12)
    told = [(step.title, step.detail) for step in operation.timeline[5:]]
    assert told == [
        ("Stop requested", "server-0, server-1"),
        ("server-0 stopped", ""),
        ("server-1 stopped", ""),
        ("Start requested", "server-0"),
        ("server-0 runs again", "192.0.2.77"),
        ("Outputs changed", "ip"),
        ("server-0: action 3 failed", "no"),
    ]


def test_a_deployment_that_was_stored_before_there_were_actions_is_still_read() -> None:
    stored = json.loads(runs().model_dump_json())
    del stored["power"], stored["actions"]
    operation = Operation.model_validate(stored)
    assert states(operation) == {"server-0": "STARTED", "server-1": "STARTED"}
    assert act(operation, "stop")
