"""PUT: growth is accepted, merged with what was there, once and whole; anything else is refused and changes nothing."""

import asyncio
from typing import Any

import pytest

from indaco_common.contracts import gateway, orchestrator
from indaco_common.contracts.values import Failure
from indaco_common.errors import Unavailable
from indaco_common.ids import DeploymentId

from .world import COMPOSE, VM, Answer, World, node, running, running_event

GROWING = VM.replace("            count: 1\n", "            count: {get_input: machines}\n").replace(
    "    hostname:\n", "    machines:\n      type: integer\n      default: 1\n\n    hostname:\n"
)
TWO_SERVERS = COMPOSE.replace(
    "            version: 22.04\n",
    "            version: 22.04\n        scalable:\n          properties:\n            count: 2\n",
)
SECRET = "a-secret-that-only-the-machine-may-know"


async def put(world: World, id: str, user: str = "ada", **body: Any) -> Answer:
    return await world.send("PUT", f"/deployments/{id}", user, json=body)


async def runs(world: World, template: str = GROWING, **options: Any) -> str:
    """Create a deployment of one machine and let it run."""
    id = await world.created(template, **options)
    await world.say(orchestrator.NodeStarted(**node(id), public_address="192.0.2.7"), running_event(id))
    return id


async def wishes(world: World) -> list[gateway.DeploymentUpdateRequested]:
    return [m for m in await world.messages() if isinstance(m, gateway.DeploymentUpdateRequested)]


def update_failed(id: str, update: int = 1) -> orchestrator.DeploymentUpdateFailed:
    reason = Failure(code="no-place", detail="no room")
    return orchestrator.DeploymentUpdateFailed(deployment_id=DeploymentId(id), update=update, reason=reason)


def grown(id: str, update: int = 1) -> orchestrator.DeploymentRunning:
    return running_event(id, slots=(f"u{update}",), nodes=("server-0", "server-1"), outputs={"ip": "192.0.2.8"})


async def test_growth_is_accepted_with_the_deployment_and_merged_with_what_was_given_before(world: World) -> None:
    id = await runs(world, parameters={"num_cpus": 2, "mem_size": "2 GB"})
    answer = await put(world, id, parameters={"machines": "3", "mem_size": None}, callback="https://example.org/hook")
    assert answer.status == 202
    body = answer.json
    assert (body["uuid"], body["status"], body["task"]) == (id, "UPDATE_IN_PROGRESS", "DEPLOYER")
    assert body["callback"] == "https://example.org/hook"
    assert answer.headers["ETag"] == (await world.get(f"/deployments/{id}")).headers["ETag"]
    [wish] = await wishes(world)
    assert (wish.update, wish.template, wish.inputs) == (1, GROWING, {"num_cpus": 2, "machines": "3"})
    assert (wish.nodes["server"].count, wish.nodes["server"].needs["cpu_milli"]) == (3, 2000)
    assert (await world.infra.bus.state("orchestrator")).ready == 2
    steps = (await world.get(f"/deployments/{id}/timeline")).json["content"]
    assert steps[-1]["title"] == "Update 1 requested"
    assert "makes server-1, server-2" in steps[-1]["detail"]


async def test_a_template_takes_the_place_of_its_own_and_forgets_inputs_that_it_no_longer_has(world: World) -> None:
    id = await runs(world, parameters={"machines": 1})
    fixed = VM.replace("count: 1", "count: 2")
    assert (await put(world, id, template=fixed)).status == 202
    assert (await world.get(f"/deployments/{id}/template")).text == fixed
    [wish] = await wishes(world)
    assert (wish.template, wish.inputs) == (fixed, {})


async def test_the_next_update_begins_from_what_the_last_one_left(world: World) -> None:
    id = await runs(world, parameters={"num_cpus": 2})
    assert (await put(world, id, parameters={"machines": 2})).status == 202
    await world.say(grown(id))
    shown = (await world.get(f"/deployments/{id}")).json
    assert (shown["status"], shown["outputs"]) == ("UPDATE_COMPLETE", {"ip": "192.0.2.8"})
    assert (await put(world, id, parameters={"machines": 4})).status == 202
    assert [(w.update, w.inputs) for w in await wishes(world)] == [
        (1, {"num_cpus": 2, "machines": 2}),
        (2, {"num_cpus": 2, "machines": 4}),
    ]


