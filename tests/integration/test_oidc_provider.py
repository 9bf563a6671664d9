"""Tokens of a real OpenID Connect provider (npm oidc-provider): through the authenticator, and through a gateway under load."""

import asyncio
import base64
import hashlib
import os
import re
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import aiohttp
import pytest
from tests.integration.gateway import world as gateway_world
from tests.integration.gateway.world import Issuer, World, running

from indaco_common.auth import Authenticator, InvalidToken, IssuerHttp, Principal, TrustedIssuer
from indaco_common.auth.keys import REFRESH_AFTER, UNKNOWN_KID_EVERY
from indaco_common.clock import SystemClock
from indaco_common.secrets.embedded import EmbeddedVault
from indaco_common.testing.federation import MemoryKeys

pytestmark = pytest.mark.oidc

CALLBACK = "http://127.0.0.1/callback"
SCOPE = "openid profile email groups offline_access"
CLIENTS = {name: f"{name}-on-this-machine-only" for name in ("indaco-dashboard", "indaco-opaque", "indaco-userinfo")}
DEVICE = "urn:ietf:params:oauth:grant-type:device_code"


class ShiftedClock:
    """The system's clock, some time ahead."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def now(self) -> datetime:
        return SystemClock().now() + self.ahead


@dataclass(frozen=True)
class Provider:
    """The provider that the environment names, a client of it that may act for itself, and its administrator's token."""

    issuer: str
    client_id: str
    secret: str
    admin_token: str
    http: aiohttp.ClientSession
    outward: IssuerHttp

    async def metadata(self) -> dict[str, Any]:
        async with self.http.get(self.issuer + "/.well-known/openid-configuration") as answer:
            return dict(await answer.json())

    async def token(self, **form: str) -> str:
        status, answer = await self.ask_token(self.client_id, self.secret, grant_type="client_credentials", **form)
        assert status == 200, answer
        return str(answer["access_token"])

    async def ask_token(self, client: str, secret: str | None, **form: str) -> tuple[int, dict[str, Any]]:
        headers = {"Authorization": aiohttp.encode_basic_auth(client, secret)} if secret else {}
        data = form if secret else {**form, "client_id": client}
        async with self.http.post((await self.metadata())["token_endpoint"], data=data, headers=headers) as answer:
            return answer.status, await answer.json()

    async def administer(self, path: str, body: dict[str, Any] | None = None) -> str:
        headers = {"X-Admin-Token": self.admin_token}
        async with self.http.post(f"{self.issuer}/_admin/{path}", json=body or {}, headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.text()

    async def minted(self, **body: Any) -> str:
        """Return an access token of ada, without her signing in."""
        return str(re.search(r'"access_token":"([^"]+)"', await self.administer("token", {"user": "ada", **body}))[1])  # type: ignore[index]

    def record(self, **changes: object) -> TrustedIssuer:
        return TrustedIssuer.model_validate(
            {"issuer": self.issuer, "audiences": ["indaco"], "allow_http": True, **changes}
        )

    def trusted(self, **changes: object) -> Authenticator:
        return Authenticator([self.record(**changes)], SystemClock(), self.outward)


class Browser:
    """A person's browser: it keeps cookies, and signs ada in where it is asked to."""

    def __init__(self) -> None:
        self.http = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))

    async def visit(self, url: str) -> str:
        """Follow redirects and fill in forms until there are none; return the last address, or the last page."""
        form: dict[str, str] | None = None
        for _ in range(20):
            async with self.http.request("POST" if form else "GET", url, data=form, allow_redirects=False) as answer:
                page, target = await answer.text(), answer.headers.get("Location")
            assert answer.status < 400, page
            if target is not None:
                url, form = urljoin(url, target), None
                if url.startswith(CALLBACK):
                    return url
                continue
            form = _filled(page)
            if form is None:
                return page
            if (action := re.search(r'<form[^>]*action="([^"]+)"', page)) is not None:
                url = urljoin(url, action[1])
        raise AssertionError(f"no end at {url}")


