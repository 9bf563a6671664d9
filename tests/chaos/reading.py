"""Reads the books straight from where they are kept, past the services: stores, the sites' files, the vault, the queues."""

import json
import os
from collections.abc import Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self, TypeVar

import aiohttp

from indaco_accounting.model import Status as RecordStatus
from indaco_accounting.model import UsageRecord
from indaco_common.bus.port import Bus
from indaco_common.bus.topology import queue
from indaco_common.envelope import unseal
from indaco_common.errors import Invalid, Unavailable
from indaco_common.infra import open_bus, open_store
from indaco_common.secrets.login import AppRoleAuth
from indaco_common.secrets.vault import VaultSecrets
from indaco_common.settings import Settings
from indaco_common.simulation import Connection, Site, leases
from indaco_common.store import Aggregate, JournalQuery, Query, Store
from indaco_common.testing.federation import SERVICES, Federation
from indaco_gateway.model.keyring import KeyRing
from indaco_gateway.model.operation import Operation, Status
from indaco_orchestrator.drivers.simulated_site import machines
from indaco_orchestrator.model.deployment import Deployment
from indaco_sla.model.ledger import COUNTED, Ledger, State
from indaco_sla.model.placement import Placement
from indaco_sla.model.registry import Agreement
from indaco_vault_broker.model.lease import Lease
from indaco_vault_broker.model.lease import State as LeaseState

from . import books
from .books import Asked, Books

PAGE = 500
UNDER_WAY = (Status.CREATE_IN_PROGRESS.value, Status.DELETE_IN_PROGRESS.value)
ENDED_LEASES = {LeaseState.REVOKED, LeaseState.EXPIRED, LeaseState.REFUSED}
A = TypeVar("A", bound=Aggregate)


@dataclass(slots=True)
class Reader:
    """The stores and the bus of a federation, opened by a process that is none of its services."""

    federation: Federation
    stores: dict[str, Store]
    bus: Bus
    _stack: AsyncExitStack

    @classmethod
    async def open(cls, federation: Federation) -> Self:
        """Open what the federation's processes have made; they may be running, or killed."""
        stack = AsyncExitStack()
        settings = _settings(federation)
        stores = {service: open_store(settings, service) for service in SERVICES}
        for store in stores.values():
            await store.start()
            stack.push_async_callback(store.stop)
        bus = open_bus(settings, "indaco chaos")
        await bus.start()
        stack.push_async_callback(bus.stop)
        return cls(federation, stores, bus, stack)

    async def close(self) -> None:
        await self._stack.aclose()

    async def all_of(self, service: str, kind: type[A]) -> list[A]:
        """Return every aggregate of one kind."""
        found: list[A] = []
        while True:
            query = Query(order_by="id", descending=False, offset=len(found), limit=PAGE)
            page = await self.stores[service].find(kind.KIND, query)
            found += [kind.model_validate_json(state.state) for state in page.states]
            if len(found) >= page.total:
                return found

    async def under_way(self) -> int:
        """Return how many deployments the gateway has accepted, or was told to delete, and not seen end."""
        query, store = Query(any_of={"status": UNDER_WAY}, limit=1), self.stores["gateway"]
        try:
            return (await store.find(Operation.KIND, query)).total
        except Invalid:  # opened before the first operation was saved, it does not know the field yet
            await store.stop()
            await store.start()
            return 0

    async def unsettled(self) -> str:
        """Return what is still going on, in words; empty once all has come to rest."""
        going_on = [f"{count} under way"] if (count := await self.under_way()) else []
        deployments = await self.all_of("orchestrator", Deployment)
        busy = sum(d.status not in books.VIEWS or bool(d.debris) for d in deployments)
        going_on += [f"{busy} deployments with work left"] if busy else []
        waiting = sum((await self.waiting()).values())
        going_on += [f"{waiting} messages on their way"] if waiting else []
        return ", ".join(going_on)

    async def waiting(self) -> dict[str, int]:
        """Return per service the messages in its outboxes (1 for any), its queue, its delay tiers, and in its hands."""
        now, found = datetime.now(UTC), {}
        in_hands = await self._in_hands()
        for service, store in self.stores.items():
            state = await self.bus.state(service)
            waiting = state.ready + state.delayed + bool(await store.outbox_age_s(now))
            found[service] = waiting + in_hands.get(queue(service), 0)
        return found

    async def _in_hands(self) -> dict[str, int]:
        """Return per queue what was delivered and has no verdict yet, some seconds old; the embedded bus counts it as waiting."""
        backing = self.federation.backing
        if backing is None:
            return {}
        url = f"{os.environ['INDACO_TEST_AMQP_MANAGEMENT'].rstrip('/')}/api/queues/{backing.name}"
        try:
            async with (
                aiohttp.ClientSession() as http,
                http.get(url, timeout=aiohttp.ClientTimeout(total=10)) as answer,
            ):
                queues = await answer.json()
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise Unavailable("the broker's management does not answer") from error
        return {found["name"]: found.get("messages_unacknowledged", 0) for found in queues}

    async def journal(self, service: str, *, name: str | None = None, after: str = "") -> list[bytes]:
        """Return what a service has published, oldest first."""
        found: list[bytes] = []
        while bodies := await self.stores[service].journal(JournalQuery(name=name, after=after)):
            found += bodies
            after = unseal(bodies[-1])[0].id
        return found

    async def read(self, asked: dict[str, Asked]) -> Books:
        """Return everything as it is now."""
        found = Books(asked=asked, waiting=await self.waiting())
        await self._read_deployments(found)
        await self._read_accounts(found)
        for folder in sorted(self.federation.sites.iterdir()):
            _read_site(found, folder)
        await self._read_vault(found)
        for service in SERVICES:
            letters = await self.bus.dead_letters(service, limit=10_000)
            found.dead += [books.Letter(service, letter.body, letter.error) for letter in letters]
        return found

    async def _read_deployments(self, found: Books) -> None:
        for d in await self.all_of("orchestrator", Deployment):
            found.lives[d.id] = books.Life(d.status.value, d.attempt, frozenset(d.spec), len(d.debris))
        for operation in await self.all_of("gateway", Operation):
            found.views[operation.id] = operation.status.value
        for placement in await self.all_of("sla", Placement):
            found.tried[placement.id] = {reason.provider for reason in placement.refused}
        for body in await self.journal("orchestrator", name="orchestrator.node.started.v1"):
            data = unseal(body)[0].data
            found.ran.add((data["deployment_id"], data["attempt"], data["node"]))

    async def _read_accounts(self, found: Books) -> None:
        for record in await self.all_of("accounting", UsageRecord):
            machine = record.facts.resource_id if record.facts else ""
            node = (record.deployment_id, record.attempt, record.node)
            found.records.append(books.Record(node, machine, record.status is RecordStatus.OPEN))
        projects = {a.id: a.record.project for a in await self.all_of("sla", Agreement) if a.record}
        for ledger in await self.all_of("sla", Ledger):
            lines = ledger.reservations.values()
            unsettled = sum(line.state in COUNTED and line.state is not State.COMMITTED for line in lines)
            found.ledgers[ledger.id] = books.Ledger(
                ledger.provider, projects[ledger.id], dict(ledger.used()), unsettled
            )
        for lease in await self.all_of("vault-broker", Lease):
            if lease.state not in ENDED_LEASES:
                found.broker_leases.append((lease.deployment_id, lease.attempt))

    async def _read_vault(self, found: Books) -> None:
        """List what a broker can see: everything but the local issuer's keys. A vault that others use too is read for us alone."""
        rings = await self.all_of("gateway", KeyRing)
        found.keys = {f"users/{ring.id}/keys/{name}" for ring in rings for name in ring.keys}
        vault = VaultSecrets(*_way_in(self.federation))
        await vault.start()
        try:
            for kind in ("inputs", "outputs", "sessions", "leases", "users"):
                found.vault |= await _walk(vault, kind, only=self._ours(found, kind, rings))
        finally:
            await vault.stop()

    def _ours(self, found: Books, kind: str, rings: Iterable[KeyRing]) -> set[str] | None:
        if self.federation.backing is None:
            return None
        return {ring.id for ring in rings} if kind == "users" else set(found.asked)


