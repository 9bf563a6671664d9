"""What one node used, from its start to its end; the figures do not depend on the order in which they were told."""

from datetime import datetime
from enum import StrEnum
from typing import ClassVar, Self

import pydantic
from pydantic import AwareDatetime

from indaco_common.contracts import accounting, orchestrator
from indaco_common.contracts.values import Group, Owner, Place
from indaco_common.ids import DeploymentId
from indaco_common.messages import Value
from indaco_common.store import Aggregate
from indaco_common.units import ResourceVector

from .rating import Usage, epoch_ms, month_of, rate

NodeEvent = orchestrator.NodeStarted | orchestrator.UsageSampled | orchestrator.NodeRemoved


class Status(StrEnum):
    NEW = "new"
    OPEN = "open"
    CLOSED = "closed"


class Facts(Value):
    """What a node is, and whose: every message about it tells all of this."""

    owner: Owner
    group: Group
    place: Place
    needs: ResourceVector
    resource_id: str
    image: str
    started_at: AwareDatetime

    @classmethod
    def of(cls, event: NodeEvent) -> Self:
        return cls(**{name: getattr(event, name) for name in cls.model_fields})


class Sample(Value):
    """Cumulative figures of the node at an instant."""

    sampled_at: AwareDatetime
    cpu_s: float = 0.0
    network_in_bytes: int = 0
    network_out_bytes: int = 0

    def rank(self) -> tuple[datetime, float, int, int]:
        """Order samples: the newest counts; of two at one instant the greater, so that the order of arrival does not matter."""
        return self.sampled_at, self.cpu_s, self.network_in_bytes, self.network_out_bytes


def record_id(deployment: str, attempt: int, node: str) -> str:
    return f"{deployment}/{attempt}/{node}"


class UsageRecord(Aggregate):
    """Stop is never before start; closed is final. Of samples the newest of each month is kept: what a month's end needs."""

    KIND: ClassVar[str] = "usage-record"
    INDEX: ClassVar[tuple[str, ...]] = (
        "status", "deployment_id", "facts.group.path", "facts.place.provider", "facts.started_at", "is_pending",
    )  # fmt: skip

    deployment_id: DeploymentId
    attempt: int
    node: str
    status: Status = Status.NEW
    facts: Facts | None = None
    told_at: AwareDatetime | None = None  # the instant that the facts are of
    stopped_at: AwareDatetime | None = None
    samples: dict[str, Sample] = pydantic.Field(default_factory=dict)  # by month, "2026-11"
    exported: dict[str, dict[str, str]] = pydantic.Field(default_factory=dict)  # target → period → version written
    is_pending: bool = True  # an export may have something to write

    @classmethod
    def new(cls, id: str) -> Self:
        deployment, attempt, node = id.rsplit("/", 2)
        return cls(id=id, deployment_id=DeploymentId(deployment), attempt=int(attempt), node=node)

    # ── messages

    def started(self, event: orchestrator.NodeStarted) -> None:
        self._open(event)
        self._learn(event, event.started_at)

    def sampled(self, event: orchestrator.UsageSampled) -> None:
        """Keep the newest figures of the month; a late sample of a closed record still counts for its month."""
        self._open(event)
        self._learn(event, event.sampled_at)
        sample = Sample(**{name: getattr(event, name) for name in Sample.model_fields})
        month = month_of(event.sampled_at)
        kept = self.samples.get(month)
        if kept is None or sample.rank() > kept.rank():
            self.samples[month] = sample
            self.is_pending = True

    def removed(self, event: orchestrator.NodeRemoved) -> None:
        """Close the record with the facts that the removal tells; a second removal changes nothing."""
        if self.status is Status.CLOSED:
            return
        self._open(event)
        self.facts, self.told_at = Facts.of(event), event.stopped_at
        self.stopped_at = max(event.started_at, event.stopped_at)
        self.status, self.is_pending = Status.CLOSED, True
        usage = self.usage()
        self.emit(
            accounting.RecordClosed(
                **self._about(), started_at=event.started_at, stopped_at=self.stopped_at, wall_s=float(usage.wall_s),
                cpu_s=float(usage.cpu_s),
            )
        )  # fmt: skip

    # ── figures

    @property
    def seen_until(self) -> datetime | None:
        """The latest instant at which the node is known to have existed."""
        if self.stopped_at is not None or self.facts is None:
            return self.stopped_at
        return max([self.facts.started_at, *(sample.sampled_at for sample in self.samples.values())])

    def usage(self, until: datetime | None = None) -> Usage:
        """Return what was used up to *until*, or as far as is known; nothing before the start or after the stop."""
        end = self.seen_until
        if self.facts is None or end is None:
            return Usage()
        if until is not None:
            end = until if self.stopped_at is None else min(until, self.stopped_at)
        return rate(self.facts.needs, epoch_ms(end) - epoch_ms(self.facts.started_at))

    def figures(self, before: datetime | None = None) -> Sample | None:
        """Return the newest figures, or the newest of before an instant; none is less than an earlier one (counters restart)."""
        known = [s for s in self.samples.values() if before is None or s.sampled_at < before]
        if not known:
            return None
        return Sample(
            sampled_at=max(s.sampled_at for s in known),
            cpu_s=max(s.cpu_s for s in known),
            network_in_bytes=max(s.network_in_bytes for s in known),
            network_out_bytes=max(s.network_out_bytes for s in known),
        )

    # ── export

    def mark(self, target: str, versions: dict[str, str], *, seen_version: int) -> None:
        """Remember what was written to *target*, per period; unless it has changed since, a closed record is done with."""
        self.exported[target] = {**self.exported.get(target, {}), **versions}
        if self.status is Status.CLOSED and self.version == seen_version:
            self.is_pending = False

    def _open(self, event: NodeEvent) -> None:
        if self.status is Status.NEW:
            self.status = Status.OPEN
            self.emit(accounting.RecordOpened(**self._about(), started_at=event.started_at))

    def _learn(self, event: NodeEvent, moment: datetime) -> None:
        """Take the facts of the newest message; those of the removal are the last word."""
        if self.status is Status.CLOSED:
            return
        if self.told_at is None or moment >= self.told_at:
            self.facts, self.told_at = Facts.of(event), moment

    def _about(self) -> dict[str, DeploymentId | int | str]:
        return {
            "deployment_id": self.deployment_id, "attempt": self.attempt, "node": self.node, "record_id": self.id,
        }  # fmt: skip
