"""A deployment's timer, in two saves: a claim before a turn of calls to sites, and what the turn has shown, after.

Between the two anything may happen to the deployment; :func:`apply` fits the findings to the state as it is by then. A call whose
effect is uncertain has no findings: its claim lapses, and the next turn looks again.
"""

from datetime import datetime

from indaco_common.contracts import orchestrator
from indaco_common.contracts.values import MAIN, Failure

from . import power
from .deployment import Deployment
from .values import Debris, Findings, Moment, Node, Status

ACTIVE = {Status.CREATING, Status.RUNNING, Status.UPDATING}


def claim(d: Deployment, at: Moment) -> bool:
    """Take the turn, unless a deadline decides without one; return whether there is something to call a site for."""
    _meet_deadlines(d, at)
    power.expire(d, at)
    _give_up(d, at)
    if d.building():
        d.create_sent = True
        if d.alive_at is None or at.now - d.alive_at >= at.timing.alive:
            d.alive_at = at.now
            d.emit(orchestrator.AttemptAlive(deployment_id=d.deployment_id, attempt=d.attempt))
    if d.status not in ACTIVE and not d.debris:
        d.claimed = None
        d.due_at = _wake_at(d, at)
        return False
    d.due_at = d.claimed = at.now + at.timing.claim
    return True


def _meet_deadlines(d: Deployment, at: Moment) -> None:
    if at.passed(d.give_up_at) and d.status in (Status.AWAITING_PLACE, Status.AWAITING_CREDENTIAL, Status.CREATING):
        failure = Failure(code="timeout", detail="Timeout: Maximum execution time exceeded.")
        if d.status is not Status.AWAITING_PLACE:
            d.fail_attempt(failure, at)
        d.fail(failure, at)
        return
    late = d.status is Status.CREATING and _silent_for(d, at)
    if not late and not at.passed(d.deadline):
        return
    match d.status:
        case Status.AWAITING_PLACE:
            d.fail(Failure(code="no-answer", detail="sla named no place in time"), at)
        case Status.AWAITING_CREDENTIAL:
            d.fail_attempt(Failure(code="no-credential", detail="the vault broker issued no credential in time"), at)
        case Status.CREATING if late:
            d.fail_attempt(Failure(code="unreachable", detail="the provider does not answer"), at)
        case Status.CREATING:
            d.fail_attempt(Failure(code="provider-timeout", detail="the provider did not build it in time"), at)
        case Status.UPDATING:
            d.fail_update(Failure(code="provider-timeout", detail="the update did not end in time"), at)
        case _:
            pass


def _silent_for(d: Deployment, at: Moment) -> bool:
    return d.reached_at is not None and at.passed(d.reached_at + at.timing.unreachable)


def _give_up(d: Deployment, at: Moment) -> None:
    """Report debris that resists; where its owner forces the deletion, name it for the operator and forget it."""
    if d.present:
        return
    for debris in list(d.debris):
        if d.forced and at.now - debris.since >= at.timing.force:
            names = sorted(name for name in debris.nodes)
            d.given_up += [f"{debris.place.provider}: {d.id}.{debris.attempt}.{name}" for name in names]
            _swept(d, debris, at)
        elif not debris.reported and at.now - debris.since >= at.timing.delete:
            debris.reported = True
            reason = Failure(code="delete-failed", detail=f"{debris.place.provider} has not removed it yet; trying on")
            d.emit(orchestrator.DeploymentDeleteFailed(deployment_id=d.deployment_id, reason=reason))
    if not d.debris and d.status is Status.CLEANING:
        d.end(at)


def apply(d: Deployment, found: Findings, at: Moment) -> None:
    """Fit what a turn has shown to the state as it is now.

    A turn that outlived its claim tells nothing: another may have looked since, and have made anew what this one saw and what was lost.
    """
    if found.token != d.claimed:
        return
    current = found.attempt == d.attempt and d.status in ACTIVE
    d.claimed = None
    d.due_at = _next_look(d, at)
    for attempt in sorted(found.rejected):
        _issue_again(d, attempt)
    for debris in list(d.debris):
        if (debris.attempt, debris.slot) in found.swept:
            debris.quiet = debris.quiet + 1 if found.swept[debris.attempt, debris.slot] else 0
            if debris.quiet >= 2:  # noqa: PLR2004 - one look may come before a late machine shows
                _swept(d, debris, at)
    if current:
        _apply_here(d, found, at)
    if not d.debris and d.status is Status.CLEANING:
        d.end(at)


def _next_look(d: Deployment, at: Moment) -> datetime | None:
    """Often while something is under way, seldom while all is well; with the age of the state ever more seldom."""
    wished_at = power.wished_at(d)
    began = max(filter(None, (d.entered_at, wished_at)), default=at.now)
    poll = min(at.timing.poll_max, max(at.timing.poll, (at.now - began) / 10))
    match d.status:
        case Status.CREATING | Status.UPDATING | Status.CLEANING:
            return at.now + poll
        case Status.RUNNING:
            return at.now + (poll if d.debris or wished_at else at.timing.watch)
        case _ if d.debris:
            return at.now + poll
        case Status.AWAITING_PLACE | Status.AWAITING_CREDENTIAL:
            return _wake_at(d, at)
        case _:
            return None


