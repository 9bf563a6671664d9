"""Write a template as canonical YAML text: the same meaning always gives the same text.

The text is made from the loaded tree and not from the model. The model keeps what planning needs; the tree also has what
others read (interfaces, groups, artifacts, own types, descriptions), and each scalar as its author wrote it. What is
canonical is the form: sections and keys of definitions in the order of the specification, names as their author ordered
them, lists of one-key maps where a plain map was written, aliases and merges written out, ``dsl_definitions`` left away
(nothing but anchors is in them), and quotes around each text that a reader of YAML 1.1 or 1.2 would take for something else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final

import yaml

from indaco_tosca.errors import Problem, TemplateError, pointer
from indaco_tosca.evaluate import ABSENT, EvaluationError, Evaluator
from indaco_tosca.functions import call_of, calls_in
from indaco_tosca.load import MAX_BYTES, MAX_DEPTH, MAX_NODES
from indaco_tosca.model import SecretPlaceholder, Template
from indaco_tosca.positions import Path
from indaco_tosca.scalars import SourceFloat, resolve_plain, source_text
from indaco_tosca.schema import PropertyDefinition
from indaco_tosca.tree import as_map, single_maps
from indaco_tosca.typeset import SECTIONS

_MAX_EXACT: Final = 2**53  # larger integers are not all floats
_Dumper: type[yaml.SafeDumper] = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_TOPOLOGY: Final = "topology_template"

_DEFINITION: Final = ("type", "description", "required", "status", "default", "value", "entry_schema", "constraints")
_NODE: Final = (
    "type", "description", "metadata", "directives", "copy", "node_filter", "properties", "attributes", "capabilities",
    "requirements", "interfaces", "artifacts",
)  # fmt: skip
_TYPE: Final = (
    "derived_from", "version", "description", "metadata", "abstract", "properties", "attributes", "capabilities", "requirements",
    "interfaces", "artifacts",
)  # fmt: skip
_ASSIGNMENT: Final = ("type", "description", "metadata", "properties", "targets", "members")
_TOPOLOGY_KEYS: Final = (
    "description", "inputs", "node_templates", "relationship_templates", "groups", "policies", "outputs",
    "substitution_mappings", "workflows",
)  # fmt: skip
_KEYS: Final = (
    "tosca_definitions_version", "namespace", "template_name", "template_author", "template_version", "description",
    "metadata", "repositories", "imports", *SECTIONS, _TOPOLOGY,
)  # fmt: skip
_ENTRIES: Final = {  # the keys of what each section of a topology holds, by name
    "inputs": _DEFINITION, "outputs": _DEFINITION, "node_templates": _NODE, "relationship_templates": _ASSIGNMENT,
    "groups": _ASSIGNMENT, "policies": _ASSIGNMENT,
}  # fmt: skip
_LISTS: Final = frozenset({"requirements", "constraints"})  # lists of one-key maps, for which many write a map


def render(template: Template, *, inputs: Mapping[str, object] | None = None) -> str:
    """Return the canonical text of a template; parsing it gives a template of the same meaning, and the same text again.

    With ``inputs`` (the bound ones of a plan) each ``get_input`` becomes its value and the inputs are left away, for
    engines that cannot bind them: what an absent input alone would fill is left away too, numbers become floats where the
    type of a property says float, and outputs of a static part that has no value here are dropped. A value that no plan
    looked at, because no machine needs it, is checked against its type only when the text is read.
    Raises: TemplateError, if the text would be over a limit of documents, or if the value of a secret input is needed that
    is not in ``inputs``.
    """
    content = as_map(template.document.value)
    if inputs is not None:
        content = _Binding(template, inputs).document(content)
    return _text(_canonical(content))


# ── the order of things ─────────────────────────────────────────────────────────────────────────────────────────────


def _canonical(content: Mapping[str, object]) -> dict[str, object]:
    document = _ordered(content, _KEYS)
    document.pop("dsl_definitions", None)
    for section in SECTIONS:
        if isinstance(document.get(section), dict):
            document[section] = {name: _definition(item, _TYPE) for name, item in as_map(document[section]).items()}
    if isinstance(document.get(_TOPOLOGY), dict):
        document[_TOPOLOGY] = _topology(as_map(document[_TOPOLOGY]))
    return document


def _topology(content: Mapping[str, object]) -> dict[str, object]:
    topology = _ordered(content, _TOPOLOGY_KEYS)
    for section, keys in _ENTRIES.items():
        if section == "policies" and isinstance(topology.get(section), dict | list):
            topology[section] = [{name: _definition(item, keys)} for name, item, _ in single_maps(topology[section])]
        elif isinstance(topology.get(section), dict):
            topology[section] = {name: _definition(item, keys) for name, item in as_map(topology[section]).items()}
    return topology


def _ordered(content: Mapping[str, object], keys: tuple[str, ...]) -> dict[str, object]:
    """Return a map with known keys first, in their order; others keep theirs."""
    known = {key: content[key] for key in keys if key in content}
    return known | {key: value for key, value in content.items() if key not in known}


def _definition(value: object, keys: tuple[str, ...]) -> object:
    """Return the canonical form of a definition: of a type, a node template, an input and so on."""
    if not isinstance(value, dict):
        return value
    result = _ordered(value, keys)
    for key in _LISTS & result.keys():
        if isinstance(result[key], dict | list):
            result[key] = [{name: item} for name, item, _ in single_maps(result[key])]
    if isinstance(result.get("entry_schema"), dict):
        result["entry_schema"] = _definition(result["entry_schema"], _DEFINITION)
    if keys is _TYPE:
        for key in ("properties", "attributes"):
            if isinstance(result.get(key), dict):
                result[key] = {name: _definition(item, _DEFINITION) for name, item in as_map(result[key]).items()}
    return result


# ── inputs in their places ──────────────────────────────────────────────────────────────────────────────────────────


class _Binding:
    """Puts the values of inputs where a template calls for them."""

    def __init__(self, template: Template, inputs: Mapping[str, object]) -> None:
        self._template = template
        self._evaluator = Evaluator(template, inputs)

    def document(self, content: Mapping[str, object]) -> dict[str, object]:
        topology = {key: value for key, value in as_map(content.get(_TOPOLOGY)).items() if key != "inputs"}
        outputs = as_map(topology.pop("outputs", None))
        kept = {name: value for name, value in outputs.items() if self._has_value(as_map(value).get("value"))}
        if kept:
            topology["outputs"] = kept
        bound = dict(as_map(self._bound({**content, _TOPOLOGY: topology}, ())))
        topology = dict(as_map(bound[_TOPOLOGY]))
        if nodes := as_map(topology.get("node_templates")):
            topology["node_templates"] = {name: self._node(name, value) for name, value in nodes.items()}
        return bound | {_TOPOLOGY: topology}

    def _bound(self, value: object, path: Path, *, is_argument: bool = False) -> object:
        if not isinstance(value, dict | list):
            return value
        call = call_of(value)
        if call and call[0] == "get_input":
            return self._input(value, path)
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        bound = {key: self._bound(item, (*path, key), is_argument=call is not None) for key, item in pairs}
        present = {key: item for key, item in bound.items() if item is not ABSENT}
        if is_argument and len(present) < len(bound):
            raise _refusal("bad-function", "a value is made of an input that is not given", path)
        return present if isinstance(value, dict) else list(present.values())

    def _input(self, call: object, path: Path) -> object:
        try:
            value, _ = self._evaluator.evaluate(call)
        except EvaluationError as error:
            raise _refusal("bad-function", str(error), path) from None
        if next(calls_in(value), None):
            raise _refusal("input-not-renderable", "the value of an input would be read as a function", path)
        secrets = sorted(
            {name for item in _leaves(value) if isinstance(item, SecretPlaceholder) for name in item.names}
        )
        if secrets:
            raise _refusal("secret-absent", f"the values of secret inputs are needed: {', '.join(secrets)}", path)
        return value

    def _has_value(self, value: object) -> bool:
        """Return whether the static part of an output has a value; a null inside a list of it is a value."""
        if self._is_absent(value):
            return False
        return not any(
            self._is_absent({name: argument})
            for name, argument, _ in calls_in(value)
            if name in {"get_input", "get_property"}
        )

    def _is_absent(self, value: object) -> bool:
        try:
            found, _ = self._evaluator.evaluate(value)
        except EvaluationError:
            return True
        return found is None or found is ABSENT

    def _node(self, name: str, value: object) -> object:
        """Return a node template with floats where its type has floats."""
        node, content = self._template.nodes[name], dict(as_map(value))
        node_type = self._template.types.node(node.type)
        if isinstance(content.get("properties"), dict):
            content["properties"] = _with_floats(as_map(content["properties"]), node_type.properties)
        capabilities = dict(as_map(content.get("capabilities")))
        for key, capability in capabilities.items():
            properties = as_map(as_map(capability).get("properties"))
            if properties:
                floats = _with_floats(properties, node_type.capabilities[key].properties)
                capabilities[key] = {**as_map(capability), "properties": floats}
        return {**content, "capabilities": capabilities} if capabilities else content


def _with_floats(values: Mapping[str, object], definitions: Mapping[str, PropertyDefinition]) -> dict[str, object]:
    def fitted(name: str, value: object) -> object:
        is_float = name in definitions and definitions[name].schema.type == "float"
        is_whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _MAX_EXACT
        return float(value) if is_float and isinstance(value, int) and is_whole else value

    return {name: fitted(name, value) for name, value in values.items()}


def _leaves(value: object) -> Iterator[object]:
    waiting = [value]
    while waiting:
        current = waiting.pop()
        if isinstance(current, dict):
            waiting.extend(current.values())
        elif isinstance(current, list):
            waiting.extend(current)
        else:
            yield current


# ── the text ────────────────────────────────────────────────────────────────────────────────────────────────────────

_TEXT_TAG: Final = "tag:yaml.org,2002:str"
_NUMBER: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|0o[0-7]+")
"""What YAML 1.2 takes for a number; readers of 1.1 do not take all of it."""
_LETTERS: Final = frozenset("yYnN")
"""Booleans of YAML 1.1 that only some of its readers know."""
_resolved: Callable[..., str] = yaml.resolver.Resolver().resolve


def _text(document: object) -> str:
    body = list(_Events().of(document, ()))
    events = [
        yaml.StreamStartEvent(),
        yaml.DocumentStartEvent(explicit=False),
        *body,
        yaml.DocumentEndEvent(explicit=False),
        yaml.StreamEndEvent(),
    ]
    text: str = yaml.emit(events, Dumper=_Dumper, allow_unicode=True, width=2**30)
    if len(text.encode()) > MAX_BYTES:
        raise _refusal("document-too-large", f"the text has more than {MAX_BYTES} bytes", ())
    return text


class _Events:
    """Turns a tree into events, within the limits that hold for reading them again."""

    def __init__(self) -> None:
        self._nodes = self._characters = 0

    def of(self, value: object, path: Path, *, is_flow: bool = False) -> Iterator[yaml.Event]:
        self._count(path if isinstance(value, dict | list) else path[1:])
        if isinstance(value, dict):
            flow = is_flow or not value or call_of(value) is not None
            yield yaml.MappingStartEvent(None, None, implicit=True, flow_style=flow)
            for key, item in value.items():
                self._count(path)
                yield self._scalar(key, path)
                yield from self.of(item, (*path, key), is_flow=flow)
            yield yaml.MappingEndEvent()
        elif isinstance(value, list):
            flow = is_flow or not any(isinstance(item, dict | list) or "\n" in source_text(item) for item in value)
            yield yaml.SequenceStartEvent(None, None, implicit=True, flow_style=flow)
            for index, item in enumerate(value):
                yield from self.of(item, (*path, index), is_flow=flow)
            yield yaml.SequenceEndEvent()
        else:
            yield self._scalar(value, path)

    def _count(self, outer: Path) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES or self._characters > MAX_BYTES or len(outer) >= MAX_DEPTH:
            raise _refusal("document-too-large", "the document has too many, too large or too deep values", outer[:8])

    def _scalar(self, value: object, path: Path) -> yaml.ScalarEvent:
        text = value if isinstance(value, str) else _plain(value, path)
        self._characters += len(text)
        style = _style(text) if isinstance(value, str) else None
        return yaml.ScalarEvent(None, None, (True, True), text, style=style)


def _style(text: str) -> str | None:
    """Return how a text is written: as a block, in quotes, or (None) plain if its characters allow that."""
    if "\n" in text:
        lines = text.split("\n")
        is_block = all(line.isprintable() and line == line.rstrip() for line in lines) and not text[0].isspace()
        return "|" if is_block else '"'
    is_text = isinstance(resolve_plain(text), str) and _resolved(yaml.ScalarNode, text, (True, False)) == _TEXT_TAG
    return None if is_text and text not in _LETTERS and not _NUMBER.fullmatch(text) else '"'


def _plain(value: object, path: Path) -> str:
    """Return the plain form of a number, a boolean or null. Raises: TemplateError, if a document cannot hold it."""
    text = "null" if value is None else source_text(value)
    if isinstance(value, float) and not isinstance(value, SourceFloat):
        mantissa, e, exponent = text.partition("e")
        text = f"{mantissa}{'' if '.' in mantissa else '.0'}{e}{exponent}"
    if resolve_plain(text) != value:
        raise _refusal("input-not-renderable", "a number is too long or not finite", path)
    return text


def _refusal(code: str, message: str, path: Path) -> TemplateError:
    return TemplateError([Problem(code, pointer(path), message)])
