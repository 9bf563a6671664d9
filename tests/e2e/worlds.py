"""A federation of real processes, and ways to look at what it has left in stores, vault, queues, files and traces."""

import asyncio
import html
import json
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from indaco_client import Client
from indaco_common.envelope import Envelope
from indaco_common.infra import open_bus, open_store
from indaco_common.launcher.trace import story
from indaco_common.secrets.login import AppRoleAuth
from indaco_common.secrets.vault import VaultSecrets
from indaco_common.settings import Settings
from indaco_common.store import Query
from indaco_common.testing.backing import RealBacking, missing_servers
from indaco_common.testing.federation import Federation
from indaco_sla.model.ledger import Ledger

ROOT = Path(__file__).resolve().parents[2]
BEST, NEXT, LAST = "SITE-BEST", "SITE-NEXT", "SITE-LAST"
GONE = frozenset({"DELETE_COMPLETE"})
FAILED = frozenset({"CREATE_FAILED"})
SITES = """
providers:
  - &site
    id: SITE-BEST
    kind: simulated
    endpoint: "simulated:${INDACO_SIMULATED}?boot_s=0.1&capacity=100"
    regions: [one]
    simulated: true
    flavors:
      - {name: small, vcpus: 1, memory_mib: 2048, disk_gib: 20}
      - {name: large, vcpus: 8, memory_mib: 16384, disk_gib: 80}
    images:
      - {name: ubuntu-22.04, distribution: ubuntu, version: "22.04"}
  - {<<: *site, id: SITE-NEXT, regions: [two]}
  - {<<: *site, id: SITE-LAST, regions: [three]}
agreements:
  - &agreement
    id: best
    group: {issuer: "${INDACO_ISSUER}", path: cms}
    provider: SITE-BEST
    region: one
    project: cms
    weight: 0.9
    limits: {instances: 6, cpu_milli: 12000, memory_mib: 49152, disk_gib: 400, public_ips: 4}
    valid_from: 2026-01-01T00:00:00Z
    valid_to: 2096-01-01T00:00:00Z
  - {<<: *agreement, id: next, provider: SITE-NEXT, region: two, weight: 0.5}
  - {<<: *agreement, id: last, provider: SITE-LAST, region: three, weight: 0.1}
"""
QUICK = {
    "INDACO_ORCHESTRATOR_POLL_S": "0.1", "INDACO_ORCHESTRATOR_POLL_MAX_S": "0.5", "INDACO_ORCHESTRATOR_CLAIM_S": "3",
    "INDACO_ORCHESTRATOR_WATCH_S": "2", "INDACO_DOCKER_STATE": "maintenance",
}  # fmt: skip


def template(name: str) -> str:
    return (ROOT / "examples" / "templates" / f"{name}.yaml").read_text()


async def until(condition: Callable[[], Awaitable[bool]], *, within_s: float = 30, pause_s: float = 0.1) -> None:
    """Wait until *condition* holds. Raises: TimeoutError."""
    async with asyncio.timeout(within_s):
        while not await condition():
            await asyncio.sleep(pause_s)


MakeFederation = Callable[..., Federation]


