"""Type definitions with their inheritance resolved, once for each set of imports.

A set is made of layers: the bundled library below, the definitions of an import closure or of a template above, so that
two templates whose imports define the same name differently never see each other's types.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from indaco_tosca.errors import Problem, TemplateError, pointer
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
MAX_DEFINITIONS: Final = 100_000  # of one layer, inherited ones included; all bundled node types together have 4,000


class UnknownType(LookupError):
    """A type name that no layer defines."""


class TypeCycle(ValueError):
    """A type that derives from itself; ``names`` is the cycle."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        super().__init__(" -> ".join(names))


class CapabilityDefinition(NamedTuple):
    """``lineage`` is empty for a type that is not known."""

    name: str
    type: str
    lineage: tuple[str, ...]
    properties: Mapping[str, PropertyDefinition]


class RequirementDefinition(NamedTuple):
    name: str
    node: str
    capability: str
    relationship: str


class NodeType(NamedTuple):
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


class DataType(NamedTuple):
    """A data type: either a structure with properties, or a primitive with more constraints."""

    name: str
    lineage: tuple[str, ...]
    primitive: str
    constraints: tuple[Constraint, ...]
    properties: Mapping[str, PropertyDefinition]
    entry: Schema | None = None


class TypeSet:
    """Layered, lazily flattened type definitions; safe to share, because flattening is only a cache.

    ``derived`` is room for what others make of a type once, by the type's name and that of a capability or "".
    """

    def __init__(self, definitions: Mapping[str, Mapping[str, object]], base: TypeSet | None = None) -> None:
        self.definitions, self.base = definitions, base
        self.derived: dict[tuple[str, str], object] = {}
        self._flattened = 0
        self._lineages: dict[tuple[str, str], tuple[str, ...]] = {}
        self._members: dict[tuple[str, str, str], Mapping[str, PropertyDefinition]] = {}
        self._nodes: dict[str, NodeType] = {}
        self._data: dict[str, DataType] = {}
        self._needed: dict[int, tuple[Mapping[str, PropertyDefinition], tuple[str, ...]]] = {}  # by identity

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
        """Return a flattened node type. Raises: UnknownType, TypeCycle, TemplateError for too many definitions."""
        if self.base is not None and not any(self.definitions.values()):
            return self.base.node(name)
        if name not in self._nodes:
            lineage = self.lineage("node_types", name)
            if lineage[0] not in self._nodes:
                self._nodes[lineage[0]] = self._flatten_node(lineage)
            self._nodes[name] = self._nodes[lineage[0]]
        return self._nodes[name]

    def data(self, name: str) -> DataType:
        """Return a flattened data type; a primitive is one of its own. Raises: as ``node``."""
        if name not in self._data:
            lineage = self.lineage("data_types", name)
            if lineage[0] not in self._data:
                self._data[lineage[0]] = self._flatten_data(lineage)
            self._data[name] = self._data[lineage[0]]
        return self._data[name]

    def properties(self, section: str, name: str) -> Mapping[str, PropertyDefinition]:
        """Return the properties of a type with the inherited ones. Raises: as ``node``."""
        return self.members(section, self.lineage(section, name), "properties")

    def members(self, section: str, lineage: tuple[str, ...], key: str) -> Mapping[str, PropertyDefinition]:
        """Return the properties or attributes of a lineage; types that add nothing share what they inherit."""
        if not lineage:
            return {}
        place = section, lineage[0], key
        if place not in self._members:
            self._members[place] = self._flatten_members(section, lineage, key)
        return self._members[place]

    def needed(self, definitions: Mapping[str, PropertyDefinition]) -> tuple[str, ...]:
        """Return the names of the properties of a type that have no default and must be assigned."""
        known = self._needed.get(id(definitions))
        if known is None:
            names = (name for name, item in definitions.items() if item.required and not item.has_default)
            known = self._needed[id(definitions)] = definitions, tuple(names)
        return known[1]

    def _flatten_members(self, section: str, lineage: tuple[str, ...], key: str) -> Mapping[str, PropertyDefinition]:
        below = self._below(section, lineage)
        if below is not None:
            return below.members(section, lineage, key)
        inherited = self.members(section, lineage[1:], key)
        return self._refined(inherited, (self.raw(section, lineage[0]) or {}).get(key), (section, lineage[0]))

    def _refined(
        self, inherited: Mapping[str, PropertyDefinition], raw: object, owner: tuple[str, str]
    ) -> Mapping[str, PropertyDefinition]:
        own = as_map(raw)
        if not own:
            return inherited
        self._charge(len(inherited) + len(own), owner)
        read = {item: read_property(item, definition, inherited.get(item)) for item, definition in own.items()}
        return {**inherited, **read}

    def _below(self, section: str, lineage: tuple[str, ...]) -> TypeSet | None:
        """Return the layer below if all of a lineage is there, so that it is flattened once for all that share it."""
        own = self.definitions.get(section, {})
        return None if any(name in own for name in lineage) else self.base

    def _charge(self, amount: int, owner: tuple[str, str]) -> None:
        """Count definitions before they are made: a short text can ask for very many by inheritance."""
        if self._flattened + amount > MAX_DEFINITIONS:
            message = (
                f"types may have {MAX_DEFINITIONS} definitions together, and with {owner[1][:80]!r} they have more"
            )
            hint = "inherited ones count for each type; let fewer types add to one that has many"
            raise TemplateError([Problem("too-many-definitions", pointer(owner), message, hint)])
        self._flattened += amount

    def _flatten_node(self, lineage: tuple[str, ...]) -> NodeType:
        below = self._below("node_types", lineage)
        if below is not None and not self.definitions.get("capability_types"):
            return below.node(lineage[0])
        owner = "node_types", lineage[0]
        raw = self.raw(*owner) or {}
        parent = self.node(lineage[1]) if len(lineage) > 1 else None
        capabilities = parent.capabilities if parent else {}
        own = as_map(raw.get("capabilities"))
        if own:
            self._charge(len(capabilities) + len(own), owner)
            read = {item: self._capability(item, definition, owner) for item, definition in own.items()}
            capabilities = {**capabilities, **read}
        return NodeType(
            lineage[0],
            lineage,
            self.members("node_types", lineage, "properties"),
            self.members("node_types", lineage, "attributes"),
            capabilities,
            self._requirements(parent.requirements if parent else {}, raw.get("requirements"), owner),
            raw.get("abstract") is True,
        )

    def _capability(self, name: str, definition: object, owner: tuple[str, str]) -> CapabilityDefinition:
        type_name = definition if isinstance(definition, str) else as_text(as_map(definition).get("type"))
        try:
            lineage = self.lineage("capability_types", type_name)
        except UnknownType:
            lineage = ()
        inherited = self.members("capability_types", lineage, "properties")
        properties = self._refined(inherited, as_map(definition).get("properties"), owner)
        return CapabilityDefinition(name, lineage[0] if lineage else type_name, lineage, properties)

    def _requirements(
        self, inherited: Mapping[str, RequirementDefinition], raw: object, owner: tuple[str, str]
    ) -> Mapping[str, RequirementDefinition]:
        if not raw:
            return inherited
        self._charge(len(inherited), owner)
        found = dict(inherited)
        for item, definition, _ in single_maps(raw):
            found[item] = _requirement(item, definition, found.get(item))
        return found

    def _flatten_data(self, lineage: tuple[str, ...]) -> DataType:
        below = self._below("data_types", lineage)
        if below is not None:
            return below.data(lineage[0])
        owner = "data_types", lineage[0]
        schema = read_schema(self.raw(*owner) or {})
        parent = self.data(lineage[1]) if len(lineage) > 1 else None
        constraints, entry = schema.constraints, schema.entry
        if parent:
            self._charge(len(constraints) and len(parent.constraints), owner)
            constraints, entry = constraints + parent.constraints, entry or parent.entry
        return DataType(
            lineage[0],
            lineage,
            lineage[-1] if lineage[-1] in PRIMITIVES else "",
            constraints,
            self.members("data_types", lineage, "properties"),
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
