"""What machines and containers used: a record for each, from its start to its end, and sums of them. Without effects.

The figures are those of accounting: allocated, not busy; whole milliseconds times milli-vCPUs and MiB, divided only where they leave.
"""

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import ClassVar, Generic, TypeVar

from pydantic import AwareDatetime

from indaco_common.contracts import orchestrator
from indaco_common.contracts.values import Group, Owner
from indaco_common.messages import Value
from indaco_common.store import Aggregate

NEVER = datetime(9999, 12, 31, tzinfo=UTC)  # when what still runs ends, for lists: it comes before all that has ended
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MS = timedelta(milliseconds=1)
HOUR_MS = 3_600_000
Key = TypeVar("Key", bound=Hashable)


class Used(Value):
    """What a machine is, whose, and where."""

    deployment: str
    owner: Owner
    group: Group
    provider: str
    region: str
    simulated: bool
    cpu_milli: int
    memory_mib: int
    started_at: AwareDatetime


class UsageView(Aggregate):
    """One per machine: ``<deployment>/<attempt>/<node>``. Its removal is the last word, whenever it comes; it never ends before it starts."""

    KIND: ClassVar[str] = "usage-view"
    INDEX: ClassVar[tuple[str, ...]] = (
        "used.owner.issuer", "used.owner.subject", "used.group.issuer", "used.group.path", "ended_at",
    )  # fmt: skip

    used: Used | None = None
    ended_at: AwareDatetime = NEVER

    @property
    def is_open(self) -> bool:
        return self.ended_at == NEVER

    def started(self, event: orchestrator.NodeStarted) -> None:
        if self.is_open:
            self.used = _used(event)

    def removed(self, event: orchestrator.NodeRemoved) -> None:
        if self.is_open:
            self.used = _used(event)
            self.ended_at = max(event.started_at, event.stopped_at).astimezone(UTC)


def usage_id(event: orchestrator.NodeStarted | orchestrator.NodeRemoved) -> str:
    return f"{event.deployment_id}/{event.attempt}/{event.node}"


def is_computing(event: orchestrator.NodeStarted | orchestrator.NodeRemoved) -> bool:
    """Say whether accounting keeps a record of it: of machines and containers, not of storage."""
    return not event.needs["buckets"]


def _used(event: orchestrator.NodeStarted | orchestrator.NodeRemoved) -> Used:
    return Used(
        deployment=event.deployment_id, owner=event.owner, group=event.group, provider=event.place.provider,
        region=event.place.region, simulated=event.place.simulated, cpu_milli=event.needs["cpu_milli"],
        memory_mib=event.needs["memory_mib"], started_at=event.started_at,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Window:
    """From *begin*, until *end*, which it does not hold; what still runs counts until *now*."""

    begin: datetime
    end: datetime
    now: datetime

    def holds(self, started: datetime, ended: datetime) -> bool:
        return started < self.end and (ended > self.begin or started >= self.begin)

    def wall_ms(self, started: datetime, ended: datetime) -> int:
        """Return how much of a life lies in it, in whole milliseconds of the clock: windows side by side add up."""
        until = min(ended, self.now, self.end)
        return max(0, _epoch_ms(until) - _epoch_ms(max(started, self.begin)))


def _epoch_ms(moment: datetime) -> int:
    return (moment - EPOCH) // MS


@dataclass(slots=True)
class Sum:
    """What several machines used; *running* of them have not ended."""

    wall_ms: int = 0
    cpu_milli_ms: int = 0
    memory_mib_ms: int = 0
    machines: int = 0
    running: int = 0
    real: int = 0  # at sites that are not simulated

    def add(self, used: Used, wall_ms: int, *, is_open: bool) -> None:
        self.wall_ms += wall_ms
        self.cpu_milli_ms += wall_ms * used.cpu_milli
        self.memory_mib_ms += wall_ms * used.memory_mib
        self.machines += 1
        self.running += is_open
        self.real += not used.simulated

    @property
    def wall_hours(self) -> float:
        return round(self.wall_ms / HOUR_MS, 6)

    @property
    def core_hours(self) -> float:
        return round(self.cpu_milli_ms / (HOUR_MS * 1000), 6)

    @property
    def memory_gib_hours(self) -> float:
        return round(self.memory_mib_ms / (HOUR_MS * 1024), 6)

    @property
    def simulated(self) -> bool:
        return self.machines > 0 and not self.real


@dataclass(slots=True)
class Sums(Generic[Key]):
    """Sums by what *key* makes of each record, and of all; a record that comes again is counted once."""

    window: Window
    key: Callable[[Used], Key]
    total: Sum = field(default_factory=Sum)
    rows: dict[Key, Sum] = field(default_factory=dict)
    _seen: set[str] = field(default_factory=set)

    def add(self, records: Iterable[UsageView]) -> None:
        for record in records:
            used = record.used
            if used is None or record.id in self._seen or not self.window.holds(used.started_at, record.ended_at):
                continue
            self._seen.add(record.id)
            wall_ms = self.window.wall_ms(used.started_at, record.ended_at)
            for each in (self.total, self.rows.setdefault(self.key(used), Sum())):
                each.add(used, wall_ms, is_open=record.is_open)

    def largest(self, limit: int) -> list[tuple[Key, Sum]]:
        """Return the rows with the most core-hours, the largest first."""
        order = sorted(self.rows.items(), key=lambda row: (-row[1].cpu_milli_ms, -row[1].wall_ms, repr(row[0])))
        return order[:limit]
