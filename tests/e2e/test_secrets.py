"""Secrets stay where they belong: a whole run is looked through for each of those that were used in it."""

import asyncio
import base64
import json
import os
import re
import sqlite3
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import aio_pika
import pytest
import pytest_asyncio
from pymongo import AsyncMongoClient

from indaco_client import Client
from indaco_client.errors import IndacoClientError
from indaco_client.login import sign_in
from indaco_common.bus.topology import COMMANDS, EVENTS
from indaco_common.simulation import break_site
from indaco_common.testing.backing import RealBacking, missing_servers

from .worlds import BEST, GONE, Collector, MakeFederation, World, approve, template

pytestmark = pytest.mark.asyncio(loop_scope="module")
REAL = (pytest.mark.rabbitmq, pytest.mark.mongodb, pytest.mark.vault)
INPUT = 'p4ss "quoted" \\ wörd/with+every=thing'
VAULT_TOKEN = re.compile(rb"\b(?:s|hvs|hvb)\.[A-Za-z0-9_-]{24,}")
NOT_LOOKED_INTO = (
    "data/vault/",
    "approles.json",
    "rabbitmq",
    "simulated",
)  # the vault, what is given to it, the clouds


@dataclass(frozen=True)
class Run:
    """What was used in a run, and all that it left: place → bytes."""

    deployment: str
    secrets: Mapping[str, str]
    places: Mapping[str, bytes]


@pytest_asyncio.fixture(
    scope="module", loop_scope="module", params=["embedded", pytest.param("real", marks=REAL)]
)  # fmt: skip
async def run(
    request: pytest.FixtureRequest,
    make_federation: MakeFederation,
    collector: Collector,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Run]:
    backing = None
    if request.param == "real":
        if missing := missing_servers():
            pytest.skip(f"real servers: {', '.join(missing)} not set; see deploy/local/all.sh")
        backing = RealBacking(tmp_path_factory.mktemp("secrets"))
    told = {"INDACO_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.port}", "INDACO_LOG_LEVEL": "debug"}
    federation = make_federation(backing=backing, **told)
    collector.requests.clear()
    world = World(federation)
    try:
        await federation.prepare()
        spy = await listen(world) if backing else None
        for unit in federation.units:
            federation.launch(unit)
        await federation.ready()
        deployment, secrets = await live(world)
        for unit in federation.units:
            assert await federation.terminate(unit) == 0
        places = {**files(federation.folder), "traces": b"\n".join(collector.requests)}
        if backing is not None:
            assert spy is not None
            places |= {"the bus": await heard(spy), "MongoDB": await databases(backing)}
        yield Run(deployment, secrets, places)
    finally:
        await federation.stop()


async def live(world: World) -> tuple[str, dict[str, str]]:
    """Do what users do, well and badly; return the deployment, and every secret that came up."""
    session = await signed_in(world)
    secrets = {"secret input": INPUT, "password": "ada-password"}
    secrets |= {"access token": session["access_token"], "refresh token": session["refresh_token"]}
    site = world.federation.sites / BEST
    break_site(site, boot_s=3600)
    async with Client(world.federation.url, session["access_token"]) as client:
        key = await client.create_key("default")
        secrets["private key"] = await client.reveal_key(key["name"])
        compose = template("docker-compose")
        for wrong in ({"num_cpus": "many"}, {"no_such_input": INPUT}):
            with pytest.raises(IndacoClientError):
                await client.create(compose, {"service_token": INPUT, **wrong}, group="cms")
        id = str((await client.create(compose, {"service_token": INPUT}, group="cms", max_attempts=3))["id"])
        secrets["the site's credential"] = await credential(world, id)
        break_site(site, reject_credentials=1.0)  # the broker issues, the orchestrator asks again, and logs
        await asyncio.sleep(1)
        break_site(site)
        await client.delete(id)
        await client.wait(id, timeout_s=60, until=GONE)
        again = str((await client.create(compose, {"service_token": INPUT}, group="cms"))["id"])
        await client.wait(again, timeout_s=60)
        async with world.vault("orchestrator") as vault:
            secrets |= {f"output {n}": v for n, v in texts(await vault.get(f"outputs/{again}"))}
        await client.delete(again)
        await client.wait(again, timeout_s=60, until=GONE)
    async with Client(world.federation.url, session["access_token"][:-6] + "AAAAAA") as stranger:
        with pytest.raises(IndacoClientError):
            await stranger.deployment(id)
    return id, secrets | infrastructure(world)


async def signed_in(world: World) -> dict[str, Any]:
    browsers: list[asyncio.Task[None]] = []

    def open_browser(address: str, _: str) -> None:
        browsers.append(asyncio.create_task(approve(address, "ada", "ada-password")))

    session = await sign_in(world.federation.issuer_url, world.federation.url, open_browser)
    await asyncio.gather(*browsers)
    return session


async def credential(world: World, deployment: str) -> str:
    async with world.vault() as vault, asyncio.timeout(30):
        while (lease := await vault.get(f"leases/{deployment}/1")) is None:
            await asyncio.sleep(0.05)
        return str(lease["token"])


