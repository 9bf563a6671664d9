"""Inquiries in, proposals out: the matching of a deployment, with nothing held."""

import structlog

from indaco_common.clock import Clock
from indaco_common.contracts import gateway
from indaco_common.envelope import Context
from indaco_common.errors import NotFound
from indaco_common.handling import handles, on_due
from indaco_common.store import Repository

from .matching import match
from .model.ledger import Ledger
from .model.placement import Match
from .model.proposal import Proposal
from .offers import Offers

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)
MAX_LEDGERS = 20  # read for one inquiry, those of the best offers: the others as the offers know them, seconds old


class Proposing:
    """One Proposal per inquiry, dropped some time after nobody waits for it."""

    def __init__(
        self, proposals: Repository[Proposal], offers: Offers, ledgers: Repository[Ledger], clock: Clock
    ) -> None:
        self._proposals, self._offers, self._ledgers, self._clock = proposals, offers, ledgers, clock

    @handles(gateway.PlanRequested)
    async def propose(self, event: gateway.PlanRequested, ctx: Context) -> None:
        """Answer with the ledgers as they are now. What comes too late is not answered: its Proposal may be gone already."""
        now = self._clock.now()
        if now >= event.expires_at:
            log.info("inquiry.expired", inquiry=event.inquiry_id)
            return
        found = match(event, await self._offers.of(event.group), now)
        ledgers = await self._stand(found)
        async with self._proposals.upsert(event.inquiry_id, ctx) as proposal:
            proposal.answer(event, found, ledgers, now)

    @on_due(Proposal)
    async def drop(self, id: str, ctx: Context) -> None:
        await self._proposals.remove(id, ctx)

    async def _stand(self, found: Match) -> dict[str, Ledger]:
        ledgers: dict[str, Ledger] = {}
        for offer in found.ranked[:MAX_LEDGERS]:
            try:
                ledgers[offer.ledger] = await self._ledgers.get(offer.ledger)
            except NotFound:  # an agreement whose ledger is not opened yet: it would be refused, and tried later
                log.warning("ledger.absent", ledger=offer.ledger)
        return ledgers
