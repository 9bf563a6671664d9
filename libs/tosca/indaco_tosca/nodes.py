"""Read node templates and check each against its type."""

from __future__ import annotations

from collections.abc import Mapping

from indaco_tosca.functions import call_of
from indaco_tosca.model import Node, Requirement
from indaco_tosca.positions import Path
from indaco_tosca.report import Report, kind_of, known
from indaco_tosca.scalars import source_text
from indaco_tosca.schema import PropertyDefinition
from indaco_tosca.tree import as_map, as_text
from indaco_tosca.typeset import NodeType, RequirementDefinition, TypeCycle, TypeSet, UnknownType
from indaco_tosca.values import Coercer

_KEYS = frozenset({
    "type", "description", "metadata", "properties", "attributes", "requirements", "capabilities", "artifacts",
    "interfaces", "directives", "node_filter", "copy",
})  # fmt: skip
_CAPABILITIES = frozenset({"scalable", "host", "os", "endpoint"})
_CAPABILITY_KEYS = frozenset({"properties", "attributes", "occurrences", "directives"})
_RELATIONSHIPS = {
    "host": "tosca.relationships.HostedOn",
    "local_storage": "tosca.relationships.AttachesTo",
    "binding": "tosca.relationships.network.BindsTo",
    "link": "tosca.relationships.network.LinksTo",
    "dependency": "tosca.relationships.DependsOn",
}
_REQUIREMENT_KEYS = frozenset({"node", "relationship", "capability", "node_filter", "occurrences", "directives"})
_ROOT = "tosca.nodes.Root"
_ANYTHING = ""  # what a capability of an unknown type may be


def unread(name: str) -> Node:
    """Return what stands for a node template that cannot be read, so that what names it is not wrong as well."""
    return Node(name, "", _unknown_type(""), {}, {}, (), {})


def derivation(error: TypeCycle) -> str:
    """Return what is wrong with the types that a type derives from, which may end and only be too many."""
    names = error.names
    what = "derives from itself" if names[0] == names[-1] else "derives from too many others"
    return f"the type {names[0][:80]!r} {what}: {str(error)[:500]}"


def _unknown_type(name: str) -> NodeType:
    return NodeType(name, (), {}, {}, {}, {}, is_known=False)


def _offered(node_type: NodeType) -> frozenset[str]:
    """Return the types that the capabilities of a node type are."""
    names = (name for item in node_type.capabilities.values() for name in item.lineage or (item.type, _ANYTHING))
    return frozenset(names)


