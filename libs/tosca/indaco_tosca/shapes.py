"""What shapes have in common: how they are shown, and how what stands for a value behaves."""

from __future__ import annotations

from typing import Any


def shown(shape: Any, *hidden: str) -> str:
    """Return what a named tuple is shown as, without the fields that may hold secrets or much else."""
    parts = (f"{name}={value!r}" for name, value in zip(shape._fields, shape, strict=True) if name not in hidden)
    return f"{type(shape).__name__}({', '.join(parts)})"


class Placeholder:
    """What stands for a value that is not known yet. Equal to another of its kind that stands for the same."""

    __slots__: tuple[str, ...] = ()

    def _key(self) -> tuple[object, ...]:
        return tuple(getattr(self, name) for name in self.__slots__)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash((type(self), self._key()))

    def __repr__(self) -> str:
        parts = (f"{name}={getattr(self, name)!r}" for name in self.__slots__)
        return f"{type(self).__name__}({', '.join(parts)})"
