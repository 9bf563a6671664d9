"""Bring values to the form that their type asks for, and tell what does not fit.

Canonical values are JSON values: text, numbers, booleans, lists and maps. Sizes, times and versions stay text ("4 GB"),
so that they can be shown and passed on; ``scalars.scalar_unit`` gives their amount where it is needed.
"""

from __future__ import annotations

import math
import re
from typing import Final

from indaco_tosca.constraints import TOO_LONG, BadConstraint, ConstraintChecker
from indaco_tosca.functions import call_of
from indaco_tosca.model import UNKNOWN
from indaco_tosca.positions import Path
from indaco_tosca.report import MAX_PROBLEMS, Report, known
from indaco_tosca.scalars import UNITS, SourceFloat, SourceInt, scalar_unit, source_text
from indaco_tosca.schema import Constraint, Schema
from indaco_tosca.typeset import DataType, TypeCycle, TypeSet, UnknownType

MAX_VALUES: Final = 50_000  # that one run looks at; a type whose defaults hold each other has no end
MAX_DEPTH: Final = 90
NAMES_PER_VALUE: Final = 10  # of properties looked for in a structure; that costs as much as one value
_PORT_SPEC: Final = "tosca.datatypes.network.PortSpec"
_VERSION = re.compile(r"[0-9]{1,18}(\.[0-9]{1,18}){0,2}(\.[A-Za-z0-9_]+(-[0-9]+)?)?")
_TIMESTAMP: Final = r"\d{4}-\d{1,2}-\d{1,2}([Tt\s]\s*\d{1,2}:\d{2}:\d{2}(\.\d+)?\s*([Zz]|[-+]\d{1,2}(:?\d{2})?)?)?"
_INTEGER = re.compile(r"[-+]?[0-9]{1,18}")
_FLOAT: Final = r"[-+]?[0-9]{1,18}(\.[0-9]{0,18})?([eE][-+]?[0-9]{1,3})?"
_EXACT: Final = {"string": str, "integer": int, "boolean": bool}  # types whose values are canonical as they are
_WORDS: Final = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


class Mismatch(ValueError):
    """A value that its type does not allow; ``hint`` says what would be."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class _SpentError(Exception):
    """The budget does not allow to look at the value at ``path``."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.path = path


class Budget:
    """How much one run over a template may still look at and compare; coercers that belong to it share it."""

    __slots__ = ("checker", "left", "where")

    def __init__(self) -> None:
        self.left = MAX_VALUES
        self.checker = ConstraintChecker()
        self.where: Path | None = None  # of the first value that was too much

    def is_spent(self) -> bool:
        """Return whether nothing may be looked at any more, or nothing be compared."""
        return self.left < 0 or self.checker.is_spent

    @property
    def spent(self) -> tuple[int, int, int]:
        """Values, comparisons and steps of matching so far."""
        return (MAX_VALUES - self.left, *self.checker.spent)


