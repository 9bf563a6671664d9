"""The least change that makes the deployment of one plan that of another, told before it is done.

Machines are named ``<node>-<number>``, as the orchestrator names them; a number is never given twice. Who can carry a change
out is told and not assumed: the provider in place, a configurator on the running machine, or only whoever builds it anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from indaco_tosca.differences import Difference, Effect, NodeComparison, shown, size_text
from indaco_tosca.evaluate import EvaluationError, Evaluator
from indaco_tosca.model import Plan, PlanNode, SecretPlaceholder
from indaco_tosca.scalars import source_text
from indaco_tosca.tree import as_list

_NONE: Final[Mapping[str, object]] = MappingProxyType({})
_DIGITS: Final = 10  # of a machine's number, which is at most a few thousand
_MAX_NAMES: Final = 10  # machines of one node named in a line


class Action(StrEnum):
    """What is done for a node: the gravest of what its differences ask for."""

    UNCHANGED = "unchanged"
    SCALE_OUT = "scale out"
    SCALE_IN = "scale in"
    RECONFIGURE = "reconfigure"
    RESIZE = "resize"
    REPLACE = "replace"
    ADD = "add"
    REMOVE = "remove"


_ACTIONS: Final = {
    Effect.NOTHING: Action.UNCHANGED,
    Effect.IN_PLACE: Action.RECONFIGURE,
    Effect.CONFIGURE: Action.RECONFIGURE,
    Effect.RESIZE: Action.RESIZE,
    Effect.REBUILD: Action.REPLACE,
}
_GRAVITY: Final = {action: rank for rank, action in enumerate(Action)}


@dataclass(frozen=True, slots=True)
class NodeChange:
    """What happens to the machines of one node.

    ``new`` are to be made and ``gone`` to be taken away, in this order; ``action`` is done to each of those ``kept``. Only
    ``differences`` that machines are kept with have an effect; a machine made later has them from the start.
    """

    node: str
    action: Action
    kept: tuple[str, ...] = ()
    new: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    differences: tuple[Difference, ...] = ()

    @property
    def count(self) -> int:
        """How many machines there are afterwards."""
        return len(self.kept) + len(self.new)

    @property
    def needs_configurator(self) -> bool:
        """Whether something must be run on a machine that is kept as it is."""
        is_reconfigured = self.action is Action.RECONFIGURE
        return is_reconfigured and any(difference.effect is Effect.CONFIGURE for difference in self.differences)

    @property
    def is_empty(self) -> bool:
        return self.action is Action.UNCHANGED and not self.differences

    def summary(self) -> Iterator[str]:
        """Yield what is done, and below it why."""
        is_done_to_kept = _GRAVITY[Action.RECONFIGURE] <= _GRAVITY[self.action] and self.kept
        head = f"{self.node}: {self.action}" + (f" {_listed(self.kept)}" if is_done_to_kept else "")
        machines = (("makes", self.new), ("takes away", self.gone))
        yield ": ".join([head, *(f"{verb} {_listed(names)}" for verb, names in machines if names)])
        for difference in self.differences:
            effect = f" ({difference.effect})" if difference.effect is not Effect.NOTHING else ""
            yield f"  {difference.why}{effect}"


@dataclass(frozen=True, slots=True)
class Change:
    """The change from one plan to another.

    ``nodes`` has every node of both plans: those of the later one in its order, then those that go. ``totals`` is by how
    much the resources differ that are asked for; only what differs is in it. ``inputs``, ``outputs`` and ``placement`` tell
    what changed without asking for anything by itself.
    """

    nodes: tuple[NodeChange, ...]
    totals: Mapping[str, int]
    inputs: tuple[Difference, ...] = ()
    outputs: tuple[Difference, ...] = ()
    placement: tuple[Difference, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether the two plans say the same."""
        return not (self.inputs or self.outputs or self.placement) and all(node.is_empty for node in self.nodes)

    @property
    def touches_machines(self) -> bool:
        """Whether anything has to be done; outputs are resolved anew in any case."""
        return any(node.action is not Action.UNCHANGED for node in self.nodes)

    def summary(self) -> tuple[str, ...]:
        """Return the lines that a person is shown before it is done; one line that says so if there is nothing to do."""
        lines = [line for node in self.nodes if not node.is_empty for line in node.summary()]
        lines += [difference.why for difference in (*self.inputs, *self.outputs, *self.placement)]
        if self.totals:
            lines.append("in total: " + ", ".join(_amount(name, amount) for name, amount in self.totals.items()))
        if self.is_empty:
            return ("nothing changes",)
        return tuple(lines) if self.touches_machines else (*lines, "no machine is touched")


