"""Read node templates and check each against its type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from indaco_tosca.model import Node, Requirement
from indaco_tosca.positions import Path
from indaco_tosca.report import Report, known
from indaco_tosca.schema import PropertyDefinition
from indaco_tosca.tree import as_map, as_text, single_maps
from indaco_tosca.typeset import NodeType, TypeCycle, TypeSet, UnknownType
from indaco_tosca.values import Coercer

_KEYS = frozenset({
    "type", "description", "metadata", "properties", "attributes", "requirements", "capabilities", "artifacts",
    "interfaces", "directives", "node_filter", "copy",
})  # fmt: skip
_CAPABILITIES = frozenset({"scalable", "host", "os", "endpoint"})
_RELATIONSHIPS = {
    "host": "tosca.relationships.HostedOn",
    "local_storage": "tosca.relationships.AttachesTo",
    "binding": "tosca.relationships.network.BindsTo",
    "link": "tosca.relationships.network.LinksTo",
    "dependency": "tosca.relationships.DependsOn",
}


@dataclass(slots=True)
class NodeReader:
    """Reads the node templates of one topology; what is wrong with them goes to the report."""

    types: TypeSet
    report: Report
    relationship_templates: Mapping[str, object]
    missing_imports: tuple[str, ...]
    all_names: frozenset[str]
    coercer: Coercer = field(init=False)

    def __post_init__(self) -> None:
        self.coercer = Coercer(self.types, self.report, leave_functions=True)

    def read(self, name: str, definition: object) -> Node | None:
        path: Path = ("topology_template", "node_templates", name)
        if not isinstance(definition, dict) or not as_text(definition.get("type")):
            self.report.error("bad-structure", path, "a node template must be a map with a type")
            return None
        self._check_keys(definition, path)
        type_name = as_text(definition.get("type"))
        found = self._type(type_name, (*path, "type"))
        node_type = found or NodeType(type_name, (), {}, {}, {}, {}, is_known=False)
        node = Node(
            name,
            node_type.name,
            node_type,
            as_map(definition.get("properties")),
            self._capabilities(definition.get("capabilities"), (*path, "capabilities")),
            self._requirements(definition.get("requirements"), found, (*path, "requirements")),
            as_map(definition.get("artifacts")),
        )
        if found:
            self._check(node, found, path)
        return node

    def _check_keys(self, definition: Mapping[str, object], path: Path) -> None:
        for key in sorted(definition.keys() - _KEYS):
            hint = (
                f"write capabilities: {{{key}: {{properties: ...}}}}" if key in _CAPABILITIES else known(sorted(_KEYS))
            )
            self.report.error("unknown-key", (*path, key), f"a node template has no key {key[:80]!r}", hint)

    def _type(self, name: str, path: Path) -> NodeType | None:
        try:
            found = self.types.node(name)
        except UnknownType as error:
            parent = str(error.args[0])
            what = f"the node type {name!r}" if parent == name else f"{parent!r}, from which {name!r} derives,"
            hint = "import the library that defines it; those of INDIGO are here: imports: [indigo.yaml]"
            if self.missing_imports:
                hint = f"not available: {', '.join(self.missing_imports)[:300]}"
            self.report.error("unknown-type", path, f"{what} is not known", hint)
            return None
        except TypeCycle as error:
            self.report.error("type-cycle", path, f"the type {name!r} derives from itself: {error}")
            return None
        if found.is_abstract:
            self.report.error("abstract-type", path, f"the type {name!r} is abstract; use one that derives from it")
        return found

    def _capabilities(self, raw: object, path: Path) -> dict[str, Mapping[str, object]]:
        capabilities: dict[str, Mapping[str, object]] = {}
        for name, content in as_map(raw).items():
            if not isinstance(content, dict | None):
                self.report.error("bad-structure", (*path, name), "a capability must be a map with properties")
                continue
            for key in sorted(as_map(content).keys() - {"properties", "attributes", "occurrences", "directives"}):
                hint = "put it under properties"
                self.report.error("unknown-key", (*path, name, key), f"a capability has no key {key!r}", hint)
            capabilities[name] = as_map(as_map(content).get("properties"))
        return capabilities

    def _requirements(self, raw: object, node_type: NodeType | None, path: Path) -> tuple[Requirement, ...]:
        found: list[Requirement] = []
        for name, content, place in single_maps(raw):
            at = (*path, *place)
            target = content if isinstance(content, str) else as_text(as_map(content).get("node"))
            if target and target not in self.all_names:
                if self.types.full_name("node_types", target) is None:
                    self.report.error("unknown-node", at, f"there is no node template {target!r}")
                target = ""
            definition = node_type.requirements.get(name) if node_type else None
            if node_type and definition is None:
                message = f"{node_type.name} has no requirement {name!r}"
                self.report.error("unknown-requirement", at, message, known(node_type.requirements))
            declared = definition.relationship if definition else ""
            kind, properties = self._relationship(as_map(content).get("relationship"))
            found.append(Requirement(name, target, kind or declared or _RELATIONSHIPS.get(name, ""), properties, at))
        return tuple(found)

    def _relationship(self, raw: object) -> tuple[str, Mapping[str, object]]:
        """Return type and properties of a relationship: a type, a relationship template, or one written in place."""
        if isinstance(raw, str):
            template = self.relationship_templates.get(raw)
            if template is None:
                return self.types.full_name("relationship_types", raw) or raw, {}
            raw = template
        content = as_map(raw)
        kind = as_text(content.get("type"))
        return self.types.full_name("relationship_types", kind) or kind, as_map(content.get("properties"))

    def _check(self, node: Node, node_type: NodeType, path: Path) -> None:
        self._check_properties(node.properties, node_type.properties, node_type.name, (*path, "properties"))
        for name, given in node.capabilities.items():
            definition = node_type.capabilities.get(name)
            at = (*path, "capabilities", name)
            if definition is None:
                message = f"{node_type.name} has no capability {name!r}"
                self.report.error("unknown-capability", at, message, known(node_type.capabilities))
            elif self.types.full_name("capability_types", definition.type):
                self._check_properties(given, definition.properties, definition.type, (*at, "properties"))

    def _check_properties(
        self, given: Mapping[str, object], definitions: Mapping[str, PropertyDefinition], owner: str, path: Path
    ) -> None:
        for name, value in given.items():
            definition = definitions.get(name)
            if definition is None:
                message = f"{owner} has no property {name!r}"
                self.report.error("unknown-property", (*path, name), message, known(definitions))
            elif value is not None:
                self.coercer.coerce(value, definition.schema, (*path, name))
        for name, definition in definitions.items():
            if definition.required and not definition.has_default and given.get(name) is None:
                self.report.error("property-required", path, f"{owner} needs the property {name!r}")
