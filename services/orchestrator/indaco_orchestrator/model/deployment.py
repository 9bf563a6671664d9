"""The process manager of one deployment: messages in, the next state and messages out. Its timer is in ``turn.py``.

The rules are those of the protocol (docs/architecture.md): one live attempt; nothing forgotten at a place it left; every
reservation and credential that was asked for is given back; every exit goes through :meth:`Deployment.leave`.
"""

from datetime import datetime, timedelta
from typing import Any, ClassVar

import pydantic
from pydantic import AwareDatetime

from indaco_common.contracts import gateway, orchestrator, sla, vault
from indaco_common.contracts.values import (
    MAIN,
    Failure,
    Group,
    NodeNeeds,
    Owner,
    Place,
    PlacedNode,
    instances,
)
from indaco_common.errors import NotYet
from indaco_common.ids import DeploymentId, ReservationId, reservation_id
from indaco_common.store import Aggregate

from .values import Debris, Moment, Node, Status, Taken

HERE = {Status.AWAITING_CREDENTIAL, Status.CREATING, Status.RUNNING, Status.UPDATING}  # an attempt is live


class State(Aggregate):
    """What a deployment remembers, and the small steps of which its answers are made."""

    KIND: ClassVar[str] = "deployment"
    INDEX: ClassVar[tuple[str, ...]] = ("status",)

    status: Status = Status.NEW
    present: bool = True  # what its owner wants
    forced: bool = False
    owner: Owner = Owner(issuer="", subject="")
    group: Group = Group(issuer="", path="")
    template: str = ""  # digest of the blob that holds it
    imports: dict[str, str] = pydantic.Field(default_factory=dict)  # URL → digest of the blob that holds its text
    inputs: dict[str, Any] = pydantic.Field(default_factory=dict)
    secret_inputs: tuple[str, ...] = ()
    ssh_keys: tuple[str, ...] = ()
    wanted: dict[str, NodeNeeds] = pydantic.Field(default_factory=dict)  # per TOSCA node
    attempt_timeout_s: float | None = None
    give_up_at: AwareDatetime | None = None

    attempt: int = 0
    place: Place | None = None
    placed: dict[str, PlacedNode] = pydantic.Field(default_factory=dict)
    taken: dict[ReservationId, Taken] = pydantic.Field(default_factory=dict)
    spec: set[str] = pydantic.Field(default_factory=set)
    growth: set[str] = pydantic.Field(default_factory=set)
    slot: str = ""  # of the update that is under way
    updates: int = 0
    names: dict[str, int] = pydantic.Field(default_factory=dict)  # per TOSCA node, how many names were ever given
    nodes: list[Node] = pydantic.Field(default_factory=list)
    create_sent: bool = False
    serial: dict[int, int] = pydantic.Field(default_factory=dict)  # per attempt, the newest credential asked for
    pending: set[int] = pydantic.Field(default_factory=set)  # attempts whose credential is awaited
    debris: list[Debris] = pydantic.Field(default_factory=list)
    given_up: list[str] = pydantic.Field(default_factory=list)
    failure: Failure | None = None

    entered_at: AwareDatetime | None = None
    deadline: AwareDatetime | None = None
    claimed: AwareDatetime | None = None  # a turn is under way until then
    alive_at: AwareDatetime | None = None
    reached_at: AwareDatetime | None = None
    sampled_at: AwareDatetime | None = None

    @property
    def deployment_id(self) -> DeploymentId:
        return DeploymentId(self.id)

    def here(self, name: str, attempt: int | None = None) -> Node | None:
        """Return the machine *name* of the attempt (the present one by default), if it ran."""
        attempt = self.attempt if attempt is None else attempt
        return next((n for n in self.nodes if n.attempt == attempt and n.name == name), None)

    def building(self) -> bool:
        if self.status is Status.UPDATING:
            return reservation_id(self.id, self.attempt, self.slot) in self.taken
        return self.status is Status.CREATING

    def enter(self, status: Status, at: Moment) -> None:
        """Go to *status*: its timer comes at once, but not within a turn that is under way."""
        self.status, self.entered_at = status, at.now
        self.due_at = max(at.now, self.claimed or at.now)
        match status:
            case Status.AWAITING_PLACE | Status.AWAITING_CREDENTIAL:
                self.deadline = at.now + at.timing.wait
                self.due_at = self.waits_until() if not self.debris else self.due_at  # answers wake it
            case Status.CREATING | Status.UPDATING:
                limit = self.attempt_timeout_s
                self.deadline = at.now + (at.timing.attempt if limit is None else timedelta(seconds=limit))
            case _:
                self.deadline = None

    def waits_until(self) -> datetime | None:
        """Return when its owner's patience or that of the present state ends, whichever is first."""
        return min(filter(None, (self.deadline, self.give_up_at)), default=None) if self.deadline else None

    def issue(self, attempt: int, place: Place) -> None:
        """Ask for a credential, under a serial that was never used for this attempt."""
        self.serial[attempt] = self.serial.get(attempt, -1) + 1
        self.pending.add(attempt)
        self.emit(
            vault.CredentialIssue(
                deployment_id=self.deployment_id,
                attempt=attempt,
                serial=self.serial[attempt],
                place=place,
                owner=self.owner,
            )
        )

    def revoke(self, attempt: int) -> None:
        """Give back every credential that was asked for in *attempt*."""
        self.pending.discard(attempt)
        for serial in range(self.serial.pop(attempt, -1) + 1):
            self.emit(vault.CredentialRevoke(deployment_id=self.deployment_id, attempt=attempt, serial=serial))

    def remove_node(self, attempt: int, name: str, now: datetime) -> None:
        """Say of a machine that ran that it is gone, once."""
        if (node := self.here(name, attempt)) is None:
            return
        self.nodes.remove(node)
        self.emit(orchestrator.NodeRemoved(**self.about(node), stopped_at=max(now, node.started_at)))

    def about(self, node: Node) -> dict[str, Any]:
        """What every event about a machine says."""
        return {
            "deployment_id": self.id, "attempt": node.attempt, "node": node.name, "owner": self.owner, "group": self.group,
            "place": node.place, "needs": node.needs, "resource_id": node.resource_id, "image": node.image,
            "started_at": node.started_at,
        }  # fmt: skip

    def leave(self, at: Moment) -> None:
        """Leave the current place: what may exist becomes debris, else reservation and credential go at once."""
        if self.create_sent and self.place is not None:
            parts = [d for d in self.debris if d.attempt == self.attempt]
            self.debris = [d for d in self.debris if d not in parts]
            names = (self.spec | self.growth).union(*(d.nodes for d in parts))
            self._litter(MAIN, self.place, names, at)
            self.create_sent = False
        else:
            self.revoke(self.attempt)
            self.taken = {rid: use for rid, use in self.taken.items() if use.attempt != self.attempt}
        self.slot, self.growth = "", set()

    def _litter(self, slot: str, place: Place, names: set[str], at: Moment) -> None:
        """Note what may be left of *slot*; a machine never seen may be on its way or hidden for as long as a claim lasts."""
        settles_at = at.now if all(self.here(name) for name in names) else at.now + at.timing.claim
        self.debris.append(
            Debris(
                attempt=self.attempt, slot=slot, place=place, nodes=names, since=at.now, settles_at=settles_at,
            )
        )  # fmt: skip

    def end(self, at: Moment) -> None:
        """After a deletion was asked for: cleaning until nothing is left, then deleted."""
        if self.debris:
            self.enter(Status.CLEANING, at)
            return
        self.enter(Status.DELETED, at)
        self.due_at = None
        self.emit(orchestrator.DeploymentDeleted(deployment_id=self.deployment_id, debris=tuple(self.given_up)))

    def fail_attempt(self, failure: Failure, at: Moment) -> None:
        """Give this attempt up: say so at once, so that sla can reserve the next place, and clean behind us."""
        place, clean = self.place, not self.create_sent
        assert place is not None
        self.failure = failure
        self.leave(at)
        self.emit(
            orchestrator.AttemptFailed(
                deployment_id=self.deployment_id, attempt=self.attempt, place=place, reason=failure, clean=clean
            )
        )
        self.enter(Status.AWAITING_PLACE, at)

    def fail(self, failure: Failure, at: Moment) -> None:
        self.failure = failure
        self.enter(Status.FAILED, at)
        self.due_at = self.due_at if self.debris else None
        self.emit(orchestrator.DeploymentFailed(deployment_id=self.deployment_id, reason=failure))

    def fail_update(self, failure: Failure, at: Moment) -> None:
        """Give the growth up; what may exist of it is debris of its slot; the attempt goes on."""
        assert self.place is not None
        if reservation_id(self.id, self.attempt, self.slot) in self.taken:
            self._litter(self.slot, self.place, set(self.growth), at)
        self.slot, self.growth = "", set()
        self.enter(Status.RUNNING, at)
        self.emit(
            orchestrator.DeploymentUpdateFailed(deployment_id=self.deployment_id, update=self.updates, reason=failure)
        )


