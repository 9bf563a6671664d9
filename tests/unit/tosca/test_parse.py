"""What makes a template valid, and that everything wrong with it is told at once and in its place."""

import pytest

from indaco_tosca import parse
from indaco_tosca.parser import MAX_NODE_TEMPLATES


def test_a_template_tells_what_it_is_and_what_it_asks_for(template):
    parsed = parse(
        template(
            description=" A machine ",
            metadata={"display_name": "Machine"},
            inputs={"size": {"type": "scalar-unit.size", "default": "2 GB"}, "name": {"description": "Its name"}},
        )
    )
    assert parsed.description == "A machine"
    assert parsed.metadata["display_name"] == "Machine"
    assert (parsed.inputs["size"].type, parsed.inputs["size"].default) == ("scalar-unit.size", "2 GB")
    assert (parsed.inputs["name"].type, parsed.inputs["name"].must_be_given) == ("string", True)


def test_all_problems_are_told_with_their_lines(problems):
    text = """\
tosca_definitions_version: tosca_simple_yaml_1_0
topology_template:
  node_templates:
    server:
      type: tosca.nodes.indigo.Compute
      properties:
        colour: red
      capabilities:
        host:
          properties: {num_cpus: 0}
        nothing: {properties: {}}
      requirements:
        - local_storage: disk
        - wheels: disk
    disk: {type: tosca.nodes.Disk}
  outputs:
    address: {value: {get_attribute: [sever, public_address]}}
    size: {value: {get_input: size}}
"""
    nodes = "/topology_template/node_templates"
    assert problems(parse, text) == {
        f"{nodes}/server/properties/colour": "unknown-property",
        f"{nodes}/server/capabilities/host/properties/num_cpus": "constraint-violated",
        f"{nodes}/server/capabilities/nothing": "unknown-capability",
        f"{nodes}/server/requirements/1/wheels": "unknown-requirement",
        f"{nodes}/disk/type": "unknown-type",
        "/topology_template/outputs/address/value/get_attribute": "unknown-node",
        "/topology_template/outputs/size/value/get_input": "unknown-input",
    }
    with pytest.raises(Exception, match="and 6 more") as raised:
        parse(text)
    lines = {problem.code: (problem.line, problem.column) for problem in raised.value.problems}
    assert lines["unknown-property"] == (7, 9)
    assert lines["unknown-requirement"] == (14, 11)


@pytest.mark.parametrize(
    ("change", "path", "code"),
    [
        ({"version": "tosca_2_0"}, "/tosca_definitions_version", "version-unsupported"),
        ({"version": "tosca_simple_profile_for_nfv_1_0_0"}, "/tosca_definitions_version", "version-unsupported"),
        ({"version": ["x"]}, "/tosca_definitions_version", "version-unsupported"),
        ({"version": None}, "", "version-missing"),
        ({"metadata": []}, "/metadata", "bad-structure"),
        ({"inputs": {"a": {"type": "colour"}}}, "/topology_template/inputs/a/type", "unknown-type"),
        ({"inputs": {"a": {"entry_schema": ""}}}, "/topology_template/inputs/a/type", "unknown-type"),
        ({"inputs": {"a": []}}, "/topology_template/inputs/a", "bad-structure"),
        (
            {"inputs": {"a": {"constraints": [{"odd": 1}]}}},
            "/topology_template/inputs/a/constraints/0/odd",
            "bad-constraint",
        ),
        ({"outputs": {"a": {}}}, "/topology_template/outputs/a", "bad-structure"),
        ({"outputs": {"a": {"value": {"concat": "x"}}}}, "/topology_template/outputs/a/value/concat", "bad-function"),
        ({"outputs": {"a": {"value": {"token": ["x"]}}}}, "/topology_template/outputs/a/value/token", "bad-function"),
        (
            {"outputs": {"a": {"value": {"get_property": ["SELF", "tags"]}}}},
            "/topology_template/outputs/a/value/get_property",
            "bad-function",
        ),
        (
            {"outputs": {"a": {"value": {"get_property": ["server", "colour"]}}}},
            "/topology_template/outputs/a/value/get_property",
            "unknown-property",
        ),
        ({"nodes": {"b": []}}, "/topology_template/node_templates/b", "bad-structure"),
        (
            {"nodes": {"b": {"type": "tosca.nodes.Compute", "zzz": 1}}},
            "/topology_template/node_templates/b/zzz",
            "unknown-key",
        ),
        (
            {"nodes": {"b": {"type": "Compute", "requirements": [{"local_storage": "nowhere"}]}}},
            "/topology_template/node_templates/b/requirements/0/local_storage",
            "unknown-node",
        ),
        (
            {"nodes": {"b": {"type": "tosca.nodes.indigo.S3Bucket"}}},
            "/topology_template/node_templates/b/properties",
            "property-required",
        ),
        (
            {"policies": [{"p": {"type": "tosca.policies.Placement", "targets": ["nobody"]}}]},
            "/topology_template/policies/0/p",
            "unknown-node",
        ),
        (
            {"node_types": {"a.A": {"derived_from": "a.B"}}},
            "/node_types/a.A",
            "unknown-type",
        ),
        (
            {"data_types": {"a.A": {"derived_from": "a.B"}, "a.B": {"derived_from": "a.A"}}},
            "/data_types/a.A",
            "type-cycle",
        ),
    ],
)
def test_a_template_is_refused_for(change, path, code, template, problems):
    found = problems(parse, template(**change))
    assert found.get(path) == code


