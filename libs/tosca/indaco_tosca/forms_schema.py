"""The JSON Schema (2020-12) of a TOSCA value: what a form can check while somebody types.

A schema is the strict form of what ``plan`` accepts: a value that it allows is accepted there, and the canonical form of a
value that is accepted there is allowed here. What JSON Schema cannot say stands beside it under keywords of our own, which
a validator ignores: limits of sizes, times and frequencies as ``x-minimum-bytes``, ``x-exclusive-maximum-seconds`` and the
like, and any other constraint, as written, in the list ``x-constraints``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Final
from urllib.parse import quote

from indaco_tosca.constraints import BadConstraint, ConstraintChecker, comparable
from indaco_tosca.pattern import MAX_SUBJECT, cost
from indaco_tosca.positions import Path
from indaco_tosca.report import Report
from indaco_tosca.scalars import UNITS, plain, source_text
from indaco_tosca.schema import PRIMITIVES, Constraint, PropertyDefinition, Schema
from indaco_tosca.tree import as_list
from indaco_tosca.typeset import DataType, TypeCycle, TypeSet, UnknownType
from indaco_tosca.values import Coercer, Mismatch, scalar

JsonSchema = dict[str, object]

_MAX_DIGITS: Final = 100  # of a limit
_NOTHING: Final = "not"  # {"not": {}} allows no value
_LIMITS: Final = {
    "greater_than": "exclusiveMinimum",
    "greater_or_equal": "minimum",
    "less_than": "exclusiveMaximum",
    "less_or_equal": "maximum",
}
_X_LIMITS: Final = {
    "exclusiveMinimum": "x-exclusive-minimum",
    "minimum": "x-minimum",
    "exclusiveMaximum": "x-exclusive-maximum",
    "maximum": "x-maximum",
}
_QUANTITIES: Final = {"scalar-unit.size": "bytes", "scalar-unit.time": "seconds", "scalar-unit.frequency": "hertz"}
_TEXTS: Final = frozenset({"string", "version", "timestamp", *UNITS})
_LENGTHS: Final = {"list": "Items", "map": "Properties", "": "Properties"} | dict.fromkeys(_TEXTS, "Length")
_PORT_SPEC: Final = "tosca.datatypes.network.PortSpec"
_PORTS: Final = ("source", "target", "source_range", "target_range")
_NUMBER: Final = r"(?:[0-9]{1,18}(?:\.[0-9]{1,9})?|\.[0-9]{1,9})"
_VERSION: Final = r"[0-9]{1,18}(?:\.[0-9]{1,18}){0,2}(?:\.[A-Za-z0-9_]+(?:-[0-9]+)?)?"
_DATE: Final = r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}"
_TIME: Final = r"[0-9]{1,2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)? *(?:[Zz]|[-+][0-9]{1,2}(?::?[0-9]{2})?)?"
_RE2_ONLY = re.compile(r"\(\?(?!:)|\\[AzQEpPCa]|\\x\{|\[:|\[\^?\]")  # means something else, or nothing, to ECMA-262


class SchemaWriter:
    """Writes schemas over the types of one template; those of the data types they refer to gather beside."""

    def __init__(self, types: TypeSet) -> None:
        self._types = types
        self._definitions: dict[str, JsonSchema | None] = {}

    def write(self, schema: Schema) -> JsonSchema:
        """Return the schema of a value; a data type that has a name of its own is referred to."""
        try:
            kind = self._types.data(schema.type)
        except UnknownType:
            return any_value()
        except TypeCycle:
            return {_NOTHING: {}}
        if kind.name in PRIMITIVES or schema.entry:
            return constrained(self._inline(kind, schema.entry), schema.constraints, kind.primitive)
        self._definitions.setdefault(kind.name, None)
        escaped = quote(kind.name.replace("~", "~0").replace("/", "~1"))
        return constrained({"$ref": f"#/$defs/{escaped}"}, schema.constraints, kind.primitive)

    def definitions(self) -> dict[str, JsonSchema]:
        """Return the schemas of all data types referred to so far, and of those that these refer to."""
        while waiting := [name for name, written in self._definitions.items() if written is None]:
            for name in waiting:
                self._definitions[name] = self._inline(self._types.data(name), None)
        return {name: written for name, written in self._definitions.items() if written is not None}

    def _inline(self, kind: DataType, entry: Schema | None) -> JsonSchema:
        entry = entry or kind.entry
        match kind.primitive:
            case "" if kind.properties:
                written = self._structure(kind)
            case "list":
                written = {"type": "array"} | ({"items": self.write(entry)} if entry else {})
            case "map":
                written = {"type": "object"} | ({"additionalProperties": self.write(entry)} if entry else {})
            case _:
                written = _of_primitive(kind.primitive)
        return constrained(written, kind.constraints, kind.primitive)

    def _structure(self, kind: DataType) -> JsonSchema:
        written: JsonSchema = {
            "type": "object",
            "properties": {name: self._property(definition) for name, definition in kind.properties.items()},
            "additionalProperties": False,
        }
        required = [name for name, item in kind.properties.items() if item.required and not item.has_default]
        if required:
            written["required"] = required
        if _PORT_SPEC in kind.lineage:
            written["anyOf"] = [{"required": [name]} for name in _PORTS]
        return written

    def _property(self, definition: PropertyDefinition) -> JsonSchema:
        written = self.write(definition.schema)
        if definition.description:
            written["description"] = definition.description
        if definition.has_default and definition.default is not None:
            written["default"] = plain(definition.default)
        return written


class Judge:
    """Brings values to their canonical form, or refuses them, exactly as the server does."""

    def __init__(self, types: TypeSet) -> None:
        self._verdict = _Verdict()
        self._coercer = Coercer(types, self._verdict)

    def canonical(self, value: object, schema: Schema) -> object:
        """Return the canonical form of a value as JSON has it, or null if it is refused."""
        self._verdict.reason = "there is none" if value is None else ""
        result = self._coercer.coerce(value, schema, ()) if value is not None else None
        return None if self._verdict.reason else plain(result)

    @property
    def reason(self) -> str:
        """Why the last value was refused."""
        return self._verdict.reason


class _Verdict(Report):
    """Keeps the first reason only: many values are judged, few are told about."""

    reason: str = ""

    def error(self, code: str, path: Path, message: str, hint: str = "") -> None:
        del code, path, hint
        self.reason = self.reason or message


def any_value() -> JsonSchema:
    """Return the schema of any value; null is none, for it counts as not given."""
    return {"type": ["object", "array", "string", "number", "boolean"]}


def constrained(written: JsonSchema, constraints: Iterable[Constraint], primitive: str) -> JsonSchema:
    """Return a schema with constraints of a value of a primitive type added; a keyword twice makes an ``allOf``.

    A constraint that no value can satisfy, such as a limit that is no number, leaves a schema that allows none.
    """
    unsaid: list[object] = []
    for constraint in constraints:
        try:
            more = _keywords(constraint, primitive)
        except (ValueError, ArithmeticError):
            more = {_NOTHING: {}}
        if more is None:
            unsaid.append({constraint.kind: plain(constraint.argument)})
        else:
            written = narrowed(written, more)
    return written | ({"x-constraints": unsaid} if unsaid else {})


def narrowed(written: JsonSchema, more: JsonSchema) -> JsonSchema:
    """Return the schema of what both allow."""
    if written.keys() & more.keys():
        return written | {"allOf": [*as_list(written.get("allOf")), more]}
    return written | more


def flaw(constraint: Constraint, primitive: str) -> str:
    """Return why a constraint cannot be applied to any value of a primitive type, or nothing."""
    try:
        _keywords(constraint, primitive)
    except ValueError as error:
        return str(error)
    except ArithmeticError:
        return "the limit is not a number"
    return ""


def _of_primitive(primitive: str) -> JsonSchema:
    match primitive:
        case "string" | "integer" | "boolean":
            return {"type": primitive}
        case "float":
            return {"type": "number"}
        case "version":
            return {"type": "string", "pattern": f"^{_VERSION}$"}
        case "timestamp":
            return {"type": "string", "pattern": f"^{_DATE}(?:[Tt ] *{_TIME})?$"}
        case "range":
            bound = {"anyOf": [{"type": "integer"}, {"const": "UNBOUNDED"}]}
            return {"type": "array", "items": bound, "minItems": 2, "maxItems": 2, "format": "range"}
        case _ if primitive in UNITS:
            units = "|".join("".join(f"[{c}{c.upper()}]" for c in unit) for unit in UNITS[primitive])
            return {"type": "string", "pattern": f"^{_NUMBER} *(?:{units})$", "format": primitive}
    return any_value()


def _keywords(constraint: Constraint, primitive: str) -> JsonSchema | None:
    """Return what says a constraint, or null if nothing can. Raises: ValueError, for one that cannot be applied."""
    kind, argument = constraint.kind, constraint.argument
    match kind:
        case "schema":
            return {}
        case "valid_values" | "equal":
            return _choices(argument if kind == "valid_values" else [argument], primitive)
        case "length" | "min_length" | "max_length":
            return _length(kind, argument, primitive)
        case "pattern":
            return _pattern(source_text(argument), primitive)
        case "in_range":
            return _range(argument, primitive)
        case _ if kind in _LIMITS:
            return _limit(_LIMITS[kind], argument, primitive)
    raise BadConstraint(f"{kind!r} is not a constraint")


def _choices(allowed: object, primitive: str) -> JsonSchema:
    if not isinstance(allowed, list):
        raise BadConstraint("valid_values takes a list")
    if primitive not in _TEXTS | {"integer", "float", "boolean"}:
        return {"enum": [plain(item) for item in allowed]}
    checker = ConstraintChecker()
    found: dict[object, None] = {}
    for item in allowed:
        try:
            value = scalar(item, primitive)
        except Mismatch:
            continue
        if not checker.violation(Constraint("equal", item), value, primitive):
            found[plain(value)] = None
    return {"enum": list(found)}


def _limit(keyword: str, argument: object, primitive: str) -> JsonSchema | None:
    if primitive in UNITS:
        amount = comparable(argument, primitive)
        exact = _number(amount)
        return {f"{_X_LIMITS[keyword]}-{_QUANTITIES[primitive]}": float(str(amount)) if exact is None else exact}
    number = _number(comparable(argument, primitive)) if primitive in {"integer", "float"} else None
    return None if number is None else {keyword: number}


def _number(limit: object) -> int | float | None:
    """Return a limit as JSON has it, or null if it has no exact form there."""
    if isinstance(limit, Decimal):
        if limit.adjusted() >= _MAX_DIGITS:
            return None  # longer than what writes or reads JSON takes
        return int(limit) if limit == limit.to_integral_value() else None
    if isinstance(limit, float):
        return float(limit) if math.isfinite(limit) else None
    return int(limit) if isinstance(limit, int) else None


def _range(argument: object, primitive: str) -> JsonSchema | None:
    if not isinstance(argument, list) or len(argument) != 2:  # noqa: PLR2004
        raise BadConstraint("in_range takes a list of two limits")
    kind = "integer" if primitive == "range" else primitive
    found: JsonSchema = {}
    for keyword, limit in zip(("minimum", "maximum"), argument, strict=True):
        said = {} if limit == "UNBOUNDED" else _limit(keyword, limit, kind)
        if said is None:
            return None
        found |= said
    if primitive != "range":
        return found
    if "maximum" in found:
        found["type"] = "integer"  # UNBOUNDED is above every limit
    return {"items": found}


def _length(kind: str, argument: object, primitive: str) -> JsonSchema | None:
    if not isinstance(argument, int) or isinstance(argument, bool):
        raise BadConstraint(f"{kind} takes a number")
    unit = _LENGTHS.get(primitive)
    if unit is None:
        return None
    if argument < 0 and kind != "min_length":
        raise BadConstraint("nothing is that short")
    found: JsonSchema = {}
    if kind != "max_length":
        found[f"min{unit}"] = max(0, int(argument))
    if kind != "min_length":
        found[f"max{unit}"] = int(argument)
    return found


def _pattern(pattern: str, primitive: str) -> JsonSchema | None:
    cost(pattern, "")
    if primitive not in _TEXTS or _RE2_ONLY.search(pattern):
        return None
    return {"pattern": f"^(?:{pattern})$", "maxLength": MAX_SUBJECT}
