"""Make a template of a text, or tell everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache, partial
from types import MappingProxyType
from typing import Final

from indaco_tosca.errors import Problem, pointer
from indaco_tosca.inputs import read_inputs
from indaco_tosca.library import import_types
from indaco_tosca.load import Document, load
from indaco_tosca.model import ImportResolver, Node, OutputDefinition, Policy, Template
from indaco_tosca.nodes import NodeReader, derivation, unread
from indaco_tosca.positions import Path
from indaco_tosca.references import ReferenceChecker, deployment_order
from indaco_tosca.report import Report, kind_of, known
from indaco_tosca.scalars import source_text
from indaco_tosca.tree import as_list, as_map, as_text
from indaco_tosca.typeset import SECTIONS, TypeCycle, TypeSet, UnknownType

_VERSIONS: Final = frozenset({
    *(f"tosca_simple_yaml_1_{minor}" for minor in range(4)),
    *(f"http://docs.oasis-open.org/tosca/ns/simple/yaml/1.{minor}" for minor in range(4)),
})  # fmt: skip
_KEYS: Final = frozenset({
    "tosca_definitions_version", "description", "metadata", "imports", "repositories", "dsl_definitions",
    "topology_template", "namespace", "template_name", "template_author", "template_version", *SECTIONS,
})  # fmt: skip
_TOPOLOGY_KEYS: Final = frozenset({
    "description", "inputs", "node_templates", "relationship_templates", "outputs", "groups", "policies",
    "substitution_mappings", "workflows",
})  # fmt: skip
_MAPS: Final = frozenset({"metadata", "repositories", *SECTIONS})
_TOPOLOGY_MAPS: Final = frozenset({"inputs", "node_templates", "outputs", "relationship_templates", "groups"})
_TYPE_MAPS: Final = ("properties", "attributes", "capabilities", "interfaces")
MAX_NODE_TEMPLATES: Final = 500  # 20 times the largest public one
MAX_POLICIES: Final = 100
_UNSUPPORTED: Final = ("substitution_mappings", "workflows")


def parse(text: str | bytes, *, resolve: ImportResolver | None = None, base: str = "") -> Template:
    """Return the template of a text.

    ``base`` is the name of the text itself, against which relative imports are resolved: a path below some root, or a URL.
    Without a resolver the result is shared between calls with the same text; a template must not be changed. With one,
    only the types are shared, by the digests of what it gives; an exception of the resolver goes through.
    Raises: TemplateError, with all the problems that were found.
    """
    if resolve is None and len(text) < _CACHED_SIZE:
        return _parse_cached(text)
    return _parse(text, resolve, base)


_CACHED_SIZE: Final = 64 * 1024


@lru_cache(maxsize=128)
def _parse_cached(text: str | bytes) -> Template:
    return _parse(text, None)


def _parse(text: str | bytes, resolve: ImportResolver | None, base: str = "") -> Template:
    document = load(text)
    report = Report(document, document.duplicates)
    root = document.value
    if not isinstance(root, dict):
        report.error("bad-structure", (), "a template is a map with tosca_definitions_version and topology_template")
        report.raise_errors()
    content = as_map(root)
    _check_keys(content, report)
    imported = import_types(document, resolve, report, base=base)
    types = _own_types(content, imported.types, report)
    template = _Reader(document, content, types, report, imported.missing).read()
    report.raise_errors()
    return template


def _check_keys(content: Mapping[str, object], report: Report) -> None:
    version = content.get("tosca_definitions_version")
    if version is None:
        report.error(
            "version-missing", (), "tosca_definitions_version is missing", "tosca_simple_yaml_1_3, for example"
        )
    elif not isinstance(version, str) or version not in _VERSIONS:
        message = f"the version {str(version)[:80]!r} is not supported"
        report.error(
            "version-unsupported", ("tosca_definitions_version",), message, "tosca_simple_yaml_1_0 to _1_3 are"
        )
    for key in sorted(content.keys() - _KEYS):
        report.warn("unknown-key", (key,), f"a template has no key {key!r}; it is ignored")
    topology = report.expect_map(content.get("topology_template"), ("topology_template",))
    for key in sorted(topology.keys() - _TOPOLOGY_KEYS):
        report.error("unknown-key", ("topology_template", key), f"a topology has no key {key!r}")
    for owner, path, keys in ((content, (), _MAPS), (topology, ("topology_template",), _TOPOLOGY_MAPS)):
        for key in sorted(owner.keys() & keys):
            report.expect_map(owner[key], (*path, key))


def _own_types(content: Mapping[str, object], base: TypeSet, report: Report) -> TypeSet:
    """Lay the types that a template defines itself over the imported ones."""
    own = {section: as_map(content.get(section)) for section in SECTIONS if content.get(section)}
    if not any(own.values()):
        return base
    types = TypeSet(own, base)
    for section, definitions in own.items():
        for name, definition in definitions.items():
            _check_type(definition, (section, name), report)
            try:
                types.lineage(section, name)
            except TypeCycle as error:
                report.error("type-cycle", (section, name), derivation(error))
            except UnknownType as error:
                message = f"the type {error.args[0]!r}, from which {name!r} derives, is not known"
                report.error("unknown-type", (section, name), message)
    return types


def _check_type(definition: object, path: Path, report: Report) -> None:
    """Check the shapes in a definition of a type."""
    parts = report.expect_map(definition, path)
    parent = parts.get("derived_from")
    if not isinstance(parent, str | None):
        message = f"derived_from must be the name of a type, not {kind_of(parent)}"
        report.error("bad-structure", (*path, "derived_from"), message)
    for key in _TYPE_MAPS:
        report.expect_map(parts.get(key), (*path, key))
    requirements = parts.get("requirements")
    if requirements is not None:
        list(report.expect_entries(requirements, (*path, "requirements")))


class _Reader:
    """Reads the topology of one document."""

    def __init__(
        self,
        document: Document,
        content: Mapping[str, object],
        types: TypeSet,
        report: Report,
        missing_imports: tuple[str, ...],
    ) -> None:
        self._document = document
        self._content = content
        self._topology = as_map(content.get("topology_template"))
        self._types = types
        self._report = report
        self._missing_imports = missing_imports

    def read(self) -> Template:
        metadata = as_map(self._content.get("metadata"))
        inputs = read_inputs(self._topology.get("inputs"), metadata, self._types, self._report)
        nodes = self._nodes()
        outputs = self._outputs()
        policies = tuple(self._policies(nodes))
        ReferenceChecker(inputs, nodes, self._report).check(self._topology)
        description = self._content.get("description") or self._topology.get("description")
        return Template(
            as_text(description).strip(),
            MappingProxyType(dict(metadata)),
            MappingProxyType(inputs),
            MappingProxyType(nodes),
            MappingProxyType(outputs),
            policies,
            deployment_order(nodes, self._report),
            self._types,
            self._document,
            self._report.warnings,
            tuple(self._unsupported()),
        )

    def _nodes(self) -> dict[str, Node]:
        raw = as_map(self._topology.get("node_templates"))
        if len(raw) > MAX_NODE_TEMPLATES:
            path = ("topology_template", "node_templates")
            self._report.error("too-many-nodes", path, f"a topology may have {MAX_NODE_TEMPLATES} node templates")
            return {name: unread(name) for name in raw}
        relationships = as_map(self._topology.get("relationship_templates"))
        reader = NodeReader(self._types, self._report, relationships, self._missing_imports, frozenset(raw))
        nodes = {name: reader.read(name, definition) for name, definition in raw.items()}
        reader.check_relationship_templates()
        reader.check_targets(nodes)
        return nodes

    def _outputs(self) -> dict[str, OutputDefinition]:
        outputs: dict[str, OutputDefinition] = {}
        for name, content in as_map(self._topology.get("outputs")).items():
            if not isinstance(content, dict) or "value" not in content:
                self._report.error("bad-structure", ("topology_template", "outputs", name), "an output needs a value")
                continue
            outputs[name] = OutputDefinition(name, content["value"], as_text(content.get("description")))
        return outputs

    def _policies(self, nodes: Mapping[str, Node]) -> list[Policy]:
        policies: list[Policy] = []
        above: Path = ("topology_template", "policies")
        names = self._groups() | nodes.keys()
        for name, content, path in self._report.expect_entries(self._topology.get("policies"), above):
            if len(policies) == MAX_POLICIES:
                self._report.error("too-many-policies", above, f"a topology may have {MAX_POLICIES} policies")
                break
            policies.append(self._policy(name, content, path, names))
        return policies

    def _groups(self) -> frozenset[str]:
        groups = as_map(self._topology.get("groups"))
        for name, content in groups.items():
            self._report.expect_map(content, ("topology_template", "groups", name))
        return frozenset(groups)

    def _policy(self, name: str, content: object, path: Path, names: frozenset[str]) -> Policy:
        raw = self._report.expect_map(content, path)
        kind = as_text(raw.get("type"))
        full = self._types.full_name("policy_types", kind)
        if full is None:
            self._report.warn("unknown-policy", path, f"the policy type {kind[:80]!r} is not known; it is ignored")
        properties = self._report.expect_map(raw.get("properties"), (*path, "properties"))
        self._check_policy(kind, properties, path)
        targets = tuple(self._targets(raw.get("targets"), (*path, "targets")))
        for target in targets:
            if target not in names:
                self._report.error("unknown-node", path, f"the policy names {target[:80]!r}, which does not exist")
        return Policy(name, full or kind, properties, targets)

    def _targets(self, raw: object, path: Path) -> Iterator[str]:
        if not isinstance(raw, list | None):
            self._report.error("bad-structure", path, f"targets must be a list, not {kind_of(raw)}", "write [node]")
        for index, target in enumerate(as_list(raw)):
            if isinstance(target, dict | list | None):
                message = f"a target must be the name of a node or a group, not {kind_of(target)}"
                self._report.error("bad-structure", (*path, index), message)
            else:
                yield source_text(target)

    def _check_policy(self, kind: str, properties: Mapping[str, object], path: Path) -> None:
        try:
            definitions = self._types.properties("policy_types", kind)
        except (UnknownType, TypeCycle):
            return
        for name in sorted(properties.keys() - definitions.keys()):
            message = f"the policy type {kind} has no property {name[:80]!r}"
            self._report.error("unknown-property", (*path, "properties", name), message, known(definitions))

    def _unsupported(self) -> list[Problem]:
        found = []
        for key in _UNSUPPORTED:
            if self._topology.get(key):
                path: Path = ("topology_template", key)
                message = f"{key} can be read but not deployed"
                place = partial(self._document.locate, path)
                found.append(Problem("unsupported-feature", pointer(path), message, place=place))
        return found