def test_nodes_that_need_each_other_are_refused_with_the_cycle(template, problems):
    nodes = {
        "a": {"type": "tosca.nodes.SoftwareComponent", "requirements": [{"dependency": "b"}]},
        "b": {"type": "tosca.nodes.SoftwareComponent", "requirements": [{"dependency": "a"}]},
    }
    assert "requirement-cycle" in problems(parse, template(nodes=nodes)).values()


def test_an_abstract_type_cannot_be_used(template, problems):
    types = {"a.Abstract": {"derived_from": "tosca.nodes.Compute", "abstract": True}}
    found = problems(parse, template(node_types=types, nodes={"x": {"type": "a.Abstract"}}))
    assert found == {"/topology_template/node_templates/x/type": "abstract-type"}


def test_a_type_of_the_template_inherits_and_refines(template, problems):
    types = {
        "site.Machine": {
            "derived_from": "tosca.nodes.indigo.Compute",
            "properties": {
                "rack": {"type": "integer", "constraints": [{"less_than": 10}]},
                "tags": {"default": {"a": "b"}},
            },
        }
    }
    assert parse(template(node_types=types, nodes={"x": {"type": "site.Machine", "properties": {"rack": 3}}}))
    found = problems(
        parse, template(node_types=types, nodes={"x": {"type": "site.Machine", "properties": {"rack": 30}}})
    )
    assert found == {"/topology_template/node_templates/x/properties/rack": "constraint-violated"}


def test_the_short_names_of_normative_types_are_understood(template):
    nodes = {"a": {"type": "Compute"}, "b": {"type": "tosca:BlockStorage", "properties": {"size": "1 GB"}}}
    parsed = parse(template(nodes=nodes))
    assert [parsed.nodes[name].type for name in ("a", "b")] == ["tosca.nodes.Compute", "tosca.nodes.BlockStorage"]


def test_a_slip_that_changes_nothing_is_a_warning(template):
    parsed = parse(
        template(
            inputs={"a": {"descritpion": "x", "default": "1", "constraints": {"min_length": 1}}},
            policies=[{"p": {"type": "acme.Policy"}}],
            colour="red",
        )
    )
    assert sorted(problem.code for problem in parsed.warnings) == [
        "constraints-not-a-list",
        "unknown-key",
        "unknown-key",
        "unknown-policy",
    ]


def test_the_same_text_gives_the_same_template(template):
    text = template(description="once")
    assert parse(text) is parse(text)


def test_a_topology_has_a_bounded_number_of_nodes(template, problems):
    nodes = {f"n{number}": {"type": "Compute"} for number in range(MAX_NODE_TEMPLATES)}
    assert problems(parse, template(nodes=nodes)) == {"/topology_template/node_templates": "too-many-nodes"}


def test_types_whose_defaults_hold_each_other_are_refused(template, problems):
    types = {"a.Endless": {"properties": {key: {"type": "a.Endless", "default": {}} for key in "xy"}}}
    inputs = {"e": {"type": "a.Endless", "default": {}}}
    found = problems(
        parse,
        template(
            data_types=types,
            inputs=inputs,
            node_types={"a.N": {"properties": {"e": {"type": "a.Endless"}}}},
            nodes={"n": {"type": "a.N", "properties": {"e": {}}}},
        ),
    )
    assert set(found.values()) == {"too-many-values"}
