"""Who gets in, and what of others they get to see: nothing, not even that it exists."""

import base64
import json
from typing import Any

import pytest

from indaco_common.testing.federation import MemoryKeys

from .world import VM, Issuer, World, running, running_event

ONE = [
    ("GET", ""), ("PUT", ""), ("PATCH", ""), ("DELETE", ""), ("GET", "/template"), ("GET", "/outputs"), ("GET", "/timeline"), ("GET", "/log"),
    ("GET", "/extrainfo"), ("GET", "/resources"), ("GET", "/resources/x"), ("GET", "/events"),
]  # fmt: skip
KEYS = [
    ("GET", "/v1/keys"), ("POST", "/v1/keys"), ("GET", "/v1/keys/x"), ("DELETE", "/v1/keys/x"), ("POST", "/v1/keys/x/reveal"),
]  # fmt: skip
ALL = [("GET", "/deployments"), ("POST", "/deployments"), ("GET", "/configuration"), *KEYS]
BODY = {"template": VM, "status": "DELETE_FAILED", "name": "x", "userGroup": "cms"}


def body_of(method: str) -> dict[str, Any]:
    return {"json": BODY} if method in ("POST", "PUT", "PATCH") else {}


@pytest.mark.parametrize(("method", "path"), [*ALL, *((method, f"/deployments/x{part}") for method, part in ONE)])
async def test_nobody_gets_in_without_a_token(world: World, method: str, path: str) -> None:
    answer = await world.send(method, path, None, **body_of(method))
    assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, 'Bearer realm="indaco"')
    told = answer.json["detail" if path.startswith("/v1") else "message"]
    assert told == "Full authentication is required to access this resource"
    assert not any(world.rows().values())


def part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


async def bad_tokens(world: World, stranger: Issuer) -> dict[str, str]:
    good = world.issuer.token()
    header, claims, signature = good.split(".")
    known = json.loads(base64.urlsafe_b64decode(claims + "=="))
    return {
        "The token has expired": world.issuer.token(lifetime_s=-120),
        "The token's issuer is not trusted here": stranger.token(),
        "The token's signature is wrong": f"{header}.{part({**known, 'sub': 'root'})}.{signature}",
        "The token's algorithm is not accepted": f"{part({'alg': 'none', 'typ': 'JWT'})}.{claims}.{part('x')}",
        "The token is for another service": world.issuer.token(audience="elsewhere"),
        "The token lives longer": world.issuer.token(lifetime_s=10**7),
        "The token is not a signed JWT": "rubbish",
    }


async def test_tokens_that_prove_nothing_are_refused_with_the_reason_and_never_repeated(
    world: World, keys: MemoryKeys
) -> None:
    stranger = Issuer(keys)
    await stranger.start()
    try:
        for reason, token in (await bad_tokens(world, stranger)).items():
            answer = await world.get("/deployments", None, headers={"Authorization": f"Bearer {token}"})
            assert (answer.status, answer.json["code"]) == (401, 401)
            assert answer.message.startswith(reason)
            assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]
            assert token not in answer.text
    finally:
        await stranger.stop()


@pytest.mark.parametrize("user", ["bob", "eve"])
@pytest.mark.parametrize(("method", "part"), ONE)
async def test_another_users_deployment_does_not_exist_whatever_is_asked_of_it(
    world: World, user: str, method: str, part: str
) -> None:  # fmt: skip
    id = await world.created()
    before = (await world.get(f"/deployments/{id}")).json
    theirs = await world.send(method, f"/deployments/{id}{part}", user, **body_of(method))
    nothing = await world.send(method, f"/deployments/{'0' * 36}{part}", user, **body_of(method))
    assert theirs.status == nothing.status == 404
    assert theirs.message == f"The deployment <{id}> doesn't exist"
    assert theirs.message.replace(id, "0" * 36) == nothing.message
    assert (await world.get(f"/deployments/{id}")).json == before


@pytest.mark.parametrize("id", ["x" * 3000, "%00", "..%2f..", "%F0%9F%A6%84", "'; DROP TABLE aggregates"])
async def test_no_id_is_too_odd_to_be_looked_for(world: World, id: str) -> None:
    answer = await world.get(f"/deployments/{id}")
    assert answer.status == 404
    assert len(answer.message) < 200