def _filled(page: str) -> dict[str, str] | None:
    if "<form" not in page:
        return None
    fields = {}
    for tag in re.findall(r"<(?:input|button)[^>]*>", page):
        found = dict(re.findall(r'(\w+)="([^"]*)"', tag))
        if found.get("name") not in (None, "abort"):
            fields[found["name"]] = found.get("value", "")
    return {**fields, "login": "ada", "password": "ada-password"} if "password" in fields else fields


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    issuer = os.environ.get("INDACO_TEST_OIDC_ISSUER")
    if not issuer:
        pytest.skip("INDACO_TEST_OIDC_ISSUER names no OpenID Connect provider")
    client_id = os.environ.get("INDACO_TEST_OIDC_CLIENT_ID", "indaco-test")
    secret = os.environ.get("INDACO_TEST_OIDC_CLIENT_SECRET", "")
    admin = os.environ.get("INDACO_TEST_OIDC_ADMIN_TOKEN", "")
    outward = IssuerHttp()
    async with aiohttp.ClientSession() as http:
        yield Provider(issuer.rstrip("/"), client_id, secret, admin, http, outward)
    await outward.close()


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    found = Browser()
    yield found
    await found.http.close()


async def test_a_clients_own_token_is_accepted(provider: Provider) -> None:
    token = await provider.token(scope="groups wlcg.groups")
    principal = await provider.trusted().authenticate(f"Bearer {token}")
    assert (principal.issuer, principal.subject) == (provider.issuer, provider.client_id)
    assert principal.groups
    assert all(not group.startswith("/") for group in principal.groups)
    assert principal.scopes == {"groups", "wlcg.groups"}


async def test_a_token_for_another_audience_is_refused(provider: Provider) -> None:
    token = await provider.token()
    with pytest.raises(InvalidToken, match="another service"):
        await provider.trusted(audiences=["elsewhere"]).authenticate(f"Bearer {token}")


async def test_an_algorithm_that_was_not_agreed_is_refused(provider: Provider) -> None:
    token = await provider.token()
    with pytest.raises(InvalidToken, match="algorithm"):
        await provider.trusted(algs=["ES512"]).authenticate(f"Bearer {token}")


async def test_a_changed_token_is_refused(provider: Provider) -> None:
    head, body, signature = (await provider.token()).split(".")
    changed = ("A" if signature[0] != "A" else "B") + signature[1:]
    with pytest.raises(InvalidToken, match="signature"):
        await provider.trusted().authenticate(f"Bearer {head}.{body}.{changed}")


# ── the ways to a token ──────────────────────────────────────────────────────────────────────────────────────────────


async def by_code(provider: Provider, browser: Browser, client: str, **changes: str) -> tuple[int, dict[str, Any]]:
    """Sign ada in with a code and PKCE; *changes* are to the request for the token."""
    verifier, state = secrets.token_urlsafe(48), secrets.token_urlsafe(16)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    query = {
        "client_id": client, "redirect_uri": CALLBACK, "response_type": "code", "scope": SCOPE, "state": state, "prompt": "consent",
        "code_challenge": challenge, "code_challenge_method": "S256",
    }  # fmt: skip
    async with browser.http.get(
        (await provider.metadata())["authorization_endpoint"], params=query, allow_redirects=False
    ) as answer:
        url = urljoin(str(answer.url), answer.headers["Location"])
    back = parse_qs(urlsplit(await browser.visit(url)).query)
    assert (back["state"], back["iss"]) == ([state], [provider.issuer])
    form = {
        "grant_type": "authorization_code",
        "code": back["code"][0],
        "redirect_uri": CALLBACK,
        "code_verifier": verifier,
    }
    return await provider.ask_token(client, CLIENTS[client], **{**form, **changes})


def is_ada(principal: Principal, provider: Provider) -> bool:
    identity = (principal.issuer, principal.subject, principal.name, principal.groups)
    return identity == (provider.issuer, "ada", "Ada Lovelace", {"physics", "physics/simulation"})


