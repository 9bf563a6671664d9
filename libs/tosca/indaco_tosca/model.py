"""The public shapes: a parsed template, and the plan made from it. None of them is to be changed.

A shape is a named tuple, here and elsewhere: to load and define dataclasses would take a fifth of a cold start. Those whose
values may be secret leave them out of their ``repr``, and of that alone: as a tuple or as JSON they have all. The placeholders are no
tuples, since they must never pass for a value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from indaco_tosca.errors import Problem
from indaco_tosca.shapes import Placeholder, shown

if TYPE_CHECKING:
    from indaco_tosca.load import Document
    from indaco_tosca.positions import Path
    from indaco_tosca.schema import Constraint, Schema
    from indaco_tosca.typeset import NodeType, TypeSet

_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})
MIB: Final = 1024**2
GIB: Final = 1024**3

ImportResolver = Callable[[str], str | bytes | None]
"""Gives the text of an import by its name or URL, or None if it has none; the only door to the outside."""


class SecretPlaceholder(Placeholder):
    """Stands for a value that depends on secret inputs whose values are held elsewhere."""

    __slots__ = ("names",)

    def __init__(self, names: frozenset[str]) -> None:
        self.names = names


class LateValue(Placeholder):
    """Stands for a value that is known only after deployment, because it depends on an attribute of ``node``."""

    __slots__ = ("attribute", "node")

    def __init__(self, node: str, attribute: str) -> None:
        self.node, self.attribute = node, attribute


UNKNOWN: Final = (SecretPlaceholder, LateValue)
"""The kinds of what stands for a value that is not known yet."""


class Input(NamedTuple):
    """A declared input. ``default`` is meaningful only if ``has_default``; null is a possible default."""

    name: str
    type: str
    schema: Schema
    default: object = None
    has_default: bool = False
    required: bool = True
    description: str = ""
    secret: bool = False

    def __repr__(self) -> str:
        return shown(self, "schema", "default")

    @property
    def constraints(self) -> tuple[Constraint, ...]:
        return self.schema.constraints

    @property
    def must_be_given(self) -> bool:
        return self.required and not self.has_default


class Requirement(NamedTuple):
    """One assignment of a requirement; ``target`` is a node template, or empty where only a type was named."""

    name: str
    target: str
    relationship: str
    properties: Mapping[str, object]
    path: Path


class Node(NamedTuple):
    """A node template as written: values may still contain functions. ``type`` is the full name of ``definition``."""

    name: str
    type: str
    definition: NodeType
    properties: Mapping[str, object]
    capabilities: Mapping[str, Mapping[str, object]]
    requirements: tuple[Requirement, ...]
    artifacts: Mapping[str, object]


class Policy(NamedTuple):
    name: str
    type: str
    properties: Mapping[str, object]
    targets: tuple[str, ...]


class OutputDefinition(NamedTuple):
    name: str
    value: object
    description: str


class Template(NamedTuple):
    """A valid template: every type, name, requirement and function reference in it exists."""

    description: str
    metadata: Mapping[str, object]
    inputs: Mapping[str, Input]
    nodes: Mapping[str, Node]
    outputs: Mapping[str, OutputDefinition]
    policies: tuple[Policy, ...]
    order: tuple[str, ...]
    types: TypeSet
    document: Document
    warnings: tuple[Problem, ...] = ()
    unsupported: tuple[Problem, ...] = ()

    def __repr__(self) -> str:
        return shown(self, "nodes", "outputs", "policies", "order", "types", "document")


class PortRule(NamedTuple):
    """An inbound opening. ``port_end`` equals ``port`` for a single port."""

    protocol: str
    port: int
    port_end: int
    remote_cidr: str
    name: str


class Volume(NamedTuple):
    """A block device for each instance of a node; ``size_bytes`` is 0 if an existing ``volume_id`` is attached."""

    size_bytes: int
    mount: str
    name: str = ""
    volume_id: str = ""
    snapshot_id: str = ""
    device: str = ""
    fs_type: str = "ext4"
    type: str = ""

    @property
    def size_gib(self) -> int:
        """Rounded up, as sites sell it."""
        return -(-self.size_bytes // GIB)


class Kind(StrEnum):
    """What a node of a plan is made of at a site."""

    MACHINE = "machine"
    CONTAINER = "container"
    BUCKET = "bucket"


class Configurator(StrEnum):
    """Who installs a component: the machine itself at its first boot, an external service, or nobody, as there is nothing to do."""

    CLOUD_INIT = "cloud-init"
    ANSIBLE = "ansible"
    NONE = "none"


class Software(NamedTuple):
    """A component hosted on a machine.

    ``level`` counts from 1: components of one level can be configured at the same time, after all those of lower ones.
    """

    node: str
    type: str
    properties: Mapping[str, object]
    by: Configurator = Configurator.NONE
    level: int = 1

    def __repr__(self) -> str:
        return shown(self, "properties")

    @property
    def is_native(self) -> bool:
        """Whether the ``user_data`` of the machine installs it."""
        return self.by is Configurator.CLOUD_INIT


class PlanNode(NamedTuple):
    """One group of equal machines, a container, or a bucket. Sizes are minima, and 0 or "" means that the template does not ask.

    ``cpu_milli`` is thousandths of a virtual CPU; ``memory_mib`` and ``disk_gib`` are rounded up. ``secrets`` names the
    secret inputs that ``user_data`` or ``software`` depend on: both must be handled as secrets if it is not empty, and
    ``user_data`` is empty as long as the value of one of them is absent. With ``is_late`` it is empty too, since it needs
    attributes of ``dependencies``: :func:`indaco_tosca.first_boot` makes it once these run.
    """

    name: str
    type: str
    kind: Kind = Kind.MACHINE
    count: int = 1  # type: ignore[assignment]  # tuples have a method of that name, of which nobody has need here
    cpu_milli: int = 0
    memory_bytes: int = 0
    disk_bytes: int = 0
    gpus: int = 0
    gpu_vendor: str = ""
    gpu_model: str = ""
    instance_type: str = ""
    image: Mapping[str, str] = _NOTHING
    public_ip: bool = False
    private_ip: bool = True
    ports: tuple[PortRule, ...] = ()
    dns_name: str = ""
    users: tuple[Mapping[str, object], ...] = ()
    volumes: tuple[Volume, ...] = ()
    software: tuple[Software, ...] = ()
    user_data: str = ""
    secrets: frozenset[str] = frozenset()
    is_late: bool = False
    dependencies: tuple[str, ...] = ()
    level: int = 1
    tags: Mapping[str, str] = _NOTHING

    def __repr__(self) -> str:
        return shown(self, "users", "user_data")

    @property
    def memory_mib(self) -> int:
        return -(-self.memory_bytes // MIB)

    @property
    def disk_gib(self) -> int:
        return -(-self.disk_bytes // GIB)


class PlacementHint(NamedTuple):
    """Where the template asks to be placed; an empty text means no wish."""

    sla_id: str = ""
    region: str = ""
    provider: str = ""


class Plan(NamedTuple):
    """What a template asks for with given inputs, in deployment order."""

    inputs: Mapping[str, object]
    secret_inputs: frozenset[str]
    nodes: tuple[PlanNode, ...]
    placement: PlacementHint | None
    warnings: tuple[Problem, ...]
    template: Template
    absent_secrets: frozenset[str] = frozenset()

    def __repr__(self) -> str:
        return shown(self, "inputs", "template")

    @property
    def totals(self) -> dict[str, int]:
        """What it asks for in all, by name: counts, thousandths of virtual CPUs, and bytes."""
        kinds = {f"{kind}s": sum(node.count for node in self.nodes if node.kind is kind) for kind in Kind}
        return kinds | {
            "cpu_milli": sum(node.count * node.cpu_milli for node in self.nodes),
            "memory_bytes": sum(node.count * node.memory_bytes for node in self.nodes),
            "disk_bytes": sum(node.count * node.disk_bytes for node in self.nodes),
            "gpus": sum(node.count * node.gpus for node in self.nodes),
            "public_ips": sum(node.count for node in self.nodes if node.public_ip),
            "volumes": sum(node.count * len(node.volumes) for node in self.nodes),
            "volume_bytes": sum(node.count * volume.size_bytes for node in self.nodes for volume in node.volumes),
        }
