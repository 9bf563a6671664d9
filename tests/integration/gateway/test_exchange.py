"""Tokens for deployments that outlive their users' own: exchanged at a real provider, whose token exchange is simulated
(npm oidc-provider has none of its own: deploy/local/oidc_provider.mjs adds it).
"""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from indaco_common.auth import IssuerHttp, KeptTokens, OAuthClient, delegation_path, fresh_access_token
from indaco_common.auth.authenticator import secret_from_file
from indaco_common.auth.discovery import Discovery
from indaco_common.clock import SystemClock
from indaco_common.errors import Unauthenticated, Unavailable
from indaco_common.secrets.embedded import EmbeddedVault
from indaco_gateway.model.session import session_id, tokens_path

from .page import CSRF, SECRET, Browser, provider, trusted
from .world import VM, Answer, Issuer, World, running

pytestmark = pytest.mark.oidc

CLIENT, CLIENT_SECRET = "indaco-exchange", "indaco-exchange-on-this-machine-only"
SCOPES = ["openid", "offline_access", "groups"]
BODY = {"template": VM, "userGroup": "physics"}


class Scene:
    """A gateway that exchanges tokens as *client*, and ada, who has one."""

    def __init__(self, folder: Path, openbao: EmbeddedVault, issuer: Issuer) -> None:
        self._folder, self._openbao, self._issuer = folder, openbao, issuer
        self.path = delegation_path(provider(), "ada")
        self._made = 0

    @asynccontextmanager
    async def gateway(self, client: str = CLIENT, secret: str = CLIENT_SECRET, **changes: Any) -> AsyncIterator[World]:
        self._made += 1
        files = self._folder / "login.secret", self._folder / f"{self._made}.secret"
        for file, text in zip(files, (SECRET, secret), strict=True):
            file.write_text(text)
        exchange = {"client_id": client, "client_secret_file": files[1], "scopes": SCOPES, **changes}
        settings = {"issuers": (trusted(provider(), files[0], exchange=exchange),), "rate_guesses": "none"}
        async with running(World(self._folder / "gateway", self._openbao, self._issuer, settings)) as world:
            await world.infra.vault.delete(self.path)
            yield world

    @asynccontextmanager
    async def another(self, world: World, **changes: Any) -> AsyncIterator[World]:
        """A second gateway on the same store, which remembers nothing; *changes* are of its exchange."""
        (record,) = world.settings["issuers"]
        settings = {
            **world.settings,
            "issuers": (record.model_copy(update={"exchange": record.exchange.model_copy(update=changes)}),),
        }
        async with running(World(world.folder, self._openbao, self._issuer, settings)) as second:
            yield second

    async def token(self, world: World) -> str:
        headers = {"X-Admin-Token": os.environ["INDACO_TEST_OIDC_ADMIN_TOKEN"]}
        body = {"user": "ada", "scope": "openid groups"}
        async with world.http.post(f"{provider()}/_admin/token", json=body, headers=headers) as answer:
            return str((await answer.json(content_type=None))["access_token"])

    async def create(self, world: World, token: str) -> Answer:
        headers = {"Authorization": f"Bearer {token}"}
        return await world.send("POST", "/deployments", None, headers=headers, json=BODY)

    async def kept(self, world: World) -> dict[str, Any] | None:
        return await world.infra.vault.get(self.path)


@pytest.fixture
def scene(tmp_path: Path, openbao: EmbeddedVault, issuer: Issuer) -> Scene:
    return Scene(tmp_path, openbao, issuer)


@pytest.fixture
def logs() -> Iterator[list[EventDict]]:
    with capture_logs() as logs:
        yield logs


async def refreshed(world: World, token: str, client: str = CLIENT, secret: str = CLIENT_SECRET) -> Any:
    """Use a refresh token at the issuer; return its answer."""
    form = {"grant_type": "refresh_token", "refresh_token": token, "client_id": client, "client_secret": secret}
    async with world.http.post(f"{provider()}/token", data=form) as answer:
        return await answer.json()


