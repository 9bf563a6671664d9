"""Small readers for loaded trees, which may hold anything anywhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from indaco_tosca.positions import Path

CONTAINERS: Final = (dict, list)
_NOTHING: Mapping[str, object] = {}


def as_map(value: object) -> Mapping[str, object]:
    """Return the value if it is a mapping, else an empty one."""
    return value if isinstance(value, dict) else _NOTHING


def as_list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def as_text(value: object) -> str:
    return value if isinstance(value, str) else ""


def single_maps(value: object) -> Iterator[tuple[str, object, Path]]:
    """Yield (name, content, path) from a list of one-key mappings, or from a plain mapping, which many write instead."""
    if isinstance(value, dict):
        for name, content in value.items():
            yield name, content, (name,)
    for index, item in enumerate(as_list(value)):
        for name, content in as_map(item).items():
            yield name, content, (index, name)
