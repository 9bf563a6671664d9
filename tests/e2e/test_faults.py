"""Outages of what the services stand on: who says so, what is taken meanwhile, and that nothing is lost."""

import asyncio
import contextlib
import json
import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from indaco_client import Client
from indaco_common.errors import Unavailable
from indaco_common.infra import open_bus
from indaco_common.testing.backing import RealBacking
from indaco_common.testing.federation import SERVICES

from .servers import OwnServers
from .worlds import GONE, MakeFederation, World, template, until

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.rabbitmq, pytest.mark.vault]
VM, COMPOSE = template("virtual-machine"), template("docker-compose")
WITH_VAULT = ("gateway", "orchestrator", "vault-broker")
SEALED_S = 14.0  # the first two delays are 1 s and 10 s


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def servers() -> AsyncIterator[OwnServers]:
    servers = OwnServers()
    try:
        await servers.start()
        yield servers
    finally:
        await servers.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(
    servers: OwnServers, make_federation: MakeFederation, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    """Five processes whose broker was away when they started; the first test brings it."""
    federation = make_federation(backing=RealBacking(tmp_path_factory.mktemp("faults"), store="sqlite"))
    try:
        await federation.prepare()
        await servers.call("rabbitmq", "stop")
        for unit in federation.units:
            federation.launch(unit)
        yield World(federation)
    finally:
        with contextlib.suppress(aiohttp.ClientError):  # a test that failed may have left the broker down
            await federation.stop()


async def post(world: World, text: str, parameters: dict[str, Any] | None = None) -> tuple[int, str | None, Any]:
    """Return status, Retry-After and body of one request for a deployment, which is not repeated."""
    headers = {"Authorization": f"Bearer {await world.federation.token('ada')}"}
    body = {"template": text, "parameters": parameters or {}, "userGroup": "cms"}
    async with (
        aiohttp.ClientSession(headers=headers) as http,
        http.post(f"{world.federation.url}/deployments", json=body) as answer,
    ):
        return answer.status, answer.headers.get("Retry-After"), await answer.json()


async def answering(world: World, service: str) -> bool:
    try:
        await world.get(service, "/livez")
    except aiohttp.ClientError:
        return False
    return True


async def says(world: World, service: str, check: str, *, within_s: float = 30) -> None:
    """Wait until ``/readyz`` of *service* names *check*, and that is alive all the same."""

    async def is_named() -> bool:
        return await answering(world, service) and check in await world.failing_checks(service)

    await until(is_named, within_s=within_s)
    assert (await world.get(service, "/readyz"))[0] == 503
    assert (await world.get(service, "/livez"))[0] == 200


async def runs_then_goes(client: Client, *ids: str, timeout_s: float = 90) -> None:
    done = await asyncio.gather(*(client.wait(id, timeout_s=timeout_s) for id in ids))
    assert {one["status"] for one in done} == {"CREATE_COMPLETE"}
    await asyncio.gather(*(client.delete(id) for id in ids))
    await asyncio.gather(*(client.wait(id, timeout_s=timeout_s, until=GONE) for id in ids))


async def test_services_that_start_before_their_broker_say_so_and_begin_when_it_comes(
    world: World, servers: OwnServers
) -> None:
    for service in SERVICES:
        await says(world, service, "bus")

    async def is_waiting_for_it() -> bool:
        return str((await world.get("gateway", "/readyz"))[1]["checks"]["start"]["detail"]).startswith("bus: ")

    await until(is_waiting_for_it)
    status, retry_after, _ = await post(world, VM)
    assert (status, retry_after) == (503, "1")
    await servers.call("rabbitmq", "start")
    await world.federation.ready()
    status, _, made = await post(world, VM)
    assert status == 201
    async with world.client() as client:
        await runs_then_goes(client, made["uuid"])


async def test_a_broker_that_crashes_loses_nothing(world: World, servers: OwnServers) -> None:
    async with world.client() as client:
        ids = [str((await client.create(VM, {}, group="cms"))["id"]) for _ in range(4)]
        await servers.call("rabbitmq", "kill")  # while they are on their way
        for service in SERVICES:
            await says(world, service, "bus")
        status, _, made = await post(world, VM)
        assert status == 201
        await servers.call("rabbitmq", "start")
        await world.federation.ready()
        await runs_then_goes(client, *ids, made["uuid"])
    assert await world.dead() == {}
    assert await world.used() == {}


async def test_a_vault_sealed_for_longer_than_the_first_retries_loses_nothing(
    world: World, servers: OwnServers
) -> None:
    await servers.call("openbao", "seal")
    for service in WITH_VAULT:
        await says(world, service, "vault")
    assert await world.failing_checks("sla") == set()
    status, retry_after, refused = await post(world, COMPOSE, {"service_token": "not to be lost"})
    assert (status, refused["code"], retry_after) == (503, 503, "2")
    async with world.client() as client:
        ids = [str((await client.create(VM, {}, group="cms"))["id"]) for _ in range(11)]
        await asyncio.sleep(SEALED_S)
        assert {(await client.deployment(id))["status"] for id in ids} == {"CREATE_IN_PROGRESS"}
        await servers.call("openbao", "unseal")
        await world.federation.ready()
        await runs_then_goes(client, *ids)
    assert await world.dead() == {}
    assert await world.used() == {}


async def test_a_message_that_nobody_can_read_goes_to_the_dead_queue_and_an_operator_decides(world: World) -> None:
    bus = open_bus(world.settings, "e2e")
    await bus.start()
    await bus.inject("sla", b'{"specversion": "1.0", "id": "poison"')
    await bus.stop()

    async def is_dead() -> bool:
        return await world.dead() == {"sla": 1}

    indaco = world.federation.operate
    await until(is_dead)
    [line] = (await indaco("dead", "list")).splitlines()
    service, id, *_ = line.split()
    assert service == "sla"
    assert "invalid: envelope" in line
    assert "poison" in await indaco("dead", "show", "sla", id)
    assert await indaco("dead", "retry", "sla", id) == "1 put back\n"
    await until(is_dead)  # nothing has changed about it
    assert await indaco("dead", "drop", "sla", "--yes") == "1 dropped\n"
    assert await world.dead() == {}


async def test_a_reader_that_lost_its_store_gets_it_back_by_replay(world: World) -> None:
    federation = world.federation
    async with world.client() as client:
        id = str((await client.create(VM, {}, group="cms"))["id"])
        await runs_then_goes(client, id)

    async def is_closed() -> bool:
        return [record["status"] for record in await world.records(id)] == ["closed"]

    await until(is_closed)
    [before] = await world.records(id)
    assert await federation.terminate("accounting") == 0
    for file in (federation.folder / "data").glob("accounting.db*"):
        file.unlink()
    federation.launch("accounting")
    await federation.ready()
    assert await world.records(id) == []
    for _ in range(2):  # the second time changes nothing
        printed = await federation.operate("replay", "--from", "orchestrator", "--to", "accounting")
        assert printed.endswith("messages were given to accounting\n")
        await until(is_closed)
    [after] = await world.records(id)
    told = ("id", "node", "started_at", "stopped_at", "resource_id", "user", "group", "usage")
    assert {name: after[name] for name in told} == {name: before[name] for name in told}


async def test_topology_that_an_administrator_lost_is_told_and_made_again(world: World) -> None:
    federation = world.federation
    assert federation.backing is not None
    told = await federation.operate("doctor")
    assert "FAIL" not in told
    assert "reached, topology complete" in told
    queue = f"{os.environ['INDACO_TEST_AMQP_MANAGEMENT']}/api/queues/{federation.backing.name}/indaco.sla.retry.1"
    async with aiohttp.ClientSession() as http, http.delete(queue) as answer:
        assert answer.status == 204
    with pytest.raises(Unavailable, match=r"indaco\.sla\.retry\.1"):
        await federation.operate("topology", "verify")
    with pytest.raises(Unavailable):
        await federation.operate("doctor")
    assert (await federation.operate("topology", "apply")).startswith("declared: ")
    verified = (await federation.operate("topology", "verify")).splitlines()
    assert verified == [f"{service}: ok" for service in sorted(SERVICES)]


@pytest.fixture
def small_disk(tmp_path: Path) -> Path:
    """A data folder of its own on a disk of 48 MiB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    folder = tmp_path / "data"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(folder)], check=False)
    if mounted.returncode:
        pytest.skip("this machine lets nobody mount a disk")
    return folder


async def test_a_full_disk_is_told_refused_and_recovered_from_without_help(
    small_disk: Path, make_federation: MakeFederation
) -> None:
    federation = make_federation(folder=small_disk.parent)
    world, ballast = World(federation), small_disk / "ballast"
    try:
        await federation.start()
        async with world.client() as client:
            kept = str((await client.create(VM, {}, group="cms"))["id"])
            await client.wait(kept, timeout_s=60)
            fill(ballast)
            await says(world, "gateway", "store")
            status, retry_after, refused = await post(world, VM)
            assert (status, refused["code"]) == (503, 503)
            assert retry_after is not None
            assert (await client.deployment(kept))["status"] == "CREATE_COMPLETE"  # reading goes on
            await asyncio.sleep(3)
            ballast.unlink()
            await federation.ready()
            made = await client.create(VM, {}, group="cms")
            await runs_then_goes(client, made["id"], kept)
        assert await world.used() == {}
        assert await world.dead() == {}
        assert await federation.terminate("all") == 0
    finally:
        await federation.stop()
        subprocess.run(["umount", "-l", str(small_disk)], check=True)
    assert "database or disk is full" in json.dumps(world.log_lines())


def fill(file: Path) -> None:
    """Take every byte that is left, and what is freed in the next moment."""
    with file.open("wb", buffering=0) as out:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    out.write(b"x" * size)
            except OSError:
                continue
