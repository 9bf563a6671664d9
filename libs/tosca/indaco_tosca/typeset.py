"""Type definitions with their inheritance resolved, once for each set of imports.

A set is made of layers: the bundled library below, the definitions of an import closure or of a template above, so that
two templates whose imports define the same name differently never see each other's types.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from indaco_tosca.schema import PRIMITIVES, Constraint, PropertyDefinition, Schema, read_property, read_schema
from indaco_tosca.tree import as_map, as_text, single_maps

SECTIONS: Final = (
    "node_types",
    "capability_types",
    "relationship_types",
    "data_types",
    "artifact_types",
    "policy_types",
    "interface_types",
    "group_types",
)
_PREFIXES: Final = {
    "node_types": ("tosca.nodes.", "tosca.nodes.network."),
    "capability_types": ("tosca.capabilities.", "tosca.capabilities.network."),
    "relationship_types": ("tosca.relationships.", "tosca.relationships.network."),
    "data_types": ("tosca.datatypes.", "tosca.datatypes.network."),
    "artifact_types": ("tosca.artifacts.",),
    "policy_types": ("tosca.policies.",),
    "interface_types": ("tosca.interfaces.node.lifecycle.", "tosca.interfaces.relationship."),
    "group_types": ("tosca.groups.",),
}
_MAX_LINEAGE: Final = 32


class UnknownType(LookupError):
    """A type name that no layer defines."""


class TypeCycle(ValueError):
    """A type that derives from itself; ``names`` is the cycle."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        super().__init__(" -> ".join(names))


@dataclass(frozen=True, slots=True)
class CapabilityDefinition:
    """``lineage`` is empty for a type that is not known."""

    name: str
    type: str
    lineage: tuple[str, ...]
    properties: Mapping[str, PropertyDefinition]


@dataclass(frozen=True, slots=True)
class RequirementDefinition:
    name: str
    node: str
    capability: str
    relationship: str


@dataclass(frozen=True, slots=True)
class NodeType:
    """A node type with everything that it inherits; ``lineage`` runs from the type itself to the root."""

    name: str
    lineage: tuple[str, ...]
    properties: Mapping[str, PropertyDefinition]
    attributes: Mapping[str, PropertyDefinition]
    capabilities: Mapping[str, CapabilityDefinition]
    requirements: Mapping[str, RequirementDefinition]
    is_abstract: bool = False
    is_known: bool = True

    def derives_from(self, name: str) -> bool:
        return name in self.lineage


@dataclass(frozen=True, slots=True)
class DataType:
    """A data type: either a structure with properties, or a primitive with more constraints."""

    name: str
    lineage: tuple[str, ...]
    primitive: str
    constraints: tuple[Constraint, ...]
    properties: Mapping[str, PropertyDefinition]
    entry: Schema | None = None


