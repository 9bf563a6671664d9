"""The rules of the measurements: baselines use nothing of ours, every row says how it was measured, a goal is judged as it says."""

import ast
import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # the benchmarks are no installed package

from benchmarks import __main__, gateway_load, machine  # noqa: E402
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


@pytest.fixture
async def server() -> AsyncIterator[TestServer]:
    """Answers the token it was sent, and rings for whoever listens when it is asked to."""
    rung = asyncio.Event()

    async def show(request: web.Request) -> web.Response:
        return web.Response(text=request.headers["Authorization"] * 2000)  # more than one read of a socket brings

    async def listen(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"id: 1\ndata: {}\n\n")
        await rung.wait()
        await response.write(b"id: 2\ndata: {}\n\n")
        await asyncio.Event().wait()
        return response

    async def ring(request: web.Request) -> web.Response:
        assert await request.text() == "now"
        rung.set()
        return web.Response()

    app = web.Application()
    app.add_routes([web.get("/shown", show), web.get("/events", listen), web.put("/events", ring)])
    server = TestServer(app)
    await server.start_server(shutdown_timeout=0.1)
    yield server
    await server.close()


async def test_a_load_asks_by_all_connections_and_tells_how_long_answers_took(server: TestServer) -> None:
    order = {
        "port": server.port, "method": "GET", "targets": ["/shown"], "tokens": ["a", "b", "c"], "connections": 3, "seconds": 30, "most": 4,
    }  # fmt: skip
    found = await gateway_load.requests(order)
    assert found["count"] == 12
    assert found["bytes"] > 2000 * len("Bearer a")
    assert 0 < found["p50_ms"] <= found["p90_ms"] <= found["p99_ms"] <= found["worst_ms"]


async def test_a_load_fails_on_an_answer_that_was_not_expected(server: TestServer) -> None:
    order = {
        "port": server.port,
        "method": "GET",
        "targets": ["/absent"],
        "tokens": ["a"],
        "connections": 1,
        "seconds": 1,
    }
    with pytest.raises(RuntimeError, match="404"):
        await gateway_load.requests(order)


async def test_listeners_tell_when_the_first_and_the_last_of_them_heard(server: TestServer) -> None:
    order = {
        "port": server.port, "method": "PUT", "target": "/events", "ring": "/events", "rings": ["now"], "tokens": ["a"], "listeners": 100,
        "known": 1,
    }  # fmt: skip
    found = await gateway_load.listeners(order)
    assert found["listeners"] == 100
    assert 0 < found["first_ms"][0] <= found["last_ms"][0]
