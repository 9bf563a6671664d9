"""Check what functions refer to, and put nodes in the order in which they must be deployed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from indaco_tosca.functions import ENTITIES, calls_in
from indaco_tosca.model import Input, Node
from indaco_tosca.positions import Path
from indaco_tosca.report import MAX_PROBLEMS, Report, known
from indaco_tosca.tree import as_list

_SHOWN_STEPS: Final = 20  # of a cycle, which may have all the nodes
_PARTS: Final = frozenset({"properties", "capabilities", "requirements", "artifacts", "interfaces"})


class ReferenceChecker:
    """Checks the arguments of every function call in a topology."""

    def __init__(self, inputs: Mapping[str, Input], nodes: Mapping[str, Node], report: Report) -> None:
        self._inputs = inputs
        self._nodes = nodes
        self._report = report

    def check(self, topology: Mapping[str, object]) -> None:
        for section in ("node_templates", "outputs", "policies"):
            for name, argument, path in calls_in(topology.get(section), ("topology_template", section)):
                if section != "node_templates":
                    self._call(name, argument, path)
                elif len(path) > 3 and path[2] in self._nodes and str(path[3]) in _PARTS:  # noqa: PLR2004 - below a node
                    self._call(name, argument, path, owner=str(path[2]))

    def _call(self, name: str, argument: object, at: Path, *, owner: str = "") -> None:
        """Check a call that belongs to the node ``owner``, or to no node.

        SELF in an edge is the edge, whose properties are not looked into here.
        """
        is_edge = bool(owner) and at[3] == "requirements"
        match name:
            case "get_input":
                self._input(argument, at)
            case "get_property" | "get_attribute" | "get_artifact" | "get_operation_output":
                if not (is_edge and as_list(argument)[:1] == ["SELF"]):
                    self._entity(name, argument, at, owner)
            case "concat" | "join" | "token" if not isinstance(argument, list):
                self._report.error("bad-function", at, f"{name} takes a list")
            case "token" if len(as_list(argument)) != 3:  # noqa: PLR2004
                self._report.error("bad-function", at, "token takes a text, separators and an index")

    def _input(self, argument: object, path: Path) -> None:
        name = as_list(argument)[0] if isinstance(argument, list) and argument else argument
        if not isinstance(name, str) or name not in self._inputs:
            message = f"the template has no input {str(name)[:80]!r}"
            self._report.error("unknown-input", path, message, known(self._inputs))

    def _entity(self, function: str, argument: object, path: Path, owner: str) -> None:
        words = as_list(argument)
        if len(words) < 2 or not all(isinstance(word, str) for word in words[:2]):  # noqa: PLR2004
            self._report.error("bad-function", path, f"{function} takes a list: a node, a name and what is in it")
            return
        entity, name = str(words[0]), str(words[1])
        if entity in ENTITIES:
            if not owner:
                self._report.error("bad-function", path, f"{entity} has no meaning outside a node template")
            entity = owner if entity == "SELF" else ""
        elif entity not in self._nodes:
            self._report.error("unknown-node", path, f"there is no node template {entity[:80]!r}")
            return
        if entity and function == "get_property" and not self._has(entity, name):
            message = f"the node {entity!r} has no property, capability or requirement {name[:80]!r}"
            self._report.error("unknown-property", path, message)

    def _has(self, entity: str, name: str) -> bool:
        node = self._nodes.get(entity)
        if node is None or not node.definition.is_known:
            return True
        node_type = node.definition
        members = (node_type.properties, node_type.attributes, node_type.capabilities, node_type.requirements)
        return any(name in group for group in members) or any(item.name == name for item in node.requirements)


def deployment_order(nodes: Mapping[str, Node], report: Report) -> tuple[str, ...]:
    """Return the names of nodes with the targets of requirements before their sources, else as they are written."""
    order: list[str] = []
    state: dict[str, int] = {}  # 1: being visited, 2: done
    cycles = 0
    for start in nodes:
        stack = [] if start in state else [(start, _targets(nodes[start], nodes))]
        if stack:
            state[start] = 1
        while stack:
            name, targets = stack[-1]
            step = next(targets, None)
            if step is None:
                stack.pop()
                state[name] = 2
                order.append(name)
                continue
            target, path = step
            if target not in state:
                state[target] = 1
                stack.append((target, _targets(nodes[target], nodes)))
            elif state[target] == 1 and cycles < MAX_PROBLEMS:
                cycles += 1
                names = [visited for visited, _ in stack]
                cycle = _shown([*names[names.index(target) :], target])
                report.error("requirement-cycle", path, f"the nodes need each other: {cycle}")
    return tuple(order)


def _targets(node: Node, nodes: Mapping[str, Node]) -> Iterator[tuple[str, Path]]:
    """Return each node that a node requires, once, with the path of the first requirement that names it."""
    found: dict[str, Path] = {}
    for item in node.requirements:
        if item.target in nodes:
            found.setdefault(item.target, item.path)
    return iter(found.items())


def _shown(cycle: list[str]) -> str:
    steps = cycle if len(cycle) <= _SHOWN_STEPS else [*cycle[: _SHOWN_STEPS - 2], "...", cycle[-1]]
    return " -> ".join(step[:60] for step in steps)
