"""Canonical text: the same meaning always gives the same text, and reading it gives the same meaning."""

import csv
import json

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from indaco_tosca import TemplateError, outputs, parse, plan
from indaco_tosca.render import render
from indaco_tosca.scalars import source_text
from indaco_tosca.typeset import SECTIONS

CALL = {"get_input": "x"}
TABLES = ("IMPORTS.tsv", "INDEX.tsv")


def written(value):
    """A value with each scalar as its author wrote it, so that 20.10 is not 20.1 and "1" is not 1."""
    if isinstance(value, dict):
        return [(key, written(item)) for key, item in value.items()]
    if isinstance(value, list | tuple):
        return [written(item) for item in value]
    return isinstance(value, str), source_text(value)


def meaning(template):
    content = template.document.value
    return {
        "description": template.description,
        "metadata": written(dict(template.metadata)),
        "inputs": {name: (item, written(item.default)) for name, item in template.inputs.items()},
        "nodes": {
            node.name: (
                node.type,
                written(dict(node.properties)),
                written({name: dict(properties) for name, properties in node.capabilities.items()}),
                [(edge.name, edge.target, edge.relationship, written(dict(edge.properties))) for edge in node.requirements],
                written(dict(node.artifacts)),
            )
            for node in template.nodes.values()
        },
        "outputs": {name: (item.description, written(item.value)) for name, item in template.outputs.items()},
        "policies": [(item.name, item.type, written(dict(item.properties)), item.targets) for item in template.policies],
        "order": template.order,
        "interfaces": [
            written(item.get("interfaces")) for item in content.get("topology_template", {}).get("node_templates", {}).values()
        ],
        "types": {section: sorted(content.get(section) or {}) for section in SECTIONS},
    }  # fmt: skip


def assert_round_trip(text, **options):
    template = parse(text, **options)
    canonical = render(template)
    again = parse(canonical, **options)
    assert meaning(again) == meaning(template)
    assert render(again) == canonical
    return canonical


# ── scalars


@pytest.mark.parametrize(
    "text",
    [
        "yes", "No", "on", "OFF", "y", "N", "true", "null", "~", "", "22:22", "1:30:00", "20.10", "007", "0x1F", "0o17", "1e5", "+1",
        ".5", "1_000", "2024-01-01", ".inf", ".nan", "=", "<", "- a", "a: b", "a #b", "#a", "*a", "&a", "!a", "%a", "@a", "`a`",
        "{a}", "[a]", "a, b", "'", '"', "\\", "?", "-", ":", "  a", "a  ", "\ta", "a\n", "a\nb", "a\n\nb\n\n", "\na", " a\nb", "a \nb",
        "a\r\nb", "\0", "\x85", "\u2028", "\ufeff", "é", "😀", "---", "...", "a" * 3000, "a b " * 900, "|", ">", "<<",
    ],
)  # fmt: skip
def test_a_text_stays_the_text_that_it_is(text, template):
    content = template(server={"properties": {"tags": {"a": text}}}, metadata={"x": {"y": [text]}})
    given = content.replace(json.dumps("😀")[1:-1], "😀")  # YAML knows no surrogates
    again = parse(assert_round_trip(given))
    assert (again.nodes["server"].properties, again.metadata["x"]) == ({"tags": {"a": text}}, {"y": [text]})
    others = yaml.safe_load(render(again))  # other readers of YAML 1.1
    assert others["metadata"]["x"] == {"y": [text]}


@pytest.mark.parametrize(
    "plain",
    ["20.10", "007", "0x1F", "+1", ".5", "1.", "1_000", "0.1", "1.0e+3", "12345678901234567890", "-0.0", "yes", "~"],
)
def test_a_number_keeps_the_text_of_its_author(plain, template):
    text = template(metadata={"x": "@"}).replace('"@"', plain)
    assert written(parse(assert_round_trip(text)).metadata["x"]) == written(parse(text).metadata["x"])


def test_keys_are_texts_and_stay_what_they_are(template):
    keys = ["true", "22", "", "a: b", "null", "é", "a\nb", "x" * 200]
    text = template(metadata=dict.fromkeys(keys, 1))
    assert list(parse(assert_round_trip(text)).metadata) == keys


