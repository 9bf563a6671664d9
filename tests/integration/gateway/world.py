"""A gateway on the loopback, with an issuer that it trusts, and ways to look at what it has left behind."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from indaco_common import issuer as oidc
from indaco_common.auth import TrustedIssuer
from indaco_common.bus.embedded import EmbeddedBus
from indaco_common.bus.topology import Topology
from indaco_common.clock import SystemClock
from indaco_common.contracts import gateway, orchestrator, vault
from indaco_common.contracts.values import Group, NodeNeeds, Owner, Place
from indaco_common.envelope import Context, seal, unseal
from indaco_common.hints import Hints
from indaco_common.ids import DeploymentId, user_id
from indaco_common.messages import Message
from indaco_common.metrics import Metrics
from indaco_common.runtime import Runner
from indaco_common.secrets.embedded import EmbeddedVault
from indaco_common.service import Infra
from indaco_common.settings import Settings
from indaco_common.store import JournalQuery
from indaco_common.store.sqlite import SqliteStore
from indaco_common.testing.federation import AUDIENCE, MemoryKeys, free_ports
from indaco_common.units import ResourceVector
from indaco_gateway.app import SERVICE, build
from indaco_gateway.settings import GatewaySettings

ROOT = Path(__file__).resolve().parents[3]
VM = (ROOT / "examples" / "templates" / "virtual-machine.yaml").read_text()
COMPOSE = (ROOT / "examples" / "templates" / "docker-compose.yaml").read_text()
TOPOLOGY = Topology({
    "gateway": SERVICE.messages,
    "orchestrator": (
        gateway.DeploymentRequested, gateway.DeploymentUpdateRequested, gateway.DeploymentDeletionRequested,
        gateway.DeploymentActionRequested,
    ),
    "vault-broker": (vault.KeyCreate, vault.KeyRegister, vault.KeyDelete),
})  # fmt: skip
GROUPS = {"ada": ("cms", "cms/analysis"), "bob": ("cms",), "eve": ("atlas",), "root": ("indaco-admins",)}
NEEDS = ResourceVector(instances=1, cpu_milli=1000, memory_mib=1024)
PLACE = Place(
    provider="SITE-A", kind="openstack", endpoint="https://keystone.example.org:5000/v3", region="one", project="p", agreement="a"
)  # fmt: skip
SITE_GROUP = Group(issuer="", path="cms")


@dataclass(frozen=True)
class Answer:
    """One answer, read."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def message(self) -> str:
        return str(self.json["message"])


@dataclass
class Issuer:
    """An issuer on the loopback; tokens are made without a flow."""

    keys: MemoryKeys
    url: str = ""
    tokens: oidc.Issuer | None = None
    _runner: web.AppRunner | None = None

    async def start(self) -> None:
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        app = oidc.create_app(oidc.IssuerConfig(issuer=self.url, audiences=(AUDIENCE,), signing_alg="ES256"), self.keys)
        self.tokens = app[oidc.ISSUER]
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def token(self, user: str = "ada", groups: tuple[str, ...] | None = None, **options: Any) -> str:
        assert self.tokens is not None
        return self.tokens.issue_token(user, GROUPS[user] if groups is None else groups, **options)


