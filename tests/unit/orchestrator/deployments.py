"""Builders for tests of the deployment: messages as other services send them, and deployments that went some of their way."""

from datetime import UTC, datetime, timedelta
from typing import Any

from indaco_common.contracts import gateway, sla, vault
from indaco_common.contracts.values import MAIN, Failure, Group, NodeNeeds, Owner, Place, PlacedNode
from indaco_common.ids import DeploymentId, reservation_id
from indaco_common.messages import Message
from indaco_common.units import ResourceVector
from indaco_orchestrator.model import turn
from indaco_orchestrator.model.deployment import Deployment
from indaco_orchestrator.model.values import Findings, Moment, Started, Timing

ID = DeploymentId("d")
START = datetime(2026, 1, 1, tzinfo=UTC)
TIMING = Timing()
NEEDS = ResourceVector(instances=1, cpu_milli=2000)
OWNER, GROUP = Owner(issuer="i", subject="ada"), Group(issuer="i", path="physics")


def at(seconds: float = 0, *, heard: datetime | None = None) -> Moment:
    return Moment(START + timedelta(seconds=seconds), TIMING, heard)


def place(name: str = "recas") -> Place:
    return Place(provider=name, kind="simulated", endpoint="", region="r", project="p", agreement=f"{name}-1")


def requested(count: int = 2, **more: Any) -> gateway.DeploymentRequested:
    return gateway.DeploymentRequested(
        deployment_id=ID, owner=OWNER, group=GROUP, template="t", inputs={},
        nodes={"n": NodeNeeds(count=count, needs=NEEDS)}, **more,
    )  # fmt: skip


def updated(count: int, update: int = 1) -> gateway.DeploymentUpdateRequested:
    return gateway.DeploymentUpdateRequested(
        deployment_id=ID, update=update, template="u", inputs={}, nodes={"n": NodeNeeds(count=count, needs=NEEDS)}
    )


def deletion(*, force: bool = False) -> gateway.DeploymentDeletionRequested:
    return gateway.DeploymentDeletionRequested(deployment_id=ID, force=force)


def reserved(
    attempt: int = 1, slot: str = MAIN, *, at_place: str = "recas", nodes: tuple[str, ...] = ("n-0", "n-1")
) -> sla.PlacementReserved:
    return sla.PlacementReserved(
        deployment_id=ID, attempt=attempt, slot=slot, reservation_id=reservation_id(ID, attempt, slot),
        place=place(at_place), nodes={name: PlacedNode(needs=NEEDS) for name in nodes},
        expires_at=START + timedelta(minutes=15),
    )  # fmt: skip


def rejected(attempt: int = 1, slot: str = MAIN) -> sla.PlacementRejected:
    return sla.PlacementRejected(deployment_id=ID, attempt=attempt, slot=slot)


def expiring(attempt: int = 1, slot: str = MAIN, *, agreement: str = "recas-1") -> sla.PlacementExpiring:
    return sla.PlacementExpiring(
        deployment_id=ID, attempt=attempt, slot=slot, reservation_id=reservation_id(ID, attempt, slot),
        agreement=agreement,
    )  # fmt: skip


def issued(attempt: int = 1, serial: int = 0) -> vault.CredentialIssued:
    return vault.CredentialIssued(deployment_id=ID, attempt=attempt, serial=serial, handle=f"leases/{ID}/{attempt}")


def refused(attempt: int = 1, serial: int = 0) -> vault.CredentialRefused:
    return vault.CredentialRefused(
        deployment_id=ID, attempt=attempt, serial=serial, reason=Failure(code="policy", detail="no")
    )


def said(d: Deployment) -> list[Message]:
    """Return what was emitted since the last time, as a save would take it."""
    messages = list(d.emitted)
    d.emitted.clear()
    return messages


def names(d: Deployment) -> list[str]:
    """Return the names of what was emitted since the last time, without service and version."""
    return [message.TYPE.split(".", 1)[1].rsplit(".", 1)[0] for message in said(d)]


def take_turn(d: Deployment, seconds: float, **seen: Any) -> None:
    """Claim at *seconds*, and apply one second later what was *seen*."""
    assert turn.claim(d, at(seconds))
    turn.apply(d, Findings(d.attempt, d.slot, d.claimed, **seen), at(seconds + 1))


def up(*names: str) -> dict[str, Started]:
    return {name: Started(f"vm-{name}") for name in names}


# ── deployments that went some of their way, with nothing left to say


def awaiting_place(**more: Any) -> Deployment:
    d = Deployment.new(ID)
    assert isinstance(d, Deployment)
    d.requested(requested(**more), "digest", at())
    return d


def awaiting_credential(**more: Any) -> Deployment:
    d = awaiting_place(**more)
    d.placed_at(reserved(), at())
    said(d)
    return d


def creating(**more: Any) -> Deployment:
    d = awaiting_credential(**more)
    d.authorised(issued(), at())
    said(d)
    return d


def running(**more: Any) -> Deployment:
    d = creating(**more)
    take_turn(d, 1, started=up("n-0", "n-1"))
    said(d)
    return d


def updating(count: int = 3) -> Deployment:
    """As :func:`running`, with the growth's place reserved."""
    d = running()
    d.update_requested(updated(count), "digest 2", at(10))
    d.placed_at(reserved(1, "u1", nodes=tuple(f"n-{i}" for i in range(2, count))), at(11))
    said(d)
    return d
