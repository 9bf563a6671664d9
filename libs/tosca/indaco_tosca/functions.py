"""The intrinsic functions of TOSCA: how they are written and what they refer to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from indaco_tosca.positions import Path

FUNCTIONS: Final = frozenset({
    "get_input", "get_property", "get_attribute", "concat", "join", "token",
    "get_artifact", "get_operation_output", "get_nodes_of_type",
})  # fmt: skip
ENTITIES: Final = frozenset({"SELF", "HOST", "SOURCE", "TARGET"})


def call_of(value: object) -> tuple[str, object] | None:
    """Return the name and argument of a function call: a map with exactly one key that is a function's name."""
    if isinstance(value, dict) and len(value) == 1:
        (name,) = value
        if name in FUNCTIONS:
            return name, value[name]
    return None


def calls_in(value: object, path: Path = ()) -> Iterator[tuple[str, object, Path]]:
    """Yield every call inside a value, outer ones first, with the path of its argument."""
    waiting: list[tuple[object, Path]] = [(value, path)]
    while waiting:
        current, at = waiting.pop()
        call = call_of(current)
        if call:
            yield (*call, (*at, call[0]))
        pairs: Iterable[tuple[str | int, object]] = ()
        if isinstance(current, dict):
            pairs = current.items()
        elif isinstance(current, list):
            pairs = enumerate(current)
        for key, item in pairs:
            if type(item) is dict or type(item) is list:
                waiting.append((item, (*at, key)))
