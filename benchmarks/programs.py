"""Programs that measure themselves, each in a process of its own, and what two of them say of each other."""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict

from .rows import Figures

ROOT = Path(__file__).resolve().parent.parent
TIMEOUT_S = 300.0


class Rate(TypedDict):
    """*per_s* by the clock; *cpu_us*: processor time of the program for each."""

    per_s: float
    cpu_us: float


class Stopwatch:
    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def rate(self, count: int) -> Rate:
        wall_s, cpu_s = time.perf_counter() - self._wall, time.process_time() - self._cpu
        return {"per_s": count / wall_s, "cpu_us": cpu_s / count * 1e6}


def run(*arguments: object) -> Rate:
    """Run a program (a path, or -m and a module, and its arguments) and return what it prints as JSON. Raises: RuntimeError."""
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, cwd=ROOT, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, arguments[:2]))}: {done.stderr[-2000:]}")
    rate: Rate = json.loads(done.stdout.splitlines()[-1])
    return rate


def compared(rates: Sequence[tuple[Rate, Rate]], **details: Any) -> Figures:
    """Return the medians of (ours, baseline) over rounds. The ratio is the median of the rounds' ratios: what slows the machine
    for a whole round slows both."""
    ours, baseline = ([pair[i] for pair in rates] for i in (0, 1))
    by_cpu = statistics.median(raw["cpu_us"] / mine["cpu_us"] for mine, raw in rates)
    return Figures(
        ours=statistics.median(rate["per_s"] for rate in ours),
        baseline=statistics.median(rate["per_s"] for rate in baseline),
        ratio=statistics.median(mine["per_s"] / raw["per_s"] for mine, raw in rates),
        details={
            **details, "ratio_by_cpu": round(by_cpu, 3),
            "ours_rounds": [_rounded(rate) for rate in ours], "baseline_rounds": [_rounded(rate) for rate in baseline],
        },
        note=f"{statistics.median(rate['cpu_us'] for rate in ours):.0f} µs CPU each, baseline {statistics.median(rate['cpu_us'] for rate in baseline):.0f}",
    )  # fmt: skip


def _rounded(rate: Rate) -> dict[str, float]:
    return {"per_s": round(rate["per_s"], 1), "cpu_us": round(rate["cpu_us"], 1)}
