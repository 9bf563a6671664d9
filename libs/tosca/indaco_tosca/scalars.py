"""Plain values: YAML 1.1 scalars with their source text kept, and the units of TOSCA.

TOSCA 1.x is YAML 1.1: ``yes`` is a boolean. Three of its habits are left out on purpose, because templates mean text by
them: dates (2024-01-01), base-60 numbers (22:22) and infinities. Numbers keep their source text where it differs, so that the
version 20.10 does not become 20.1.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import Final

BOOLEANS: Final = {
    word: value
    for value, names in ((True, "yes true on"), (False, "no false off"))
    for name in names.split()
    for word in (name, name.title(), name.upper())
}
NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})
NUMBER_START: Final = frozenset("0123456789+-.")
_INTEGER = re.compile(r"[-+]?(?:0b[01_]+|0x[0-9a-fA-F_]+|0[0-7_]*|[1-9][0-9_]*)")
_FLOAT = re.compile(r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?")
_MAX_DIGITS: Final = 64  # no size, port or count is longer; a conversion of a long number takes quadratic time


class SourceInt(int):
    """An integer whose text in the document differs from its canonical form (``007``, ``+1``)."""

    text: str


class SourceFloat(float):
    """A float whose text in the document differs from its canonical form (``20.10``)."""

    text: str


_SourceNumber = (SourceInt, SourceFloat)


def resolve_plain(text: str) -> object:
    """Return the value of an unquoted scalar."""
    if text in NULLS:
        return None
    if text in BOOLEANS:
        return BOOLEANS[text]
    if text[0] not in NUMBER_START or len(text) > _MAX_DIGITS:
        return text
    if _INTEGER.fullmatch(text):
        return _integer(text)
    if _FLOAT.fullmatch(text):
        return _float(text)
    return text


def _integer(text: str) -> object:
    digits = text.replace("_", "").lstrip("+-")
    base = {"0b": 2, "0x": 16}.get(digits[:2].lower(), 8 if digits.startswith("0") and len(digits) > 1 else 10)
    prefix = 2 if base in {2, 16} else 0
    if not digits[prefix:]:
        return text
    value = int(digits[prefix:], base) * (-1 if text[0] == "-" else 1)
    if str(value) == text:
        return value
    kept = SourceInt(value)
    kept.text = text
    return kept


def _float(text: str) -> float:
    value = float(text.replace("_", ""))
    if str(value) == text:
        return value
    kept = SourceFloat(value)
    kept.text = text
    return kept


def source_text(value: object) -> str:
    """Return a scalar as the text that a person would have written: booleans in lower case, null as nothing."""
    if type(value) is str:
        return value
    if isinstance(value, _SourceNumber):
        return value.text
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def plain(value: object) -> object:
    """Return a loaded value as JSON has it: numbers without their source text, what is not finite as text."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else source_text(value)
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else value


_UNIT = re.compile(r"\s*([0-9]{1,18}(?:\.[0-9]{1,9})?|\.[0-9]{1,9})\s*([A-Za-z]{1,3})\s*")
_SIZES: Final = {"b": 1} | {
    letter + infix + "b": base**power
    for power, letter in enumerate("kmgt", start=1)
    for infix, base in (("", 1000), ("i", 1024))
}
_TIMES: Final = {
    "d": Decimal(86400),
    "h": Decimal(3600),
    "m": Decimal(60),
    "s": Decimal(1),
    "ms": Decimal("1e-3"),
    "us": Decimal("1e-6"),
    "ns": Decimal("1e-9"),
}
_FREQUENCIES: Final = {"hz": 1, "khz": 10**3, "mhz": 10**6, "ghz": 10**9}
UNITS: Final = {
    "scalar-unit.size": {unit: Decimal(factor) for unit, factor in _SIZES.items()},
    "scalar-unit.time": _TIMES,
    "scalar-unit.frequency": {unit: Decimal(factor) for unit, factor in _FREQUENCIES.items()},
}


def scalar_unit(text: str, kind: str) -> Decimal:
    """Return a scalar-unit as bytes, seconds or hertz.

    kB, MB, GB are powers of 1000 and KiB, MiB, GiB powers of 1024; units are compared without case.
    Raises: ValueError, if the text is not a number followed by a unit of that kind.
    """
    match = _UNIT.fullmatch(text)
    factor = UNITS[kind].get(match[2].lower()) if match else None
    if match is None or factor is None:
        raise ValueError(f"{text[:40]!r} is not a number with a unit ({', '.join(UNITS[kind])})")
    return Decimal(match[1]) * factor
