"""Make a plan: what a template asks for with given inputs, and in which order."""

from __future__ import annotations

from collections.abc import Mapping

from indaco_tosca.containers import bucket, container
from indaco_tosca.errors import TemplateError
from indaco_tosca.evaluate import CREDENTIAL, Evaluator, unknown_in
from indaco_tosca.functions import calls_in
from indaco_tosca.inputs import bind_inputs, without_values
from indaco_tosca.model import (
    Configurator,
    Kind,
    LateValue,
    Node,
    Plan,
    PlanNode,
    SecretPlaceholder,
    Software,
    Template,
)
from indaco_tosca.placement import placement_of
from indaco_tosca.recipes import understands, user_data
from indaco_tosca.report import Report
from indaco_tosca.resolved import NODES, Resolver, Values
from indaco_tosca.resources import (
    addresses_of,
    endpoints_of,
    image_of,
    instance_count,
    port_rules,
    sizes_of,
    volumes_of,
)
from indaco_tosca.scalars import source_text
from indaco_tosca.topology import Topology
from indaco_tosca.tree import as_list

_PLAIN_SOFTWARE = "tosca.nodes.SoftwareComponent"


def plan(template: Template, inputs: Mapping[str, object], *, absent_secrets: frozenset[str] = frozenset()) -> Plan:
    """Return what a template asks for.

    ``absent_secrets`` names secret inputs whose values are held elsewhere: they count as given, and what depends on one
    is a SecretPlaceholder. A plan of the same template with the full values is otherwise equal.
    Raises: TemplateError, with a path "/inputs/<name>" for each input that is missing, wrong or unknown, and a path into
    the template for what cannot be planned.
    """
    if template.unsupported:
        raise TemplateError(template.unsupported)
    report = Report(template.document)
    bound = bind_inputs(template, inputs, absent_secrets, report)
    try:
        report.raise_errors()
    except TemplateError as error:
        raise TemplateError(without_values(error.problems, template)) from None
    resolver = Resolver(Evaluator(template, bound), report)
    nodes = _Planner(template, resolver).nodes()
    placement = placement_of(resolver, frozenset(node.name for node in nodes))
    report.raise_errors()
    return Plan(
        bound,
        frozenset(name for name, declared in template.inputs.items() if declared.secret),
        nodes,
        placement,
        (*template.warnings, *report.warnings),
        template,
        frozenset(name for name, value in bound.items() if isinstance(value, SecretPlaceholder)),
    )


