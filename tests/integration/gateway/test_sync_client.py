"""The client without a loop: from several threads, page by page, and until it is closed."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pytest

from indaco_client import NotFound, SyncClient, TimedOut
from indaco_client import deployments as deployments_module

from .world import VM, World, running_event

T = TypeVar("T")


@pytest.fixture
async def client(world: World) -> AsyncIterator[SyncClient]:
    client = await asyncio.to_thread(SyncClient, world.url, world.issuer.token())
    yield client
    await asyncio.to_thread(client.close)


async def away(call: Callable[..., T], *arguments: Any, **options: Any) -> T:
    """Call in another thread, as a program without a loop would in its only one: the gateway is in this one."""
    return await asyncio.to_thread(call, *arguments, **options)


async def test_a_deployment_is_created_waited_for_and_read(world: World, client: SyncClient) -> None:
    id = (await away(client.create, VM, {"num_cpus": 2}, group="cms", name="mine"))["id"]
    with pytest.raises(TimedOut):
        await away(client.wait, id, timeout_s=0.1)
    await world.say(running_event(id))
    assert (await away(client.wait, id, timeout_s=5))["status"] == "CREATE_COMPLETE"
    assert await away(client.outputs, id) == {"ip": "192.0.2.7"}
    with pytest.raises(NotFound, match="doesn't exist"):
        await away(client.deployment, "nothing")
    assert [card["name"] for card in await away(client.catalogue.cards)][:1] != []


async def test_lists_are_read_as_far_as_they_are_asked_for(
    world: World, client: SyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deployments_module, "PAGE", 2)
    ids = [await world.created() for _ in range(5)]

    def read() -> tuple[list[str], str]:
        return [one["id"] for one in client.deployments()], next(iter(client.deployments()))["id"]

    assert await away(read) == (ids[::-1], ids[-1])


async def test_events_come_as_they_happen_and_leaving_ends_the_stream(world: World, client: SyncClient) -> None:
    id = await world.created()
    heard: list[str] = []
    first = threading.Event()

    def listen() -> None:
        for step in client.events(id):
            heard.append(step["title"])
            first.set()
            if step["title"] == "Running":
                return

    listening = asyncio.create_task(asyncio.to_thread(listen))
    await asyncio.to_thread(first.wait, 10)
    await world.say(running_event(id))
    async with asyncio.timeout(10):
        await listening
    assert heard == ["Request accepted", "Running"]


async def test_several_threads_may_use_one_client(world: World, client: SyncClient) -> None:
    id = await world.created()
    with ThreadPoolExecutor(8) as threads:
        loop = asyncio.get_running_loop()
        found = await asyncio.gather(*(loop.run_in_executor(threads, client.deployment, id) for _ in range(40)))
    assert {one["id"] for one in found} == {id}


async def test_what_is_closed_says_so(world: World) -> None:
    def use() -> None:
        with SyncClient(world.url, world.issuer.token()) as client:
            client.keys()
        client.close()
        with pytest.raises(RuntimeError, match="the client is closed"):
            client.keys()

    await away(use)
    assert not [thread for thread in threading.enumerate() if thread.name == "indaco-client"]


async def test_a_client_is_made_from_the_environment(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("INDACO_URL", world.url)
    monkeypatch.setenv("INDACO_TOKEN", world.issuer.token())
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))

    def who() -> Any:
        with SyncClient.from_env() as client:
            return client.url, client.me()["subject"]

    assert await away(who) == (world.url, "ada")
