"""Which updates are taken: growth alone; what is told of the others; what an accepted one leaves."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

import indaco_tosca
from indaco_common.contracts.gateway import DeploymentUpdateRequested
from indaco_common.contracts.values import NodeNeeds
from indaco_gateway.model import updating
from indaco_gateway.model.conflicts import WrongState
from indaco_gateway.model.labels import Locked
from indaco_gateway.model.operation import Operation, Part, Status, Task

from .builders import ID, MINUTE, NEEDS, NOW, accepted, degraded, deleted, hear, node_removed, running

INPUTS: dict[str, Any] = {
    "count": {"type": "integer", "default": 2},
    "note": {"type": "string", "default": "old"},
    "join_token": {"type": "string", "default": "t"},
}


def machine(**asked: Any) -> dict[str, Any]:
    scalable = {"scalable": {"properties": {"count": {"get_input": "count"}}}}
    return {
        "type": "tosca.nodes.indigo.Compute",
        "capabilities": {**scalable, **{k: {"properties": v} for k, v in asked.items()}},
    }


def planned(
    nodes: Mapping[str, Any] | None = None, given: Mapping[str, Any] | None = None, inputs: Mapping[str, Any] = {},
    outputs: Mapping[str, Any] | None = None,
) -> indaco_tosca.Plan:  # fmt: skip
    topology = {
        "inputs": {**INPUTS, **inputs},
        "node_templates": nodes or {"server": machine()},
        "outputs": outputs or {"ip": {"value": {"get_attribute": ["server", "public_address", 0]}}},
    }
    document = {"tosca_definitions_version": "tosca_simple_yaml_1_3", "imports": ["indigo.yaml"]}
    return indaco_tosca.plan(indaco_tosca.parse(json.dumps({**document, "topology_template": topology})), given or {})


BEFORE = planned()


def in_place() -> Operation:
    """Return a deployment whose two machines run."""
    operation = hear(accepted(), running())
    operation.parts = {"server": Part()}
    return operation


def refused(
    after: indaco_tosca.Plan, *, operation: Operation | None = None, before: indaco_tosca.Plan = BEFORE
) -> list[str]:
    """Return what is told of an update that is not taken."""
    with pytest.raises(updating.UpdateRefused) as caught:
        updating.judged(operation or in_place(), before, after, ())
    assert all(error.pointer == "/template" for error in caught.value.errors)
    return [error.detail for error in caught.value.errors]


def revised(update: int = 1, count: int = 3) -> updating.Revised:
    event = DeploymentUpdateRequested(
        deployment_id=ID, update=update, template="u", inputs={"count": count}, nodes={"server": NodeNeeds(count=count, needs=NEEDS)}
    )  # fmt: skip
    return updating.Revised(
        event, "digest-u", "digest-i", {"server": "x"}, {"server": Part()}, ("w",), "server: scale out"
    )


def test_more_machines_of_a_kind_that_runs_are_taken() -> None:
    found = updating.judged(in_place(), BEFORE, planned(given={"count": 5}), ())
    assert [(node.kept, node.new) for node in found.nodes] == [
        (("server-0", "server-1"), ("server-2", "server-3", "server-4"))
    ]


def test_what_changes_nothing_is_taken() -> None:
    assert updating.judged(in_place(), BEFORE, planned(), ()).is_empty
    assert not updating.judged(in_place(), BEFORE, planned(given={"note": "new"}), ()).touches_machines


def test_machines_that_were_lost_are_made_again() -> None:
    operation = hear(in_place(), degraded("server-1"), node_removed(node="server-1"), first=2)
    (node,) = updating.judged(operation, BEFORE, planned(), ()).nodes
    assert (node.kept, node.new) == (("server-0",), ("server-1",))


@pytest.mark.parametrize(
    ("after", "told"),
    [
        (planned(given={"count": 1}), ["server: scale in: takes away server-1: machines: 2 -> 1 - what runs cannot be taken away yet"]),
        (
            planned({"server": machine(host={"num_cpus": 4})}),
            ["server: resize server-0, server-1: virtual CPUs: 0 -> 4 (another size: built anew, unless the provider can resize) - what runs cannot be made larger or smaller yet"],
        ),
        (
            planned({"server": machine(os={"version": "24.04"})}),
            ["server: replace server-0, server-1: image: with version 24.04 (built anew) - what runs cannot be built anew yet"],
        ),
    ],
)  # fmt: skip
def test_what_is_not_offered_is_told_with_what_differs_and_why(after: indaco_tosca.Plan, told: list[str]) -> None:
    assert refused(after) == told


def test_a_change_is_refused_as_a_whole_and_says_what_of_it_would_be_done() -> None:
    after = planned({"server": machine(), "other": machine()}, given={"count": 3})
    assert refused(after) == [
        "other: add: makes other-0, other-1, other-2: it is new in the template - a kind of machine that does not run yet cannot be added",
        "server: scale out: makes server-2: machines: 2 -> 3 - this alone would be done",
    ]


def test_a_kind_of_which_there_never_was_one_has_no_place_to_grow_at() -> None:
    scaled = {
        "server": machine(),
        "worker": {**machine(), "capabilities": {"scalable": {"properties": {"count": {"get_input": "more"}}}}},
    }
    inputs = {"more": {"type": "integer", "default": 0}}
    before, after = planned(scaled, inputs=inputs), planned(scaled, {"more": 1}, inputs)
    [told] = refused(after, before=before)
    assert told.endswith("a kind of machine that does not run yet cannot be added")


def test_the_value_of_a_secret_is_not_changed_and_not_told() -> None:
    operation = in_place()
    operation.secret_inputs = ("join_token",)
    before = planned(given={"join_token": "hush-old"})
    updating.judged(operation, before, planned(given={"join_token": "hush-old", "count": 3}), ())
    [told] = refused(planned(given={"join_token": "hush-new"}), operation=operation, before=before)
    assert told == "input join_token: another value - those of secrets cannot be changed"


def test_an_input_does_not_become_a_secret_nor_cease_to_be_one() -> None:
    operation = in_place()
    operation.secret_inputs = ("note",)  # by its name it is none
    [told] = refused(planned(), operation=operation)
    assert told.startswith("input note: the template would no longer have it as a secret")
    operation.secret_inputs = ("gone",)
    [told] = refused(planned(), operation=operation)
    assert told.startswith("input gone: the template would no longer have it")
    with pytest.raises(updating.UpdateRefused, match="Only machines of a kind that runs") as caught:
        updating.judged(in_place(), BEFORE, planned(), {"join_token"})
    assert caught.value.errors[0].detail.startswith("input join_token: it would be a secret")


@pytest.mark.parametrize(
    ("outputs", "given"),
    [
        ({"ip": {"value": {"get_attribute": ["server", "private_address", 0]}}}, {}),
        ({"other": {"value": 1}}, {}),
    ],
)
def test_outputs_change_only_with_machines_since_only_then_they_are_resolved(outputs: Any, given: Any) -> None:
    told = refused(planned(outputs=outputs, given=given))
    assert all("outputs are resolved anew only when machines are added" in line for line in told)
    updating.judged(in_place(), BEFORE, planned(outputs=outputs, given={**given, "count": 3}), ())


def test_an_output_that_shows_an_input_does_not_stay_behind_it() -> None:
    outputs = {
        "note": {"value": {"concat": [{"get_input": "note"}, "@", {"get_attribute": ["server", "public_address", 0]}]}}
    }
    told = refused(planned(outputs=outputs, given={"note": "new"}), before=planned(outputs=outputs))
    assert [line.partition(" -")[0] for line in told] == ["output note: changed"]


def test_an_update_that_is_asked_for_is_on_its_way_with_the_next_number() -> None:
    operation = in_place()
    updating.ask(operation, revised(), None, NOW + MINUTE)
    assert operation.emitted == [revised().event]
    assert (operation.status, operation.task, operation.updates) == (Status.UPDATE_IN_PROGRESS, Task.DEPLOYER, 1)
    assert (operation.template, operation.inputs, operation.warnings) == ("digest-u", "digest-i", ("w",))
    assert (operation.timeline[-1].title, operation.timeline[-1].detail) == ("Update 1 requested", "server: scale out")
    assert operation.updated_at == NOW + MINUTE
    with pytest.raises(WrongState, match="Cannot update a deployment in UPDATE_IN_PROGRESS state"):
        updating.ask(operation, revised(2), None, NOW)
    hear(operation, running(slots=("u1",)), first=9)
    updating.ask(operation, revised(2), "https://example.org/new", NOW)
    assert (operation.updates, operation.callback) == (2, "https://example.org/new")


def test_a_deployment_that_does_not_run_or_is_locked_is_not_updated() -> None:
    for operation in (accepted(), hear(in_place(), deleted(), first=5)):
        with pytest.raises(WrongState, match=f"Cannot update a deployment in {operation.status} state"):
            updating.require_updatable(operation)
    operation = in_place()
    operation.lock("a beam time", NOW)
    with pytest.raises(Locked, match="a beam time"):
        updating.require_updatable(operation)


def test_one_whose_inputs_were_not_kept_says_so() -> None:
    with pytest.raises(WrongState, match="Its inputs were not kept"):
        updating.require_updatable(hear(accepted(), running()))
