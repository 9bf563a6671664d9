"""What a template comes to, as one JSON object that can be compared with what other tools make of it.

The keys are those of the expected plans that public corpora of templates carry: node templates and edges, inputs and outputs, and a
plan of systems, networks and steps with sizes in bytes. Names of networks and of steps are ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from indaco_tosca.errors import Problem, TemplateError
from indaco_tosca.model import Kind, Plan, PlanNode, PortRule, Template, Volume
from indaco_tosca.planner import plan
from indaco_tosca.scalars import plain
from indaco_tosca.topology import RUNTIME
from indaco_tosca.tree import as_map

_DEPLOYMENT_TYPES: Final = {
    "tosca.nodes.indigo.Container.Application.Docker.Chronos": "CHRONOS",
    "tosca.nodes.indigo.Container.Application.Docker.Marathon": "MARATHON",
    "tosca.nodes.indigo.Qcg.Job": "QCG",
    "tosca.nodes.indigo.Kubernetes.HelmChart": "KUBERNETES_HELM_CHART",
}
_ELASTIC: Final = "tosca.nodes.indigo.ElasticCluster"
PUBLIC, PRIVATE = "public_net", "private_net"
HIDDEN: Final = "(secret)"


def expect(template: Template, inputs: Mapping[str, object]) -> dict[str, object]:
    """Return the description of a template, with its plan if *inputs* suffice for one, else with ``plan_problems``.

    Its values are those of JSON, which has no infinity: what is not finite is text.
    """
    return {key: plain(value) for key, value in _described(template, inputs).items()}


def _described(template: Template, inputs: Mapping[str, object]) -> dict[str, object]:
    written = as_map(as_map(as_map(template.document.value).get("topology_template")).get("node_templates"))
    described: dict[str, object] = {
        "deployment_type": _deployment_type(template),
        "nodes": {name: str(as_map(written[name]).get("type")) for name in sorted(template.nodes)},
        "edges": sorted(
            [node.name, edge.name, edge.target]
            for node in template.nodes.values()
            for edge in node.requirements
            if edge.target
        ),
        "elastic_cluster": any(node.definition.derives_from(_ELASTIC) for node in template.nodes.values()),
        "outputs": sorted(template.outputs),
        "required_inputs": [name for name, declared in template.inputs.items() if declared.must_be_given],
        "policies": [
            {"name": p.name, "type": p.type, "properties": dict(p.properties), "targets": list(p.targets)}
            for p in template.policies
        ],
    }
    try:
        made = plan(template, inputs)
    except TemplateError as error:
        return {**described, "plan_problems": [problem_of(problem) for problem in error.problems]}
    return {**described, **_planned(made)}


def problem_of(problem: Problem) -> dict[str, object]:
    """Return a problem as JSON."""
    place = {"line": problem.line, "column": problem.column}
    return {"code": problem.code, "path": problem.path, **place, "message": problem.message, "hint": problem.hint}


def _deployment_type(template: Template) -> str:
    for node in template.nodes.values():
        for kind, name in _DEPLOYMENT_TYPES.items():
            if node.definition.derives_from(kind):
                return name
    return "TOSCA"


def _planned(made: Plan) -> dict[str, object]:
    template = made.template
    nodes = [node for node in made.nodes if node.kind is not Kind.BUCKET]
    runtimes = {
        node.name: dict(node.capabilities.get("host", {}))
        for node in template.nodes.values()
        if node.definition.derives_from(RUNTIME)
    }
    inputs = {name: HIDDEN if name in made.secret_inputs else value for name, value in made.inputs.items()}
    return {
        "inputs_used": inputs,
        **({"container_runtimes": runtimes} if runtimes else {}),
        "plan_kind": "vm" if any(node.kind is Kind.MACHINE for node in nodes) else "container-or-faas",
        "plan": {
            "systems": {node.name: _system(node) for node in nodes},
            "networks": _networks(nodes),
            "steps": _steps(nodes),
        },
        "totals": _totals(made),
        "warnings": [problem_of(warning) for warning in made.warnings],
    }


def _system(node: PlanNode) -> dict[str, object]:
    image = {key: value for key, value in node.image.items() if key == "image"}
    image |= {f"os_{key}": node.image[key] for key in ("type", "distribution", "version") if key in node.image}
    optional: dict[str, object] = {
        "num_cpus": node.cpu_milli / 1000,
        "mem_bytes": node.memory_bytes,
        "disk_bytes": node.disk_bytes,
        "gpus": node.gpus,
        "gpu_vendor": node.gpu_vendor,
        "instance_type": node.instance_type,
        "arch": node.image.get("architecture", ""),
        **image,
        "volumes": [_volume(volume) for volume in node.volumes],
        "dns_name": node.dns_name,
        "tags": ",".join(f"{key}={value}" for key, value in node.tags.items()),
    }
    nets = [name for name, is_wanted in ((PRIVATE, node.private_ip), (PUBLIC, node.public_ip)) if is_wanted]
    given = {key: value for key, value in optional.items() if value}
    return {"count": node.count, **given, "nets": nets, "public_ip": node.public_ip}


def _volume(volume: Volume) -> dict[str, object]:
    described = {
        "bytes": volume.size_bytes,
        "mount_path": volume.mount,
        "fstype": volume.fs_type if volume.mount else "",
        "device": volume.device,
        "type": volume.type,
        "volume_id": volume.volume_id,
    }
    return {key: value for key, value in described.items() if value}


def _networks(nodes: list[PlanNode]) -> dict[str, object]:
    found: dict[str, object] = {}
    if any(node.private_ip for node in nodes):
        found[PRIVATE] = {"public": False}
    if any(node.public_ip for node in nodes):
        opened = dict.fromkeys(_opening(rule) for node in nodes if node.public_ip for rule in node.ports)
        found[PUBLIC] = {"public": True, **({"outports": ",".join(opened)} if opened else {})}
    return found


def _opening(rule: PortRule) -> str:
    number = str(rule.port) if rule.port == rule.port_end else f"{rule.port}:{rule.port_end}"
    return f"{number}/{rule.protocol}-{number}/{rule.protocol}"


def _steps(nodes: list[PlanNode]) -> list[list[object]]:
    """Return [system, component, level]: what has one level can be done at the same time, after all the lower levels."""
    steps: list[tuple[int, str, str]] = []
    for node in nodes:
        steps.append((node.level, node.name, node.name))
        steps += [(part.level, node.name, part.node) for part in node.software if part.node != node.name]
    return [[system, component, level] for level, system, component in sorted(steps)]


def _totals(made: Plan) -> dict[str, int]:
    totals = made.totals
    renamed = {
        "vms": totals["machines"] + totals["containers"],
        "vcpus": totals["cpu_milli"] // 1000,
        "mem_bytes": totals["memory_bytes"],
    }
    return renamed | {name: totals[name] for name in ("gpus", "public_ips", "volumes", "volume_bytes")}
