"""Builders for TOSCA tests: a template with one machine, of which a test says only what it is about."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from tests.corpus import ABSENT, CORPUS, REPOSITORY

from indaco_tosca import TemplateError


def _template(*, server: Mapping = {}, nodes: Mapping = {}, version: str = "tosca_simple_yaml_1_3", **rest) -> str:
    topology = {key: rest.pop(key) for key in ("inputs", "outputs", "policies", "groups", "workflows") if key in rest}
    machine = {"type": "tosca.nodes.indigo.Compute", **server}
    topology["node_templates"] = {"server": machine, **nodes}
    imports = {"imports": ["indigo.yaml", "indaco.yaml"]}
    return json.dumps({"tosca_definitions_version": version, **imports, **rest, "topology_template": topology})


@pytest.fixture(scope="session")
def template() -> Callable[..., str]:
    """Text of a template (JSON is YAML) with a machine "server", and with what the keywords add."""
    return _template


@pytest.fixture(scope="session")
def problems() -> Callable[..., dict[str, str]]:
    """The problems that a call raises, as path → code."""

    def collect(function, *args, **kwargs) -> dict[str, str]:
        with pytest.raises(TemplateError) as raised:
            function(*args, **kwargs)
        return {problem.path: problem.code for problem in raised.value.problems}

    return collect


@pytest.fixture(scope="session")
def corpus() -> Path:
    """The folder of public templates, where there is one."""
    if not CORPUS.is_dir():
        pytest.skip(ABSENT)
    return CORPUS


@pytest.fixture(scope="session")
def examples() -> Path:
    return REPOSITORY / "examples" / "templates"
