"""Run measurements: ``python -m benchmarks [--list] [--output FILE] [NAME …]``; a table, and build/bench.json."""

import argparse
import json
import os
import platform
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from indaco_common import telemetry
from indaco_common.settings import Settings

from . import bus, deployments, gateway, lists, process, store, tosca  # noqa: F401 - their rows enter the list
from .machine import watched
from .rows import ROWS, Figures, Row

ROOT = Path(__file__).resolve().parent.parent
OUTPUT = ROOT / "build" / "bench.json"
console = Console(highlight=False, width=None if sys.stdout.isatty() else 180)


def main() -> int:
    """Return 1 if a measurement failed; a goal that is missed is a finding, not a failure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="rows to run, or the beginning of their names; all by default"
    )
    parser.add_argument("--list", action="store_true", help="list the rows and what they need, run nothing")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="where to write (default: build/bench.json)")
    arguments = parser.parse_args()
    rows = [row for row in ROWS.values() if not arguments.names or row.name.startswith(tuple(arguments.names))]
    if not rows:
        parser.error(f"no row of that name; there are {', '.join(ROWS)}")
    if arguments.list:
        _list(rows)
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that what was started is stopped
    telemetry.set_up_logging(Settings(log_level="error", log_format="console"))
    results = [measured(row) for row in rows]
    _show(results)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(results, indent=1) + "\n")
    console.print(f"{len(results)} rows in {arguments.output}")
    return int(any(result["state"] == "failed" for result in results))


def _list(rows: list[Row]) -> None:
    for row in rows:
        goal, needs = str(row.goal or "no goal"), f"; needs {', '.join(row.needs)}" if row.needs else ""
        console.print(f"[bold]{row.name}[/bold]  {row.unit}; {goal}{needs}\n  {row.method}\n")


def measured(row: Row) -> dict[str, Any]:
    """Return the row as it is written: always the same keys, whatever came of it."""
    goal = row.goal and {"on": row.goal.on, "op": row.goal.op, "value": row.goal.value}
    result: dict[str, Any] = {
        "name": row.name, "state": "measured", "ours": None, "baseline": None, "ratio": None, "unit": row.unit, "goal": goal,
        "met": None, "method": row.method, "note": "", "details": {}, "machine": {}, "at": datetime.now(UTC).isoformat(),
    }  # fmt: skip
    if row.missing:
        return result | {"state": "skipped", "note": f"not set: {', '.join(row.missing)}"}
    console.print(f"[dim]{row.name} …")
    try:
        with watched() as load:
            figures = row.measure()
    except Exception as error:  # noqa: BLE001 - the other rows are measured all the same
        console.print_exception()
        return result | {"state": "failed", "note": f"{type(error).__name__}: {error}"[:500]}
    return result | _figures(row, figures) | {"machine": {**_machine(), **load.as_json()}}


def _figures(row: Row, figures: Figures) -> dict[str, Any]:
    return {
        "ours": round(figures.ours, 3), "baseline": figures.baseline and round(figures.baseline, 3),
        "ratio": figures.ratio and round(figures.ratio, 3), "met": row.goal and row.goal.is_met(figures),
        "note": figures.note, "details": figures.details,
    }  # fmt: skip


def _machine() -> dict[str, Any]:
    load = os.getloadavg()[0]
    return {"python": platform.python_version(), "system": platform.platform(), "load_1min": round(load, 2)}


def _show(results: list[dict[str, Any]]) -> None:
    table = Table("name", "ours", "baseline", "ratio", "unit", "goal", "", "others", "note")
    for result in results:
        goal, met = result["goal"], {True: "[green]met", False: "[red]missed", None: ""}[result["met"]]
        others = result["machine"].get("others_cores")
        table.add_row(
            result["name"], *(_number(result[name]) for name in ("ours", "baseline", "ratio")), result["unit"],
            f"{goal['on']} {goal['op']} {goal['value']:g}" if goal else "", met if result["state"] == "measured" else result["state"],
            "" if others is None else f"{others:.2f}", result["note"],
        )  # fmt: skip
    console.print(table)
    console.print("[dim]others: cores that other processes used meanwhile, the servers of the row included")


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    sys.exit(main())
