"""How two plans of the same group of machines differ: which field, from what to what, and what that asks for.

A value that depends on a secret is never shown, only that it changed. A secret that the later plan does not have is the
one that the deployment was made with: it is held elsewhere, and compares as equal to itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import Final

from indaco_tosca.evaluate import EvaluationError, Evaluator, unknown_in
from indaco_tosca.model import (
    Configurator,
    Kind,
    Plan,
    PlanNode,
    PortRule,
    Software,
    Volume,
)
from indaco_tosca.scalars import source_text
from indaco_tosca.tree import as_map

_ANOTHER_BUCKET: Final = frozenset({"type", "bucket_name", "s3_url"})
"""What says which bucket it is; the rest are settings of it."""
_MAX_SHOWN: Final = 60  # characters of a value
_MAX_PARTS: Final = 10  # of a map or list, told one by one
_UNITS: Final = tuple(
    (base**power, letter + infix)
    for power, letter in ((4, "T"), (3, "G"), (2, "M"), (1, "k"))
    for base, infix in ((1000, "B"), (1024, "iB"))
)


class Effect(StrEnum):
    """What a difference asks for, on a machine that runs; the gravest last."""

    NOTHING = "nothing"
    IN_PLACE = "in place by the provider"
    CONFIGURE = "by a configurator on the machine"
    RESIZE = "another size: built anew, unless the provider can resize"
    REBUILD = "built anew"


@dataclass(frozen=True, slots=True)
class Difference:
    """One field of a plan that changes; ``why`` is a sentence with the old and the new value, without secrets."""

    field: str
    why: str
    effect: Effect = Effect.NOTHING


@dataclass(frozen=True, slots=True)
class _Rule:
    """How a field of a node is read for comparing and telling: as a single value, or as named parts."""

    label: str
    effect: Effect
    read: Callable[[PlanNode], object]


def size_text(size: int) -> str:
    """Return bytes in the largest unit that gives a whole number: 2000000000 is 2 GB, 2147483648 is 2 GiB."""
    fitting = ((size // unit, name) for unit, name in _UNITS if size and size % unit == 0)
    amount, name = min(fitting, default=(size, "B"))
    return f"{amount} {name}"


def _port_texts(rules: tuple[PortRule, ...]) -> dict[str, object]:
    """Return openings by what they open; their names are for people."""
    spans = ((rule, f"{rule.port}" if rule.port == rule.port_end else f"{rule.port}-{rule.port_end}") for rule in rules)
    return dict.fromkeys((f"{rule.protocol} {span} from {rule.remote_cidr}" for rule, span in spans), "")


def _volume_texts(volumes: tuple[Volume, ...]) -> dict[str, object]:
    """Return how many volumes there are of each kind."""
    return dict(Counter(_volume_text(volume) for volume in volumes))


def _volume_text(volume: Volume) -> str:
    parts = (
        size_text(volume.size_bytes) if volume.size_bytes else "",
        volume.type,
        f"the volume {volume.volume_id}" if volume.volume_id else "",
        f"from the snapshot {volume.snapshot_id}" if volume.snapshot_id else "",
        f"at {volume.mount}" if volume.mount else "",
        f"as {volume.device}" if volume.device else "",
        volume.fs_type,
    )
    return " ".join(part for part in parts if part)


@dataclass(frozen=True, slots=True)
class _Hidden:
    """What is compared but not shown: keys of accounts are long and of no use to a reader."""

    content: object


def _accounts(node: PlanNode) -> dict[str, object]:
    """Return what is wanted of each account, by its name."""
    found: dict[str, list[object]] = {}
    for user in node.users:
        found.setdefault(source_text(user.get("os_user_name")), []).append(dict(user))
    return {name: _Hidden(wanted) for name, wanted in found.items()}


RULES: Final = {
    "kind": _Rule("kind", Effect.REBUILD, lambda node: node.kind),
    "image": _Rule("image", Effect.REBUILD, lambda node: node.image),
    "volumes": _Rule("volumes", Effect.REBUILD, lambda node: _volume_texts(node.volumes)),
    "public_ip": _Rule("public address", Effect.REBUILD, lambda node: node.public_ip),
    "private_ip": _Rule("private address", Effect.REBUILD, lambda node: node.private_ip),
    "instance_type": _Rule("flavor", Effect.RESIZE, lambda node: node.instance_type),
    "cpu_milli": _Rule("virtual CPUs", Effect.RESIZE, lambda node: node.cpu_milli / 1000),
    "memory_bytes": _Rule("memory", Effect.RESIZE, lambda node: size_text(node.memory_bytes)),
    "disk_bytes": _Rule("disk", Effect.RESIZE, lambda node: size_text(node.disk_bytes)),
    "gpus": _Rule("GPUs", Effect.RESIZE, lambda node: node.gpus),
    "gpu_vendor": _Rule("GPU vendor", Effect.RESIZE, lambda node: node.gpu_vendor),
    "gpu_model": _Rule("GPU model", Effect.RESIZE, lambda node: node.gpu_model),
    "type": _Rule("type", Effect.CONFIGURE, lambda node: node.type),
    "users": _Rule("accounts", Effect.CONFIGURE, _accounts),
    "ports": _Rule("ports", Effect.IN_PLACE, lambda node: _port_texts(node.ports)),
    "dns_name": _Rule("DNS name", Effect.IN_PLACE, lambda node: node.dns_name),
    "tags": _Rule("tags", Effect.IN_PLACE, lambda node: node.tags),
}
"""The fields of a node that are compared by themselves."""
COMPARED_APART: Final = frozenset({"name", "count", "software", "user_data", "secrets", "is_late"})
ORDER_ONLY: Final = frozenset({"dependencies", "level"})
"""Fields that say when a machine is made; one that is there is not touched by them."""


class NodeComparison:
    """Compares the nodes of two plans by name."""

    def __init__(self, before: Plan, after: Plan) -> None:
        self._plans = before, after
        self._evaluators = (
            _marked(before, before.absent_secrets | after.absent_secrets),
            _marked(after, after.absent_secrets),
        )

    def of(self, before: PlanNode, after: PlanNode) -> tuple[Difference, ...]:
        """Return how two nodes of one name differ, but for their count."""
        found = [
            Difference(name, f"{rule.label}: {told}", _effect_on(after.kind, rule.effect))
            for name, rule in RULES.items()
            if (told := _told(rule.read(before), rule.read(after)))
        ]
        found += self._software(before, after)
        found += self._written(after)
        found += self._interfaces(after)
        is_explained = any(difference.field in {"software", "volumes"} for difference in found)
        if not is_explained and not self._waits(before, after) and before.user_data != after.user_data:
            found.append(Difference("user_data", "the script of the first boot changed", Effect.CONFIGURE))
        return tuple(found)

    def _waits(self, before: PlanNode, after: PlanNode) -> bool:
        """Return whether the script of the first boot is not known on one of the sides."""
        absent = self._plans[0].absent_secrets | self._plans[1].absent_secrets
        return before.is_late or after.is_late or bool((before.secrets | after.secrets) & absent)

    def _written(self, node: PlanNode) -> Iterator[Difference]:
        """Yield what differs in what a configurator is given: roles, and operations with their inputs."""
        names = [
            name
            for name in self._plans[1].template.nodes
            if self._evaluators[1].topology.planned_for(name) == node.name
        ]
        for name in names:
            raw = [_raw_node(plan, name) for plan in self._plans]
            for key in ("artifacts", "interfaces"):
                if raw[0] and raw[0].get(key) != raw[1].get(key):
                    yield Difference(key, f"{name}: {key}: changed", _effect_on(node.kind, Effect.CONFIGURE))

    def _interfaces(self, node: PlanNode) -> Iterator[Difference]:
        """Yield what differs in the network interfaces that the template binds to a machine, and in their networks."""
        sides = []
        for evaluator in self._evaluators:
            bound = evaluator.topology.ports_of(node.name) if node.name in evaluator.template.nodes else []
            parts = [part for pair in bound for part in pair if part is not None]
            sides.append(
                {part.name: {key: _evaluated(evaluator, part.name, key) for key in part.properties} for part in parts}
            )
        for name in {**sides[0], **sides[1]}:
            if sides[0].get(name) != sides[1].get(name):
                yield Difference("network", f"{name}: changed", Effect.REBUILD)

    def _software(self, before: PlanNode, after: PlanNode) -> Iterator[Difference]:
        old, new = ({item.node: item for item in node.software} for node in (before, after))
        is_secret = bool(before.secrets | after.secrets)
        for name in {**old, **new}:
            if name not in new:
                yield Difference("software", f"{name} ({old[name].type}) is taken away", Effect.CONFIGURE)
            elif name not in old:
                yield Difference("software", f"{name} ({new[name].type}) is added", Effect.CONFIGURE)
            else:
                for key, told in self._component(old[name], new[name], is_secret=is_secret):
                    effect = _effect_of(after.kind, {old[name].by, new[name].by}, key)
                    yield Difference("software", f"{name}: {key}: {told}", effect)

    def _component(self, old: Software, new: Software, *, is_secret: bool) -> Iterator[tuple[str, str]]:
        """Yield what differs between two components of one name, with how."""
        if old.type != new.type:
            yield "type", _told(old.type, new.type)
        for name in {**old.properties, **new.properties}:
            values = old.properties.get(name), new.properties.get(name)
            if self._is_other(new.node, name, values):
                is_open = not is_secret and not any(isinstance(value, dict | list) for value in values)
                yield name, (_told(*values) if is_open else "") or "changed"

    def _is_other(self, node: str, name: str, values: tuple[object, object]) -> bool:
        """Return whether a property changed; one that is not known is compared by how it is made."""
        if not any(unknown_in(value) for value in values):
            return values[0] != values[1]
        raw = [plan.template.nodes[node].properties.get(name) for plan in self._plans]
        return raw[0] != raw[1] or _evaluated(self._evaluators[0], node, name) != _evaluated(
            self._evaluators[1], node, name
        )


def _effect_on(kind: Kind, effect: Effect) -> Effect:
    """Return what a difference asks for where there is no machine: nobody can configure a container from inside."""
    is_fixed = kind is Kind.CONTAINER and effect is Effect.IN_PLACE
    is_inside = kind is not Kind.MACHINE and effect is Effect.CONFIGURE
    return Effect.REBUILD if is_fixed or is_inside else effect


def _effect_of(kind: Kind, by: set[Configurator], name: str) -> Effect:
    """Return what a property of a component asks for, or one of a container or bucket, which is its own component."""
    if kind is Kind.BUCKET:
        return Effect.REBUILD if name in _ANOTHER_BUCKET else Effect.IN_PLACE
    if kind is Kind.CONTAINER:
        return Effect.REBUILD
    return Effect.NOTHING if by == {Configurator.NONE} else Effect.CONFIGURE


def _marked(plan: Plan, held: frozenset[str]) -> Evaluator:
    """Return an evaluator in which each secret that is held elsewhere is a mark of its name."""
    marks = {name: f"\0{name}" for name in held if name in plan.inputs}
    return Evaluator(plan.template, {**plan.inputs, **marks})


def _raw_node(plan: Plan, name: str) -> Mapping[str, object]:
    topology = as_map(as_map(plan.template.document.value).get("topology_template"))
    return as_map(as_map(topology.get("node_templates")).get(name))


def _evaluated(evaluator: Evaluator, node: str, name: str) -> object:
    try:
        return evaluator.evaluate_property(evaluator.template.nodes[node], name)[0]
    except EvaluationError as error:
        return str(error)


def _told(before: object, after: object) -> str:
    """Return in words how a value changes, or nothing if it does not."""
    if before == after:
        return ""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        parts = [part for name in {**before, **after} if (part := _part_told(name, before, after))]
        more = f", and {len(parts) - _MAX_PARTS} more" if len(parts) > _MAX_PARTS else ""
        return ", ".join(islice(parts, _MAX_PARTS)) + more
    return f"{shown(before)} -> {shown(after)}"


def _part_told(name: str, before: Mapping[str, object], after: Mapping[str, object]) -> str:
    old, new = before.get(name), after.get(name)
    if old == new and (name in before) == (name in after):
        return ""
    if name not in before or name not in after:
        value = old if name in before else new
        content = "" if value == "" or isinstance(value, _Hidden | int) else f" {shown(value)}"
        return f"{'without' if name in before else 'with'} {shown(name)}{content}"
    is_hidden = isinstance(old, _Hidden)
    return f"{shown(name)} changed" if is_hidden else f"{shown(name)} {shown(old)} -> {shown(new)}"


def shown(value: object) -> str:
    """Return a value as a short text of one line."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = " ".join((source_text(value) if not isinstance(value, dict | list) else str(value)).split())
    return (text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "...") or "nothing"
