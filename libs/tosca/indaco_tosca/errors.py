"""What can be wrong with a template or with its inputs: problems with a code, a place and advice."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from indaco_tosca.positions import Place, nowhere
from indaco_tosca.shapes import shown


class Problem(NamedTuple):
    """One defect of a template, of an input or of an import.

    ``path`` is a JSON pointer into the template ("/topology_template/inputs/x"), or "/inputs/<name>" for a value that
    the caller gave. ``place`` is asked for line and column only when somebody wants them.
    """

    code: str
    path: str
    message: str
    hint: str = ""
    place: Place = nowhere

    def __repr__(self) -> str:
        return shown(self, "place")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Problem) and self[:4] == other[:4]

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self[:4])

    @property
    def line(self) -> int:
        """From 1; 0 where the problem has no place in the text."""
        return self.place()[0]

    @property
    def column(self) -> int:
        """From 1; 0 where the problem has no place in the text."""
        return self.place()[1]


class TemplateError(Exception):
    """A template that cannot be accepted, or inputs that do not fit it; carries every problem found, not the first."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        first = self.problems[0] if self.problems else None
        summary = f"{first.path or '/'}: {first.message}" if first else "the template is not valid"
        more = len(self.problems) - 1
        super().__init__(f"{summary} (and {more} more)" if more > 0 else summary)


def pointer(path: Iterable[str | int]) -> str:
    """Return a JSON pointer (RFC 6901) for a path of keys and indices."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)