async def test_an_administrator_sees_and_deletes_what_others_made_but_reads_no_secrets(world: World) -> None:
    id = await world.created()
    await world.say(running_event(id, secret_outputs=("key",)))
    for part in ("", "/template", "/timeline", "/resources"):
        assert (await world.get(f"/deployments/{id}{part}", "root")).status == 200
    for part in ("/outputs", "/log", "/extrainfo"):
        answer = await world.get(f"/deployments/{id}{part}", "root")
        assert (answer.status, answer.message) == (403, "Only the owner of the deployment can perform this operation")
    assert (await world.send("DELETE", f"/deployments/{id}", "root")).status == 204
    assert (await world.get(f"/deployments/{id}")).json["status"] == "DELETE_IN_PROGRESS"


async def test_lists_have_ones_own_and_an_administrator_may_ask_for_anybodys(world: World) -> None:
    mine, theirs = await world.created(), await world.created(user="bob")
    iss = world.issuer.url

    async def listed(query: str, user: str) -> set[str]:
        answer = await world.get(f"/deployments{query}", user)
        assert answer.status == 200, answer.text
        return {one["uuid"] for one in answer.json["content"]}

    assert (
        await listed("", "ada")
        == await listed("?createdBy=me", "ada")
        == await listed(f"?createdBy=ada@{iss}/", "ada")
        == {mine}
    )
    assert await listed("?userGroup=cms", "ada") == await listed("?userGroup=/cms", "ada") == {mine}
    assert await listed("", "root") == {mine, theirs}
    assert await listed(f"?createdBy=bob@{iss}", "root") == {theirs}
    assert await listed("?createdBy=me", "root") == set()
    assert await listed("?userGroup=cms", "root") == {mine, theirs}


@pytest.mark.parametrize(
    ("query", "user", "message"),
    [
        ("createdBy=bob@{iss}", "ada", "Only admin can retrieve deployments for bob@{iss}"),
        ("createdBy=bob@https://elsewhere", "root", "Only admin can retrieve deployments for bob@https://elsewhere"),
        ("userGroup=atlas", "ada", "The group atlas is not in the user's authorized groups"),
    ],
)
async def test_lists_of_others_are_refused(world: World, query: str, user: str, message: str) -> None:
    answer = await world.get("/deployments?" + query.format(iss=world.issuer.url), user)
    assert (answer.status, answer.message) == (403, message.format(iss=world.issuer.url))


@pytest.mark.parametrize(
    ("groups", "asked", "message"),
    [
        ((), "cms", "User's token does not contain a group claim or it is empty"),
        (("atlas",), "cms", "The group cms is not in the user's authorized groups"),
        (("cms",), "cms/analysis", "The group cms/analysis is not in the user's authorized groups"),
        (("cms/analysis",), "cms", "The group cms is not in the user's authorized groups"),
        (("cms",), "x" * 256, "is not in the user's authorized groups"),
    ],
)
async def test_nobody_acts_for_a_group_that_their_token_does_not_name(
    world: World, groups: tuple[str, ...], asked: str, message: str
) -> None:  # fmt: skip
    headers = {"Authorization": f"Bearer {world.issuer.token('ada', groups)}"}
    answer = await world.send("POST", "/deployments", None, headers=headers, json={"template": VM, "userGroup": asked})
    assert answer.status == 403
    assert message in answer.message
    assert not any(world.rows().values())


async def test_changes_need_a_scope_where_the_settings_say_so_and_reads_do_not(world: World) -> None:
    strict = World(
        world.folder / "strict", world.vault, world.issuer, {"write_scopes": ("offline_access", "fts:submit-transfer")}
    )
    strict.folder.mkdir()
    async with running(strict):
        id = await strict.created()
        headers = {"Authorization": f"Bearer {world.issuer.token(scopes=('openid', 'groups'))}"}
        for method, path in (
            ("POST", "/deployments"),
            ("DELETE", f"/deployments/{id}"),
            ("PATCH", f"/deployments/{id}"),
            ("POST", "/v1/keys"),
        ):
            answer = await strict.send(method, path, None, headers=headers, **body_of(method))
            assert answer.status == 403
            assert 'error="insufficient_scope"' in answer.headers["WWW-Authenticate"]
            assert "fts:submit-transfer offline_access" in answer.text
        assert (await strict.get(f"/deployments/{id}", None, headers=headers)).status == 200


async def test_a_gateway_that_is_starting_says_that_it_is(world: World) -> None:
    early = World(world.folder / "early", world.vault, world.issuer)
    early.folder.mkdir()
    async with running(early):
        for close in early.runner._service.closing:
            await close()
        answer = await early.get("/deployments")
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