async def test_a_code_with_pkce_is_worth_a_token_that_is_accepted(provider: Provider, browser: Browser) -> None:
    status, answer = await by_code(provider, browser, "indaco-dashboard")
    assert status == 200, answer
    assert is_ada(await provider.trusted().verify(answer["access_token"]), provider)
    for other in ("id_token", "refresh_token"):
        with pytest.raises(InvalidToken):
            await provider.trusted().verify(answer[other])


async def test_a_code_without_its_verifier_is_worth_nothing(provider: Provider, browser: Browser) -> None:
    status, answer = await by_code(provider, browser, "indaco-dashboard", code_verifier="x" * 43)
    assert (status, answer["error"]) == (400, "invalid_grant")


async def test_a_device_gets_a_token_once_the_user_has_approved(provider: Provider, browser: Browser) -> None:
    form = {"client_id": "indaco-cli", "scope": SCOPE}
    async with provider.http.post((await provider.metadata())["device_authorization_endpoint"], data=form) as answer:
        device = await answer.json()
    ask = {"grant_type": DEVICE, "device_code": device["device_code"]}
    status, answer = await provider.ask_token("indaco-cli", None, **ask)
    assert (status, answer["error"]) == (400, "authorization_pending")
    await browser.visit(device["verification_uri_complete"])
    status, answer = await provider.ask_token("indaco-cli", None, **ask)
    assert status == 200, answer
    assert is_ada(await provider.trusted().verify(answer["access_token"]), provider)
    assert (await provider.ask_token("indaco-cli", None, **ask))[0] == 400  # a code is good once


async def test_a_refresh_token_is_rotated_and_the_old_one_ends_the_whole_grant(
    provider: Provider, browser: Browser
) -> None:
    async def refreshed(token: str) -> tuple[int, dict[str, Any]]:
        client = "indaco-dashboard"
        return await provider.ask_token(client, CLIENTS[client], grant_type="refresh_token", refresh_token=token)

    _, first = await by_code(provider, browser, "indaco-dashboard")
    status, second = await refreshed(first["refresh_token"])
    assert status == 200, second
    assert second["refresh_token"] != first["refresh_token"]
    assert is_ada(await provider.trusted().verify(second["access_token"]), provider)
    status, answer = await refreshed(first["refresh_token"])
    assert (status, answer["error"]) == (400, "invalid_grant")
    assert (await refreshed(second["refresh_token"]))[0] == 400  # whoever has stolen one has it no longer


# ── tokens that only the provider can read ───────────────────────────────────────────────────────────────────────────


def opaque(provider: Provider, client: str, folder: Path, secret: str = "", **changes: Any) -> Authenticator:
    file = folder / "secret"
    file.write_text(secret or CLIENTS[client])
    known = {"client_id": client, "client_secret_file": str(file), "opaque_tokens": True}
    return provider.trusted(introspection=known, audiences=[], require_audience=False, **changes)


@pytest.mark.parametrize(("client", "source"), [("indaco-opaque", "token"), ("indaco-userinfo", "userinfo")])
async def test_an_opaque_token_is_introspected_and_its_groups_are_found(
    provider: Provider, browser: Browser, tmp_path: Path, client: str, source: str
) -> None:
    _, answer = await by_code(provider, browser, client)
    token = answer["access_token"]
    assert "." not in token
    auth = opaque(provider, client, tmp_path, group_source=source)
    assert is_ada(await auth.verify(token), provider)
    with pytest.raises(InvalidToken, match="not an access token"):
        await auth.verify(answer["refresh_token"])  # which is active too
    with pytest.raises(InvalidToken, match="not active"):
        await auth.verify(token[:-4] + "AAAA")
    with pytest.raises(InvalidToken, match="not a signed JWT"):
        await provider.trusted().verify(token)


