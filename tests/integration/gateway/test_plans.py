"""/v1/plans on a running gateway, with sla played: what is asked of it, what is told, and what becomes of old plans."""

import asyncio
import json
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from indaco_common.clock import SystemClock
from indaco_common.contracts import gateway, sla
from indaco_common.contracts.values import PlacedNode, Proposed, Reason
from indaco_gateway.api import plans

from .world import NEEDS, VM, Answer, World, running

SECRET = "correct-horse-battery"
WITH_SECRET = """
tosca_definitions_version: tosca_simple_yaml_1_3
topology_template:
  inputs:
    password: {type: string, required: true, metadata: {secret: true}}
    num_cpus: {type: integer, default: 2}
  node_templates:
    server:
      type: tosca.nodes.indigo.Compute
      capabilities:
        host: {properties: {num_cpus: {get_input: num_cpus}, mem_size: 4 GB}}
"""


async def ask(world: World, user: str = "ada", **body: Any) -> Answer:
    return await world.send("POST", "/v1/plans", user, json={"template": VM, "group": "cms", **body})


async def asked(world: World) -> list[gateway.PlanRequested]:
    return [message for message in await world.messages() if isinstance(message, gateway.PlanRequested)]


def proposal(id: str) -> sla.PlacementProposed:
    place = Proposed(
        provider="SITE-A", region="one", score=0.9, terms={"headroom": 1.0}, agreement="a", kind="openstack",
        nodes={"server": PlacedNode(flavor="m1.small", needs=NEEDS)}, left=NEEDS,
    )  # fmt: skip
    reason = Reason(provider="SITE-B", code="QUOTA", detail="too little", resource="cpu_milli", need=4, available=1)
    return sla.PlacementProposed(
        inquiry_id=id, ranked=(place,), refused=(reason,), ranked_total=1, refused_total=1, at=SystemClock().now()
    )


async def answered(world: World, count: int = 1) -> None:
    """Play sla: answer the last inquiry once it is on its way."""

    async def is_asked() -> bool:
        return len(await asked(world)) >= count

    await world.until(is_asked)
    await world.say(proposal((await asked(world))[-1].inquiry_id), source="sla")


async def has_catalogue(world: World) -> bool:
    return (await world.get("/v1/catalogue")).status == 200


async def test_a_plan_tells_what_would_be_made_where_and_why_not_elsewhere(world: World) -> None:
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(ask(world))
        await answered(world)
    answer = asking.result()
    assert answer.status == 201, answer.text
    body = answer.json
    assert answer.headers["Location"] == f"{world.url}/v1/plans/{body['id']}"
    assert body["status"] == "ready"
    [node] = body["plan"]["nodes"]
    assert (node["kind"], node["count"], node["level"]) == ("machine", 1, 1)
    assert body["plan"]["totals"]["machines"] == 1
    [place] = body["placement"]["ranked"]
    assert (place["provider"], place["score"], place["left"]["instances"]) == ("SITE-A", 0.9, 1)
    assert place["nodes"]["server"]["flavor"] == "m1.small"
    [reason] = body["placement"]["refused"]
    assert (reason["provider"], reason["code"], reason["need"], reason["available"]) == ("SITE-B", "QUOTA", 4, 1)
    assert (await world.get(f"/v1/plans/{body['id']}")).json == body
    assert (await world.get("/v1/deployments")).json["content"] == []
    assert [type(message) for message in await world.messages()] == [gateway.PlanRequested]


async def test_a_plan_that_is_not_known_in_time_is_fetched_later(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "WAIT_S", 0.2)
    answer = await ask(world)
    assert (answer.status, answer.json["status"], answer.headers["Retry-After"]) == (202, "pending", "1")
    assert "placement" not in answer.json
    path = answer.headers["Location"].removeprefix(world.url)
    assert (await world.get(path)).json["status"] == "pending"
    await answered(world)
    known = (await world.get(path)).json
    assert (known["status"], known["placement"]["ranked_total"]) == ("ready", 1)
    late = proposal(known["id"]).model_copy(update={"ranked": (), "ranked_total": 0})
    await world.say(late, source="sla")
    assert (await world.get(path)).json == known


async def test_who_waits_for_a_plan_is_answered_at_once_when_the_gateway_stops(world: World) -> None:
    stopping = World(world.folder / "stopping", world.vault, world.issuer)
    stopping.folder.mkdir()
    await stopping.start()
    asking = asyncio.create_task(ask(stopping))

    async def is_asked() -> bool:
        return len(await asked(stopping)) == 1

    await stopping.until(is_asked)
    loop = asyncio.get_running_loop()
    begun, url = loop.time(), stopping.url
    await stopping.runner.drain()
    await stopping.runner.stop()
    answer = await asking
    assert loop.time() - begun < 2
    assert (answer.status, answer.json["status"], answer.headers["Retry-After"]) == (202, "pending", "1")
    assert answer.headers["Location"] == f"{url}/v1/plans/{answer.json['id']}"
    await stopping.http.close()


