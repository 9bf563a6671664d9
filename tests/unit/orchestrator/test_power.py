"""Machines that are started and stopped: what is wished, what a turn has shown, and what is told of it; in any order, any number of times."""

import pytest

from indaco_common.contracts import gateway, orchestrator
from indaco_common.contracts.values import Failure
from indaco_common.messages import Message
from indaco_orchestrator.model import power, turn
from indaco_orchestrator.model.deployment import Deployment
from indaco_orchestrator.model.values import Findings, Started, Status, Wish

from .deployments import (
    ID,
    at,
    awaiting_place,
    creating,
    deletion,
    names,
    reserved,
    running,
    said,
    take_turn,
    up,
    updated,
    updating,
)  # fmt: skip

FULL = Failure(code="no-capacity", detail="full")


def asked(action: gateway.PowerAction, number: int = 1, *nodes: str) -> gateway.DeploymentActionRequested:
    return gateway.DeploymentActionRequested(deployment_id=ID, number=number, action=action, nodes=nodes or ("n-0",))


def ask(d: Deployment, action: gateway.PowerAction, number: int = 1, *nodes: str, seconds: float = 10) -> None:
    power.request(d, asked(action, number, *nodes), at(seconds))


def elsewhere(*names: str) -> dict[str, Started]:
    return {name: Started(f"vm-{name}", ("198.51.100.7",), ports={22: 4711}) for name in names}


def brief(d: Deployment) -> list[tuple[str, str, int, int]]:
    """Return what was told of machines: verb, machine, run (0: none), number."""
    told = []
    for message in said(d):
        assert isinstance(message, orchestrator.NodeStopped | orchestrator.NodeResumed | orchestrator.NodeActionFailed)
        verb = type(message).__name__.removeprefix("Node").lower()
        told.append((verb, message.node, getattr(message, "run", 0), message.number))
    return told


def stopped() -> Deployment:
    """As :func:`running`, with n-0 stopped by the action 1."""
    d = running()
    ask(d, "stop")
    take_turn(d, 10, stopped={"n-0"}, started=up("n-1"))
    said(d)
    return d


# ── what is wished


def test_a_wish_is_remembered_and_looked_after_at_once() -> None:
    d = running()
    ask(d, "stop", 3)
    assert d.nodes[0].wish == Wish(action="stop", number=3, since=at(10).now)
    assert d.nodes[1].wish is None
    assert d.due_at == at(10).now
    assert said(d) == []


def test_a_wish_waits_for_the_end_of_a_turn_that_is_under_way() -> None:
    d = running()
    turn.claim(d, at(40))
    ask(d, "stop", seconds=41)
    assert d.due_at == d.claimed == at(100).now


@pytest.mark.parametrize(
    ("build", "code"), [(awaiting_place, "wrong-state"), (creating, "wrong-state"), (running, "no-such-node")]
)
def test_what_cannot_be_started_or_stopped_is_answered(build: type, code: str) -> None:
    d: Deployment = build()
    due_at = d.due_at
    ask(d, "stop", 4, "n-7")
    (refusal,) = said(d)
    assert isinstance(refusal, orchestrator.NodeActionFailed)
    assert (refusal.node, refusal.number, refusal.reason.code) == ("n-7", 4, code)
    assert d.due_at == due_at


def test_each_machine_is_answered_for_itself_and_once_though_named_twice() -> None:
    d = running()
    ask(d, "stop", 1, "n-1", "n-9", "n-1", "n-9")
    assert brief(d) == [("actionfailed", "n-9", 0, 1)]
    assert [node.wish is None for node in d.nodes] == [True, False]


def test_a_machine_that_is_deleted_or_cleaned_away_is_not_started() -> None:
    d = running()
    d.deletion_requested(deletion(), at(10))
    said(d)
    ask(d, "start")
    assert brief(d) == [("actionfailed", "n-0", 0, 1)]
    d = updating()
    take_turn(d, 12, started=up("n-2"), failure=FULL)
    assert d.here("n-2")
    said(d)
    ask(d, "stop", 1, "n-2", seconds=14)
    assert brief(d) == [("actionfailed", "n-2", 0, 1)]