class Coercer:
    """Coerces values by the types of one template; a value that cannot be known yet passes as it is."""

    def __init__(
        self, types: TypeSet, report: Report, *, leave_functions: bool = False, budget: Budget | None = None
    ) -> None:
        self.budget = budget or Budget()
        self._types = types
        self._report = report
        self._leaves_functions = leave_functions

    def beside(self, report: Report) -> Coercer:
        """Return a coercer that spends the same budget and tells another report."""
        return Coercer(self._types, report, leave_functions=self._leaves_functions, budget=self.budget)

    def coerce(self, value: object, schema: Schema, path: Path) -> object:
        """Return the canonical value; each thing that is wrong with it goes to the report.

        Nothing is looked at any more once there was too much or something too deep: that is one problem, told for the first place.
        """
        try:
            return self._coerce(value, schema, path)
        except _SpentError as spent:
            self.budget.left = -1
            self.tell_spent(spent.path)
            return value

    def tell_spent(self, path: Path) -> None:
        """Report that the budget is spent, at a path if nothing was said before."""
        budget = self.budget
        if budget.left >= 0:
            self._report.error("bad-constraint", path, TOO_LONG)
            return
        if budget.where is None:
            budget.where = path[:MAX_DEPTH]
        message = (
            f"there are more than {MAX_VALUES} values, defaults of types included, or more than {MAX_DEPTH} levels"
        )
        self._report.error("too-many-values", budget.where, message, "leave out defaults of types that hold each other")

    def _coerce(self, value: object, schema: Schema, path: Path) -> object:
        if isinstance(value, UNKNOWN) or (self._leaves_functions and call_of(value)):
            return value
        budget = self.budget
        budget.left -= 1
        if budget.left < 0 or len(path) > MAX_DEPTH:
            raise _SpentError(path)
        try:
            kind = self._types.data(schema.type)
        except UnknownType:
            return value
        except TypeCycle as error:
            self._report.error("type-cycle", path, f"the type {schema.type} derives from itself: {error}")
            return value
        constraints = schema.constraints + kind.constraints
        if not constraints and type(value) is _EXACT.get(kind.primitive):
            return value
        try:
            result = self._by_type(value, kind, schema.entry or kind.entry, path)
        except Mismatch as error:
            self._report.error("wrong-type", path, str(error), error.hint)
            return value
        if constraints:
            self._check(result, constraints, kind.primitive, path)
        return result

    def _by_type(self, value: object, kind: DataType, entry: Schema | None, path: Path) -> object:
        match kind.primitive:
            case "":
                return self._structure(value, kind, path)
            case "list":
                if not isinstance(value, list):
                    raise Mismatch(f"must be a list, not {_named(value)}")
                return [self._entry(item, entry, (*path, index)) for index, item in enumerate(value)]
            case "map":
                if not isinstance(value, dict):
                    raise Mismatch(f"must be a map, not {_named(value)}")
                return {key: self._entry(item, entry, (*path, key)) for key, item in value.items()}
            case "range":
                return self._range(value)
            case "json" | "xml":
                return value
        return scalar(value, kind.primitive)

    def _entry(self, item: object, entry: Schema | None, path: Path) -> object:
        return item if entry is None else self._coerce(item, entry, path)

    def _structure(self, value: object, kind: DataType, path: Path) -> object:
        if not kind.properties:
            return value
        if not isinstance(value, dict):
            raise Mismatch(f"must be a map with the keys of {kind.name}, not {_named(value)}")
        self.budget.left -= len(kind.properties) // NAMES_PER_VALUE
        self._refuse_unknown(value, kind, path)
        result = {}
        for name, definition in kind.properties.items():
            if value.get(name) is not None:
                result[name] = self._coerce(value[name], definition.schema, (*path, name))
            elif definition.has_default:
                result[name] = self._coerce(definition.default, definition.schema, (*path, name))
            elif definition.required:
                self._report.error("property-required", path, f"{kind.name} needs the property {name!r}")
        if _PORT_SPEC in kind.lineage and not {"source", "target", "source_range", "target_range"} & result.keys():
            raise Mismatch("a port needs source, target, source_range or target_range")
        return result

    def _refuse_unknown(self, value: dict[str, object], kind: DataType, path: Path) -> None:
        if value.keys() <= kind.properties.keys():
            return
        unknown = sorted(value.keys() - kind.properties.keys(), key=str)[:MAX_PROBLEMS]
        hint = known(kind.properties)
        for key in unknown:
            message = f"{kind.name} has no property {str(key)[:80]!r}"
            self._report.error("unknown-property", (*path, str(key)), message, hint)

    def _range(self, value: object) -> object:
        bounds = value if isinstance(value, list) else []
        if len(bounds) != 2:  # noqa: PLR2004
            raise Mismatch("must be a list of two numbers: [low, high]")
        if any(isinstance(bound, UNKNOWN) or call_of(bound) for bound in bounds):
            return value
        low, high = (bound if bound == "UNBOUNDED" else scalar(bound, "integer") for bound in bounds)
        if isinstance(low, int) and isinstance(high, int) and low > high:
            raise Mismatch(f"the range [{low}, {high}] has its bounds the wrong way round")
        return [low, high]

    def _check(self, value: object, constraints: tuple[Constraint, ...], primitive: str, path: Path) -> None:
        for constraint in constraints:
            try:
                reason = self.budget.checker.violation(constraint, value, primitive)
            except BadConstraint as error:
                self._report.error("bad-constraint", path, str(error))
                continue
            except (ValueError, TypeError, ArithmeticError):
                reason = f"cannot be compared with {constraint.kind}"
            if reason:
                self._report.error("constraint-violated", path, reason)


def scalar(value: object, primitive: str) -> object:
    """Return a value as a primitive type has it. Raises: Mismatch."""
    if type(value) is _EXACT.get(primitive):
        return value
    if isinstance(value, dict | list) or value is None:
        raise Mismatch(f"must be {_article(primitive)}, not {_named(value)}")
    text = source_text(value).strip()
    match primitive:
        case "integer":
            return _integer(value, text)
        case "float":
            return _float(value, text)
        case "boolean":
            return _boolean(value, text)
        case "version" if not _VERSION.fullmatch(text):
            raise Mismatch(f"{text[:40]!r} is not a version", "write major.minor, for example 22.04")
        case "timestamp" if not re.fullmatch(_TIMESTAMP, text):
            raise Mismatch(f"{text[:40]!r} is not a time in ISO 8601")
        case "version" | "timestamp":
            return text
        case _ if primitive in UNITS:
            return _with_unit(text, primitive)
    return source_text(value)


def _integer(value: object, text: str) -> int:
    if isinstance(value, bool):
        raise Mismatch("must be an integer, not a boolean")
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        return int(value)
    if isinstance(value, int):
        return int(value)
    if not _INTEGER.fullmatch(text):
        raise Mismatch(f"must be an integer, not {text[:40]!r}")
    return int(text)


def _float(value: object, text: str) -> float:
    if isinstance(value, bool) or not (isinstance(value, int | float) or re.fullmatch(_FLOAT, text)):
        raise Mismatch(f"must be a number, not {text[:40]!r}")
    try:
        number = float(text) if isinstance(value, str) else float(value)  # type: ignore[arg-type]
    except OverflowError:
        raise Mismatch("the number is too large") from None
    if not math.isfinite(number):
        raise Mismatch("the number is not finite")
    return number


def _boolean(value: object, text: str) -> bool:
    if isinstance(value, bool):
        return value
    if text.lower() not in _WORDS or isinstance(value, int | float):
        raise Mismatch(f"must be true or false, not {text[:40]!r}")
    return _WORDS[text.lower()]


def _with_unit(text: str, primitive: str) -> str:
    try:
        scalar_unit(text, primitive)
    except ValueError as error:
        example = {"scalar-unit.size": "2 GB", "scalar-unit.time": "10 s"}.get(primitive, "2.4 GHz")
        raise Mismatch(str(error), f"write a number and a unit, for example {example!r}") from None
    return text


def _named(value: object) -> str:
    names = {dict: "a map", list: "a list", bool: "a boolean", SourceInt: "a number", SourceFloat: "a number"}
    if value is None:
        return "null"
    return names.get(type(value), "a number" if isinstance(value, int | float) else "text")


def _article(primitive: str) -> str:
    return f"an {primitive}" if primitive[0] in "aeiou" else f"a {primitive}"
