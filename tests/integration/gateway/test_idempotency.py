"""One key, one deployment: however often it is asked for, at however many gateways, and whatever dies in between."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from indaco_common.contracts import gateway
from indaco_common.envelope import Context
from indaco_common.errors import Unavailable
from indaco_common.secrets.port import Secrets
from indaco_gateway.model.operation import Operation

from .world import COMPOSE, VM, World, running, running_event

KEY = "a-key-of-the-client"


@pytest.fixture
async def other(world: World) -> AsyncIterator[World]:
    """A second gateway on the same store and bus."""
    async with running(World(world.folder, world.vault, world.issuer)) as other:
        yield other


async def requests(world: World) -> list[gateway.DeploymentRequested]:
    return [message for message in await world.messages() if isinstance(message, gateway.DeploymentRequested)]


async def test_the_same_request_again_gets_the_same_deployment_and_changes_nothing(world: World) -> None:
    first = await world.create(key=KEY)
    again = await world.create(key=KEY)
    assert (first.status, again.status) == (201, 201)
    assert again.json == first.json
    assert again.headers["ETag"] == first.headers["ETag"]
    await world.say(running_event(first.json["uuid"]))
    later = await world.create(key=KEY)
    assert (later.json["uuid"], later.json["status"]) == (first.json["uuid"], "CREATE_COMPLETE")
    assert len(await requests(world)) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"template": VM + "# and a remark"},
        {"parameters": {"num_cpus": 2}},
        {"userGroup": "cms/analysis"},
        {"callback": "https://dash.example.org/callback"},
        {"timeoutMins": 5},
        {"maxProvidersRetry": 1},
    ],
)
async def test_another_request_under_the_same_key_is_refused(world: World, change: dict[str, object]) -> None:
    first = await world.create(key=KEY)
    before = world.rows()
    answer = await world.create(key=KEY, **{"template": VM, **change})  # type: ignore[arg-type]
    assert (answer.status, answer.json["title"]) == (422, "Unprocessable Entity")
    assert answer.message == "This Idempotency-Key was used for another request; take a new key"
    assert world.rows()["blobs"] == before["blobs"] == 1
    assert len(await requests(world)) == 1
    assert (await world.get(f"/deployments/{first.json['uuid']}")).json == first.json


async def test_a_key_is_each_users_own_and_without_one_every_request_counts(world: World) -> None:
    ids = {(await world.create(key=KEY, user=user)).json["uuid"] for user in ("ada", "bob")}
    ids |= {await world.created(), await world.created()}
    assert len(ids) == 4


async def test_many_at_once_at_two_gateways_make_one_deployment(world: World, other: World) -> None:
    answers = await asyncio.gather(*(one.create(key=KEY) for one in (world, other) for _ in range(6)))
    assert {answer.status for answer in answers} == {201}
    assert len({answer.json["uuid"] for answer in answers}) == 1
    assert len(await requests(world)) == 1


async def test_of_different_requests_at_two_gateways_one_wins_with_its_own_secrets(world: World, other: World) -> None:
    async def create(one: World, n: int) -> tuple[int, str]:
        token = f"token-of-{n}"
        answer = await one.create(COMPOSE + f"# {n}", key=KEY, parameters={"service_token": token})
        return answer.status, token

    answers = await asyncio.gather(*(create((world, other)[n % 2], n) for n in range(8)))
    winners = [token for status, token in answers if status == 201]
    assert sorted(status for status, _ in answers) == [201] + [422] * 7
    (request,) = await requests(world)
    assert await world.secret(f"inputs/{request.deployment_id}") == {"service_token": winners[0]}
    assert request.template.endswith(f"# {winners[0].rpartition('-')[2]}")


class Faulty:
    """Secrets that cannot be put as long as *broken* says."""

    def __init__(self, secrets: Secrets) -> None:
        self._secrets, self.broken = secrets, True

    async def put(self, path: str, secret: dict[str, object]) -> None:
        if self.broken:
            raise Unavailable("the vault is sealed")
        await self._secrets.put(path, secret)


async def test_what_broke_off_before_it_was_accepted_is_accepted_when_it_comes_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    faulty = Faulty(world.infra.vault)
    monkeypatch.setattr(type(world.infra.vault), "put", lambda _, path, secret: faulty.put(path, secret))
    parameters = {"service_token": "hush-hush"}
    broken = await world.create(COMPOSE, key=KEY, parameters=parameters)
    assert broken.status == 503
    assert (await world.get("/deployments?excludedStatus=NONE")).json["content"] == []
    assert (await world.infra.bus.state("orchestrator")).ready == 0
    monkeypatch.undo()
    again = await world.create(COMPOSE, key=KEY, parameters=parameters)
    assert again.status == 201
    assert await world.secret(f"inputs/{again.json['uuid']}") == parameters
    assert len(await requests(world)) == 1


async def test_a_claim_that_nobody_finished_is_seen_by_nobody(world: World) -> None:
    operations = world.infra.repository(Operation)
    async with operations.upsert("0" * 36, Context()) as operation:
        operation.claim("f")
    for user in ("ada", "root"):
        assert (await world.get("/deployments/" + "0" * 36, user)).status == 404
        assert (await world.get("/deployments?excludedStatus=NONE", user)).json["content"] == []


async def test_deletions_and_events_that_meet_at_two_gateways_all_count(world: World, other: World) -> None:
    ids = [await world.created() for _ in range(6)]

    async def delete(id: str, one: World) -> int:
        return (await one.send("DELETE", f"/deployments/{id}?force=true")).status

    async def hear() -> None:
        for id in ids:
            await world.say(running_event(id))

    statuses, _ = await asyncio.gather(
        asyncio.gather(*(delete(id, one) for id in ids for one in (world, other))), hear()
    )  # fmt: skip
    assert set(statuses) == {204}
    for id in ids:
        steps = (await world.get(f"/deployments/{id}/timeline")).json["content"]
        assert [step["number"] for step in steps] == [1, 2, 3, 4]
        assert (await world.get(f"/deployments/{id}")).json["status"] == "DELETE_IN_PROGRESS"
