"""Logging in from a page at the issuer that ``indaco run`` brings along: nothing has to be set up for it."""

import html
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pydantic
import pytest

from indaco_common.auth import TrustedIssuer
from indaco_common.launcher.embedded import LocalIssuer, trusted
from indaco_common.secrets.embedded import EmbeddedVault
from indaco_common.testing.federation import free_ports

from .page import CSRF, Browser
from .world import Issuer, World, running


@dataclass
class Local:
    world: World
    issuer: LocalIssuer


@pytest.fixture
async def local(tmp_path: Path, openbao: EmbeddedVault, issuer: Issuer) -> AsyncIterator[Local]:
    secrets = openbao.secrets_for("gateway")
    await secrets.start()
    (port,) = free_ports(1)
    own = LocalIssuer(secrets, "127.0.0.1", port)
    await own.start()
    records = pydantic.TypeAdapter(tuple[TrustedIssuer, ...]).validate_json(trusted(own.url))
    try:
        async with running(World(tmp_path, openbao, issuer, {"issuers": records})) as world:
            yield Local(world, own)
    finally:
        await own.stop()
        await secrets.stop()


async def test_ada_logs_in_and_out(local: Local) -> None:
    async with Browser(local.world) as browser:
        url = await browser.begin("/v1/login?return_to=/app?tab=1")
        page = await browser.get(url)
        fields = {
            name: html.unescape(value)
            for name, value in re.findall(r'name="(interaction|csrf)" value="([^"]*)"', page.text)
        }
        form = {**fields, "username": "ada", "password": local.issuer.passwords["ada"]}
        back = await browser.send("POST", f"{local.issuer.url}/login", data=form)
        answer = await browser.get(back.headers["Location"])
        assert (answer.status, answer.headers["Location"]) == (303, "/app?tab=1")
        me = await browser.get("/v1/me")
        assert (me.json["name"], me.json["groups"], me.json["can_write"]) == ("Ada", ["cms", "cms/analysis"], True)
        assert (await browser.send("POST", "/v1/logout", headers=CSRF)).status == 204
        assert (await browser.get("/v1/me")).status == 401


async def test_who_refuses_at_the_issuer_comes_back_with_that(local: Local) -> None:
    async with Browser(local.world) as browser:
        url = await browser.begin("/v1/login?return_to=/app%23top")
        answer = await browser.get(f"{url}&prompt=none")  # nobody is logged in there
        answer = await browser.get(answer.headers["Location"])
        assert (answer.status, answer.headers["Location"]) == (303, "/app?login_error=login_required#top")
        assert browser.cookie() == ""


async def test_programs_are_told_where_to_sign_in_and_as_what(local: Local) -> None:
    (one,) = (await local.world.get("/v1/login/issuers", user=None)).json["content"]
    assert (one["issuer"], one["client_id"]) == (local.issuer.url, "indaco")


async def test_an_issuer_that_does_not_answer_is_told_and_nothing_is_set(local: Local) -> None:
    await local.issuer.stop()
    answer = await local.world.get("/v1/login", user=None, allow_redirects=False)
    assert (answer.status, answer.json["code"], "Set-Cookie" in answer.headers) == (503, "unavailable", False)


@pytest.mark.parametrize("query", ["issuer=https://evil.example", "return_to=/a&return_to=/b", "next=/x"])
async def test_what_a_login_cannot_do_is_told(local: Local, query: str) -> None:
    answer = await local.world.get(f"/v1/login?{query}", user=None, allow_redirects=False)
    assert answer.status == 400


async def test_who_guesses_at_the_callback_is_slowed_down(local: Local) -> None:
    path = f"/v1/login/callback?state={'x' * 43}&code=y"
    answers = [(await local.world.get(path, user=None)).status for _ in range(130)]
    assert answers[0] == 400
    assert answers[-1] == 429
