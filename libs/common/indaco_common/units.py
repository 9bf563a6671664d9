"""Resources as one vector of integers: what templates need, agreements grant, ledgers hold and sites have.

Classes: ``instances``, ``cpu_milli`` (1/1000 vCPU), ``memory_mib``, ``disk_gib``, ``volumes``, ``volume_gib``, ``public_ips``,
``gpus``, ``gpus:<model>``, ``buckets``.
"""

import re
from collections.abc import ItemsView, Iterable, Iterator, Mapping
from typing import Annotated, Any

import pydantic
from pydantic_core import core_schema

CLASSES = ("instances", "cpu_milli", "memory_mib", "disk_gib", "volumes", "volume_gib", "public_ips", "gpus", "buckets")
_CLASSES = frozenset(CLASSES)
_NAME = re.compile(r"^(?:" + "|".join(CLASSES) + r"|gpus:[A-Za-z0-9 ._-]{1,64})$")
MAX_AMOUNT = 2**53

Amount = Annotated[int, pydantic.Field(ge=0, le=MAX_AMOUNT)]


class ResourceVector(Mapping[str, int]):
    """An immutable amount of each resource class; a class that is not named is 0."""

    __slots__ = ("_amounts",)

    def __init__(self, amounts: Mapping[str, int] | None = None, /, **named: int) -> None:
        merged = {**(amounts or {}), **named} if named else (amounts or {})
        for name, amount in merged.items():
            if name not in _CLASSES and not _NAME.match(name):
                raise ValueError(f"{name!r} is no resource class")
            if not 0 <= amount <= MAX_AMOUNT:
                raise ValueError(f"{name}: {amount} is not between 0 and 2^53")
        self._amounts = {name: amount for name, amount in sorted(merged.items()) if amount}

    def __getitem__(self, name: str) -> int:
        return self._amounts.get(name, 0)

    def __iter__(self) -> Iterator[str]:
        return iter(self._amounts)

    def __len__(self) -> int:
        return len(self._amounts)

    def items(self) -> ItemsView[str, int]:
        return self._amounts.items()

    def __hash__(self) -> int:
        return hash(tuple(self._amounts.items()))

    def __repr__(self) -> str:
        return f"ResourceVector({self._amounts})"

    def __add__(self, other: Mapping[str, int]) -> "ResourceVector":
        return ResourceVector({name: self[name] + other.get(name, 0) for name in {*self, *other}})

    def __mul__(self, times: int) -> "ResourceVector":
        return ResourceVector({name: amount * times for name, amount in self.items()})

    @classmethod
    def sum(cls, vectors: Iterable[Mapping[str, int]]) -> "ResourceVector":
        total: dict[str, int] = {}
        for vector in vectors:
            for name, amount in vector.items():
                total[name] = total.get(name, 0) + amount
        return cls(total)

    def shortfall(self, free: Mapping[str, int]) -> dict[str, int]:
        """Return, per class in which this asks for more than *free* has, how much is missing."""
        return {name: amount - free.get(name, 0) for name, amount in self.items() if amount > free.get(name, 0)}

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: object, handler: pydantic.GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        amounts = handler.generate_schema(dict[str, Amount])

        def build(value: dict[str, int]) -> "ResourceVector":
            return cls(value)

        def keep(value: Any, check: core_schema.ValidatorFunctionWrapHandler) -> "ResourceVector":
            return value if isinstance(value, cls) else check(value)

        def opened(value: "ResourceVector") -> dict[str, int]:
            return value._amounts  # noqa: SLF001 - our own

        checked = core_schema.no_info_after_validator_function(build, amounts)
        return core_schema.json_or_python_schema(
            json_schema=checked,
            python_schema=core_schema.no_info_wrap_validator_function(keep, checked),
            serialization=core_schema.plain_serializer_function_ser_schema(opened, return_schema=amounts),
        )
