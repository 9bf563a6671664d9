"""The way out against real servers: what must not be reached is not, and no receiver can hold or fill the gateway."""

import asyncio
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from indaco_common.clock import SystemClock
from indaco_common.testing.receiver import Receiver, receiving
from indaco_gateway.model.delivery import Result
from indaco_gateway.webhooks.destinations import Destinations
from indaco_gateway.webhooks.outbound import LOOKUPS, Outbound, Post

PORTS = "1-65535"
NAME = "hooks.example.org"
NOTHING = Destinations.of((), PORTS)
ONE = Destinations.of((ip_network("127.0.0.2/32"),), PORTS)  # stands for all that is public
LOOPBACK = Destinations.of((ip_network("127.0.0.0/8"),), PORTS)


class Names(AbstractResolver):
    """Gives for every name the next of *answers*, the last one for ever: a name server in the hands of an attacker."""

    def __init__(self, *answers: tuple[str, ...]) -> None:
        self.answers = list(answers)

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[ResolveResult]:
        addresses = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [
            ResolveResult(hostname=host, host=each, port=port, family=10 if ":" in each else 2, proto=0, flags=0)
            for each in addresses
        ]

    async def close(self) -> None: ...


@asynccontextmanager
async def outbound(destinations: Destinations, *answers: tuple[str, ...], **options: Any) -> AsyncIterator[Outbound]:
    resolver = Names(*answers) if answers else None
    made = Outbound(destinations, SystemClock(), resolver=resolver, **options)
    await made.open()
    try:
        yield made
    finally:
        await made.close()


async def post(made: Outbound, port: int, host: str = NAME) -> Result:
    return await made.post(Post(f"http://{host}:{port}/hook?token=t", b"{}", {"Content-Type": "application/json"}))


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


@asynccontextmanager
async def serving(handler: Callable[[web.Request], Any], tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    app = web.Application()
    app.router.add_route("*", "/{any:.*}", handler)
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "::1", "::ffff:127.0.0.1", "0.0.0.0", "169.254.169.254", "10.0.0.1", "fe80::1", "224.0.0.1"],
)
async def test_a_name_that_leads_inside_is_refused_where_the_socket_would_be_made(
    receiver: Receiver, address: str
) -> None:
    async with outbound(NOTHING, (address,)) as made:
        result = await post(made, receiver.port)
    assert result.error == f"the name leads to {address}, which is not an allowed address"
    assert receiver.received == []


async def test_a_name_that_leads_elsewhere_the_second_time_gains_nothing() -> None:
    """The name was good when it was given and at the first delivery; then its owner turns it to the inside."""
    received: list[str] = []

    async def take(request: web.Request) -> web.Response:
        received.append(request.transport.get_extra_info("sockname")[0])  # type: ignore[union-attr]
        return web.Response()

    app = web.Application()
    app.router.add_route("*", "/{any:.*}", take)
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "0.0.0.0", 0).start()
    port = runner.addresses[0][1]
    try:
        async with outbound(ONE, ("127.0.0.2",), ("127.0.0.1",)) as made:
            assert (await post(made, port)).status == 200
            assert "leads to 127.0.0.1" in (await post(made, port)).error
    finally:
        await runner.cleanup()
    assert received == ["127.0.0.2"]


async def test_of_several_addresses_one_that_must_not_be_reached_is_not_tried_behind_one_that_does_not_answer(
    receiver: Receiver,
) -> None:
    async with outbound(ONE, ("127.0.0.2", "127.0.0.1")) as made:
        result = await post(made, receiver.port)
    assert "leads to 127.0.0.1" in result.error
    assert receiver.received == []


async def test_names_are_resolved_by_the_system_and_checked_then(receiver: Receiver) -> None:
    """The machine's own name leads to itself, or to nothing: neither is where this receiver may be spoken to."""
    async with outbound(ONE) as made:
        result = await post(made, receiver.port, socket.gethostname())
        assert result.status is None
        absent = await post(made, receiver.port, "nowhere.invalid")
    assert absent.error == "the name of the host cannot be resolved"
    assert receiver.received == []


@pytest.mark.parametrize("host", ["127.0.0.1", "2130706433", "127.1", "[::ffff:127.0.0.1]", "localhost"])
async def test_an_address_in_the_url_is_refused_however_it_is_written(receiver: Receiver, host: str) -> None:
    async with outbound(NOTHING) as made:
        result = await post(made, receiver.port, host)
    assert result.status is None
    assert result.error
    assert receiver.received == []


async def test_redirects_are_not_followed_and_the_answer_says_so(receiver: Receiver) -> None:
    async def away(_: web.Request) -> web.Response:
        return web.Response(status=307, headers={"Location": receiver.url})

    async with serving(away) as port, outbound(LOOPBACK, ("127.0.0.1",)) as made:
        result = await post(made, port)
    assert (result.status, receiver.received) == (307, [])
    assert "redirects are not followed" in result.error


async def test_a_receiver_that_does_not_answer_is_left_after_the_time_limit() -> None:
    async with receiving(hang_s=30) as receiver, outbound(LOOPBACK, ("127.0.0.1",), timeout_s=0.2) as made:
        begun = asyncio.get_running_loop().time()
        result = await post(made, receiver.port)
        assert asyncio.get_running_loop().time() - begun < 2
    assert result == Result(error="no answer within 0.2 s")


