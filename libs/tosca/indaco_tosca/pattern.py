"""Match the ``pattern`` constraint in linear time.

A pattern comes from whoever wrote the template, and a backtracking engine can be kept busy for ever by a short one such
as ``(a+)+$``. Here a pattern becomes a non-deterministic automaton whose states are advanced together, so that the time
is bounded by states x characters. The syntax is the regular core of the usual one: literals, classes, escapes, groups,
alternatives and repetitions; look-around and back references are not regular and are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

MAX_PATTERN: Final = 500
MAX_SUBJECT: Final = 1024
MAX_STATES: Final = 500
_MAX_GROUPS_DEEP: Final = 20
_MAX_BOUNDS: Final = 8  # digits of both bounds of a repetition

_Test = Callable[[str], bool]
_CLASSES: Final[dict[str, _Test]] = {
    "d": str.isdigit,
    "w": lambda c: c.isalnum() or c == "_",
    "s": str.isspace,
    "D": lambda c: not c.isdigit(),
    "W": lambda c: not (c.isalnum() or c == "_"),
    "S": lambda c: not c.isspace(),
}
_CONTROLS: Final = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v"}


class PatternError(ValueError):
    """A pattern that is malformed, too large or not regular."""


@dataclass(slots=True)
class _State:
    """A state: consumes a character that passes ``test`` and goes on to ``out``; without a test, goes on freely."""

    test: _Test | None
    out: list[int]
    anchor: str = ""


@lru_cache(maxsize=256)
def compiled(pattern: str) -> Pattern:
    """Return the automaton of a pattern. Raises: PatternError."""
    return Pattern(pattern)


class Pattern:
    """One compiled pattern."""

    def __init__(self, pattern: str) -> None:
        if len(pattern) > MAX_PATTERN:
            raise PatternError(f"a pattern may have {MAX_PATTERN} characters")
        self._states: list[_State] = [_State(None, [])]
        self._start = _Parser(pattern, self._states).parse()

    def cost(self, subject: str) -> int:
        """Return an upper bound of the steps that a match of this subject takes."""
        return len(self._states) * min(len(subject) + 1, MAX_SUBJECT)

    def matches(self, subject: str) -> bool:
        """Return whether the whole of a text matches; a text over 1024 characters never does."""
        if len(subject) > MAX_SUBJECT:
            return False
        current = self._closure([self._start], at_start=True, at_end=not subject)
        for index, character in enumerate(subject):
            reached = [
                follower
                for number in current
                if (test := self._states[number].test) is not None and test(character)
                for follower in self._states[number].out
            ]
            if not reached:
                return False
            current = self._closure(reached, at_start=False, at_end=index == len(subject) - 1)
        return 0 in current

    def _closure(self, numbers: Iterable[int], *, at_start: bool, at_end: bool) -> set[int]:
        seen: set[int] = set()
        waiting = list(numbers)
        while waiting:
            number = waiting.pop()
            state = self._states[number]
            blocked = (state.anchor == "^" and not at_start) or (state.anchor == "$" and not at_end)
            if number in seen or blocked:
                continue
            seen.add(number)
            if state.test is None:
                waiting.extend(state.out)
        return seen


_Node = tuple[str, object, int, int]
"""A parsed piece: ("test", test) | ("anchor", "^") | ("all", pieces) | ("any", pieces), with its repetition."""


class _Parser:
    """Recursive descent over the pattern, then construction of the automaton from the end backwards."""

    def __init__(self, pattern: str, states: list[_State]) -> None:
        self._text = pattern
        self._at = 0
        self._states = states
        self._depth = 0

    def parse(self) -> int:
        node = self._alternatives()
        if self._at < len(self._text):
            raise PatternError(f"unexpected {self._text[self._at]!r} at {self._at}")
        return self._build(node, 0)

    def _peek(self) -> str:
        return self._text[self._at] if self._at < len(self._text) else ""

    def _take(self) -> str:
        character = self._peek()
        if not character:
            raise PatternError("the pattern ends too early")
        self._at += 1
        return character

    def _alternatives(self) -> _Node:
        self._depth += 1
        if self._depth > _MAX_GROUPS_DEEP:
            raise PatternError("groups are nested too deeply")
        branches = [self._sequence()]
        while self._peek() == "|":
            self._at += 1
            branches.append(self._sequence())
        self._depth -= 1
        return ("any", branches, 1, 1)

    def _sequence(self) -> _Node:
        pieces: list[_Node] = []
        while self._peek() not in {"", "|", ")"}:
            kind, content, _, _ = self._atom()
            low, high = self._repetition()
            pieces.append((kind, content, low, high))
        return ("all", pieces, 1, 1)

    def _atom(self) -> _Node:
        character = self._take()
        match character:
            case "(":
                return self._group()
            case "[":
                return ("test", self._set(), 1, 1)
            case ".":
                return ("test", lambda c: c != "\n", 1, 1)
            case "^" | "$":
                return ("anchor", character, 1, 1)
            case "\\":
                return ("test", self._escape(), 1, 1)
            case "*" | "+" | "?":
                raise PatternError(f"nothing to repeat at {self._at - 1}")
        return ("test", _equals(character), 1, 1)

    def _group(self) -> _Node:
        if self._peek() == "?":
            self._at += 1
            if self._take() != ":":
                raise PatternError("look-around and named groups are not supported")
        node = self._alternatives()
        if self._take() != ")":
            raise PatternError("a group is not closed")
        return node

    def _escape(self) -> _Test:
        character = self._take()
        if character in _CLASSES:
            return _CLASSES[character]
        if character.isalnum() and character not in _CONTROLS:
            raise PatternError(f"the escape \\{character} is not supported")
        return _equals(_CONTROLS.get(character, character))

    def _set(self) -> _Test:
        is_negated = self._peek() == "^"
        self._at += is_negated
        tests: list[_Test] = []
        while self._peek() != "]" or not tests:
            tests.append(self._member())
        self._at += 1
        return lambda c: any(test(c) for test in tests) != is_negated

    def _member(self) -> _Test:
        low = self._take()
        if low == "\\":
            if self._peek() in _CLASSES:
                return self._escape()
            low = _CONTROLS.get(self._peek(), self._peek())
            self._take()
        if self._peek() != "-" or self._text[self._at + 1 : self._at + 2] in {"]", ""}:
            return _equals(low)
        self._at += 1
        high = self._take()
        high = self._take() if high == "\\" else high
        if high < low:
            raise PatternError(f"the range {low}-{high} is empty")
        return lambda c: low <= c <= high

    def _repetition(self) -> tuple[int, int]:
        """Read a quantifier as (minimum, maximum), -1 for no maximum; a lazy mark makes no difference to a match."""
        bounds = {"*": (0, -1), "+": (1, -1), "?": (0, 1)}.get(self._peek())
        if bounds is not None:
            self._at += 1
        elif self._peek() == "{":
            bounds = self._braces()
        if bounds is None:
            return 1, 1
        if self._peek() == "?":
            self._at += 1
        return bounds

    def _braces(self) -> tuple[int, int]:
        end = self._text.find("}", self._at)
        low, comma, high = self._text[self._at + 1 : max(end, 0)].partition(",")
        if end < 0 or not low.isdecimal() or (high and not high.isdecimal()) or len(low) + len(high) > _MAX_BOUNDS:
            raise PatternError("a repetition is written {n}, {n,} or {n,m}")
        self._at = end + 1
        bounds = int(low), (int(high) if high else -1) if comma else int(low)
        if bounds[1] != -1 and bounds[1] < bounds[0]:
            raise PatternError("a repetition has its bounds the wrong way round")
        return bounds

    def _add(self, state: _State) -> int:
        if len(self._states) >= MAX_STATES:
            raise PatternError("the pattern is too complex")
        self._states.append(state)
        return len(self._states) - 1

    def _build(self, node: _Node, follower: int) -> int:
        """Return the first state of a piece that goes on to ``follower`` when it is done."""
        _, _, low, high = node
        if high == -1:
            loop = self._add(_State(None, [follower]))
            self._states[loop].out.append(self._once(node, loop))
            follower = loop
        for _ in range(max(high - low, 0) if high != -1 else 0):
            follower = self._add(_State(None, [follower, self._once(node, follower)]))
        for _ in range(low):
            follower = self._once(node, follower)
        return follower

    def _once(self, node: _Node, follower: int) -> int:
        kind, content, _, _ = node
        if kind == "test":
            return self._add(_State(content, [follower]))  # type: ignore[arg-type]
        if kind == "anchor":
            return self._add(_State(None, [follower], str(content)))
        pieces: list[_Node] = content  # type: ignore[assignment]
        if kind == "any":
            return self._add(_State(None, [self._build(piece, follower) for piece in pieces]))
        for piece in reversed(pieces):
            follower = self._build(piece, follower)
        return follower


def _equals(expected: str) -> _Test:
    return lambda character: character == expected