@dataclass(slots=True)
class World:
    """A federation under test."""

    federation: Federation

    @asynccontextmanager
    async def client(self, user: str = "ada") -> AsyncIterator[Client]:
        async with Client(self.federation.url, await self.federation.token(user)) as client:
            yield client

    @property
    def settings(self) -> Settings:
        """What an operator's process beside the services is told."""
        environment = self.federation.environment("administrator")
        names = ("data", "bus", "store", "secrets", "mongo_driver")
        return Settings.model_validate({n: v for n in names if (v := environment.get(f"INDACO_{n.upper()}"))})

    async def get(self, service: str, path: str) -> tuple[int, Any]:
        """Return status and JSON of a service's own port."""
        url = f"http://127.0.0.1:{self.federation.ports[service]}{path}"
        async with aiohttp.ClientSession() as http, http.get(url) as answer:
            return answer.status, json.loads(await answer.text())

    async def failing_checks(self, service: str) -> set[str]:
        """Return what ``/readyz`` says is missing; empty: the service is ready."""
        _, body = await self.get(service, "/readyz")
        return {name for name, check in body["checks"].items() if not check["ok"]}

    async def used(self) -> dict[str, dict[str, int]]:
        """Return what is held or in use under each agreement."""
        store = open_store(self.settings, "sla")
        await store.start()
        try:
            page = await store.find(Ledger.KIND, Query())
        finally:
            await store.stop()
        ledgers = [Ledger.model_validate_json(found.state) for found in page.states]
        return {ledger.id: dict(ledger.used()) for ledger in ledgers if ledger.used()}

    async def records(self, deployment: str) -> list[dict[str, Any]]:
        _, body = await self.get("accounting", f"/records?deployment={deployment}")
        records: list[dict[str, Any]] = body["records"]
        return records

    async def story(self, deployment: str) -> list[Envelope]:
        return await story(self.settings, deployment)

    async def dead(self) -> dict[str, int]:
        bus = open_bus(self.settings, "e2e")
        await bus.start()
        try:
            services = ("gateway", "sla", "orchestrator", "vault-broker", "accounting")
            return {service: dead for service in services if (dead := (await bus.state(service)).dead)}
        finally:
            await bus.stop()

    @asynccontextmanager
    async def vault(self, service: str = "vault-broker") -> AsyncIterator[VaultSecrets]:
        """Open the vault with the rights of *service*."""
        if self.federation.backing is None:
            folder = self.federation.folder / "data" / "vault"
            address = f"http://127.0.0.1:{json.loads((folder / 'vault.json').read_text())['port']}"
            roles = json.loads((folder / "keys" / "approles.json").read_text())["roles"]
        else:
            address = os.environ["INDACO_TEST_VAULT_ADDR"]
            roles = json.loads((self.federation.folder / "approles.json").read_text())
        secrets = VaultSecrets(address, AppRoleAuth(roles[service]["role_id"], roles[service]["secret_id"]))
        await secrets.start()
        try:
            yield secrets
        finally:
            await secrets.stop()

    async def kept_for(self, deployment: str) -> list[str]:
        """Return every path in the vault that belongs to *deployment*."""
        async with self.vault() as vault:
            found = [f"leases/{deployment}/{name}" for name in await vault.list(f"leases/{deployment}")]
            for kind in ("inputs", "outputs", "sessions"):
                found += [f"{kind}/{name}" for name in await vault.list(kind) if name == deployment]
        return found

    def written(self) -> list[str]:
        """Return every line that the processes have written, to standard output or error."""
        files = sorted(self.federation.folder.glob("*.log"))
        return [line for file in files for line in file.read_text().splitlines()]

    def log_lines(self) -> list[dict[str, Any]]:
        """Return every line of the log: what `indaco run` prints for a person is none."""
        return [json.loads(line) for line in self.written() if line.startswith("{")]


@asynccontextmanager
async def backed(store: str, make_federation: MakeFederation, folders: pytest.TempPathFactory) -> AsyncIterator[World]:
    """A federation in one process ("embedded"), or in five on real servers with *store*; skips where those are not there."""
    backing = None
    if store != "embedded":
        if missing := missing_servers():
            pytest.skip(f"real servers: {', '.join(missing)} not set; see deploy/local/all.sh")
        backing = RealBacking(folders.mktemp(store), store=store)
    federation = make_federation(backing=backing)
    try:
        await federation.start()
        yield World(federation)
    finally:
        await federation.stop()


@dataclass(slots=True)
class Collector:
    """An OTLP/HTTP collector that keeps what it gets."""

    port: int = 0
    requests: list[bytes] = field(default_factory=list)
    _runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.router.add_post("/v1/traces", self._take)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        self.requests.append(await request.read())
        return web.Response(body=b"", content_type="application/x-protobuf")

    def spans(self) -> list[Span]:
        """Return every span so far."""
        exports = [ExportTraceServiceRequest.FromString(body) for body in self.requests]
        return [
            span
            for e in exports
            for resource in e.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


async def approve(address: str, user: str, password: str) -> None:
    """Do what a person does in the browser to sign a device in: log in, consent."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as http:
        async with http.get(address) as answer:
            page, url = await answer.text(), answer.url
        while action := re.search(r'action="([^"]*)"', page):
            form = dict(re.findall(r'<input[^>]*name="([^"]+)"[^>]*value="([^"]*)"', page))
            form = {name: html.unescape(value) for name, value in form.items()}
            form |= {"username": user, "password": password}
            if button := re.search(r'<button[^>]*name="([^"]+)"[^>]*value="([^"]+)"', page):
                form[button[1]] = button[2]
            async with http.post(url.join(type(url)(html.unescape(action[1]))), data=form) as answer:
                page, url = await answer.text(), answer.url
