"""Growth of a whole Indaco that is killed while it is at it: done once, or refused, never halfway."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from indaco_common.testing.federation import ALL, Federation

from .test_updates import GROWING
from .whole import federation

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def whole(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Federation]:
    async with federation(tmp_path_factory.mktemp("growth")) as whole:
        yield whole


async def ask(whole: Federation, method: str, path: str, body: object = None) -> tuple[int, Any]:
    """Send a request of the owner; return status and JSON of the answer."""
    headers = {"Authorization": f"Bearer {await whole.token('ada')}"}
    async with (
        aiohttp.ClientSession(headers=headers) as http,
        http.request(method, f"{whole.url}{path}", json=body) as answer,
    ):
        text = await answer.text()
        return answer.status, json.loads(text) if text else None


@pytest_asyncio.fixture(loop_scope="module")
async def running(whole: Federation) -> AsyncIterator[str]:
    """A deployment of one machine; its id."""
    _, made = await ask(whole, "POST", "/deployments", {"template": GROWING, "userGroup": "cms"})
    assert await settled(whole, made["uuid"]) == "CREATE_COMPLETE"
    yield made["uuid"]
    await ask(whole, "DELETE", f"/deployments/{made['uuid']}")
    assert await settled(whole, made["uuid"]) == "DELETE_COMPLETE"


async def put(whole: Federation, id: str, machines: int) -> int:
    status, _ = await ask(whole, "PUT", f"/deployments/{id}", {"parameters": {"machines": machines}})
    return status


async def restart(whole: Federation) -> None:
    whole.launch(ALL)
    await whole.ready()


async def settled(whole: Federation, id: str) -> str:
    """Return the state in which it comes to rest."""
    async with asyncio.timeout(60):
        while (found := await ask(whole, "GET", f"/deployments/{id}"))[1]["status"].endswith("_IN_PROGRESS"):
            await asyncio.sleep(0.1)
    return str(found[1]["status"])


def machines(whole: Federation, id: str) -> list[str]:
    """Return what there is at the site, by name."""
    with closing(sqlite3.connect(whole.sites / "SITE-A" / "site.db")) as site:
        rows = site.execute("SELECT key FROM machines WHERE deleted_at IS NULL").fetchall()
    return sorted(key.rpartition(".")[2] for (key,) in rows if key.startswith(id))


async def test_killed_right_after_the_answer_it_grows_all_the_same(whole: Federation, running: str) -> None:
    assert await put(whole, running, 3) == 202
    whole.kill(ALL)
    await restart(whole)
    assert await settled(whole, running) == "UPDATE_COMPLETE"
    assert machines(whole, running) == ["server-0", "server-1", "server-2"]
    assert await put(whole, running, 3) == 202
    assert await settled(whole, running) == "UPDATE_COMPLETE"
    assert machines(whole, running) == ["server-0", "server-1", "server-2"]


@pytest.mark.parametrize("after_s", [0.0, 0.01, 0.03])
async def test_killed_while_it_is_asked_the_same_question_again_ends_in_the_same_machines(
    whole: Federation, running: str, after_s: float
) -> None:
    asked = asyncio.ensure_future(put(whole, running, 2))
    await asyncio.sleep(after_s)
    whole.kill(ALL)
    await asyncio.gather(asked, return_exceptions=True)
    await restart(whole)
    async with asyncio.timeout(60):
        while await put(whole, running, 2) == 409:  # it was accepted before, and is under way
            await asyncio.sleep(0.1)
    assert await settled(whole, running) == "UPDATE_COMPLETE"
    assert machines(whole, running) == ["server-0", "server-1"]


async def test_a_growth_that_no_quota_allows_leaves_what_runs_and_can_be_taken_back(
    whole: Federation, running: str
) -> None:
    assert await put(whole, running, 9) == 202
    assert await settled(whole, running) == "UPDATE_FAILED"
    assert machines(whole, running) == ["server-0"]
    assert await put(whole, running, 1) == 202
    assert await settled(whole, running) == "UPDATE_COMPLETE"
    assert await put(whole, running, 2) == 202
    assert await settled(whole, running) == "UPDATE_COMPLETE"
    assert len(machines(whole, running)) == 2