@dataclass
class World:
    """One gateway process, or one of several on the same store."""

    folder: Path
    vault: EmbeddedVault
    issuer: Issuer
    settings: Mapping[str, Any] = field(default_factory=dict)
    http: aiohttp.ClientSession = field(init=False)
    infra: Infra = field(init=False)
    runner: Runner = field(init=False)
    _said: dict[str, int] = field(default_factory=dict)

    async def start(self) -> None:
        settings = Settings(data=self.folder, topology="apply")
        self.infra = Infra(
            service="gateway", settings=settings, clock=SystemClock(),
            store=SqliteStore(self.folder / "gateway.db", synchronous="OFF"), bus=EmbeddedBus(self.folder / "bus.db"),
            secrets=self.vault.secrets_for("gateway"), metrics=Metrics("gateway"), hints=Hints(),
        )  # fmt: skip
        trusted = TrustedIssuer(issuer=self.issuer.url, audiences=(AUDIENCE,), allow_http=True)
        known = {"issuers": (trusted,), "admin_groups": ("/indaco-admins",), **self.settings}
        self.runner = Runner(build(self.infra, GatewaySettings(**known)), port=0, topology=TOPOLOGY)
        await self.runner.serve()
        await self.runner.connect()
        await self.runner.work()
        self.http = aiohttp.ClientSession()

    async def stop(self) -> None:
        await self.http.close()
        await self.runner.drain()
        await self.runner.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.runner.port}"

    async def send(
        self, method: str, path: str, user: str | None = "ada", *, headers: Mapping[str, str] | None = None, **options: Any
    ) -> Answer:  # fmt: skip
        """Send a request with a token of *user* (None: without), and read the answer."""
        known = {} if user is None else {"Authorization": f"Bearer {self.issuer.token(user)}"}
        async with self.http.request(
            method, self.url + path, headers={**known, **(headers or {})}, **options
        ) as answer:
            return Answer(answer.status, answer.headers, await answer.text())

    async def get(self, path: str, user: str | None = "ada", **options: Any) -> Answer:
        return await self.send("GET", path, user, **options)

    async def create(self, template: str = VM, *, user: str = "ada", key: str | None = None, **body: Any) -> Answer:
        headers = {} if key is None else {"Idempotency-Key": key}
        content = {"template": template, "userGroup": GROUPS[user][0], **body}
        return await self.send("POST", "/deployments", user, headers=headers, json=content)

    async def created(self, template: str = VM, **options: Any) -> str:
        """Create a deployment and return its id."""
        answer = await self.create(template, **options)
        assert answer.status == 201, answer.text
        return str(answer.json["uuid"])

    async def say(self, *messages: Message, source: str = "orchestrator") -> None:
        """Let the gateway hear *messages*, and wait until it has handled them."""
        for message in messages:
            self._said[source] = self._said.get(source, 0) + 1
            envelope = seal(
                message, Context(), source=source, version=self._said[source], index=0, now=SystemClock().now()
            )
            await self.infra.bus.inject("gateway", envelope.body)
        await self.until(self._is_quiet)

    async def _is_quiet(self) -> bool:
        state = await self.infra.bus.state("gateway")
        return state.ready == 0 and not self.runner._consumer._under_way

    async def until(self, condition: Callable[[], Awaitable[bool]], within_s: float = 10) -> None:
        async with asyncio.timeout(within_s):
            while not await condition():
                await asyncio.sleep(0.01)

    async def messages(self) -> list[Message]:
        """Return what the gateway has published, once all is."""

        async def is_published() -> bool:
            return await self.infra.store.outbox_age_s(SystemClock().now()) == 0

        await self.until(is_published)
        opened = [unseal(body)[1] for body in await self.infra.store.journal(JournalQuery())]
        return [message for message in opened if message is not None]

    def rows(self) -> dict[str, int]:
        """Return how many rows the tables of the store have that requests may fill."""
        tables = ("aggregates", "outbox", "journal", "blobs")
        read = self.infra.store._database.read  # type: ignore[attr-defined]
        return {table: read(f"SELECT count(*) FROM {table}")[0][0] for table in tables}

    def files(self) -> bytes:
        """Return all bytes that store and bus have on disk."""
        return b"".join(file.read_bytes() for file in sorted(self.folder.rglob("*")) if file.is_file())

    async def secret(self, path: str) -> dict[str, object] | None:
        """Return what lies at *path* of the vault, as the orchestrator may read it."""
        secrets = self.vault.secrets_for("orchestrator")
        await secrets.start()
        try:
            return await secrets.get(path)
        finally:
            await secrets.stop()

    def user_id(self, user: str) -> str:
        return user_id(self.issuer.url, user)


@asynccontextmanager
async def running(world: World) -> AsyncIterator[World]:
    await world.start()
    try:
        yield world
    finally:
        await world.stop()


def node(id: str, name: str = "server-0", attempt: int = 1) -> dict[str, Any]:
    """Return what events about a machine say."""
    return {
        "deployment_id": DeploymentId(id), "attempt": attempt, "node": name, "owner": Owner(issuer="", subject=""),
        "group": SITE_GROUP, "place": PLACE, "needs": NEEDS, "resource_id": "vm-1", "started_at": SystemClock().now(),
    }  # fmt: skip


def needs(count: int = 1) -> NodeNeeds:
    return NodeNeeds(count=count, needs=NEEDS)


def running_event(id: str, **changes: Any) -> orchestrator.DeploymentRunning:
    known: dict[str, Any] = {"attempt": 1, "slots": ("main",), "nodes": ("server-0",), "outputs": {"ip": "192.0.2.7"}}
    return orchestrator.DeploymentRunning(deployment_id=DeploymentId(id), **{**known, **changes})