@dataclass(slots=True, eq=False)
class TypeSet:
    """Layered, lazily flattened type definitions; safe to share, because flattening is only a cache.

    ``derived`` is room for what others make of a type once, by the type's name and that of a capability or "".
    """

    definitions: Mapping[str, Mapping[str, object]]
    base: TypeSet | None = None
    derived: dict[tuple[str, str], object] = field(default_factory=dict, repr=False)
    _lineages: dict[tuple[str, str], tuple[str, ...]] = field(default_factory=dict, repr=False)
    _nodes: dict[str, NodeType] = field(default_factory=dict, repr=False)
    _data: dict[str, DataType] = field(default_factory=dict, repr=False)

    def raw(self, section: str, name: str) -> Mapping[str, object] | None:
        """Return the definition of exactly this name, from the highest layer that has it."""
        layer: TypeSet | None = self
        while layer is not None:
            found = layer.definitions.get(section, {}).get(name)
            if found is not None:
                return as_map(found)
            layer = layer.base
        return None

    def full_name(self, section: str, name: str) -> str | None:
        """Return the name under which a type is defined; ``Compute`` and ``tosca:Compute`` stand for the normative."""
        if self.raw(section, name) is not None:
            return name
        short = name.removeprefix("tosca:")
        candidates = (prefix + short for prefix in _PREFIXES.get(section, ()))
        return next((full for full in candidates if self.raw(section, full) is not None), None)

    def lineage(self, section: str, name: str) -> tuple[str, ...]:
        """Return the names from a type to its root. Raises: UnknownType, TypeCycle."""
        key = section, name
        if key not in self._lineages:
            self._lineages[key] = self._lineage(section, name)
        return self._lineages[key]

    def _lineage(self, section: str, name: str) -> tuple[str, ...]:
        if not name:
            raise UnknownType(name)
        names: list[str] = []
        current: str | None = name
        while current:
            if section == "data_types" and current in PRIMITIVES:
                return (*names, current)
            full = self.full_name(section, current)
            if full is None:
                raise UnknownType(current)
            if full in names:
                raise TypeCycle((*names[names.index(full) :], full))
            if len(names) >= _MAX_LINEAGE:
                raise TypeCycle((*names, "..."))
            names.append(full)
            current = as_text((self.raw(section, full) or {}).get("derived_from")) or None
        return tuple(names)

    def is_a(self, section: str, name: str, ancestor: str) -> bool:
        """Return whether a type is, or derives from, another; False for a type that is not known."""
        try:
            return ancestor in self.lineage(section, name)
        except (UnknownType, TypeCycle):
            return False

    def node(self, name: str) -> NodeType:
        """Return a flattened node type. Raises: UnknownType, TypeCycle."""
        if self.base is not None and not any(self.definitions.values()):
            return self.base.node(name)
        if name not in self._nodes:
            self._nodes[name] = self._flatten_node(name)
        return self._nodes[name]

    def data(self, name: str) -> DataType:
        """Return a flattened data type; a primitive is one of its own. Raises: UnknownType, TypeCycle."""
        if name not in self._data:
            self._data[name] = self._flatten_data(name)
        return self._data[name]

    def properties(self, section: str, name: str) -> dict[str, PropertyDefinition]:
        """Return the properties of a type with the inherited ones. Raises: UnknownType, TypeCycle."""
        return self._collect(section, self.lineage(section, name), "properties")

    def _collect(self, section: str, lineage: tuple[str, ...], key: str) -> dict[str, PropertyDefinition]:
        found: dict[str, PropertyDefinition] = {}
        for name in reversed(lineage):
            for item, definition in as_map((self.raw(section, name) or {}).get(key)).items():
                found[item] = read_property(item, definition, found.get(item))
        return found

    def _flatten_node(self, name: str) -> NodeType:
        lineage = self.lineage("node_types", name)
        capabilities: dict[str, CapabilityDefinition] = {}
        requirements: dict[str, RequirementDefinition] = {}
        for ancestor in reversed(lineage):
            raw = self.raw("node_types", ancestor) or {}
            for item, definition in as_map(raw.get("capabilities")).items():
                capabilities[item] = self._capability(item, definition)
            for item, definition, _ in single_maps(raw.get("requirements")):
                requirements[item] = _requirement(item, definition, requirements.get(item))
        return NodeType(
            lineage[0],
            lineage,
            self._collect("node_types", lineage, "properties"),
            self._collect("node_types", lineage, "attributes"),
            capabilities,
            requirements,
            (self.raw("node_types", lineage[0]) or {}).get("abstract") is True,
        )

    def _capability(self, name: str, definition: object) -> CapabilityDefinition:
        type_name = definition if isinstance(definition, str) else as_text(as_map(definition).get("type"))
        try:
            lineage = self.lineage("capability_types", type_name)
        except UnknownType:
            lineage = ()
        properties = self._collect("capability_types", lineage, "properties")
        for item, own in as_map(as_map(definition).get("properties")).items():
            properties[item] = read_property(item, own, properties.get(item))
        return CapabilityDefinition(name, lineage[0] if lineage else type_name, lineage, properties)

    def _flatten_data(self, name: str) -> DataType:
        lineage = self.lineage("data_types", name)
        constraints: list[Constraint] = []
        entry: Schema | None = None
        for ancestor in lineage:
            schema = read_schema(self.raw("data_types", ancestor) or {})
            constraints.extend(schema.constraints)
            entry = entry or schema.entry
        primitive = lineage[-1] if lineage[-1] in PRIMITIVES else ""
        return DataType(
            lineage[0],
            lineage,
            primitive,
            tuple(constraints),
            self._collect("data_types", lineage, "properties"),
            entry,
        )


def _requirement(name: str, definition: object, inherited: RequirementDefinition | None) -> RequirementDefinition:
    if isinstance(definition, str):
        definition = {"capability": definition}
    raw = as_map(definition)
    relationship = raw.get("relationship")
    kind = relationship if isinstance(relationship, str) else as_text(as_map(relationship).get("type"))
    known = inherited or RequirementDefinition(name, "", "", "")
    return RequirementDefinition(
        name,
        as_text(raw.get("node")) or known.node,
        as_text(raw.get("capability")) or known.capability,
        kind or known.relationship,
    )
