"""The properties of nodes as the planner reads them: evaluated, canonical and checked, each problem with its place."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Final, NamedTuple

from indaco_tosca.evaluate import ABSENT, EvaluationError, Evaluator
from indaco_tosca.functions import calls_in
from indaco_tosca.model import UNKNOWN, LateValue, Node, SecretPlaceholder
from indaco_tosca.positions import Path
from indaco_tosca.report import Report
from indaco_tosca.scalars import scalar_unit, source_text
from indaco_tosca.schema import PropertyDefinition
from indaco_tosca.tree import CONTAINERS
from indaco_tosca.values import Coercer

NODES: Path = ("topology_template", "node_templates")
_CONSTANT: Final = (str, int, float)  # kinds of values in which there is nothing to evaluate
_COPIES_PER_VALUE: Final = 16  # defaults that are copied to a node; that costs as much as one value


class Values(NamedTuple):
    """Canonical properties of one thing, with readers for the kinds that a plan is made of.

    ``tainted`` has, for each property that depends on secrets, their names.
    """

    found: Mapping[str, object]
    path: Path
    report: Report
    tainted: Mapping[str, frozenset[str]]

    @property
    def secrets(self) -> frozenset[str]:
        return frozenset().union(*self.tainted.values())

    def text(self, name: str) -> str:
        value = self._known(name)
        return "" if isinstance(value, CONTAINERS) else source_text(value)

    def integer(self, name: str) -> int | None:
        value = self._known(name)
        return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else None

    def number(self, name: str) -> float | None:
        value = self._known(name)
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None

    def flag(self, name: str) -> bool | None:
        value = self._known(name)
        return value if isinstance(value, bool) else None

    def size(self, name: str) -> int:
        """Return a size in bytes, rounded up; 0 if there is none."""
        text = self.text(name)
        try:
            return ceil(scalar_unit(text, "scalar-unit.size")) if text else 0
        except ValueError:
            return 0  # reported as wrong-type when it was coerced

    def mapping(self, name: str) -> Mapping[str, object]:
        value = self._known(name)
        return value if isinstance(value, dict) else {}

    def items(self, name: str) -> list[object]:
        value = self._known(name)
        return value if isinstance(value, list) else []

    def open_text(self, name: str) -> str:
        """Return a text that may be left out: with a warning, if it depends on a secret or on an attribute."""
        if name in self.tainted or isinstance(self.found.get(name), LateValue):
            message = f"{name} depends on a secret or on an attribute and is left out"
            self.report.warn("value-left-out", (*self.path, name), message)
            return ""
        return self.text(name)

    def _known(self, name: str) -> object:
        """Return a value that a resource may depend on: neither secret nor known only after deployment."""
        value = self.found.get(name)
        if name not in self.tainted and not isinstance(value, UNKNOWN):
            return value
        if name in self.tainted or isinstance(value, SecretPlaceholder):
            message = "a resource must not depend on a secret input: what a provider is asked for is not secret"
            self.report.error("secret-in-resource", (*self.path, name), message)
        else:
            message = "a resource must not depend on an attribute, which is known only after deployment"
            self.report.error("attribute-in-resource", (*self.path, name), message)
        return None


class _Defaults(NamedTuple):
    """What the properties of a type are where a template assigns none; found out once, and shared: nobody changes it."""

    fixed: dict[str, object]  # canonical values
    computed: tuple[str, ...]  # names of those that have functions or are not fit for their type
    needed: tuple[str, ...]  # required, and without a default
    cost: int = 0  # in values: charged to each run, also where they are kept from before
    checks: tuple[int, int] | None = None  # the same in comparisons and steps of matching


_TOO_MANY: Final = _Defaults({}, (), ())


class Resolver:
    """Resolves properties of nodes and capabilities, once each, all of them within one budget."""

    def __init__(self, evaluator: Evaluator, report: Report) -> None:
        self.evaluator, self.report = evaluator, report
        self._cache: dict[tuple[str, str], Values] = {}
        self._known: dict[tuple[str, str], _Defaults] = {}
        self._coercer = Coercer(evaluator.template.types, report)

    def node(self, node: Node) -> Values:
        known = self._cache.get((node.name, ""))
        return known or self._resolve(node, "", node.definition.properties, (*NODES, node.name, "properties"))

    def capability(self, node: Node, name: str) -> Values:
        known = self._cache.get((node.name, name))
        if known:
            return known
        found = node.definition.capabilities.get(name)
        path = (*NODES, node.name, "capabilities", name, "properties")
        return self._resolve(node, name, found.properties if found else {}, path)

    def _resolve(
        self, node: Node, capability: str, definitions: Mapping[str, PropertyDefinition], path: Path
    ) -> Values:
        assigned = node.capabilities.get(capability, {}) if capability else node.properties
        kind = (node.type, capability)
        defaults = self._known.get(kind) or self._defaults(kind, definitions, path)
        names = dict.fromkeys((*assigned, *defaults.computed)) if assigned or defaults.computed else ()
        found = self._copied(defaults.fixed, path) if names else defaults.fixed
        tainted: dict[str, frozenset[str]] = {}
        for name in names:
            raw = assigned.get(name)
            if isinstance(raw, _CONSTANT):
                found[name] = self._coercer.coerce(raw, definitions[name].schema, (*path, name))
                continue
            value, touched = self._property(node, capability, definitions[name], (*path, name))
            if value is not ABSENT:
                found[name] = value
                if touched:
                    tainted[name] = touched
        for name in defaults.needed:
            if name not in found:
                self.report.warn("value-absent", (*path, name), f"the property {name!r} has no value")
        values = self._cache[node.name, capability] = Values(found, path, self.report, tainted)
        return values

    def _copied(self, fixed: dict[str, object], path: Path) -> dict[str, object]:
        if len(fixed) >= _COPIES_PER_VALUE:
            budget = self._coercer.budget
            budget.left -= len(fixed) // _COPIES_PER_VALUE
            if budget.left < 0:
                self._coercer.tell_spent(path)
                return {}
        return dict(fixed)

    def _defaults(self, key: tuple[str, str], definitions: Mapping[str, PropertyDefinition], path: Path) -> _Defaults:
        types, budget = self.evaluator.template.types, self._coercer.budget
        made = types.derived.get(key)
        if isinstance(made, _Defaults):
            budget.left -= made.cost
            if made.checks:
                budget.checker.charge(*made.checks)
        else:
            made = _defaults(self._coercer, definitions, path)
        if budget.left < 0 or budget.checker.is_spent:
            self._coercer.tell_spent(path)
            return _TOO_MANY
        types.derived[key] = self._known[key] = made
        return made

    def _property(
        self, node: Node, capability: str, definition: PropertyDefinition, path: Path
    ) -> tuple[object, frozenset[str]]:
        try:
            value, touched = self.evaluator.evaluate_property(node, definition.name, capability=capability)
        except EvaluationError as error:
            self.report.error("bad-function", path, str(error))
            return ABSENT, frozenset()
        for note in self.evaluator.take_notes():
            self.report.warn("null-value", path, f"{note}; the value is null")
        return (value if value is ABSENT else self.coerce(value, definition, path, touched)), touched

    def coerce(self, value: object, definition: PropertyDefinition, path: Path, touched: frozenset[str]) -> object:
        """Return the canonical value; problems of a value that depends on a secret do not show it."""
        if not touched:
            return self._coercer.coerce(value, definition.schema, path)
        apart = Report()
        result = self._coercer.beside(apart).coerce(value, definition.schema, path)
        if self._coercer.budget.is_spent():
            self._coercer.tell_spent(path)
        elif apart.has_errors:
            self.report.error("wrong-type", path, "the value, which depends on a secret input, is not valid")
        return result

    def loose(self, raw: Mapping[str, object], owner: str, path: Path) -> Values:
        """Resolve properties that have no definition at hand, such as those of a relationship or a policy."""
        found: dict[str, object] = {}
        tainted: dict[str, frozenset[str]] = {}
        for name, expression in raw.items():
            try:
                value, touched = self.evaluator.evaluate(expression, owner=owner)
            except EvaluationError as error:
                self.report.error("bad-function", (*path, name), str(error))
                continue
            if value is not ABSENT and value is not None:
                found[name] = value
                tainted |= {name: touched} if touched else {}
        return Values(found, path, self.report, tainted)


def _defaults(coercer: Coercer, definitions: Mapping[str, PropertyDefinition], path: Path) -> _Defaults:
    fixed: dict[str, object] = {}
    computed: list[str] = []
    budget = coercer.budget
    before, where = budget.spent, budget.where
    for name, definition in definitions.items():
        if definition.default is None:
            continue
        report = Report()
        value = coercer.beside(report).coerce(definition.default, definition.schema, (*path, name))
        if budget.is_spent():
            budget.where = where  # not here, but where the type is used: as if its defaults were kept from before
            return _TOO_MANY
        if report.has_errors or next(calls_in(definition.default), None):
            computed.append(name)
        else:
            fixed[name] = value
    needed = [name for name, definition in definitions.items() if definition.required and not definition.has_default]
    values, *checks = (now - then for now, then in zip(budget.spent, before, strict=True))
    return _Defaults(fixed, tuple(computed), tuple(needed), values, (checks[0], checks[1]) if any(checks) else None)
