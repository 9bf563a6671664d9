"""Machines that are started and stopped: what is wished of them, and what a turn has shown of it.

Of the wishes about one machine the one with the highest number counts, until it is met, refused or over its time: each way one event about
the machine bears its number. What is told of a machine that nobody asked for bears the number of the last wish that was answered.
"""

from collections.abc import Iterator
from datetime import datetime

from indaco_common.contracts import gateway, orchestrator
from indaco_common.contracts.values import Failure

from .deployment import Deployment
from .values import Findings, Moment, Node, Started, Status, Wish

POWERED = (Status.RUNNING, Status.UPDATING)  # in any other state what there is comes or goes


def request(d: Deployment, event: gateway.DeploymentActionRequested, at: Moment) -> None:
    """Remember what is wished of each machine that is here, and look at once; of any other it is refused."""
    for name in dict.fromkeys(event.nodes):
        node = next((node for node in _here(d) if node.name == name), None)
        if node is None:
            _refuse(d, name, event.number, _unfit(d))
        elif event.number > (node.wish.number if node.wish else node.answered):
            node.wish = Wish(action=event.action, number=event.number, since=at.now)
            d.due_at = max(at.now, d.claimed or at.now)


def expire(d: Deployment, at: Moment) -> None:
    """Give up what was wished for too long ago; it may come to pass even so, and is told then."""
    for node in _here(d):
        if node.wish is not None and at.passed(node.wish.since + at.timing.action):
            detail = f"the provider did not {node.wish.action} it in time"
            _give_up(d, node, Failure(code="action-timeout", detail=detail))


def apply(d: Deployment, found: Findings, at: Moment) -> bool:
    """Tell which machines stopped, run again, or cannot be made to; return whether one runs at another address or port than was known."""
    moved = moves(d, found)
    for node in _here(d):
        if node.name in found.stopped:
            _stands(d, node, at)
        elif (seen := found.started.get(node.name)) is not None:
            _runs(d, node, seen, at)
        number, failure = found.refused.get(node.name, (0, None))
        if failure is not None and node.wish is not None and node.wish.number == number:
            _give_up(d, node, failure)
    return moved


def moves(d: Deployment, found: Findings) -> bool:
    """Would these findings, applied to *d*, change an output of what runs already?"""
    return any(node.name in found.started and _where(found.started[node.name]) != _where(node) for node in _here(d))


def wished_at(d: Deployment) -> datetime | None:
    """When the newest wish that is neither met nor given up was heard."""
    return max((node.wish.since for node in _here(d) if node.wish is not None), default=None)


def _here(d: Deployment) -> Iterator[Node]:
    """The machines that may be started and stopped: not those that are being cleaned away."""
    names = d.spec | d.growth if d.status in POWERED else set()
    return (node for node in d.nodes if node.attempt == d.attempt and node.name in names)


def _unfit(d: Deployment) -> Failure:
    if d.status in POWERED:
        return Failure(code="no-such-node", detail="no machine of this name runs or stands")
    return Failure(code="wrong-state", detail=f"the deployment is {d.status}")


def _stands(d: Deployment, node: Node, at: Moment) -> None:
    is_met, is_new = _meet(node, "stop"), node.stopped_at is None
    node.stopped_at = node.stopped_at or max(at.now, node.started_at)
    if is_met or is_new:
        d.emit(
            orchestrator.NodeStopped(
                **d.about(node), run=node.run, number=node.answered, stopped_at=node.stopped_at
            )
        )  # fmt: skip


def _runs(d: Deployment, node: Node, seen: Started, at: Moment) -> None:
    """It runs: again, if it stood, or is elsewhere, which it can be only if it stopped between two looks."""
    is_met, is_again = _meet(node, "start"), node.stopped_at is not None or _where(seen) != _where(node)
    if not is_met and not is_again:
        return
    # A start of what never stopped is answered too, and no first run can be said to have been resumed.
    node.run = node.run + 1 if is_again else max(node.run, 2)
    node.stopped_at = None
    node.public_addresses, node.private_addresses = seen.public_addresses, seen.private_addresses
    node.ports, node.url = seen.ports, seen.url
    d.emit(
        orchestrator.NodeResumed(
            **d.about(node), run=node.run, number=node.answered, public_address=(*seen.public_addresses, "")[0],
            resumed_at=max(node.started_at, min(seen.started_at or at.now, at.now)),
        )
    )  # fmt: skip


def _where(machine: Node | Started) -> tuple[object, ...]:
    return machine.public_addresses, machine.private_addresses, machine.ports, machine.url


def _meet(node: Node, action: gateway.PowerAction) -> bool:
    """Take the wish for what is so by now as answered; return whether there was one."""
    if node.wish is None or node.wish.action != action:
        return False
    node.answered, node.wish = node.wish.number, None
    return True


def _give_up(d: Deployment, node: Node, failure: Failure) -> None:
    assert node.wish is not None
    node.answered, node.wish = node.wish.number, None
    _refuse(d, node.name, node.answered, failure)


def _refuse(d: Deployment, name: str, number: int, failure: Failure) -> None:
    d.emit(
        orchestrator.NodeActionFailed(
            deployment_id=d.deployment_id, attempt=max(1, d.attempt), node=name, number=number, reason=failure
        )
    )  # fmt: skip
