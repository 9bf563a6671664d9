"""How busy the machine is, and with what: read from /proc, so on Linux alone; elsewhere the load is not known."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TICK_S = 1 / os.sysconf("SC_CLK_TCK")
NAMED = 4  # processes of others that are told by name


@dataclass(frozen=True, slots=True)
class Process:
    """One process at one moment. *children_s* is the time of children that have ended."""

    name: str
    parent: int
    cpu_s: float
    children_s: float


def process(pid: int) -> Process | None:
    """Return the process *pid*; None if there is none, or no /proc."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    name, _, rest = text.partition(" (")[2].rpartition(") ")
    fields = rest.split()
    user, system, ended_user, ended_system = (int(value) * TICK_S for value in fields[11:15])
    return Process(name, int(fields[1]), user + system, ended_user + ended_system)


def cpu_s(pid: int) -> float:
    """Return the processor time of *pid* so far, in seconds. Raises: ProcessLookupError."""
    if (found := process(pid)) is None:
        raise ProcessLookupError(pid)
    return found.cpu_s


def memory_mib(pid: int) -> float:
    """Return the resident memory of *pid*. Raises: OSError."""
    status = Path(f"/proc/{pid}/status").read_text()
    kib = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(kib) / 1024


def children(pid: int) -> list[int]:
    return [number for number, found in _all().items() if found.parent == pid]


@dataclass(slots=True)
class Load:
    """What others did while something was measured."""

    wall_s: float = 0.0
    ours_s: float = 0.0
    others_s: float | None = None  # None: not known on this system
    busiest: dict[str, float] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        wall = max(self.wall_s, 1e-9)
        return {
            "wall_s": round(self.wall_s, 2),
            "cores": os.cpu_count(),
            "own_cores": round(self.ours_s / wall, 2),
            "others_cores": None if self.others_s is None else round(self.others_s / wall, 2),
            "others": {name: round(seconds / wall, 2) for name, seconds in self.busiest.items()},
        }


@contextmanager
def watched() -> Iterator[Load]:
    """Measure the load while the body runs: our own process tree, and all others, servers included."""
    load, begun = Load(), time.monotonic()
    busy, before = _busy_s(), _all()
    yield load
    load.wall_s = time.monotonic() - begun
    after = _all()
    used = {pid: found.cpu_s - (before[pid].cpu_s if pid in before else 0.0) for pid, found in after.items()}
    family = _descendants(after, os.getpid())
    ended = sum(
        after[pid].children_s - (before[pid].children_s if pid in before else 0.0) for pid in family if pid in after
    )
    load.ours_s = sum(used[pid] for pid in family if pid in used) + ended
    if busy is not None and (now := _busy_s()) is not None:
        load.others_s = max(0.0, now - busy - load.ours_s)
    names: dict[str, float] = {}
    for pid, seconds in used.items():
        if pid not in family and seconds > 0:
            names[after[pid].name] = names.get(after[pid].name, 0.0) + seconds
    load.busiest = dict(sorted(names.items(), key=lambda item: -item[1])[:NAMED])


def _all() -> dict[int, Process]:
    try:
        pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    except OSError:
        return {}
    return {pid: found for pid in pids if (found := process(pid)) is not None}


def _descendants(processes: dict[int, Process], root: int) -> set[int]:
    family, grown = {root}, True
    while grown:
        more = {pid for pid, found in processes.items() if found.parent in family} - family
        family |= more
        grown = bool(more)
    return family


def _busy_s() -> float | None:
    """Return the processor time that all cores have spent on anything but idling."""
    try:
        fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    except OSError:
        return None
    user, nice, system, _idle, _wait, irq, soft = (int(value) * TICK_S for value in fields[:7])
    return user + nice + system + irq + soft
