"""How often callers may ask, and how often an address may guess."""

import asyncio
import time
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from indaco_common.secrets.embedded import EmbeddedVault

from .world import Issuer, World, running

SETTINGS = {"rate_read": "3/3600", "rate_write": "2/3600", "rate_events": "1/3600", "rate_guesses": "4/4"}


@pytest.fixture
async def strict(tmp_path: Path, openbao: EmbeddedVault, issuer: Issuer) -> AsyncIterator[World]:
    async with running(World(tmp_path, openbao, issuer, settings=SETTINGS)) as world:
        yield world


async def test_every_answer_to_a_known_caller_tells_of_the_limit(strict: World) -> None:
    found, absent = await strict.get("/v1/keys"), await strict.get("/v1/keys/none")
    assert found.headers["RateLimit-Policy"] == '"read";q=3;w=3600'
    assert found.headers["RateLimit"] == '"read";r=2;t=1200'
    assert absent.status == 404
    assert absent.headers["RateLimit"] == '"read";r=1;t=2400'


async def test_over_the_limit_it_is_429_and_when_to_come_back_in_the_manner_of_each_api(strict: World) -> None:
    for _ in range(3):
        await strict.get("/v1/keys")
    native, indigo = await strict.get("/v1/keys"), await strict.get("/deployments")
    assert (native.status, native.json["code"]) == (429, "too-many-requests")
    assert native.headers["Content-Type"] == "application/problem+json"
    assert "More than 3 requests of the kind 'read' in 3600 s" in native.json["detail"]
    assert 1190 <= int(native.headers["Retry-After"]) <= 1200
    assert native.headers["RateLimit"].startswith('"read";r=0;t=3')
    assert (indigo.status, indigo.json["code"], indigo.json["title"]) == (429, 429, "Too Many Requests")
    assert "Retry-After" in indigo.headers


async def test_what_changes_something_and_streams_have_limits_of_their_own(strict: World) -> None:
    for _ in range(3):
        await strict.get("/v1/keys")
    assert (await strict.get("/v1/keys")).status == 429
    id = await strict.created()
    assert (await strict.create()).headers["RateLimit"].startswith('"write";r=0')
    assert (await strict.create()).status == 429
    async with strict.http.get(
        f"{strict.url}/deployments/{id}/events", headers={"Authorization": f"Bearer {strict.issuer.token('ada')}"}
    ) as stream:
        assert (stream.status, stream.headers["RateLimit"]) == (200, '"events";r=0;t=3600')
    assert (await strict.get(f"/deployments/{id}/events")).status == 429


async def test_another_caller_has_limits_of_their_own(strict: World) -> None:
    for _ in range(4):
        last = await strict.get("/v1/keys")
    assert last.status == 429
    assert (await strict.get("/v1/keys", "bob")).status == 200


async def test_a_trailing_slash_is_the_same_request(strict: World) -> None:
    assert (await strict.get("/v1/keys/")).headers["RateLimit"] == '"read";r=2;t=1200'


async def test_what_is_public_is_not_counted(strict: World) -> None:
    assert "RateLimit" not in (await strict.get("/info", None)).headers
    assert "RateLimit" not in (await strict.get("/v1/keys", None)).headers


async def test_guesses_are_refused_before_they_are_looked_at_and_who_is_at_work_goes_on(strict: World) -> None:
    mine = {"Authorization": f"Bearer {strict.issuer.token('ada')}"}
    assert (await strict.get("/v1/keys", None, headers=mine)).status == 200
    bad = [await strict.get("/v1/keys", None, headers={"Authorization": f"Bearer guess{n}"}) for n in range(6)]
    assert [each.status for each in bad] == [401] * 4 + [429] * 2
    assert bad[-1].headers["Retry-After"] == "1"
    assert (await strict.get("/v1/keys", None, headers=mine)).status == 200


async def test_somebody_new_is_let_in_a_moment_after_the_guessing(strict: World) -> None:
    for n in range(6):
        await strict.get("/v1/keys", None, headers={"Authorization": f"Bearer guess{n}"})
    refused = await strict.get("/v1/keys", "bob")
    assert refused.status == 429
    await asyncio.sleep(int(refused.headers["Retry-After"]))
    assert (await strict.get("/v1/keys", "bob")).status == 200


async def test_a_request_without_a_token_is_no_guess(strict: World) -> None:
    assert {(await strict.get("/v1/keys", None)).status for _ in range(20)} == {401}


async def test_behind_a_trusted_proxy_the_clients_own_address_counts(
    tmp_path: Path, openbao: EmbeddedVault, issuer: Issuer
) -> None:
    settings = {"rate_guesses": "1/60", "trusted_proxies": ("127.0.0.0/8",)}
    async with running(World(tmp_path, openbao, issuer, settings=settings)) as world:

        async def guess(address: str) -> int:
            headers = {"Authorization": "Bearer x", "X-Forwarded-For": address}
            return (await world.get("/v1/keys", None, headers=headers)).status

        assert [await guess("192.0.2.1"), await guess("192.0.2.1"), await guess("192.0.2.2")] == [401, 429, 401]
        assert await guess("192.0.2.9, 192.0.2.1") == 429


async def test_refusals_are_counted_in_the_metrics(strict: World) -> None:
    for _ in range(5):
        await strict.get("/v1/keys")
    text = (await strict.get("/metrics", None)).text
    assert 'indaco_requests_over_limit_total{limit="read"} 2.0' in text


async def test_a_limit_may_be_switched_off(tmp_path: Path, openbao: EmbeddedVault, issuer: Issuer) -> None:
    async with running(
        World(tmp_path, openbao, issuer, settings={"rate_read": "none", "rate_guesses": "none"})
    ) as world:
        assert "RateLimit" not in (await world.get("/v1/keys")).headers
        statuses = {
            (await world.get("/v1/keys", None, headers={"Authorization": "Bearer x"})).status for _ in range(200)
        }
        assert statuses == {401}


async def test_a_long_query_is_refused_in_our_words(world: World) -> None:
    answer = await world.get("/v1/catalogue?group=" + "a" * 20_000)
    assert (answer.status, answer.json["code"]) == (400, "invalid")
    assert "longer than 8192 characters" in answer.json["detail"]


async def test_a_long_token_is_refused_in_our_words(world: World) -> None:
    answer = await world.get("/v1/keys", None, headers={"Authorization": "Bearer " + "a" * 17_000})
    assert (answer.status, answer.json["code"]) == (401, "invalid-token")
    assert "longer than 16384 characters" in answer.json["detail"]


async def test_what_is_compressed_is_not_unpacked_for_anybody(world: World) -> None:
    """Unread bodies are read to their end by the server: 1 MB that becomes 900 held everybody up for a second, at no token."""
    squeezed = zlib.compressobj(9, zlib.DEFLATED, 31)
    body = b"".join(squeezed.compress(bytes(1024 * 1024)) for _ in range(400)) + squeezed.flush()
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    spent = time.process_time()
    for user, path, status in ((None, "/v1/deployments", 401), (None, "/v1/logout", 204), ("ada", "/v1/plans", 415)):
        assert (await world.send("POST", path, user, data=body, headers=headers)).status == status
    await asyncio.sleep(0.3)
    assert time.process_time() - spent < 0.6
