"""The answer to an inquiry: where machines would go, and what would be left there."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import ClassVar

from indaco_common.contracts import gateway, sla
from indaco_common.contracts.values import PlacedNode, Proposed, Reason
from indaco_common.ids import DeploymentId, reservation_id
from indaco_common.store import Aggregate
from indaco_common.units import ResourceVector

from .ledger import Ledger
from .placement import Match, Offer

KEEP = timedelta(
    minutes=10
)  # after the inquiry's own end, from which on repeats of it are not answered: for clocks that differ
MAX_RANKED, MAX_REFUSED = 50, 100
MAX_NODES = 1000  # of all places that are told of: with names of 100 characters, half of what a message may hold


class Proposal(Aggregate):
    """One inquiry that was answered; a repeat gets no second answer. It is dropped when it is due."""

    KIND: ClassVar[str] = "proposal"

    is_answered: bool = False

    def answer(
        self, inquiry: gateway.PlanRequested, match: Match, ledgers: Mapping[str, Ledger], now: datetime
    ) -> None:
        """Say what *match* found, as the *ledgers* of its offers stand: they have the last word, here as in earnest."""
        if self.is_answered:
            return
        self.is_answered, self.due_at = True, inquiry.expires_at + KEEP
        ranked: list[Proposed] = []
        refused: list[Reason] = list(match.refused)
        for offer in match.ranked:
            ledger = ledgers.get(offer.ledger)
            reasons = ledger.shortfall(_ask(inquiry, offer)) if ledger else ()
            if reasons:
                refused += reasons
            else:
                ranked.append(_proposed(offer, ledger))
        most = max(1, min(MAX_RANKED, MAX_NODES // max(1, len(inquiry.nodes))))
        self.emit(
            sla.PlacementProposed(
                inquiry_id=self.id, ranked=tuple(ranked[:most]), refused=tuple(refused[:MAX_REFUSED]),
                ranked_total=len(ranked), refused_total=len(refused), at=now,
            )
        )  # fmt: skip


def _ask(inquiry: gateway.PlanRequested, offer: Offer) -> sla.QuotaReserve:
    """Return what a deployment would ask of the offer's ledger; it is never sent."""
    id = DeploymentId(inquiry.inquiry_id)
    return sla.QuotaReserve(
        ledger_id=offer.ledger, reservation_id=reservation_id(id, 1, "main"), deployment_id=id, attempt=1, slot="main",
        owner=inquiry.owner, nodes=offer.needs(),
    )  # fmt: skip


def _proposed(offer: Offer, ledger: Ledger | None) -> Proposed:
    place = offer.place
    return Proposed(
        provider=place.provider, region=place.region, score=offer.score, terms=offer.terms, agreement=place.agreement,
        kind=place.kind, simulated=place.simulated, nodes=_kinds(offer.nodes), left=_left(offer, ledger),
    )  # fmt: skip


def _kinds(nodes: Mapping[str, PlacedNode]) -> dict[str, PlacedNode]:
    """Return TOSCA node → what each of its instances would be: they are all alike."""
    return {name.rpartition("-")[0]: node for name, node in nodes.items()}


def _left(offer: Offer, ledger: Ledger | None) -> ResourceVector:
    """Return what would be left of the group's quota, of each resource that is granted."""
    if ledger is None:
        return ResourceVector()
    taken = ledger.used() + ResourceVector.sum(offer.needs().values())
    return ResourceVector({name: max(0, limit - taken[name]) for name, limit in ledger.limits.items()})
