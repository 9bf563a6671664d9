"""The orchestrator's turns at simulated sites, with a real store and a real vault; its handlers are called as the runtime would."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest

from indaco_common import simulation
from indaco_common.bus.embedded import EmbeddedBus
from indaco_common.clock import ManualClock, SystemClock
from indaco_common.contracts import gateway, orchestrator, sla, vault
from indaco_common.contracts.values import MAIN, Group, NodeNeeds, Owner, Place, PlacedNode, instances
from indaco_common.envelope import Context, unseal
from indaco_common.errors import AlreadyHandled, NoCapacity, NotFound, Unavailable
from indaco_common.handling import collect
from indaco_common.hints import Hints
from indaco_common.ids import DeploymentId, reservation_id, uuid7
from indaco_common.messages import Message
from indaco_common.metrics import Metrics
from indaco_common.secrets.embedded import EmbeddedVault
from indaco_common.secrets.port import Secrets
from indaco_common.service import Infra
from indaco_common.settings import Settings
from indaco_common.simulation import Lease, Site, break_site
from indaco_common.store.sqlite import SqliteStore
from indaco_common.units import ResourceVector
from indaco_orchestrator.app import build
from indaco_orchestrator.drivers import simulated_site
from indaco_orchestrator.drivers.port import Credential, Phase, ResourceId
from indaco_orchestrator.drivers.simulated import SimulatedDriver
from indaco_orchestrator.drivers.simulated_site import Machine
from indaco_orchestrator.handlers import Deploying
from indaco_orchestrator.model import turn
from indaco_orchestrator.model.deployment import Deployment
from indaco_orchestrator.model.values import Findings, Moment, Started, Status, Timing
from indaco_orchestrator.settings import OrchestratorSettings

M = TypeVar("M", bound=Message)
Hook = Callable[[], Awaitable[object]]
OWNER, GROUP = (
    Owner(issuer="https://iam.example.org/", subject="ada"),
    Group(issuer="https://iam.example.org/", path="cms"),
)
ONE = ResourceVector(instances=1, cpu_milli=1000, memory_mib=1024, public_ips=1)
CLAIM = timedelta(seconds=60)


def template(**counts: int) -> str:
    """Machines of these names and numbers; the first one's address and a secret address are outputs."""
    first = next(iter(counts))
    address = {"get_attribute": [first, "public_address"]}
    topology = {
        "inputs": {"password": {"type": "string", "default": "none"}},
        "node_templates": {
            name: {
                "type": "tosca.nodes.indigo.Compute",
                "capabilities": {
                    "scalable": {"properties": {"count": count}},
                    "endpoint": {"properties": {"network_name": "PUBLIC"}},
                },
            }
            for name, count in counts.items()
        },
        "outputs": {
            "addresses": {"value": address},
            "login": {"value": {"concat": ["ada:", {"get_input": "password"}]}},
        },
    }
    return json.dumps(
        {
            "tosca_definitions_version": "tosca_simple_yaml_1_3",
            "imports": ["indigo.yaml"],
            "topology_template": topology,
        }
    )


class Orchestrator:
    """One replica."""

    def __init__(self, folder: Path, store: Any, secrets: Secrets, clock: ManualClock, **settings: float) -> None:
        infra = Infra(
            service="orchestrator", settings=Settings(data=folder), clock=clock, store=store, bus=EmbeddedBus(folder / "bus.db"),
            secrets=secrets, metrics=Metrics("orchestrator"), hints=Hints(),
        )  # fmt: skip
        infra.hints.seen_until = clock.now
        self._service = build(infra, OrchestratorSettings(**settings))  # type: ignore[arg-type]
        self._handlers, self._timers = collect(self._service.handlers)
        self.deployments = infra.repository(Deployment)

    async def tell(self, message: Message, id: str | None = None) -> None:
        for handler in self._handlers[message.TYPE]:
            await handler(message, Context(id=id or uuid7()))

    async def step(self, id: str, version: int) -> None:
        await self._timers[Deployment](id, Context(at_version=version))

    async def close(self) -> None:
        for close in self._service.closing:
            await close()


class HookedStore:
    """A store at which a test steps in: once, when the orchestrator reads a template (between looking and creating), or saves."""

    def __init__(self, inner: SqliteStore) -> None:
        self._inner = inner
        self.on_blob: Hook | None = None
        self.on_save: Hook | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def get_blob(self, digest: str) -> bytes | None:
        hook, self.on_blob = self.on_blob, None
        if hook is not None:
            await hook()
        return await self._inner.get_blob(digest)

    async def save(self, *args: Any, **kwargs: Any) -> None:
        hook, self.on_save = self.on_save, None
        if hook is not None:
            await hook()
        await self._inner.save(*args, **kwargs)


