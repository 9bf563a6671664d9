"""Work that a small template could cause is counted: it is shared, or refused once, and never made again for each place.

Nothing is timed: what is counted are calls of Python functions, or what was kept.
"""

import json
import sys
from types import SimpleNamespace

import pytest

from indaco_tosca import TemplateError, parse, plan
from indaco_tosca.constraints import BadConstraint, ConstraintChecker
from indaco_tosca.library import bundled
from indaco_tosca.load import load
from indaco_tosca.references import deployment_order
from indaco_tosca.report import Report
from indaco_tosca.schema import Constraint, read_schema
from indaco_tosca.typeset import MAX_DEFINITIONS, TypeSet
from indaco_tosca.values import MAX_VALUES, Coercer

COMPUTE = "tosca.nodes.indigo.Compute"
ENDLESS = {"D": {"properties": {name: {"type": "D", "default": {}} for name in "ab"}}}


def written(nodes, *, inputs=None, **types):
    topology = {"node_templates": nodes} | ({"inputs": inputs} if inputs else {})
    return json.dumps({"tosca_definitions_version": "tosca_simple_yaml_1_3", **types, "topology_template": topology})


def calls(function):
    """How often Python functions and generators were entered, with the result or the codes of the refusal."""
    count = 0

    def note(frame, event, argument):
        nonlocal count
        count += event == "call"

    sys.setprofile(note)
    try:
        result = function()
    except TemplateError as error:
        result = [problem.code for problem in error.problems]
    finally:
        sys.setprofile(None)
    return count, result


def optional(count):
    return {f"p{i}": {"type": "string", "required": False} for i in range(count)}


def test_defaults_without_end_are_told_once_for_all_properties_of_a_run():
    properties = {f"p{i}": {"type": "D", "default": {}} for i in range(20)}
    types = {name: {"derived_from": COMPUTE, "properties": properties} for name in "TU"}
    template = parse(written({"x": {"type": "T"}, "y": {"type": "U"}}, data_types=ENDLESS, node_types=types))
    count, codes = calls(lambda: plan(template, {}))
    assert codes == ["too-many-values"]
    assert count < MAX_VALUES


def test_defaults_of_all_types_of_a_template_share_one_budget():
    wide = {"W": {"properties": {f"w{i}": {"type": "integer", "default": i} for i in range(200)}}}
    properties = {f"p{i}": {"type": "W", "default": {}} for i in range(20)}
    types = {f"t{i}": {"derived_from": COMPUTE, "properties": properties} for i in range(30)}
    template = parse(written({f"n{i}": {"type": f"t{i}"} for i in range(30)}, data_types=wide, node_types=types))
    problems = []
    for _ in range(2):  # what was kept from the first plan counts in the second as well
        with pytest.raises(TemplateError) as raised:
            plan(template, {})
        problems.append([(problem.code, problem.path) for problem in raised.value.problems])
    assert problems[0] == problems[1]
    assert [code for code, _ in problems[0]] == ["too-many-values"]


def test_defaults_that_were_kept_cost_a_plan_as_much_as_new_ones():
    wide = {"W": {"properties": {f"w{i}": {"type": "integer", "default": i} for i in range(200)}}}
    properties = {f"p{i}": {"type": "W", "default": {}} for i in range(20)}
    types = {f"t{i}": {"derived_from": COMPUTE, "properties": properties} for i in range(30)}
    template = parse(written({f"n{i}": {"type": f"t{i}"} for i in range(30)}, data_types=wide, node_types=types))
    few = parse(written({f"n{i}": {"type": f"t{i}"} for i in range(10)}, data_types=wide, node_types=types))
    assert plan(few, {}).nodes == plan(few, {}).nodes
    template.types.derived.update(few.types.derived)
    with pytest.raises(TemplateError) as raised:
        plan(template, {})
    assert [problem.code for problem in raised.value.problems] == ["too-many-values"]


def test_a_value_in_a_deep_place_spends_the_budget_of_its_run():
    report = Report()
    coercer = Coercer(TypeSet({"data_types": ENDLESS}, bundled()), report)
    for name in ("x", "y"):
        coercer.coerce({}, read_schema({"type": "D"}), (name,))
    assert [problem.code for problem in report._errors] == ["too-many-values"]
    assert coercer.budget.is_spent()


def test_properties_that_a_structure_leaves_out_are_counted():
    types = TypeSet({"data_types": {"D": {"properties": optional(2000)}}}, bundled())
    report = Report()
    Coercer(types, report).coerce([{}] * 1000, read_schema({"type": "list", "entry_schema": "D"}), ())
    assert [problem.code for problem in report._errors] == ["too-many-values"]