def test_the_wish_with_the_highest_number_counts_in_whatever_order_they_come() -> None:
    d = running()
    for event in (asked("stop", 2), asked("start", 1), asked("stop", 2), asked("start", 3), asked("stop", 2)):
        power.request(d, event, at(10))
    assert d.nodes[0].wish is not None
    assert (d.nodes[0].wish.action, d.nodes[0].wish.number) == ("start", 3)


def test_a_wish_that_was_answered_is_not_wished_again_when_it_or_an_earlier_one_comes_once_more() -> None:
    d = running()
    ask(d, "stop", 5)
    take_turn(d, 10, stopped={"n-0"})
    assert brief(d) == [("stopped", "n-0", 1, 5)]
    ask(d, "stop", 5)
    ask(d, "start", 4)
    assert d.nodes[0].wish is None
    assert said(d) == []


# ── what a turn has shown


def test_a_machine_stops_and_runs_again_and_each_says_which_run_and_which_action() -> None:
    d = running()
    ask(d, "stop", 1)
    take_turn(d, 10, stopped={"n-0"}, started=up("n-1"))
    ask(d, "start", 2, seconds=20)
    take_turn(d, 20, started=up("n-0", "n-1"))
    ask(d, "stop", 3, seconds=30)
    take_turn(d, 30, stopped={"n-0"}, started=up("n-1"))
    assert brief(d) == [("stopped", "n-0", 1, 1), ("resumed", "n-0", 2, 2), ("stopped", "n-0", 2, 3)]


def test_looks_come_at_the_rate_of_building_until_the_wish_is_met() -> None:
    d = running()
    take_turn(d, 1000, started=up("n-0", "n-1"))
    assert d.due_at == at(1031).now
    ask(d, "stop", seconds=1001)
    pauses = []
    for seconds in (1001, 1050, 1200):
        take_turn(d, seconds)
        assert d.due_at is not None
        pauses.append((d.due_at - at(seconds + 1).now).total_seconds())
    assert pauses == [2, 5, 15]
    take_turn(d, 1220, stopped={"n-0"}, started=up("n-1"))  # one more look comes soon
    take_turn(d, 1240, stopped={"n-0"}, started=up("n-1"))
    assert d.due_at == at(1271).now


def test_a_turn_that_shows_nothing_of_a_machine_changes_nothing() -> None:
    d = running()
    ask(d, "stop")
    take_turn(d, 10, started=up("n-1"), reached=True)
    assert d.nodes[0].wish is not None
    assert said(d) == []


def test_a_machine_that_stops_by_itself_is_told_with_the_last_number_that_was_answered() -> None:
    d = running()
    take_turn(d, 40, stopped={"n-0"}, started=up("n-1"))
    take_turn(d, 80, stopped={"n-0"}, started=up("n-1"))
    assert brief(d) == [("stopped", "n-0", 1, 0)]
    take_turn(d, 120, started=up("n-0", "n-1"))
    assert brief(d) == [("resumed", "n-0", 2, 0)]
    ask(d, "stop", 7, seconds=130)
    take_turn(d, 130, stopped={"n-0"}, started=up("n-1"))
    take_turn(d, 170, started=up("n-0", "n-1"))
    assert brief(d) == [("stopped", "n-0", 2, 7), ("resumed", "n-0", 3, 7)]


def test_what_is_so_already_is_answered_with_the_same_run_and_the_same_times() -> None:
    d = running()
    ask(d, "stop", 1)
    take_turn(d, 10, stopped={"n-0"})
    (first,) = said(d)
    ask(d, "stop", 2, seconds=20)
    take_turn(d, 20, stopped={"n-0"})
    (second,) = said(d)
    assert isinstance(first, orchestrator.NodeStopped)
    assert second == first.model_copy(update={"number": 2})
    ask(d, "start", 3, seconds=30)
    ask(d, "start", 4, seconds=40)
    take_turn(d, 40, started=up("n-0"))
    ask(d, "start", 5, seconds=50)
    take_turn(d, 50, started=up("n-0"))
    assert brief(d) == [("resumed", "n-0", 2, 4), ("resumed", "n-0", 2, 5)]


def test_a_start_of_what_never_stopped_is_answered_as_its_second_run() -> None:
    d = running()
    ask(d, "start")
    take_turn(d, 10, started=up("n-0"))
    ask(d, "stop", 2, seconds=20)
    take_turn(d, 20, stopped={"n-0"})
    assert brief(d) == [("resumed", "n-0", 2, 1), ("stopped", "n-0", 2, 2)]


