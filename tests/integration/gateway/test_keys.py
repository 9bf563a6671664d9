"""SSH keys under /v1: a user's own, public halves here, private ones in the vault."""

from typing import Any

import pytest

from indaco_common.contracts import gateway, vault
from indaco_common.secrets.embedded import EmbeddedVault
from indaco_gateway.model.keyring import MAX_KEYS

from .world import Answer, World

LINE = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ3VK0c3qX8Tt0w5v3F1v8V1s1o5c1qZk2cQG0X4yN5p ada@laptop"
PROBLEM = "application/problem+json"


async def create(world: World, name: str = "laptop", user: str = "ada", **body: Any) -> Answer:
    return await world.send("POST", "/v1/keys", user, json={"name": name, **body})


def made(world: World, name: str = "laptop", line: str = LINE, *, generated: bool = True) -> vault.KeyCreated:
    return vault.KeyCreated(
        user_id=world.user_id("ada"), name=name, public_key=line, fingerprint="SHA256:x", generated=generated
    )


async def test_a_pair_is_asked_for_shown_when_it_is_made_and_revealed_to_its_owner(
    world: World, openbao: EmbeddedVault
) -> None:
    answer = await create(world)
    assert (answer.status, answer.json["ready"]) == (202, False)
    assert answer.headers["Location"] == f"{world.url}/v1/keys/laptop"
    assert isinstance((await world.messages())[0], vault.KeyCreate)
    early = await world.send("POST", "/v1/keys/laptop/reveal")
    assert (early.status, early.json["code"]) == (409, "wrong-state")
    broker = openbao.secrets_for("vault-broker")
    await broker.start()
    await broker.put(
        f"users/{world.user_id('ada')}/keys/laptop", {"private_key": "the private half", "public_key": LINE}
    )
    await broker.stop()
    await world.say(made(world), source="vault-broker")
    shown = (await world.get("/v1/keys/laptop")).json
    assert (shown["ready"], shown["public_key"], shown["generated"]) == (True, LINE, True)
    assert (await world.get("/v1/keys")).json["content"] == [shown]
    revealed = await world.send("POST", "/v1/keys/laptop/reveal")
    assert (revealed.status, revealed.text, revealed.headers["Cache-Control"]) == (200, "the private half", "no-store")
    assert b"the private half" not in world.files()
    for method, path in (("GET", "/v1/keys/laptop"), ("POST", "/v1/keys/laptop/reveal"), ("DELETE", "/v1/keys/laptop")):
        assert (await world.send(method, path, "bob")).status == 404
    assert (await world.get("/v1/keys", "root")).json["content"] == []


async def test_keys_that_are_ready_go_with_the_next_deployment(world: World) -> None:
    await create(world)
    await create(world, "not-yet")
    await world.say(made(world), source="vault-broker")
    await world.created()
    request = next(m for m in await world.messages() if isinstance(m, gateway.DeploymentRequested))
    assert request.ssh_keys == (LINE,)


async def test_a_key_of_ones_own_is_taken_and_has_no_private_half_here(world: World) -> None:
    assert (await create(world, public_key=LINE)).status == 202
    assert [m.public_key for m in await world.messages() if isinstance(m, vault.KeyRegister)] == [LINE]
    await world.say(made(world, generated=False), source="vault-broker")
    answer = await world.send("POST", "/v1/keys/laptop/reveal")
    assert (answer.status, answer.json["detail"]) == (
        400, "The private half of laptop was never here: its owner made the key",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("body", "pointer"),
    [({"name": "../x"}, "/name"), ({"name": ""}, "/name"), ({}, "/name"), ({"name": "x", "public_key": 1}, "/public_key"), ({"name": "x", "more": 1}, "/more")],
)  # fmt: skip
async def test_a_wrong_field_is_named_as_a_problem_document(world: World, body: dict[str, Any], pointer: str) -> None:
    answer = await world.send("POST", "/v1/keys", json=body)
    assert (answer.status, answer.headers["Content-Type"]) == (400, PROBLEM)
    told = answer.json
    assert (told["status"], told["code"], told["instance"]) == (400, "invalid", "/v1/keys")
    assert [error["pointer"] for error in told["errors"]] == [pointer]
    assert told["request_id"] == answer.headers["X-Request-ID"]
    assert not any(world.rows().values())


@pytest.mark.parametrize(
    "text", ["rubbish", "ssh-dss AAAA x", "-----BEGIN OPENSSH PRIVATE KEY-----\nxyzzy", LINE + "\n" + LINE]
)
async def test_what_is_no_public_key_is_refused_and_not_repeated(world: World, text: str) -> None:
    answer = await create(world, public_key=text)
    assert (answer.status, answer.headers["Content-Type"]) == (400, PROBLEM)
    assert "xyzzy" not in answer.text
    assert not any(world.rows().values())


async def test_a_name_stands_for_one_key_until_it_is_deleted(world: World) -> None:
    await create(world)
    again = await create(world)
    assert (again.status, again.json["code"]) == (409, "wrong-state")
    assert (await world.send("DELETE", "/v1/keys/laptop")).status == 204
    assert (await world.send("DELETE", "/v1/keys/laptop")).status == 404
    assert (await world.get("/v1/keys/laptop")).status == 404
    await world.say(made(world), source="vault-broker")  # of the one that was deleted meanwhile
    assert (await world.get("/v1/keys")).json["content"] == []
    assert (await create(world)).status == 202


async def test_keys_are_counted(world: World) -> None:
    for number in range(MAX_KEYS):
        assert (await create(world, f"k{number}")).status == 202
    answer = await create(world, "one-more")
    assert (answer.status, answer.json["detail"]) == (409, f"There are {MAX_KEYS} keys; delete one first")


async def test_a_caller_may_name_its_request_under_v1_alone(world: World) -> None:
    headers = {"X-Request-ID": "mine-1"}
    assert (await world.get("/v1/keys", headers=headers)).headers["X-Request-ID"] == "mine-1"
    assert (await world.get("/deployments", headers=headers)).headers["X-Request-ID"].startswith("req-")
