"""Resolve the outputs of a template against the attributes of a deployment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from indaco_tosca.evaluate import ABSENT, MAX_WORK, Attributes, EvaluationError, Evaluator, unknown_in
from indaco_tosca.model import LateValue, OutputDefinition, Plan, SecretPlaceholder
from indaco_tosca.shapes import shown

MAX_WORK_IN_ALL: Final = 5 * MAX_WORK
LEAST_WORK: Final = 200
"""What an output may cause even if those before it used up the rest: enough for one that reads an attribute."""


class Output(NamedTuple):
    """The value of a template's output; None with a ``problem`` if it could not be resolved."""

    value: object
    secret: bool = False
    description: str = ""
    problem: str = ""

    def __repr__(self) -> str:
        return shown(self, "value")


def outputs(plan: Plan, attributes: Attributes) -> Mapping[str, Output]:
    """Return every output of a plan's template.

    ``attributes`` has for each node its attributes by name: ``public_address`` and ``private_address`` (lists),
    ``endpoint`` ({"credential": [...], "ports": {...}}), ``tosca_id``, ``state`` and any other. An output that cannot
    be resolved is null with a problem, and never keeps the others from being resolved: each has a budget of its own.
    """
    evaluator = Evaluator(plan.template, plan.inputs, attributes=attributes)
    found: dict[str, Output] = {}
    left = MAX_WORK_IN_ALL
    for name, definition in plan.template.outputs.items():
        evaluator.allow(max(LEAST_WORK, min(MAX_WORK, left)))
        found[name] = _resolve(evaluator, definition)
        left -= evaluator.work
    return found


def _resolve(evaluator: Evaluator, definition: OutputDefinition) -> Output:
    try:
        value, secrets = evaluator.evaluate(definition.value)
    except EvaluationError as error:
        evaluator.take_notes()
        return Output(None, secret=True, description=definition.description, problem=str(error))
    notes = evaluator.take_notes()
    unknown = unknown_in(value)
    if hidden := [each for each in unknown if isinstance(each, SecretPlaceholder)]:
        names = ", ".join(sorted(hidden[0].names))
        problem = f"depends on secret inputs whose values are not here: {names}"
        return Output(None, secret=True, description=definition.description, problem=problem)
    if late := [each for each in unknown if isinstance(each, LateValue)]:
        problem = f"{late[0].attribute} of {late[0].node!r} is not known"
        return Output(None, secret=bool(secrets), description=definition.description, problem=problem)
    if value is ABSENT:
        return Output(None, secret=bool(secrets), description=definition.description, problem="has no value")
    return Output(value, bool(secrets), definition.description, "; ".join(notes) if value is None else "")