async def test_the_answer_may_come_by_another_gateway(world: World) -> None:
    async with running(World(world.folder, world.vault, world.issuer)) as other, asyncio.TaskGroup() as group:
        asking = group.create_task(ask(world))
        await answered(other)
    assert asking.result().status == 201


async def test_a_plan_is_its_askers_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "WAIT_S", 0)
    path = (await ask(world)).headers["Location"].removeprefix(world.url)
    for user in ("bob", "root"):
        assert (await world.get(path, user)).status == 404
    assert (await world.get("/v1/plans/x")).status == 404
    assert (await world.get(path, None)).status == 401


async def test_secret_inputs_of_a_plan_are_kept_nowhere(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "WAIT_S", 0)
    answer = await ask(world, template=WITH_SECRET, parameters={"password": SECRET})
    assert answer.status == 202, answer.text
    assert answer.json["plan"]["secret_inputs"] == ["password"]
    [request] = await asked(world)
    assert SECRET not in answer.text + request.model_dump_json()
    assert SECRET.encode() not in world.files()
    assert await world.secret(f"inputs/{answer.json['id']}") is None


@pytest.mark.parametrize(
    ("body", "status", "pointer"),
    [
        ({"template": "{}"}, 400, "/template"),
        ({"parameters": {"num_cpus": "many"}}, 400, "/parameters/num_cpus"),
        ({"template": "catalogue:nothing-of-this"}, 400, "/template"),
        ({"userGroup": "cms"}, 400, "/userGroup"),
        ({"template": "x" * (256 * 1024 + 1)}, 400, "/template"),
        ({"group": "atlas"}, 403, None),
    ],
)
async def test_what_cannot_be_planned_is_told_and_not_kept(
    world: World, body: dict[str, Any], status: int, pointer: str | None
) -> None:
    await world.until(partial(has_catalogue, world))
    before = world.rows()
    answer = await ask(world, **body)
    assert answer.status == status, answer.text
    if pointer is not None:
        assert answer.json["errors"][0]["pointer"] == pointer
    assert world.rows() == before


async def test_a_plan_that_no_message_could_carry_is_refused(world: World) -> None:
    ports = ", ".join(f"p{number}: {{source: {number}}}" for number in range(1, 601))
    kind = "type: tosca.nodes.indigo.Compute, capabilities: {endpoint: {properties: {ports: {" + ports + "}}}}"
    nodes = "".join(f"    server{number}: {{{kind}}}\n" for number in range(20))
    text = f"tosca_definitions_version: tosca_simple_yaml_1_3\ntopology_template:\n  node_templates:\n{nodes}"
    answer = await ask(world, template=text)
    assert (answer.status, answer.json["code"]) == (413, "payload-too-large"), answer.text
    assert await asked(world) == []


async def test_plans_are_counted(world: World) -> None:
    small = World(world.folder / "small", world.vault, world.issuer, {"rate_plan": "2/60"})
    small.folder.mkdir()
    async with running(small):
        statuses = [(await ask(small, template="{}")).status for _ in range(3)]
        assert statuses == [400, 400, 429]
        assert (await ask(small, user="bob", template="{}")).status == 400


async def test_an_old_plan_is_dropped_and_a_late_answer_is_for_nobody(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plans, "WAIT_S", 0)
    monkeypatch.setattr("indaco_gateway.inquiries.LIFE", timedelta(seconds=0.3))
    id = (await ask(world)).json["id"]
    rows = world.rows()["aggregates"]

    async def is_dropped() -> bool:
        return world.rows()["aggregates"] == rows - 1

    await world.until(is_dropped)
    assert (await world.get(f"/v1/plans/{id}")).status == 404
    await world.say(proposal(id), source="sla")
    state = await world.infra.bus.state("gateway")
    assert (state.ready, state.delayed, state.dead) == (0, 0, 0)


async def test_every_service_of_the_catalogue_can_be_planned(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "WAIT_S", 0)
    await world.until(partial(has_catalogue, world))
    cards = (await world.get("/v1/catalogue?group=cms")).json["content"]
    assert cards
    for card in cards:
        version = (await world.get(f"/v1/catalogue/{card['name']}/latest")).json
        inputs = version["tests"][0]["inputs"]
        answer = await ask(world, template=f"catalogue:{card['name']}", parameters=inputs)
        assert answer.status == 202, (card["name"], answer.text)
        assert answer.json["plan"]["nodes"], card["name"]
        assert len(json.dumps(answer.json)) < 64 * 1024
