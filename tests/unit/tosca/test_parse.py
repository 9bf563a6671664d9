"""What makes a template valid, and that everything wrong with it is told at once and in its place."""

import json

import pytest

from indaco_tosca import TemplateError, parse
from indaco_tosca.parser import MAX_NODE_TEMPLATES, MAX_POLICIES

SERVER = "/topology_template/node_templates/server"


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
        ({"policies": 7}, "/topology_template/policies", "bad-structure"),
        ({"policies": ["p"]}, "/topology_template/policies/0", "bad-structure"),
        ({"policies": [{"p": "Placement"}]}, "/topology_template/policies/0/p", "bad-structure"),
        ({"policies": {"p": {"targets": "server"}}}, "/topology_template/policies/p/targets", "bad-structure"),
        ({"policies": {"p": {"targets": [None]}}}, "/topology_template/policies/p/targets/0", "bad-structure"),
        ({"policies": {"p": {"properties": ["a"]}}}, "/topology_template/policies/p/properties", "bad-structure"),
        ({"groups": 5}, "/topology_template/groups", "bad-structure"),
        ({"groups": {"g": "server"}}, "/topology_template/groups/g", "bad-structure"),
        ({"repositories": ["x"]}, "/repositories", "bad-structure"),
        ({"node_types": {"a.A": 5}}, "/node_types/a.A", "bad-structure"),
        ({"node_types": {"a.A": {"derived_from": 5}}}, "/node_types/a.A/derived_from", "bad-structure"),
        ({"node_types": {"a.A": {"properties": ["x"]}}}, "/node_types/a.A/properties", "bad-structure"),
        ({"node_types": {"a.A": {"requirements": "x"}}}, "/node_types/a.A/requirements", "bad-structure"),
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
            {"nodes": {"b": {"type": "tosca.nodes.Compute", "interfaces": {"get_input": "i"}}}},
            "/topology_template/node_templates/b/interfaces",
            "bad-structure",
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


@pytest.mark.parametrize(
    ("part", "path"),
    [
        ({"properties": "abc"}, "properties"),
        ({"attributes": ["a"]}, "attributes"),
        ({"metadata": 1}, "metadata"),
        ({"artifacts": 5}, "artifacts"),
        ({"artifacts": {"image": 5}}, "artifacts/image"),
        ({"interfaces": 7}, "interfaces"),
        ({"capabilities": [{"host": {"properties": {"num_cpus": 8}}}]}, "capabilities"),
        ({"capabilities": {"host": {"properties": [{"num_cpus": 8}]}}}, "capabilities/host/properties"),
        ({"requirements": "server"}, "requirements"),
        ({"requirements": ["dependency"]}, "requirements/0"),
        ({"requirements": [{"dependency": ["server"]}]}, "requirements/0/dependency"),
        ({"requirements": [{"dependency": None}]}, "requirements/0/dependency"),
        ({"requirements": {"dependency": {"node": ["server"]}}}, "requirements/dependency"),
        (
            {"requirements": [{"dependency": {"node": "other", "relationship": 5}}]},
            "requirements/0/dependency/relationship",
        ),
        (
            {"requirements": [{"dependency": {"relationship": {"properties": 5}}}]},
            "requirements/0/dependency/relationship/properties",
        ),
    ],
)
def test_a_part_of_a_node_in_the_wrong_shape_is_refused_and_not_dropped(part, path, template, problems):
    found = problems(parse, template(server=part, nodes={"other": {"type": "Compute"}}))
    assert found == {f"{SERVER}/{path}": "bad-structure"}


def test_the_message_about_a_wrong_shape_says_what_was_expected_and_how_to_write_it(template):
    with pytest.raises(Exception, match="properties must be a map, not a text") as raised:
        parse(template(server={"properties": "abc"}))
    assert "name: value" in raised.value.problems[0].hint


