"""Collects problems and gives each its place in the text, so that all of them are told at once."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from itertools import islice
from typing import Final

from indaco_tosca.errors import Problem, TemplateError, pointer
from indaco_tosca.load import Document
from indaco_tosca.positions import Path, nowhere

MAX_PROBLEMS: Final = 100  # a broken template of the largest size could otherwise answer with megabytes


def known(names: Iterable[str]) -> str:
    """Return a hint that names what could have been written."""
    shown = list(islice(names, 21))
    more = ", ..." if len(shown) > 20 else ""  # noqa: PLR2004
    return f"known are: {', '.join(name[:60] for name in shown[:20])}{more}" if shown else "there are none"


class Report:
    """The errors and warnings of one run over one document."""

    def __init__(self, document: Document | None = None, warnings: Iterable[Problem] = ()) -> None:
        self._document = document
        self._errors: list[Problem] = []
        self._warnings = list(warnings)

    @property
    def warnings(self) -> tuple[Problem, ...]:
        return tuple(self._warnings)

    @property
    def has_errors(self) -> bool:
        return bool(self._errors)

    def error(self, code: str, path: Path, message: str, hint: str = "") -> None:
        self._add(self._errors, code, path, message, hint)

    def warn(self, code: str, path: Path, message: str, hint: str = "") -> None:
        self._add(self._warnings, code, path, message, hint)

    def raise_errors(self) -> None:
        """Raise TemplateError with all errors so far, if there are any."""
        if self._errors:
            raise TemplateError(self._errors)

    def _add(self, problems: list[Problem], code: str, path: Path, message: str, hint: str) -> None:
        if len(problems) >= MAX_PROBLEMS:
            return
        is_given = path[:1] == ("inputs",)  # by the caller: no part of the document
        place = partial(self._document.locate, path) if self._document and not is_given else nowhere
        problem = Problem(code, pointer(path), message, hint, place)
        if problem not in problems:
            problems.append(problem)
