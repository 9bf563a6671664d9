"""Machines that are stopped and started, at both faces: what is asked of the orchestrator, what is refused, and who is told."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from indaco_common.clock import SystemClock
from indaco_common.contracts import gateway, orchestrator
from indaco_common.contracts.values import Failure
from indaco_common.ids import DeploymentId
from indaco_common.secrets.embedded import EmbeddedVault
from indaco_common.testing.receiver import Receiver, receiving

from .test_resources import DOCKER
from .world import VM, Answer, Issuer, World, node, running, running_event

PAIR = VM.replace("count: 1", "count: 2")
BOTH = ("server-0", "server-1")


@pytest.fixture
async def world(tmp_path: Path, openbao: EmbeddedVault, issuer: Issuer) -> AsyncIterator[World]:
    async with running(World(tmp_path, openbao, issuer, {"callback_networks": ("127.0.0.0/8",)})) as world:
        yield world


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


async def runs(world: World, template: str = PAIR, nodes: tuple[str, ...] = BOTH) -> str:
    """Return the id of a deployment that runs."""
    id = await world.created(template)
    started = [orchestrator.NodeStarted(**node(id, name), public_address="192.0.2.7") for name in nodes]
    await world.say(*started, running_event(id, nodes=nodes))
    return id


def stopped(id: str, number: int = 1, name: str = "server-0", run: int = 1) -> orchestrator.NodeStopped:
    now = SystemClock().now()
    return orchestrator.NodeStopped(**node(id, name), run=run, number=number, stopped_at=now)


def resumed(id: str, number: int, name: str = "server-0") -> orchestrator.NodeResumed:
    now = SystemClock().now()
    about = {**node(id, name), "run": 2, "number": number}
    return orchestrator.NodeResumed(**about, resumed_at=now, public_address="192.0.2.77")


def refused(id: str, number: int, name: str = "server-0") -> orchestrator.NodeActionFailed:
    reason = Failure(code="unsupported", detail="no machine stops here")
    return orchestrator.NodeActionFailed(
        deployment_id=DeploymentId(id), attempt=1, node=name, number=number, reason=reason
    )


async def act(world: World, id: str, action: str, *names: str, user: str = "ada", **options: Any) -> Answer:
    body = {"action": action, **({"resources": names} if names else {})}
    return await world.send("POST", f"/v1/deployments/{id}/actions", user, json=body, **options)


async def asked(world: World) -> list[tuple[int, str, tuple[str, ...]]]:
    """Return the actions that were asked of the orchestrator."""
    return [
        (message.number, message.action, message.nodes)
        for message in await world.messages()
        if isinstance(message, gateway.DeploymentActionRequested)
    ]


async def states(world: World, id: str) -> dict[str, str]:
    content = (await world.get(f"/v1/deployments/{id}/resources")).json["content"]
    return {each["node"]: each["state"] for each in content}


# ── ours


async def test_machines_are_stopped_and_come_back_at_another_address_with_other_outputs(world: World) -> None:
    id = await runs(world)
    answer = await act(world, id, "stop", "server-0")
    assert (answer.status, [each["state"] for each in answer.json["content"]]) == (202, ["STOPPING"])
    await world.say(stopped(id))
    assert await states(world, id) == {"server-0": "STOPPED", "server-1": "STARTED"}
    assert (await world.get(f"/v1/deployments/{id}")).json["status"] == "CREATE_COMPLETE"
    answer = await act(world, id, "start")
    assert {each["node"]: each["state"] for each in answer.json["content"]} == {
        "server-0": "STARTING",
        "server-1": "STARTED",
    }
    changed = orchestrator.DeploymentOutputsChanged(
        deployment_id=DeploymentId(id), attempt=1, outputs={"ip": "192.0.2.77"}
    )
    await world.say(resumed(id, 2), changed)
    first = (await world.get(f"/v1/deployments/{id}/resources")).json["content"][0]
    assert (first["state"], first["public_address"]) == ("STARTED", "192.0.2.77")
    assert (await world.get(f"/v1/deployments/{id}/outputs")).json["content"] == {"ip": "192.0.2.77"}
    assert await asked(world) == [(1, "stop", ("server-0",)), (2, "start", ("server-0",))]


async def test_what_is_so_or_was_asked_for_is_answered_and_not_asked_again(world: World) -> None:
    id = await runs(world)
    assert (await act(world, id, "stop", "server-0")).status == 202
    for names in (("server-0",), ("server-0", "server-0")):
        again = await act(world, id, "stop", *names)
        assert (again.status, [each["state"] for each in again.json["content"]]) == (200, ["STOPPING"])
    assert (await act(world, id, "start", "server-1")).status == 200
    assert (await act(world, id, "stop")).status == 202
    assert await asked(world) == [(1, "stop", ("server-0",)), (2, "stop", ("server-1",))]


async def test_why_an_action_failed_is_with_the_machine_until_another_is_asked_for(world: World) -> None:
    id = await runs(world)
    await act(world, id, "stop", "server-0")
    await world.say(refused(id, 1))
    first, second = (await world.get(f"/v1/deployments/{id}/resources")).json["content"]
    assert (first["state"], first["failure"]) == ("STARTED", "no machine stops here")
    assert "failure" not in second
    old = (await world.get(f"/deployments/{id}/resources/{first['id']}")).json
    assert (old["state"], old["metadata"]["failure"]) == ("STARTED", "no machine stops here")
    again = await act(world, id, "stop", "server-0")
    assert "failure" not in again.json["content"][0]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"action": "stop", "resources": ["server-7"]}, "'server-7' is not there; there are: server-0, server-1"),
        ({"action": "stop", "resources": []}, "at least 1 item"),
        ({"action": "stop", "resources": [f"server-{n}" for n in range(201)]}, "at most 200 items"),
        ({"action": "stop", "resources": ["x" * 141]}, "at most 140 characters"),
        ({"action": "reboot"}, "'start' or 'stop'"),
        ({}, "Field required"),
        ({"action": "stop", "force": True}, "Extra inputs are not permitted"),
    ],
)
async def test_what_makes_no_sense_is_refused_with_what_would(world: World, body: Any, told: str) -> None:
    id = await runs(world)
    answer = await world.send("POST", f"/v1/deployments/{id}/actions", json=body)
    assert (answer.status, answer.headers["Content-Type"]) == (400, "application/problem+json")
    assert told in str(answer.json["errors"])
    assert await asked(world) == []


async def test_a_container_is_not_stopped_and_neither_is_a_machine_that_is_gone(world: World) -> None:
    container = await runs(world, DOCKER, ("app-0",))
    answer = await act(world, container, "stop", "app-0")
    assert answer.status == 400
    assert "it is no machine" in answer.json["errors"][0]["detail"]
    none = await act(world, container, "stop")
    assert (none.status, none.json) == (200, {"content": []})
    id = await runs(world)
    await world.say(orchestrator.NodeRemoved(**node(id), stopped_at=SystemClock().now()))
    gone = await act(world, id, "stop", "server-0")
    assert (gone.status, gone.json["detail"]) == (409, "Cannot stop server-0: it is DELETED")
    assert [each["node"] for each in (await act(world, id, "stop")).json["content"]] == ["server-1"]


async def test_an_action_is_done_if_nobody_has_changed_the_deployment_since(world: World) -> None:
    id = await runs(world)
    path = f"/v1/deployments/{id}"
    tag = (await world.get(path)).headers["ETag"]
    answer = await act(world, id, "stop", "server-0", headers={"If-Match": tag})
    assert answer.status == 202
    late = await act(world, id, "start", "server-0", headers={"If-Match": tag})
    assert (late.status, late.json["code"]) == (412, "precondition-failed")
    assert answer.headers["ETag"] == (await world.get(path)).headers["ETag"]
    assert (await act(world, id, "start", "server-0", headers={"If-Match": answer.headers["ETag"]})).status == 202


async def test_actions_that_are_asked_for_at_once_are_all_counted_and_each_machine_is_asked_once(world: World) -> None:
    id = await runs(world)
    answers = await asyncio.gather(*(act(world, id, "stop", name) for name in BOTH * 3))
    assert sorted(answer.status for answer in answers) == [200, 200, 200, 200, 202, 202]
    found = await asked(world)
    assert [number for number, _, _ in found] == [1, 2]
    assert {nodes for _, _, nodes in found} == {("server-0",), ("server-1",)}


async def test_no_machine_is_stopped_of_a_deployment_that_is_locked_or_still_on_its_way(world: World) -> None:
    early = await act(world, await world.created(), "stop")
    assert (early.status, early.json["detail"]) == (
        409,
        "Cannot perform actions on deployment in CREATE_IN_PROGRESS state",
    )
    id = await runs(world)
    await world.send("PUT", f"/v1/deployments/{id}/lock", json={"reason": "beam time"})
    rid = (await world.get(f"/deployments/{id}/resources")).json["content"][0]["uuid"]
    for answer in (
        await act(world, id, "stop"),
        await world.send("POST", f"/deployments/{id}/resources/{rid}/actions", json={"type": "stop"}),
    ):
        assert (answer.status, "beam time" in answer.text) == (423, True)
    assert await asked(world) == []


async def test_who_may_only_read_a_deployment_stops_nothing_and_who_may_change_it_does(world: World) -> None:
    id = await runs(world)
    rid = (await world.get(f"/deployments/{id}/resources")).json["content"][0]["uuid"]
    old, stop = f"/deployments/{id}/resources/{rid}/actions", {"type": "stop"}
    for user in ("bob", "eve"):
        assert (await act(world, id, "stop", user=user)).status == 404
        assert (await world.send("POST", old, user, json=stop)).status == 404
    await world.send("PUT", f"/v1/deployments/{id}/shares/cms", json={"access": "read"})
    before = await states(world, id)
    for answer in (await act(world, id, "stop", user="bob"), await world.send("POST", old, "bob", json=stop)):
        assert answer.status == 403
        assert "to see and not to change" in answer.text
    assert await states(world, id) == before
    assert await asked(world) == []
    await world.send("PUT", f"/v1/deployments/{id}/shares/cms", json={"access": "change"})
    assert (await act(world, id, "stop", "server-0", user="bob")).status == 202
    assert await asked(world) == [(1, "stop", ("server-0",))]


async def test_a_machine_of_another_deployment_is_none_of_this_one(world: World) -> None:
    id, other = await runs(world), await runs(world)
    rid = (await world.get(f"/deployments/{other}/resources")).json["content"][0]["uuid"]
    assert (await act(world, id, "stop", rid)).status == 400
    answer = await world.send("POST", f"/deployments/{id}/resources/{rid}/actions", json={"type": "stop"})
    assert (answer.status, answer.message) == (400, f"Resource <{rid}> not found in deployment <{id}>")
    assert await asked(world) == []


async def test_subscribers_are_told_what_becomes_of_machines_and_readers_alone(
    world: World, receiver: Receiver
) -> None:
    id = await runs(world)
    for user in ("ada", "eve"):
        terms = {"url": receiver.url, "types": ["node.*", "deployment.action-requested"], "scope": "readable"}
        made = await world.send("POST", "/v1/subscriptions", user, json=terms)
        assert made.status == 201, made.text
    await act(world, id, "stop")
    await world.say(stopped(id), refused(id, 1, "server-1"))
    await act(world, id, "start", "server-0")
    await world.say(resumed(id, 2))
    received = sorted(await receiver.has(5), key=lambda each: each.json["sequence"])
    assert [(each.type, each.json["data"]["step"]["title"]) for each in received] == [
        ("deployment.action-requested", "Stop requested"),
        ("node.stopped", "server-0 stopped"),
        ("node.action-failed", "server-1 could not be stopped"),
        ("deployment.action-requested", "Start requested"),
        ("node.resumed", "server-0 runs again"),
    ]


# ── INDIGO's


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ({"type": "start"}, 400, "Cannot start a resource in STARTED state; it must be STOPPED"),
        ({"type": "explode"}, 400, "The action 'explode' is not one of start, stop"),
        ({"type": None}, 400, "An action type must be provided"),
        ({}, 400, "An action type must be provided"),
        ({"type": 5}, 400, "1 field(s) of the body are wrong; type: Input should be a valid string"),
    ],
)
async def test_an_action_that_does_not_fit_is_told_as_indigo_tells_it(
    world: World, body: dict[str, object], status: int, told: str
) -> None:
    id = await runs(world)
    rid = (await world.get(f"/deployments/{id}/resources")).json["content"][0]["uuid"]
    answer = await world.send("POST", f"/deployments/{id}/resources/{rid}/actions/", json=body)
    assert (answer.status, answer.message) == (status, told)


async def test_indigos_action_answers_with_the_resource_on_its_way(world: World) -> None:
    id = await runs(world)
    rid = (await world.get(f"/deployments/{id}/resources")).json["content"][0]["uuid"]
    url = f"/deployments/{id}/resources/{rid}"
    answer = await world.send("POST", f"{url}/actions", json={"type": "stop"})
    assert (answer.status, answer.json) == (202, (await world.get(url)).json)
    assert answer.json["state"] == "STOPPING"
    again = await world.send("POST", f"{url}/actions", json={"type": "stop"})
    assert (again.status, again.message) == (400, "Cannot stop a resource in STOPPING state; it must be STARTED")
    await world.say(stopped(id))
    assert (await world.get(url)).json["state"] == "STOPPED"
    assert (await world.send("POST", f"{url}/actions", json={"type": "start"})).json["state"] == "STARTING"
    assert await asked(world) == [(1, "stop", ("server-0",)), (2, "start", ("server-0",))]


async def test_indigos_action_needs_a_machine_that_runs_and_the_right_to_change_it(world: World) -> None:
    id = await world.created()
    rid = (await world.get(f"/deployments/{id}/resources")).json["content"][0]["uuid"]
    stop = {"type": "stop"}
    early = await world.send("POST", f"/deployments/{id}/resources/{rid}/actions", json=stop)
    assert (early.status, early.message) == (409, "Cannot perform actions on deployment in CREATE_IN_PROGRESS state")
    assert int(early.headers["Retry-After"]) > 0
    absent = await world.send("POST", f"/deployments/{id}/resources/none/actions", json=stop)
    assert (absent.status, absent.message) == (400, f"Resource <none> not found in deployment <{id}>")
    assert (await world.send("POST", f"/deployments/nothing/resources/{rid}/actions", json=stop)).status == 404
    assert (await world.send("POST", f"/deployments/{id}/resources/{rid}/actions", data="type=stop")).status == 415
    container = await runs(world, DOCKER, ("app-0",))
    [app] = (await world.get(f"/deployments/{container}/resources")).json["content"]
    refused = await world.send("POST", f"/deployments/{container}/resources/{app['uuid']}/actions", json=stop)
    assert (refused.status, refused.message.endswith("it is no machine")) == (400, True)
