"""Live events: nothing missed, nothing twice, and no stream that stays for nobody."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest

from indaco_common.contracts import orchestrator
from indaco_common.errors import Unavailable
from indaco_common.ids import DeploymentId
from indaco_gateway import live
from indaco_gateway.api import events

from .world import World, running, running_event


@dataclass
class Stream:
    """An open stream, read line by line."""

    answer: aiohttp.ClientResponse
    comments: list[str] = field(default_factory=list)

    async def steps(self, count: int | None = None, within_s: float = 5) -> list[dict[str, Any]]:
        """Read *count* events, or all until the end; each must carry its number as its id."""
        found: list[dict[str, Any]] = []
        id = ""
        async with asyncio.timeout(within_s):
            while count is None or len(found) < count:
                line = (await self.answer.content.readline()).decode()
                if not line:
                    break
                name, _, value = line.rstrip("\n").partition(": ")
                match name:
                    case "id":
                        id = value
                    case "data":
                        found.append(json.loads(value))
                        assert str(found[-1]["number"]) == id
                    case "" if value:
                        self.comments.append(value)
                    case _:
                        pass
        return found


@asynccontextmanager
async def listening(world: World, id: str, after: object = None, token: str | None = None) -> AsyncIterator[Stream]:
    headers = {"Authorization": f"Bearer {token or world.issuer.token()}"}
    if after is not None:
        headers["Last-Event-ID"] = str(after)
    async with world.http.get(f"{world.url}/deployments/{id}/events", headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        yield Stream(answer)


def cleaned(id: str, attempt: int) -> orchestrator.AttemptCleaned:
    return orchestrator.AttemptCleaned(deployment_id=DeploymentId(id), attempt=attempt)


def gone(id: str) -> orchestrator.DeploymentDeleted:
    return orchestrator.DeploymentDeleted(deployment_id=DeploymentId(id))


def numbers(steps: list[dict[str, Any]]) -> list[int]:
    return [step["number"] for step in steps]


async def test_a_listener_hears_what_was_and_what_comes_until_all_is_deleted(world: World) -> None:
    id = await world.created()
    async with listening(world, id) as stream:
        assert stream.answer.headers["Content-Type"] == "text/event-stream"
        assert stream.answer.headers["Cache-Control"] == "no-store"
        assert [step["type"] for step in await stream.steps(1)] == ["gateway.deployment.requested"]
        await world.say(running_event(id))
        assert [step["status"] for step in await stream.steps(1)] == ["CREATE_COMPLETE"]
        await world.send("DELETE", f"/deployments/{id}")
        await world.say(gone(id))
        assert numbers(await stream.steps()) == [3, 4]
        assert stream.answer.content.at_eof()


async def test_whoever_comes_back_misses_nothing_and_hears_nothing_twice(world: World) -> None:
    id = await world.created()
    heard: list[int] = []
    for attempt in range(1, 8):
        async with listening(world, id, heard[-1] if heard else None) as stream:
            await world.say(*(cleaned(id, n) for n in range(attempt * 10, attempt * 10 + 3)))
            heard += numbers(await stream.steps(2))
    async with listening(world, id, heard[-1]) as stream:
        await world.say(gone(id))
        heard += numbers(await stream.steps())
    timeline = (await world.get(f"/deployments/{id}/timeline")).json["content"]
    assert heard == numbers(timeline) == list(range(1, 1 + 1 + 7 * 3 + 1))


@pytest.mark.parametrize("after", ["-1", "x", "1e3", "٣", "9" * 40, ""])
async def test_an_odd_last_event_id_begins_at_the_beginning(world: World, after: str) -> None:
    id = await world.created()
    async with listening(world, id, after.encode().decode("latin-1")) as stream:
        assert numbers(await stream.steps(1)) == [1]


async def test_whoever_claims_to_have_heard_more_than_there_is_hears_what_comes(world: World) -> None:
    id = await world.created()
    async with listening(world, id, 99_999) as stream:
        await world.say(running_event(id))
        assert numbers(await stream.steps(1)) == [2]


async def test_whoever_has_heard_the_end_is_told_that_there_is_no_more(world: World) -> None:
    id = await world.created()
    await world.say(gone(id))
    answer = await world.get(f"/deployments/{id}/events", headers={"Last-Event-ID": "2"})
    assert (answer.status, answer.text) == (204, "")


async def test_a_listener_hears_what_another_gateway_saved(world: World) -> None:
    id = await world.created()
    async with running(World(world.folder, world.vault, world.issuer)) as other, listening(world, id) as stream:
        assert numbers(await stream.steps(1)) == [1]
        assert (await other.send("DELETE", f"/deployments/{id}")).status == 204
        assert numbers(await stream.steps(1)) == [2]


async def test_a_quiet_stream_gives_signs_of_life_through_an_outage_of_the_store(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr(events, "BEAT_S", 0.1)
    monkeypatch.setattr(live, "POLL_S", 0.05)
    id = await world.created()
    async with listening(world, id) as stream:
        assert numbers(await stream.steps(1)) == [1]

        async def down(*_: object) -> None:
            raise Unavailable("the store does not answer")

        with monkeypatch.context() as patch:
            patch.setattr(world.infra.store, "load", down)
            with pytest.raises(TimeoutError):
                await stream.steps(1, within_s=0.5)
        assert set(stream.comments) == {"still here"}
        assert len(stream.comments) >= 2
        await world.say(cleaned(id, 1))
        assert numbers(await stream.steps(1)) == [2]


async def test_listeners_are_counted_and_one_who_goes_makes_room(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "POLL_S", 0.05)
    small = World(world.folder / "small", world.vault, world.issuer, {"max_listeners": 2})
    small.folder.mkdir()
    async with running(small):
        id = await small.created()

        async def has_room() -> bool:
            answer = await small.http.get(
                f"{small.url}/deployments/{id}/events", headers={"Authorization": f"Bearer {small.issuer.token()}"}
            )
            answer.close()
            if answer.status == 429:
                assert int(answer.headers["Retry-After"]) > 0
            return answer.status == 200

        async with listening(small, id) as first, listening(small, id) as second:
            assert numbers(await first.steps(1)) == numbers(await second.steps(1)) == [1]
            assert not await has_room()
            first.answer.close()
            await small.until(has_room, within_s=3)


async def test_a_stream_ends_with_the_token_that_opened_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "POLL_S", 0.05)
    id = await world.created()
    async with listening(world, id, token=world.issuer.token(lifetime_s=1)) as stream:
        assert numbers(await stream.steps()) == [1]


async def test_streams_do_not_hold_up_the_stop(world: World) -> None:
    brief = World(world.folder / "brief", world.vault, world.issuer)
    brief.folder.mkdir()
    await brief.start()
    id = await brief.created()
    loop = asyncio.get_running_loop()
    async with listening(brief, id) as stream:
        await stream.steps(1)
        began = loop.time()
        await brief.runner.drain()
        await brief.runner.stop()
        assert loop.time() - began < 3
        assert await stream.steps() == []
    await brief.http.close()


@pytest.mark.parametrize("face", ["", "/v1"])
async def test_whoever_may_no_longer_read_hears_no_more(world: World, face: str) -> None:
    id = await world.created()
    await world.send("PUT", f"/v1/deployments/{id}/shares/cms", json={"access": "read"})
    headers = {"Authorization": f"Bearer {world.issuer.token('bob')}"}
    async with world.http.get(f"{world.url}{face}/deployments/{id}/events", headers=headers) as answer:
        stream = Stream(answer)
        assert numbers(await stream.steps(2)) == [1, 2]
        await world.send("DELETE", f"/v1/deployments/{id}/shares/cms")
        assert await stream.steps() == []
    assert (await world.get(f"/v1/deployments/{id}/events", "bob")).status == 404