def texts(value: object, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield the texts within *value* that are long enough to be told apart, and no public key."""
    if isinstance(value, dict | list):
        for part, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from texts(inner, f"{name}/{part}")
    elif isinstance(value, str) and len(value) > 15 and not value.startswith("ssh-"):
        yield name, value


def infrastructure(world: World) -> dict[str, str]:
    """Return what the services themselves sign in with."""
    folder, backing = world.federation.folder, world.federation.backing
    found = {}
    if backing is None:
        roles = json.loads((folder / "data/vault/keys/approles.json").read_text())["roles"]
        found["unseal key"] = base64.b64encode((folder / "data/vault/keys/unseal.key").read_bytes()).decode()
    else:
        roles = json.loads((folder / "approles.json").read_text())
        found |= {
            f"broker password of {file.stem}": file.read_text().strip() for file in (folder / "rabbitmq").iterdir()
        }
        found["broker password of admin"] = urlsplit(os.environ["INDACO_TEST_AMQP"]).password or ""
        found["root token"] = os.environ["INDACO_TEST_VAULT_TOKEN"]
    return found | {f"AppRole of {service}": role["secret_id"] for service, role in roles.items()}


# ── what a run leaves


def files(folder: Path) -> dict[str, bytes]:
    """Return every file but those that are made for secrets, and of databases every row as well."""
    found = {}
    for file in sorted(folder.rglob("*")):
        name = str(file.relative_to(folder))
        if file.is_file() and not name.startswith(NOT_LOOKED_INTO):
            rows = b"\n".join(dump(file)) if file.suffix == ".db" else b""
            found[name] = file.read_bytes() + rows
    return found


def dump(file: Path) -> Iterator[bytes]:
    """Yield every value in a SQLite file in one piece: in the file itself long ones lie in several."""
    with closing(sqlite3.connect(file)) as connection:
        for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for row in connection.execute(f'SELECT * FROM "{table}"'):
                yield from (value if isinstance(value, bytes) else str(value).encode() for value in row)


async def listen(world: World) -> aio_pika.abc.AbstractQueue:
    """Make a queue that gets a copy of everything that is published."""
    connection = await aio_pika.connect(world.settings.bus)
    channel = await connection.channel()
    queue = await channel.declare_queue("e2e.spy", durable=True)
    for exchange in (EVENTS, COMMANDS):
        await queue.bind(exchange, "#")
    return queue


async def heard(queue: aio_pika.abc.AbstractQueue) -> bytes:
    """Return all that the queue got, bodies and headers, and close its connection."""
    found = []
    while (message := await queue.get(no_ack=True, fail=False)) is not None:
        found += [message.body, repr(message.headers).encode()]
    assert isinstance(queue.channel, aio_pika.abc.AbstractChannel)
    await queue.channel.close()
    return b"\n".join(found)


async def databases(backing: RealBacking) -> bytes:
    """Return every document of the run."""
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(os.environ["INDACO_TEST_MONGODB"])
    found = []
    try:
        for name in await client.list_database_names():
            if name.startswith(backing.name.replace("-", "_")):
                for collection in await client[name].list_collection_names():
                    found += [repr_of(document) async for document in client[name][collection].find({})]
    finally:
        await client.close()
    return b"\n".join(found)


def repr_of(value: Any) -> bytes:
    """Return every leaf of a document, bytes as they are."""
    match value:
        case dict():
            return b"\n".join(str(name).encode() + b"=" + repr_of(inner) for name, inner in value.items())
        case list():
            return b"\n".join(repr_of(inner) for inner in value)
        case bytes():
            return value
        case _:
            return str(value).encode()


# ── looking


def forms(secret: str) -> Iterator[bytes]:
    """Yield how *secret* may be written: plain, in JSON, in a URL, in base64 at any place of a longer text; of a PEM its lines."""
    for line in [line for line in secret.splitlines() if len(line) > 40 and "PRIVATE" not in line] or [secret]:
        raw = line.encode()
        yield raw
        yield json.dumps(line)[1:-1].encode()
        yield json.dumps(json.dumps(line))[2:-2].encode()
        yield json.dumps(line, ensure_ascii=False)[1:-1].encode()
        yield repr(line)[1:-1].encode()
        yield quote(line, safe="").encode()
        for skipped in range(3):
            for encode in (base64.b64encode, base64.urlsafe_b64encode):
                yield encode(b"\0" * skipped + raw).rstrip(b"=")[4 if skipped else 0 : -2]


async def test_the_search_finds_a_secret_however_it_is_written() -> None:
    told = [
        INPUT,
        json.dumps({"a": INPUT}),
        json.dumps(json.dumps([INPUT])),
        repr(INPUT),
        f"https://x/?p={quote(INPUT, safe='')}",
    ]
    told += [base64.b64encode(f"{'x' * n}{INPUT}".encode()).decode() for n in range(4)]
    for text in told:
        assert any(form in text.encode() for form in forms(INPUT)), text


async def test_no_secret_is_in_any_file_log_journal_queue_database_or_trace(run: Run) -> None:
    found = [
        f"{name} in {place}"
        for place, content in run.places.items()
        for name, secret in run.secrets.items()
        if any(form in content for form in forms(secret))
    ]
    assert found == []


async def test_no_token_of_the_vault_is_anywhere_outside(run: Run) -> None:
    found = {place: VAULT_TOKEN.findall(content) for place, content in run.places.items()}
    assert {place: tokens for place, tokens in found.items() if tokens} == {}


async def test_enough_was_used_and_looked_through(run: Run) -> None:
    assert {
        "secret input",
        "private key",
        "access token",
        "refresh token",
        "the site's credential",
    } <= run.secrets.keys()
    assert all(len(secret) > 10 for secret in run.secrets.values())
    where = {place for place, content in run.places.items() if run.deployment.encode() in content}
    assert "traces" in where
    if "MongoDB" in run.places:
        assert {"MongoDB", "the bus", "gateway.log", "orchestrator.log", "vault-broker.log"} <= where
    else:
        assert {"all.log", "data/gateway.db", "data/orchestrator.db", "data/vault-broker.db", "data/sla.db"} <= where
