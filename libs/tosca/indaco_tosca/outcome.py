"""Resolve the outputs of a template against the attributes of a deployment."""

from __future__ import annotations

from collections.abc import Mapping

from indaco_tosca.evaluate import ABSENT, Attributes, EvaluationError, Evaluator
from indaco_tosca.model import LateValue, Output, OutputDefinition, Plan, SecretPlaceholder


def outputs(plan: Plan, attributes: Attributes) -> Mapping[str, Output]:
    """Return every output of a plan's template.

    ``attributes`` has for each node its attributes by name: ``public_address`` and ``private_address`` (lists),
    ``endpoint`` ({"credential": [...], "ports": {...}}), ``tosca_id``, ``state`` and any other. An output that cannot
    be resolved is null with a problem, and never keeps the others from being resolved.
    """
    evaluator = Evaluator(plan.template, plan.inputs, attributes=attributes)
    return {name: _resolve(evaluator, definition) for name, definition in plan.template.outputs.items()}


def _resolve(evaluator: Evaluator, definition: OutputDefinition) -> Output:
    try:
        value, secrets = evaluator.evaluate(definition.value)
    except EvaluationError as error:
        evaluator.take_notes()
        return Output(None, secret=True, description=definition.description, problem=str(error))
    notes = evaluator.take_notes()
    unknown = _first_unknown(value)
    if isinstance(unknown, SecretPlaceholder):
        problem = f"depends on secret inputs whose values are not here: {', '.join(sorted(unknown.names))}"
        return Output(None, secret=True, description=definition.description, problem=problem)
    if isinstance(unknown, LateValue):
        problem = f"{unknown.attribute} of {unknown.node!r} is not known"
        return Output(None, secret=bool(secrets), description=definition.description, problem=problem)
    if value is ABSENT:
        return Output(None, secret=bool(secrets), description=definition.description, problem="has no value")
    return Output(value, bool(secrets), definition.description, "; ".join(notes) if value is None else "")


def _first_unknown(value: object) -> SecretPlaceholder | LateValue | None:
    """Return a placeholder that a value contains, a secret one first."""
    late: LateValue | None = None
    waiting = [value]
    while waiting:
        current = waiting.pop()
        if isinstance(current, SecretPlaceholder):
            return current
        if isinstance(current, LateValue):
            late = current
        elif isinstance(current, dict):
            waiting.extend(current.values())
        elif isinstance(current, list):
            waiting.extend(current)
    return late
