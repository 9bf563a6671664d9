"""Machines that are stopped and started, from the client through all services to a simulated site and back."""

from collections.abc import AsyncIterator
from functools import partial

import pytest
import pytest_asyncio

from indaco_client import ActionFailed, Client
from indaco_common.simulation import break_site

from .worlds import BEST, GONE, MakeFederation, World, backed, template, until

pytestmark = pytest.mark.asyncio(loop_scope="module")
REAL = (pytest.mark.rabbitmq, pytest.mark.mongodb, pytest.mark.vault)
VM = template("virtual-machine")
PAIR = VM.replace("count: 1", "count: 2")

in_both_modes = pytest.mark.parametrize(
    "world", ["embedded", pytest.param("mongodb", marks=REAL)], indirect=True, scope="module"
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(
    request: pytest.FixtureRequest, make_federation: MakeFederation, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    quick = partial(make_federation, INDACO_ORCHESTRATOR_ACTION_S="5")
    async with backed(request.param, quick, tmp_path_factory) as world:
        yield world


async def made(client: Client, text: str = VM) -> str:
    """Return a deployment that runs."""
    id = str((await client.create(text, group="cms"))["id"])
    await client.wait(id, timeout_s=60)
    return id


async def gone(world: World, client: Client, id: str) -> None:
    """Delete it, and see that nothing is left."""
    await client.delete(id)
    await client.wait(id, timeout_s=60, until=GONE)

    async def is_clean() -> bool:
        return not await world.kept_for(id) and await world.used() == {}

    async def is_closed() -> bool:
        return {record["status"] for record in await world.records(id)} == {"closed"}

    await until(is_clean)
    await until(is_closed)
    assert await world.dead() == {}


async def states(client: Client, id: str) -> dict[str, str]:
    return {each["node"]: each["state"] for each in await client.resources(id)}


@in_both_modes
async def test_a_machine_stands_still_and_comes_back_at_another_address_with_its_outputs(world: World) -> None:
    async with world.client() as client:
        id = await made(client, PAIR)
        before, used = await client.outputs(id), await world.used()
        await client.act(id, "stop", ["server-0"])
        [stopped] = await client.wait_for_action(id, "stop", ["server-0"], timeout_s=30)
        assert await states(client, id) == {"server-0": "STOPPED", "server-1": "STARTED"}
        assert (await client.deployment(id))["status"] == "CREATE_COMPLETE"
        assert await world.used() == used
        assert {record["status"] for record in await world.records(id)} == {"open"}
        await client.act(id, "start")
        [started] = await client.wait_for_action(id, "start", ["server-0"], timeout_s=30)
        assert started["public_address"] != stopped["public_address"]

        async def is_told() -> bool:
            return await client.outputs(id) != before

        await until(is_told)
        assert started["public_address"] in str(await client.outputs(id))
        told = [step["title"] for step in await client.timeline(id)]
        assert told[-5:] == [
            "Stop requested",
            "server-0 stopped",
            "Start requested",
            "server-0 runs again",
            "Outputs changed",
        ]
        await gone(world, client, id)


@in_both_modes
async def test_what_is_deleted_while_it_stands_still_or_is_about_to_leaves_nothing_behind(world: World) -> None:
    async with world.client() as client:
        id = await made(client)
        await client.act(id, "stop")
        await client.wait_for_action(id, "stop", ["server-0"], timeout_s=30)
        await gone(world, client, id)
        id = await made(client)
        await client.act(id, "stop")
        await gone(world, client, id)
        assert await states(client, id) == {"server-0": "DELETED"}


@in_both_modes
async def test_a_stop_that_is_taken_back_ends_with_a_machine_that_runs(world: World) -> None:
    async with world.client() as client:
        id = await made(client)
        await client.act(id, "stop")
        await client.act(id, "start")
        await client.wait_for_action(id, "start", ["server-0"], timeout_s=30)
        assert await states(client, id) == {"server-0": "STARTED"}
        assert (await client.act(id, "start"))[0]["state"] == "STARTED"
        await gone(world, client, id)


@in_both_modes
async def test_a_start_that_the_site_does_not_bring_about_is_given_up_and_says_so(world: World) -> None:
    async with world.client() as client:
        id = await made(client)
        await client.act(id, "stop")
        await client.wait_for_action(id, "stop", ["server-0"], timeout_s=30)
        break_site(world.federation.sites / BEST, boot_s=3600)
        try:
            await client.act(id, "start")
            with pytest.raises(ActionFailed, match="server-0 is STOPPED: the provider did not start it in time"):
                await client.wait_for_action(id, "start", ["server-0"], timeout_s=60)
        finally:
            break_site(world.federation.sites / BEST)
        assert (await client.timeline(id))[-1]["title"] == "server-0 could not be started"
        assert (await client.deployment(id))["status"] == "CREATE_COMPLETE"
        await gone(world, client, id)