def test_the_properties_of_a_type_are_made_once():
    types = TypeSet({"policy_types": {"P": {"properties": optional(10)}}}, bundled())
    assert types.properties("policy_types", "P") is types.properties("policy_types", "P")


def test_capabilities_share_the_properties_of_their_type():
    kinds = {"C": {"properties": optional(300)}}
    types = TypeSet(
        {"capability_types": kinds, "node_types": {"T": {"capabilities": {f"c{i}": "C" for i in range(300)}}}},
        bundled(),
    )
    count, found = calls(lambda: types.node("T"))
    assert len({id(capability.properties) for capability in found.capabilities.values()}) == 1
    assert count < 20_000  # 90,000 properties were read, one by one, before


def test_types_share_what_they_inherit():
    definitions = {"R": {"properties": optional(500)}} | {f"t{i}": {"derived_from": "R"} for i in range(200)}
    types = TypeSet({"node_types": definitions}, bundled())
    count, _ = calls(lambda: [types.node(name) for name in definitions])
    assert types.node("t0").properties is types.node("t199").properties
    assert count < 50_000  # 100,000 properties were read before


def test_data_types_share_the_constraints_that_they_inherit():
    root = {"derived_from": "string", "constraints": [{"max_length": 9}] * 500}
    definitions = {"R": root} | {f"t{i}": {"derived_from": "R"} for i in range(200)}
    types = TypeSet({"data_types": definitions}, bundled())
    assert len({id(types.data(name).constraints) for name in definitions}) == 1


OWN = {"type": "string", "required": False}
MULTIPLIED = {
    "types that each add one property": {
        "R": {"derived_from": COMPUTE, "properties": optional(2000)},
        **{f"t{i}": {"derived_from": "R", "properties": {"own": OWN}} for i in range(100)},
    },
    "capabilities that each add one property": {
        "t99": {"derived_from": COMPUTE, "capabilities": {f"c{i}": {"type": "C", "properties": {"own": OWN}} for i in range(500)}},
    },
    "types that each add one capability": {
        "R": {"derived_from": COMPUTE, "capabilities": {f"c{i}": "C" for i in range(2000)}},
        **{f"t{i}": {"derived_from": "R", "capabilities": {"own": "C"}} for i in range(100)},
    },
    "types that each add one requirement": {
        "R": {"derived_from": COMPUTE, "requirements": [{f"r{i}": "C"} for i in range(2000)]},
        **{f"t{i}": {"derived_from": "R", "requirements": [{"own": "C"}]} for i in range(100)},
    },
}  # fmt: skip


@pytest.mark.parametrize("name", MULTIPLIED)
def test_definitions_are_counted_with_the_inherited_ones(name):
    kinds = {"C": {"properties": optional(300)}}
    nodes = {f"n{kind}": {"type": kind} for kind in MULTIPLIED[name] if kind != "R"}
    with pytest.raises(TemplateError) as raised:
        parse(written(nodes, capability_types=kinds, node_types=MULTIPLIED[name]))
    (problem,) = raised.value.problems
    assert problem.code == "too-many-definitions"
    assert problem.path.startswith("/node_types/t")


def test_constraints_of_data_types_are_counted_with_the_inherited_ones():
    root = {"derived_from": "string", "constraints": [{"max_length": 9}] * 2000}
    own = {f"t{i}": {"derived_from": "R", "constraints": [{"min_length": 1}]} for i in range(100)}
    types = TypeSet({"data_types": {"R": root} | own}, bundled())
    _, codes = calls(lambda: [types.data(name) for name in own])
    assert codes == ["too-many-definitions"]


