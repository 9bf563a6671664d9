"""Templates: read, validated and planned, warm and cold, and what stays in memory; tosca-parser reads the same files in the same run.

The files are the public templates where they are (see ``tests/corpus.py``), else those of the catalogue, which tosca-parser does not read.
"""

import csv
import gc
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import indaco_tosca
from indaco_tosca import library

from .machine import memory_mib
from .rows import Figures, at_least, at_most, row

ROOT = Path(__file__).resolve().parent.parent
CORPUS = Path(os.environ.get("INDACO_CORPUS") or ROOT.parent / "shared" / "corpus") / "tosca"
ROUNDS, PARSES, STARTS = 7, 10_000, 11
TIMEOUT_S = 600

Job = dict[str, Any]


def jobs() -> list[Job]:
    """Return the templates to read: file, inputs."""
    if CORPUS.is_dir():
        lines = (CORPUS / "EXPECT.jsonl").read_text().splitlines()
        entries = [json.loads(line) for line in lines]
        return [{"file": str(CORPUS / entry["file"]), "inputs": entry["inputs_used"]} for entry in entries]
    return [{"file": str(path), "inputs": {}} for path in sorted(ROOT.glob("catalogue/*/*/template.yaml"))]


def imports() -> dict[str, str]:
    """Return URL → path of what templates import."""
    if not CORPUS.is_dir():
        return {}
    lines = (CORPUS / "IMPORTS.tsv").read_text().splitlines()
    table = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    return {line["import_url"]: str(CORPUS / line["local_path"]) for line in table}


def measured(program: str, *arguments: str, order: object) -> Any:
    """Run a program of this repository, which is told what to do on standard input, and return what it prints as JSON."""
    command = [sys.executable, *((program,) if program.endswith(".py") else ("-m", program)), *arguments]
    done = subprocess.run(
        command, input=json.dumps(order), capture_output=True, text=True, timeout=TIMEOUT_S, cwd=ROOT, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{program}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


@row("ms CPU", goal=at_least(40, on="ratio"))
def tosca_parse() -> Figures:
    """Read and validate each template with its types cached: the fastest of 7, median over templates. Baseline: tosca-parser on the same
    files and imports, the fastest of 3 after a first. The ratio is the median over the templates that both read of baseline / ours."""
    work = jobs()
    ours = measured(__name__, "parse", order={"jobs": work, "imports": imports()})
    order = {"files": [job["file"] for job in work], "imports": imports()}
    theirs = measured("benchmarks/baselines/tosca_parser.py", order=order)
    pairs = [(mine, other) for mine, other in zip(ours, theirs, strict=True) if mine and other]
    if not pairs:
        return Figures(_median(ours), details=_spread(ours), note="the public templates are not here: no baseline")
    ratios = sorted(other / mine for mine, other in pairs)
    both = [mine for mine, _ in pairs]
    return Figures(
        _median(both), _median([other for _, other in pairs]), statistics.median(ratios),
        details={"both": _spread(both), "all_that_ours_reads": _spread(ours), "smallest_ratio": round(ratios[0], 1)},
        note=f"{len(pairs)} templates that both read of {len(work)}; p99 {_p99(both):.2f} ms",
    )  # fmt: skip


@row("ms CPU", goal=at_most(1.5))
def tosca_plan() -> Figures:
    """Read, validate and plan each template that can be planned, with its types cached: the fastest of 7, median over templates."""
    found = measured(__name__, "plan", order={"jobs": jobs(), "imports": imports()})
    times = [ms for ms in found if ms]
    return Figures(_median(times), details=_spread(times), note=f"{len(times)} templates; p99 {_p99(times):.2f} ms")


@row("ms CPU", goal=at_most(150))
def tosca_cold() -> Figures:
    """A process that starts, imports, reads one template of a virtual machine with the bundled types, plans it, prints it and ends: median
    of 11 starts after a first that writes the bytecode, the interpreter's own start included."""
    command = [sys.executable, "-m", "indaco_tosca", "expect", "examples/templates/virtual-machine.yaml"]
    _cpu_ms(command)
    return Figures(
        _median([_cpu_ms(command) for _ in range(STARTS)]), note=f"of it the bare interpreter {_bare_ms():.0f} ms"
    )


@row("MiB", goal=at_most(20))
def tosca_memory() -> Figures:
    """Resident memory that 10,000 parses and plans of all templates in turn add, after a first pass over them."""
    grown, sets, per_set = measured(__name__, "memory", order={"jobs": jobs(), "imports": imports()})
    return Figures(grown, details={"type_sets": sets}, note=f"{sets} cached type sets, {per_set:.2f} MiB each")


def _cpu_ms(command: list[str]) -> float:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, capture_output=True, check=True, cwd=ROOT, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1000


def _bare_ms() -> float:
    return _median([_cpu_ms([sys.executable, "-c", ""]) for _ in range(STARTS)])


def _median(times: list[float | None]) -> float:
    return statistics.median(ms for ms in times if ms)


def _p99(times: list[float]) -> float:
    return sorted(times)[int(len(times) * 0.99)]


def _spread(times: list[float | None]) -> dict[str, float]:
    known = [ms for ms in times if ms]
    return {"templates": len(known), "median": round(_median(known), 3), "p99": round(_p99(known), 3)}


# ── in a process of its own


class _Reader:
    """Reads the templates of an order."""

    def __init__(self, order: Mapping[str, Any]) -> None:
        self._paths = order["imports"]
        self._types: dict[str, bytes] = {}
        self.jobs = [(Path(job["file"]).read_bytes(), job["inputs"]) for job in order["jobs"]]

    def resolve(self, name: str) -> bytes | None:
        if name in self._paths and name not in self._types:
            self._types[name] = Path(self._paths[name]).read_bytes()
        return self._types.get(name)

    def parse(self, text: bytes) -> indaco_tosca.Template:
        return indaco_tosca.parse(text, resolve=self.resolve)

    def plan(self, text: bytes, inputs: Mapping[str, object]) -> indaco_tosca.Plan:
        return indaco_tosca.plan(self.parse(text), inputs)


def _fastest(call: Callable[[], object]) -> float | None:
    """Return milliseconds of processor time; None if the template is refused."""
    found = []
    try:
        for _ in range(ROUNDS):
            began = time.process_time_ns()
            call()
            found.append((time.process_time_ns() - began) / 1e6)
    except indaco_tosca.TemplateError:
        return None
    return min(found)


def _grown(reader: _Reader) -> tuple[float, int, float]:
    """Return by how many MiB the process grew over all parses, how many type sets it keeps, and what each takes."""
    before = memory_mib(os.getpid())
    for text, inputs in reader.jobs:
        _once(reader, text, inputs)
    gc.collect()
    first, sets = memory_mib(os.getpid()), library.cached_sets()
    for number in range(PARSES):
        _once(reader, *reader.jobs[number % len(reader.jobs)])
    gc.collect()
    return memory_mib(os.getpid()) - first, sets, (first - before) / max(1, sets)


def _once(reader: _Reader, text: bytes, inputs: Mapping[str, object]) -> None:
    try:
        reader.plan(text, inputs)
    except indaco_tosca.TemplateError:
        return


def main(what: str) -> object:
    reader = _Reader(json.load(sys.stdin))
    match what:
        case "parse":
            return [_fastest(lambda text=text: reader.parse(text)) for text, _ in reader.jobs]  # type: ignore[misc]
        case "plan":
            return [
                _fastest(lambda text=text, inputs=inputs: reader.plan(text, inputs)) for text, inputs in reader.jobs
            ]  # type: ignore[misc]
        case _:
            return _grown(reader)


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1])))
