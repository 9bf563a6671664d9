"""Questions made from the form of a template, and what answers to them mean."""

from typing import Any

import click
import pytest

from indaco_client.questions import Choice, Question, given_openly, is_shown, questions, secrets, unanswered
from indaco_tosca import parse
from indaco_tosca.forms import form

TEMPLATE = """
tosca_definitions_version: tosca_simple_yaml_1_0
topology_template:
  inputs:
    size:
      type: string
      description: How large
      constraints: [{valid_values: [small, large]}]
    count: {type: integer, default: 2, constraints: [{in_range: [1, 9]}]}
    shared: {type: boolean, default: false}
    token: {type: string, metadata: {secret: true}}
    motto: {type: string, default: ""}
    shared_with: {type: string}
"""
HINTS = {"inputs": {"shared_with": {"show_if": {"field": "shared", "in": [True]}, "required": True}}}


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    return dict(form(parse(TEMPLATE), HINTS).dump())


def test_each_input_is_a_question_with_what_it_allows(made: dict[str, Any]) -> None:
    found = {each.name: each for each in questions(made)}
    assert list(found) == ["size", "count", "shared", "token", "motto", "shared_with"]
    assert found["size"].choices == (Choice("small", "small"), Choice("large", "large"))
    assert (found["size"].help, found["size"].required, found["size"].kind) == ("How large", True, "string")
    assert (found["count"].least, found["count"].most, found["count"].default) == (1, 9, 2)
    assert found["token"].secret
    assert secrets(made) == {"token"}
    assert given_openly(made, ["token", "size"]) == ["token"]


def test_only_what_is_missing_and_matters_is_asked_for(made: dict[str, Any]) -> None:
    assert [each.name for each in unanswered(made, {})] == ["size", "token"]
    assert [each.name for each in unanswered(made, {"size": "small", "shared": True})] == ["token", "shared_with"]
    assert not is_shown(made, "shared_with", {"shared": False})
    assert is_shown(made, "size", {})


@pytest.mark.parametrize(
    ("condition", "given", "shown"),
    [
        ({"field": "a", "not": [False, ""]}, {"a": "x"}, True), ({"field": "a", "not": [False, ""]}, {"a": ""}, False),
        ({"field": "a", "not": [False]}, {}, False), ({"field": "a", "in": ["x"]}, {}, False), ({"field": "a", "in": ["x"]}, {"a": "x"}, True),
    ],
)  # fmt: skip
def test_a_condition_heeds_what_was_given(condition: dict[str, Any], given: dict[str, Any], *, shown: bool) -> None:
    assert is_shown({"schema": {}, "ui": {"fields": {"b": {"show_if": condition}}}}, "b", given) is shown


@pytest.mark.parametrize(
    ("question", "text", "value"),
    [
        (Question("n", "N", kind="integer"), "7", 7), (Question("n", "N", kind="number"), "7.5", 7.5),
        (Question("n", "N", kind="string"), "7", "7"), (Question("n", "N", kind="boolean"), "Yes", True),
        (Question("n", "N", kind="boolean"), "n", False), (Question("n", "N", kind="array"), "[1, a]", [1, "a"]),
        (Question("n", "N"), "{a: 1}", {"a": 1}), (Question("n", "N", choices=(Choice(4, "four"), Choice(2, "two"))), "1", 4),
        (Question("n", "N", choices=(Choice(4, "four"), Choice(2, "two"))), "two", 2),
        (Question("n", "N", choices=(Choice("4", "four"), Choice("9", "nine"))), "9", "9"),
    ],
)  # fmt: skip
def test_an_answer_becomes_a_value(question: Question, text: str, value: object) -> None:
    assert question.answer(text) == value


@pytest.mark.parametrize(
    ("question", "text", "says"),
    [
        (Question("n", "N", kind="integer"), "7.5", "whole number"), (Question("n", "N", kind="number"), "x", "a number"),
        (Question("n", "N", kind="boolean"), "maybe", "yes or no"), (Question("n", "N", kind="array"), "[", "n: "),
        (Question("n", "N", kind="integer", least=1), "0", "1 or more"), (Question("n", "N", kind="integer", most=9), "10", "9 or less"),
        (Question("n", "N", choices=(Choice("a", "a"),)), "2", "one of 1 to 1"), (Question("n", "N", choices=(Choice("a", "a"),)), "b", "one of 1"),
    ],
)  # fmt: skip
def test_an_answer_that_will_not_do_is_told(question: Question, text: str, says: str) -> None:
    with pytest.raises(click.UsageError) as raised:
        question.answer(text)
    assert says in raised.value.message
