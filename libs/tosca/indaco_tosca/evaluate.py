"""Evaluate functions: inputs and properties at planning, attributes once there is a deployment.

What cannot be known yet becomes a placeholder that says why, never a guess. The secrets that a value depends on are
followed through inputs, properties and texts, and the work that a template may cause is bounded.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Final

from indaco_tosca.functions import call_of
from indaco_tosca.inputs import is_secret_name
from indaco_tosca.model import UNKNOWN, LateValue, Node, SecretPlaceholder, Template
from indaco_tosca.scalars import source_text
from indaco_tosca.schema import PropertyDefinition
from indaco_tosca.topology import PORT, Topology
from indaco_tosca.tree import CONTAINERS, as_list

CREDENTIAL: Final = "@credential"
"""Stands among secret names for a credential that a deployment has, which is no input."""
MAX_WORK: Final = 200_000  # values visited in one evaluation of a template; public ones need a few hundred
MAX_TEXT: Final = 256 * 1024
_TEXT_PER_WORK: Final = 64  # characters that cost as much as one value
_MAX_DEPTH: Final = 90  # about 600 frames of the interpreter, whose limit is 1000
_MAX_DIGITS: Final = 18  # of an index

Attributes = Mapping[str, Mapping[str, object]]


class EvaluationError(ValueError):
    """A function that has no value, and why."""


class _Absent:
    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = _Absent()
"""The value of an optional input that was not given; whatever holds it is absent too."""


class Evaluator:
    """Evaluates the values of one template with given inputs, and with attributes if there are any."""

    def __init__(
        self, template: Template, inputs: Mapping[str, object], *, attributes: Attributes | None = None
    ) -> None:
        self.template = template
        self.topology = Topology(template)
        self._inputs = inputs
        self._attributes = attributes
        self._properties: dict[tuple[str, str, str], tuple[object, frozenset[str], int]] = {}
        self._active: list[tuple[str, str, str]] = []
        self._touched: set[str] = set()
        self._notes: list[str] = []
        self._work = 0
        self._allowed = MAX_WORK
        self._depth = 0

    def evaluate(self, value: object, *, owner: str = "") -> tuple[object, frozenset[str]]:
        """Return a value without functions, and the names of the secrets that it depends on.

        Raises: EvaluationError.
        """
        outer, self._touched = self._touched, set()
        try:
            result = self._value(value, owner)
            return result, frozenset(self._touched)
        finally:
            outer |= self._touched
            self._touched = outer

    def allow(self, work: int) -> None:
        """Count the work anew, of which there may be so much."""
        self._work, self._allowed = 0, work

    @property
    def work(self) -> int:
        """How much there was since :meth:`allow`."""
        return self._work

    def take_notes(self) -> list[str]:
        """Return, once, why parts of the values since the last call are null."""
        notes, self._notes = self._notes, []
        return notes

    def _value(self, value: object, owner: str) -> object:
        self._spend(1)
        if not isinstance(value, CONTAINERS):
            return value
        self._depth += 1
        try:
            if self._depth > _MAX_DEPTH:
                raise EvaluationError("the functions refer to each other too deeply")
            call = call_of(value)
            if call:
                return self._call(call[0], call[1], owner)
            if isinstance(value, list):
                items = (self._value(item, owner) for item in value)
                return [item for item in items if item is not ABSENT]
            pairs = ((key, self._value(item, owner)) for key, item in value.items())
            return {key: item for key, item in pairs if item is not ABSENT}
        finally:
            self._depth -= 1

    def _spend(self, work: int) -> None:
        self._work += work
        if self._work > self._allowed:
            raise EvaluationError("the functions of this template take too long to evaluate")

    def _call(self, name: str, argument: object, owner: str) -> object:
        match name:
            case "get_input":
                return self._input(argument)
            case "get_property":
                return self._get_property(as_list(argument), owner)
            case "get_attribute":
                return self._get_attribute(as_list(argument), owner)
            case "concat":
                return self._joined(as_list(argument), "", owner)
            case "join":
                parts = as_list(argument)
                separator = source_text(parts[1]) if len(parts) > 1 else ""
                return self._joined(as_list(parts[0] if parts else None), separator, owner)
            case "token":
                return self._token(as_list(argument), owner)
            case "get_artifact":
                return self._artifact(as_list(argument), owner)
            case "get_nodes_of_type":
                return self._nodes_of_type(source_text(argument))
        entity, interface, _ = _split(as_list(argument))
        host = next(self.topology.hosts_of(owner), None) if entity == "HOST" else None
        return LateValue((host or self._entity(entity, owner, interface)).name, name)

    def _input(self, argument: object) -> object:
        words = as_list(argument) if isinstance(argument, list) else [argument]
        name = source_text(words[0]) if words else ""
        declared = self.template.inputs.get(name)
        if declared is None:
            raise EvaluationError(f"the template has no input {name!r}")
        if declared.secret:
            self._touched.add(name)
        value = self._inputs.get(name, ABSENT)
        self._spend(_size(value))
        return value if value is ABSENT else self._inside(value, words[1:], f"the input {name!r}")

    def _inside(self, value: object, keys: list[object], where: str) -> object:
        """Follow keys and indices into a value; what is not there is null, with a note."""
        for key in keys:
            if isinstance(value, UNKNOWN):
                return value
            index = _index(key) if isinstance(value, list) else None
            if isinstance(value, list) and index is not None and index < len(value):
                value = value[index]
            elif isinstance(value, dict) and source_text(key) in value:
                value = value[source_text(key)]
            else:
                self._notes.append(f"{where} has no {source_text(key)[:40]!r}")
                return None
        return value

    # ── properties ──────────────────────────────────────────────────────────────────────────────────────────────

    def _get_property(self, words: list[object], owner: str) -> object:
        entity, name, rest = _split(words)
        node = self._entity(entity, owner, name)
        node_type = node.definition
        where = f"the property {name!r} of {node.name!r}"
        if name in node_type.properties or name in node.properties:
            return self._found(self.property(node, name), rest, where)
        for edge in node.requirements:
            if edge.name == name and edge.target and rest:
                return self._behind(self.template.nodes[edge.target], rest, where)
        if name in node_type.capabilities and rest:
            value = self.property(node, source_text(rest[0]), capability=name)
            return self._found(value, rest[1:], f"the capability {name!r} of {node.name!r}")
        if name in node_type.attributes:
            return self._get_attribute(words, owner)
        raise EvaluationError(f"the node {node.name!r} has no property {name!r}")

    def _behind(self, target: Node, words: list[object], where: str) -> object:
        """Return a property of a requirement's target: of one of its capabilities, else of the node itself."""
        name = source_text(words[0])
        target_type = target.definition
        if name in target_type.properties:
            return self._found(self.property(target, name), words[1:], where)
        for capability, definition in target_type.capabilities.items():
            if name in definition.properties:
                return self._found(self.property(target, name, capability=capability), words[1:], where)
        raise EvaluationError(f"the node {target.name!r} has no property {name!r}")

    def _found(self, value: object, keys: list[object], where: str) -> object:
        return value if value is ABSENT else self._inside(value, keys, where)

    def _entity(self, entity: str, owner: str, name: str) -> Node:
        if entity == "HOST":
            for host in self.topology.hosts_of(owner):
                kind = host.definition
                if any(name in group for group in (kind.properties, kind.attributes, kind.capabilities)):
                    return host
            raise EvaluationError(f"no host of {owner!r} has {name!r}")
        found = self.template.nodes.get(owner if entity == "SELF" else entity)
        if found is None:
            raise EvaluationError(f"{entity!r} is not a node here")
        return found

    def property(self, node: Node, name: str, *, capability: str = "") -> object:
        """Return a property of a node or of one of its capabilities: as assigned, else the default, else ABSENT.

        Raises: EvaluationError, also for properties that refer to each other in a circle.
        """
        key = (node.name, capability, name)
        if key in self._active:
            cycle = " -> ".join(f"{step[0]}.{step[2]}" for step in [*self._active[self._active.index(key) :], key])
            raise EvaluationError(f"the properties refer to each other: {cycle}")
        if key not in self._properties:
            self._properties[key] = self._evaluate_property(node, name, key)
        value, touched, work = self._properties[key]
        self._spend(work)
        self._touched |= touched
        return value

    def evaluate_property(self, node: Node, name: str, *, capability: str = "") -> tuple[object, frozenset[str]]:
        """Return a property with the names of the secrets that it depends on. Raises: EvaluationError."""
        outer, self._touched = self._touched, set()
        try:
            return self.property(node, name, capability=capability), frozenset(self._touched)
        finally:
            outer |= self._touched
            self._touched = outer

    def _evaluate_property(
        self, node: Node, name: str, key: tuple[str, str, str]
    ) -> tuple[object, frozenset[str], int]:
        assigned = node.capabilities.get(key[1], {}) if key[1] else node.properties
        before = self._work
        self._active.append(key)
        try:
            value, touched = self.evaluate(assigned.get(name), owner=node.name)
            if value is None or value is ABSENT:
                definition = self.definition(node, name, capability=key[1])
                value, touched = self.evaluate(definition.default if definition else None, owner=node.name)
        finally:
            self._active.pop()
        return (ABSENT if value is None else value), touched, self._work - before

    def definition(self, node: Node, name: str, *, capability: str = "") -> PropertyDefinition | None:
        if not capability:
            return node.definition.properties.get(name)
        found = node.definition.capabilities.get(capability)
        return found.properties.get(name) if found else None

    # ── attributes ──────────────────────────────────────────────────────────────────────────────────────────────

    def _get_attribute(self, words: list[object], owner: str) -> object:
        entity, name, rest = _split(words)
        node = self._entity(entity, owner, name)
        if self._attributes is None:
            return LateValue(node.name, name)
        value = self._attribute(node, name)
        where = f"the attribute {name!r} of {node.name!r}"
        if value is ABSENT:
            self._notes.append(f"{where} is not known")
            return None
        if isinstance(value, str) and rest:
            value = [value]
        definition = node.definition.attributes.get(name)
        is_single = definition is not None and definition.schema.type == "string"
        if isinstance(value, list) and is_single and not rest:
            rest = [0]
        found = self._inside(value, rest, where)
        self._spend(_size(found))
        if any(is_secret_name(word) for word in words[1:] if isinstance(word, str)) or _holds_credential(found):
            self._touched.add(CREDENTIAL)
        return found

    def _attribute(self, node: Node, name: str) -> object:
        """Return an attribute: of the node, of what hosts it, of the machine a port binds, else the property."""
        known = self._attributes or {}
        for candidate in (node, *self.topology.hosts_of(node.name)):
            if name in known.get(candidate.name, {}):
                return known[candidate.name][name]
        if name == "ip_address" and self.topology.is_a(node, PORT):
            return self._address_of_port(node)
        if self.definition(node, name):
            return self.property(node, name)
        return ABSENT

    def _address_of_port(self, port: Node) -> object:
        machine = self.topology.machine_of(port.name)
        network = next((net for node, net in self.topology.ports_of(machine) if node is port and net), None)
        is_public = network is not None and self.property(network, "network_type") == "public"
        attribute = "public_address" if is_public else "private_address"
        addresses = (self._attributes or {}).get(machine, {}).get(attribute, ABSENT)
        return addresses if isinstance(addresses, list | str) and addresses else ABSENT

    # ── texts and the rest ──────────────────────────────────────────────────────────────────────────────────────

    def _joined(self, parts: list[object], separator: str, owner: str) -> object:
        values = [self._value(part, owner) for part in parts]
        unknown = _unknown(values)
        if unknown:
            return unknown
        for value in values:
            if value is ABSENT or isinstance(value, dict | list):
                raise EvaluationError("only texts and numbers can be joined, and all of them must be given")
        if any(value is None for value in values):
            return None
        text = separator.join(source_text(value) for value in values)
        self._spend(len(text) // _TEXT_PER_WORK)
        if len(text) > MAX_TEXT:
            raise EvaluationError("a text became too long")
        return text

    def _token(self, parts: list[object], owner: str) -> object:
        values = [self._value(part, owner) for part in parts]
        unknown = _unknown(values)
        if unknown:
            return unknown
        index = _index(values[2]) if len(values) == 3 else None  # noqa: PLR2004
        if index is None or values[0] is ABSENT:
            raise EvaluationError("token takes a text, separators and an index")
        text, separator = source_text(values[0]), source_text(values[1])
        self._spend(len(text) // _TEXT_PER_WORK)
        pieces = text.split(separator) if separator else [text]
        if index < len(pieces):
            return pieces[index]
        self._notes.append("the text of token has no piece with that index")  # text and index may be secrets
        return None

    def _artifact(self, words: list[object], owner: str) -> object:
        entity, name, _ = _split(words)
        node = self._entity(entity, owner, name)
        artifact = node.artifacts.get(name)
        if artifact is None:
            raise EvaluationError(f"the node {node.name!r} has no artifact {name!r}")
        return self._value(artifact.get("file") if isinstance(artifact, dict) else artifact, node.name)

    def _nodes_of_type(self, type_name: str) -> list[str]:
        full = self.template.types.full_name("node_types", type_name)
        return [node.name for node in self.topology.of_type(full)] if full else []


def _split(words: list[object]) -> tuple[str, str, list[object]]:
    if len(words) < 2:  # noqa: PLR2004
        raise EvaluationError("a function needs a node and a name")
    return source_text(words[0]), source_text(words[1]), words[2:]


def _index(key: object) -> int | None:
    """Return an index, or null if the key is none; one of very many digits is beyond the end of everything."""
    text = source_text(key)
    if not text.isdecimal():
        return None
    return int(text) if len(text) <= _MAX_DIGITS else sys.maxsize


def _unknown(values: list[object]) -> SecretPlaceholder | LateValue | None:
    """Return one placeholder for all that is not known in a list of values; a secret outweighs a late value."""
    secrets = [value.names for value in values if isinstance(value, SecretPlaceholder)]
    if secrets:
        return SecretPlaceholder(frozenset().union(*secrets))
    return next((value for value in values if isinstance(value, LateValue)), None)


def _holds_credential(value: object) -> bool:
    """Return whether an attribute has a credential somewhere in it."""
    maps = (part for part in _parts(value) if isinstance(part, dict))
    return any(is_secret_name(key) for part in maps for key in part if isinstance(key, str))


def _size(value: object) -> int:
    """Return how many values a value consists of."""
    return sum(1 for _ in _parts(value)) if isinstance(value, CONTAINERS) else 1


def unknown_in(value: object) -> list[SecretPlaceholder | LateValue]:
    """Return what is not known yet in a value, at any depth."""
    return [part for part in _parts(value) if isinstance(part, UNKNOWN)]


def _parts(value: object) -> Iterator[object]:
    """Yield a value and all values inside it."""
    waiting = [value]
    while waiting:
        current = waiting.pop()
        yield current
        if isinstance(current, dict):
            waiting.extend(current.values())
        elif isinstance(current, list):
            waiting.extend(current)
