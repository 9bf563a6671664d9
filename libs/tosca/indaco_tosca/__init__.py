"""TOSCA Simple Profile in YAML as federated clouds use it: validate, bind inputs, plan, resolve outputs. No I/O.

What few need is in modules of its own, which are not imported here: ``catalogue``, ``expect``, ``forms``, ``render``, ``update``.
"""

from indaco_tosca.errors import Problem, TemplateError
from indaco_tosca.model import (
    Configurator,
    ImportResolver,
    Input,
    Kind,
    LateValue,
    Output,
    PlacementHint,
    Plan,
    PlanNode,
    PortRule,
    SecretPlaceholder,
    Software,
    Template,
    Volume,
)
from indaco_tosca.outcome import outputs
from indaco_tosca.parser import parse
from indaco_tosca.planner import plan
from indaco_tosca.recipes import first_boot

__all__ = [
    "Configurator",
    "ImportResolver",
    "Input",
    "Kind",
    "LateValue",
    "Output",
    "PlacementHint",
    "Plan",
    "PlanNode",
    "PortRule",
    "Problem",
    "SecretPlaceholder",
    "Software",
    "Template",
    "TemplateError",
    "Volume",
    "first_boot",
    "outputs",
    "parse",
    "plan",
]
