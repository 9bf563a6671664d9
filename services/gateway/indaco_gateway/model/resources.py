"""The machines of a deployment as INDIGO's resources: those that were asked for, and those that grew on."""

from dataclasses import dataclass
from datetime import datetime

from .operation import Machine, Operation, Outcome, Status, resource_id

COMPUTE = "tosca.nodes.indigo.Compute"
ANCESTORS = frozenset({"tosca.nodes.Compute", "tosca.nodes.Root"})


@dataclass(frozen=True, slots=True)
class Resource:
    """One machine; *state* is one of INDIGO's node states."""

    uuid: str
    node: str
    type: str
    state: str
    created_at: datetime | None
    updated_at: datetime | None
    physical_id: str = ""
    public_address: str = ""

    @property
    def tosca_node(self) -> str:
        return self.node.rpartition("-")[0]

    def is_a(self, type: str) -> bool:
        """Is *type* its type, or one that its type derives from? Every machine is a Compute node."""
        return type == self.type or type in ANCESTORS


def resources(op: Operation) -> list[Resource]:
    """Return the machines of *op* in the order of the template, then of their names."""
    more = sorted(op.machines.keys() - set(op.nodes))
    return [_resource(op, node, op.machines.get(node)) for node in (*op.nodes, *more)]


def _resource(op: Operation, node: str, machine: Machine | None) -> Resource:
    type, state = op.types.get(node.rpartition("-")[0], COMPUTE), _state(op, machine)
    created = machine.started_at if machine is not None and node not in op.nodes else op.created_at
    times = [op.created_at] if machine is None else [created, machine.started_at, machine.stopped_at]
    return Resource(
        resource_id(op.id, node), node, type, state, created, max(filter(None, times), default=None),
        machine.physical_id if machine else "", machine.public_address if machine else "",
    )  # fmt: skip


def _state(op: Operation, machine: Machine | None) -> str:
    if op.deleted or (machine is not None and machine.stopped_at is not None):
        return "DELETED"
    match op.status:
        case Status.DELETE_IN_PROGRESS:
            return "DELETING"
        case Status.DELETE_FAILED | Status.CREATE_FAILED:
            return "ERROR"
        case _:
            return _state_in_life(op, machine)


def _state_in_life(op: Operation, machine: Machine | None) -> str:
    attempt = op.attempts[-1] if op.attempts else None
    if attempt is None or attempt.outcome is Outcome.FAILED:  # the next place is being looked for
        return "INITIAL" if machine is None else "DELETING"
    return "CREATING" if machine is None else "STARTED"
