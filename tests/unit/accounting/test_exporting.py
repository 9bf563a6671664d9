"""The regular export on a real store and a real folder, and the operators' routes over real HTTP."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import TestServer

from indaco_accounting.app import SERVICE, build
from indaco_accounting.exporters.spool import Spool
from indaco_accounting.schedule import Schedule
from indaco_accounting.settings import AccountingSettings
from indaco_common.bus.embedded import EmbeddedBus
from indaco_common.clock import ManualClock
from indaco_common.envelope import Context
from indaco_common.errors import AlreadyHandled
from indaco_common.handling import collect
from indaco_common.hints import Hints
from indaco_common.ids import uuid7
from indaco_common.metrics import Metrics
from indaco_common.service import Infra, Service
from indaco_common.settings import Settings
from indaco_common.store.sqlite import SqliteStore
from indaco_common.units import ResourceVector
from indaco_common.web import Health, create_app

from .builders import PLACE, START, Node

HOUR = timedelta(hours=1)


class Running:
    """Accounting without a runtime: its handlers are called as the runtime would."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.clock = folder, ManualClock(START)
        self.store = SqliteStore(folder / "accounting.db", synchronous="OFF")
        self.metrics = Metrics("accounting")

    @property
    def infra(self) -> Infra:
        return Infra(
            service="accounting", settings=Settings(data=self.folder), clock=self.clock, store=self.store,
            bus=EmbeddedBus(self.folder / "bus.db"), secrets=None, metrics=self.metrics, hints=Hints(),
        )  # fmt: skip

    def build(self, **settings: Any) -> Service:
        self.metrics = Metrics("accounting")
        service = build(self.infra, AccountingSettings(**settings))
        self._handlers, self._timers = collect(service.handlers)
        return service

    async def tell(self, *events: Any) -> None:
        for event in events:
            for handler in self._handlers[event.TYPE]:
                await handler(event, Context(id=uuid7()))

    async def due(self) -> None:
        for id, version in await self.store.due(Schedule.KIND, self.clock.now(), 10):
            await self._timers[Schedule](id, Context(at_version=version))

    def files(self) -> list[Path]:
        return sorted((self.folder / "accounting/apel/outgoing").glob("*"))

    def metric(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)


@pytest.fixture
async def accounting(tmp_path: Path) -> AsyncIterator[Running]:
    running = Running(tmp_path)
    await running.store.start()
    running.build()
    yield running
    await running.store.stop()


async def started(service: Service) -> None:
    for start in service.starting:
        await start()


async def test_the_export_comes_when_it_is_due_and_only_then(accounting: Running) -> None:
    await started(accounting.build(export_every_s=3600))
    node = Node()
    await accounting.tell(node.started())
    await accounting.due()
    assert accounting.files() == []
    accounting.clock.advance(HOUR)
    await accounting.due()
    [file] = accounting.files()
    assert file.read_text().startswith("APEL-cloud-message: v0.4\nRecordCreateTime: ")
    await accounting.due()
    assert accounting.files() == [file]


async def test_of_two_replicas_one_exports(accounting: Running) -> None:
    await started(accounting.build())
    accounting.clock.advance(HOUR)
    [(id, version)] = await accounting.store.due(Schedule.KIND, accounting.clock.now(), 10)
    [timer] = collect(accounting.build().handlers)[1].values()
    await timer(id, Context(at_version=version))
    with pytest.raises(AlreadyHandled):
        await timer(id, Context(at_version=version))


async def test_no_regular_export_is_planned_where_it_is_switched_off(accounting: Running) -> None:
    await started(accounting.build(export_every_s=0))
    assert await accounting.store.next_due(Schedule.KIND) is None


async def test_an_ended_machine_is_written_once(accounting: Running) -> None:
    await started(accounting.build())
    node = Node()
    await accounting.tell(node.started(), node.removed(START + HOUR / 2))
    for _ in range(3):
        accounting.clock.advance(HOUR)
        await accounting.due()
    [file] = accounting.files()
    assert "Status: completed\n" in file.read_text()


async def test_simulated_sites_are_exported_in_rehearsals_alone(accounting: Running) -> None:
    node = Node(place=PLACE.model_copy(update={"simulated": True, "kind": "simulated"}))
    for is_rehearsal, count in ((False, 0), (True, 1)):
        await started(accounting.build(export_simulated=is_rehearsal))
        await accounting.tell(node.started())
        accounting.clock.advance(HOUR)
        await accounting.due()
        assert len(accounting.files()) == count


async def test_one_bad_record_does_not_hold_up_the_others(accounting: Running) -> None:
    await started(accounting.build())
    good, bad = Node(), Node(node="server-1", group={"issuer": "https://iam", "path": "città"})
    await accounting.tell(good.started(), bad.started())
    accounting.clock.advance(HOUR)
    await accounting.due()
    [file] = accounting.files()
    assert file.read_text().count("%%") == 1
    assert accounting.metric("indaco_accounting_held_records") == 1


