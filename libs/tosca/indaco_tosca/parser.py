"""Make a template of a text, or tell everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache, partial
from types import MappingProxyType
from typing import Final

from indaco_tosca.errors import Problem, pointer
from indaco_tosca.inputs import read_inputs
from indaco_tosca.library import import_types
from indaco_tosca.load import Document, load
from indaco_tosca.model import ImportResolver, Node, OutputDefinition, Policy, Template
from indaco_tosca.nodes import NodeReader
from indaco_tosca.positions import Path
from indaco_tosca.references import ReferenceChecker, deployment_order
from indaco_tosca.report import Report, known
from indaco_tosca.tree import as_list, as_map, as_text, single_maps
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
MAX_NODE_TEMPLATES: Final = 500  # 20 times the largest public one
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
    topology = as_map(content.get("topology_template"))
    for key in sorted(topology.keys() - _TOPOLOGY_KEYS):
        report.error("unknown-key", ("topology_template", key), f"a topology has no key {key!r}")
    for owner, path in ((content, ()), (topology, ("topology_template",))):
        for key in sorted(
            owner.keys() & {"metadata", "topology_template", "inputs", "node_templates", "outputs", *SECTIONS}
        ):
            if not isinstance(owner[key], dict | None):
                report.error("bad-structure", (*path, key), f"{key} must be a map")


def _own_types(content: Mapping[str, object], base: TypeSet, report: Report) -> TypeSet:
    """Lay the types that a template defines itself over the imported ones."""
    own = {section: as_map(content.get(section)) for section in SECTIONS}
    if not any(own.values()):
        return base
    types = TypeSet(own, base)
    for section, definitions in own.items():
        for name in definitions:
            try:
                types.lineage(section, name)
            except TypeCycle as error:
                report.error("type-cycle", (section, name), f"the type {name!r} derives from itself: {error}")
            except UnknownType as error:
                message = f"the type {error.args[0]!r}, from which {name!r} derives, is not known"
                report.error("unknown-type", (section, name), message)
    return types


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
            return {}
        relationships = as_map(self._topology.get("relationship_templates"))
        reader = NodeReader(self._types, self._report, relationships, self._missing_imports, frozenset(raw))
        read = ((name, reader.read(name, definition)) for name, definition in raw.items())
        return {name: node for name, node in read if node}

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
        groups = as_map(self._topology.get("groups"))
        for name, content, place in single_maps(self._topology.get("policies")):
            path: Path = ("topology_template", "policies", *place)
            raw = as_map(content)
            kind = as_text(raw.get("type"))
            if self._types.full_name("policy_types", kind) is None:
                self._report.warn("unknown-policy", path, f"the policy type {kind[:80]!r} is not known; it is ignored")
            self._check_policy(kind, raw, path)
            targets = tuple(str(target) for target in as_list(raw.get("targets")))
            for target in targets:
                if target not in nodes and target not in groups:
                    self._report.error("unknown-node", path, f"the policy names {target[:80]!r}, which does not exist")
            full = self._types.full_name("policy_types", kind) or kind
            policies.append(Policy(name, full, as_map(raw.get("properties")), targets))
        return policies

    def _check_policy(self, kind: str, raw: Mapping[str, object], path: Path) -> None:
        try:
            definitions = self._types.properties("policy_types", kind)
        except (UnknownType, TypeCycle):
            return
        for name in sorted(as_map(raw.get("properties")).keys() - definitions.keys()):
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