class World:
    """The orchestrator; sla, the vault broker and the users, who are played; and sites."""

    def __init__(self, folder: Path, doors: dict[str, Any]) -> None:
        self.folder, self.doors = folder, doors
        self.clock = ManualClock(SystemClock().now() + timedelta(minutes=5))  # behind which the sites' own time stays
        self.store = HookedStore(SqliteStore(folder / "orchestrator.db", synchronous="OFF"))
        self.replicas: list[Orchestrator] = []
        self.said: list[Message] = []
        self.bodies = b""

    def start(self, **settings: float) -> Orchestrator:
        self.replicas.append(Orchestrator(self.folder, self.store, self.doors["orchestrator"], self.clock, **settings))
        return self.replicas[-1]

    async def close(self) -> None:
        for replica in self.replicas:
            await replica.close()
        await self.store.stop()

    # ── others

    def place(self, provider: str, **options: float | str) -> Place:
        query = "&".join(f"{name}={value}" for name, value in {"boot_s": 0, **options}.items())
        return Place(
            provider=provider, kind="simulated", endpoint=f"simulated:{self.folder / 'sites'}?{query}", region="r1", project="p1",
            agreement=f"cms-{provider}", simulated=True,
        )  # fmt: skip

    async def request(self, replica: Orchestrator, counts: dict[str, int], **more: Any) -> DeploymentId:
        id = DeploymentId(uuid7())
        nodes = {name: NodeNeeds(count=count, needs=ONE) for name, count in counts.items()}
        message = gateway.DeploymentRequested(
            deployment_id=id, owner=OWNER, group=GROUP, template=template(**counts), inputs={}, nodes=nodes, **more
        )
        await replica.tell(message)
        return id

    async def reserve(
        self, id: DeploymentId, place: Place, nodes: dict[str, int], attempt: int = 1, slot: str = MAIN
    ) -> None:
        names = instances({name: NodeNeeds(count=count, needs=ONE) for name, count in nodes.items()})
        await self.grant(id, place, set(names), attempt, slot)

    async def grant(self, id: DeploymentId, place: Place, names: set[str], attempt: int, slot: str) -> None:
        await self.replicas[0].tell(
            sla.PlacementReserved(
                deployment_id=id, attempt=attempt, slot=slot, reservation_id=reservation_id(id, attempt, slot), place=place,
                nodes={name: PlacedNode(needs=ONE) for name in names}, expires_at=self.clock.now() + timedelta(minutes=15),
            )
        )  # fmt: skip

    async def delete(self, id: DeploymentId, *, force: bool = False) -> None:
        await self.replicas[0].tell(gateway.DeploymentDeletionRequested(deployment_id=id, force=force))

    async def serve(self) -> None:
        """Note what was said, and issue and revoke credentials as the vault broker does."""
        batches = await self.store.lease(self.clock.now(), 15, 1000)
        entries = [entry for batch in batches for entry in batch]
        await self.store.settle(entries, self.clock.now())
        for entry in entries:
            message = unseal(entry.sealed.body)[1]
            assert message is not None
            self.bodies += entry.sealed.body
            self.said.append(message)
            if isinstance(message, vault.CredentialIssue):
                await self.issue(message)
            elif isinstance(message, vault.CredentialRevoke):
                await self.doors["vault-broker"].delete(f"leases/{message.deployment_id}/{message.attempt}")

    async def issue(self, wish: vault.CredentialIssue) -> None:
        key = f"{wish.deployment_id}/{wish.attempt}/{wish.serial}"
        until = simulation.lease_until(SystemClock().now(), 3600)
        lease = Lease(key, wish.place.region, wish.place.project, until, is_revoked=False)
        token, _ = await self.at_site(wish.place, lambda connection: simulation.issue(connection, lease))
        handle = f"leases/{wish.deployment_id}/{wish.attempt}"
        await self.doors["vault-broker"].put(handle, {"kind": "simulated", "token": token, "serial": str(wish.serial)})
        await self.replicas[0].tell(
            vault.CredentialIssued(
                deployment_id=wish.deployment_id,
                attempt=wish.attempt,
                serial=wish.serial,
                handle=handle,
                expires_at=until,
            )
        )

    async def at_site(self, place: Place, work: Callable[[simulation.Connection], Any]) -> Any:
        site = Site.at(place.endpoint, place.provider)
        try:
            return await site.run(work)
        finally:
            site.close()

    async def machines(self, place: Place, *, ever: bool = False) -> list[Machine]:
        found: list[Machine] = await self.at_site(place, lambda c: simulated_site.machines(c, with_deleted=ever))
        return found

    def break_site(self, place: Place, **faults: float | bool | str) -> None:
        break_site(self.folder / "sites" / place.provider, **faults)

    # ── time

    async def due(self, replica: int = 0) -> int:
        """Run every timer that is due; return how many."""
        await self.serve()
        due: list[tuple[str, int]] = await self.store.due(Deployment.KIND, self.clock.now(), 100)
        for id, version in due:
            await self.replicas[replica].step(id, version)
        await self.serve()
        return len(due)

    async def until(self, id: DeploymentId, condition: Callable[[Deployment], object], turns: int = 60) -> Deployment:
        """Let time pass from timer to timer until the deployment is as wanted."""
        for _ in range(turns):
            await self.due()
            deployment = await self.get(id)
            if condition(deployment):
                return deployment
            next_due = await self.store.next_due(Deployment.KIND)
            if next_due is not None and next_due > self.clock.now():
                self.clock.advance(next_due - self.clock.now())
        pytest.fail(f"still {deployment.status} after {turns} timers: {deployment.failure}")

    async def get(self, id: DeploymentId) -> Deployment:
        return await self.replicas[0].deployments.get(id)

    def heard(self, kind: type[M]) -> list[M]:
        return [message for message in self.said if isinstance(message, kind)]


def runs(deployment: Deployment) -> bool:
    return deployment.status is Status.RUNNING


def is_over(deployment: Deployment) -> bool:
    return deployment.status is Status.DELETED


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedVault]:
    server = EmbeddedVault(tmp_path_factory.mktemp("vault"), ephemeral=True)
    try:
        asyncio.run(server.start())
    except Unavailable as error:
        pytest.skip(f"no OpenBao: {error.detail}")
    yield server
    asyncio.run(server.stop())