def test_a_part_with_nothing_in_it_is_none(template):
    parts = ("properties", "attributes", "capabilities", "requirements", "artifacts", "interfaces", "metadata")
    server = dict.fromkeys(parts)
    capability = {"capabilities": {"host": None, "os": {"properties": None}}}
    parsed = parse(
        template(
            server=server, nodes={"b": {"type": "Compute", **capability}}, policies=None, groups=None, metadata=None
        )
    )
    assert parsed.nodes["server"].requirements == ()


def test_a_name_that_yaml_reads_as_a_number_or_a_boolean_can_be_named():
    parsed = parse("""\
tosca_definitions_version: tosca_simple_yaml_1_3
topology_template:
  node_templates:
    1: {type: Compute}
    yes: {type: SoftwareComponent, requirements: [host: 1]}
    007: {type: SoftwareComponent, requirements: [host: {node: 1}, dependency: yes]}
  policies: [p: {type: tosca.policies.Placement, targets: [1, yes, 007]}]
""")
    edges = {(node.name, edge.target) for node in parsed.nodes.values() for edge in node.requirements}
    assert edges == {("true", "1"), ("007", "1"), ("007", "true")}
    assert parsed.policies[0].targets == ("1", "true", "007")


def test_what_names_a_node_that_cannot_be_read_is_not_wrong_as_well(template, problems):
    nodes = {"s": 5, "other": {"type": "Compute", "requirements": [{"dependency": "s"}]}}
    policies = [{"p": {"type": "tosca.policies.Placement", "targets": ["s"]}}]
    outputs = {"o": {"value": {"get_attribute": ["s", "public_address"]}}}
    found = problems(parse, template(nodes=nodes, policies=policies, outputs=outputs))
    assert found == {"/topology_template/node_templates/s": "bad-structure"}


def test_too_many_nodes_are_one_problem_whatever_names_them(template, problems):
    nodes = {f"n{number}": {"type": "Compute"} for number in range(MAX_NODE_TEMPLATES)}
    outputs = {"o": {"value": {"get_attribute": ["n0", "public_address"]}}}
    found = problems(parse, template(nodes=nodes, outputs=outputs))
    assert found == {"/topology_template/node_templates": "too-many-nodes"}


def test_a_topology_has_a_bounded_number_of_policies(template, problems):
    policies = [{f"p{number}": {"type": "tosca.policies.Placement"}} for number in range(MAX_POLICIES + 1)]
    assert len(parse(template(policies=policies[1:])).policies) == MAX_POLICIES
    assert problems(parse, template(policies=policies)) == {"/topology_template/policies": "too-many-policies"}


def test_too_long_a_chain_of_types_is_not_called_a_cycle(template):
    types = {f"a.T{number}": {"derived_from": f"a.T{number + 1}"} for number in range(40)} | {"a.T40": {}}
    with pytest.raises(Exception, match=r"'a\.T0' derives from too many others") as raised:
        parse(template(node_types=types))
    assert all("itself" not in problem.message for problem in raised.value.problems)


def test_of_types_that_derive_from_each_other_the_one_is_named_that_does(template):
    kinds = {"a.C": {"derived_from": "a.D"}, "a.D": {"derived_from": "a.C"}}
    node_types = {"a.N": {"derived_from": "tosca.nodes.Root", "capabilities": {"c": "a.C"}}}
    with pytest.raises(Exception, match=r"a\.C") as raised:
        parse(template(capability_types=kinds, node_types=node_types, nodes={"n": {"type": "a.N"}}))
    messages = {problem.path: problem.message for problem in raised.value.problems}
    message = messages["/topology_template/node_templates/n/type"]
    assert message == "the type 'a.C' derives from itself: a.C -> a.D -> a.C"


def attached(relationship, **rest):
    requirement = {"local_storage": {"node": "disk", "relationship": relationship}}
    disk = {"type": "tosca.nodes.BlockStorage", "properties": {"size": "1 GB"}}
    return {"server": {"requirements": [requirement]}, "nodes": {"disk": disk}, **rest}


