"""How the ledgers stand, told to whoever shows it: every few seconds, of those alone that have changed.

Level-triggered: a pass compares what there is with what was told, so that whatever was missed is made up for by the next one, of
whichever replica. Replicas that tell of one ledger at once meet at the report's version.
"""

import asyncio
from contextlib import suppress
from datetime import timedelta

import structlog

from indaco_common.clock import Clock
from indaco_common.envelope import Context
from indaco_common.errors import AlreadyHandled, Conflict, NotFound, Unavailable
from indaco_common.store import Query, Repository

from .model.ledger import Ledger
from .model.quota_report import QuotaReport, Standing

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

RELIST_PASSES = 12  # passes between looks for ledgers that another replica has opened
PAGE = 200  # ledgers read at once while looking for all


class Reporting:
    """Tells of ledgers; ``run`` is a task of the service."""

    def __init__(
        self, ledgers: Repository[Ledger], reports: Repository[QuotaReport], clock: Clock, every: timedelta
    ) -> None:
        self._ledgers, self._reports, self._clock, self._every = ledgers, reports, clock, every
        self._seen: dict[str, int] = {}  # ledger → its version that a pass of this process has seen to
        self._passes = 0

    async def run(self) -> None:
        while True:
            try:
                await self.look()
            except Unavailable as error:
                log.warning("quota.report_postponed", error=error.detail)
            await asyncio.sleep(self._every.total_seconds())

    async def look(self) -> None:
        """Tell of every ledger that has changed since it was told of. Raises: Unavailable."""
        if self._passes % RELIST_PASSES == 0:
            await self._list()
        self._passes += 1
        for id, version in (await self._ledgers.versions([*self._seen])).items():
            if version != self._seen[id]:
                await self._tell(id)

    async def _list(self) -> None:
        """Find all ledgers, a page at a time: those that are new are told of by the same pass."""
        after = ""
        while True:
            begin = (after, after) if after else None
            page, _ = await self._ledgers.find(Query(descending=False, after=begin, limit=PAGE, is_counted=False))
            for ledger in page:
                self._seen.setdefault(ledger.id, 0)
            if len(page) < PAGE:
                return
            after = page[-1].id

    async def _tell(self, id: str) -> None:
        try:
            ledger = await self._ledgers.get(id)
            with suppress(AlreadyHandled):
                await self._report(ledger)
        except (Conflict, NotFound):  # another replica is telling of it: the next pass sees
            return
        self._seen[id] = ledger.version

    async def _report(self, ledger: Ledger) -> None:
        """Raises: AlreadyHandled, if there is nothing to tell; Conflict."""
        async with self._reports.upsert(ledger.id, Context()) as report:
            report.tell(Standing.of(ledger), ledger.version, self._clock.now())
            if not report.emitted:
                raise AlreadyHandled
