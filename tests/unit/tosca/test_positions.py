"""Where something stands is found under the keys that loading makes, however they are written."""

import pytest

from indaco_tosca import Problem, TemplateError, parse
from indaco_tosca.load import load


@pytest.mark.parametrize(
    "key", ["yes", "no", "on", "~", "1", "007", "0x1F", "20.10", "+1", "!!int 007", "'yes'", '"<<"', "! yes"]
)
def test_a_key_is_found_whatever_yaml_makes_of_it(key):
    document = load(f"first: 1\nabove:\n  {key}: {{inside: 1}}\n")
    [name] = document.value["above"]
    assert document.locate(("above", name)) == (3, 3)
    assert document.locate(("above", name, "inside"))[0] == 3


def test_an_alias_may_be_a_key():
    document = load("name: &n yes\nabove:\n  *n : {inside: 1}\n  other: 1\n")
    assert list(document.value["above"]) == ["true", "other"]
    assert document.locate(("above", "true")) == (3, 3)
    assert document.locate(("above", "other")) == (4, 3)


def test_what_a_merge_brings_in_is_where_it_was_written_and_a_quoted_merge_key_brings_in_nothing():
    document = load("base: &b\n  deep: 1\nmerged:\n  <<: *b\nquoted:\n  '<<': *b\n")
    assert document.locate(("merged", "deep")) == (2, 3)
    assert document.locate(("quoted", "<<")) == (6, 3)
    assert document.locate(("quoted", "deep")) == (5, 1)
    assert document.locate(("quoted", "<<", "deep")) == (2, 3)


def test_a_problem_of_a_node_named_yes_has_its_line():
    text = """\
tosca_definitions_version: tosca_simple_yaml_1_3
topology_template:
  node_templates:
    yes:
      type: Compute
      colour: red
"""
    with pytest.raises(TemplateError) as raised:
        parse(text)
    [problem] = raised.value.problems
    assert (problem.path, problem.line) == ("/topology_template/node_templates/true/colour", 6)


def test_problems_are_the_same_wherever_their_place_is_looked_up():
    here, there = (Problem("code", "/a", "message", place=lambda line=line: (line, 1)) for line in (1, 2))
    assert here == there
    assert not here != there  # noqa: SIM202 - tuples have a way of their own to differ
    assert len({here, there}) == 1
    assert here != Problem("code", "/b", "message")