def test_what_is_seen_while_another_wish_is_open_does_not_answer_that() -> None:
    """The turn stopped it; the wish for the contrary came meanwhile, and is met by a later turn only."""
    d = running()
    ask(d, "stop", 1)
    turn.claim(d, at(10))
    ask(d, "start", 2, seconds=11)
    turn.apply(d, Findings(1, "", d.claimed, stopped={"n-0"}), at(12))
    assert brief(d) == [("stopped", "n-0", 1, 0)]
    assert d.nodes[0].wish is not None
    assert d.due_at == at(14).now
    take_turn(d, 14, started=up("n-0"))
    assert brief(d) == [("resumed", "n-0", 2, 2)]


def test_a_wish_that_came_while_a_turn_was_under_way_is_met_if_the_turn_saw_it_so() -> None:
    d = stopped()
    turn.claim(d, at(50))
    ask(d, "stop", 2, seconds=51)
    turn.apply(d, Findings(1, "", d.claimed, stopped={"n-0"}), at(52))
    assert brief(d) == [("stopped", "n-0", 1, 2)]


def test_a_turn_that_outlived_its_claim_tells_nothing_of_wishes() -> None:
    d = running()
    ask(d, "stop")
    turn.claim(d, at(10))
    late = Findings(1, "", d.claimed, stopped={"n-0"}, refused={"n-0": (1, FULL)})
    turn.claim(d, at(71))
    turn.apply(d, late, at(72))
    assert said(d) == []
    assert d.nodes[0].wish is not None


# ── what cannot be done


def test_a_refusal_ends_the_wish_that_it_is_of_and_no_later_one() -> None:
    d = stopped()
    ask(d, "start", 2, seconds=20)
    turn.claim(d, at(20))
    ask(d, "start", 3, seconds=21)
    turn.apply(d, Findings(1, "", d.claimed, stopped={"n-0"}, refused={"n-0": (2, FULL)}), at(22))
    assert said(d) == []
    take_turn(d, 24, stopped={"n-0"}, refused={"n-0": (3, FULL)})
    (refusal,) = said(d)
    assert isinstance(refusal, orchestrator.NodeActionFailed)
    assert (refusal.number, refusal.reason) == (3, FULL)
    assert (d.nodes[0].wish, d.status) == (None, Status.RUNNING)


def test_a_wish_that_takes_too_long_is_given_up_and_told_if_it_comes_to_pass_even_so() -> None:
    d = running()
    ask(d, "stop", 2)
    turn.claim(d, at(309))
    assert said(d) == []
    turn.claim(d, at(370))
    (refusal,) = said(d)
    assert isinstance(refusal, orchestrator.NodeActionFailed)
    assert (refusal.number, refusal.reason.code) == (2, "action-timeout")
    turn.apply(d, Findings(1, "", d.claimed, stopped={"n-0"}), at(371))
    assert brief(d) == [("stopped", "n-0", 1, 2)]


def test_a_wish_does_not_time_out_while_what_was_said_of_it_may_still_lie_in_the_queue() -> None:
    d = running()
    ask(d, "stop")
    turn.claim(d, at(400, heard=at(200).now))
    assert said(d) == []


# ── addresses


def test_a_machine_that_comes_back_elsewhere_is_known_there_and_changes_the_outputs_in_the_same_save() -> None:
    d = stopped()
    ask(d, "start", 2, seconds=20)
    take_turn(d, 20, started=elsewhere("n-0") | up("n-1"), outputs={"ip": "198.51.100.7"}, secret_outputs=("key",))
    resumed, changed = said(d)
    assert isinstance(resumed, orchestrator.NodeResumed)
    assert (resumed.public_address, resumed.run, resumed.number) == ("198.51.100.7", 2, 2)
    assert isinstance(changed, orchestrator.DeploymentOutputsChanged)
    assert (changed.attempt, changed.outputs, changed.secret_outputs) == (1, {"ip": "198.51.100.7"}, ("key",))
    assert (d.nodes[0].public_addresses, d.nodes[0].ports) == (("198.51.100.7",), {22: 4711})
    assert d.nodes[0].resource_id == "vm-n-0"