class NodeReader:
    """Reads the node templates of one topology; what is wrong with them goes to the report."""

    def __init__(
        self,
        types: TypeSet,
        report: Report,
        relationship_templates: Mapping[str, object],
        missing_imports: tuple[str, ...],
        all_names: frozenset[str],
    ) -> None:
        self.types, self.report, self.all_names = types, report, all_names
        self.relationship_templates, self.missing_imports = relationship_templates, missing_imports
        self.coercer = Coercer(types, report, leave_functions=True)
        self._relationship_properties: dict[str, Mapping[str, PropertyDefinition] | None] = {}
        self._offers: dict[str, frozenset[str]] = {}

    def read(self, name: str, definition: object) -> Node:
        path: Path = ("topology_template", "node_templates", name)
        if not isinstance(definition, dict) or not as_text(definition.get("type")):
            self.report.error("bad-structure", path, "a node template must be a map with a type")
            return unread(name)
        self._check_keys(definition, path)
        type_name = as_text(definition.get("type"))
        found = self._type(type_name, (*path, "type"))
        node_type = found or _unknown_type(type_name)
        node = Node(
            name,
            node_type.name,
            node_type,
            self._part(definition, "properties", path),
            self._capabilities(self._part(definition, "capabilities", path), (*path, "capabilities")),
            self._requirements(definition.get("requirements"), found, (*path, "requirements")),
            self._artifacts(self._part(definition, "artifacts", path), (*path, "artifacts")),
        )
        for key in ("attributes", "interfaces", "metadata"):
            self._part(definition, key, path)
        if found:
            self._check(node, found, path)
        return node

    def _part(self, owner: Mapping[str, object], key: str, path: Path) -> Mapping[str, object]:
        value = owner.get(key)
        if call_of(value):
            message = f"{key} are written here by their names; a function may give a value of one, not all of them"
            self.report.error("bad-structure", (*path, key), message, "write `name: {get_input: ...}` lines under it")
            return {}
        if value is not None and not isinstance(value, dict):
            self.report.expect_map(value, (*path, key))
        return as_map(value)

    def _check_keys(self, definition: Mapping[str, object], path: Path) -> None:
        for key in () if definition.keys() <= _KEYS else sorted(definition.keys() - _KEYS):
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
            self.report.error("type-cycle", path, derivation(error))
            return None
        if found.is_abstract:
            self.report.error("abstract-type", path, f"the type {name!r} is abstract; use one that derives from it")
        return found

    def _capabilities(self, raw: Mapping[str, object], path: Path) -> dict[str, Mapping[str, object]]:
        capabilities: dict[str, Mapping[str, object]] = {}
        for name, content in raw.items():
            if content is not None and not isinstance(content, dict):
                self.report.error("bad-structure", (*path, name), "a capability must be a map with properties")
                continue
            given = as_map(content)
            for key in () if given.keys() <= _CAPABILITY_KEYS else sorted(given.keys() - _CAPABILITY_KEYS):
                hint = "put it under properties"
                self.report.error("unknown-key", (*path, name, key), f"a capability has no key {key!r}", hint)
            capabilities[name] = self._part(given, "properties", (*path, name))
            self._part(given, "attributes", (*path, name))
        return capabilities

    def _artifacts(self, raw: Mapping[str, object], path: Path) -> Mapping[str, object]:
        for name, content in raw.items():
            if not isinstance(content, str | dict | None):
                message = f"an artifact must be the name of a file or a map with a file, not {kind_of(content)}"
                self.report.error("bad-structure", (*path, name), message)
        return raw

    def _requirements(self, raw: object, node_type: NodeType | None, path: Path) -> tuple[Requirement, ...]:
        found: list[Requirement] = []
        for name, content, at in self.report.expect_entries(raw, path):
            definition = node_type.requirements.get(name) if node_type else None
            if node_type and definition is None:
                message = f"{node_type.name} has no requirement {name!r}"
                self.report.error("unknown-requirement", at, message, known(node_type.requirements))
            default = (definition.relationship if definition else "") or _RELATIONSHIPS.get(name, "")
            target = self._target(content, at)
            given = as_map(content).get("relationship")
            at_relationship = (*at, "relationship")
            kind, properties = (default, {}) if given is None else self._relationship(given, default, at_relationship)
            found.append(Requirement(name, target, kind, properties, at))
        return tuple(found)

    def _target(self, content: object, path: Path) -> str:
        """Return the node template that a requirement names; nothing where it names none, or a type."""
        name = content
        if isinstance(content, dict):
            for key in sorted(content.keys() - _REQUIREMENT_KEYS):
                message = f"a requirement has no key {key[:80]!r}; it is ignored"
                self.report.warn("unknown-key", (*path, key), message, known(sorted(_REQUIREMENT_KEYS)))
            name = content.get("node")
            if name is None:
                return ""
        if name is None or isinstance(name, dict | list):
            message = f"a requirement must be the name of a node or a map with node, not {kind_of(name)}"
            self.report.error("bad-structure", path, message, "write `- requirement: node`")
            return ""
        target = name if type(name) is str else source_text(name)
        if target in self.all_names:
            return target
        if self.types.full_name("node_types", target) is None:
            self.report.error("unknown-node", path, f"there is no node template {target[:80]!r}")
        return ""

    def _relationship(self, raw: object, default: str, path: Path) -> tuple[str, Mapping[str, object]]:
        """Return type and properties of a relationship: a type, a relationship template, or one written in place."""
        if isinstance(raw, str) and raw not in self.relationship_templates:
            return self._relationship_type(raw, path), {}
        if isinstance(raw, str):
            content = as_map(self.relationship_templates[raw])  # which is checked where it is written
            kind = as_text(content.get("type"))
            return self.types.full_name("relationship_types", kind) or kind, as_map(content.get("properties"))
        content = self.report.expect_map(raw, path)
        kind = as_text(content.get("type"))
        kind = self._relationship_type(kind, (*path, "type")) if kind else default
        properties = self._part(content, "properties", path)
        self._check_relationship(kind, properties, (*path, "properties"))
        return kind, properties

    def _relationship_type(self, name: str, path: Path) -> str:
        full = self.types.full_name("relationship_types", name)
        if full is None:
            message = f"the relationship type {name[:80]!r} is not known"
            if self.missing_imports:
                hint = f"not available: {', '.join(self.missing_imports)[:300]}"
                self.report.warn("unknown-type", path, message, hint)
            else:
                hint = "name one that the template or its imports define, or a relationship template"
                self.report.error("unknown-type", path, message, hint)
        return full or name

    def _check_relationship(self, kind: str, properties: Mapping[str, object], path: Path) -> None:
        if not properties:
            return
        if kind not in self._relationship_properties:
            try:
                self._relationship_properties[kind] = self.types.properties("relationship_types", kind)
            except (UnknownType, TypeCycle):
                self._relationship_properties[kind] = None
        definitions = self._relationship_properties[kind]
        for name in sorted(properties.keys() - definitions.keys()) if definitions is not None else ():
            message = f"{kind} has no property {name[:80]!r}"
            self.report.error("unknown-property", (*path, name), message, known(definitions or ()))

    def check_relationship_templates(self) -> None:
        """Check what the relationship templates of the topology say, whether a node uses them or not."""
        for name, raw in self.relationship_templates.items():
            path: Path = ("topology_template", "relationship_templates", name)
            kind = as_text(as_map(raw).get("type"))
            if not kind:
                self.report.error("bad-structure", path, "a relationship template must be a map with a type")
                continue
            properties = self._part(as_map(raw), "properties", path)
            self._check_relationship(self._relationship_type(kind, (*path, "type")), properties, (*path, "properties"))

    def check_targets(self, nodes: Mapping[str, Node]) -> None:
        """Check that each requirement is met by a node of the type, or with the capability, that it asks for.

        Public templates host software on software, and it does run there, though its type asks for a machine.
        """
        for node in nodes.values():
            for edge in node.requirements:
                wanted = node.definition.requirements.get(edge.name)
                target = nodes.get(edge.target)
                if wanted and target and not self._is_met(wanted, target.definition):
                    is_hosting = self.types.is_a("relationship_types", edge.relationship, _RELATIONSHIPS["host"])
                    tell = self.report.warn if is_hosting else self.report.error
                    message = f"{edge.name[:80]} needs a {wanted.node}, but {target.name[:80]!r} is a {target.type}"
                    tell("wrong-target", edge.path, message, "name a node of that type, or of one that derives from it")

    def _is_met(self, wanted: RequirementDefinition, target: NodeType) -> bool:
        if not wanted.node or not target.is_known or wanted.node in target.lineage:
            return True
        full = self.types.full_name("node_types", wanted.node)
        if full is None or full == _ROOT or full in target.lineage:
            return True
        if target.name not in self._offers:
            self._offers[target.name] = _offered(target)
        capability = self.types.full_name("capability_types", wanted.capability) or wanted.capability
        return bool(self._offers[target.name] & {capability, _ANYTHING})

    def _check(self, node: Node, node_type: NodeType, path: Path) -> None:
        self._check_properties(node.properties, node_type.properties, node_type.name, (*path, "properties"))
        for name, given in node.capabilities.items():
            definition = node_type.capabilities.get(name)
            at = (*path, "capabilities", name)
            if definition is None:
                message = f"{node_type.name} has no capability {name!r}"
                self.report.error("unknown-capability", at, message, known(node_type.capabilities))
            elif definition.lineage or self.types.full_name("capability_types", definition.type):
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
        for name in self.types.needed(definitions):
            if given.get(name) is None:
                self.report.error("property-required", path, f"{owner} needs the property {name!r}")