def _settings(federation: Federation) -> Settings:
    backing = federation.backing
    mine = {} if backing is None else backing.admin_environment()
    names = {"bus": "INDACO_BUS", "store": "INDACO_STORE", "mongo_driver": "INDACO_MONGO_DRIVER"}
    chosen = {name: mine[variable] for name, variable in names.items() if variable in mine}
    return Settings.model_validate({"data": federation.folder / "data", **chosen})


def _way_in(federation: Federation) -> tuple[str, AppRoleAuth]:
    """Return the vault's address and the broker's own way in."""
    if federation.backing is not None:
        environment = federation.backing.environment("vault-broker")
        role = json.loads(Path(environment["INDACO_VAULT_APPROLE_FILE"]).read_text())["vault-broker"]
        return environment["INDACO_SECRETS"].removeprefix("vault+"), AppRoleAuth(role["role_id"], role["secret_id"])
    folder = federation.folder / "data" / "vault"
    role = json.loads((folder / "keys" / "approles.json").read_text())["roles"]["vault-broker"]
    port = json.loads((folder / "vault.json").read_text())["port"]
    return f"http://127.0.0.1:{port}", AppRoleAuth(role["role_id"], role["secret_id"])


async def _walk(vault: VaultSecrets, path: str, *, only: set[str] | None = None) -> set[str]:
    """Return every path below *path* that holds something; at the first level only those named."""
    found: set[str] = set()
    for name in await vault.list(path):
        if only is not None and name.rstrip("/") not in only:
            continue
        below = f"{path}/{name}"
        found |= await _walk(vault, below.rstrip("/")) if name.endswith("/") else {below}
    return found


def _read_site(found: Books, folder: Path) -> None:
    """Read what a site knows: its machines, also those that are gone, and the leases that it would still honour."""
    now, site = datetime.now(UTC), Site(folder)

    def read(connection: Connection) -> None:
        for machine in machines(connection, with_deleted=True):
            deployment, attempt, node = machine.key.split(".", 2)
            found.machines.append(
                books.Machine(
                    folder.name,
                    machine.project,
                    (deployment, int(attempt), node),
                    machine.id,
                    machine.phase(now).value,
                    dict(machine.needs),
                )
            )
        for lease in leases(connection):
            if not lease.is_revoked and lease.expires_at > now:
                deployment, attempt, *_ = lease.key.split("/")
                found.site_leases.append((deployment, int(attempt)))

    try:
        site.transact(read)
    finally:
        site.close()