def _wake_at(d: Deployment, at: Moment) -> datetime | None:
    """When an answer that is awaited is late; a deadline that has passed and may be our own outage is looked at again soon."""
    deadline = d.waits_until()
    return None if deadline is None else max(deadline, at.now + at.timing.poll)


def _issue_again(d: Deployment, attempt: int) -> None:
    if attempt not in d.serial or attempt in d.pending:
        return
    place = next((debris.place for debris in d.debris if debris.attempt == attempt), d.place)
    if place is not None:
        d.issue(attempt, place)


def _swept(d: Deployment, debris: Debris, at: Moment) -> None:
    """Nothing is left of it: say so, free its hold, give its credential back."""
    d.debris.remove(debris)
    whole = debris.slot == MAIN
    for name in sorted(debris.nodes):
        d.remove_node(debris.attempt, name, at.now)
    gone = [r for r, use in d.taken.items() if use.attempt == debris.attempt and (whole or use.slot == debris.slot)]
    for rid in gone:
        del d.taken[rid]
    if whole:
        d.revoke(debris.attempt)
    slot = None if whole else debris.slot
    d.emit(orchestrator.AttemptCleaned(deployment_id=d.deployment_id, attempt=debris.attempt, slot=slot))


def _apply_here(d: Deployment, found: Findings, at: Moment) -> None:
    """What was seen at the current place: what stopped or runs again, losses, then progress."""
    d.create_sent = d.create_sent or found.sent
    d.reached_at = at.now if found.reached else d.reached_at
    has_moved = power.apply(d, found, at)
    if not _apply_losses(d, found, at):
        return
    if has_moved and found.outputs is not None:
        d.emit(
            orchestrator.DeploymentOutputsChanged(
                deployment_id=d.deployment_id, attempt=d.attempt, outputs=found.outputs,
                secret_outputs=found.secret_outputs,
            )
        )  # fmt: skip
    if d.building() and found.slot == d.slot:
        _apply_progress(d, found, at)
    if d.status is Status.RUNNING and found.samples:
        _apply_samples(d, found, at)


def _apply_losses(d: Deployment, found: Findings, at: Moment) -> bool:
    """Machines that ran and are gone; return whether the attempt goes on."""
    lost = {name for name in found.gone if d.here(name)}
    if not lost:
        return True
    for name in sorted(lost):
        d.remove_node(d.attempt, name, at.now)
    failure = Failure(code="node-lost", detail=f"gone at the provider: {', '.join(sorted(lost))}")
    if d.status is Status.CREATING:
        d.fail_attempt(failure, at)
        return False
    d.spec -= lost
    if not d.spec:
        d.leave(at)
        d.fail(failure, at)
        return False
    d.emit(orchestrator.DeploymentDegraded(deployment_id=d.deployment_id, attempt=d.attempt, nodes=tuple(sorted(lost))))
    if lost & d.growth and d.status is Status.UPDATING:
        d.fail_update(failure, at)
    return True


def _apply_progress(d: Deployment, found: Findings, at: Moment) -> None:
    """Machines that run now; when all do, so does the deployment."""
    assert d.place is not None
    for name, seen in sorted(found.started.items()):
        if d.here(name):
            continue
        placed = d.placed[name]
        node = Node(
            attempt=d.attempt, name=name, place=d.place, needs=placed.needs, image=placed.image, resource_id=seen.resource_id,
            public_addresses=seen.public_addresses, private_addresses=seen.private_addresses, ports=seen.ports, url=seen.url,
            started_at=min(seen.started_at or at.now, at.now),
        )  # fmt: skip
        d.nodes.append(node)
        address = (*seen.public_addresses, "")[0]
        d.emit(orchestrator.NodeStarted(**d.about(node), public_address=address))
    if found.failure is not None:
        if d.status is Status.CREATING:
            d.fail_attempt(found.failure, at)
        else:
            d.fail_update(found.failure, at)
    elif all(d.here(name) for name in d.spec | d.growth):
        done, d.spec, d.growth, d.slot = d.slot or MAIN, d.spec | d.growth, set(), ""
        d.enter(Status.RUNNING, at)
        d.due_at = at.now + (at.timing.poll if power.wished_at(d) else at.timing.watch)
        d.emit_running(slots=(done,), outputs=found.outputs or {}, secret_outputs=found.secret_outputs)


def _apply_samples(d: Deployment, found: Findings, at: Moment) -> None:
    """Cumulative use of each machine, for accounting."""
    d.sampled_at = at.now
    for name, sample in sorted(found.samples.items()):
        if (node := d.here(name)) is not None:
            d.emit(
                orchestrator.UsageSampled(
                    **d.about(node), sampled_at=at.now, cpu_s=sample.cpu_s,
                    network_in_bytes=sample.network_in_bytes, network_out_bytes=sample.network_out_bytes,
                )
            )  # fmt: skip


def wants_samples(d: Deployment, at: Moment) -> bool:
    return d.status is Status.RUNNING and (d.sampled_at is None or at.now - d.sampled_at >= at.timing.sample)


def outputs_due(d: Deployment, found: Findings) -> bool:
    """Would these findings, applied to *d* as it was claimed, make it run, or move what runs?"""
    return power.moves(d, found) or (
        d.building()
        and found.failure is None
        and not found.gone
        and all(d.here(name) or name in found.started for name in d.spec | d.growth)
    )