@pytest.mark.parametrize(
    ("relationship", "path", "code"),
    [
        ("AttachesToo", "", "unknown-type"),
        ({"type": "AttachesToo", "properties": {"location": "/data"}}, "/type", "unknown-type"),
        ({"type": "AttachesTo", "properties": {"locatoin": "/data"}}, "/properties/locatoin", "unknown-property"),
        ({"properties": {"locatoin": "/data"}}, "/properties/locatoin", "unknown-property"),
    ],
)
def test_a_relationship_that_no_type_describes_is_refused(relationship, path, code, template, problems):
    place = f"{SERVER}/requirements/0/local_storage/relationship{path}"
    assert problems(parse, template(**attached(relationship))) == {place: code}


def test_a_relationship_type_may_be_in_an_import_that_is_not_here(template):
    parsed = parse(template(**attached({"type": "AttachesToo"}, imports=["indigo.yaml", "https://example.org/t.yaml"])))
    assert [problem.code for problem in parsed.warnings] == ["import-unresolved", "unknown-type"]


def test_relationship_templates_are_read_and_checked(template, problems):
    def with_templates(templates):
        content = json.loads(template(**attached("r")))
        content["topology_template"]["relationship_templates"] = templates
        return json.dumps(content)

    good = {"r": {"type": "AttachesTo", "properties": {"location": "/data"}}}
    edge = parse(with_templates(good)).nodes["server"].requirements[0]
    assert (edge.relationship, edge.properties) == ("tosca.relationships.AttachesTo", {"location": "/data"})
    bad = {"r": 5, "s": {"type": "AttachesToo"}, "t": {"type": "AttachesTo", "properties": {"x": 1}}}
    above = "/topology_template/relationship_templates"
    assert problems(parse, with_templates(bad)) == {
        f"{above}/r": "bad-structure",
        f"{above}/s/type": "unknown-type",
        f"{above}/t/properties/x": "unknown-property",
    }


def test_a_requirement_is_met_only_by_a_node_of_its_type_or_with_its_capability(template, problems):
    place = f"{SERVER}/requirements/0/local_storage"
    machine = template(server={"requirements": [{"local_storage": "t"}]}, nodes={"t": {"type": "Compute"}})
    assert problems(parse, machine) == {place: "wrong-target"}
    types = {"a.Disk": {"capabilities": {"attachment": "tosca.capabilities.Attachment"}}}
    disk = template(
        node_types=types, server={"requirements": [{"local_storage": "t"}]}, nodes={"t": {"type": "a.Disk"}}
    )
    assert parse(disk).warnings == ()


def test_software_on_software_that_asks_for_a_machine_is_a_warning(template):
    nodes = {
        "a": {"type": "SoftwareComponent", "requirements": [{"host": "server"}]},
        "b": {"type": "SoftwareComponent", "requirements": [{"host": "a"}]},
    }
    assert [problem.code for problem in parse(template(nodes=nodes)).warnings] == ["wrong-target"]


def test_a_key_of_a_requirement_that_has_no_meaning_is_a_warning(template):
    parsed = parse(template(server={"requirements": [{"dependency": {"nod": "server"}}]}))
    assert [(problem.code, problem.path[-4:]) for problem in parsed.warnings] == [("unknown-key", "/nod")]


@pytest.mark.parametrize("section", ["node_templates", "outputs", "policies", "inputs"])
def test_a_call_where_a_section_should_be_is_a_problem(section):
    text = f"tosca_definitions_version: tosca_simple_yaml_1_3\ntopology_template: {{{section}: {{get_input: n}}}}\n"
    with pytest.raises(TemplateError) as refused:
        parse(text)
    assert all(problem.path.startswith(f"/topology_template/{section}") for problem in refused.value.problems)