async def test_a_growth_that_fails_leaves_it_running_and_can_be_asked_for_again_or_taken_back(world: World) -> None:
    id = await runs(world)
    await put(world, id, parameters={"machines": 2})
    await world.say(update_failed(id))
    shown = (await world.get(f"/deployments/{id}")).json
    assert (shown["status"], shown["statusReason"], shown["outputs"]) == (
        "UPDATE_FAILED",
        "no room",
        {"ip": "192.0.2.7"},
    )
    assert (await put(world, id, parameters={"machines": 2})).status == 202
    await world.say(update_failed(id, 2))
    assert (await put(world, id, parameters={"machines": 1})).status == 202
    assert [(w.update, w.nodes["server"].count) for w in await wishes(world)] == [(1, 2), (2, 2), (3, 1)]


async def test_what_changes_nothing_is_accepted_and_nothing_is_sent(world: World) -> None:
    id = await runs(world, parameters={"num_cpus": 1})
    before = (await world.get(f"/deployments/{id}")).json
    for body in ({}, {"template": GROWING, "parameters": {"num_cpus": 1}}, {"callback": "", "keepLastAttempt": "true"}):
        answer = await put(world, id, **body)
        assert (answer.status, answer.json) == (202, before)
    assert (await put(world, id, callback="https://example.org/x")).json["callback"] == "https://example.org/x"
    assert await wishes(world) == []


async def test_what_is_not_offered_is_refused_with_every_change_and_nothing_is_left(world: World) -> None:
    id = await runs(world)
    before, rows = (await world.get(f"/deployments/{id}")).json, world.rows()
    answer = await put(
        world,
        id,
        parameters={"machines": 3, "num_cpus": 4},
        template=GROWING.replace("    private_port:", "    private_port_2:"),
    )
    assert (answer.status, answer.json["code"]) == (422, 422)
    assert answer.message.startswith(
        "Only machines of a kind that runs can be added; nothing was changed; template: server: "
    )
    told = " ".join(error["detail"] for error in answer.json["errors"])
    assert "virtual CPUs: 1 -> 4" in told
    assert "cannot be" in told
    assert (await world.get(f"/deployments/{id}")).json == before
    assert world.rows() == rows


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"template": "no: [tosca"}, 400), ({"parameters": {"nonsense": 1}}, 400), ({"parameters": None}, 400),
        ({"callback": "ftp://example.org"}, 400), ({"keepLastAttempt": "maybe"}, 400), ({"template": 5}, 400),
    ],
)  # fmt: skip
async def test_a_body_that_makes_no_sense_is_refused(world: World, body: dict[str, Any], status: int) -> None:
    id = await runs(world)
    answer = await put(world, id, **body)
    assert answer.status == status, answer.text
    assert (await world.get(f"/deployments/{id}")).json["status"] == "CREATE_COMPLETE"


async def test_in_other_states_and_for_others_there_is_no_update(world: World) -> None:
    id = await world.created(GROWING)
    early = await put(world, id, parameters={"machines": 2})
    assert (early.status, early.message) == (409, "Cannot update a deployment in CREATE_IN_PROGRESS state")
    assert int(early.headers["Retry-After"]) > 0
    assert (await put(world, id, user="bob", parameters={"machines": 2})).status == 404
    assert (await put(world, "no-such-id", parameters={})).status == 404


async def test_of_several_at_once_one_is_accepted(world: World) -> None:
    id = await runs(world)
    answers = await asyncio.gather(*(put(world, id, parameters={"machines": n}) for n in range(2, 8)))
    assert sorted(answer.status for answer in answers) == [202, 409, 409, 409, 409, 409]
    [wish] = await wishes(world)
    [accepted] = [answer for answer in answers if answer.status == 202]
    assert accepted.json["status"] == "UPDATE_IN_PROGRESS"
    steps = (await world.get(f"/deployments/{id}/timeline")).json["content"]
    assert [step["type"] for step in steps].count("gateway.deployment.update-requested") == 1
    assert wish.update == 1


async def test_at_two_gateways_at_once_one_is_accepted_and_the_others_are_told_to_wait(world: World) -> None:
    id = await runs(world)
    async with running(World(world.folder, world.vault, world.issuer)) as other:
        gateways = (world, other) * 4
        answers = await asyncio.gather(*(put(one, id, parameters={"machines": n}) for n, one in enumerate(gateways, 2)))
        assert sorted(answer.status for answer in answers) == [202] + [409] * 7
        [wish] = await wishes(world)
        [accepted] = [n for n, answer in enumerate(answers, 2) if answer.status == 202]
        assert (wish.update, wish.inputs) == (1, {"machines": accepted})


