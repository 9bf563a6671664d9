"""TOSCA Simple Profile in YAML as federated clouds use it: validate, bind inputs, plan, resolve outputs. No I/O.

What few need is in modules of its own, which are not imported here: ``catalogue``, ``expect``, ``forms``, ``render``, ``update``.
The names that are here are imported when the first of a module is asked for, so that a program can do something before.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from indaco_tosca.errors import Problem, TemplateError
    from indaco_tosca.model import (
        Configurator,
        ImportResolver,
        Input,
        Kind,
        LateValue,
        PlacementHint,
        Plan,
        PlanNode,
        PortRule,
        SecretPlaceholder,
        Software,
        Template,
        Volume,
    )
    from indaco_tosca.outcome import Output, outputs
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

_HOMES = ("errors", "model", "parser", "planner", "outcome", "recipes")

if not TYPE_CHECKING:  # which would take every name for one that is here

    def __getattr__(name: str) -> object:
        """Import a public name; after that it is an ordinary one."""
        for home in _HOMES if name in __all__ else ():
            found = vars(import_module(f"{__name__}.{home}")).get(name)
            if found is not None:
                globals()[name] = found
                return found
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
