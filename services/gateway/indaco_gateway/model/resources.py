"""The machines of a deployment as INDIGO's resources: those that were asked for, and those that grew on."""

from dataclasses import dataclass
from datetime import datetime

from .operation import Machine, Operation, Outcome, Part, Status, resource_id
from .power import Power

COMPUTE = "tosca.nodes.indigo.Compute"
MAX_DIGITS = 10


@dataclass(frozen=True, slots=True)
class Resource:
    """One machine; *state* is one of INDIGO's node states, *failure* why it is not in that which was asked for last."""

    uuid: str
    node: str
    type: str
    state: str
    part: Part
    machine: Machine | None
    created_at: datetime | None
    updated_at: datetime | None
    failure: str = ""

    @property
    def physical_id(self) -> str:
        return self.machine.physical_id if self.machine else ""

    @property
    def public_address(self) -> str:
        return self.machine.public_address if self.machine else ""

    @property
    def tosca_node(self) -> str:
        return self.node.rpartition("-")[0]

    def is_a(self, type: str) -> bool:
        """Is *type* its type, or one that its type derives from?"""
        return type == self.type or type in self.part.ancestors


def resources(op: Operation) -> list[Resource]:
    """Return the machines of *op* in the order of the template, then of their names."""
    more = sorted(op.machines.keys() - set(op.nodes), key=_in_order)
    return [_resource(op, node, op.machines.get(node)) for node in (*op.nodes, *more)]


def _resource(op: Operation, node: str, machine: Machine | None) -> Resource:
    tosca = node.rpartition("-")[0]
    type, part = op.types.get(tosca, COMPUTE), op.parts.get(tosca, Part())
    created = machine.started_at if machine is not None and node not in op.nodes else op.created_at
    power = op.power.get(node, Power())
    times = [op.created_at] if machine is None else [created, machine.started_at, machine.stopped_at, power.since]
    return Resource(
        resource_id(op.id, node), node, type, _state(op, node, machine), part, machine, created,
        max(filter(None, times), default=None), power.failure,
    )  # fmt: skip


def _in_order(name: str) -> tuple[str, int, str]:
    kind, _, number = name.rpartition("-")
    return kind, int(number) if number.isdecimal() and len(number) < MAX_DIGITS else 0, number


def _state(op: Operation, node: str, machine: Machine | None) -> str:
    if op.deleted or (machine is not None and machine.stopped_at is not None):
        return "DELETED"
    match op.status:
        case Status.DELETE_IN_PROGRESS:
            return "DELETING"
        case Status.DELETE_FAILED | Status.CREATE_FAILED:
            return "ERROR"
        case _:
            return _state_in_life(op, node, machine)


def _state_in_life(op: Operation, node: str, machine: Machine | None) -> str:
    attempt = op.attempts[-1] if op.attempts else None
    if attempt is None or attempt.outcome is Outcome.FAILED:  # the next place is being looked for
        return "INITIAL" if machine is None else "DELETING"
    if machine is None:
        return "CREATING"
    is_left_over = op.status is Status.UPDATE_FAILED and node not in op.runs
    return "DELETING" if is_left_over else op.power.get(node, Power()).state