@pytest.fixture
async def world(tmp_path: Path, embedded: EmbeddedVault) -> AsyncIterator[World]:
    doors = {service: embedded.secrets_for(service) for service in ("gateway", "orchestrator", "vault-broker")}
    for door in doors.values():
        await door.start()
    world = World(tmp_path, doors)
    await world.store.start()
    yield world
    await world.close()
    for door in doors.values():
        await door.stop()


async def running(world: World, place: Place, **counts: int) -> DeploymentId:
    world.replicas or world.start()
    id = await world.request(world.replicas[0], counts)
    await world.reserve(id, place, counts)
    await world.until(id, runs)
    return id


# ── building


async def test_what_boots_at_once_runs_after_one_turn(world: World) -> None:
    replica, place = world.start(), world.place("a")
    id = await world.request(replica, {"server": 1})
    await world.reserve(id, place, {"server": 1})
    await world.serve()
    assert (await world.get(id)).status is Status.CREATING
    assert await world.due() == 1
    assert runs(await world.get(id))
    [machine], [started], [event] = (
        await world.machines(place),
        world.heard(orchestrator.NodeStarted),
        world.heard(orchestrator.DeploymentRunning),
    )
    assert (machine.key, started.resource_id) == (f"{id}.1.server-0", machine.id)
    assert started.started_at == machine.boots_at
    assert event.outputs["addresses"] == [machine.address]


async def test_a_machine_that_boots_slowly_runs_when_it_does_and_is_made_once(world: World) -> None:
    replica, place = world.start(), world.place("a", boot_s=0.3)
    id = await world.request(replica, {"server": 1})
    await world.reserve(id, place, {"server": 1})
    await world.due()
    assert (await world.get(id)).status is Status.CREATING
    await asyncio.sleep(0.35)
    await world.until(id, runs, turns=2)
    assert len(await world.machines(place, ever=True)) == 1


async def test_several_machines_are_made_in_one_turn_and_their_outputs_are_in_order(world: World) -> None:
    place = world.place("a")
    await running(world, place, worker=11, front=1)
    addresses = {m.key.rpartition(".")[2]: m.address for m in await world.machines(place)}
    [event] = world.heard(orchestrator.DeploymentRunning)
    assert len(addresses) == 12
    assert event.outputs["addresses"] == [addresses[f"worker-{n}"] for n in range(11)]
    assert len(world.heard(orchestrator.NodeStarted)) == 12


async def test_secret_outputs_go_to_the_vault_and_nowhere_else(world: World) -> None:
    replica, place = world.start(), world.place("a")
    id = await world.request(replica, {"server": 1}, secret_inputs=("password",))
    await world.doors["gateway"].put(f"inputs/{id}", {"password": "correct-horse"})
    await world.reserve(id, place, {"server": 1})
    await world.until(id, runs)
    [event] = world.heard(orchestrator.DeploymentRunning)
    assert (set(event.outputs), event.secret_outputs) == ({"addresses"}, ("login",))
    assert await world.doors["gateway"].get(f"outputs/{id}") == {"login": "ada:correct-horse"}
    assert b"correct-horse" not in world.bodies
    assert "correct-horse" not in (await world.get(id)).model_dump_json()


async def test_an_attempt_without_its_secret_inputs_fails_before_anything_is_made(world: World) -> None:
    replica, place = world.start(), world.place("a")
    id = await world.request(replica, {"server": 1}, secret_inputs=("password", "unknown"))
    await world.doors["gateway"].put(f"inputs/{id}", {"unknown": "x"})
    await world.reserve(id, place, {"server": 1})
    await world.until(id, lambda d: d.status is Status.AWAITING_PLACE)
    [failed] = world.heard(orchestrator.AttemptFailed)
    assert failed.reason.code == "spec-rejected"
    assert await world.machines(place, ever=True) == []


async def test_a_full_site_fails_the_attempt_and_all_that_was_made_there_goes(world: World) -> None:
    replica, full, other = world.start(), world.place("full", capacity=2), world.place("other")
    id = await world.request(replica, {"server": 3})
    await world.reserve(id, full, {"server": 3})
    await world.until(id, lambda d: d.status is Status.AWAITING_PLACE)
    [failed] = world.heard(orchestrator.AttemptFailed)
    assert (failed.reason.code, failed.clean) == ("no-capacity", False)
    await world.reserve(id, other, {"server": 3}, attempt=2)
    await world.until(id, runs)
    await world.until(id, lambda d: not d.debris)
    assert [len(await world.machines(place)) for place in (full, other)] == [0, 3]
    [cleaned] = world.heard(orchestrator.AttemptCleaned)
    assert cleaned.attempt == 1
    assert [(r.attempt, r.serial) for r in world.heard(vault.CredentialRevoke)] == [(1, 0)]
    ran = {n.node for n in world.heard(orchestrator.NodeStarted) if n.attempt == 1}
    assert {n.node for n in world.heard(orchestrator.NodeRemoved)} == ran


async def test_a_machine_that_fails_at_boot_fails_the_attempt(world: World) -> None:
    replica, place = world.start(), world.place("a", boot_fail_rate=1)
    id = await world.request(replica, {"server": 1})
    await world.reserve(id, place, {"server": 1})
    deployment = await world.until(id, lambda d: d.status is Status.AWAITING_PLACE)
    assert deployment.failure is not None
    assert deployment.failure.code == "node-failed"


async def test_the_failed_calls_of_a_flaky_site_do_not_hide_those_that_succeed(world: World) -> None:
    replica, place = world.start(), world.place("a", boot_s=0.2, seed=7)
    id = await world.request(replica, {"server": 12})
    await world.reserve(id, place, {"server": 12})
    await world.due()
    await asyncio.sleep(0.25)
    world.break_site(place, fail_rate=0.5)
    deployment = await world.until(id, runs, turns=40)
    assert len(deployment.nodes) == 12
    assert len(await world.machines(place, ever=True)) == 12