# ── form


def test_the_same_meaning_in_another_form_gives_the_same_text(template):
    one = template(
        inputs={"x": {"default": "a", "type": "string", "constraints": {"min_length": 1, "max_length": 2}}},
        server={"requirements": {"local_storage": "disk"}},
        nodes={"disk": {"properties": {"size": "1 GB"}, "type": "tosca.nodes.BlockStorage"}},
        policies={"here": {"properties": {"sla_id": "s"}, "type": "tosca.policies.indigo.SlaPlacement"}},
    )
    other = """
topology_template:
  policies:
    - here: {type: tosca.policies.indigo.SlaPlacement, properties: {sla_id: s}}
  node_templates:
    server: &machine
      requirements: [{local_storage: disk}]
      type: "tosca.nodes.indigo.Compute"
    disk: {<<: {type: tosca.nodes.BlockStorage}, properties: {size: 1 GB}}
  inputs:
    x: {constraints: [min_length: 1, max_length: 2], type: string, default: a}
dsl_definitions:
  unused: &unused {a: b}
tosca_definitions_version: tosca_simple_yaml_1_3
imports: [indigo.yaml, indaco.yaml]
"""
    assert render(parse(one)) == render(parse(other))


def test_a_document_without_a_topology_and_with_unknown_keys_is_stable():
    assert_round_trip("tosca_definitions_version: tosca_simple_yaml_1_3\nzzz: 1\nnamespace: a\n")


def test_keys_stand_in_the_order_of_the_specification(examples):
    for path in sorted(examples.glob("*.yaml")):
        lines = render(parse(path.read_bytes())).splitlines()
        sections = [
            line.split(":")[0].strip() for line in lines if line.startswith(("  ", "")) and not line.startswith("   ")
        ]
        assert sections.index("inputs") < sections.index("node_templates") < sections.index("outputs")


def test_calls_and_lists_of_plain_values_take_a_line(template):
    text = template(inputs={"x": {"constraints": [{"valid_values": [1, 2]}]}}, server={"properties": {"tags": CALL}})
    canonical = render(parse(text))
    assert "tags: {get_input: x}" in canonical
    assert "valid_values: [1, 2]" in canonical


@pytest.mark.parametrize("name", ["virtual-machine.yaml", "docker-compose.yaml"])
def test_an_example_is_read_again_as_it_was(name, examples):
    assert_round_trip((examples / name).read_bytes())


def test_public_templates_are_read_again_as_they_were(corpus):
    rows = {
        name: csv.DictReader((corpus / name).read_text().splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE)
        for name in TABLES
    }
    paths = {row["import_url"]: row["local_path"] for row in rows["IMPORTS.tsv"]}
    valid = [row["file"] for row in rows["INDEX.tsv"] if (row["kind"], row["expect"]) == ("template", "valid")]
    accepted = 0
    for name in valid:
        text = (corpus / name).read_bytes()

        def resolve(url):
            return (corpus / paths[url]).read_bytes() if url in paths else None

        try:
            parse(text, resolve=resolve)
        except TemplateError:
            continue  # test_corpus says which are accepted
        accepted += 1
        assert_round_trip(text, resolve=resolve)
    assert accepted > 200


# ── inputs in their places


def bound(text, given, **options):
    made = plan(parse(text), given, **options)
    return parse(render(made.template, inputs=made.inputs))


def test_inputs_are_replaced_by_their_values_in_canonical_form(template):
    inputs = {
        "version": {"type": "version", "default": "20.10"}, "size": {"type": "scalar-unit.size"}, "n": {"type": "integer"},
        "ports": {"type": "map", "default": {"a": {"source": 22}}},
    }  # fmt: skip
    capabilities = {
        "os": {"properties": {"version": {"get_input": "version"}}},
        "host": {"properties": {"mem_size": {"get_input": "size"}, "num_cpus": {"get_input": "n"}}},
        "endpoint": {"properties": {"ports": {"b": {"source": {"get_input": ["ports", "a", "source"]}}}}},
    }
    found = bound(template(inputs=inputs, server={"capabilities": capabilities}), {"size": "2 GB", "n": "4"})
    assert found.inputs == {}
    assert found.nodes["server"].capabilities == {
        "os": {"version": "20.10"}, "host": {"mem_size": "2 GB", "num_cpus": 4}, "endpoint": {"ports": {"b": {"source": 22}}},
    }  # fmt: skip


