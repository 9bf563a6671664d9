"""Who one is here, what roles and records make of it, and how operators change whom the gateway believes while it runs."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer
from tests.conformance.test_secrets import RemoteVault

from indaco_common.auth import TrustedIssuer
from indaco_common.issuer import DEFAULT_SCOPES
from indaco_common.secrets.embedded import EmbeddedVault
from indaco_common.testing.federation import AUDIENCE, MemoryKeys

from .world import VM, Answer, Issuer, World, running, running_event


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
async def other(keys: MemoryKeys) -> AsyncIterator[Issuer]:
    found = Issuer(keys)
    await found.start()
    yield found
    await found.stop()


async def test_everybody_can_ask_who_they_are(world: World) -> None:
    me = (await world.get("/v1/me")).json
    assert me.pop("expires_at").endswith("Z")
    assert me.pop("scopes")
    assert me == {
        "issuer": world.issuer.url, "subject": "ada", "groups": ["cms", "cms/analysis"], "group_roles": [], "roles": ["user"],
        "everywhere": [], "administers": [], "can_write": True,
    }  # fmt: skip
    assert (await world.get("/v1/me", "root")).json["roles"] == ["user", "operator"]
    token = world.issuer.token("ada", ("cms",), claims={"entitlements": ["urn:geant:x:group:vo:role=vm_operator"]})
    me = (await world.get("/v1/me", None, headers=bearer(token))).json
    assert (me["groups"], me["group_roles"]) == (["cms"], ["vo/role=vm_operator"])


async def test_nobody_acts_for_a_role(world: World) -> None:
    token = world.issuer.token("ada", (), claims={"entitlements": ["urn:geant:x:group:vo:role=vm_operator"]})
    body = {"template": "x", "userGroup": "vo/role=vm_operator"}
    answer = await world.send("POST", "/deployments", None, headers=bearer(token), json=body)
    assert (answer.status, answer.message) == (403, "User's token does not contain a group claim or it is empty")


@pytest.mark.parametrize(
    ("scope", "status"), [("compute.create", 201), ("compute.read", 403), ("storage.modify:/cms", 403)]
)
async def test_a_token_with_capabilities_may_do_that_and_no_more(world: World, scope: str, status: int) -> None:
    headers = bearer(world.issuer.token(scopes=(*DEFAULT_SCOPES, scope)))
    answer = await world.send(
        "POST",
        "/deployments",
        None,
        headers=headers,
        json={"template": VM, "userGroup": "cms"},
    )
    assert answer.status == status
    assert (await world.get("/v1/me", None, headers=headers)).json["can_write"] is (status == 201)


# ── the issuers file ─────────────────────────────────────────────────────────────────────────────────────────────────


def record(issuer: Issuer, **changes: Any) -> dict[str, Any]:
    return {"issuer": issuer.url, "audiences": [AUDIENCE], "allow_http": True, **changes}


@pytest.fixture
def file(tmp_path: Path, issuer: Issuer) -> Path:
    found = tmp_path / "issuers.yaml"
    write(found, [record(issuer)])
    return found


def write(file: Path, issuers: list[dict[str, Any]], roles: list[dict[str, Any]] | None = None) -> None:
    """Put a new file in the place of the old one, as administrators' tools do."""
    fresh = file.with_suffix(".new")
    fresh.write_text(yaml.safe_dump({"issuers": issuers, "roles": roles or []}))
    fresh.replace(file)


@pytest.fixture
async def filed(tmp_path: Path, openbao: EmbeddedVault, issuer: Issuer, file: Path) -> AsyncIterator[World]:
    settings = {"issuers": (), "issuers_file": file, "issuers_refresh_s": 0.05}
    async with running(World(tmp_path, openbao, issuer, settings)) as world:
        yield world


async def until(world: World, status: int, token: str) -> None:
    async def is_so() -> bool:
        return (await world.get("/v1/me", None, headers=bearer(token))).status == status

    await world.until(is_so)


async def test_an_issuer_is_trusted_and_distrusted_without_a_restart(filed: World, file: Path, other: Issuer) -> None:
    mine, theirs = filed.issuer.token(), other.token("ada")
    assert (await filed.get("/v1/me", None, headers=bearer(theirs))).status == 401
    write(file, [record(filed.issuer), record(other)])
    await until(filed, 200, theirs)
    write(file, [record(filed.issuer), record(other, enabled=False)])
    await until(filed, 401, theirs)
    assert (await filed.get("/v1/me", None, headers=bearer(mine))).status == 200


