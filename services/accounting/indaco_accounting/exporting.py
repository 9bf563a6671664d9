"""From records to files for APEL: select, render, write, remember."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import datetime

import structlog

from indaco_common.clock import Clock
from indaco_common.envelope import Context
from indaco_common.errors import Conflict, Unavailable
from indaco_common.store import Query, Repository

from .exporters.apel import TARGET, ApelOptions, NotExportable, Row, messages, pending
from .exporters.spool import Spool
from .metrics import UsageMetrics
from .model import Status, UsageRecord

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

PAGE = 200
TRIES = 4
AT_ONCE = 32  # saves, which the store then commits together


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one export did: records with something new, rows written, records held back, and the files."""

    at: datetime
    records: int
    rows: int
    held: int
    files: tuple[str, ...]


async def all_records(records: Repository[UsageRecord], **equal: str | bool) -> AsyncIterator[UsageRecord]:
    """Yield the records in the order of their ids; one that appears meanwhile may be left to the next time."""
    seen: set[str] = set()
    offset = 0
    while True:
        page, _ = await records.find(Query(equal=equal, descending=False, offset=offset, limit=PAGE))
        for record in page:
            if record.id not in seen:
                seen.add(record.id)
                yield record
        if len(page) < PAGE:
            return
        offset += PAGE
        await asyncio.sleep(0)  # others have their turn between pages


class ApelExporter:
    """Files are written before the records remember it: a crash between writes the same rows again, which changes nothing there."""

    def __init__(
        self,
        records: Repository[UsageRecord],
        spool: Spool,
        options: ApelOptions,
        metrics: UsageMetrics,
        clock: Clock,
        *,
        export_simulated: bool = False,
    ) -> None:
        self.options, self.spool = options, spool
        self._records, self._metrics, self._clock = records, metrics, clock
        self._is_rehearsal = export_simulated
        self._one_at_a_time = asyncio.Lock()

    async def export(self) -> Outcome:
        """Write what the repository does not know yet. Raises: Unavailable, if the folder cannot be written."""
        async with self._one_at_a_time:
            now = self._clock.now()
            selected, held = await self._select(now)
            rows = [row for _, told in selected for row in told]
            files = await self._write(rows, now)
            for first in range(0, len(selected), AT_ONCE):
                await asyncio.gather(*(self._remember(*each) for each in selected[first : first + AT_ONCE]))
        self._metrics.held(held)
        outcome = Outcome(now, sum(1 for _, told in selected if told), len(rows), held, tuple(files))
        log.info("usage.exported", target=TARGET, records=outcome.records, rows=len(rows), held=held, files=len(files))
        return outcome

    async def _select(self, now: datetime) -> tuple[list[tuple[UsageRecord, list[Row]]], int]:
        """Return records with what is to be written of each (nothing, of what is only to be marked), and how many are held."""
        selected: list[tuple[UsageRecord, list[Row]]] = []
        held = 0
        async for record in all_records(self._records, is_pending=True):
            if record.facts is not None and record.facts.place.simulated and not self._is_rehearsal:
                selected.append((record, []))
                continue
            try:
                selected.append((record, pending(record, now, self.options)))
            except NotExportable as error:
                held += 1
                log.warning("record.held", target=TARGET, reason=error.detail)
        return selected, held

    async def _write(self, rows: list[Row], now: datetime) -> list[str]:
        stamp = f"{now:%Y%m%dT%H%M%S}{now.microsecond // 1000:03d}Z"
        try:
            return [
                (await self.spool.write(f"{stamp}-{n:04d}", text)).name
                for n, text in enumerate(messages(rows), start=1)
            ]
        except OSError as error:
            raise Unavailable(f"usage cannot be written to {self.spool.folder}: {error.strerror}") from error

    async def _remember(self, record: UsageRecord, told: Iterable[Row]) -> None:
        versions = {row.period: row.version for row in told}
        known = record.exported.get(TARGET, {})
        if all(known.get(period) == version for period, version in versions.items()) and record.status is Status.OPEN:
            return
        for _ in range(TRIES):
            try:
                async with self._records.edit(record.id, Context()) as current:
                    current.mark(TARGET, versions, seen_version=record.version)
            except Conflict:
                continue
            return
        log.warning("record.mark_failed", record_id=record.id)  # it is written again next time
