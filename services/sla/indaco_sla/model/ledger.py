"""What one agreement grants, and what is held and used of it."""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import ClassVar

import pydantic
from pydantic import AwareDatetime

from indaco_common.contracts import sla
from indaco_common.contracts.values import Owner, Reason
from indaco_common.ids import DeploymentId, ReservationId
from indaco_common.store import Aggregate
from indaco_common.units import ResourceVector

HOLD = timedelta(minutes=15)  # a hold's life; the orchestrator renews it every third of that
KEEP_SETTLED = timedelta(days=7)  # longer than any message is retried: a late one meets its stored answer


class State(StrEnum):
    """``expiring`` still counts: nothing is freed by the clock."""

    HELD = "held"
    EXPIRING = "expiring"
    COMMITTED = "committed"
    REFUSED = "refused"
    RELEASED = "released"


COUNTED = {State.HELD, State.EXPIRING, State.COMMITTED}


class Reservation(pydantic.BaseModel):
    """One attempt's slot in this ledger; settled ones stay for a week as the answer to repeats."""

    state: State
    deployment_id: DeploymentId
    attempt: int
    slot: str
    owner: Owner
    nodes: dict[str, ResourceVector]
    at: AwareDatetime  # a hold: when it expires; settled: since when
    reasons: tuple[Reason, ...] = ()


class Ledger(Aggregate):
    """One agreement's account: held + expiring + committed never exceed what is granted, for all and for each user."""

    KIND: ClassVar[str] = "ledger"
    CACHED: ClassVar[bool] = True

    provider: str = ""
    region: str = ""
    limits: ResourceVector = ResourceVector()
    user_limits: ResourceVector | None = None
    reservations: dict[ReservationId, Reservation] = pydantic.Field(default_factory=dict)

    def grant(self, *, provider: str, region: str, limits: ResourceVector, user_limits: ResourceVector | None) -> bool:
        """Set what the agreement grants; lowering it frees nothing. Return whether that is a change."""
        before = (self.provider, self.region, self.limits, self.user_limits)
        self.provider, self.region, self.limits, self.user_limits = provider, region, limits, user_limits
        return before != (provider, region, limits, user_limits)

    def used(self, owner: Owner | None = None) -> ResourceVector:
        """Return what counts against the limits: of everybody, or of one user."""
        return ResourceVector.sum(
            needs
            for line in self.reservations.values()
            if line.state in COUNTED and owner in (None, line.owner)
            for needs in line.nodes.values()
        )

    def reserve(self, ask: sla.QuotaReserve, now: datetime) -> None:
        """Hold what *ask* needs until it expires, or refuse with the shortfall; a repeat gets the stored answer."""
        line = self.reservations.get(ask.reservation_id)
        if line is None:
            reasons = self.shortfall(ask)
            line = Reservation(
                state=State.REFUSED if reasons else State.HELD,
                deployment_id=ask.deployment_id,
                attempt=ask.attempt,
                slot=ask.slot,
                owner=ask.owner,
                nodes={} if reasons else ask.nodes,
                at=now if reasons else now + HOLD,
                reasons=reasons,
            )
            self.reservations[ask.reservation_id] = line
            self.tidy(now)
        if line.state is State.RELEASED:
            return
        answer = {"ledger_id": self.id, "reservation_id": ask.reservation_id, **_about(line)}
        if line.state is State.REFUSED:
            self.emit(sla.QuotaRefused(**answer, reasons=line.reasons))
        else:
            self.emit(sla.QuotaReserved(**answer, expires_at=line.at))

    def shortfall(self, ask: sla.QuotaReserve) -> tuple[Reason, ...]:
        """Return what is missing for *ask*, per resource and scope; empty if it fits."""
        needs = ResourceVector.sum(ask.nodes.values())
        scopes = [("group", self.limits, self.used())]
        if self.user_limits is not None:
            scopes.append(("user", self.user_limits, self.used(ask.owner)))
        return tuple(
            quota_reason(self.provider, self.region, scope, name, need=needs[name], limit=limits[name], used=used[name])
            for scope, limits, used in scopes
            for name in needs
            if used[name] + needs[name] > limits[name]
        )

    def renew(self, reservation: ReservationId, now: datetime) -> None:
        """The hold is in use: it gets a new life."""
        line = self.reservations.get(reservation)
        if line is not None and line.state in (State.HELD, State.EXPIRING):
            line.state, line.at = State.HELD, now + HOLD
            self.tidy(now)

    def confirm(self, reservation: ReservationId, now: datetime) -> None:
        """What was held is in use, without end."""
        line = self.reservations.get(reservation)
        if line is not None and line.state in (State.HELD, State.EXPIRING):
            line.state, line.at = State.COMMITTED, now
            self.tidy(now)

    def release(self, command: sla.QuotaRelease, now: datetime) -> None:
        """Free the reservation, or the *nodes* of it that are gone; one that is not known yet is never to be held."""
        line = self.reservations.get(command.reservation_id)
        if line is None:
            if command.nodes is None:
                self.reservations[command.reservation_id] = _tombstone(now)
            return
        if line.state is State.REFUSED:
            return
        kept = {} if command.nodes is None else {n: v for n, v in line.nodes.items() if n not in command.nodes}
        line.nodes = kept
        if not kept and line.state is not State.RELEASED:
            line.state, line.at = State.RELEASED, now
        self.tidy(now)

    def expire(self, now: datetime) -> None:
        """Ask about holds past their time; only an answer frees them."""
        for rid, line in self.reservations.items():
            if line.state is State.HELD and line.at <= now:
                line.state = State.EXPIRING
                self.emit(sla.QuotaExpiring(ledger_id=self.id, reservation_id=rid, **_about(line)))
        self.tidy(now)

    def tidy(self, now: datetime) -> None:
        """Forget what was settled long ago, and set the timer for the next hold to expire."""
        old = now - KEEP_SETTLED
        settled = [r for r, line in self.reservations.items() if line.state not in COUNTED and line.at < old]
        for rid in settled:
            del self.reservations[rid]
        holds = [line.at for line in self.reservations.values() if line.state is State.HELD]
        self.due_at = min(holds) if holds else None


def quota_reason(provider: str, region: str, scope: str, resource: str, *, need: int, limit: int, used: int) -> Reason:
    """Say what is missing of *resource* in *scope* (group or user)."""
    free = max(0, limit - used)
    detail = f"{resource}: {need} asked, {free} of {limit} free in the {scope}'s quota, {need - free} missing"
    return Reason(
        provider=provider, region=region, code="QUOTA" if scope == "group" else "USER_LIMIT", detail=detail,
        resource=resource, need=need, available=free, limit=limit,
    )  # fmt: skip


def _about(line: Reservation) -> dict[str, DeploymentId | int | str]:
    return {"deployment_id": line.deployment_id, "attempt": line.attempt, "slot": line.slot}


def _tombstone(now: datetime) -> Reservation:
    nobody = Owner(issuer="", subject="")
    return Reservation(
        state=State.RELEASED, deployment_id=DeploymentId(""), attempt=0, slot="main", owner=nobody, nodes={}, at=now
    )