def count(logs: list[EventDict], event: str) -> int:
    return sum(each["event"] == event for each in logs)


@asynccontextmanager
async def broker(world: World) -> AsyncIterator[KeptTokens]:
    """Another service, with the vault's policy of the vault-broker."""
    secrets, http, clock = world.vault.secrets_for("vault-broker"), IssuerHttp(), SystemClock()
    await secrets.start()
    discovery = Discovery(http, clock)
    (record,) = world.settings["issuers"]
    yield KeptTokens(secrets, OAuthClient(http, discovery, secret_from_file, clock), clock, lambda _: record)
    await discovery.close()
    await http.close()
    await secrets.stop()


async def test_a_deployment_leaves_tokens_that_can_be_renewed_and_the_next_uses_them(
    scene: Scene, logs: list[EventDict]
) -> None:
    async with scene.gateway() as world:
        token = await scene.token(world)
        answers = await asyncio.gather(*(scene.create(world, token) for _ in range(5)))
        assert {answer.status for answer in answers} == {201}
        first = await scene.kept(world)
        headers = {"Authorization": f"Bearer {token}"}
        native = {"template": VM, "group": "physics"}
        assert (await world.send("POST", "/v1/deployments", None, headers=headers, json=native)).status == 201
        assert await scene.kept(world) == first
    assert first is not None
    assert (first["role"], first["client_id"], first["scopes"]) == ("exchange", CLIENT, sorted(SCOPES))
    assert first["refresh_token"]
    assert count(logs, "tokens.exchanged") == 1


async def test_tokens_that_are_old_are_renewed_and_those_that_are_dead_exchanged_anew(
    scene: Scene, logs: list[EventDict]
) -> None:
    async with scene.gateway() as world:
        token = await scene.token(world)
        await scene.create(world, token)
        await age(scene, world)
        async with scene.another(world) as second:
            assert (await scene.create(second, token)).status == 201
        renewed = await scene.kept(world)
        assert renewed is not None
        assert (renewed["serial"], count(logs, "tokens.exchanged")) == (1, 1)
        await refreshed(world, renewed["refresh_token"])  # by a process that died before it could keep the next
        await age(scene, world)
        async with scene.another(world) as third:
            assert (await scene.create(third, token)).status == 201
        assert count(logs, "tokens.exchanged") == 2
        last = await scene.kept(world)
        assert last is not None
        assert "access_token" in await refreshed(world, last["refresh_token"])


async def age(scene: Scene, world: World) -> None:
    kept = await scene.kept(world)
    assert kept is not None
    kept["access"] = {name: [one[0], 1, 1] for name, one in kept["access"].items()}
    await world.infra.vault.put(scene.path, kept)


async def test_another_wish_is_another_exchange_and_the_former_is_given_back(scene: Scene) -> None:
    async with scene.gateway() as world:
        token = await scene.token(world)
        await scene.create(world, token)
        former = await scene.kept(world)
        assert former is not None
        async with scene.another(world, scopes=(*SCOPES, "email")) as second:
            assert (await scene.create(second, token)).status == 201
        latter = await scene.kept(world)
        assert latter is not None
        assert "email" in latter["scopes"]
        assert (await refreshed(world, former["refresh_token"]))["error"] == "invalid_grant"


async def test_where_it_is_required_nothing_is_deployed_without(scene: Scene) -> None:
    async with scene.gateway(secret="wrong", required=True) as world:
        answer = await scene.create(world, await scene.token(world))
        assert answer.status == 503
        assert "invalid_client" in answer.message
        assert await world.messages() == []
    async with scene.gateway(scopes=["openid", "nonsense"], required=True) as world:
        assert (
            await scene.create(world, await scene.token(world))
        ).status == 201  # what is granted is the issuer's business


async def test_where_it_is_not_required_a_deployment_goes_on_without(scene: Scene) -> None:
    async with scene.gateway(secret="wrong") as world:
        assert (await scene.create(world, await scene.token(world))).status == 201
        assert await scene.kept(world) is None