async def test_a_file_that_is_broken_changes_nothing_and_is_mended_later(
    filed: World, file: Path, other: Issuer
) -> None:
    file.write_text("issuers: [")
    await asyncio.sleep(0.3)
    assert (await filed.get("/v1/me")).status == 200
    write(file, [record(filed.issuer), record(other)])
    await until(filed, 200, other.token("ada"))


async def test_roles_change_with_the_file(filed: World, file: Path) -> None:
    id = await filed.created()
    await filed.say(running_event(id))
    assert (await filed.get(f"/deployments/{id}", "eve")).status == 404
    rules = [{"role": "auditor", "issuer": filed.issuer.url, "group": "atlas"}]
    write(file, [record(filed.issuer)], rules)

    async def sees() -> bool:
        return (await filed.get(f"/deployments/{id}", "eve")).status == 200

    await filed.until(sees)
    assert (await filed.get("/v1/me", "eve")).json["roles"] == ["user", "auditor"]
    assert id in (await filed.get("/deployments", "eve")).text
    assert (await filed.send("DELETE", f"/deployments/{id}", "eve")).status == 403
    assert (await filed.get(f"/deployments/{id}/outputs", "eve")).status == 403


async def test_a_gateway_does_not_start_on_a_file_that_it_cannot_use(filed: World, file: Path) -> None:
    file.write_text("issuers: []")
    world = World(filed.folder / "second", filed.vault, filed.issuer, dict(filed.settings))
    world.folder.mkdir()
    with pytest.raises(Exception, match="names no issuers"):
        await world.start()
    await world.runner.stop()


# ── flush ────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_operator_makes_the_gateway_forget_keys_and_tokens(world: World) -> None:
    token = world.issuer.token()
    assert (await world.get("/v1/me", None, headers=bearer(token))).status == 200
    await world.issuer.stop()  # what is known of it is enough …
    assert (await world.get("/v1/me", None, headers=bearer(token))).status == 200
    assert (await world.send("POST", "/v1/admin/trust/flush", "ada")).status == 403
    assert (await world.send("POST", "/v1/admin/trust/flush", "root")).status == 204
    assert (await world.get("/v1/me", None, headers=bearer(token))).status == 503  # … until it is forgotten


async def put_as_administrator(server: Any, path: str, secret: dict[str, str]) -> None:
    headers = {"X-Vault-Token": server.token}
    url = f"{server.address}/v1/indaco/data/{path}"
    async with aiohttp.ClientSession(headers=headers) as http, http.post(url, json={"data": secret}) as answer:
        assert answer.status == 200, await answer.text()


# ── opaque tokens, with the client's secret in the vault ─────────────────────────────────────────────────────────────


@pytest.fixture
def remote_vault(vault_server: Any) -> RemoteVault:
    return RemoteVault(vault_server.address, vault_server.token)


@pytest.mark.vault
async def test_an_opaque_token_is_looked_up_with_the_secret_in_the_vault(
    tmp_path: Path, vault_server: Any, remote_vault: Any, issuer: Issuer
) -> None:
    asked: list[str] = []

    async def introspect(request: web.Request) -> web.Response:
        asked.append(request.headers["Authorization"])
        claims = {
            "active": True,
            "token_type": "Bearer",
            "sub": "opal",
            "aud": AUDIENCE,
            "exp": 2**31,
            "groups": ["/cms"],
        }
        return web.json_response(
            claims if (await request.post())["token"] == "opaque-token-0123456789" else {"active": False}
        )

    app = web.Application()
    app.add_routes([web.post("/introspect", introspect)])
    async with TestServer(app) as server:
        await put_as_administrator(vault_server, "issuers/opal", {"client_secret": "of the vault"})
        client = {
            "client_id": "indaco",
            "client_secret_vault": "issuers/opal",
            "opaque_tokens": True,
            "endpoint": str(server.make_url("/introspect")),
        }
        opal = TrustedIssuer.model_validate({
            "issuer": "https://opal.example", "audiences": [AUDIENCE], "allow_http": True, "introspection": client, "max_age_s": 2**40
        })  # fmt: skip
        async with running(World(tmp_path, remote_vault, issuer, {"issuers": (opal,)})) as world:
            answer: Answer = await world.get("/v1/me", None, headers=bearer("opaque-token-0123456789"))
            assert (answer.json["subject"], answer.json["groups"]) == ("opal", ["cms"])
            assert (await world.get("/v1/me", None, headers=bearer("another-token-0123456789"))).status == 401
    assert len(set(asked)) == 1
    assert json.dumps(asked).count("Basic aW5kYWNvOm9mK3RoZSt2YXVsdA==") == 2
