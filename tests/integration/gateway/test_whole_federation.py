"""Providers, agreements, quotas and usage of a whole Indaco on a simulated site, which is killed in between."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from indaco_common.testing.federation import ALL, Federation

from .whole import federation
from .world import VM

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def whole(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Federation]:
    async with federation(tmp_path_factory.mktemp("federation")) as whole:
        yield whole


async def ask(whole: Federation, method: str, path: str, body: object = None, *, status: int = 200) -> Any:
    headers = {"Authorization": f"Bearer {await whole.token('ada')}"}
    async with (
        aiohttp.ClientSession(headers=headers) as http,
        http.request(method, f"{whole.url}{path}", json=body) as answer,
    ):
        assert answer.status == status, await answer.text()
        return await answer.json()


async def until(look: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await look():
            await asyncio.sleep(0.2)


async def settled(whole: Federation, id: str, status: str) -> None:
    async def is_so() -> bool:
        return bool((await ask(whole, "GET", f"/v1/deployments/{id}"))["status"] == status)

    await until(is_so)


async def instances(whole: Federation) -> dict[str, int]:
    """Return how the quota of machines stands; nothing, if it was not heard yet."""
    [found] = (await ask(whole, "GET", "/v1/quotas?group=cms"))["content"]
    return dict(found["resources"].get("instances", {}))


async def machines(whole: Federation) -> tuple[int, int]:
    found = (await ask(whole, "GET", "/v1/usage"))["total"]
    return found["machines"], found["running"]


async def test_what_is_there_what_is_free_and_what_was_used_is_told_and_survives_a_kill(whole: Federation) -> None:
    async def is_known() -> bool:
        known = [(await ask(whole, "GET", f"/v1/{what}"))["content"] for what in ("providers", "quotas")]
        return all(known) and bool(await instances(whole))

    await until(is_known)
    assert (await ask(whole, "GET", "/v1/providers/SITE-A"))["simulated"] is True
    agreement = await ask(whole, "GET", "/v1/agreements/a")
    assert (agreement["provider"], agreement["state"], agreement["limits"]["instances"]) == ("SITE-A", "valid", 4)
    assert await instances(whole) == {"limit": 4, "used": 0, "held": 0, "free": 4}

    made = await ask(whole, "POST", "/v1/deployments", {"template": VM, "group": "cms"}, status=201)
    await settled(whole, made["id"], "CREATE_COMPLETE")
    whole.kill(ALL)  # at once: that the ledger has changed may not have been told yet
    whole.launch(ALL)
    await whole.ready()

    async def is_used() -> bool:
        return await instances(whole) == {"limit": 4, "used": 1, "held": 0, "free": 3}

    await until(is_used)
    assert await machines(whole) == (1, 1)
    [row] = (await ask(whole, "GET", "/v1/usage?by=deployment"))["content"]
    assert (row["deployment"], row["simulated"]) == (made["id"], True)
    assert row["wall_hours"] > 0

    await ask(whole, "DELETE", f"/v1/deployments/{made['id']}", status=202)
    await settled(whole, made["id"], "DELETE_COMPLETE")

    async def is_free() -> bool:
        return await instances(whole) == {"limit": 4, "used": 0, "held": 0, "free": 4}

    await until(is_free)
    assert await machines(whole) == (1, 0)
    accounted = aiohttp.ClientSession()
    async with accounted, accounted.get(f"http://127.0.0.1:{whole.ports['accounting']}/records") as answer:
        [record] = (await answer.json())["records"]
    total = (await ask(whole, "GET", "/v1/usage"))["total"]
    assert total["core_hours"] == pytest.approx(record["usage"]["cpu_s"] / 3600, abs=1e-6)
    assert total["memory_gib_hours"] == pytest.approx(record["usage"]["memory_gib_s"] / 3600, abs=1e-6)