async def test_many_receivers_that_hang_leave_a_connection_for_one_that_does_not(receiver: Receiver) -> None:
    async with (
        receiving(hang_s=30) as hangs,
        outbound(LOOPBACK, ("127.0.0.1",), timeout_s=3) as made,
        asyncio.TaskGroup() as group,
    ):
        tries = [group.create_task(post(made, hangs.port)) for _ in range(128)]
        await hangs.has(100)
        assert (await post(made, receiver.port)).status == 200
        assert not any(each.done() for each in tries)


async def test_a_name_that_is_slow_to_resolve_takes_one_thread_however_often_it_is_asked_for(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve, goes_on, asked = socket.getaddrinfo, threading.Event(), []

    def slow(host: str, *arguments: Any, **options: Any) -> Any:
        asked.append(host)
        if host == NAME:
            goes_on.wait(20)
        return resolve("127.0.0.1", *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    async with outbound(LOOPBACK, timeout_s=0.2) as made:
        for _ in range(2):
            results = await asyncio.gather(*(post(made, receiver.port) for _ in range(LOOKUPS)))
            assert {result.error for result in results} == {"no answer within 0.2 s"}
        assert (await post(made, receiver.port, "good.example.org")).status == 200
        goes_on.set()
    assert asked == [NAME, "good.example.org"]


async def test_an_answer_without_an_end_is_not_read() -> None:
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65_536)
            sent += 65_536

    async with serving(endless) as port, outbound(LOOPBACK, ("127.0.0.1",), timeout_s=5) as made:
        result = await post(made, port)
    assert (result.status, result.error, len(result.answer)) == (200, "", 200)
    assert sent < 50_000_000


@pytest.mark.parametrize("ending", ["hangs", "breaks off"])
async def test_a_receiver_that_has_said_yes_is_believed_whatever_becomes_of_the_rest(ending: str) -> None:
    ended = asyncio.Event()

    async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 5\r\n\r\n")
        await writer.drain()
        if ending == "hangs":
            await reader.read()
        writer.close()
        await writer.wait_closed()
        ended.set()

    server = await asyncio.start_server(half, "127.0.0.1", 0)
    async with server, outbound(LOOPBACK, ("127.0.0.1",), timeout_s=0.5) as made:
        result = await post(made, server.sockets[0].getsockname()[1])
        await ended.wait()
    assert result == Result(status=202)


async def test_what_is_kept_of_an_answer_is_short_and_printable() -> None:
    async def odd(_: web.Request) -> web.Response:
        return web.Response(status=400, body=b"\x1b[31mno\r\n\xff\xfe" + b"a" * 5000)

    async with serving(odd) as port, outbound(LOOPBACK, ("127.0.0.1",)) as made:
        result = await post(made, port)
    assert result.answer.startswith("[31mno  \ufffd\ufffdaaa")
    assert len(result.answer) <= 200
    assert result.answer.isprintable()


async def test_a_proxy_of_the_environment_is_no_way_out(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with outbound(LOOPBACK, ("127.0.0.1",)) as made:
        assert (await post(made, receiver.port)).status == 200
    assert "Cookie" not in receiver.received[0].headers


async def test_nobody_there_and_nobody_who_speaks_http_are_told_in_a_few_words_without_the_url(
    receiver: Receiver,
) -> None:
    async def rude(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(rude, "127.0.0.1", 0)
    async with server, outbound(LOOPBACK, ("127.0.0.1",)) as made:
        silent = await post(made, server.sockets[0].getsockname()[1])
        absent = await post(made, 9)
    assert "closed the connection" in silent.error or "exchange failed" in silent.error
    assert absent.error.startswith("no connection: ")
    assert "token" not in silent.error + absent.error


async def test_a_certificate_that_nobody_vouches_for_is_not_accepted(tmp_path: Path) -> None:
    async def take(_: web.Request) -> web.Response:
        return web.Response()

    server, client = _tls(tmp_path)
    async with serving(take, server) as port:
        post = Post(f"https://{NAME}:{port}/", b"{}", {})
        async with outbound(LOOPBACK, ("127.0.0.1",)) as made:
            assert (await made.post(post)).error == "the receiver's certificate is not accepted, or TLS failed"
        async with outbound(LOOPBACK, ("127.0.0.1",), tls=client) as made:
            assert (await made.post(post)).status == 200


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("120", 120), ("0", 0), ("99999999999", 999_999_999), ("soon", None), ("-5", None), ("", None),
        ("1 Jan 2020 00:00:00 +9999999999999999", None), ("Wed, 21 Oct 2015 07:28:00 GMT", 0), ("Fri, 31 Dec 2999 23:59:59 GMT", "later"),
    ],
)  # fmt: skip
async def test_retry_after_is_read_as_seconds_or_as_a_date(given: str, expected: object) -> None:
    async with (
        receiving(answers=[503], answer_headers={"Retry-After": given}) as receiver,
        outbound(LOOPBACK, ("127.0.0.1",)) as made,
    ):
        found = (await post(made, receiver.port)).retry_after_s
    assert found == expected or (expected == "later" and found is not None and found > 1e6)


def _tls(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return the contexts of a server whose certificate signs itself, and of a client that trusts it."""
    key, day, now = ec.generate_private_key(ec.SECP256R1()), timedelta(days=1), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - day, now + day)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = folder / "server.pem"
    file.write_bytes(made.public_bytes(serialization.Encoding.PEM) + private)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(file)
    return server, ssl.create_default_context(cafile=str(file))