def test_what_is_refused_does_not_spend_the_definitions_of_others():
    kinds = {"C": {"properties": optional(1000)}}
    wide = {
        "capabilities": {f"c{i}": {"type": "C", "properties": {"own": OWN}} for i in range(MAX_DEFINITIONS // 1000)}
    }
    types = TypeSet({"capability_types": kinds, "node_types": {"T": wide, "U": {"properties": optional(3)}}}, bundled())
    _, codes = calls(lambda: types.node("T"))
    assert codes == ["too-many-definitions"]
    assert len(types.properties("node_types", "U")) == 3


def test_own_types_leave_the_library_below_them_as_it_is():
    types = TypeSet({"node_types": {"T": {"derived_from": COMPUTE}}}, bundled())
    assert types.node(COMPUTE) is bundled().node(COMPUTE)
    assert types.node("T").properties is bundled().node(COMPUTE).properties
    hidden = TypeSet({"capability_types": {"tosca.capabilities.Scalable": {"properties": optional(2)}}}, bundled())
    assert set(hidden.node("tosca.nodes.Compute").capabilities["scalable"].properties) == {"p0", "p1"}


def test_merging_into_one_map_does_not_look_at_earlier_sources_again():
    count, document = calls(lambda: load("a: &a {x: 1}\nb: {" + "<<: *a, " * 1000 + "}\n"))
    assert document.value["b"] == {"x": 1}
    assert count < 20_000  # half a million before


def test_merging_is_refused_as_soon_as_there_are_too_many_values():
    assert calls(lambda: load("a: &a {}\nb: {" + "<<: *a, " * 25_001 + "}\n"))[1] == ["too-many-nodes"]


class Counted:
    shown = 0

    def __repr__(self):
        Counted.shown += 1
        return "x"


def test_only_the_beginning_of_an_argument_is_made_to_text():
    reason = ConstraintChecker().violation(Constraint("equal", [[Counted()] * 1000]), "y", "string")
    assert reason.startswith("must be [[x, x, ")
    assert len(reason) < 80
    assert Counted.shown < 60


def test_a_short_argument_is_shown_whole():
    nested = {"a": [1, "b", {"c": None}], "d": {}, "e": []}
    assert ConstraintChecker().violation(Constraint("equal", nested), "y", "string") == f"must be {nested}"


def compare(checker, constraint, times):
    for _ in range(times):
        checker.violation(constraint, "x", "string")


@pytest.mark.parametrize(
    "argument", [{f"k{i}": 1 for i in range(8000)}, [{"a": ["x"] * 8000}], "x" * 512_000], ids=["map", "nested", "text"]
)
def test_comparing_with_a_large_argument_costs_as_much_as_it_has_parts(argument):
    checker, constraint = ConstraintChecker(), Constraint("equal", argument)
    compare(checker, constraint, 20)
    with pytest.raises(BadConstraint, match="too long"):
        compare(checker, constraint, 20)


CHOICE = {"T": {"derived_from": COMPUTE, "properties": {"p": {"type": "string", "constraints": [{"valid_values": [f"v{i}" for i in range(8000)]}]}}}}  # fmt: skip


@pytest.mark.parametrize(("value", "first"), [("v7999", "bad-constraint"), ("hunter2", "wrong-type")])
def test_values_that_depend_on_secrets_share_the_budget_of_the_run(value, first):
    nodes = {f"n{i}": {"type": "T", "properties": {"p": {"get_input": "password"}}} for i in range(60)}
    template = parse(written(nodes, inputs={"password": {"type": "string"}}, node_types=CHOICE))
    with pytest.raises(TemplateError) as raised:
        plan(template, {"password": value})
    problems = raised.value.problems
    assert problems[0].code == first
    assert sum(problem.code == "bad-constraint" for problem in problems) == 60 - 24  # 24 times 8,000 are allowed
    assert not any(value in problem.message for problem in problems)


class Edge:
    """A requirement whose target is counted each time it is asked for."""

    def __init__(self, target, index):
        self.name, self.path = target, (index,)

    @property
    def target(self):
        return self.name


def test_a_node_that_is_in_a_circle_by_many_requirements_is_told_once_where_it_says_so_first():
    edges = [Edge(name, index) for index, name in enumerate(["x"] * 500 + ["a"] * 500)]
    requirements = {"a": [Edge("b", 0)], "x": [], "b": edges}
    nodes = {name: SimpleNamespace(requirements=found) for name, found in requirements.items()}
    report = Report()
    count, order = calls(lambda: deployment_order(nodes, report))
    assert order == ("x", "b", "a")
    assert [(problem.code, problem.path) for problem in report._errors] == [("requirement-cycle", "/500")]
    assert count < 5000  # 250,000 when each of the 500 was looked for from the start


def test_a_long_circle_is_told_by_its_beginning_and_its_end():
    nodes = {f"n{i}": {"type": COMPUTE, "requirements": [{"dependency": f"n{(i + 1) % 300}"}]} for i in range(300)}
    with pytest.raises(TemplateError) as raised:
        parse(written(nodes))
    assert raised.value.problems[0].message.endswith("n16 -> n17 -> ... -> n0")


@pytest.mark.parametrize("kind", ["greater_than", "less_or_equal"])
def test_a_limit_with_thousands_of_digits_is_refused(kind):
    with pytest.raises(BadConstraint, match="limit does not fit"):
        ConstraintChecker().violation(Constraint(kind, "1" * 5000), 5, "integer")
    with pytest.raises(BadConstraint, match="limit does not fit"):
        ConstraintChecker().violation(Constraint("in_range", ["0", "1" * 65]), 5, "integer")
