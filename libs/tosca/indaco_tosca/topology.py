"""Who hosts, binds and stores whom: the edges of a template, read by their meaning."""

from __future__ import annotations

from collections.abc import Iterator

from indaco_tosca.model import Kind, Node, Requirement, Template

COMPUTE = "tosca.nodes.Compute"
BLOCK_STORAGE = "tosca.nodes.BlockStorage"
NETWORK = "tosca.nodes.network.Network"
PORT = "tosca.nodes.network.Port"
APPLICATION = "tosca.nodes.Container.Application"
RUNTIME = "tosca.nodes.Container.Runtime"
FUNCTION = "tosca.nodes.aisprint.FaaS.Function"
BUCKET = "tosca.nodes.indigo.S3Bucket"
HOSTED_ON = "tosca.relationships.HostedOn"
_ORDERING = (HOSTED_ON, "tosca.relationships.DependsOn", "tosca.relationships.ConnectsTo")
_MAX_HOSTS = 32


class Topology:
    """The nodes of a template with the edges between them."""

    def __init__(self, template: Template) -> None:
        self._template = template
        self._nodes = template.nodes
        self._hosts: dict[str, str] = {}
        self._machines: dict[str, str] = {}  # of those nodes that were asked for
        for node in template.nodes.values():
            for requirement in node.requirements:
                if requirement.target and self._is_host(requirement):
                    self._hosts.setdefault(node.name, requirement.target)
        self._hosted: dict[str, list[Node]] = {}
        self._levels: dict[str, int] = {}
        for name in template.order:
            below = [self._levels[edge.target] for edge in template.nodes[name].requirements if self._waits_for(edge)]
            self._levels[name] = 1 + max(below, default=0)
            for host in self.hosts_of(name):
                self._hosted.setdefault(host.name, []).append(template.nodes[name])

        self._ports: dict[str, list[tuple[Node, Node | None]]] = {}
        for node in template.nodes.values():
            if self.is_a(node, PORT):
                bound = node, self._nodes.get(self._target(node, "link"))
                self._ports.setdefault(self._target(node, "binding"), []).append(bound)

    def is_a(self, node: Node, type_name: str) -> bool:
        return type_name in node.definition.lineage

    def kind_of(self, node: Node) -> Kind | None:
        """Return what a node is at a site; None for what is a part of something else, or nothing."""
        if self.is_a(node, COMPUTE):
            return Kind.MACHINE
        if self.is_a(node, BUCKET):
            return Kind.BUCKET
        is_container = self.is_a(node, APPLICATION) or self.is_a(node, FUNCTION)
        return Kind.CONTAINER if is_container and not self.machine_of(node.name) else None

    def planned_for(self, name: str) -> str:
        """Return the node of the plan that a node is, or is a part of; empty if there is none."""
        found = self._nodes.get(self.machine_of(name) or name)
        return found.name if found and self.kind_of(found) else ""

    def belongs_to_something(self, node: Node) -> bool:
        """Return whether a node is deployed, by itself or as a part of what is."""
        is_part = any(self.is_a(node, kind) for kind in (BLOCK_STORAGE, NETWORK, PORT, RUNTIME))
        return is_part or self.kind_of(node) is not None or bool(self.machine_of(node.name))

    def level_of(self, name: str) -> int:
        """Return when a node can be configured: 1, or after all that it is hosted on, depends on or connects to."""
        return self._levels[name]

    def of_type(self, type_name: str) -> list[Node]:
        """Return the nodes of a type and of those that derive from it, in deployment order."""
        nodes = (self._nodes[name] for name in self._template.order)
        return [node for node in nodes if self.is_a(node, type_name)]

    def hosts_of(self, name: str) -> Iterator[Node]:
        """Yield the host of a node, the host of that, and so on."""
        for _ in range(_MAX_HOSTS):
            name = self._hosts.get(name, "")
            if not name:
                return
            yield self._nodes[name]

    def machine_of(self, name: str) -> str:
        """Return the machine that a node is, is hosted on or is attached to; empty if there is none."""
        if name not in self._machines:
            self._machines[name] = self._machine_of(name)
        return self._machines[name]

    def _machine_of(self, name: str) -> str:
        node = self._nodes[name]
        if self.is_a(node, COMPUTE):
            return name
        for host in self.hosts_of(name):
            if self.is_a(host, COMPUTE):
                return host.name
        if self.is_a(node, PORT):
            return next((edge.target for edge in node.requirements if edge.name == "binding"), "")
        return ""

    def hosted_on(self, machine: str) -> list[Node]:
        """Return the software on a machine, in deployment order; a bucket is not on it, whatever its template says."""
        return [node for node in self._hosted.get(machine, []) if not self.is_a(node, BUCKET)]

    def ports_of(self, machine: str) -> list[tuple[Node, Node | None]]:
        """Return the Port nodes bound to a machine, each with its network."""
        return self._ports.get(machine, [])

    def volumes_of(self, machine: str) -> list[tuple[Requirement, Node]]:
        """Return the volumes attached to a machine with the requirement that attaches each."""
        return [
            (edge, self._nodes[edge.target])
            for edge in self._nodes[machine].requirements
            if edge.target and self.is_a(self._nodes[edge.target], BLOCK_STORAGE)
        ]

    def _target(self, node: Node, requirement: str) -> str:
        return next((edge.target for edge in node.requirements if edge.name == requirement), "")

    def _waits_for(self, requirement: Requirement) -> bool:
        is_a = self._template.types.is_a
        kinds = (is_a("relationship_types", requirement.relationship, kind) for kind in _ORDERING)
        return bool(requirement.target) and any(kinds)

    def _is_host(self, requirement: Requirement) -> bool:
        types = self._template.types
        return requirement.name == "host" or types.is_a("relationship_types", requirement.relationship, HOSTED_ON)
