"""The catalogue's routes on the loopback, behind the gateway's own door, with an issuer that it trusts."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp.test_utils import TestServer
from tests.integration.gateway.world import Answer, Issuer

from indaco_common.auth import TrustedIssuer
from indaco_common.clock import SystemClock
from indaco_common.hints import Hints
from indaco_common.store import Repository
from indaco_common.store.sqlite import SqliteStore
from indaco_common.testing.federation import AUDIENCE
from indaco_common.web import Health, create_app
from indaco_gateway.api.catalogue import CatalogueApi
from indaco_gateway.catalogue.served import ServiceCatalogue
from indaco_gateway.catalogue.sources import Folder
from indaco_gateway.identity.access import Access
from indaco_gateway.model.operation import Operation
from indaco_gateway.settings import GatewaySettings


@dataclass
class Gateway:
    """What tests do with it."""

    catalogue: ServiceCatalogue
    issuer: Issuer
    server: TestServer
    http: aiohttp.ClientSession

    async def send(self, method: str, path: str, *groups: str, headers: Any = None, token: bool = True) -> Answer:
        known = {"Authorization": f"Bearer {self.issuer.token('ada', groups)}"} if token else {}
        async with self.http.request(
            method, self.server.make_url(path), headers={**known, **(headers or {})}
        ) as answer:
            return Answer(answer.status, answer.headers, await answer.text())

    async def get(self, path: str, *groups: str, **options: Any) -> Answer:
        return await self.send("GET", path, *groups, **options)

    async def names(self, *groups: str, query: str = "") -> list[str]:
        return [card["name"] for card in (await self.get(f"/v1/catalogue{query}", *groups)).json["content"]]


def no_imports() -> None:
    """The bundled types alone."""


@asynccontextmanager
async def serving(folder: Path, data: Path, issuer: Issuer) -> AsyncIterator[Gateway]:
    """Serve the catalogue in *folder*, which has been read once; nobody watches it."""
    clock = SystemClock()
    trusted = TrustedIssuer(issuer=issuer.url, audiences=(AUDIENCE,), allow_http=True)
    settings = GatewaySettings(issuers=(trusted,), admin_groups=("/indaco-admins",))
    operations = Repository(
        SqliteStore(data / "gateway.db"), Operation, source="gateway", clock=clock, saved=Hints().saved
    )
    access, catalogue = Access(settings, operations, clock), ServiceCatalogue(Folder(folder), clock, 0.02, no_imports)
    await access.open()
    app = create_app("gateway", routes=CatalogueApi(access, catalogue).routes(), health=Health())
    async with TestServer(app) as server, aiohttp.ClientSession() as http:
        await catalogue.reload()
        yield Gateway(catalogue, issuer, server, http)
    await access.close()
