"""Bad input: every wrong field is named, nothing is kept of it, and nothing is on its way."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from tests.corpus import ABSENT, CORPUS

from .world import COMPOSE, VM, World

HOSTILE = sorted((CORPUS / "hostile").glob("*.yaml"))
JSON = {"Content-Type": "application/json"}
LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
)
BOMB = VM + "\ndsl_definitions:\n" + "".join(f"  {line}\n" for line in LAUGHS.splitlines())
DEEP = VM + "\ndsl_definitions: " + "[" * 5000 + "]" * 5000


def machine(name: str = "server", host: dict[str, Any] | None = None, **properties: Any) -> dict[str, Any]:
    capabilities = {
        "host": {"properties": host or {}},
        "scalable": {"properties": {"count": properties.pop("count", 1)}},
    }
    return {name: {"type": "tosca.nodes.indigo.Compute", "capabilities": capabilities, "properties": properties}}


def template(nodes: dict[str, Any], **topology: Any) -> str:
    return json.dumps({
        "tosca_definitions_version": "tosca_simple_yaml_1_3", "imports": ["indigo.yaml"], "topology_template": {"node_templates": nodes, **topology},
    })  # fmt: skip


async def refused(world: World, status: int = 400, **options: Any) -> dict[str, Any]:
    """Send what is to be refused, and return the body of the refusal."""
    answer = await world.send("POST", "/deployments", **options)
    assert answer.status == status, answer.text[:500]
    body: dict[str, Any] = answer.json
    assert body["code"] == status
    assert body["title"]
    assert body["message"]
    assert len(answer.text) < 30_000
    assert not any(world.rows().values())
    assert (await world.infra.bus.state("orchestrator")).ready == 0
    return body


def pointers(body: dict[str, Any]) -> set[str]:
    return {error["pointer"] for error in body.get("errors", ())}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"), ("{", "not valid JSON"), ("[]", "wrong"), ("null", "wrong"), ('"x"', "wrong"), ('{"template": 1e999}', "out of range"),
        ('{"template": "a", "template": "b"}', "occurs twice"), ('{"template": NaN}', "NaN"), ("[" * 100_000, "deep"),
        ('{"template": "\\ud800"}', "not valid"),
    ],
)  # fmt: skip
async def test_what_is_no_json_is_refused_with_the_place(world: World, text: str, says: str) -> None:
    body = await refused(world, data=text, headers=JSON)
    assert says in body["message"] or "wrong" in body["message"]


async def test_bodies_of_other_kinds_or_encodings_are_refused(world: World) -> None:
    await refused(world, 415, data="template=x", headers={"Content-Type": "application/x-www-form-urlencoded"})
    await refused(world, 415, data="{}", headers={"Content-Type": "application/json; charset=utf-16"})
    await refused(world, data=b'{"template": "\xff"}', headers=JSON)


@pytest.mark.parametrize("size", [1024 * 1024 + 1, 10 * 1024 * 1024])
async def test_a_body_that_is_too_large_is_refused_and_the_gateway_goes_on(world: World, size: int) -> None:
    body = await refused(world, 413, data=io.BytesIO(json.dumps({"template": "x" * size}).encode()), headers=JSON)
    assert "1048576 bytes" in body["message"]
    assert (await world.get("/deployments")).status == 200


@pytest.mark.parametrize(
    ("changes", "pointer", "says"),
    [
        ({"template": None}, "/template", "string"),
        ({"template": ""}, "/template", "at least 1"),
        ({"template": 7}, "/template", "string"),
        ({"template": "x" * 300_000}, "/template", "262144"),
        ({"parameters": None}, "/parameters", "object"),
        ({"parameters": ["x"]}, "/parameters", "object"),
        ({"timeoutMins": 0}, "/timeoutMins", "greater than or equal to 1"),
        ({"timeoutMins": "soon"}, "/timeoutMins", "integer"),
        ({"timeoutMins": True}, "/timeoutMins", "integer, not true or false"),
        ({"providerTimeoutMins": True}, "/providerTimeoutMins", "integer, not true or false"),
        ({"maxProvidersRetry": True}, "/maxProvidersRetry", "integer, not true or false"),
        ({"maxProvidersRetry": False}, "/maxProvidersRetry", "integer, not true or false"),
        ({"timeoutMins": 10**30}, "/timeoutMins", ""),
        ({"maxProvidersRetry": 0}, "/maxProvidersRetry", "greater than or equal to 1"),
        ({"timeoutMins": 10, "providerTimeoutMins": 11}, "/providerTimeoutMins", "ProviderTimeout must be <= Timeout"),
        ({"callback": "ftp://x/"}, "/callback", "Callback value, if provided, must be a valid HTTP or HTTPS URL"),
        ({"callback": "http://"}, "/callback", "must be a valid HTTP"),
        ({"callback": "https://[::1/"}, "/callback", "must be a valid HTTP"),
        ({"userGroup": ["cms"]}, "/userGroup", "string"),
        ({"userGroup": "x" * 257}, "/userGroup", "256"),
    ],
)
async def test_a_wrong_field_is_named(world: World, changes: dict[str, Any], pointer: str, says: str) -> None:
    body = await refused(world, json={"template": VM, "userGroup": "cms", **changes})
    assert pointers(body) == {pointer}
    assert says in body["message"]
    assert pointer.removeprefix("/") in body["message"]


async def test_all_wrong_fields_are_told_at_once(world: World) -> None:
    body = await refused(world, json={"timeoutMins": -1, "callback": 1})
    assert pointers(body) == {"/template", "/timeoutMins", "/callback"}


@pytest.mark.parametrize(
    ("parameters", "pointer", "says"),
    [
        ({"cpus": 1}, "/parameters/cpus", "the template has no input 'cpus'"),
        ({"num_cpus": "many"}, "/parameters/num_cpus", ""),
        ({"num_cpus": 65}, "/parameters/num_cpus", ""),
        ({"mem_size": "a lot"}, "/parameters/mem_size", ""),
        ({"os_distribution": "plan9"}, "/parameters/os_distribution", ""),
        ({"hostname": "-"}, "/parameters/hostname", ""),
        ({"users": "ada"}, "/parameters/users", ""),
        ({"users": [{"os_user_name": {"a": 1}}]}, "/parameters/users/0/os_user_name", ""),
        ({"x" * 10_000: 1}, None, "the template has no input"),
    ],
)
async def test_a_wrong_parameter_is_named(
    world: World, parameters: dict[str, Any], pointer: str | None, says: str
) -> None:  # fmt: skip
    body = await refused(world, json={"template": VM, "userGroup": "cms", "parameters": parameters})
    if pointer is not None:
        assert pointers(body) == {pointer}
    assert says in body["message"]


async def test_every_problem_of_a_template_is_told_with_its_line(world: World) -> None:
    wrong = VM.replace("type: tosca.nodes.network.Network", "type: tosca.nodes.Unheard").replace(
        "get_input: hostname", "get_input: nme"
    )
    body = await refused(world, json={"template": wrong, "userGroup": "cms"})
    assert pointers(body) == {"/template"}
    assert len(body["errors"]) >= 3
    assert "line " in body["errors"][0]["detail"]
    assert body["message"].startswith(
        f"The template or its parameters cannot be accepted: {len(body['errors'])} problems"
    )


@pytest.mark.parametrize(
    "text",
    [
        BOMB,
        DEEP,
        "just text",
        "- a list",
        "%",
        "a: &a *a",
        "!!python/object/apply:os.system [id]",
        VM + "\x00",
        "x: [",
    ],
)
async def test_hostile_templates_cost_little_and_leave_nothing(world: World, text: str) -> None:
    assert pointers(await refused(world, json={"template": text, "userGroup": "cms"})) == {"/template"}


@pytest.mark.parametrize("file", HOSTILE or [None], ids=lambda file: file.stem if file else "none")
async def test_hostile_templates_of_the_corpus_are_refused(world: World, file: Path | None) -> None:
    if file is None:
        pytest.skip(ABSENT)
    await refused(world, json={"template": file.read_text(), "userGroup": "cms"})


@pytest.mark.parametrize(
    ("nodes", "says"),
    [
        ({}, "nothing of it runs anywhere"),
        (machine(count=0), "nothing to deploy"),
        (machine(count=201), "201 machines or containers; at most 200"),
        (machine("web server"), "The machine 'web server' needs another name"),
        (machine("x" * 101), "needs another name"),
        (machine("ünï"), "needs another name"),
        (machine(host={"num_cpus": 10**30}), ""),
        (machine(host={"mem_size": "99999999999999 TB"}), "mem_size may be"),
        (machine(host={"disk_size": "-1 GB"}), ""),
    ],
)
async def test_machines_that_nobody_could_build_are_refused(world: World, nodes: dict[str, Any], says: str) -> None:
    body = await refused(world, json={"template": template(nodes), "userGroup": "cms"})
    assert pointers(body) == {"/template"}
    assert says in body["message"]


async def test_what_a_provider_is_asked_for_may_not_depend_on_a_secret(world: World) -> None:
    inputs = {"image_token": {"type": "string"}}
    nodes = {"server": {
        "type": "tosca.nodes.indigo.Compute", "capabilities": {"os": {"properties": {"image": {"get_input": "image_token"}}}},
    }}  # fmt: skip
    content = {
        "template": template(nodes, inputs=inputs),
        "userGroup": "cms",
        "parameters": {"image_token": "hush-hush"},
    }
    body = await refused(world, json=content)
    assert "must not depend on a secret" in body["message"]
    assert "hush" not in json.dumps(body)


async def test_a_secret_of_the_wrong_kind_is_refused_without_a_word_of_it(world: World) -> None:
    body = await refused(
        world, json={"template": COMPOSE, "userGroup": "cms", "parameters": {"service_token": ["hush-hush"]}}
    )
    assert pointers(body) <= {"/parameters/service_token", "/parameters/service_token/0"}
    assert "hush" not in json.dumps(body)


@pytest.mark.parametrize("key", ["", "x" * 129, "schlüssel", "a\tb"])
async def test_an_idempotency_key_is_short_and_plain(world: World, key: str) -> None:
    body = await refused(world, json={"template": VM, "userGroup": "cms"}, headers={"Idempotency-Key": key})
    assert body["message"] == "Idempotency-Key: 1 to 128 printable ASCII characters"


async def test_what_no_message_could_carry_is_refused_here(world: World) -> None:
    users = [{"os_user_name": f"u{n}", "os_user_ssh_public_key": "k" * 16_000} for n in range(62)]
    body = await refused(world, 413, json={"template": VM, "userGroup": "cms", "parameters": {"users": users}})
    assert "are carried" in body["message"]
