"""From a shape and a duration to usage, exactly: integers of milliseconds and of resource units, divided only where they leave."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from indaco_common.units import ResourceVector

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MS = timedelta(milliseconds=1)


def epoch_ms(moment: datetime) -> int:
    """Return whole milliseconds since 1970; cuts add up: (b - a) + (c - b) = c - a."""
    return (moment - EPOCH) // MS


def of_epoch_ms(value: int) -> datetime:
    return EPOCH + value * MS


@dataclass(frozen=True, slots=True)
class Usage:
    """What one node of a fixed shape used in *wall_ms*; milli-vCPU, MiB and GiB are those of the shape."""

    wall_ms: int = 0
    cpu_milli: int = 0
    memory_mib: int = 0
    disk_gib: int = 0

    @property
    def wall_s(self) -> Decimal:
        return Decimal(self.wall_ms) / 1000

    @property
    def cpu_s(self) -> Decimal:
        """vCPU-seconds: allocated, not busy."""
        return Decimal(self.wall_ms * self.cpu_milli) / 1_000_000

    @property
    def memory_gib_s(self) -> Decimal:
        return Decimal(self.wall_ms * self.memory_mib) / 1_024_000

    @property
    def disk_gib_s(self) -> Decimal:
        return Decimal(self.wall_ms * self.disk_gib) / 1000


def rate(needs: ResourceVector, wall_ms: int) -> Usage:
    """Return the usage of a node that takes *needs*, for *wall_ms* (less than nothing is nothing)."""
    return Usage(max(0, wall_ms), needs["cpu_milli"], needs["memory_mib"], needs["disk_gib"])


def month_of(moment: datetime) -> str:
    """Return the UTC month that *moment* lies in, as "2026-11"."""
    return moment.astimezone(UTC).strftime("%Y-%m")


def next_month(moment: datetime) -> datetime:
    """Return the first instant of the UTC month after that of *moment*."""
    utc = moment.astimezone(UTC)
    return datetime(utc.year + utc.month // 12, utc.month % 12 + 1, 1, tzinfo=UTC)


def month_ends(start: datetime, end: datetime) -> Iterator[datetime]:
    """Yield the instants at which UTC months end, later than *start* and not later than *end*."""
    boundary = next_month(start)
    while boundary <= end:
        yield boundary
        boundary = next_month(boundary)