async def test_a_token_that_was_revoked_is_refused_once_what_was_said_of_it_is_forgotten(
    provider: Provider, browser: Browser, tmp_path: Path
) -> None:
    _, answer = await by_code(provider, browser, "indaco-opaque")
    auth = opaque(provider, "indaco-opaque", tmp_path)
    assert is_ada(await auth.verify(answer["access_token"]), provider)
    headers = {"Authorization": aiohttp.encode_basic_auth("indaco-opaque", CLIENTS["indaco-opaque"])}
    form = {"token": answer["access_token"]}
    async with provider.http.post(
        (await provider.metadata())["revocation_endpoint"], data=form, headers=headers
    ) as done:
        assert done.status == 200
    auth.forget()
    with pytest.raises(InvalidToken, match="not active"):
        await auth.verify(answer["access_token"])


# ── keys that change while many ask ──────────────────────────────────────────────────────────────────────────────────


class Load:
    """Requests to a gateway, each with the next of the tokens, at a steady rate; what comes of them is counted by token's name."""

    def __init__(self, world: World, rate: int) -> None:
        self.world, self.pause_s = world, 1 / rate
        self.tokens: list[tuple[str, str]] = []
        self.counts: Counter[tuple[str, int]] = Counter()
        self.slowest_s = 0.0
        self._stopped = False

    async def run(self) -> None:
        number, under_way = 0, set[asyncio.Task[None]]()
        begun = time.monotonic()
        while not self._stopped:
            name, token = self.tokens[number % len(self.tokens)]
            task = asyncio.create_task(self._ask(name, token))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            number += 1
            await asyncio.sleep(max(0.0, begun + number * self.pause_s - time.monotonic()))
        await asyncio.gather(*under_way)

    async def _ask(self, name: str, token: str) -> None:
        begun = time.monotonic()
        answer = await self.world.get("/v1/me", None, headers={"Authorization": f"Bearer {token}"})
        self.counts[name, answer.status] += 1
        self.slowest_s = max(self.slowest_s, time.monotonic() - begun)

    async def settle(self, seconds: float = 1.5) -> dict[tuple[str, int], int]:
        """Go on for a while; return what has come of it since the last time."""
        self.counts.clear()
        await asyncio.sleep(seconds)
        found = dict(self.counts)
        self.counts.clear()
        return found

    def stop(self) -> None:
        self._stopped = True


async def test_keys_are_rotated_under_load_and_no_good_request_is_refused_and_no_bad_one_let_in(
    provider: Provider, tmp_path: Path, openbao: EmbeddedVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock is moved past the caches' times; the provider signs with a new key from one moment to the next, which is the worst case."""

    async def several(name: str) -> list[tuple[str, str]]:
        # Many, so that what was verified before is not all that is asked for.
        return [(name, await provider.minted(ttl_s=7200)) for _ in range(40)]

    clock = ShiftedClock()
    monkeypatch.setattr(gateway_world, "SystemClock", lambda: clock)
    settings = {"issuers": (provider.record(),), "rate_read": "none", "rate_guesses": "none"}
    world = World(tmp_path, openbao, Issuer(MemoryKeys(), provider.issuer), settings)
    await provider.administer("rotate")
    async with running(world):
        load = Load(world, 100)
        load.tokens = old = await several("old")
        async with asyncio.TaskGroup() as group:
            group.create_task(load.run())
            assert set(await load.settle()) == {("old", 200)}
            clock.ahead += UNKNOWN_KID_EVERY
            await provider.administer("rotate")
            new = await several("new")
            load.tokens = [token for pair in zip(old, new, strict=True) for token in pair]
            assert set(await load.settle(3)) == {("old", 200), ("new", 200)}
            # Another rotation withdraws the first key; it is believed until the keys are had anew, an hour later at most.
            await provider.administer("rotate")
            assert set(await load.settle()) == {("old", 200), ("new", 200)}
            clock.ahead += REFRESH_AFTER + timedelta(seconds=1)
            await load.settle(0.5)
            assert set(await load.settle()) == {("old", 401), ("new", 200)}
            load.tokens = [*load.tokens, *await several("newest")]
            clock.ahead += UNKNOWN_KID_EVERY
            assert set(await load.settle(3)) == {("old", 401), ("new", 200), ("newest", 200)}
            load.stop()
        assert load.slowest_s < 5
