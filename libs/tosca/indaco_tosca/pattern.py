r"""Match the ``pattern`` constraint in time that is linear in the text.

A pattern comes from whoever wrote the template, and a backtracking engine can be kept busy for ever by a short one such
as ``(a+)+$``. RE2 cannot: look-around and back references, which only such an engine has, are refused. Its classes
(``\d``, ``\w``, ``\s``) are those of ASCII.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

MAX_PATTERN: Final = 500
MAX_SUBJECT: Final = 1024
MAX_PROGRAM: Final = 500  # instructions of a compiled pattern

_MAX_MEMORY: Final = 1 << 20  # bytes: what is far too large is not even compiled


class PatternError(ValueError):
    """A pattern that is malformed, too large or not regular."""


def cost(pattern: str, subject: str) -> int:
    """Return an upper bound of the steps that a match takes: instructions by characters. Raises: PatternError."""
    return int(_compiled(pattern).programsize) * min(len(subject) + 1, MAX_SUBJECT)


def matches(pattern: str, subject: str) -> bool:
    """Return whether the whole of *subject* matches; one over 1024 characters never does. Raises: PatternError."""
    return len(subject) <= MAX_SUBJECT and _compiled(pattern).fullmatch(subject) is not None


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> Any:
    if len(pattern) > MAX_PATTERN:
        raise PatternError(f"a pattern may have {MAX_PATTERN} characters")
    import re2  # noqa: PLC0415 - a cold start need not wait for what most templates have no use for

    options = re2.Options()
    options.log_errors, options.max_mem = False, _MAX_MEMORY
    try:
        made = re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0] if error.args else "malformed"
        raise PatternError(reason.decode() if isinstance(reason, bytes) else str(reason)) from None
    if made.programsize > MAX_PROGRAM:
        raise PatternError("it is too large")
    return made
