"""The life of deployments, on the embedded federation and on real servers."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import pytest
import pytest_asyncio

from indaco_client import Client
from indaco_common.contracts.gateway import DeploymentDeletionRequested
from indaco_common.envelope import Context, seal
from indaco_common.ids import deployment_id
from indaco_common.infra import open_bus
from indaco_common.simulation import break_site

from .worlds import BEST, FAILED, GONE, LAST, NEXT, MakeFederation, World, backed, template, until

pytestmark = pytest.mark.asyncio(loop_scope="module")
REAL = (pytest.mark.rabbitmq, pytest.mark.mongodb, pytest.mark.vault)
VM = template("virtual-machine")
COMPOSE = template("docker-compose")
SECRET = "a-secret-that-only-the-machine-may-know"


EMBEDDED, MONGODB, SQLITE = "embedded", pytest.param("mongodb", marks=REAL), pytest.param("sqlite", marks=REAL)
everywhere = pytest.mark.parametrize("world", [EMBEDDED, MONGODB, SQLITE], indirect=True, scope="module")
on_both_buses = pytest.mark.parametrize("world", [EMBEDDED, SQLITE], indirect=True, scope="module")
in_both_modes = pytest.mark.parametrize("world", [EMBEDDED, MONGODB], indirect=True, scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(
    request: pytest.FixtureRequest, make_federation: MakeFederation, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    async with backed(request.param, make_federation, tmp_path_factory) as world:
        yield world


async def create(client: Client, text: str = VM, parameters: dict[str, Any] | None = None, **options: Any) -> str:
    return str((await client.create(text, parameters or {}, group="cms", **options))["id"])


async def nothing_is_used(world: World, before: dict[str, dict[str, int]]) -> None:
    async def is_back() -> bool:
        return await world.used() == before

    await until(is_back)


@everywhere
async def test_a_deployment_runs_is_accounted_and_leaves_nothing_behind(world: World) -> None:
    before = await world.used()
    async with world.client() as client:
        id = await create(client, COMPOSE, {"service_token": SECRET})
        running = await client.wait(id, timeout_s=60)
        assert (running["status"], running["provider"], running["simulated"]) == (
            "CREATE_COMPLETE",
            BEST,
            True,
        )
        outputs = await client.outputs(id)
        assert outputs["endpoint"] == f"http://{outputs['node_ip']}/"
        assert [resource["state"] for resource in await client.resources(id)] == ["STARTED"]
        assert (await world.used())["best"]["instances"] == before.get("best", {}).get("instances", 0) + 1

        async def is_open() -> bool:
            return [record["status"] for record in await world.records(id)] == ["open"]

        await until(is_open)
        assert f"inputs/{id}" in await world.kept_for(id)
        assert f"leases/{id}/1" in await world.kept_for(id)

        await client.delete(id)
        await client.wait(id, timeout_s=60, until=GONE)
        assert await client.outputs(id) == {}
        await nothing_is_used(world, before)

        async def is_swept() -> bool:
            return not await world.kept_for(id)

        async def is_closed() -> bool:
            return [record["status"] for record in await world.records(id)] == ["closed"]

        await until(is_swept)
        await until(is_closed)
        assert await world.dead() == {}
        steps = await client.timeline(id)
    assert [step["number"] for step in steps] == list(range(1, len(steps) + 1))
    told = [step["type"] for step in steps]
    for name in (
        "gateway.deployment.requested", "sla.placement.reserved", "orchestrator.attempt.started", "orchestrator.node.started",
        "orchestrator.deployment.running", "orchestrator.deployment.deleting", "orchestrator.deployment.deleted",
    ):  # fmt: skip
        assert name in told


@in_both_modes
async def test_the_trace_tells_the_whole_story_with_its_causes(world: World) -> None:
    async with world.client() as client:
        id = await create(client)
        await client.wait(id, timeout_s=60)
        await client.delete(id)
        await client.wait(id, timeout_s=60, until=GONE)

    async def is_told() -> bool:
        names = {envelope.name for envelope in await world.story(id)}
        return {"accounting.record.closed.v1", "vault.credential.revoked.v1", "sla.quota.release.v1"} <= names

    await until(is_told, pause_s=1)
    envelopes = {envelope.id: envelope for envelope in await world.story(id)}
    sources = {envelope.source for envelope in envelopes.values()}
    assert sources == {f"/indaco/{s}" for s in ("gateway", "sla", "orchestrator", "vault-broker", "accounting")}
    causes = [envelope.causationid for envelope in envelopes.values() if envelope.causationid]
    assert set(causes) <= envelopes.keys()
    by_name = {envelope.name: envelope for envelope in envelopes.values()}
    chain, name = [], "orchestrator.attempt.started.v1"
    while (cause := by_name[name].causationid) is not None:
        name = envelopes[cause].name
        chain.append(name)
    assert chain == [
        "vault.credential.issued.v1", "vault.credential.issue.v1", "sla.placement.reserved.v1", "sla.quota.reserved.v1",
        "sla.quota.reserve.v1", "gateway.deployment.requested.v1",
    ]  # fmt: skip
    printed = await world.federation.operate("trace", id)
    assert printed.count(".v1") == len(envelopes)


@in_both_modes
async def test_the_next_place_takes_over_when_the_best_fails(world: World) -> None:
    before = await world.used()
    break_site(world.federation.sites / BEST, boot_fail_rate=1.0)
    try:
        async with world.client() as client:
            id = await create(client)
            done = await client.wait(id, timeout_s=60)
            assert [(a["provider"], a["outcome"]) for a in done["attempts"]] == [(BEST, "failed"), (NEXT, "running")]
            assert "simulated failure at boot" in done["attempts"][0]["reason"]
            assert done["provider"] == NEXT
            await client.delete(id)
            await client.wait(id, timeout_s=60, until=GONE)
    finally:
        break_site(world.federation.sites / BEST)
    await nothing_is_used(world, before)


@in_both_modes
async def test_what_no_agreement_grants_is_refused_with_the_shortfall_of_each_resource(world: World) -> None:
    before = await world.used()
    async with world.client() as client:
        many = VM.replace("count: 1", "count: 8")
        id = await create(client, many, {"num_cpus": 8, "mem_size": "16 GB"})
        refused = await client.wait(id, timeout_s=60, until=FAILED)
        shortfalls = {
            reason["resource"]: (reason["need"], reason["limit"])
            for reason in refused["refused"]
            if reason["provider"] == BEST
        }
    assert shortfalls["instances"] == (8, 6)
    assert shortfalls["cpu_milli"] == (64000, 12000)
    assert shortfalls["memory_mib"][1] == 49152
    assert {reason["provider"] for reason in refused["refused"]} == {BEST, NEXT, LAST}
    for name in ("instances", "cpu_milli", "memory_mib"):
        assert name in refused["status_reason"]
    await nothing_is_used(world, before)


@in_both_modes
async def test_a_deletion_while_creating_leaves_nothing(world: World) -> None:
    before = await world.used()
    for site in (BEST, NEXT, LAST):
        break_site(world.federation.sites / site, boot_s=3600)
    try:
        async with world.client() as client:
            id = await create(client)

            async def is_building() -> bool:
                return any(step["type"] == "orchestrator.attempt.started" for step in await client.timeline(id))

            await until(is_building)
            await client.delete(id)
            await client.wait(id, timeout_s=60, until=GONE)
            assert await world.records(id) == []
    finally:
        for site in (BEST, NEXT, LAST):
            break_site(world.federation.sites / site)
    await nothing_is_used(world, before)

    async def is_swept() -> bool:
        return not await world.kept_for(id)

    await until(is_swept)


@everywhere
async def test_a_deletion_that_overtakes_its_request_wins(world: World) -> None:
    """The orchestrator hears of the deletion first: no order is promised."""
    before = await world.used()
    federation = world.federation
    id = deployment_id(federation.issuer_url, federation.subject("ada"), "overtaken")
    deletion = DeploymentDeletionRequested(deployment_id=id)
    envelope = seal(deletion, Context(), source="gateway", version=1, index=0, now=datetime.now().astimezone())
    bus = open_bus(world.settings, "e2e")
    await bus.start()
    await bus.inject("orchestrator", envelope.body)
    await bus.stop()
    await asyncio.sleep(0.5)
    async with world.client() as client:
        assert await create(client, idempotency_key="overtaken") == id
        gone = await client.wait(id, timeout_s=60, until=GONE)
    assert gone.get("attempts", []) == [] or all(a.get("outcome") != "running" for a in gone["attempts"])
    assert await world.records(id) == []
    await nothing_is_used(world, before)


@on_both_buses
async def test_many_at_once_all_run_and_the_quota_is_never_exceeded(world: World) -> None:
    before = await world.used()
    async with world.client() as client:
        ids = await asyncio.gather(*(create(client) for _ in range(10)))
        done = await asyncio.gather(*(client.wait(id, timeout_s=90) for id in ids))
        sites = sorted(one["provider"] for one in done)
        assert {site: sites.count(site) for site in (BEST, NEXT, LAST)} == {
            BEST: 4,
            NEXT: 4,
            LAST: 2,
        }  # by public addresses
        await asyncio.gather(*(client.delete(id) for id in ids))
        await asyncio.gather(*(client.wait(id, timeout_s=90, until=GONE) for id in ids))
    await nothing_is_used(world, before)
    assert await world.dead() == {}


@on_both_buses
async def test_processes_end_in_time_with_code_0_and_what_runs_is_there_again_after_a_restart(world: World) -> None:
    federation = world.federation
    async with world.client() as client:
        id = await create(client)
        before = await client.wait(id, timeout_s=60), await client.outputs(id)
        working = await create(client)  # somewhere on its way when the stop comes
    codes = await asyncio.gather(*(federation.terminate(unit, timeout_s=30) for unit in federation.units))
    assert set(codes) == {0}
    for unit in federation.units:
        federation.launch(unit)
    await federation.ready()
    async with world.client() as client:
        after = await client.deployment(id), await client.outputs(id)
        assert [after[0][name] for name in ("status", "provider")] == [
            before[0][name] for name in ("status", "provider")
        ]
        assert after[1] == before[1]
        assert (await client.wait(working, timeout_s=60))["status"] == "CREATE_COMPLETE"
        for one in (id, working):
            await client.delete(one)
        for one in (id, working):
            await client.wait(one, timeout_s=60, until=GONE)
    await nothing_is_used(world, {})