# ── secrets


async def test_secret_inputs_stay_as_they_are_and_can_be_sent_again_by_their_owner(world: World) -> None:
    id = await runs(world, COMPOSE, parameters={"service_token": SECRET})
    other = await put(world, id, parameters={"service_token": "something-else-entirely"})
    assert (other.status, other.json["errors"][0]["detail"]) == (
        422,
        "input service_token: another value - those of secrets cannot be changed",
    )
    assert (await put(world, id, "root", parameters={"service_token": SECRET})).status == 403
    answer = await put(world, id, template=TWO_SERVERS, parameters={"service_token": SECRET})
    assert answer.status == 202, answer.text
    [wish] = await wishes(world)
    assert (wish.secret_inputs, wish.nodes["server"].count) == (("service_token",), 2)
    assert "service_token" not in wish.inputs
    assert await world.secret(f"inputs/{id}") == {"service_token": SECRET}
    assert SECRET.encode() not in world.files()
    assert SECRET not in other.text + answer.text


async def test_nobody_learns_a_secret_by_what_another_template_would_refuse(world: World) -> None:
    id = await runs(world, COMPOSE, parameters={"service_token": SECRET})
    await world.send("PUT", f"/v1/deployments/{id}/shares/cms", json={"access": "change"})
    for user in ("bob", "root"):
        answer = await put(world, id, user, template=TWO_SERVERS)
        assert (answer.status, answer.json["message"]) == (
            403,
            "Only the owner can replace the template of a deployment that has secret inputs",
        )
        assert (await put(world, id, user, template=COMPOSE)).status == 202
    assert await wishes(world) == []


async def test_without_the_vault_nothing_is_compared_and_nothing_done(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = await runs(world, COMPOSE, parameters={"service_token": SECRET})

    async def fail(path: str) -> None:
        raise Unavailable("the vault is sealed")

    monkeypatch.setattr(world.infra.vault, "get", fail)
    assert (await put(world, id, template=TWO_SERVERS)).status == 503
    assert await wishes(world) == []


# ── crashes


async def test_a_crash_before_the_save_leaves_nothing_but_blobs_and_the_update_can_be_sent_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = await runs(world)
    before = (await world.get(f"/deployments/{id}")).json
    save = world.infra.store.save

    async def fail(*_: object, **__: object) -> None:
        raise Unavailable("killed here")

    monkeypatch.setattr(world.infra.store, "save", fail)
    assert (await put(world, id, parameters={"machines": 2})).status == 503
    monkeypatch.setattr(world.infra.store, "save", save)
    assert (await world.get(f"/deployments/{id}")).json == before
    assert (await put(world, id, parameters={"machines": 2})).status == 202
    [wish] = await wishes(world)
    assert wish.update == 1


async def test_one_whose_answer_was_lost_is_told_to_wait_and_then_that_it_is_done(world: World) -> None:
    id = await runs(world)
    assert (await put(world, id, parameters={"machines": 2})).status == 202
    assert (await put(world, id, parameters={"machines": 2})).status == 409
    await world.say(grown(id))
    again = await put(world, id, parameters={"machines": 2})
    assert (again.status, again.json["status"]) == (202, "UPDATE_COMPLETE")
    assert len(await wishes(world)) == 1


async def test_a_callback_is_set_by_the_owner_alone(world: World) -> None:
    """Whom it is shared with would go on being told of it, signed with the owner's secret, once it is shared no more."""
    id = await runs(world, callback="https://example.org/hook")
    assert (await world.send("PUT", f"/v1/deployments/{id}/shares/cms", json={"access": "change"})).status == 200
    for user in ("bob", "root"):
        answer = await put(world, id, user, parameters={"machines": 2}, callback="https://evil.example.org/")
        assert (answer.status, answer.message) == (403, "Only the owner of the deployment can set its callback")
    assert (await world.get(f"/deployments/{id}")).json["callback"] == "https://example.org/hook"
    assert await wishes(world) == []
    same = await put(world, id, "bob", parameters={"machines": 2}, callback="https://example.org/hook")
    assert same.status == 202
