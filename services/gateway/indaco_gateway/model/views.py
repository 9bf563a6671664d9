"""What each event changes in an :class:`Operation`. Events of several aggregates come in any order, late, or twice.

The view is the same in the end, whatever the order: facts are kept by their attempt, the newest of a kind by its sequence (all
events of one source about a deployment are one aggregate's, so that their sequences compare), and the status follows from these.
Only the timeline tells things as they were heard.
"""

from datetime import datetime

from indaco_common.contracts import orchestrator, sla
from indaco_common.contracts.values import MAIN, Place, Reason
from indaco_common.messages import Event

from .operation import Attempt, Life, Machine, Operation, Outcome, Status, Task, brief
from .power import Power

_OfMachine = orchestrator.NodeStarted | orchestrator.NodeStopped | orchestrator.NodeResumed | orchestrator.NodeRemoved
MAX_REASONS = 100  # refusals shown, the newest
MAX_RANKED = 50
MAX_REASON = 8000  # characters of a whole ``statusReason``


def apply(op: Operation, event: Event, *, source: str, sequence: str, at: datetime) -> None:
    """Add what *event* says, and let the status follow."""
    name = f"{source}#{sequence}"
    op.updated_at = max(op.updated_at or at, at)
    _take(op, event, sequence, at)
    _settle(op)
    if all(step.event != name for step in op.timeline):
        title, detail = _line(op, event)
        op.note(at, event.TYPE.rpartition(".")[0], title, detail, event=name)


def _take(op: Operation, event: Event, sequence: str, at: datetime) -> None:
    match event:
        case sla.PlacementReserved() | sla.PlacementRejected():
            _take_choice(op, event, sequence)
        case orchestrator.AttemptStarted():
            _placed(op, event.attempt, event.place).started_at = at
        case orchestrator.AttemptFailed():
            attempt = _placed(op, event.attempt, event.place)
            attempt.outcome, attempt.reason, attempt.ended_at = Outcome.FAILED, brief(event.reason.detail), at
        case _ if isinstance(event, _OfMachine):
            _take_machine(op, event)
        case orchestrator.NodeActionFailed() if event.attempt >= op.building:
            _attempt(op, event.attempt)
            op.power.setdefault(event.node, Power()).gave_up(event.number, brief(event.reason.detail))
        case orchestrator.DeploymentDegraded():
            op.lost = tuple(sorted({*op.lost, *event.nodes}))
        case orchestrator.DeploymentDeleteFailed() if _is_news(op, "delete-failed", sequence):
            op.delete_failure = event.reason.detail
        case orchestrator.DeploymentDeleted():
            op.deleted, op.debris = True, event.debris
        case orchestrator.DeploymentOutputsChanged() if _is_news(op, "outputs", sequence):
            op.outputs, op.secret_outputs = event.outputs, event.secret_outputs
        case _:
            _take_life(op, event, sequence)


def _take_choice(op: Operation, event: sla.PlacementReserved | sla.PlacementRejected, sequence: str) -> None:
    if isinstance(event, sla.PlacementReserved):
        _placed(op, event.attempt, event.place)
    if event.slot != MAIN:  # the growth of an update: nothing was chosen anew
        if isinstance(event, sla.PlacementRejected) and event.slot == f"u{op.updates}":
            op.growth_refused = tuple(_bounded(reason) for reason in event.reasons[-MAX_REASONS:])
        return
    if isinstance(event, sla.PlacementReserved) and _is_news(op, "ranked", sequence):
        op.ranked = event.ranked[:MAX_RANKED]
    if _is_news(op, "refused", sequence):
        refused = event.refused if isinstance(event, sla.PlacementReserved) else event.reasons
        op.refused = tuple(_bounded(reason) for reason in refused[-MAX_REASONS:])


def _take_machine(op: Operation, event: _OfMachine) -> None:
    """Keep the machines of the newest attempt; earlier ones end with theirs."""
    if event.attempt < op.building:
        return
    _attempt(op, event.attempt)
    machine = op.machines.setdefault(event.node, Machine(started_at=event.started_at))
    machine.started_at, machine.physical_id = event.started_at, event.resource_id or machine.physical_id
    needs = event.needs
    machine.cpu_milli, machine.memory_mib, machine.disk_gib = needs["cpu_milli"], needs["memory_mib"], needs["disk_gib"]
    match event:
        case orchestrator.NodeStarted():
            if event.node not in op.power or op.power[event.node].addressed == 1:
                machine.public_address = event.public_address
        case orchestrator.NodeStopped():
            op.power.setdefault(event.node, Power()).stopped(event.run, event.number, event.stopped_at)
        case orchestrator.NodeResumed():
            if op.power.setdefault(event.node, Power()).resumed(event.run, event.number, event.resumed_at):
                machine.public_address = event.public_address
        case orchestrator.NodeRemoved():
            machine.stopped_at = event.stopped_at


def _take_life(op: Operation, event: Event, sequence: str) -> None:
    if (life := _life(event)) is not None and _is_news(op, "life", sequence):
        op.life = life
    if not isinstance(event, orchestrator.DeploymentRunning):
        return
    attempt = _attempt(op, event.attempt)
    if attempt.outcome is not Outcome.FAILED:
        attempt.outcome = Outcome.RUNNING
    if _is_news(op, "runs", sequence):
        op.runs = event.nodes
    if event.slots and _is_news(op, "outputs", sequence):
        op.outputs, op.secret_outputs = event.outputs, event.secret_outputs


