"""What a template needs, in the words of the contracts; whatever no contract could carry is refused here, with the place."""

import asyncio
import re
from collections.abc import Mapping
from typing import Any

import pydantic

import indaco_tosca
from indaco_common.contracts.values import Image, NodeNeeds, Policy, PortRule
from indaco_common.errors import FieldError, Invalid
from indaco_common.units import ResourceVector
from indaco_common.web import excerpt

from .model.operation import Part

LARGE_TEMPLATE = 16 * 1024  # bytes; larger ones are parsed in a thread, so that others need not wait
DEFAULT_CPU_MILLI, DEFAULT_MEMORY_MIB = 1000, 1024  # of a node that does not say
MAX_MACHINES = 200
MAX_PROBLEMS = 50
MAX_SENTENCE = 400  # characters of one problem
NODE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")  # leaves room for the number that makes it a machine's name


async def plan_of(
    template: str,
    parameters: Mapping[str, Any],
    resolve: indaco_tosca.ImportResolver | None = None,
    *,
    kept: Mapping[str, Any] | None = None,
) -> indaco_tosca.Plan:
    """Return the plan; of *kept*, the parameters of before, those count that the template declares and *parameters* do not name.

    Raises: Invalid, with every problem of the template and of the parameters.
    """

    def plan() -> indaco_tosca.Plan:
        parsed = indaco_tosca.parse(template, resolve=resolve)
        still = {name: value for name, value in (kept or {}).items() if name in parsed.inputs}
        return indaco_tosca.plan(parsed, {**still, **parameters})

    try:
        return await asyncio.to_thread(plan) if len(template) > LARGE_TEMPLATE else plan()
    except indaco_tosca.TemplateError as error:
        count = len(error.problems)
        title = f"The template or its parameters cannot be accepted: {count} problem{'s' if count > 1 else ''}"
        raise Invalid(title, errors=[_field(problem) for problem in error.problems[:MAX_PROBLEMS]]) from None


def nodes_of(plan: indaco_tosca.Plan) -> dict[str, NodeNeeds]:
    """Return the machines, containers and buckets that *plan* wants, by TOSCA node. Raises: Invalid."""
    wanted = [node for node in plan.nodes if node.count]
    if not wanted:
        raise _refused("There is nothing to deploy: every count is 0")
    if (total := sum(node.count for node in wanted)) > MAX_MACHINES:
        raise _refused(
            f"The template asks for {total} machines or containers; at most {MAX_MACHINES} are taken at once"
        )
    return {node.name: _checked(node) for node in wanted}


def parts_of(plan: indaco_tosca.Plan) -> dict[str, Part]:
    """Return what lists of resources are asked about each TOSCA node: the types it is of, and its operating system."""
    nodes = plan.template.nodes
    return {
        node.name: Part(
            kind=node.kind.value, ancestors=nodes[node.name].definition.lineage[1:],
            distribution=str(node.image.get("distribution") or ""), version=str(node.image.get("version") or ""),
        )
        for node in plan.nodes
    }  # fmt: skip


def policy_of(plan: indaco_tosca.Plan) -> Policy:
    hint = plan.placement
    return Policy() if hint is None else Policy(provider=hint.provider, region=hint.region, agreement=hint.sla_id)


def warnings_of(plan: indaco_tosca.Plan) -> tuple[str, ...]:
    """Return what was accepted and is worth a look, in sentences with their places; the first of many."""
    return tuple(_field(problem).detail for problem in plan.warnings[:MAX_PROBLEMS])


def _checked(node: indaco_tosca.PlanNode) -> NodeNeeds:
    if not NODE_NAME.fullmatch(node.name):
        why = "letters, digits, dots, dashes and underscores, a letter or digit first, 100 characters at most"
        raise _refused(f"The machine {excerpt(node.name)!r} needs another name: {why}")
    try:
        return _needs(node)
    except pydantic.ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise _refused(f"The machine {node.name!r} cannot be asked for: {where}: {first['msg']}") from None
    except (ValueError, OverflowError) as error:
        raise _refused(f"The machine {node.name!r} cannot be asked for: {error}") from None


def _needs(node: indaco_tosca.PlanNode) -> NodeNeeds:
    image = {name: str(value) for name, value in node.image.items() if value}
    return NodeNeeds(
        kind=node.kind.value, count=node.count, needs=ResourceVector(_amounts(node)), instance_type=node.instance_type, gpu_model=node.gpu_model,
        image=Image(
            name=image.get("image", ""), architecture=image.get("architecture", ""), type=image.get("type", ""),
            distribution=image.get("distribution", ""), version=image.get("version", ""),
        ),
        ports=tuple(
            PortRule(protocol=rule.protocol, port=rule.port, port_end=rule.port_end, remote_cidr=rule.remote_cidr, name=rule.name)
            for rule in node.ports
        ),
    )  # fmt: skip


def _amounts(node: indaco_tosca.PlanNode) -> dict[str, int]:
    """Return what one instance takes; a container's public ports are those of its platform and cost no address."""
    if node.kind is indaco_tosca.Kind.BUCKET:
        return {"buckets": 1}
    return {
        "instances": 1, "cpu_milli": node.cpu_milli or DEFAULT_CPU_MILLI, "memory_mib": node.memory_mib or DEFAULT_MEMORY_MIB,
        "disk_gib": node.disk_gib, "gpus": node.gpus,
        "public_ips": int(node.public_ip and node.kind is indaco_tosca.Kind.MACHINE),
        "volumes": len(node.volumes), "volume_gib": sum(volume.size_gib for volume in node.volumes),
    }  # fmt: skip


def _refused(sentence: str) -> Invalid:
    text = excerpt(sentence, MAX_SENTENCE)
    return Invalid(text, errors=[FieldError("/template", text)])


def _field(problem: indaco_tosca.Problem) -> FieldError:
    """Return *problem* with its pointer into the body; a place within the template is told in words."""
    path = problem.path
    sentence = problem.message + (f" - {problem.hint}" if problem.hint else "")
    if path == "/inputs" or path.startswith("/inputs/"):
        return FieldError(excerpt("/parameters" + path.removeprefix("/inputs"), 200), excerpt(sentence, MAX_SENTENCE))
    where = f"line {problem.line}, column {problem.column}" if problem.line else ""
    place = ", ".join(filter(None, (path, where)))
    return FieldError("/template", excerpt(f"{place}: {sentence}" if place else sentence, MAX_SENTENCE))
