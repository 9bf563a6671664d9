"""Requests, operations and events for the gateway's unit tests; a test says only what it is about."""

from datetime import UTC, datetime, timedelta
from typing import Any

from indaco_common.contracts import gateway, orchestrator, sla
from indaco_common.contracts.values import Failure, Group, NodeNeeds, Owner, Place, Ranked, Reason
from indaco_common.ids import DeploymentId, ReservationId
from indaco_common.messages import Event
from indaco_common.units import ResourceVector
from indaco_gateway.model import views
from indaco_gateway.model.operation import Operation

NOW = datetime(2026, 11, 23, 9, 12, 31, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
ID = DeploymentId("0190f7c1-0000-7000-8000-000000000001")
ADA = Owner(issuer="https://iam.example.org/", subject="ada")
CMS = Group(issuer="https://iam.example.org/", path="cms")
NEEDS = ResourceVector(instances=1, cpu_milli=1000, memory_mib=1024)
SLA, ORCHESTRATOR = "/indaco/sla", "/indaco/orchestrator"


def place(provider: str = "SITE-A", **changes: Any) -> Place:
    known = {
        "kind": "openstack", "endpoint": "https://keystone.example.org:5000/v3", "region": "one", "project": "p", "agreement": "a",
    }  # fmt: skip
    return Place.model_validate({"provider": provider, **known, **changes})


def request(**changes: Any) -> gateway.DeploymentRequested:
    known: dict[str, Any] = {
        "deployment_id": ID, "owner": ADA, "group": CMS, "template": "t", "inputs": {}, "nodes": {"server": NodeNeeds(count=2, needs=NEEDS)},
    }  # fmt: skip
    return gateway.DeploymentRequested.model_validate({**known, **changes})


def accepted(**changes: Any) -> Operation:
    """Return an operation just accepted."""
    operation = Operation(id=ID)
    operation.accept(
        request(**changes), fingerprint="f", template="digest", types={"server": "tosca.nodes.indigo.Compute"},
        callback=None, now=NOW,
    )  # fmt: skip
    operation.emitted.clear()
    return operation


def hear(operation: Operation, *events: Event, source: str = ORCHESTRATOR, first: int = 1) -> Operation:
    """Let *operation* hear *events* of one source, in the order in which they were said."""
    for number, event in enumerate(events, first):
        views.apply(operation, event, source=source, sequence=f"{number:012d}.00", at=NOW + number * MINUTE)
    return operation


def reserved(attempt: int = 1, provider: str = "SITE-A", **changes: Any) -> sla.PlacementReserved:
    return sla.PlacementReserved(
        deployment_id=ID, attempt=attempt, slot=changes.pop("slot", "main"), reservation_id=ReservationId(f"r-{attempt}"),
        place=place(provider), nodes={}, expires_at=NOW,
        ranked=changes.pop("ranked", (Ranked(provider=provider, region="one", score=0.75),)),
        refused=changes.pop("refused", ()),
    )  # fmt: skip


def rejected(*refused: Reason, attempt: int = 1, slot: str = "main") -> sla.PlacementRejected:
    return sla.PlacementRejected(deployment_id=ID, attempt=attempt, slot=slot, reasons=refused)


def reason(provider: str = "SITE-B", code: str = "QUOTA", detail: str = "4 vCPU asked, 2 free") -> Reason:
    return Reason(provider=provider, region="two", code=code, detail=detail)


def started(attempt: int = 1, provider: str = "SITE-A") -> orchestrator.AttemptStarted:
    return orchestrator.AttemptStarted(deployment_id=ID, attempt=attempt, place=place(provider))


def attempt_failed(attempt: int = 1, provider: str = "SITE-A", detail: str = "no boot") -> orchestrator.AttemptFailed:
    return orchestrator.AttemptFailed(
        deployment_id=ID, attempt=attempt, place=place(provider), reason=failure(detail), clean=False
    )


def _node(attempt: int, node: str, provider: str) -> dict[str, Any]:
    return {
        "deployment_id": ID, "attempt": attempt, "node": node, "owner": ADA, "group": CMS, "place": place(provider), "needs": NEEDS,
        "resource_id": f"vm-{attempt}-{node}", "started_at": NOW + MINUTE,
    }  # fmt: skip


def node_started(attempt: int = 1, node: str = "server-0", provider: str = "SITE-A") -> orchestrator.NodeStarted:
    return orchestrator.NodeStarted(**_node(attempt, node, provider), public_address="192.0.2.7")


def node_removed(attempt: int = 1, node: str = "server-0", provider: str = "SITE-A") -> orchestrator.NodeRemoved:
    return orchestrator.NodeRemoved(**_node(attempt, node, provider), stopped_at=NOW + 9 * MINUTE)


def node_stopped(
    run: int = 1, number: int = 0, *, node: str = "server-0", attempt: int = 1, minute: int = 5
) -> orchestrator.NodeStopped:
    known = _node(attempt, node, "SITE-A")
    return orchestrator.NodeStopped(**known, run=run, number=number, stopped_at=NOW + minute * MINUTE)


def node_resumed(
    run: int = 2, number: int = 0, *, node: str = "server-0", attempt: int = 1, address: str = "192.0.2.77"
) -> orchestrator.NodeResumed:
    known = _node(attempt, node, "SITE-A")
    return orchestrator.NodeResumed(
        **known, run=run, number=number, resumed_at=NOW + 6 * MINUTE, public_address=address
    )


def action_failed(
    number: int, detail: str = "it does not stop", *, node: str = "server-0", attempt: int = 1
) -> orchestrator.NodeActionFailed:
    return orchestrator.NodeActionFailed(
        deployment_id=ID, attempt=attempt, node=node, number=number, reason=failure(detail)
    )


def outputs_changed(**outputs: str) -> orchestrator.DeploymentOutputsChanged:
    return orchestrator.DeploymentOutputsChanged(deployment_id=ID, attempt=1, outputs=outputs)


def running(attempt: int = 1, slots: tuple[str, ...] = ("main",), **changes: Any) -> orchestrator.DeploymentRunning:
    known = {"nodes": ("server-0", "server-1"), "outputs": {"ip": "192.0.2.7"} if slots else {}}
    return orchestrator.DeploymentRunning(deployment_id=ID, attempt=attempt, slots=slots, **{**known, **changes})


def failure(detail: str = "no boot") -> Failure:
    return Failure(code="boot", detail=detail)


def failed(detail: str = "Retries exhausted") -> orchestrator.DeploymentFailed:
    return orchestrator.DeploymentFailed(deployment_id=ID, reason=failure(detail))


def degraded(*nodes: str) -> orchestrator.DeploymentDegraded:
    return orchestrator.DeploymentDegraded(deployment_id=ID, attempt=1, nodes=nodes)


def delete_failed(detail: str = "SITE-A has not removed it yet") -> orchestrator.DeploymentDeleteFailed:
    return orchestrator.DeploymentDeleteFailed(deployment_id=ID, reason=failure(detail))


def deleted(*debris: str) -> orchestrator.DeploymentDeleted:
    return orchestrator.DeploymentDeleted(deployment_id=ID, debris=debris)
