"""What each event changes in an :class:`Operation`. Events of several aggregates come in any order, late, or twice."""

from datetime import datetime

from indaco_common.contracts import orchestrator, sla
from indaco_common.ids import uuid7
from indaco_common.messages import Event

from .operation import CREATING, DELETING, Attempt, Operation, Resource, Status, Task


def apply(op: Operation, event: Event, *, source: str, sequence: str, at: datetime) -> None:
    """Add what *event* says; the status follows only what is newer than all that was seen of its *source*."""
    is_newest = sequence > op.seen.get(source, "")
    if is_newest:
        op.seen[source] = sequence
    op.updated_at = max(op.updated_at or at, at)
    _facts(op, event, at)
    if is_newest:
        _status(op, event)
    title, detail = _line(event)
    op.note(at, event.TYPE.rpartition(".")[0], title, detail)


def _facts(op: Operation, event: Event, at: datetime) -> None:
    """What is true whenever it is heard."""
    match event:
        case sla.PlacementReserved():
            attempt = _attempt(op, event.attempt, event.place.provider)
            attempt.region = event.place.region
            op.ranked, op.refused = event.ranked, event.refused
        case sla.PlacementRejected():
            op.refused = event.reasons
        case orchestrator.AttemptStarted():
            _attempt(op, event.attempt, event.place.provider).started_at = at
        case orchestrator.AttemptFailed():
            attempt = _attempt(op, event.attempt, event.place.provider)
            attempt.outcome, attempt.reason, attempt.ended_at = "failed", event.reason.detail, at
            op.resources = [r for r in op.resources if r.attempt != event.attempt or r.state == "DELETED"]
        case orchestrator.NodeStarted():
            resource = _resource(op, event.attempt, event.node, at)
            if resource.state != "DELETED":
                resource.state = "STARTED"
            resource.physical_id, resource.public_address = event.resource_id, event.public_address
        case orchestrator.NodeRemoved():
            resource = _resource(op, event.attempt, event.node, at)
            resource.state, resource.updated_at = "DELETED", at
        case orchestrator.DeploymentRunning():
            _attempt(op, event.attempt, op.provider or "").outcome = "running"
        case _:
            pass


def _status(op: Operation, event: Event) -> None:
    """What is true until something newer is heard."""
    if isinstance(event, orchestrator.DeploymentDeleted):
        op.status, op.task = Status.DELETE_COMPLETE, Task.NONE
        op.reason = f"given up: {'; '.join(event.debris)}" if event.debris else ""
        op.outputs, op.secret_outputs = {}, ()
        for resource in op.resources:
            resource.state = "DELETED"
        return
    if op.status in DELETING:
        if isinstance(event, orchestrator.DeploymentDeleteFailed) and op.status is not Status.DELETE_COMPLETE:
            op.status, op.task, op.reason = Status.DELETE_FAILED, Task.NONE, event.reason.detail
        return
    match event:
        case sla.PlacementReserved():
            op.place, op.task = event.place, Task.DEPLOYER
        case orchestrator.AttemptStarted():
            op.place, op.task = event.place, Task.DEPLOYER
        case orchestrator.AttemptFailed():
            op.task = Task.BROKERING
        case orchestrator.DeploymentRunning():
            op.status = Status.CREATE_COMPLETE if op.status in CREATING else Status.UPDATE_COMPLETE
            op.task, op.reason = Task.NONE, ""
            if event.slots:
                op.outputs, op.secret_outputs = event.outputs, event.secret_outputs
        case orchestrator.DeploymentUpdating():
            op.status, op.task = Status.UPDATE_IN_PROGRESS, Task.DEPLOYER
        case orchestrator.DeploymentUpdateFailed():
            op.status, op.task, op.reason = Status.UPDATE_FAILED, Task.NONE, event.reason.detail
        case orchestrator.DeploymentDegraded():
            op.reason = f"lost at the provider: {', '.join(event.nodes)}"
        case orchestrator.DeploymentFailed():
            op.status, op.task = Status.CREATE_FAILED, Task.NONE
            op.reason = _why(op, event.reason.detail)
            for resource in op.resources:
                resource.state = "ERROR" if resource.state != "DELETED" else resource.state
        case _:
            pass


def _why(op: Operation, detail: str) -> str:
    """Every try and every refusal, as users of INDIGO know it from ``statusReason``."""
    lines = [detail]
    lines += [f"attempt {a.attempt} at {a.provider}: {a.reason}" for a in op.attempts if a.outcome == "failed"]
    lines += [f"{r.provider} {r.region}: {r.code}: {r.detail}" for r in op.refused if r.code != "FAILED"]
    return "\n".join(lines)


def _attempt(op: Operation, number: int, provider: str) -> Attempt:
    for attempt in op.attempts:
        if attempt.attempt == number:
            return attempt
    op.attempts.append(Attempt(attempt=number, provider=provider))
    op.attempts.sort(key=lambda attempt: attempt.attempt)
    return next(attempt for attempt in op.attempts if attempt.attempt == number)


def _resource(op: Operation, attempt: int, node: str, at: datetime) -> Resource:
    """Return the machine; one that was only planned becomes it."""
    for resource in op.resources:
        if (resource.attempt, resource.node) == (attempt, node):
            return resource
    planned = next((r for r in op.resources if (r.attempt, r.node) == (0, node)), None)
    if planned is None:
        planned = Resource(uuid=uuid7(), attempt=attempt, node=node, state="CREATING", created_at=at, updated_at=at)
        op.resources.append(planned)
    planned.attempt, planned.updated_at = attempt, at
    return planned


def _line(event: Event) -> tuple[str, str]:
    """Return the timeline's title and detail."""
    match event:
        case sla.PlacementReserved():
            why = "; ".join(f"not {r.provider}: {r.detail}" for r in event.refused)
            best = ", ".join(f"{r.provider} {r.score:.2f}" for r in event.ranked)
            return f"Quota held at {event.place.provider}", f"ranked: {best}" + (f"; {why}" if why else "")
        case sla.PlacementRejected():
            return "No place left", "; ".join(f"{r.provider}: {r.code}: {r.detail}" for r in event.reasons)
        case orchestrator.AttemptStarted():
            note = " (simulated)" if event.place.simulated else ""
            return f"Attempt {event.attempt} started at {event.place.provider}{note}", ""
        case orchestrator.AttemptFailed():
            return f"Attempt {event.attempt} failed at {event.place.provider}", event.reason.detail
        case orchestrator.AttemptCleaned():
            return f"Attempt {event.attempt} cleaned", event.slot or ""
        case orchestrator.NodeStarted():
            return f"{event.node} runs", event.public_address
        case orchestrator.NodeRemoved():
            return f"{event.node} removed", ""
        case orchestrator.DeploymentRunning():
            return "Running", f"{len(event.nodes)} nodes"
        case orchestrator.DeploymentDegraded():
            return "Degraded", ", ".join(event.nodes)
        case (
            orchestrator.DeploymentFailed()
            | orchestrator.DeploymentDeleteFailed()
            | orchestrator.DeploymentUpdateFailed()
        ):
            return type(event).__name__.removeprefix("Deployment").replace(
                "Failed", " failed"
            ).strip().capitalize(), event.reason.detail
        case orchestrator.DeploymentDeleted():
            return "Deleted", "; ".join(event.debris)
        case _:
            return event.TYPE.split(".")[2].replace("-", " ").capitalize(), ""