class Deployment(State):
    """One deployment: an answer to every message in every state."""

    # ── the gateway's

    def requested(self, event: gateway.DeploymentRequested, template: str, at: Moment) -> None:
        """Begin; *template* is the digest under which it is kept. A repeat, or one that comes after its deletion, is nothing."""
        if self.status is not Status.NEW:
            return
        self.owner, self.group, self.template = event.owner, event.group, template
        self.imports, self.ssh_keys = event.imports, event.ssh_keys
        self.inputs, self.secret_inputs = event.inputs, event.secret_inputs
        self.wanted, self.attempt_timeout_s = event.nodes, event.attempt_timeout_s
        self.spec, self.names = set(instances(event.nodes)), {name: n.count for name, n in event.nodes.items()}
        if event.timeout_s is not None:
            self.give_up_at = at.now + timedelta(seconds=event.timeout_s)
        self.enter(Status.AWAITING_PLACE, at)

    def deletion_requested(self, event: gateway.DeploymentDeletionRequested, at: Moment) -> None:
        """Want it gone, in whatever state; what was never seen becomes a tombstone, so that a late request is given back."""
        self.forced = self.forced or event.force
        if self.status is Status.NEW:
            self.present, self.status = False, Status.DELETED
            self.emit(orchestrator.DeploymentDeleted(deployment_id=self.deployment_id))
            return
        if not self.present:
            self.due_at = max(at.now, self.claimed or at.now) if self.debris else None  # a repeat: try again now
            return
        self.present = False
        if self.status in HERE:
            self.leave(at)
        self.end(at)
        if self.status is Status.CLEANING:
            self.emit(orchestrator.DeploymentDeleting(deployment_id=self.deployment_id))

    def update_requested(self, event: gateway.DeploymentUpdateRequested, template: str, at: Moment) -> None:
        """Grow to what *event* wants; sla is asked for the growth as one more slot of this attempt."""
        if self.status not in (Status.RUNNING, Status.FAILED, Status.CLEANING, Status.DELETED):
            raise NotYet(f"deployment is {self.status}")
        if self.status is not Status.RUNNING or event.update <= self.updates:
            return
        self.updates = event.update
        self.wanted, self.template, self.imports = event.nodes, template, event.imports
        self.inputs, self.secret_inputs = event.inputs, event.secret_inputs
        more: dict[str, NodeNeeds] = {}
        for tosca, node in sorted(event.nodes.items()):
            first = self.names.get(tosca, 0)
            have = sum(1 for name in self.spec if name.rpartition("-")[0] == tosca)
            more |= {f"{tosca}-{n}": node for n in range(first, first + max(0, node.count - have))}
            self.names[tosca] = first + max(0, node.count - have)
        if not more:
            self.emit_running(slots=(), outputs={}, secret_outputs=())
            return
        self.growth, self.slot = set(more), f"u{event.update}"
        self.enter(Status.UPDATING, at)
        self.emit(orchestrator.DeploymentUpdating(deployment_id=self.deployment_id, update=event.update))
        self.emit(
            orchestrator.ReservationRequested(
                deployment_id=self.deployment_id, attempt=self.attempt, slot=self.slot,
                nodes={name: node.needs for name, node in more.items()},
            )
        )  # fmt: skip

    # ── sla's

    def placed_at(self, event: sla.PlacementReserved, at: Moment) -> None:
        """Take the place that sla reserved; the same answer again changes nothing; any other is given back."""
        if self.status is Status.NEW:
            raise NotYet("its request has not been seen")
        use, agreement = self.taken.get(event.reservation_id), event.place.agreement
        if use is not None and use.agreement == agreement:  # in use, or debris still needs it
            return
        taken = Taken(attempt=event.attempt, slot=event.slot, agreement=agreement)
        main = event.slot == MAIN and self.present and self.status is Status.AWAITING_PLACE
        if main and event.attempt == self.attempt + 1:
            self.taken[event.reservation_id] = taken
            self.attempt, self.place, self.placed = event.attempt, event.place, dict(event.nodes)
            self.alive_at = at.now  # the hold is new
            self.enter(Status.AWAITING_CREDENTIAL, at)
            self.issue(self.attempt, event.place)
        elif self.status is Status.UPDATING and (event.attempt, event.slot) == (self.attempt, self.slot):
            self.taken[event.reservation_id] = taken
            self.placed |= event.nodes
            self.enter(Status.UPDATING, at)
        else:
            self.answer(orchestrator.ReservationReturned, event, agreement)

    def rejected(self, event: sla.PlacementRejected, at: Moment) -> None:
        """No place is left."""
        if self.status is Status.NEW:
            raise NotYet("its request has not been seen")
        failure = Failure(code="no-place", detail="No cloud provider meets the deployment requirements")
        if event.slot == MAIN and self.status is Status.AWAITING_PLACE and event.attempt == self.attempt + 1:
            self.fail(failure if self.attempt == 0 or self.failure is None else exhausted(self.failure), at)
        elif self.status is Status.UPDATING and (event.attempt, event.slot) == (self.attempt, self.slot):
            self.fail_update(failure, at)

    def expiring(self, event: sla.PlacementExpiring) -> None:
        """Say whether a hold that is past its time is in use; of one that may still be coming, nothing can be said yet."""
        use = self.taken.get(event.reservation_id)
        if use is not None and use.agreement == event.agreement:
            self.answer(orchestrator.ReservationKept, event, event.agreement)
            return
        next_main = event.slot == MAIN and event.attempt == self.attempt + 1 and self.status is Status.AWAITING_PLACE
        growing = self.status is Status.UPDATING and event.slot == self.slot
        if self.status is Status.NEW or next_main or growing:
            raise NotYet("its placement.reserved is still under way")
        self.answer(orchestrator.ReservationReturned, event, event.agreement)

    def answer(
        self,
        kind: type[orchestrator.ReservationKept | orchestrator.ReservationReturned],
        event: sla.PlacementReserved | sla.PlacementExpiring,
        agreement: str,
    ) -> None:
        self.emit(
            kind(
                deployment_id=self.deployment_id, reservation_id=event.reservation_id, attempt=event.attempt,
                slot=event.slot, agreement=agreement,
            )
        )  # fmt: skip

    # ── the vault broker's

    def authorised(self, event: vault.CredentialIssued, at: Moment) -> None:
        """Build with the credential; one that is not the newest of its attempt is revoked."""
        if self.serial.get(event.attempt) != event.serial:
            self.emit(
                vault.CredentialRevoke(deployment_id=self.deployment_id, attempt=event.attempt, serial=event.serial)
            )
            return
        self.pending.discard(event.attempt)
        if self.status is Status.AWAITING_CREDENTIAL and event.attempt == self.attempt:
            assert self.place is not None
            self.reached_at = at.now
            self.enter(Status.CREATING, at)
            self.emit(
                orchestrator.AttemptStarted(deployment_id=self.deployment_id, attempt=self.attempt, place=self.place)
            )
        elif self.due_at is not None:
            self.due_at = max(at.now, self.claimed or at.now)  # what waited for it may go on

    def unauthorised(self, event: vault.CredentialRefused, at: Moment) -> None:
        """A refusal fails an attempt that waits for it, and no other: cleaning asks again."""
        if self.serial.get(event.attempt) != event.serial or event.attempt not in self.pending:
            return
        self.pending.discard(event.attempt)
        if self.status is Status.AWAITING_CREDENTIAL and event.attempt == self.attempt:
            self.fail_attempt(event.reason, at)

    def emit_running(self, *, slots: tuple[str, ...], outputs: dict[str, Any], secret_outputs: tuple[str, ...]) -> None:
        self.emit(
            orchestrator.DeploymentRunning(
                deployment_id=self.deployment_id, attempt=self.attempt, slots=slots, nodes=tuple(sorted(self.spec)),
                outputs=outputs, secret_outputs=secret_outputs,
            )
        )  # fmt: skip


def exhausted(last: Failure) -> Failure:
    return Failure(code=last.code, detail=f"Retries on cloud providers exhausted. The last one: {last.detail}")