def change(
    before: Plan,
    after: Plan,
    *,
    existing: Mapping[str, Sequence[str]] = {},
    ids: Mapping[str, str] = {},
    numbered: Mapping[str, int] = {},
) -> Change:
    """Return the least change from ``before``, with which a deployment runs, to ``after``.

    ``existing`` has the names of the machines that there are for each node; a node that is not in it has those that
    ``before`` asks for. ``ids`` has the names of machines by other names, such as a provider's ids, that a removal list may
    use. ``numbered`` has for each node how many numbers were ever given, if more than ``existing`` shows.
    A secret that ``after`` does not have is the one that the deployment was made with; one that only ``after`` has counts
    as changed, for it cannot be compared.
    """
    comparison = NodeComparison(before, after)
    old = {node.name: node for node in before.nodes}
    new = {node.name: node for node in after.nodes}
    changes: list[NodeChange] = []
    for name in (*new, *(name for name in reversed(old) if name not in new)):
        count = old[name].count if name in old else 0
        names = tuple(existing.get(name) or (() if name in existing else _names(name, 0, count)))
        wanted = new[name].count if name in new else 0
        first = max(numbered.get(name, 0), 1 + max(map(_number, names), default=-1))
        listed = _removal_list(after, name, ids) if len(names) > wanted and name in new else []
        gone = _going(names, listed, len(names) - wanted)
        kept = tuple(machine for machine in names if machine not in gone)
        differences = comparison.of(old[name], new[name]) if name in old and name in new else ()
        found = NodeChange(name, Action.UNCHANGED, kept, _names(name, first, wanted - len(kept)), gone, differences)
        changes.append(_decided(found, old.get(name), new.get(name)))
    return Change(
        tuple(changes),
        _totals(before, after),
        tuple(_input_differences(before, after)),
        tuple(_output_differences(before, after)),
        tuple(_placement_differences(before, after)),
    )


def _decided(found: NodeChange, before: PlanNode | None, after: PlanNode | None) -> NodeChange:
    """Return a change with the action that the machines and the differences ask for, and why."""
    if before is None or after is None:
        action = Action.ADD if after else Action.REMOVE
        why = "it is new in the template" if after else "it is no longer in the template"
        return replace(found, action=action, differences=(Difference("name", why),))
    differences = found.differences
    if not found.kept:
        differences = tuple(replace(difference, effect=Effect.NOTHING) for difference in differences)
    actions = [_ACTIONS[difference.effect] for difference in differences]
    if found.new or found.gone:
        actions.append(Action.SCALE_OUT if found.new else Action.SCALE_IN)
        count = len(found.kept) + len(found.gone)
        differences = (Difference("count", f"machines: {count} -> {found.count}"), *differences)
    action = max(actions, key=_GRAVITY.__getitem__, default=Action.UNCHANGED)
    return replace(found, action=action, differences=differences)


# ── machines ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _names(node: str, first: int, count: int) -> tuple[str, ...]:
    return tuple(f"{node}-{number}" for number in range(first, first + count))


def _number(machine: str) -> int:
    number = machine.rpartition("-")[2]
    return int(number) if number.isdecimal() and len(number) < _DIGITS else -1


def _going(names: tuple[str, ...], listed: list[str], count: int) -> tuple[str, ...]:
    """Return which machines go: those that the template lists, then those with the highest numbers."""
    newest_first = sorted(names, key=_number, reverse=True)
    order = dict.fromkeys([*(name for name in listed if name in names), *newest_first])
    return tuple(order)[: max(0, count)]


def _removal_list(plan: Plan, node: str, ids: Mapping[str, str]) -> list[str]:
    """Return the names of the machines that the template wants to be taken away first."""
    evaluator = Evaluator(plan.template, plan.inputs)
    try:
        value, _ = evaluator.evaluate_property(plan.template.nodes[node], "removal_list", capability="scalable")
    except EvaluationError:
        return []  # reported when it was planned
    return [ids.get(text, text) for text in map(source_text, as_list(value))]


# ── what asks for nothing by itself ─────────────────────────────────────────────────────────────────────────────────


def _input_differences(before: Plan, after: Plan) -> Iterator[Difference]:
    secrets = before.secret_inputs | after.secret_inputs
    for name in {**before.inputs, **after.inputs}:
        old, new = before.inputs.get(name), after.inputs.get(name)
        is_held = isinstance(new, SecretPlaceholder) and name in before.inputs
        if old == new or is_held:
            continue
        told = "changed" if name in secrets else f"{shown(old)} -> {shown(new)}"
        yield Difference("inputs", f"input {name}: {told}")


def _output_differences(before: Plan, after: Plan) -> Iterator[Difference]:
    old, new = before.template.outputs, after.template.outputs
    for name in {**old, **new}:
        if name not in old or name not in new:
            yield Difference("outputs", f"output {name}: {'added' if name in new else 'taken away'}")
        elif old[name] != new[name]:
            yield Difference("outputs", f"output {name}: changed")


def _placement_differences(before: Plan, after: Plan) -> Iterator[Difference]:
    if before.placement != after.placement:
        why = "the wish for a place changed: what runs stays where it is, a new deployment would follow it"
        yield Difference("placement", why)


def _totals(before: Plan, after: Plan) -> Mapping[str, int]:
    old, new = before.totals, after.totals
    return {name: new[name] - amount for name, amount in old.items() if new[name] != amount}


_LABELS: Final = {
    "cpu_milli": "virtual CPUs", "memory_bytes": "memory", "disk_bytes": "disk", "gpus": "GPUs",
    "public_ips": "public addresses", "volume_bytes": "space on volumes",
}  # fmt: skip


def _amount(name: str, amount: int) -> str:
    sign, size = ("+" if amount > 0 else "-"), abs(amount)
    text = size_text(size) if name.endswith("_bytes") else shown(size / 1000 if name == "cpu_milli" else size)
    return f"{sign}{text} {_LABELS.get(name, name)}"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    return ", ".join(names[:_MAX_NAMES]) + more
