"""The choice of a place for one deployment, remembered, so that a repeated or late message cannot choose twice."""

from enum import StrEnum
from typing import ClassVar

import pydantic

from indaco_common.contracts import gateway, orchestrator, sla
from indaco_common.contracts.values import MAIN, Owner, Place, PlacedNode, Ranked, Reason
from indaco_common.ids import DeploymentId, ReservationId, reservation_id
from indaco_common.messages import Value
from indaco_common.store import Aggregate
from indaco_common.units import ResourceVector


class Status(StrEnum):
    NEW = "new"
    CHOOSING = "choosing"
    RESERVED = "reserved"
    CONFIRMED = "confirmed"
    RELEASED = "released"
    REJECTED = "rejected"


class Offer(Value):
    """A place that fits, what each node would be there, and the ledger that must hold it."""

    place: Place
    nodes: dict[str, PlacedNode]
    score: float = 0.0
    terms: dict[str, float] = pydantic.Field(default_factory=dict)

    @property
    def ledger(self) -> str:
        return self.place.agreement

    def needs(self) -> dict[str, ResourceVector]:
        return {name: node.needs for name, node in self.nodes.items()}

    def like(self, name: str, needs: ResourceVector) -> PlacedNode:
        """Return what one more node is here: as the others of its kind, or just what it needs."""
        kind = name.rpartition("-")[0]
        return next((n for other, n in self.nodes.items() if other.rpartition("-")[0] == kind), PlacedNode(needs=needs))


class Match(Value):
    """Every offer of a group: ranked, best first, or refused with all reasons."""

    ranked: tuple[Offer, ...] = ()
    refused: tuple[Reason, ...] = ()


class Hold(pydantic.BaseModel):
    """A reservation in force: asked of *ledger*, and there unless ``reserved`` is false; not yet freed."""

    ledger: str
    attempt: int
    slot: str
    reserved: bool = False