async def test_counters_are_restored_and_grow_without_falling(accounting: Running) -> None:
    labels = {"provider": "recas-bari", "region": "RegionOne", "project": "cms-prod", "vo": "cms"}
    node = Node()
    await started(accounting.build())
    await accounting.tell(node.started(), node.sampled(START + HOUR), node.sampled(START + HOUR / 2))
    assert accounting.metric("indaco_usage_wall_seconds_total", **labels) == 3600
    await started(accounting.build())
    assert accounting.metric("indaco_usage_wall_seconds_total", **labels) == 3600
    assert accounting.metric("indaco_accounting_open_records") == 1
    await accounting.tell(node.removed(START + 2 * HOUR))
    assert accounting.metric("indaco_usage_cpu_seconds_total", **labels) == 4 * 7200
    await started(accounting.build())
    assert accounting.metric("indaco_usage_cpu_seconds_total", **labels) == 4 * 7200
    assert accounting.metric("indaco_accounting_open_records") == 0


async def test_an_end_before_the_last_sample_is_a_correction(accounting: Running) -> None:
    node = Node()
    await started(accounting.build())
    await accounting.tell(node.sampled(START + 2 * HOUR), node.removed(START + HOUR))
    assert accounting.metric("indaco_usage_corrections_total", meter="wall") == 3600


async def test_labels_are_bounded(accounting: Running) -> None:
    await started(accounting.build(metrics_labelsets=1))
    one, two = Node(), Node(node="server-1", group={"issuer": "https://iam", "path": "atlas"})
    await accounting.tell(one.removed(START + HOUR), two.removed(START + HOUR))
    others = {"provider": "recas-bari", "region": "RegionOne", "project": "other", "vo": "other"}
    assert accounting.metric("indaco_usage_wall_seconds_total", **others) == 3600


async def test_a_message_is_in_the_folder_whole_or_not_at_all(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "apel/outgoing")
    with pytest.raises(UnicodeEncodeError):
        await spool.write("1", "città")
    for text in ("one\n", "two\n"):
        file = await spool.write("1", text)
    assert [path.name for path in spool.folder.iterdir()] == ["1"]
    assert file.read_text() == "two\n"
    assert file.stat().st_mode & 0o007 == 0


@pytest.fixture
async def http(accounting: Running) -> AsyncIterator[aiohttp.ClientSession]:
    service = accounting.build()
    app = create_app("accounting", routes=service.routes, health=Health(accounting.metrics.registry))
    async with TestServer(app, host="127.0.0.1") as server, aiohttp.ClientSession(server.make_url("/")) as session:
        yield session


async def test_operators_list_records_and_read_one_as_apel_text(
    accounting: Running, http: aiohttp.ClientSession
) -> None:
    old, new = Node(), Node(START + HOUR, node="server-1")
    await accounting.tell(old.started(), old.removed(START + HOUR), new.started())
    accounting.clock.advance(2 * HOUR)
    listed = await (await http.get("/records", params={"deployment": old.started().deployment_id})).json()
    assert [record["node"] for record in listed["records"]] == ["server-1", "server-0"]
    assert (listed["total"], listed["next_offset"]) == (2, None)
    assert "ada" not in json.dumps(listed)
    listed = await (await http.get("/records", params={"status": "closed", "group": "cms/analysis"})).json()
    assert listed["records"][0]["usage"]["cpu_s"] == 14400
    answer = await http.get(f"/records/{old.id}/apel")
    assert answer.content_type == "text/plain"
    assert "Status: completed" in await answer.text()
    assert (await (await http.get(f"/records/{new.id}")).json())["usage"]["wall_s"] == 3600


@pytest.mark.parametrize(
    ("path", "status"),
    [("/records?status=lost", 400), ("/records?limit=1001", 400), ("/records?offset=-1", 400), ("/records/x/1/y", 404),
     ("/records/x/1/y/apel", 404), ("/records/x/99999999999999999999/y", 404)],
)  # fmt: skip
async def test_wrong_questions_are_refused(http: aiohttp.ClientSession, path: str, status: int) -> None:
    assert (await http.get(path)).status == status


async def test_an_export_on_demand_says_what_it_did(accounting: Running, http: aiohttp.ClientSession) -> None:
    await accounting.tell(Node().started())
    accounting.clock.advance(HOUR)
    outcome = await (await http.post("/exports")).json()
    assert {name: outcome[name] for name in ("records", "rows", "held", "target")} == {
        "records": 1, "rows": 1, "held": 0, "target": "apel",
    }  # fmt: skip
    first = accounting.files()[0].read_bytes()
    assert (await (await http.post("/exports")).json())["files"] == outcome["files"]
    assert [file.read_bytes() for file in accounting.files()] == [first]


def test_the_service_listens_to_what_nodes_do() -> None:
    assert [message.TYPE for message in SERVICE.messages] == [
        "orchestrator.node.removed.v1", "orchestrator.node.started.v1", "orchestrator.usage.sampled.v1",
    ]  # fmt: skip


async def test_a_bucket_has_no_record_of_computing(accounting: Running) -> None:
    await started(accounting.build())
    bucket = Node(needs=ResourceVector(buckets=1))
    await accounting.tell(bucket.started(), bucket.removed(START + HOUR))
    accounting.clock.advance(HOUR)
    await accounting.due()
    assert accounting.files() == []