async def test_a_service_gets_a_fresh_token_by_whose_deployment_it_is(scene: Scene) -> None:
    async with scene.gateway() as world, broker(world) as tokens:
        with pytest.raises(Unauthenticated):
            await fresh_access_token(tokens, provider(), "ada")
        await scene.create(world, await scene.token(world))
        first = await fresh_access_token(tokens, provider(), "ada")
        await age(scene, world)
        async with broker(world) as one, broker(world) as other:
            found = await asyncio.gather(*(fresh_access_token(each, provider(), "ada") for each in (one, other) * 5))
        assert len({each.token for each in found}) == 1
        assert found[0].token != first.token
        narrow = await fresh_access_token(tokens, provider(), "ada", scopes=("openid",))
        assert narrow.token != found[0].token
        kept = await scene.kept(world)
        assert kept is not None
        assert kept["serial"] == 2


async def test_where_nothing_is_exchanged_the_sessions_own_tokens_stay_for_the_deployment(scene: Scene) -> None:
    async with scene.gateway("indaco-dashboard", SECRET, required=True) as world, Browser(world) as browser:
        assert (
            await scene.create(world, await scene.token(world))
        ).status == 403  # by a token alone there is nothing to keep
        await browser.log_in()
        answer = await browser.send("POST", "/deployments", headers=CSRF, json=BODY)
        assert answer.status == 201, answer.text
        kept = await scene.kept(world)
        assert kept is not None
        assert kept["role"] == "login"
        await age(scene, world)
        async with scene.another(world) as second:
            assert (await browser.get(f"{second.url}/v1/me")).status == 200
        assert (await browser.send("POST", "/v1/logout", headers=CSRF)).status == 204
        assert (await browser.get("/v1/me")).status == 401
        await asyncio.sleep(0.3)
        await age(scene, world)
        async with broker(world) as tokens:
            assert (await fresh_access_token(tokens, provider(), "ada")).token


async def test_no_exchanged_token_is_in_a_message_a_log_or_the_store(scene: Scene, logs: list[EventDict]) -> None:
    async with scene.gateway() as world:
        token = await scene.token(world)
        answer = await scene.create(world, token)
        kept = await scene.kept(world)
        assert kept is not None
        said = str(await world.messages()) + str(logs) + answer.text
        for secret in (token, kept["refresh_token"], kept["access"][""][0], CLIENT_SECRET):
            assert secret not in said
            assert secret.encode() not in world.files()


async def test_a_session_whose_tokens_were_half_moved_when_the_gateway_died_is_moved_whole(scene: Scene) -> None:
    async with scene.gateway("indaco-dashboard", SECRET, required=True) as world, Browser(world) as browser:
        await browser.log_in()
        session = tokens_path(session_id(browser.cookie()))
        replace = world.infra.vault.replace

        async def die(path: str, secret: Mapping[str, object], *, version: int) -> int:
            if "moved_to" in secret:
                raise Unavailable("the vault does not answer")
            return await replace(path, secret, version=version)

        world.infra.vault.replace = die
        assert (await browser.send("POST", "/deployments", headers=CSRF, json=BODY)).status == 503
        world.infra.vault.replace = replace
        left = await world.infra.vault.get(session)
        assert left is not None
        await world.infra.vault.put(session, {**left, "claim": ["", 0]})  # the claim of the dead one has ended
        async with scene.another(world) as second:
            answer = await browser.send("POST", f"{second.url}/deployments", headers=CSRF, json=BODY)
            assert answer.status == 201, answer.text
            assert await second.infra.vault.get(session) == {"moved_to": scene.path}
            await age(scene, second)
        async with scene.another(world) as third, broker(world) as tokens:
            renewed = await fresh_access_token(tokens, provider(), "ada")
            assert (await browser.get(f"{third.url}/v1/me")).status == 200
            assert (await fresh_access_token(tokens, provider(), "ada")).token == renewed.token
