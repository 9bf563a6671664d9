"""Collects problems and gives each its place in the text, so that all of them are told at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from itertools import islice
from typing import Final

from indaco_tosca.errors import Problem, TemplateError, pointer
from indaco_tosca.load import Document
from indaco_tosca.positions import Path, nowhere
from indaco_tosca.tree import as_map

MAX_PROBLEMS: Final = 100  # a broken template of the largest size could otherwise answer with megabytes


def known(names: Iterable[str]) -> str:
    """Return a hint that names what could have been written."""
    shown = list(islice(names, 21))
    more = ", ..." if len(shown) > 20 else ""  # noqa: PLR2004
    return f"known are: {', '.join(name[:60] for name in shown[:20])}{more}" if shown else "there are none"


def kind_of(value: object) -> str:
    """Return what was written, in the words of a message."""
    if isinstance(value, dict):
        return "a map"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, bool):
        return "a truth value"
    if isinstance(value, int | float):
        return "a number"
    return "a text" if value else "nothing"


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

    def expect_map(self, value: object, path: Path) -> Mapping[str, object]:
        """Return a map, an empty one where nothing is written; anything else is an error, and as if nothing were."""
        if value is not None and not isinstance(value, dict):
            self._misshapen(value, path, "a map", "write `name: value` lines under it, without dashes")
        return as_map(value)

    def expect_entries(self, value: object, path: Path) -> Iterator[tuple[str, object, Path]]:
        """Yield name, content and path of each entry of a list of one-key maps, or of a map; anything else is an error."""
        if isinstance(value, dict):
            for name, content in value.items():
                yield name, content, (*path, name)
        elif isinstance(value, list):
            for index, item in enumerate(value):
                if not isinstance(item, dict):
                    self._misshapen(item, (*path, index), "a map", "write `- name: ...`")
                for name, content in as_map(item).items():
                    yield name, content, (*path, index, name)
        elif value is not None:
            self._misshapen(value, path, "a list", "write `- name: ...` lines under it")

    def _misshapen(self, value: object, path: Path, wanted: str, hint: str) -> None:
        name = path[-1]
        what = str(name)[:80] if isinstance(name, str) else f"entry {name + 1} of {str(path[-2])[:80]}"
        self.error("bad-structure", path, f"{what} must be {wanted}, not {kind_of(value)}", hint)

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
