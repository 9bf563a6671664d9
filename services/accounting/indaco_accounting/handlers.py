"""Messages and deadlines in; one usage record changed each."""

from dataclasses import replace
from datetime import timedelta

import structlog

from indaco_common.clock import Clock
from indaco_common.contracts import orchestrator
from indaco_common.envelope import Context
from indaco_common.errors import Conflict
from indaco_common.handling import handles, on_due
from indaco_common.store import Repository

from .exporters.apel import TARGET
from .exporting import ApelExporter
from .metrics import UsageMetrics
from .model import NodeEvent, UsageRecord, record_id
from .schedule import Schedule

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class Recording:
    """Each event tells all about its node, so any of them may come first."""

    def __init__(self, records: Repository[UsageRecord], metrics: UsageMetrics) -> None:
        self._records, self._metrics = records, metrics

    @handles(orchestrator.NodeStarted, orchestrator.UsageSampled, orchestrator.NodeRemoved)
    async def record(self, event: NodeEvent, ctx: Context) -> None:
        if event.needs["buckets"]:
            return  # these records are of computing; storage has a kind of its own, which is not kept yet
        id = record_id(event.deployment_id, event.attempt, event.node)
        async with self._records.upsert(id, ctx) as record:
            before = record.usage()
            match event:
                case orchestrator.NodeStarted():
                    record.started(event)
                case orchestrator.UsageSampled():
                    record.sampled(event)
                case orchestrator.NodeRemoved():
                    record.removed(event)
        self._metrics.add(record.facts, before=before, after=record.usage())
        log.info("record.updated", record_id=id, status=record.status.value)


class Exporting:
    """The regular export; one replica claims it."""

    def __init__(
        self, schedules: Repository[Schedule], exporter: ApelExporter, clock: Clock, *, every: timedelta
    ) -> None:
        self._schedules, self._exporter, self._clock, self._every = schedules, exporter, clock, every

    async def plan(self) -> None:
        """Set the timer, at the start."""
        try:
            async with self._schedules.upsert(TARGET, Context()) as schedule:
                schedule.plan(self._clock.now(), self._every)
        except Conflict:
            log.info("export.planned_elsewhere", target=TARGET)

    @on_due(Schedule)
    async def export(self, id: str, ctx: Context) -> None:
        async with self._schedules.edit(id, ctx) as schedule:
            schedule.claim(self._clock.now())
        outcome = await self._exporter.export()
        async with self._schedules.edit(id, replace(ctx, at_version=schedule.version)) as schedule:
            schedule.done(outcome.at, every=self._every, records=outcome.records, held=outcome.held)
