"""What an operator fetches: from a server on the loopback with its own authority, and refused wherever it could reach inside."""

import asyncio
import gzip
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from indaco_common.addresses import is_public
from indaco_common.errors import IndacoError, Invalid, PolicyRefused, Unavailable
from indaco_common.imports import Folder, Lock
from indaco_common.imports.allowed import AllowList
from indaco_common.imports.fetch import MAX_HOPS, Fetcher
from indaco_common.imports.lock import MAX_TEXT_BYTES
from indaco_common.imports.refresh import refresh

NAME = "types.example.org"
TEXT = b"tosca_definitions_version: tosca_simple_yaml_1_3\n"
Answer = Callable[[web.Request], object]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of NAME that signs itself, with its key, in one file."""
    key, day = ec.generate_private_key(ec.SECP256R1()), timedelta(days=1)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - day, now + day)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "server.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(made.public_bytes(serialization.Encoding.PEM) + private)
    return file


class Names(AbstractResolver):
    """Gives for every name the next of *addresses*, the last one for ever."""

    def __init__(self, *addresses: str) -> None:
        self.addresses, self.asked = list(addresses), 0

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[ResolveResult]:
        address = self.addresses[min(self.asked, len(self.addresses) - 1)]
        self.asked += 1
        family = 10 if ":" in address else 2
        return [ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=0)]

    async def close(self) -> None: ...


@dataclass
class Server:
    """What it was asked, and how it answers each path."""

    certificate: Path
    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[web.Request] = field(default_factory=list)
    port: int = 0

    def url(self, path: str = "/a.yaml", host: str = NAME) -> str:
        return f"https://{host}:{self.port}{path}"

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request)
        given = self.answers.get(request.path, lambda _: web.Response(body=TEXT))(request)
        return await given if asyncio.iscoroutine(given) else given

    @asynccontextmanager
    async def fetcher(
        self, *addresses: str, allow: tuple[str, ...] = (), policy=lambda address: True, timeout_s: float = 5
    ) -> AsyncIterator[tuple[Fetcher, Names]]:
        """A fetcher that trusts this server and, unless *policy* says otherwise, may connect to the loopback."""
        names = Names(*(addresses or ("127.0.0.1",)))
        allowed = AllowList.of(allow or (f"{NAME}:{self.port}/",))
        tls = ssl.create_default_context(cafile=str(self.certificate))
        async with Fetcher(allowed, may_connect=policy, resolver=names, tls=tls, timeout_s=timeout_s) as fetcher:
            yield fetcher, names

    async def text(self, path: str = "/a.yaml", host: str = NAME, **options) -> bytes:
        async with self.fetcher(**options) as (fetcher, _):
            return await fetcher.text(self.url(path, host))


@pytest.fixture
async def server(certificate: Path) -> AsyncIterator[Server]:
    made = Server(certificate)
    app = web.Application()
    app.router.add_get("/{path:.*}", made.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    made.port = runner.addresses[0][1]
    yield made
    await runner.cleanup()


def redirect(to: str, status: int = 302) -> Answer:
    return lambda _: web.Response(status=status, headers={"Location": to})


async def test_a_text_comes_as_it_is_whatever_its_type_is_said_to_be_and_nothing_is_told_of_who_asks(
    server, monkeypatch
):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    server.answers["/a.yaml"] = lambda _: web.Response(
        body=b"\xef\xbb\xbf" + TEXT, content_type="image/png", headers={"Set-Cookie": "who=me"}
    )
    async with server.fetcher() as (fetcher, _):
        texts = [await fetcher.text(server.url()) for _ in range(2)]
    assert texts == [b"\xef\xbb\xbf" + TEXT] * 2
    assert not {"Cookie", "Authorization"} & server.asked[1].headers.keys()
    assert server.asked[1].headers["Accept-Encoding"] == "identity"


async def test_a_certificate_of_an_unknown_authority_is_not_trusted(server):
    allowed = AllowList.of([f"{NAME}:{server.port}/"])
    async with Fetcher(allowed, may_connect=lambda address: True, resolver=Names("127.0.0.1")) as fetcher:
        with pytest.raises(Unavailable, match="certificate"):
            await fetcher.text(server.url())
    assert server.asked == []


@pytest.mark.parametrize(
    ("entry", "path", "is_allowed"),
    [
        ("", "/any/a.yaml", True),
        ("types/", "/types/a.yaml", True),
        ("types", "/types/a.yaml", True),
        ("types", "/types", True),
        ("types/a.yaml", "/types/a.yaml", True),
        ("types", "/types-of-others/a.yaml", False),
        ("types/", "/a.yaml", False),
        ("types/", "/types/../a.yaml", False),
        ("types/", "/types/%2e%2e/a.yaml", False),
        ("types/", "/types/..%2fa.yaml", False),
        ("types/", "/types/..%5ca.yaml", False),
        ("types/", "/TYPES/a.yaml", False),
    ],
)
async def test_the_allow_list_is_of_whole_path_segments(entry, path, is_allowed, server):
    async with server.fetcher(allow=(f"{NAME}:{server.port}/{entry}",)) as (fetcher, _):
        assert fetcher.covers(server.url(path)) is is_allowed
        if is_allowed:
            assert await fetcher.text(server.url(path)) == TEXT
        else:
            with pytest.raises(PolicyRefused, match="allow-list"):
                await fetcher.text(server.url(path))
    assert bool(server.asked) is is_allowed


@pytest.mark.parametrize(
    "url",
    [
        "http://types.example.org/a.yaml", "https://types.example.org:444/a.yaml", "https://other.example.org/a.yaml",
        "https://types.example.org.evil.example/a.yaml", "https://ada:secret@types.example.org/a.yaml", "file:///etc/passwd", "a.yaml",
    ],
)  # fmt: skip
async def test_another_scheme_port_or_host_is_not_on_the_list_and_credentials_never_are(url):
    async with Fetcher(AllowList.of([NAME]), resolver=Names("127.0.0.1"), may_connect=lambda address: True) as fetcher:
        assert not fetcher.covers(url)
        with pytest.raises(PolicyRefused) as refused:
            await fetcher.text(url)
    assert "secret" not in refused.value.detail


@pytest.mark.parametrize(
    "entry", ["", "/types/", "https://", "http://types.example.org/", "a@example.org/", "h.org/?x=1"]
)
def test_an_entry_that_names_no_host_is_refused(entry):
    with pytest.raises(Invalid, match="host/path/"):
        AllowList.of([entry])


INSIDE = (
    "127.0.0.1", "127.9.9.9", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.169.254", "168.63.129.16",
    "192.0.0.192", "198.18.0.1", "203.0.113.1", "224.0.0.1", "240.0.0.1", "255.255.255.255",
    "::", "::1", "fe80::1", "fe80::1%1", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
    "::ffff:8.8.8.8", "::127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "2001:0:7f00:1::",
)  # fmt: skip


@pytest.mark.parametrize("address", INSIDE)
async def test_a_name_that_resolves_to_an_address_inside_is_refused(address, server):
    with pytest.raises(PolicyRefused, match=r"not a public address") as refused:
        async with server.fetcher(address, policy=is_public) as (fetcher, _):
            await fetcher.text(server.url())
    assert address in refused.value.detail
    assert server.asked == []


@pytest.mark.parametrize("address", ["8.8.8.8", "193.205.1.1", "2001:1458:201::1", "2606:4700::1111"])
def test_addresses_of_the_public_internet_may_be_connected_to(address):
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "2130706433", "0x7f000001", "127.1", "0177.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "localhost", "127.0.0.1.", "vault.internal"],
)  # fmt: skip
async def test_a_host_written_as_a_number_or_private_by_name_is_refused_though_it_is_on_the_list(host, server):
    allow = (f"{host}:{server.port}/",)
    with pytest.raises(PolicyRefused, match="private or numeric host"):
        await server.text(host=host, allow=allow)
    assert server.asked == []


async def test_a_name_that_is_rebound_to_an_address_inside_is_looked_up_and_checked_again(server):
    async with server.fetcher("127.0.0.1", "127.0.0.2", policy=lambda a: a == ip_address("127.0.0.1")) as (
        fetcher,
        names,
    ):
        assert await fetcher.text(server.url()) == TEXT
        assert names.asked == 1  # what was checked is what was connected to
        with pytest.raises(PolicyRefused, match=r"127\.0\.0\.2"):
            await fetcher.text(server.url())
    assert len(server.asked) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_within_the_list_is_followed(status, server):
    server.answers["/old.yaml"] = redirect("/new.yaml", status)
    assert await server.text("/old.yaml") == TEXT
    assert [request.path for request in server.asked] == ["/old.yaml", "/new.yaml"]


@pytest.mark.parametrize(
    "target",
    [
        "https://127.0.0.1/x", "https://169.254.169.254/latest", "https://[::1]/x", "http://types.example.org/a.yaml", "//other.example.org/x",
        "file:///etc/passwd", "/elsewhere/a.yaml", "/types/..%2fx",
    ],
)  # fmt: skip
async def test_a_redirect_that_leaves_the_list_is_refused(target, server):
    server.answers["/types/a.yaml"] = redirect(target + "?signature=s3cret")
    with pytest.raises(PolicyRefused) as refused:
        await server.text("/types/a.yaml", allow=(f"{NAME}:{server.port}/types/",))
    assert "s3cret" not in refused.value.detail
    assert len(server.asked) == 1


async def test_a_redirect_to_a_name_inside_is_refused_by_its_address(server):
    server.answers["/a.yaml"] = redirect("/b.yaml")
    first = ip_address("127.0.0.1")
    with pytest.raises(PolicyRefused, match=r"10\.0\.0\.1"):
        async with server.fetcher("127.0.0.1", "10.0.0.1", policy=lambda a: a == first or is_public(a)) as (fetcher, _):
            await fetcher.text(server.url())


async def test_redirects_in_a_circle_have_an_end(server):
    server.answers["/a.yaml"] = redirect("/a.yaml")
    with pytest.raises(PolicyRefused, match="redirects more than"):
        await server.text()
    assert len(server.asked) == MAX_HOPS + 1


async def test_a_server_that_does_not_answer_and_one_that_drips_are_given_up(server):
    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(100):
            await response.write(b"#")
            await asyncio.sleep(0.02)
        return response

    server.answers = {"/a.yaml": lambda _: asyncio.sleep(2), "/b.yaml": drip}
    for path in server.answers:
        with pytest.raises(Unavailable, match=r"within 0\.2 s"):
            await server.text(path, timeout_s=0.2)


async def test_a_body_without_end_is_read_up_to_the_limit_only(server):
    sent = 0

    async def pour(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(1000):
            await response.write(b"#" * 65536)
            sent += 65536
        return response

    server.answers["/a.yaml"] = pour
    with pytest.raises(Invalid, match="more than"):
        await server.text()
    assert sent < 16 * MAX_TEXT_BYTES  # what the sockets hold goes too; 64 MB would


async def test_a_text_of_exactly_the_limit_is_taken(server):
    server.answers["/a.yaml"] = lambda _: web.Response(body=b"#" * MAX_TEXT_BYTES)
    assert len(await server.text()) == MAX_TEXT_BYTES


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
async def test_a_compressed_body_is_refused_unopened(encoding, server):
    bomb = gzip.compress(b"#" * 50_000_000)
    server.answers["/a.yaml"] = lambda _: web.Response(body=bomb, headers={"Content-Encoding": encoding})
    with pytest.raises(Invalid, match="encoding"):
        await server.text()


@pytest.mark.parametrize("status", [204, 206, 304, 404, 500])
async def test_any_other_answer_is_told(status, server):
    server.answers["/a.yaml"] = lambda _: web.Response(status=status)
    with pytest.raises(Unavailable, match=str(status)):
        await server.text()


async def test_a_server_that_is_not_there_and_a_location_that_is_no_url_are_errors_of_ours(server):
    server.answers["/a.yaml"] = redirect("https://[broken/")
    with pytest.raises(IndacoError, match="not a URL"):
        await server.text()
    async with server.fetcher(allow=(f"{NAME}:1/",)) as (fetcher, _):
        with pytest.raises(Unavailable):
            await fetcher.text(f"https://{NAME}:1/a.yaml")


async def test_a_live_refresh_takes_the_whole_closure_or_fails(server, tmp_path):
    head = TEXT.decode()
    texts = {"/a.yaml": head + "imports: [sub/b.yaml]", "/sub/b.yaml": head + "imports: ['/moved.yaml']"}
    server.answers = {path: lambda _, text=text: web.Response(text=text) for path, text in texts.items()}
    server.answers["/moved.yaml"] = redirect("/new.yaml")
    folder, now = Folder(tmp_path), datetime.now(UTC)
    async with server.fetcher() as (fetcher, _):
        found = await refresh(folder, Lock(), [server.url()], fetcher, now)
        assert list(found.texts) == [server.url(path) for path in ("/a.yaml", "/sub/b.yaml", "/moved.yaml")]
        assert found.texts[server.url("/moved.yaml")] == TEXT
        server.answers["/moved.yaml"] = redirect("https://10.0.0.1/")
        with pytest.raises(PolicyRefused, match="numeric"):
            await refresh(folder, Lock(), [server.url()], fetcher, now)
