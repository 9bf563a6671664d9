"""The tests that templates of the catalogue carry: with these inputs, this plan."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Final

from indaco_tosca.catalogue import MAX_PROBLEMS, TEMPLATE, TEST, Case, Catalogue, FileProblem, Version
from indaco_tosca.errors import Problem, TemplateError, pointer
from indaco_tosca.model import Plan, PlanNode, PortRule
from indaco_tosca.planner import plan
from indaco_tosca.positions import Path
from indaco_tosca.report import Report, known
from indaco_tosca.scalars import scalar_unit, source_text
from indaco_tosca.tree import as_list

_SIZES: Final = frozenset({"memory", "disk", "volume_size"})


def checked(catalogue: Catalogue) -> Catalogue:
    """Return the catalogue without the cards of which a test fails, and with what failed."""
    versions = (version for card in catalogue.cards.values() for version in card.versions)
    return catalogue.without(problem for version in versions for problem in run_tests(version))


def run_tests(version: Version) -> tuple[FileProblem, ...]:
    """Run every test of a version; return what is not as expected, each in the file that may be wrong."""
    found = [problem for index, case in enumerate(version.cases) for problem in _run(version, index, case)]
    return tuple(found[:MAX_PROBLEMS])


def _run(version: Version, index: int, case: Case) -> list[FileProblem]:
    path: Path = ("cases", index)
    report = Report(version.test)
    try:
        _compare(report, case.expect, _facts(plan(version.parsed, case.inputs)), (*path, "expect"))
        report.raise_errors()
    except TemplateError as error:
        told = (problem._replace(message=f"{case.name}: {problem.message}") for problem in error.problems)
        return [_placed(version, problem, path) for problem in told]
    return []


def _placed(version: Version, problem: Problem, case: Path) -> FileProblem:
    """Return a problem with its file: those of inputs and of what is expected are in the test, others in the template."""
    if problem.path.startswith("/inputs"):
        path = (*case, *problem.path.split("/")[1:])
        problem = problem._replace(path=pointer(path), place=partial(version.test.locate, path))
    file = TEST if problem.path.startswith("/cases/") else TEMPLATE
    return FileProblem(f"{version.folder}/{file}", problem)


def _facts(found: Plan) -> dict[str, object]:
    """Return what a test may expect of a plan, in the shape in which it is written there; sizes in bytes."""
    return {
        "nodes": {node.name: _node(node) for node in found.nodes},
        "totals": _totals(found),
        "configured_by": {software.node: software.by for node in found.nodes for software in node.software},
        "outputs": sorted(found.template.outputs),
    }


def _node(node: PlanNode) -> dict[str, object]:
    return {
        "kind": node.kind, "count": node.count, "cpus": node.cpu_milli / 1000, "memory": node.memory_bytes,
        "disk": node.disk_bytes, "gpus": node.gpus, "gpu_model": node.gpu_model, "public_ip": node.public_ip,
        "volumes": [volume.size_bytes for volume in node.volumes],
        "ports": sorted(_opening(rule) for rule in node.ports),
    }  # fmt: skip


def _opening(rule: PortRule) -> str:
    ports = str(rule.port) if rule.port == rule.port_end else f"{rule.port}-{rule.port_end}"
    return f"{ports}/{rule.protocol}"


def _totals(found: Plan) -> dict[str, object]:
    totals = found.totals
    renamed = {"memory": totals["memory_bytes"], "disk": totals["disk_bytes"], "volume_size": totals["volume_bytes"]}
    return {**totals, **renamed, "cpus": totals["cpu_milli"] / 1000}


def _compare(report: Report, wanted: object, found: object, path: Path) -> None:
    """Compare what is named; of machines, all must be."""
    if isinstance(found, dict):
        _compare_map(report, wanted, found, path)
        return
    try:
        is_equal = _canonical(str(path[-1]), wanted, found) == found
    except ValueError as error:
        report.error("bad-size", path, str(error))
        return
    if not is_equal:
        report.error("not-as-expected", path, f"{path[-1]} is {found}, not {source_text(wanted)[:200]}")


def _compare_map(report: Report, wanted: object, found: Mapping[str, object], path: Path) -> None:
    if not isinstance(wanted, dict):
        report.error("bad-structure", path, f"{path[-1]} must be a map")
        return
    for name, value in wanted.items():
        if name in found:
            _compare(report, value, found[name], (*path, name))
        else:
            report.error("not-as-expected", (*path, name), f"the plan has no {name[:80]!r} here", known(found))
    if path[-1] == "nodes":
        for name in found.keys() - wanted.keys():
            report.error("not-as-expected", path, f"the plan has {name[:80]!r} too")


def _canonical(key: str, wanted: object, found: object) -> object:
    """Return an expected value as facts are told. Raises: ValueError, for a size that is none."""
    if not isinstance(found, list):
        return _bytes(wanted) if key in _SIZES and not isinstance(found, str) else wanted
    items = as_list(wanted)
    if key == "volumes":
        return [_bytes(item) for item in items]
    texts = [source_text(item) for item in items]
    return sorted(text if key != "ports" or "/" in text else f"{text}/tcp" for text in texts)


def _bytes(size: object) -> object:
    return int(scalar_unit(size, "scalar-unit.size")) if isinstance(size, str) else size