def test_what_only_an_absent_input_would_fill_is_left_away(template):
    inputs = {"x": {"required": False}, "y": {"required": False, "type": "map"}}
    tags = {"a": CALL, "b": {"get_input": "y"}, "c": "kept"}
    text = template(
        inputs=inputs, server={"properties": {"tags": tags}}, outputs={"o": {"value": CALL}, "p": {"value": 1}}
    )
    found = bound(text, {})
    assert found.nodes["server"].properties == {"tags": {"c": "kept"}}
    assert list(found.outputs) == ["p"]


def test_outputs_whose_static_part_has_no_value_are_left_away(template):
    first = {"get_property": ["server", "os_users", 0]}
    late = {"get_attribute": ["server", "public_address", 0]}
    values = {
        "first": first,
        "text": {"concat": ["a", first]},
        "late": late,
        "both": [late, {"get_property": ["server", "os_users"]}],
    }
    text = template(
        inputs={"users": {"type": "list", "default": []}}, server={"properties": {"os_users": {"get_input": "users"}}},
        outputs={name: {"value": value} for name, value in values.items()},
    )  # fmt: skip
    assert list(bound(text, {}).outputs) == ["late", "both"]
    assert list(bound(text, {"users": [{"os_user_name": "ada"}]}).outputs) == ["first", "late", "both"]


def test_numbers_are_floats_where_the_type_says_float(template):
    types = {
        "my.Machine": {
            "derived_from": "tosca.nodes.indigo.Compute",
            "properties": {"ratio": {"type": "float"}, "whole": {"type": "integer"}},
        }
    }
    server = {"type": "my.Machine", "properties": {"ratio": {"get_input": "n"}, "whole": {"get_input": "n"}}}
    text = template(node_types=types, inputs={"n": {"type": "integer"}}, server=server)
    made = plan(parse(text), {"n": 1})
    assert "ratio: 1.0" in render(made.template, inputs=made.inputs)
    assert "whole: 1\n" in render(made.template, inputs=made.inputs)


SECRET = {"password": {"type": "string"}}
USES_SECRET = {"properties": {"tags": {"a": {"get_input": "password"}}}}


def test_a_secret_that_is_not_here_is_asked_for_by_name_alone(template, problems):
    parsed = parse(template(inputs=SECRET, outputs={"x": {"value": {"get_input": "password"}}}))
    made = plan(parsed, {}, absent_secrets=frozenset({"password"}))
    assert problems(render, parsed, inputs=made.inputs) == {"/topology_template/outputs/x/value": "secret-absent"}
    assert "hunter2" in render(parsed, inputs=plan(parsed, {"password": "hunter2"}).inputs)


@pytest.mark.parametrize(
    "value",
    [
        {"get_attribute": ["server", "private_address"]},
        [{"concat": ["a", {"get_input": "x"}]}],
        {"a": {"token": ["a", "b", 0]}},
    ],
)
def test_a_value_that_would_be_read_as_a_function_is_refused(value, template, problems):
    parsed = parse(template(inputs={"x": {}}, server={"properties": {"tags": {"a": CALL}}}))
    path = "/topology_template/node_templates/server/properties/tags/a"
    assert problems(render, parsed, inputs={"x": value}) == {path: "input-not-renderable"}


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 10**70])
def test_a_number_that_no_document_can_hold_is_refused(value, template, problems):
    parsed = parse(template(inputs={"x": {}}, server={"properties": {"tags": {"a": CALL}}}))
    assert list(problems(render, parsed, inputs={"x": value}).values()) == ["input-not-renderable"]


