"""Check values against constraints, compared by the type of the value: sizes as bytes, versions by their parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Final

from indaco_tosca.pattern import PatternError, cost, matches
from indaco_tosca.scalars import UNITS, scalar_unit, source_text
from indaco_tosca.schema import CONSTRAINTS, Constraint

_PATTERN_STEPS: Final = 400_000  # of matching for one template
_COMPARISONS: Final = 200_000  # of values with limits for one template
_TEXT_PER_COMPARISON: Final = 64  # characters that cost as much as one value
_MAX_DIGITS: Final = 64  # of a number written as text; those of a document have no more
_SHOWN: Final = 60
TOO_LONG: Final = "the constraints of this template take too long to check"

_ORDERED: Final[dict[str, Callable[[object, object], bool]]] = {
    "greater_than": lambda value, limit: value > limit,  # type: ignore[operator]
    "greater_or_equal": lambda value, limit: value >= limit,  # type: ignore[operator]
    "less_than": lambda value, limit: value < limit,  # type: ignore[operator]
    "less_or_equal": lambda value, limit: value <= limit,  # type: ignore[operator]
}
_LENGTHS: Final[dict[str, tuple[Callable[[int, int], bool], str]]] = {
    "length": (lambda size, limit: size == limit, "exactly"),
    "min_length": (lambda size, limit: size >= limit, "at least"),
    "max_length": (lambda size, limit: size <= limit, "at most"),
}


class BadConstraint(ValueError):
    """A constraint that cannot be applied, whatever the value is."""


class ConstraintChecker:
    """Checks values; keeps count of the work that this causes, so that a template cannot cause too much of it."""

    def __init__(self) -> None:
        self.is_spent = False
        self._steps = 0
        self._comparisons = 0
        self._costs: dict[int, tuple[Constraint, int]] = {}  # by identity: arguments may be anything

    @property
    def spent(self) -> tuple[int, int]:
        """The comparisons and the steps of matching so far."""
        return self._comparisons, self._steps

    def charge(self, comparisons: int, steps: int) -> None:
        """Count work, also such whose result was kept from before: a template gets the same answer each time."""
        self._comparisons += comparisons
        self._steps += steps
        self.is_spent = self._comparisons > _COMPARISONS or self._steps > _PATTERN_STEPS

    def _cost(self, constraint: Constraint) -> int:
        if type(constraint.argument) is not list and type(constraint.argument) is not dict:
            return 1 + _length_of(constraint.argument)
        known = self._costs.get(id(constraint))
        if known is None:
            known = self._costs[id(constraint)] = constraint, _size(constraint.argument)
        return known[1]

    def violation(self, constraint: Constraint, value: object, primitive: str) -> str:
        """Return why a value of a primitive type does not satisfy a constraint, or nothing.

        Raises: BadConstraint.
        """
        kind, argument = constraint.kind, constraint.argument
        self.charge(self._cost(constraint), 0)
        if self._comparisons > _COMPARISONS:
            raise BadConstraint(TOO_LONG)
        if kind not in CONSTRAINTS:
            raise BadConstraint(f"{kind!r} is not a constraint")
        if kind in _ORDERED:
            limit = _limit(argument, primitive)
            if _ORDERED[kind](comparable(value, primitive), limit):
                return ""
            wording = kind.replace("_", " ").replace("or equal", "than or equal to")
            return f"must be {wording} {_shown(argument)}"
        if kind in _LENGTHS:
            return _length(kind, argument, value)
        if kind == "pattern":
            return self._pattern(argument, value)
        if kind == "in_range":
            return _range(argument, value, primitive)
        if kind == "schema":
            return ""
        allowed = argument if kind == "valid_values" else [argument]
        if not isinstance(allowed, list):
            raise BadConstraint("valid_values takes a list")
        if _is_one_of(value, allowed, primitive):
            return ""
        return (
            f"must be {'one of ' if kind == 'valid_values' else ''}{', '.join(_shown(item) for item in allowed[:20])}"
        )

    def _pattern(self, argument: object, value: object) -> str:
        pattern, subject = source_text(argument), source_text(value)
        try:
            self.charge(0, cost(pattern, subject))
        except PatternError as error:
            raise BadConstraint(f"the pattern cannot be used: {error}") from None
        if self._steps > _PATTERN_STEPS:
            raise BadConstraint("the patterns of this template take too long to match")
        return "" if matches(pattern, subject) else f"must match {_shown(argument)}"


def comparable(value: object, primitive: str) -> object:
    """Return a value in a form that can be ordered. Raises: ValueError, if it has none."""
    if primitive in UNITS:
        return scalar_unit(source_text(value), primitive)
    if primitive == "version":
        return version_key(source_text(value))
    if primitive in {"integer", "float"}:
        if isinstance(value, str):
            is_number = value.strip().replace(".", "", 1).lstrip("+-").isdecimal() and len(value) <= _MAX_DIGITS
            return Decimal(value) if is_number else _no_number(value)
        return value if isinstance(value, int | float) and not isinstance(value, bool) else _no_number(value)
    return source_text(value)


def _no_number(value: object) -> object:
    raise ValueError(f"{_shown(value)} is not a number")


def version_key(text: str) -> tuple[int, int, int, str]:
    """Return the parts of a version as numbers, missing ones as 0, with the qualifier last."""
    parts = text.split(".", 3)
    numbers = [int(part) if part.isdecimal() and len(part) < 19 else 0 for part in parts[:3]]  # noqa: PLR2004
    numbers += [0] * (3 - len(numbers))
    return numbers[0], numbers[1], numbers[2], parts[3] if len(parts) > 3 else ""  # noqa: PLR2004


def _limit(argument: object, primitive: str) -> object:
    try:
        return comparable(argument, primitive)
    except ValueError as error:
        raise BadConstraint(f"the limit does not fit the type: {error}") from None


def _is_one_of(value: object, allowed: list[object], primitive: str) -> bool:
    text = value if isinstance(value, dict | list) else source_text(value)
    if text in allowed:
        return True
    is_text = primitive == "string" and type(value) is str  # texts that are not the same differ
    return any(_equal(value, item, primitive) for item in allowed if not (is_text and type(item) is str))


def _equal(value: object, item: object, primitive: str) -> bool:
    if isinstance(value, dict | list) or isinstance(item, dict | list):
        return value == item
    texts = source_text(value), source_text(item)
    if isinstance(item, bool) or isinstance(value, bool):
        return texts[0].lower() == texts[1].lower()
    if texts[0] == texts[1] or primitive == "string":
        return texts[0] == texts[1]
    try:
        return comparable(value, primitive) == comparable(item, primitive)
    except ValueError:
        return False


def _range(argument: object, value: object, primitive: str) -> str:
    if not isinstance(argument, list) or len(argument) != 2:  # noqa: PLR2004
        raise BadConstraint("in_range takes a list of two limits")
    values = value if primitive == "range" and isinstance(value, list) else [value]
    kind = "integer" if primitive == "range" else primitive
    low, high = (None if limit == "UNBOUNDED" else _limit(limit, kind) for limit in argument)
    for item in values:
        key = comparable(item, kind) if item != "UNBOUNDED" else None
        is_low = key is not None and low is not None and key < low  # type: ignore[operator]
        is_high = high is not None and (key is None or key > high)  # type: ignore[operator]
        if is_low or is_high:
            return f"must be from {_shown(argument[0])} to {_shown(argument[1])}"
    return ""


def _length(kind: str, argument: object, value: object) -> str:
    if not isinstance(argument, int) or isinstance(argument, bool):
        raise BadConstraint(f"{kind} takes a number")
    size = len(value) if isinstance(value, dict | list) else len(source_text(value))
    test, wording = _LENGTHS[kind]
    unit = "entries" if isinstance(value, dict | list) else "characters"
    return "" if test(size, argument) else f"must have {wording} {argument} {unit}, it has {size}"


def _shown(value: object) -> str:
    """Return the beginning of a value as text, without making the text of all of it."""
    if not isinstance(value, dict | list):
        return source_text(value)[:_SHOWN]
    text = ""
    for piece in _pieces(value):
        text += piece
        if len(text) >= _SHOWN:
            break
    return text[:_SHOWN]


def _pieces(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for index, (key, item) in enumerate(value.items()):
            yield f"{', ' if index else '{'}{str(key)[:_SHOWN]!r}: "
            yield from _pieces(item)
        yield "}" if value else "{}"
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield ", " if index else "["
            yield from _pieces(item)
        yield "]" if value else "[]"
    else:
        yield repr(value[:_SHOWN] if isinstance(value, str) else value)


def _length_of(value: object) -> int:
    return len(value) // _TEXT_PER_COMPARISON if isinstance(value, str) else 0


def _size(value: object) -> int:
    """Return what a comparison with a value costs: how many values it has at any depth, long texts counted as several."""
    size, waiting = 0, [value]
    while waiting:
        current = waiting.pop()
        if isinstance(current, dict | list):
            size += len(current)
            waiting.extend(current.values() if isinstance(current, dict) else current)
        else:
            size += _length_of(current)
    return max(size, 1)
