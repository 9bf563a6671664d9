"""The rules of the measurements: baselines use nothing of ours, every row says how it was measured, a goal is judged as it says."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # the benchmarks are no installed package

from benchmarks import __main__, machine  # noqa: E402
from benchmarks.rows import ROWS, Figures, Goal, Row, at_least, at_most  # noqa: E402

BASELINES = sorted((ROOT / "benchmarks" / "baselines").glob("*.py"))


@pytest.mark.parametrize("program", BASELINES, ids=lambda path: path.stem)
def test_a_baseline_imports_nothing_of_ours(program: Path) -> None:
    tree = ast.parse(program.read_text())
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "." for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert names
    assert not [name for name in names if name.startswith(("indaco", "benchmarks", "."))]


def test_there_is_a_baseline_for_each_server_that_is_compared() -> None:
    assert [path.stem for path in BASELINES] == ["rabbitmq", "sqlite", "tosca_parser"]


@pytest.mark.parametrize("row", ROWS.values(), ids=lambda row: row.name)
def test_a_row_has_a_unit_and_says_how_it_is_measured(row: Row) -> None:
    assert row.unit
    assert len(row.method) > 60


@pytest.mark.parametrize(
    ("goal", "figures", "is_met"),
    [
        (at_least(50), Figures(50.0), True),
        (at_least(50), Figures(49.9), False),
        (at_most(3), Figures(2.0), True),
        (at_most(3), Figures(3.1), False),
        (at_least(0.5, on="ratio"), Figures(1.0, 2.0, 0.5), True),
        (at_least(0.5, on="ratio"), Figures(900.0, 2000.0, 0.45), False),
        (at_least(0.5, on="ratio"), Figures(900.0), False),
    ],
)
def test_a_goal_is_judged_by_what_it_is_on(goal: Goal, figures: Figures, *, is_met: bool) -> None:
    assert goal.is_met(figures) is is_met


def test_a_row_whose_server_is_missing_is_skipped_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("INDACO_TEST_AMQP", raising=False)
    result = __main__.measured(ROWS["relay_publish"])
    assert (result["state"], result["ours"], result["met"]) == ("skipped", None, None)
    assert "INDACO_TEST_AMQP" in result["note"]


def test_a_row_is_written_with_its_goal_its_ratio_and_what_others_did_meanwhile() -> None:
    row = Row("one", "s", "by looking", at_least(0.5, on="ratio"), (), lambda: Figures(1.0, 4.0, 0.25, note="slow"))
    result = __main__.measured(row)
    assert result | {"machine": {}, "at": ""} == {
        "name": "one", "state": "measured", "ours": 1.0, "baseline": 4.0, "ratio": 0.25, "unit": "s",
        "goal": {"on": "ratio", "op": ">=", "value": 0.5}, "met": False, "method": "by looking", "note": "slow",
        "details": {}, "machine": {}, "at": "",
    }  # fmt: skip
    assert {"wall_s", "own_cores", "others_cores", "others", "load_1min"} <= set(result["machine"])


def test_a_row_that_fails_does_not_keep_the_others_from_being_measured() -> None:
    def broken() -> Figures:
        raise RuntimeError("no such luck")

    result = __main__.measured(Row("one", "s", "by looking", None, (), broken))
    assert (result["state"], result["note"]) == ("failed", "RuntimeError: no such luck")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the load is known only where there is /proc")
def test_the_load_tells_ours_from_others() -> None:
    with machine.watched() as load:
        end = machine.cpu_s(machine.os.getpid()) + 0.12  # a tick more than what is asserted
        while machine.cpu_s(machine.os.getpid()) < end:
            pass
    assert load.ours_s >= 0.1
    assert load.others_s is not None
