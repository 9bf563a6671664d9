"""Starting and stopping machines: what an action may be asked for of, and what it leaves in an :class:`Operation`."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from indaco_common.contracts.gateway import MAX_NODES, DeploymentActionRequested, PowerAction
from indaco_common.errors import FieldError, Invalid
from indaco_common.ids import DeploymentId

from .conflicts import WrongState
from .operation import Operation, brief
from .power import Power
from .resources import Resource, resources
from .updating import UPDATABLE

WANTED: dict[PowerAction, str] = {"start": "STOPPED", "stop": "STARTED"}  # action → the state that it is for
DONE: dict[PowerAction, frozenset[str]] = {
    "start": frozenset({"STARTED", "STARTING"}),
    "stop": frozenset({"STOPPED", "STOPPING"}),
}
ACTABLE = DONE["start"] | DONE["stop"]
MACHINE = "machine"
MAX_NAMES = 50  # that are told of


def named(name: str) -> PowerAction | None:
    return next((action for action in WANTED if action == name), None)


def require_actable(op: Operation) -> None:
    """Raises: Locked; WrongState."""
    op.require_unlocked()
    if op.status not in UPDATABLE:
        raise WrongState(f"Cannot perform actions on deployment in {op.status} state")


def require_fitting(resource: Resource, action: PowerAction) -> None:
    """Be as strict as INDIGO: *action* must have something to change. Raises: Invalid."""
    if resource.part.kind != MACHINE:
        raise Invalid(_no_machine(resource, action))
    if resource.state != WANTED[action]:
        raise Invalid(f"Cannot {action} a resource in {resource.state} state; it must be {WANTED[action]}")


def chosen(op: Operation, action: PowerAction, names: Sequence[str] | None) -> list[Resource]:
    """Return the machines that *names* are names or ids of, each once; None: all that can be started and stopped.

    Raises: Invalid, with what is wrong with each name; WrongState, for a machine that is on its way in or out.
    """
    known = resources(op)
    if names is None:
        return [each for each in known if each.part.kind == MACHINE and each.state in ACTABLE]
    by_name = {name: each for each in known for name in (each.node, each.uuid)}
    if wrong := list(_wrong(names, by_name, action)):
        raise Invalid("Some of the resources are no machines of this deployment", errors=wrong)
    found = {by_name[name].node: by_name[name] for name in names}
    for each in found.values():
        if each.state not in ACTABLE:
            raise WrongState(f"Cannot {action} {each.node}: it is {each.state}")
    return list(found.values())


def act(op: Operation, action: PowerAction, machines: Iterable[Resource], now: datetime) -> bool:
    """Ask for *action* on those of *machines* that are not so, nor asked to be so; return whether there are any."""
    nodes = tuple(each.node for each in machines if each.state not in DONE[action])
    for first in range(0, len(nodes), MAX_NODES):
        _ask(op, action, nodes[first : first + MAX_NODES])
    if nodes:
        op.updated_at = now
        title = f"{action.capitalize()} requested"
        op.note(now, "gateway.deployment.action-requested", title, ", ".join(nodes))
    return bool(nodes)


def _ask(op: Operation, action: PowerAction, nodes: tuple[str, ...]) -> None:
    op.actions += 1
    for node in nodes:
        op.power.setdefault(node, Power()).ask(op.actions, action)
    op.emit(DeploymentActionRequested(deployment_id=DeploymentId(op.id), number=op.actions, action=action, nodes=nodes))


def _wrong(names: Sequence[str], known: dict[str, Resource], action: PowerAction) -> Iterable[FieldError]:
    machines = [each.node for name, each in known.items() if name == each.node and each.part.kind == MACHINE]
    there_are = brief(", ".join(machines[:MAX_NAMES]) or "none")
    for index, name in enumerate(names):
        if name not in known:
            yield FieldError(f"/resources/{index}", f"{name!r} is not there; there are: {there_are}")
        elif known[name].part.kind != MACHINE:
            yield FieldError(f"/resources/{index}", _no_machine(known[name], action))


def _no_machine(resource: Resource, action: PowerAction) -> str:
    return f"Cannot {action} a resource of the type {resource.type}; it is no machine"
