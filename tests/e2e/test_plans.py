"""A dry run through gateway and sla, in processes of their own: it tells what a deployment then meets, and leaves nothing held."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from .worlds import BEST, LAST, NEXT, MakeFederation, World, backed, template

pytestmark = pytest.mark.asyncio(loop_scope="module")
REAL = (pytest.mark.rabbitmq, pytest.mark.mongodb, pytest.mark.vault)
VM = template("virtual-machine")


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["embedded", pytest.param("mongodb", marks=REAL)])
async def world(
    request: pytest.FixtureRequest, make_federation: MakeFederation, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    async with backed(request.param, make_federation, tmp_path_factory) as world:
        yield world


async def send(world: World, method: str, path: str, **body: Any) -> tuple[int, dict[str, Any]]:
    headers = {"Authorization": f"Bearer {await world.federation.token('ada')}"}
    async with (
        aiohttp.ClientSession(headers=headers) as http,
        http.request(method, world.federation.url + path, json=body or None) as answer,
    ):
        return answer.status, await answer.json()


async def test_a_plan_tells_where_it_would_go_and_a_deployment_goes_there(world: World) -> None:
    before = await world.used()
    status, plan = await send(world, "POST", "/v1/plans", template=VM)
    assert status == 201, plan
    assert [place["provider"] for place in plan["placement"]["ranked"]] == [BEST, NEXT, LAST]
    assert plan["placement"]["ranked"][0]["left"]["instances"] == 5
    assert plan["placement"]["ranked"][0]["nodes"]["server"]["flavor"] == "small"
    assert await world.used() == before
    status, deployment = await send(world, "POST", "/v1/deployments", template=VM, name="as planned")
    assert status == 201, deployment
    async with world.client() as client:
        assert (await client.wait(deployment["id"], timeout_s=60))["provider"] == BEST
        status, next_plan = await send(world, "POST", "/v1/plans", template=VM)
        assert next_plan["placement"]["ranked"][0]["left"]["instances"] == 4
        await client.delete(deployment["id"])


async def test_a_plan_that_fits_nowhere_tells_what_is_missing_where(world: World) -> None:
    status, plan = await send(world, "POST", "/v1/plans", template=VM, parameters={"num_cpus": 64})
    assert status == 201, plan
    assert plan["placement"]["ranked"] == []
    assert {(reason["provider"], reason["code"]) for reason in plan["placement"]["refused"]} >= {
        (BEST, "FLAVOR"), (NEXT, "FLAVOR"), (LAST, "FLAVOR"),
    }  # fmt: skip