class Placement(Aggregate):
    """At most one attempt in force, beside those being cleaned; every hold ends by a message of its own."""

    KIND: ClassVar[str] = "placement"
    INDEX: ClassVar[tuple[str, ...]] = ("status",)

    status: Status = Status.NEW
    owner: Owner = Owner(issuer="", subject="")
    attempt: int = 1
    max_attempts: int = 255
    offers: list[Offer] = pydantic.Field(default_factory=list)
    offer: Offer | None = None  # of the attempt that is chosen for
    ranked: tuple[Ranked, ...] = ()
    refused: tuple[Reason, ...] = ()
    closed: bool = False  # the deployment failed or is deleted: choose no more
    force: dict[ReservationId, Hold] = pydantic.Field(default_factory=dict)
    growth: dict[str, dict[str, PlacedNode]] = pydantic.Field(default_factory=dict)  # per slot of the present attempt

    @property
    def deployment_id(self) -> DeploymentId:
        return DeploymentId(self.id)

    # ── small steps

    def ask(self, offer: Offer, slot: str, nodes: dict[str, ResourceVector]) -> None:
        rid = reservation_id(self.id, self.attempt, slot)
        self.force[rid] = Hold(ledger=offer.ledger, attempt=self.attempt, slot=slot)
        self.emit(
            sla.QuotaReserve(
                ledger_id=offer.ledger, reservation_id=rid, deployment_id=self.deployment_id, attempt=self.attempt,
                slot=slot, owner=self.owner, nodes=nodes,
            )
        )  # fmt: skip

    def choose(self) -> None:
        """Ask the ledger of the best offer that is left, or say that there is none."""
        self.status = Status.CHOOSING
        if self.offers and self.attempt <= self.max_attempts:
            self.offer = self.offers.pop(0)
            self.ask(self.offer, MAIN, self.offer.needs())
            return
        self.status = Status.REJECTED
        reasons = self.refused
        if self.offers:
            detail = f"{self.max_attempts} attempts were made, no more are allowed"
            reasons += tuple(
                Reason(provider=o.place.provider, region=o.place.region, code="MAX_ATTEMPTS", detail=detail)
                for o in self.offers
            )
        self.reject(self.attempt, MAIN, reasons)

    def reject(self, attempt: int, slot: str, reasons: tuple[Reason, ...] = ()) -> None:
        self.emit(sla.PlacementRejected(deployment_id=self.deployment_id, attempt=attempt, slot=slot, reasons=reasons))

    def free(self, rid: ReservationId, ledger: str | None = None, nodes: tuple[str, ...] | None = None) -> None:
        """Release a reservation (or *nodes* of it) at its ledger, or at the one that is named."""
        held = self.force.get(rid)
        ledger = ledger or (held.ledger if held else None)
        if nodes is None and held is not None and held.ledger == ledger:
            del self.force[rid]
        self.rest()
        if ledger is not None:
            self.emit(sla.QuotaRelease(ledger_id=ledger, reservation_id=rid, nodes=nodes))

    def rest(self) -> None:
        """A closed placement with nothing in force is over."""
        if self.closed and not self.force and self.status is not Status.REJECTED:
            self.status = Status.RELEASED

    def of_attempt(self, attempt: int, slot: str | None = None) -> list[ReservationId]:
        return [r for r, hold in self.force.items() if hold.attempt == attempt and slot in (None, hold.slot)]

    # ── messages

    def requested(self, event: gateway.DeploymentRequested, match: Match) -> None:
        """Choose among what *match* found; a repeat, or one that was deleted before it was seen, is nothing."""
        if self.status is not Status.NEW or self.closed:
            return
        self.owner, self.max_attempts = event.owner, event.max_attempts
        self.offers, self.refused = list(match.ranked), match.refused
        self.ranked = tuple(
            Ranked(provider=o.place.provider, region=o.place.region, score=o.score, terms=o.terms) for o in match.ranked
        )
        self.choose()

    def growth_requested(self, event: orchestrator.ReservationRequested) -> None:
        """Reserve the growth of an update where the attempt runs."""
        main = self.force.get(reservation_id(self.id, event.attempt, MAIN))
        if self.closed or event.attempt != self.attempt or main is None or self.offer is None:
            self.reject(event.attempt, event.slot)
        elif event.slot not in self.growth:  # asked once: what was freed since is not held again
            nodes = {name: self.offer.like(name, needs) for name, needs in event.nodes.items()}
            self.growth[event.slot] = nodes
            self.ask(self.offer, event.slot, {name: node.needs for name, node in nodes.items()})

    def quota_reserved(self, event: sla.QuotaReserved) -> None:
        """Name the place; what was freed meanwhile, or held by a ledger that is no longer asked, is given back there."""
        rid, hold = event.reservation_id, self.force.get(event.reservation_id)
        if hold is None or hold.ledger != event.ledger_id or self.offer is None:
            self.free(rid, event.ledger_id)
            return
        hold.reserved = True
        if hold.slot == MAIN and hold.attempt == self.attempt and self.status is Status.CHOOSING:
            self.status = Status.RESERVED
        if hold.attempt != self.attempt:
            return  # its attempt has failed: what holds it now is debris, which knows its place
        self.emit(
            sla.PlacementReserved(
                deployment_id=self.deployment_id, attempt=hold.attempt, slot=hold.slot, reservation_id=rid,
                place=self.offer.place, nodes=self.offer.nodes if hold.slot == MAIN else self.growth[hold.slot], expires_at=event.expires_at,
                ranked=self.ranked, refused=self.refused,
            )
        )  # fmt: skip

    def quota_refused(self, event: sla.QuotaRefused) -> None:
        """Try the next offer; only the ledger that is asked now, and has not answered yet, counts."""
        rid, hold = event.reservation_id, self.force.get(event.reservation_id)
        if hold is None or hold.ledger != event.ledger_id or hold.reserved:
            return
        del self.force[rid]
        if hold.slot != MAIN:
            self.reject(hold.attempt, hold.slot, event.reasons)
            return
        self.refused += event.reasons
        self.rest()
        if not self.closed:
            self.choose()

    def quota_expiring(self, event: sla.QuotaExpiring) -> None:
        self.emit(
            sla.PlacementExpiring(
                deployment_id=self.deployment_id, attempt=event.attempt, slot=event.slot,
                reservation_id=event.reservation_id, agreement=event.ledger_id,
            )
        )  # fmt: skip

    def kept(self, event: orchestrator.ReservationKept) -> None:
        self.emit(sla.QuotaRenew(ledger_id=event.agreement, reservation_id=event.reservation_id))

    def returned(self, event: orchestrator.ReservationReturned) -> None:
        self.free(event.reservation_id, event.agreement)

    def alive(self, event: orchestrator.AttemptAlive) -> None:
        for rid in self.of_attempt(event.attempt):
            if (hold := self.force[rid]).reserved:
                self.emit(sla.QuotaRenew(ledger_id=hold.ledger, reservation_id=rid))

    def attempt_failed(self, event: orchestrator.AttemptFailed) -> None:
        """Choose the next place at once; the hold at the failed one stays until it is clean."""
        if event.clean:
            self.free(reservation_id(self.id, event.attempt, MAIN))
        if event.attempt == self.attempt and not self.closed:
            self.refused += (
                Reason(
                    provider=event.place.provider, region=event.place.region, code="FAILED",
                    detail=f"attempt {event.attempt}: {event.reason.detail}",
                ),
            )  # fmt: skip
            self.attempt, self.growth = self.attempt + 1, {}
            self.choose()

    def cleaned(self, event: orchestrator.AttemptCleaned) -> None:
        for rid in self.of_attempt(event.attempt, event.slot):
            self.free(rid)

    def running(self, event: orchestrator.DeploymentRunning) -> None:
        if not self.closed and event.attempt == self.attempt:
            self.status = Status.CONFIRMED
        for slot in event.slots:
            rid = reservation_id(self.id, event.attempt, slot)
            if (hold := self.force.get(rid)) is not None:
                self.emit(sla.QuotaConfirm(ledger_id=hold.ledger, reservation_id=rid))

    def degraded(self, event: orchestrator.DeploymentDegraded) -> None:
        for rid in self.of_attempt(event.attempt):
            self.free(rid, nodes=event.nodes)

    def failed(self) -> None:
        """Choose no more; what is held ends by its own ``cleaned`` or ``returned``."""
        self.closed = True
        self.rest()

    def deleted(self) -> None:
        self.closed, self.status = True, Status.RELEASED
        for rid in list(self.force):
            self.free(rid)