class _Planner:
    """Plans the nodes of one template."""

    def __init__(self, template: Template, resolver: Resolver) -> None:
        self._template = template
        self._resolver = resolver
        self._report = resolver.report
        self._topology: Topology = resolver.evaluator.topology

    def nodes(self) -> tuple[PlanNode, ...]:
        planned: dict[str, PlanNode] = {}
        for name in self._template.order:
            node = self._template.nodes[name]
            match self._topology.kind_of(node):
                case Kind.MACHINE:
                    planned[name] = self._machine(node)
                case Kind.CONTAINER:
                    planned[name] = container(node, self._resolver)
                case Kind.BUCKET:
                    planned[name] = bucket(node, self._resolver)
        if not planned:
            message = "the template has no machine, container or bucket: nothing of it runs anywhere by itself"
            self._report.error("nothing-to-deploy", NODES, message)
        self._check_waits(planned)
        self._warn_about_rest()
        return tuple(planned[name] for name in _in_order({name: node.dependencies for name, node in planned.items()}))

    def _machine(self, machine: Node) -> PlanNode:
        resolver = self._resolver
        hosted = self._topology.hosted_on(machine.name)
        endpoints = endpoints_of([machine, *hosted], resolver)
        host = resolver.capability(machine, "host")
        own = resolver.node(machine)
        is_public, is_private = addresses_of(machine, endpoints, resolver)
        volumes = volumes_of(machine, resolver)
        software = tuple(self._software(node, machine) for node in hosted)
        users = tuple(user for user in own.items("os_users") if isinstance(user, dict))
        return PlanNode(
            name=machine.name,
            type=machine.type,
            count=instance_count(machine, resolver),
            public_ip=is_public,
            instance_type=host.text("instance_type"),
            image=image_of(machine, resolver),
            ports=port_rules(endpoints, resolver),
            users=users,
            volumes=volumes,
            software=software,
            dns_name=self._dns_name(machine, endpoints),
            user_data=user_data(machine.name, software, volumes, users, resolver),
            dependencies=self._dependencies(machine, hosted, software),
            tags={key: source_text(value) for key, value in own.mapping("tags").items()},
            private_ip=is_private,
            secrets=frozenset().union(*(resolver.node(node).secrets for node in hosted)) - {CREDENTIAL},
            level=self._topology.level_of(machine.name),
            **sizes_of(host),
            is_late=any(component.is_native and _late_in(component.properties) for component in software),
        )

    def _dns_name(self, machine: Node, endpoints: list[tuple[str, Values]]) -> str:
        names = [values.open_text("dns_name") for _, values in endpoints]
        names += [self._resolver.node(port).open_text("dns_name") for port, _ in self._topology.ports_of(machine.name)]
        return next((name for name in names if name), "")

    def _software(self, node: Node, machine: Node) -> Software:
        properties = dict(self._resolver.node(node).found)
        by, level = Configurator.NONE, self._topology.level_of(node.name)
        needs_itself = any(self._topology.machine_of(late.node) == machine.name for late in _late_in(properties))
        if understands(node) and not needs_itself:
            by = Configurator.CLOUD_INIT
        elif node.artifacts or node.type != _PLAIN_SOFTWARE:
            by = Configurator.ANSIBLE
            why = "it needs attributes of its own machine" if needs_itself else "there is no recipe for it"
            message = f"{node.type} is not installed by the machine itself, for {why}; it needs a configuration service"
            self._report.warn("needs-configuration", (*NODES, node.name), message)
        return Software(node.name, node.type, properties, by, level)

    def _dependencies(self, machine: Node, hosted: list[Node], software: tuple[Software, ...]) -> tuple[str, ...]:
        """Return the other machines that a machine, or what is on it, requires or is told an attribute of, by whatever way."""
        told = [late.node for component in software for late in _late_in(component.properties)]
        needed = {other: None for name in told if (other := self._topology.planned_for(name)) and other != machine.name}
        for node in (machine, *hosted):
            names = [edge.target for edge in node.requirements if edge.target]
            values = [node.properties, *node.capabilities.values()]
            for function, argument, _ in (call for value in values for call in calls_in(value)):
                if function == "get_attribute" and as_list(argument):
                    names.append(str(as_list(argument)[0]))
            for name in names:
                other = self._topology.planned_for(name) if name in self._template.nodes else ""
                if other and other != machine.name:
                    needed[other] = None
        return tuple(needed)

    def _check_waits(self, planned: Mapping[str, PlanNode]) -> None:
        """Refuse machines that are told of each other at their first boot, or of none: they could never be made."""
        for node in planned.values():
            missing = [name for name in node.dependencies if node.is_late and node.count and not planned[name].count]
            if missing:
                message = f"the machine is told of {missing[0]!r} at its first boot, of which there are none"
                self._report.error("boot-without", (*NODES, node.name), message)
        waiting = {name: node.dependencies for name, node in planned.items() if node.is_late}
        while ready := [name for name, needed in waiting.items() if not waiting.keys() & set(needed)]:
            for name in ready:
                del waiting[name]
        if waiting:
            name = next(iter(waiting))
            message = f"these machines are told of each other at their first boot: {', '.join(waiting)}"
            self._report.error("boot-cycle", (*NODES, name), message)

    def _warn_about_rest(self) -> None:
        for node in self._template.nodes.values():
            self._resolver.node(node)  # also of what nothing uses: its properties must be right
            if not self._topology.belongs_to_something(node):
                message = f"nothing is deployed for the node {node.name!r} of type {node.type}"
                self._report.warn("not-deployed", (*NODES, node.name), message)


def _late_in(properties: Mapping[str, object]) -> list[LateValue]:
    return [value for value in unknown_in(properties) if isinstance(value, LateValue)]


def _in_order(dependencies: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Return names with dependencies first; machines that need each other stay as they are written."""
    order: list[str] = []
    waiting = dict.fromkeys(dependencies)
    while waiting:
        is_ready = (name for name in waiting if not any(item in waiting for item in dependencies[name]))
        chosen = next(is_ready, None) or next(iter(waiting))
        del waiting[chosen]
        order.append(chosen)
    return order
