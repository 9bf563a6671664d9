"""One service from its first probe to its last: what is started when, what is waited for, what is closed."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
import structlog.testing
from aiohttp import web

from indaco_common import runtime
from indaco_common.bus.embedded import EmbeddedBus
from indaco_common.bus.port import Receiver
from indaco_common.bus.topology import Topology
from indaco_common.clock import SystemClock
from indaco_common.envelope import Context
from indaco_common.errors import Unavailable
from indaco_common.handling import handles
from indaco_common.hints import Hints
from indaco_common.metrics import Metrics
from indaco_common.runtime import Runner
from indaco_common.service import Infra, Service
from indaco_common.settings import Settings
from indaco_common.store.sqlite import SqliteStore
from indaco_common.testing.bells import Rang, bells, until


class Diary(list[str]):
    """What happened, in order."""


class Store(SqliteStore):
    def __init__(self, path: Path, diary: Diary) -> None:
        super().__init__(path, synchronous="OFF")
        self.diary, self.absent = diary, 0

    async def start(self) -> None:
        if self.absent:
            self.absent -= 1
            raise Unavailable("the database is away")
        self.diary.append("store.start")
        await super().start()

    async def stop(self) -> None:
        self.diary.append("store.stop")
        await super().stop()


class Bus(EmbeddedBus):
    def __init__(self, path: Path, diary: Diary) -> None:
        super().__init__(path)
        self.diary, self.breaks_at_stop = diary, False

    async def start(self) -> None:
        self.diary.append("bus.start")
        await super().start()

    async def subscribe(self, service: str, receiver: Receiver, *, prefetch: int = 16) -> None:
        self.diary.append("bus.subscribe")
        await super().subscribe(service, receiver, prefetch=prefetch)

    async def stop(self) -> None:
        self.diary.append("bus.stop")
        await super().stop()
        if self.breaks_at_stop:
            raise OSError("the connection is gone")


class Ears:
    def __init__(self) -> None:
        self.heard: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()

    @handles(Rang)
    async def hear(self, event: Rang, ctx: Context) -> None:
        await self.gate.wait()
        self.heard.append(event.bell_id)


class Bench:
    """A service with its parts at hand."""

    def __init__(self, folder: Path) -> None:
        self.diary, self.ears = Diary(), Ears()
        self.store, self.bus = Store(folder / "s.db", self.diary), Bus(folder / "bus.db", self.diary)
        self.infra = Infra(
            service="alpha", settings=Settings(data=folder, topology="apply"), clock=SystemClock(), store=self.store,
            bus=self.bus, secrets=None, metrics=Metrics("alpha"), hints=Hints(),
        )  # fmt: skip
        self.runners: list[Runner] = []

    def runner(self, **parts: object) -> Runner:
        service = Service(self.infra, handlers=(self.ears,), routes=(web.get("/hello", _hello),))
        runner = Runner(replace(service, **parts), port=0, topology=Topology({"alpha": (Rang,)}))  # type: ignore[arg-type]
        self.runners.append(runner)
        return runner


async def _hello(_: web.Request) -> web.Response:
    return web.Response(text="hello")


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setattr(runtime, "RETRY_S", (0.01, 0.05))
    bench = Bench(tmp_path)
    yield bench
    for runner in bench.runners:
        await runner.stop()


async def start(runner: Runner) -> None:
    await runner.serve()
    await runner.connect()
    await runner.work()


async def readiness(runner: Runner) -> dict[str, object]:
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"http://127.0.0.1:{runner.port}/readyz") as answer,
    ):
        return {"code": answer.status, **await answer.json()}


def note(diary: Diary, what: str) -> Callable[[], Awaitable[None]]:
    async def call() -> None:
        diary.append(what)

    return call


async def test_it_starts_in_order_and_stops_in_the_other(bench: Bench) -> None:
    runner = bench.runner(starting=(note(bench.diary, "starting"),), closing=(note(bench.diary, "closing"),))
    await start(runner)
    assert (await readiness(runner))["status"] == "ok"
    await runner.drain()
    await runner.stop()
    assert bench.diary == ["store.start", "bus.start", "starting", "bus.subscribe", "closing", "bus.stop", "store.stop"]
    bench.runners.clear()


async def test_it_tells_what_it_waits_for_before_it_is_ready(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.store.absent = 1_000_000
    runner = bench.runner()
    await runner.serve()
    connecting = asyncio.create_task(runner.connect())
    await asyncio.sleep(0.05)
    told = await readiness(runner)
    assert (told["code"], told["status"]) == (503, "failing")
    assert told["checks"]["start"] == {"ok": False, "detail": "store: the database is away"}  # type: ignore[index]
    bench.store.absent = 0
    await connecting
    await runner.work()
    await asyncio.sleep(1.05)  # probes are answered from what was found within the last second
    assert (await readiness(runner))["code"] == 200


async def test_it_waits_for_topology_that_an_administrator_has_to_declare(bench: Bench) -> None:
    bench.infra.settings.topology = "verify"
    runner = bench.runner()
    await runner.serve()
    connecting = asyncio.create_task(runner.connect())
    async with asyncio.timeout(10):
        while "topology: " not in (await readiness(runner))["checks"]["start"]["detail"]:  # type: ignore[index]
            await asyncio.sleep(0.1)
    assert not connecting.done()
    await bench.bus.declare(Topology({"alpha": (Rang,)}))
    async with asyncio.timeout(5):
        await connecting


async def test_an_error_that_waiting_does_not_mend_ends_the_start(bench: Bench) -> None:
    async def load() -> None:
        raise ValueError("the file is wrong")

    runner = bench.runner(starting=(load,))
    await runner.serve()
    with pytest.raises(ValueError, match="the file is wrong"):
        await runner.connect()


async def test_messages_are_handled_once_it_works(bench: Bench) -> None:
    runner = bench.runner()
    await start(runner)
    await bench.bus.publish(bells(3))
    await until(lambda: len(bench.ears.heard) == 3)


async def test_draining_waits_for_messages_under_way_and_says_so(bench: Bench) -> None:
    runner = bench.runner()
    await start(runner)
    bench.ears.gate.clear()
    await bench.bus.publish(bells(1))
    await asyncio.sleep(0.1)
    draining = asyncio.create_task(runner.drain())
    await asyncio.sleep(0.05)
    assert (await readiness(runner))["status"] == "draining"
    assert not draining.done()
    bench.ears.gate.set()
    await draining
    assert bench.ears.heard == ["b-0"]


async def test_draining_ends_in_time_whatever_a_handler_does(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "DRAIN_S", 0.1)
    runner = bench.runner()
    await start(runner)
    bench.ears.gate.clear()
    await bench.bus.publish(bells(1))
    await asyncio.sleep(0.1)
    with structlog.testing.capture_logs() as logs:
        async with asyncio.timeout(2):
            await runner.drain()
    assert "service.drained_late" in [line["event"] for line in logs]


async def test_a_part_that_does_not_close_keeps_no_other_open(bench: Bench) -> None:
    bench.bus.breaks_at_stop = True
    runner = bench.runner()
    await start(runner)
    with structlog.testing.capture_logs() as logs:
        await runner.stop()
    assert bench.diary[-2:] == ["bus.stop", "store.stop"]
    assert [line["part"] for line in logs if line["event"] == "service.stop_failed"] == ["bus"]
    bench.runners.clear()


async def test_a_service_that_never_connected_stops_as_well(bench: Bench) -> None:
    bench.store.absent = 1_000_000
    runner = bench.runner()
    await runner.serve()
    connecting = asyncio.create_task(runner.connect())
    await asyncio.sleep(0.05)
    connecting.cancel()
    with structlog.testing.capture_logs() as logs:
        await runner.stop()
    assert [line for line in logs if line["log_level"] == "error"] == []
    bench.runners.clear()


async def test_a_task_of_the_service_that_fails_is_told_by_health(bench: Bench) -> None:
    async def work() -> None:
        raise OSError

    runner = bench.runner(tasks={"export": work})
    await start(runner)
    await asyncio.sleep(0.05)
    told = await readiness(runner)
    assert told["checks"]["tasks"]["ok"] is False  # type: ignore[index]


async def test_requests_are_counted_by_route(bench: Bench) -> None:
    runner = bench.runner()
    await start(runner)
    async with aiohttp.ClientSession() as http:
        async with http.get(f"http://127.0.0.1:{runner.port}/hello") as answer:
            assert await answer.text() == "hello"
        async with http.get(f"http://127.0.0.1:{runner.port}/metrics") as answer:
            text = await answer.text()
    labels = 'method="GET",route="/hello",service="alpha",status="200"'
    assert f"http_server_request_duration_seconds_count{{{labels}}} 1.0" in text


async def test_a_refusal_for_an_outage_says_when_to_come_back(bench: Bench) -> None:
    async def refuse(_: web.Request) -> web.Response:
        raise Unavailable("the vault is sealed")

    runner = bench.runner(routes=(web.get("/secrets", refuse),))
    await start(runner)
    async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{runner.port}/secrets") as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (503, "2")