# ── what is uncertain


async def test_a_create_whose_answer_is_lost_is_found_by_the_next_turn(world: World) -> None:
    replica, place = world.start(), world.place("a")
    id = await world.request(replica, {"server": 2})
    await world.reserve(id, place, {"server": 2})
    await world.serve()

    async def lose_answers() -> None:
        world.break_site(place, lose_answers=1)

    world.store.on_blob = lose_answers
    await world.due()
    claimed = await world.get(id)
    assert (claimed.status, claimed.due_at) == (Status.CREATING, world.clock.now() + CLAIM)
    assert len(await world.machines(place)) == 2
    world.break_site(place)
    assert await world.due() == 0  # the claim stands
    world.clock.advance(CLAIM)
    await world.due()
    assert runs(await world.get(id))
    assert len(await world.machines(place, ever=True)) == 2
    assert len(world.heard(orchestrator.NodeStarted)) == 2


async def test_a_lost_create_outweighs_a_full_site_and_nothing_is_forgotten(world: World) -> None:
    replica, place, other = world.start(), world.place("a", capacity=1), world.place("b")
    id = await world.request(replica, {"server": 2})
    await world.reserve(id, place, {"server": 2})
    await world.serve()

    async def lose_answers() -> None:
        world.break_site(place, lose_answers=1)

    world.store.on_blob = lose_answers
    await world.due()
    assert world.heard(orchestrator.AttemptFailed) == []
    world.break_site(place)
    await world.until(id, lambda d: d.status is Status.AWAITING_PLACE)
    await world.reserve(id, other, {"server": 2}, attempt=2)
    await world.until(id, lambda d: runs(d) and not d.debris)
    assert [len(await world.machines(p)) for p in (place, other)] == [0, 2]


async def test_a_turn_at_a_site_that_hangs_ends_in_time_and_tells_nothing(world: World) -> None:
    replica, place = world.start(claim_s=0.4), world.place("a")
    id = await world.request(replica, {"server": 1})
    await world.reserve(id, place, {"server": 1})
    await world.serve()

    async def hang() -> None:
        world.break_site(place, hang_s=30)

    world.store.on_blob = hang
    async with asyncio.timeout(3):
        await world.due()
    assert (await world.get(id)).nodes == []
    world.break_site(place)
    world.clock.advance(timedelta(seconds=0.4))
    await world.until(id, runs)
    assert len(await world.machines(place, ever=True)) == 1


async def test_a_turn_that_outlives_its_claim_disturbs_nothing(world: World) -> None:
    replica, place = world.start(), world.place("a")
    world.start()
    id = await world.request(replica, {"server": 1})
    await world.reserve(id, place, {"server": 1})
    await world.serve()
    is_asleep, wake = asyncio.Event(), asyncio.Event()

    async def sleep() -> None:
        is_asleep.set()
        await wake.wait()

    world.store.on_blob = sleep
    [(_, version)] = await world.store.due(Deployment.KIND, world.clock.now(), 1)
    zombie = asyncio.create_task(replica.step(id, version))
    await is_asleep.wait()
    world.clock.advance(CLAIM)
    assert await world.due(replica=1) == 1
    before = await world.get(id)
    assert runs(before)
    wake.set()
    await zombie
    await world.serve()
    after = await world.get(id)
    assert (after.status, after.due_at, after.nodes) == (before.status, before.due_at, before.nodes)
    assert len(await world.machines(place, ever=True)) == 1
    assert len(world.heard(orchestrator.DeploymentRunning)) == len(world.heard(orchestrator.NodeStarted)) == 1


async def test_findings_that_lose_a_race_are_fitted_to_what_won(world: World) -> None:
    replica, place = world.start(), world.place("a")
    rival = world.start()
    id = await world.request(replica, {"server": 1})
    await world.reserve(id, place, {"server": 1})
    await world.serve()

    async def interfere() -> None:
        about = {"deployment_id": id, "attempt": 1, "slot": MAIN, "reservation_id": reservation_id(id, 1, MAIN)}
        await rival.tell(sla.PlacementExpiring(**about, agreement=place.agreement))

    async def interfere_with_the_second_save() -> None:
        world.store.on_save = interfere

    world.store.on_blob = interfere_with_the_second_save
    await world.due()
    assert runs(await world.get(id))
    assert len(world.heard(orchestrator.ReservationKept)) == 1


async def test_a_turn_that_outlived_its_claim_tells_nothing(world: World) -> None:
    replica, place = world.start(), world.place("a")
    id = await world.request(replica, {"server": 2})
    await world.reserve(id, place, {"server": 2})
    await world.serve()
    claims = []
    for n in (0, 1):  # two turns, of which the second began after the claim of the first had lapsed
        async with replica.deployments.edit(id, Context(id=uuid7())) as deployment:
            assert turn.claim(deployment, Moment(world.clock.now(), Timing()))
            claims.append(deployment.claimed)
        world.clock.advance(CLAIM * (n + 1))
    late, timely = (
        Findings(1, "", claim, started={f"server-{n}": Started(f"x-{n}", ("198.51.100.9",))}, reached=True)
        for n, claim in enumerate(claims)
    )
    [deploying] = [handler for handler in replica._service.handlers if isinstance(handler, Deploying)]
    await deploying._save(id, late, Context())
    assert (await world.get(id)).nodes == []
    await deploying._save(id, timely, Context())
    await deploying._save(id, timely, Context())
    assert [node.name for node in (await world.get(id)).nodes] == ["server-1"]


