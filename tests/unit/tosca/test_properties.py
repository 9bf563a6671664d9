"""Whatever the inputs of a template are, the answer is a plan or a TemplateError with problems."""

from pathlib import Path

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indaco_tosca import TemplateError, outputs, parse, plan

FOLDER = Path(__file__).parents[3] / "examples" / "templates"
SOURCES = [path.read_text() for path in sorted(FOLDER.glob("*.yaml"))]
DOCUMENTS = [yaml.safe_load(source) for source in SOURCES]


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
