"""Updates: which can be carried out, what is told of those that cannot, and what an accepted one leaves in an :class:`Operation`.

The orchestrator can add machines of a kind that runs already, and nothing else yet. So an update is taken if that is all that its
plan differs by, and refused as a whole otherwise: with every change, and why it is not offered.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

import indaco_tosca
from indaco_common.contracts.gateway import DeploymentUpdateRequested
from indaco_common.errors import FieldError, Invalid
from indaco_tosca.update import Action, Change, NodeChange, change

from .conflicts import WrongState
from .operation import Operation, Part, Status, Task, brief

UPDATABLE = frozenset({Status.CREATE_COMPLETE, Status.UPDATE_COMPLETE, Status.UPDATE_FAILED})
MAX_LINES = 50
MAX_LINE = 400  # characters
NOT_OFFERED = {
    Action.SCALE_IN: "what runs cannot be taken away yet",
    Action.RECONFIGURE: "what runs cannot be configured anew yet",
    Action.RESIZE: "what runs cannot be made larger or smaller yet",
    Action.REPLACE: "what runs cannot be built anew yet",
    Action.ADD: "a kind of machine that does not run yet cannot be added",
    Action.REMOVE: "what runs cannot be taken away yet",
}


class UpdateRefused(Invalid):
    """Something of the update is not offered; nothing of it is done."""

    status, code, title = 422, "update-refused", "The update cannot be carried out"

    def __init__(self, refused: Iterable[str], others: Iterable[str]) -> None:
        lines = [*refused, *(f"{line} - this alone would be done" for line in others)]
        errors = [FieldError("/template", brief(line, MAX_LINE)) for line in lines[:MAX_LINES]]
        super().__init__("Only machines of a kind that runs can be added; nothing was changed", errors=errors)


@dataclass(frozen=True, slots=True)
class Revised:
    """What an update asks for, ready to be saved; *template* and *inputs* are digests of blobs."""

    event: DeploymentUpdateRequested
    template: str
    inputs: str
    types: Mapping[str, str]
    parts: Mapping[str, Part]
    warnings: tuple[str, ...]
    summary: str


def require_updatable(op: Operation) -> None:
    """Raises: Locked; WrongState."""
    op.require_unlocked()
    if op.status not in UPDATABLE:
        raise WrongState(f"Cannot update a deployment in {op.status} state")
    if not op.parts:
        raise WrongState("Its inputs were not kept when it was accepted; delete it and create another")


def judged(op: Operation, before: indaco_tosca.Plan, after: indaco_tosca.Plan, stored: Collection[str]) -> Change:
    """Return the change from *before*, with which *op* runs, to *after*; *stored* names its inputs that are kept openly.

    Raises: UpdateRefused, unless it is made of growth alone, or of nothing.
    """
    found = change(before, after, existing=_machines(op, before))
    refused = [*_secrets(op, before, after, stored), *_nodes(op, found)]
    if not found.touches_machines:
        refused += _outputs(before, after)
    if refused:
        raise UpdateRefused(refused, (_line(node) for node in found.nodes if _is_growth(op, node)))
    return found


def ask(op: Operation, revised: Revised, callback: str | None, now: datetime) -> None:
    """Put the update on its way. Raises: Locked; WrongState."""
    require_updatable(op)
    op.updates, op.awaited, op.growth_refused = revised.event.update, op.seen.get("life", ""), ()
    op.template, op.inputs, op.imports = revised.template, revised.inputs, revised.event.imports
    op.types, op.parts, op.warnings = dict(revised.types), dict(revised.parts), revised.warnings
    op.callback = callback or op.callback
    op.status, op.task, op.reason, op.updated_at = Status.UPDATE_IN_PROGRESS, Task.DEPLOYER, "", now
    op.note(now, "gateway.deployment.update-requested", f"Update {op.updates} requested", revised.summary)
    op.emit(revised.event)


# ── what is not offered


def _nodes(op: Operation, found: Change) -> Iterator[str]:
    for node in found.nodes:
        if node.action is Action.SCALE_OUT and not _is_growth(op, node):
            yield f"{_line(node)} - {NOT_OFFERED[Action.ADD]}"
        elif why := NOT_OFFERED.get(node.action):
            yield f"{_line(node)} - {why}"


def _is_growth(op: Operation, node: NodeChange) -> bool:
    """Are there to be more of a kind that a place was chosen for?"""
    return node.action is Action.SCALE_OUT and any(name.rpartition("-")[0] == node.node for name in op.nodes)


def _line(node: NodeChange) -> str:
    """Return one sentence for the machines of a node: what is done, and why."""
    head, *why = (line.strip() for line in node.summary())
    return f"{head}: {'; '.join(why)}" if why else head


def _secrets(
    op: Operation, before: indaco_tosca.Plan, after: indaco_tosca.Plan, stored: Collection[str]
) -> Iterator[str]:
    """Yield what would change of secret inputs: machines that run keep what they were made with, so that new ones must have it too."""
    held = set(op.secret_inputs)
    for name in sorted(held - after.secret_inputs):
        yield f"input {name}: the template would no longer have it as a secret - its value was given as one"
    for name in sorted(after.secret_inputs):
        if name in stored and name not in held:
            yield f"input {name}: it would be a secret - its value was not given as one"
        elif before.inputs.get(name) != after.inputs.get(name):
            yield f"input {name}: another value - those of secrets cannot be changed"


def _outputs(before: indaco_tosca.Plan, after: indaco_tosca.Plan) -> Iterator[str]:
    """Yield outputs that would be others, where nothing is made: only then are they resolved anew."""
    old, new = (indaco_tosca.outputs(plan, _stand_ins(plan)) for plan in (before, after))
    definitions = before.template.outputs, after.template.outputs
    for name in {**old, **new}:
        if old.get(name) != new.get(name) or definitions[0].get(name) != definitions[1].get(name):
            yield f"output {name}: changed - outputs are resolved anew only when machines are added"


def _stand_ins(plan: indaco_tosca.Plan) -> dict[str, dict[str, object]]:
    """Return attributes as machines have them, the same for both plans, so that what depends on them can be compared."""
    account = {"user": "user", "token": "token", "token_type": "public_key"}
    addresses = {"public_address": ["192.0.2.1"], "private_address": ["192.0.2.2"]}
    found: dict[str, dict[str, object]] = {}
    for node in plan.nodes:
        names = {
            "ssh": 22,
            **{str(rule.port): rule.port for rule in node.ports},
            **{r.name: r.port for r in node.ports},
        }
        ports = {name: {"source": port, "target": port} for name, port in names.items()}
        found[node.name] = {**addresses, "tosca_id": node.name, "endpoint": {"credential": [account], "ports": ports}}
    return found


def _machines(op: Operation, before: indaco_tosca.Plan) -> dict[str, list[str]]:
    """Return the names of what runs, by TOSCA node."""
    found: dict[str, list[str]] = {node.name: [] for node in before.nodes}
    for name in op.runs:
        if name not in op.lost:
            found.setdefault(name.rpartition("-")[0], []).append(name)
    return found