def test_a_machine_that_stopped_and_came_back_between_two_looks_has_begun_another_run() -> None:
    d = running()
    take_turn(d, 40, started=elsewhere("n-0"), outputs={"ip": "x"})
    assert names(d) == ["node.resumed", "deployment.outputs-changed"]
    assert d.nodes[0].run == 2
    take_turn(d, 80, started=elsewhere("n-0"))
    assert said(d) == []


def test_a_machine_that_comes_back_where_it_was_changes_no_outputs() -> None:
    d = stopped()
    ask(d, "start", 2, seconds=20)
    assert not turn.outputs_due(d, Findings(1, "", None, started=up("n-0", "n-1")))
    take_turn(d, 20, started=up("n-0", "n-1"))
    assert names(d) == ["node.resumed"]


def test_outputs_that_are_lost_leave_those_that_were_told() -> None:
    d = stopped()
    take_turn(d, 40, started=elsewhere("n-0"))
    assert names(d) == ["node.resumed"]


def test_outputs_are_due_when_what_runs_runs_elsewhere_and_not_while_all_is_built() -> None:
    assert turn.outputs_due(running(), Findings(1, "", None, started=elsewhere("n-0")))
    d = creating()
    take_turn(d, 1, started=up("n-0"))
    assert not turn.outputs_due(d, Findings(1, "", None, started=elsewhere("n-0")))


# ── with the rest of a deployment's life


def test_an_update_grows_while_a_machine_stands_still() -> None:
    d = stopped()
    d.update_requested(updated(3), "digest 2", at(20))
    d.placed_at(reserved(1, "u1", nodes=("n-2",)), at(21))
    said(d)
    ask(d, "start", 2, seconds=22)
    take_turn(d, 22, stopped={"n-0"}, started=up("n-1", "n-2"))
    assert names(d) == ["node.started", "deployment.running"]
    assert d.due_at == at(25).now
    take_turn(d, 25, started=up("n-0", "n-1", "n-2"))
    assert brief(d) == [("resumed", "n-0", 2, 2)]


def test_a_machine_stops_while_an_update_is_under_way() -> None:
    d = updating()
    ask(d, "stop", seconds=12)
    take_turn(d, 12, stopped={"n-0"}, started=up("n-1"))
    assert brief(d) == [("stopped", "n-0", 1, 1)]
    assert d.status is Status.UPDATING


def test_a_machine_that_is_lost_takes_its_wish_along() -> None:
    d = running()
    ask(d, "stop")
    take_turn(d, 10, gone={"n-0"}, started=up("n-1"))
    assert names(d) == ["node.removed", "deployment.degraded"]
    assert power.wished_at(d) is None


def test_a_deletion_and_a_failed_update_end_wishes_with_the_machines_that_go() -> None:
    d = running()
    ask(d, "stop")
    d.deletion_requested(deletion(), at(11))
    said(d)
    turn.claim(d, at(400))
    assert said(d) == []
    d = updating(4)
    take_turn(d, 12, started=up("n-2"))
    ask(d, "stop", 1, "n-2", seconds=13)
    take_turn(d, 14, failure=FULL)
    said(d)
    turn.claim(d, at(400))
    assert said(d) == []


def test_a_deployment_of_before_machines_could_be_stopped_is_read() -> None:
    old = running().model_dump(mode="json")
    for node in old["nodes"]:
        for field in ("run", "stopped_at", "answered", "wish"):
            del node[field]
    d = Deployment.model_validate(old)
    ask(d, "stop")
    take_turn(d, 10, stopped={"n-0"})
    assert brief(d) == [("stopped", "n-0", 1, 1)]


def test_wishes_survive_being_stored() -> None:
    d = running()
    ask(d, "stop")
    d = Deployment.model_validate_json(d.model_dump_json())
    take_turn(d, 10, stopped={"n-0"})
    stored = Deployment.model_validate_json(d.model_dump_json())
    assert stored.nodes == d.nodes


def test_events_about_a_machine_say_whose_it_is() -> None:
    d = running()
    take_turn(d, 40, stopped={"n-0"})
    told: list[Message] = said(d)
    (event,) = told
    assert isinstance(event, orchestrator.NodeStopped)
    assert (event.owner, event.group, event.resource_id, event.stopped_at) == (d.owner, d.group, "vm-n-0", at(41).now)
    assert event.started_at <= event.stopped_at