async def test_a_timer_that_another_replica_has_served_does_nothing(world: World) -> None:
    replica, place = world.start(), world.place("a")
    id = await world.request(replica, {"server": 1})
    await world.reserve(id, place, {"server": 1})
    await world.serve()
    [(_, version)] = await world.store.due(Deployment.KIND, world.clock.now(), 1)
    await replica.step(id, version)
    with pytest.raises(AlreadyHandled):
        await world.start().step(id, version)


async def test_it_does_not_run_before_its_secret_outputs_are_kept(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica, place = world.start(), world.place("a")
    id = await world.request(replica, {"server": 1}, secret_inputs=("password",))
    await world.doors["gateway"].put(f"inputs/{id}", {"password": "correct-horse"})
    await world.reserve(id, place, {"server": 1})
    await world.serve()

    async def refuse(path: str, secret: object) -> None:
        raise Unavailable("the vault is sealed")

    with monkeypatch.context() as sealed:
        sealed.setattr(world.doors["orchestrator"], "put", refuse)
        await world.due()
    assert (await world.get(id)).status is Status.CREATING
    world.clock.advance(CLAIM)
    await world.due()
    assert runs(await world.get(id))
    assert await world.doors["gateway"].get(f"outputs/{id}") == {"login": "ada:correct-horse"}


# ── credentials


async def test_a_revoked_credential_is_asked_for_again_with_the_next_serial(world: World) -> None:
    place = world.place("a")
    id = await running(world, place, server=1)
    await world.at_site(place, lambda c: simulation.revoke(c, f"{id}/1/0", SystemClock().now()))
    await world.until(id, lambda d: d.serial == {1: 1} and not d.pending)
    assert [wish.serial for wish in world.heard(vault.CredentialIssue)] == [0, 1]
    reached = (await world.get(id)).reached_at
    await world.until(id, lambda d: d.reached_at != reached)
    await world.delete(id)
    await world.until(id, is_over)
    assert [r.serial for r in world.heard(vault.CredentialRevoke)] == [0, 1]
    assert await world.machines(place) == []


async def test_a_credential_that_the_vault_has_lost_is_asked_for_again(world: World) -> None:
    place = world.place("a")
    id = await running(world, place, server=1)
    await world.doors["vault-broker"].delete(f"leases/{id}/1")
    await world.until(id, lambda d: d.serial == {1: 1} and not d.pending)


async def test_a_site_is_left_alone_while_a_new_credential_is_awaited(world: World) -> None:
    place = world.place("a")
    id = await running(world, place, server=1)
    world.break_site(place, reject_credentials=1)
    for _ in range(3):
        world.clock.advance(timedelta(seconds=30))
        for _, version in await world.store.due(Deployment.KIND, world.clock.now(), 10):
            await world.replicas[0].step(id, version)
        world.break_site(place)
    deployment = await world.get(id)
    assert (deployment.pending, deployment.serial) == ({1}, {1: 1})
    assert deployment.reached_at is not None
    assert world.clock.now() - deployment.reached_at >= timedelta(
        seconds=90
    )  # the old one would do, but it may be revoked
    await world.until(id, lambda d: d.reached_at == world.clock.now())


# ── losses, deletion, cleaning


async def test_a_lost_machine_degrades_and_the_loss_of_the_last_one_fails(world: World) -> None:
    place = world.place("a")
    id = await running(world, place, server=2)
    first, second = await world.machines(place)
    now = SystemClock().now()
    await world.at_site(place, lambda c: simulated_site.remove(c, first.id, now))
    await world.until(id, lambda d: len(d.nodes) == 1)
    [degraded] = world.heard(orchestrator.DeploymentDegraded)
    assert degraded.nodes == (first.key.rpartition(".")[2],)
    await world.at_site(place, lambda c: simulated_site.remove(c, second.id, now))
    deployment = await world.until(id, lambda d: d.status is Status.FAILED and not d.debris)
    assert deployment.failure is not None
    assert deployment.failure.code == "node-lost"
    assert len(world.heard(orchestrator.NodeRemoved)) == 2
    assert len(await world.machines(place, ever=True)) == 2


async def test_a_deletion_while_machines_boot_leaves_nothing(world: World) -> None:
    replica, place = world.start(), world.place("a", boot_s=600)
    id = await world.request(replica, {"server": 2})
    await world.reserve(id, place, {"server": 2})
    await world.due()
    assert len(await world.machines(place)) == 2
    await world.delete(id)
    await world.until(id, is_over)
    assert await world.machines(place) == []
    last = [type(message) for message in world.said if not isinstance(message, vault.CredentialRevoke)][-2:]
    assert last == [orchestrator.AttemptCleaned, orchestrator.DeploymentDeleted]
    assert len(world.heard(vault.CredentialRevoke)) == 1


async def test_debris_that_may_hide_a_machine_is_gone_after_two_quiet_looks_later_than_a_claim(world: World) -> None:
    place = world.place("a", boot_s=3600)
    id = await world.request(world.start(), {"server": 1})
    await world.reserve(id, place, {"server": 1})
    await world.due()
    left = world.clock.now()
    await world.delete(id)  # before the machine was ever seen to run
    await world.due()  # finds the machine and removes it
    assert await world.machines(place) == []
    while world.clock.now() <= left + CLAIM:
        assert (await world.get(id)).debris[0].quiet == 0
        world.clock.advance(timedelta(seconds=10))
        await world.due()
    assert (await world.get(id)).debris[0].quiet == 1
    world.clock.advance(timedelta(seconds=20))
    await world.due()
    assert is_over(await world.get(id))


async def test_debris_of_which_every_machine_was_seen_is_gone_after_two_quiet_looks(world: World) -> None:
    place = world.place("a")
    id = await running(world, place, server=2)
    await world.delete(id)
    await world.due()  # finds the machines and removes them
    assert await world.machines(place) == []
    for quiet in (0, 1):
        assert (await world.get(id)).debris[0].quiet == quiet
        world.clock.advance(timedelta(seconds=5))
        await world.due()
    assert is_over(await world.get(id))


async def test_cleaning_at_a_site_that_is_down_waits_and_does_not_delay_the_next_place(world: World) -> None:
    replica, place, other = world.start(), world.place("a", boot_fail_rate=1), world.place("b")
    id = await world.request(replica, {"server": 1})
    await world.reserve(id, place, {"server": 1})
    await world.until(id, lambda d: d.status is Status.AWAITING_PLACE)
    world.break_site(place, down=True)
    await world.reserve(id, other, {"server": 1}, attempt=2)
    await world.until(id, runs)
    for _ in range(3):
        world.clock.advance(timedelta(hours=1))
        await world.due()
    assert [(d.attempt, d.quiet) for d in (await world.get(id)).debris] == [(1, 0)]
    world.break_site(place)
    await world.until(id, lambda d: not d.debris)
    assert await world.machines(place) == []
    assert runs(await world.get(id))


async def test_a_forced_deletion_gives_up_after_a_claim_and_names_what_is_left(world: World) -> None:
    place = world.place("a")
    id = await running(world, place, server=1)
    world.break_site(place, down=True)
    await world.delete(id, force=True)
    began = world.clock.now()
    await world.until(id, is_over)
    assert world.clock.now() >= began + CLAIM
    [deleted] = world.heard(orchestrator.DeploymentDeleted)
    assert deleted.debris == (f"a: {id}.1.server-0",)


# ── watching and growing


async def test_what_runs_is_sampled_now_and_then(world: World) -> None:
    place = world.place("a")
    id = await running(world, place, server=2)
    await world.until(id, lambda d: d.sampled_at is not None)
    first = (await world.get(id)).sampled_at
    assert {sample.node for sample in world.heard(orchestrator.UsageSampled)} == {"server-0", "server-1"}
    assert all(sample.cpu_s >= 0 and sample.resource_id for sample in world.heard(orchestrator.UsageSampled))
    await world.until(id, lambda d: d.sampled_at != first)
    assert first is not None
    assert world.clock.now() >= first + timedelta(minutes=5)


async def test_an_update_grows_where_the_deployment_runs_and_resolves_all_outputs(world: World) -> None:
    place = world.place("a")
    id = await running(world, place, old=1, server=1)
    grown = {"server": NodeNeeds(count=2, needs=ONE)}  # the new template has no machine "old"; what runs of it runs on
    await world.replicas[0].tell(
        gateway.DeploymentUpdateRequested(
            deployment_id=id, update=1, template=template(server=2), inputs={}, nodes=grown
        )
    )
    await world.serve()
    [wish] = world.heard(orchestrator.ReservationRequested)
    await world.grant(id, place, set(wish.nodes), wish.attempt, wish.slot)
    await world.until(id, runs)
    machines = {machine.key.rpartition(".")[2]: machine.address for machine in await world.machines(place)}
    assert set(machines) == {"old-0", "server-0", "server-1"}
    assert world.heard(orchestrator.DeploymentRunning)[-1].outputs["addresses"] == [
        machines["server-0"],
        machines["server-1"],
    ]


async def test_an_update_for_which_there_is_no_room_leaves_what_ran(world: World) -> None:
    place = world.place("a", capacity=2)
    id = await running(world, place, server=1)
    grown = {"server": NodeNeeds(count=3, needs=ONE)}
    await world.replicas[0].tell(
        gateway.DeploymentUpdateRequested(
            deployment_id=id, update=1, template=template(server=3), inputs={}, nodes=grown
        )
    )
    await world.serve()
    [wish] = world.heard(orchestrator.ReservationRequested)
    await world.grant(id, place, set(wish.nodes), wish.attempt, wish.slot)
    await world.until(id, lambda d: runs(d) and not d.debris)
    assert [failed.reason.code for failed in world.heard(orchestrator.DeploymentUpdateFailed)] == ["no-capacity"]
    assert [machine.key for machine in await world.machines(place)] == [f"{id}.1.server-0"]
    assert [(c.attempt, c.slot) for c in world.heard(orchestrator.AttemptCleaned)] == [(1, "u1")]


# ── starting and stopping


async def ask(world: World, id: DeploymentId, action: gateway.PowerAction, number: int, *nodes: str) -> None:
    await world.replicas[0].tell(
        gateway.DeploymentActionRequested(deployment_id=id, number=number, action=action, nodes=nodes)
    )


def has_answered(number: int, *names: str) -> Callable[[Deployment], bool]:
    """All of these machines, or all there are, were heard of with the action *number*."""
    return lambda d: all(node.answered == number for node in d.nodes if not names or node.name in names)


async def test_machines_stop_and_come_back_elsewhere_with_the_outputs_that_say_where(world: World) -> None:
    place = world.place("a")
    id = await running(world, place, server=2)
    before = {machine.id: machine.address for machine in await world.machines(place)}
    await ask(world, id, "stop", 1, "server-0", "server-1")
    stopped = await world.until(id, has_answered(1), turns=2)
    assert all(machine.phase(world.clock.now()).value == "stopped" for machine in await world.machines(place))
    assert {(e.node, e.run, e.number) for e in world.heard(orchestrator.NodeStopped)} == {
        ("server-0", 1, 1), ("server-1", 1, 1),
    }  # fmt: skip
    assert runs(stopped)
    assert world.heard(orchestrator.DeploymentOutputsChanged) == []
    await ask(world, id, "start", 2, "server-1")
    await world.until(id, has_answered(2, "server-1"), turns=2)
    [resumed], [changed] = world.heard(orchestrator.NodeResumed), world.heard(orchestrator.DeploymentOutputsChanged)
    standing, back = sorted(await world.machines(place), key=lambda machine: machine.key)
    assert (resumed.node, resumed.run, resumed.number, resumed.public_address) == ("server-1", 2, 2, back.address)
    assert back.address not in before.values()
    assert changed.outputs["addresses"] == [before[standing.id], back.address]
    assert len(world.heard(orchestrator.NodeStarted)) == 2
    assert world.heard(orchestrator.NodeActionFailed) == []


async def test_only_machines_that_run_are_sampled(world: World) -> None:
    place = world.place("a")
    id = await running(world, place, server=2)
    await ask(world, id, "stop", 1, "server-0")
    await world.until(id, has_answered(1, "server-0"))
    world.said.clear()
    world.clock.advance(timedelta(minutes=5))
    await world.due()
    assert {sample.node for sample in world.heard(orchestrator.UsageSampled)} == {"server-1"}


async def test_a_machine_that_boots_slowly_is_looked_at_often_until_it_runs_again(world: World) -> None:
    place = world.place("a")
    id = await running(world, place, server=1)
    await ask(world, id, "stop", 1, "server-0")
    await world.until(id, has_answered(1))
    world.break_site(place, boot_s=0.3)
    await ask(world, id, "start", 2, "server-0")
    await world.due()
    waiting = await world.get(id)
    assert waiting.nodes[0].wish is not None
    assert waiting.due_at == world.clock.now() + timedelta(seconds=2)
    await asyncio.sleep(0.35)
    await world.until(id, has_answered(2), turns=2)


async def test_secret_outputs_that_change_go_to_the_vault_and_nothing_is_told_before(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica, place = world.start(), world.place("a")
    id = await world.request(replica, {"server": 1}, secret_inputs=("password",))
    await world.doors["gateway"].put(f"inputs/{id}", {"password": "correct-horse"})
    await world.reserve(id, place, {"server": 1})
    await world.until(id, runs)
    await ask(world, id, "stop", 1, "server-0")
    await world.until(id, has_answered(1))
    await ask(world, id, "start", 2, "server-0")
    door, kept = world.doors["orchestrator"], []

    async def refuse(path: str, secret: object) -> None:
        raise Unavailable("the vault is sealed")

    with monkeypatch.context() as sealed:
        sealed.setattr(door, "put", refuse)
        await world.due()
    assert world.heard(orchestrator.NodeResumed) == []
    world.clock.advance(CLAIM)
    put = door.put

    async def keep(path: str, secret: dict[str, object]) -> None:
        kept.append((path, len(world.heard(orchestrator.DeploymentOutputsChanged))))
        await put(path, secret)

    with monkeypatch.context() as watched:
        watched.setattr(door, "put", keep)
        await world.due()
    [changed], [resumed] = world.heard(orchestrator.DeploymentOutputsChanged), world.heard(orchestrator.NodeResumed)
    assert kept == [(f"outputs/{id}", 0)]
    assert (set(changed.outputs), changed.secret_outputs, resumed.run) == ({"addresses"}, ("login",), 2)
    assert await world.doors["gateway"].get(f"outputs/{id}") == {"login": "ada:correct-horse"}
    assert b"correct-horse" not in world.bodies


async def test_a_machine_that_stops_by_itself_is_told_and_not_started(world: World) -> None:
    place = world.place("a")
    id = await running(world, place, server=1)
    [machine] = await world.machines(place)
    await world.at_site(place, lambda c: simulated_site.force(c, machine.id, Phase.STOPPED, "by the site"))
    await world.until(id, lambda d: d.nodes[0].stopped_at)
    world.clock.advance(timedelta(hours=1))
    await world.due()
    [told] = world.heard(orchestrator.NodeStopped)
    assert (told.run, told.number) == (1, 0)
    [machine] = await world.machines(place)
    assert machine.forced == "stopped"


@pytest.mark.parametrize("is_seen_after", [True, False])
async def test_a_wish_for_the_contrary_is_not_met_by_what_a_turn_saw_before_it_acted(
    world: World, monkeypatch: pytest.MonkeyPatch, *, is_seen_after: bool
) -> None:
    place = world.place("a")
    id = await running(world, place, server=1)
    await ask(world, id, "stop", 1, "server-0")
    stop = SimulatedDriver.stop

    async def stop_while_a_wish_comes(driver: SimulatedDriver, machine: ResourceId, credential: Credential) -> None:
        await stop(driver, machine, credential)
        world.break_site(place, down=not is_seen_after)
        await ask(world, id, "start", 2, "server-0")

    with monkeypatch.context() as race:
        race.setattr(SimulatedDriver, "stop", stop_while_a_wish_comes)
        await world.due()
    world.break_site(place)
    [node] = (await world.get(id)).nodes
    assert node.wish is not None
    assert (node.wish.number, world.heard(orchestrator.NodeResumed)) == (2, [])
    assert [e.number for e in world.heard(orchestrator.NodeStopped)] == [0] * is_seen_after
    await world.until(id, has_answered(2), turns=3)
    [machine] = await world.machines(place)
    assert machine.phase(world.clock.now()) is Phase.RUNNING
    assert [(e.run, e.number) for e in world.heard(orchestrator.NodeResumed)] == [(2, 2)]


async def test_a_stop_whose_answer_is_lost_is_seen_all_the_same(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    place = world.place("a")
    id = await running(world, place, server=1)
    await ask(world, id, "stop", 1, "server-0")
    stop = SimulatedDriver.stop

    async def stop_and_say_nothing(driver: SimulatedDriver, machine: ResourceId, credential: Credential) -> None:
        await stop(driver, machine, credential)
        raise Unavailable("the answer was lost")

    with monkeypatch.context() as flaw:
        flaw.setattr(SimulatedDriver, "stop", stop_and_say_nothing)
        await world.until(id, has_answered(1), turns=2)
    assert [e.number for e in world.heard(orchestrator.NodeStopped)] == [1]


async def test_a_start_that_the_site_has_no_room_for_is_answered_and_changes_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = world.place("a")
    id = await running(world, place, server=1)
    await ask(world, id, "stop", 1, "server-0")
    await world.until(id, has_answered(1))

    async def refuse(*_: object) -> None:
        raise NoCapacity("the host is full")

    with monkeypatch.context() as full:
        full.setattr(SimulatedDriver, "start", refuse)
        await ask(world, id, "start", 2, "server-0")
        await world.until(id, has_answered(2), turns=1)
    [failed] = world.heard(orchestrator.NodeActionFailed)
    assert (failed.node, failed.number, failed.reason.code, failed.reason.detail) == (
        "server-0", 2, "no-capacity", "the host is full",
    )  # fmt: skip
    await ask(world, id, "start", 3, "server-0")
    await world.until(id, has_answered(3), turns=2)
    assert [e.number for e in world.heard(orchestrator.NodeResumed)] == [3]


async def test_a_place_whose_machines_cannot_be_stopped_says_so_and_is_not_asked(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = world.place("a")
    id = await running(world, place, server=1)
    with monkeypatch.context() as old:
        old.setattr(SimulatedDriver, "abilities", frozenset())
        world.start()  # a guard looks like what it guards from when it is put around it
        await ask(world, id, "stop", 1, "server-0")
        await world.due(replica=1)
    [failed] = world.heard(orchestrator.NodeActionFailed)
    assert failed.reason.code == "unsupported"
    assert "simulated" in failed.reason.detail
    [machine] = await world.machines(place)
    assert machine.stopped_at is None


async def test_a_machine_that_has_failed_is_left_as_it_is_and_its_user_hears_why(world: World) -> None:
    place = world.place("a")
    id = await running(world, place, server=1)
    [machine] = await world.machines(place)
    await world.at_site(place, lambda c: simulated_site.force(c, machine.id, Phase.FAILED, "the host is dead"))
    world.clock.advance(timedelta(seconds=40))
    await world.due()
    await ask(world, id, "stop", 1, "server-0")
    await world.until(id, has_answered(1), turns=1)
    [failed] = world.heard(orchestrator.NodeActionFailed)
    assert (failed.reason.code, failed.reason.detail) == ("node-failed", "the host is dead")
    assert world.heard(orchestrator.NodeStopped) == []
    assert runs(await world.get(id))


async def test_a_wish_at_a_site_that_is_down_is_given_up_after_its_time(world: World) -> None:
    place = world.place("a")
    id = await running(world, place, server=1)
    world.break_site(place, down=True)
    await ask(world, id, "stop", 1, "server-0")
    began = world.clock.now()
    await world.until(id, has_answered(1))
    assert timedelta(minutes=5) <= world.clock.now() - began <= timedelta(minutes=6)
    [failed] = world.heard(orchestrator.NodeActionFailed)
    assert failed.reason.code == "action-timeout"


async def test_an_action_that_comes_before_its_deployment_is_known_comes_again(world: World) -> None:
    world.start()
    with pytest.raises(NotFound):
        await ask(world, DeploymentId(uuid7()), "stop", 1, "server-0")


async def test_an_update_grows_while_a_machine_stands_and_its_outputs_name_where_all_are(world: World) -> None:
    place = world.place("a")
    id = await running(world, place, server=1)
    await ask(world, id, "stop", 1, "server-0")
    await world.until(id, has_answered(1))
    await world.replicas[0].tell(
        gateway.DeploymentUpdateRequested(
            deployment_id=id, update=1, template=template(server=2), inputs={},
            nodes={"server": NodeNeeds(count=2, needs=ONE)},
        )
    )  # fmt: skip
    await world.serve()
    [wish] = world.heard(orchestrator.ReservationRequested)
    await world.grant(id, place, set(wish.nodes), wish.attempt, wish.slot)
    await world.until(id, runs)
    first, second = sorted(await world.machines(place), key=lambda machine: machine.key)
    assert first.phase(world.clock.now()) is Phase.STOPPED
    assert world.heard(orchestrator.DeploymentRunning)[-1].outputs["addresses"] == [first.address, second.address]
    await ask(world, id, "start", 2, "server-0")
    await world.until(id, has_answered(2, "server-0"))
    first, _ = sorted(await world.machines(place), key=lambda machine: machine.key)
    assert world.heard(orchestrator.DeploymentOutputsChanged)[-1].outputs["addresses"] == [
        first.address,
        second.address,
    ]


async def test_a_deployment_with_stopped_machines_is_deleted_whole(world: World) -> None:
    place = world.place("a")
    id = await running(world, place, server=2)
    await ask(world, id, "stop", 1, "server-0")
    await world.until(id, has_answered(1, "server-0"))
    await ask(world, id, "start", 2, "server-0")
    await world.delete(id)
    await world.until(id, is_over)
    assert await world.machines(place) == []
    assert len(world.heard(orchestrator.NodeRemoved)) == 2