def _life(event: Event) -> Life | None:
    """Return what *event* says of the deployment as a whole, if anything."""
    match event:
        case orchestrator.DeploymentRunning():
            return Life(status=Status.CREATE_COMPLETE if MAIN in event.slots else Status.UPDATE_COMPLETE)
        case orchestrator.DeploymentUpdating():
            return Life(status=Status.UPDATE_IN_PROGRESS)
        case orchestrator.DeploymentUpdateFailed():
            return Life(status=Status.UPDATE_FAILED, reason=event.reason.detail)
        case orchestrator.DeploymentFailed():
            return Life(status=Status.CREATE_FAILED, reason=event.reason.detail)
        case _:
            return None


def _settle(op: Operation) -> None:
    """Set what follows from the facts: what was deleted stays so, a deletion outranks the rest."""
    if op.deleted:
        op.outputs, op.secret_outputs = {}, ()
        op.status, op.reason = Status.DELETE_COMPLETE, f"given up: {'; '.join(op.debris)}" if op.debris else ""
    elif op.deleting:
        op.status = Status.DELETE_IN_PROGRESS if op.delete_failure is None else Status.DELETE_FAILED
        op.reason = op.delete_failure or ""
    else:
        op.status, op.reason = op.life.status if op.life else Status.CREATE_IN_PROGRESS, _why(op)
        if op.is_update_awaited:
            op.status, op.reason = Status.UPDATE_IN_PROGRESS, ""
    op.reason = brief(op.reason, MAX_REASON)
    op.task = _task(op)


def _why(op: Operation) -> str:
    """Return the reason of a failure: every try and every refusal, as users of INDIGO know it from ``statusReason``."""
    if op.life is None:
        return ""
    if op.life.status is not Status.CREATE_FAILED:
        lost = f"lost at the provider: {', '.join(op.lost)}" if op.lost else ""
        refused = op.growth_refused if op.life.status is Status.UPDATE_FAILED else ()
        return "\n".join(filter(None, (op.life.reason, *map(_refusal, refused), lost)))
    lines = [op.life.reason]
    lines += [f"attempt {a.attempt} at {a.provider}: {a.reason}" for a in op.attempts if a.outcome is Outcome.FAILED]
    lines += [_refusal(reason) for reason in op.refused if reason.code != "FAILED"]
    return "\n".join(lines)


def _task(op: Operation) -> Task:
    match op.status:
        case Status.CREATE_IN_PROGRESS:
            is_placed = op.attempts and op.attempts[-1].outcome is not Outcome.FAILED
            return Task.DEPLOYER if is_placed else Task.BROKERING
        case Status.UPDATE_IN_PROGRESS | Status.DELETE_IN_PROGRESS:
            return Task.DEPLOYER
        case _:
            return Task.NONE


def _is_news(op: Operation, what: str, sequence: str) -> bool:
    """Note that *what* was said with *sequence*; return whether nothing newer was said before."""
    if sequence < op.seen.get(what, ""):
        return False
    op.seen[what] = sequence
    return True


def _placed(op: Operation, number: int, place: Place) -> Attempt:
    attempt = _attempt(op, number)
    attempt.provider, attempt.region = place.provider, place.region
    if number >= op.placed:
        op.place, op.placed = place, number
    return attempt


def _attempt(op: Operation, number: int) -> Attempt:
    """Return the attempt; the machines that are kept are those of the newest."""
    if number > op.building:
        op.building, op.machines, op.power = number, {}, {}
    for attempt in op.attempts:
        if attempt.attempt == number:
            return attempt
    made = Attempt(attempt=number)
    op.attempts = sorted((*op.attempts, made), key=lambda attempt: attempt.attempt)
    return made


def _refusal(reason: Reason) -> str:
    return f"{reason.provider} {reason.region}: {reason.code}: {reason.detail}"


def _bounded(reason: Reason) -> Reason:
    return reason.model_copy(update={"detail": brief(reason.detail)})


def _line(op: Operation, event: Event) -> tuple[str, str]:
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
        case orchestrator.NodeStopped():
            return f"{event.node} stopped", ""
        case orchestrator.NodeResumed():
            return f"{event.node} runs again", event.public_address
        case orchestrator.NodeActionFailed():
            return _line_of_failure(op.power.get(event.node, Power()), event)
        case orchestrator.NodeRemoved():
            return f"{event.node} removed", ""
        case _:
            return _line_of_all(event)


def _line_of_failure(power: Power, event: orchestrator.NodeActionFailed) -> tuple[str, str]:
    if power.action is None or power.asked != event.number:  # which one that was is not kept
        return f"{event.node}: action {event.number} failed", event.reason.detail
    done = {"start": "started", "stop": "stopped"}[power.action]
    return f"{event.node} could not be {done}", event.reason.detail


def _line_of_all(event: Event) -> tuple[str, str]:
    """Return title and detail of what concerns the deployment as a whole."""
    match event:
        case orchestrator.DeploymentRunning():
            return "Running", f"{len(event.nodes)} nodes"
        case orchestrator.DeploymentOutputsChanged():
            return "Outputs changed", ", ".join((*event.outputs, *event.secret_outputs))
        case orchestrator.DeploymentDegraded():
            return "Degraded", ", ".join(event.nodes)
        case orchestrator.DeploymentFailed():
            return "Failed", event.reason.detail
        case orchestrator.DeploymentUpdateFailed():
            return "Update failed", event.reason.detail
        case orchestrator.DeploymentDeleteFailed():
            return "Deletion failed", event.reason.detail
        case orchestrator.DeploymentDeleted():
            return "Deleted", "; ".join(event.debris)
        case _:
            return event.TYPE.split(".")[2].replace("-", " ").capitalize(), ""
