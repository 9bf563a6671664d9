"""The Python client against a gateway: what it returns, what it raises, what it lives through."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web

from indaco_client import (
    Client,
    Conflict,
    DeploymentFailed,
    IndacoClientError,
    NotFound,
    NotSignedIn,
    Refused,
    TimedOut,
    Unreachable,
    wire,
)
from indaco_client import deployments as deployments_module
from indaco_common.contracts import orchestrator, vault
from indaco_common.contracts.values import Failure
from indaco_common.ids import DeploymentId

from .world import COMPOSE, VM, World, running_event

LINE = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ3VK0c3qX8Tt0w5v3F1v8V1s1o5c1qZk2cQG0X4yN5p ada@laptop"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "PAUSE_S", 0.02)
    monkeypatch.setattr(deployments_module, "FIRST_LOOK_S", 0.02)


@pytest.fixture
async def client(world: World) -> AsyncIterator[Client]:
    async with Client(world.url, world.issuer.token()) as client:
        yield client


def failed(id: str) -> orchestrator.DeploymentFailed:
    return orchestrator.DeploymentFailed(deployment_id=DeploymentId(id), reason=Failure(code="x", detail="no place"))


async def test_a_deployment_is_created_read_and_deleted(world: World, client: Client) -> None:
    id = (await client.create(COMPOSE, {"service_token": "hush"}, group="cms", timeout_minutes=60))["id"]
    await world.say(running_event(id))
    done = await client.wait(id, timeout_s=5)
    assert (done["status"], done["secret_inputs"]) == ("CREATE_COMPLETE", ["service_token"])
    assert await client.template(id) == COMPOSE
    assert await client.outputs(id) == {"ip": "192.0.2.7"}
    assert (await client.log(id)).endswith("Running: 1 nodes")
    assert [step["number"] for step in await client.timeline(id)] == [1, 2]
    assert [one["node"] for one in await client.resources(id)] == ["server-0"]
    await client.delete(id)
    await world.say(orchestrator.DeploymentDeleted(deployment_id=DeploymentId(id)))
    assert (await client.wait(id, timeout_s=5, until=frozenset({"DELETE_COMPLETE"})))["status"] == "DELETE_COMPLETE"
    assert [step["number"] async for step in client.events(id, after=2)] == [3, 4]


async def test_lists_go_on_over_all_pages(world: World, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deployments_module, "PAGE", 2)
    ids = [await world.created() for _ in range(5)]
    assert [one["id"] async for one in client.deployments(group="cms")] == ids[::-1]


async def test_each_refusal_has_its_class_and_the_words_of_the_server(world: World, client: Client) -> None:
    with pytest.raises(NotFound, match=r"The deployment <x/\.\.> doesn't exist"):
        await client.deployment("x/..")
    with pytest.raises(NotFound):
        await client.deployment("")
    with pytest.raises(Refused) as refused:
        await client.create(VM, {"cpus": 1, "num_cpus": 99}, group="cms")
    first, *fields = refused.value.what.splitlines()
    assert first == "The template or its parameters cannot be accepted: 2 problems"
    assert {field.partition(":")[0] for field in fields} == {"  parameters/cpus", "  parameters/num_cpus"}
    assert refused.value.request_id.startswith("req-")
    with pytest.raises(Refused, match="name: "):
        await client.create_key("../x")
    id = await world.created()
    await client.delete(id)
    with pytest.raises(Conflict, match="DELETE_IN_PROGRESS"):
        await client.delete(id)
    async with Client(world.url, "rubbish") as stranger:
        with pytest.raises(NotSignedIn) as unknown:
            await stranger.deployment(id)
        assert unknown.value.hint == "sign in again: indaco login"


async def test_a_wait_ends_in_time_and_a_failure_is_told(world: World, client: Client) -> None:
    id = await world.created()
    with pytest.raises(TimedOut, match=r"is still CREATE_IN_PROGRESS after 0\.1 s"):
        await client.wait(id, timeout_s=0.1)
    await world.say(failed(id))
    with pytest.raises(DeploymentFailed, match="CREATE_FAILED: no place"):
        await client.wait(id)
    assert (await client.wait(id, until=frozenset({"CREATE_FAILED"})))["status"] == "CREATE_FAILED"


async def test_keys_are_made_listed_and_deleted(world: World, client: Client) -> None:
    making = asyncio.create_task(client.create_key("laptop"))

    async def is_asked_for() -> bool:
        return bool(await client.keys())

    await world.until(is_asked_for)
    made = vault.KeyCreated(
        user_id=world.user_id("ada"), name="laptop", public_key=LINE, fingerprint="f", generated=True
    )
    await world.say(made, source="vault-broker")
    assert (await making)["public_key"] == LINE
    with pytest.raises(NotFound):
        await client.reveal_key("laptop")
    await client.delete_key("laptop")
    assert await client.keys() == []
    with pytest.raises(TimedOut):
        await client.create_key("slow", timeout_s=0.05)


async def test_a_token_that_must_be_renewed_is_asked_for_each_time(world: World) -> None:
    tokens = iter(world.issuer.token(user) for user in ("ada", "bob"))

    async def fresh() -> str:
        return next(tokens)

    async with Client(world.url, fresh) as client:
        first, second = await client.create(VM, group="cms"), await client.create(VM)
    assert [one["owner"]["subject"] for one in (first, second)] == ["ada", "bob"]


# ── a server in trouble


Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@pytest.fixture
async def troubled() -> AsyncIterator[Callable[[Answer], Awaitable[str]]]:
    """Start a server that answers as it is told, and return its URL."""
    runners: list[web.AppRunner] = []

    async def serve(answer: Answer) -> str:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", answer)
        runner = web.AppRunner(app)
        runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    yield serve
    for runner in runners:
        await runner.cleanup()


Troubled = Callable[[Answer], Awaitable[str]]


async def test_what_may_be_repeated_is_until_it_is_answered_under_one_key(troubled: Troubled) -> None:
    asked: list[tuple[str, str | None]] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append((request.method, request.headers.get("Idempotency-Key")))
        if len(asked) % 3:
            return web.json_response({"code": 503, "message": "starting"}, status=503)
        return web.json_response({"id": "u"})

    async with Client(await troubled(answer)) as client:
        assert (await client.create("t"))["id"] == "u"
        assert (await client.deployment("u"))["id"] == "u"
        with pytest.raises(Unreachable, match="starting"):
            await client.delete_key("k")
    methods = [method for method, _ in asked]
    assert methods == ["POST"] * 3 + ["GET"] * 3 + ["DELETE"]
    assert len({key for method, key in asked if method == "POST"}) == 1


async def test_a_deletion_whose_answer_was_lost_is_no_conflict(troubled: Troubled) -> None:
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.method)
        if request.method == "GET":
            return web.json_response({"status": "DELETE_IN_PROGRESS"})
        if len(asked) <= 2:  # aiohttp repeats once by itself
            assert request.transport is not None
            request.transport.close()
        return web.json_response({"message": "Deployment already in DELETE_IN_PROGRESS state."}, status=409)

    async with Client(await troubled(answer)) as client:
        await client.delete("u")
    assert asked[0] == "DELETE"
    assert asked[-1] == "GET"


async def test_a_stream_goes_on_where_it_broke_off(troubled: Troubled) -> None:
    given: list[str] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        if not request.path.endswith("/events"):
            return web.json_response({"status": "DELETE_COMPLETE" if len(given) == 4 else "CREATE_COMPLETE"})
        given.append(request.headers["Last-Event-ID"])
        if len(given) == 2:
            return web.json_response({"message": "starting"}, status=503)
        response = web.StreamResponse()
        await response.prepare(request)
        number = int(given[-1]) + 1
        await response.write(f": hello\n\nid: {number}\ndata: {json.dumps({'number': number})}\n\n".encode())
        if len(given) == 3:
            assert request.transport is not None
            request.transport.close()
        return response

    async with Client(await troubled(answer)) as client:
        assert [step["number"] async for step in client.events("u")] == [1, 2, 3]
    assert given == ["0", "1", "1", "2"]


async def test_a_wait_outlasts_a_restart_but_not_an_address_where_nobody_ever_was(troubled: Troubled) -> None:
    asked = 0

    async def answer(request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        if 1 < asked < 8:
            return web.json_response({}, status=502)
        return web.json_response({"status": "CREATE_IN_PROGRESS" if asked == 1 else "CREATE_COMPLETE"})

    async with Client(await troubled(answer)) as client:
        assert (await client.wait("u"))["status"] == "CREATE_COMPLETE"
    async with Client("http://127.0.0.1:9") as client:
        with pytest.raises(Unreachable, match="does not answer"):
            await client.wait("u")


@pytest.mark.parametrize(
    ("response", "error", "says"),
    [
        ({"text": "<html>welcome"}, IndacoClientError, "does not answer as a gateway does"),
        ({"text": "[]"}, IndacoClientError, "does not answer as a gateway does"),
        (
            {"status": 302, "headers": {"Location": "https://elsewhere/"}},
            IndacoClientError,
            "sends us to https://elsewhere/",
        ),
        ({"status": 500, "text": '{"errors": 7}'}, IndacoClientError, "the server answered 500"),
        (
            {"status": 400, "text": '{"errors": [7, {"detail": "bad"}], "message": "m; body: bad"}'},
            Refused,
            "m\n  body: bad",
        ),
    ],
)
async def test_odd_answers_are_errors_and_no_crashes(
    troubled: Troubled, response: dict[str, object], error: type[IndacoClientError], says: str
) -> None:  # fmt: skip
    async def answer(_: web.Request) -> web.Response:
        return web.Response(**response)  # type: ignore[arg-type]

    async with Client(await troubled(answer)) as client:
        with pytest.raises(error) as raised:
            await client.deployment("u")
    assert type(raised.value) is error
    assert says in raised.value.what
