"""What a real vault cannot be made to do: be slow, talk nonsense, send too much, redirect."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web

from indaco_common.errors import IndacoError, Unavailable
from indaco_common.secrets.login import TokenAuth
from indaco_common.secrets.vault import VaultSecrets

Serve = Callable[[Callable[[web.Request], Awaitable[web.StreamResponse]]], Awaitable[VaultSecrets]]
GRANT = {"data": {"ttl": 3600, "renewable": True}}


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Start a server that takes any login and leaves the rest to a handler; return secrets that it is the vault of."""
    stops: list[Callable[[], Awaitable[None]]] = []

    async def serve(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> VaultSecrets:
        async def answer(request: web.Request) -> web.StreamResponse:
            return web.json_response(GRANT) if request.path.endswith("/lookup-self") else await handler(request)

        app = web.Application()
        app.router.add_route("*", "/{path:.*}", answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        stops.append(runner.cleanup)
        host, port = runner.addresses[0][:2]
        secrets = VaultSecrets(f"http://{host}:{port}", TokenAuth("hush"), timeout_s=0.5)
        await secrets.start()
        stops.append(secrets.stop)
        return secrets

    yield serve
    for stop in reversed(stops):
        await stop()


async def test_a_vault_that_does_not_answer_in_time_is_unavailable(serve: Serve) -> None:
    async def never(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(5)
        return web.Response()

    secrets = await serve(never)
    with pytest.raises(Unavailable, match="in time"):
        await secrets.get("leases/a")


async def test_a_vault_that_nobody_runs_is_unavailable() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        secrets = VaultSecrets(f"http://127.0.0.1:{taken.getsockname()[1]}", TokenAuth("hush"))
        with pytest.raises(Unavailable, match="refused"):
            await secrets.start()
    with pytest.raises(Unavailable):
        await secrets.get("leases/a")
    await secrets.stop()


@pytest.mark.parametrize("status", [301, 307, 412, 429, 472, 473, 500, 502, 503, 504])
async def test_what_may_pass_is_unavailable(serve: Serve, status: int) -> None:
    async def fail(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, text="<html>hush", headers={"Location": "http://127.0.0.1:9/"})

    secrets = await serve(fail)
    calls = (secrets.get("leases/a"), secrets.put("leases/a", {}), secrets.delete("leases/a"), secrets.list("leases"))
    for attempt in (*calls, secrets.wrap({}, 60), secrets.unwrap("s.any"), secrets.ping()):
        with pytest.raises(Unavailable) as caught:
            await attempt
        assert "hush" not in str(caught.value)


async def test_an_endless_answer_is_cut_off(serve: Serve) -> None:
    sent = 0

    async def flood(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" " * 262144)
            sent += 262144

    secrets = await serve(flood)
    with pytest.raises(Unavailable):
        await secrets.get("leases/a")
    assert sent < 32 * 1024 * 1024


@pytest.mark.parametrize("body", ["", "[]", "nonsense", '{"data": {"data": null}}', '{"data": {"data": [1]}}'])
async def test_an_answer_that_is_no_secret_is_an_error(serve: Serve, body: str) -> None:
    async def talk(request: web.Request) -> web.StreamResponse:
        return web.Response(text=body, content_type="application/json")

    secrets = await serve(talk)
    with pytest.raises(IndacoError):
        await secrets.get("leases/a")
    with pytest.raises(IndacoError):
        await secrets.wrap({"a": 1}, 60)


async def test_a_connection_that_is_cut_leaves_no_token_in_the_error(serve: Serve) -> None:
    async def cut(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.write(b"HTTP/1.1 nonsense\r\n\r\n")
        request.transport.close()
        return web.Response()

    secrets = await serve(cut)
    with pytest.raises(Unavailable) as caught:
        await secrets.put("leases/a", {"password": "hush"})
    links = (caught.value, caught.value.__cause__, caught.value.__context__)
    assert "hush" not in repr(links)
