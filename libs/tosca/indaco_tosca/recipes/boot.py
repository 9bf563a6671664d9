"""The script of a machine: made with the plan, or, if it is told attributes of other machines, once these run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from indaco_tosca.evaluate import Attributes, Evaluator, unknown_in
from indaco_tosca.model import Plan, PlanNode, Software, Volume
from indaco_tosca.recipes.components import render
from indaco_tosca.recipes.shell import RecipeError
from indaco_tosca.recipes.volumes import script
from indaco_tosca.report import Report
from indaco_tosca.resolved import NODES, Resolver


def user_data(
    machine: str,
    software: Iterable[Software],
    volumes: tuple[Volume, ...],
    users: Sequence[Mapping[str, object]],
    resolver: Resolver,
) -> str:
    """Return the script of a machine, or nothing as long as a value in it is not known.

    What software cannot be installed with goes to the resolver's report.
    """
    native = [component for component in software if component.is_native]
    known = [component for component in native if not unknown_in(component.properties)]
    parts = [_part(component, volumes, resolver) for component in known]
    try:
        whole = script(parts, volumes, users)
    except RecipeError as error:
        resolver.report.error("bad-property", (*NODES, machine), f"{error.name}: {error}")
        return ""
    return whole if known == native else ""


def first_boot(plan: Plan, node: PlanNode, attributes: Attributes) -> str:
    """Return the script of a planned machine that waits for attributes of others, which run by now.

    ``attributes`` is as for outputs, and holds at least those of ``node.dependencies``. The plan must have the values of
    all secrets that the machine depends on.
    Raises: TemplateError, if a value is still not known or cannot be used.
    """
    report = Report(plan.template.document)
    resolver = Resolver(Evaluator(plan.template, plan.inputs, attributes=attributes), report)
    software = [
        component._replace(properties=resolver.node(plan.template.nodes[component.node]).found)
        for component in node.software
    ]
    for component in software:
        if component.is_native and unknown_in(component.properties):
            path = (*NODES, component.node, "properties")
            report.error("value-not-known", path, "a value that the machine is told at its first boot is not known")
    result = user_data(node.name, software, node.volumes, node.users, resolver)
    report.raise_errors()
    return result


def _part(component: Software, volumes: tuple[Volume, ...], resolver: Resolver) -> str:
    try:
        return render(component, volumes)
    except RecipeError as error:
        node = resolver.node(resolver.evaluator.template.nodes[component.node])
        message = "the value, which depends on a secret input, cannot be used"
        shown = message if error.name in node.tainted else str(error)
        resolver.report.error("bad-property", (*NODES, component.node, "properties", error.name), shown)
        return ""
