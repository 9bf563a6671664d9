"""What a measurement is: its goal, its method, its figures; and the list of all of them."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from indaco_common.testing.backing import NEEDED

BROKER = ("INDACO_TEST_AMQP", "INDACO_TEST_AMQP_MANAGEMENT")
SERVERS = NEEDED


@dataclass(frozen=True, slots=True)
class Goal:
    """What a row should reach: of *ours*, or of *ratio* = ours / baseline."""

    on: Literal["ratio", "ours"]
    op: Literal[">=", "<="]
    value: float

    def is_met(self, figures: "Figures") -> bool:
        value = figures.ours if self.on == "ours" else figures.ratio
        return value is not None and (value >= self.value if self.op == ">=" else value <= self.value)

    def __str__(self) -> str:
        return f"{self.on} {self.op} {self.value:g}"


@dataclass(frozen=True, slots=True)
class Figures:
    """What was found. *ratio* is the median over rounds where a row has several; *details* are all the single figures."""

    ours: float
    baseline: float | None = None
    ratio: float | None = None
    details: dict[str, Any] = field(default_factory=dict)
    note: str = ""


Measure = Callable[[], Figures]


@dataclass(frozen=True, slots=True)
class Row:
    name: str
    unit: str
    method: str
    goal: Goal | None
    needs: tuple[str, ...]
    measure: Measure

    @property
    def missing(self) -> list[str]:
        """The variables of the environment that name its servers and are not set."""
        return [name for name in self.needs if not os.environ.get(name)]


ROWS: dict[str, Row] = {}


def row(
    unit: str, *, goal: Goal | None = None, needs: tuple[str, ...] = (), conditions: str = ""
) -> Callable[[Measure], Measure]:
    """Add a function to the list, under its name; its docstring, and the *conditions* it shares with others, are the method."""

    def add(measure: Measure) -> Measure:
        name, method = measure.__name__, " ".join(f"{measure.__doc__ or ''} {conditions}".split())
        ROWS[name] = Row(name, unit, method, goal, needs, measure)
        return measure

    return add


def at_least(value: float, on: Literal["ratio", "ours"] = "ours") -> Goal:
    return Goal(on, ">=", value)


def at_most(value: float) -> Goal:
    return Goal("ours", "<=", value)