@pytest.mark.parametrize("value", [1e22, 1e-7, -1.5e300, 1.0, 0.1])
def test_a_float_stays_a_float_for_every_reader(value, template):
    parsed = parse(template(inputs={"x": {}}, outputs={"y": {"value": CALL}}))
    text = render(parsed, inputs={"x": value})
    assert parse(text).outputs["y"].value == value
    assert yaml.safe_load(text)["topology_template"]["outputs"]["y"]["value"] == value


def test_a_text_made_of_an_absent_input_is_refused(template, problems):
    parsed = parse(template(inputs={"x": {"required": False}}, outputs={"y": {"value": 1}}, server={
        "interfaces": {"Standard": {"create": {"implementation": "a.yml", "inputs": {"z": {"concat": ["a", CALL]}}}}},
    }))  # fmt: skip
    assert list(problems(render, parsed, inputs={}).values()) == ["bad-function"]


@pytest.mark.parametrize("value", ["x" * 20_000, [[1] * 500] * 10, {"a": {"b": ["c" * 500] * 40}}])
def test_what_would_become_larger_than_a_document_may_be_is_refused(value, template, problems):
    tags = {f"t{number}": CALL for number in range(100)}
    parsed = parse(template(inputs={"x": {}}, server={"properties": {"tags": tags}}))
    assert next(iter(problems(render, parsed, inputs={"x": value}).values())) in {"document-too-large", "bad-function"}


def test_a_text_that_aliases_repeat_too_often_is_refused(template, problems):
    tags = ", ".join(f"t{number}: *long" for number in range(2000))
    long = "x" * 10_000
    text = f"""
tosca_definitions_version: tosca_simple_yaml_1_3
imports: [indigo.yaml, indaco.yaml]
metadata: {{x: &long {long}}}
topology_template: {{node_templates: {{server: {{type: tosca.nodes.indigo.Compute, properties: {{tags: {{{tags}}}}}}}}}}}
"""
    assert list(problems(render, parse(text)).values()) == ["document-too-large"]


def test_the_values_of_a_plan_give_the_same_plan_without_inputs(examples):
    for path in sorted(examples.glob("*.yaml")):
        parsed = parse(path.read_bytes())
        made = plan(parsed, {name: "x" for name, item in parsed.inputs.items() if item.must_be_given})
        again = plan(parse(render(parsed, inputs=made.inputs)), {})
        for one, other in zip(made.nodes, again.nodes, strict=True):
            assert (one.memory_bytes, one.ports, one.software, one.image) == (
                other.memory_bytes, other.ports, other.software, other.image,
            )  # fmt: skip
        assert outputs(again, {}).keys() <= outputs(made, {}).keys()


# ── any template

TEXTS = st.text(st.characters(codec="utf-8"), max_size=12) | st.text("ynYN01.:eE+-_#&*!|>'\"{}[],? \n\t~=<", max_size=8)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS
)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=10,
)


@settings(deadline=None)
@given(TREES, TREES)
def test_law_any_values_survive(metadata, tags):
    content = {
        "tosca_definitions_version": "tosca_simple_yaml_1_3",
        "imports": ["indigo.yaml"],
        "metadata": {"x": metadata},
        "topology_template": {
            "inputs": {"i": {"default": metadata}},
            "node_templates": {"server": {"type": "tosca.nodes.indigo.Compute", "metadata": {"t": tags}}},
        },
    }
    text = yaml.safe_dump(content, allow_unicode=True)
    try:
        parse(text)
    except TemplateError:
        return
    assert_round_trip(text)


@settings(deadline=None)
@given(TREES)
def test_law_any_value_of_an_input_is_read_again_or_refused(value):
    content = {
        "tosca_definitions_version": "tosca_simple_yaml_1_3",
        "imports": ["indigo.yaml"],
        "topology_template": {
            "inputs": {"i": {}},
            "node_templates": {"server": {"type": "tosca.nodes.indigo.Compute"}},
            "outputs": {"x": {"value": [{"get_input": "i"}]}},
        },
    }
    parsed = parse(json.dumps(content))
    try:
        text = render(parsed, inputs={"i": value})
    except TemplateError:
        return
    found = parse(text).outputs
    assert found == {} if value is None else found["x"].value == [value]
