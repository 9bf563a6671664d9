"""Whatever happens to a template, the answer is a plan or a TemplateError with problems."""

import copy
import json
from pathlib import Path

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indaco_tosca import TemplateError, outputs, parse, plan

FOLDER = Path(__file__).parents[3] / "examples" / "templates"
SOURCES = [path.read_text() for path in sorted(FOLDER.glob("*.yaml"))]
DOCUMENTS = [yaml.safe_load(source) for source in SOURCES]
JUNK = [
    None, True, -1, 1.5, 10**30, "", "server", "2 GB", [], {}, [[]], {"a": 1}, {"get_input": "users"}, {"get_input": []},
    {"get_property": ["SELF", "os_users", 0]}, {"get_attribute": ["HOST", "x"]}, {"concat": [{"get_property": ["SELF", "x"]}]},
    {"token": [1, 2, 3]}, {"join": [["a"], 2]}, {"get_nodes_of_type": "Compute"}, [{"host": "server"}], {"type": "Compute"},
    {"type": "tosca.datatypes.Credential"}, "tosca.nodes.indigo.Compute", "UNBOUNDED", {"node": "server"}, {"entry_schema": ""}, {"derived_from": ""},
]  # fmt: skip
KEYS = ["type", "default", "properties", "host", "ports", "count", "constraints", "derived_from", "zzz", "get_input"]


def places(value, path=()):
    if path:
        yield path
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in pairs:
        yield from places(item, (*path, key))


@st.composite
def mutated_documents(draw):
    document = copy.deepcopy(draw(st.sampled_from(DOCUMENTS)))
    for _ in range(draw(st.integers(1, 3))):
        *parents, last = draw(st.sampled_from(list(places(document))))
        target = document
        for key in parents:
            target = target[key]
        action = draw(st.sampled_from(["replace", "delete", "rename"]))
        if action == "replace":
            target[last] = copy.deepcopy(draw(st.sampled_from(JUNK)))
        elif action == "rename" and isinstance(target, dict):
            target[draw(st.sampled_from(KEYS))] = target.pop(last)
        else:
            del target[last]
        if not document:
            break
    return json.dumps(document)


@st.composite
def mutated_texts(draw):
    source = draw(st.sampled_from(SOURCES))
    start = draw(st.integers(0, len(source) - 1))
    length = draw(st.integers(0, 8))
    return (
        source[:start] + draw(st.text("{}[]:&*!|>-,#\"'\n \tab0%@`~<?\0\ud800", max_size=4)) + source[start + length :]
    )


def answer(text, given_inputs):
    try:
        parsed = parse(text)
        required = {name: "x" for name, declared in parsed.inputs.items() if declared.must_be_given}
        made = plan(
            parsed, {**required, **{name: given_inputs[name] for name in given_inputs if name in parsed.inputs}}
        )
        outputs(made, {})
        outputs(made, {node.name: {"public_address": ["192.0.2.1"], "endpoint": {}} for node in made.nodes})
    except TemplateError as error:
        return [(problem.code, problem.message) for problem in error.problems]
    return [("plan", made.nodes[0].name)]


RELAXED = settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@RELAXED
@given(
    mutated_documents(), st.dictionaries(st.sampled_from(["num_cpus", "users", "service_ports"]), st.sampled_from(JUNK))
)
def test_a_mutated_document_gives_a_plan_or_problems(text, inputs):
    assert all(code and message for code, message in answer(text, inputs))


@RELAXED
@given(mutated_texts())
def test_a_mutated_text_gives_a_plan_or_problems(text):
    assert all(code and message for code, message in answer(text, {}))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@RELAXED
@given(st.dictionaries(st.sampled_from(sorted(DOCUMENTS[0]["topology_template"]["inputs"])), JSON))
def test_any_input_gives_a_plan_or_problems(inputs):
    assert all(code and text for code, text in answer(SOURCES[0], inputs))


@given(st.integers(1, 64), st.integers(1, 512), st.sampled_from(["MB", "MiB", "GB", "GiB"]))
@settings(max_examples=40, deadline=None)
def test_a_plan_never_asks_for_less_than_the_template(cpus, amount, unit):
    factor = {"MB": 10**6, "MiB": 2**20, "GB": 10**9, "GiB": 2**30}[unit]
    name = next(
        index for index, document in enumerate(DOCUMENTS) if "compose_file" in document["topology_template"]["inputs"]
    )
    node = plan(parse(SOURCES[name]), {"num_cpus": cpus, "mem_size": f"{amount} {unit}"}).nodes[0]
    assert node.cpu_milli == cpus * 1000
    assert 0 <= node.memory_mib * 2**20 - amount * factor < 2**20
