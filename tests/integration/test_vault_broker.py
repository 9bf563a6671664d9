"""The vault broker on a real OpenBao, a real store and simulated sites; its handlers are called as the runtime would."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog.testing
from cryptography.hazmat.primitives.serialization import load_ssh_private_key

from indaco_common import simulation
from indaco_common.bus.embedded import EmbeddedBus
from indaco_common.clock import ManualClock, SystemClock
from indaco_common.contracts import orchestrator, vault
from indaco_common.contracts.values import Failure, Owner, Place
from indaco_common.envelope import Context, unseal
from indaco_common.errors import AlreadyHandled, Conflict, CredentialRejected, Unavailable
from indaco_common.handling import collect
from indaco_common.hints import Hints
from indaco_common.ids import DeploymentId, uuid7
from indaco_common.messages import Message
from indaco_common.metrics import Metrics
from indaco_common.secrets.embedded import EmbeddedVault
from indaco_common.secrets.port import Secrets
from indaco_common.service import Infra
from indaco_common.settings import Settings
from indaco_common.simulation import Lease as SiteLease
from indaco_common.simulation import Site, break_site
from indaco_common.store.sqlite import SqliteStore
from indaco_vault_broker import handlers as broker_handlers
from indaco_vault_broker.app import SERVICE, build
from indaco_vault_broker.model.key import Key, KeyState
from indaco_vault_broker.model.lease import Lease, State
from indaco_vault_broker.settings import VaultBrokerSettings

OWNER = Owner(issuer="https://iam.example.org/", subject="ada")
TTL_S = 3600.0


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedVault]:
    server = EmbeddedVault(tmp_path_factory.mktemp("vault"), ephemeral=True)
    try:
        asyncio.run(server.start())
    except Unavailable as error:
        pytest.skip(f"no OpenBao: {error.detail}")
    yield server
    asyncio.run(server.stop())


class Crash(Exception):
    """The process dies here."""


class Fuse:
    """Counts the effects on vault, site and store, and blows before or after one of them."""

    def __init__(self) -> None:
        self.at: tuple[int, str] | None = None
        self._count = 0

    def set(self, at: tuple[int, str] | None) -> None:
        self.at, self._count = at, 0

    def guard(self, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def guarded(*args: Any, **kwargs: Any) -> Any:
            self._count += 1
            if self.at == (self._count, "before"):
                raise Crash
            result = await call(*args, **kwargs)
            if self.at == (self._count, "after"):
                raise Crash
            return result

        return guarded


class Guarded:
    """*inner* with some of its calls behind a fuse."""

    def __init__(self, inner: object, fuse: Fuse, *names: str) -> None:
        self._inner, self._fuse, self._names = inner, fuse, names

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        return self._fuse.guard(found) if name in self._names else found


class Broker:
    """The broker; :meth:`restart` is what follows a crash: all that is not in the store, the vault or the site is gone."""

    def __init__(self, folder: Path, secrets: Secrets) -> None:
        self.folder, self.secrets, self.clock, self.fuse = folder, secrets, ManualClock(SystemClock().now()), Fuse()
        self.store = SqliteStore(folder / "broker.db", synchronous="OFF")
        self._services: list[Any] = []

    def restart(self, *, fused: bool = True) -> None:
        store: Any = Guarded(self.store, self.fuse, "save") if fused else self.store
        secrets: Any = Guarded(self.secrets, self.fuse, "get", "put", "delete") if fused else self.secrets
        infra = Infra(
            service="vault-broker", settings=Settings(data=self.folder), clock=self.clock, store=store,
            bus=EmbeddedBus(self.folder / "bus.db"), secrets=secrets, metrics=Metrics("vault-broker"), hints=Hints(),
        )  # fmt: skip
        service = build(infra, VaultBrokerSettings(credential_ttl_s=TTL_S))
        self._services.append(service)
        self._handlers, self._timers = collect(service.handlers)
        self.leases, self.keys = infra.repository(Lease), infra.repository(Key)
        if fused:
            [leasing] = [h for h in service.handlers if isinstance(h, broker_handlers.Leasing)]
            issuers = leasing._issuers
            leasing._issuers = _FusedIssuers(issuers, self.fuse)  # type: ignore[assignment]

    async def close(self) -> None:
        for service in self._services:
            for close in service.closing:
                await close()
        await self.store.stop()

    def place(self, provider: str = "site-a", **options: Any) -> Place:
        query = "&".join(f"{name}={value}" for name, value in options.items())
        return Place(
            provider=provider, kind="simulated", endpoint=f"simulated:{self.folder / 'sites'}?{query}".rstrip("?"), region="r1",
            project="p1", agreement="a1", simulated=True,
        )  # fmt: skip

    async def tell(self, message: Message, id: str | None = None) -> None:
        for handler in self._handlers[message.TYPE]:
            await handler(message, Context(id=id or uuid7()))

    async def deliver(self, message: Message, id: str, *, crash: tuple[int, str] | None = None) -> bool:
        """Deliver *message*; return whether the process died of it."""
        self.fuse.set(crash)
        try:
            await self.tell(message, id)
        except Crash:
            self.restart()
            return True
        except AlreadyHandled:
            pass
        finally:
            self.fuse.set(None)
        return False

    async def due(self) -> None:
        for id, version in await self.store.due(Lease.KIND, self.clock.now(), 100):
            await self._timers[Lease](id, Context(at_version=version))

    async def said(self) -> list[Message]:
        """Return what was committed to be sent since the last time, in order."""
        batches = await self.store.lease(self.clock.now(), 15, 1000)
        entries = [entry for batch in batches for entry in batch]
        await self.store.settle(entries, self.clock.now())
        opened = [unseal(entry.sealed.body)[1] for entry in entries]
        return [message for message in opened if message is not None]

    async def at_site(self, place: Place) -> list[SiteLease]:
        site = Site.at(place.endpoint, place.provider, clock=self.clock)
        try:
            return await site.run(simulation.leases)
        finally:
            site.close()

    async def living(self, place: Place) -> list[str]:
        now = self.clock.now()
        return [lease.key for lease in await self.at_site(place) if not lease.is_revoked and lease.expires_at > now]

    async def check(self, place: Place, credential: Mapping[str, object]) -> None:
        """Use *credential* at the site. Raises: CredentialRejected."""
        site = Site.at(place.endpoint, place.provider, clock=self.clock)
        shown = {name: str(value) for name, value in credential.items()}
        now = self.clock.now()
        try:
            await site.run(lambda c: simulation.check(c, shown, region=place.region, project=place.project, now=now))
        finally:
            site.close()


class _FusedIssuers:
    def __init__(self, inner: Any, fuse: Fuse) -> None:
        self._inner, self._fuse = inner, fuse

    def issuer_for(self, place: Place) -> Any:
        return Guarded(self._inner.issuer_for(place), self._fuse, "issue", "revoke")


@pytest.fixture
async def broker(tmp_path: Path, embedded: EmbeddedVault) -> AsyncIterator[Broker]:
    secrets = embedded.secrets_for("vault-broker")
    await secrets.start()
    broker = Broker(tmp_path, secrets)
    await broker.store.start()
    broker.restart(fused=False)
    yield broker
    await broker.close()
    await secrets.stop()


def issue(place: Place, deployment: str, attempt: int = 1, serial: int = 0) -> vault.CredentialIssue:
    return vault.CredentialIssue(
        deployment_id=DeploymentId(deployment), attempt=attempt, serial=serial, place=place, owner=OWNER
    )


def revoke(deployment: str, attempt: int = 1, serial: int = 0) -> vault.CredentialRevoke:
    return vault.CredentialRevoke(deployment_id=DeploymentId(deployment), attempt=attempt, serial=serial)


async def test_an_issued_credential_lies_in_the_vault_and_works_at_the_site(broker: Broker) -> None:
    place, deployment = broker.place(), uuid7()
    with structlog.testing.capture_logs() as logs:
        await broker.tell(issue(place, deployment))
    [answer] = await broker.said()
    assert isinstance(answer, vault.CredentialIssued)
    assert answer.handle == f"leases/{deployment}/1"
    secret = await broker.secrets.get(answer.handle)
    assert secret is not None
    assert secret["serial"] == "0"
    await broker.check(place, secret)
    assert str(secret["token"]) not in answer.model_dump_json() + json.dumps(logs, default=str)
    assert str(secret["token"]) not in (await broker.leases.get(f"{deployment}/1/0")).model_dump_json()


async def test_the_same_issue_gets_the_same_answer(broker: Broker) -> None:
    place, deployment = broker.place(), uuid7()
    for _ in range(2):
        await broker.tell(issue(place, deployment))
    first, second = await broker.said()
    assert first == second
    assert len(await broker.living(place)) == 1


async def test_a_revoked_credential_is_gone_from_vault_and_site(broker: Broker) -> None:
    place, deployment = broker.place(), uuid7()
    await broker.tell(issue(place, deployment))
    secret = await broker.secrets.get(f"leases/{deployment}/1")
    assert secret is not None
    await broker.tell(revoke(deployment))
    assert await broker.secrets.get(f"leases/{deployment}/1") is None
    with pytest.raises(CredentialRejected):
        await broker.check(place, secret)
    assert [type(message) for message in await broker.said()] == [vault.CredentialIssued, vault.CredentialRevoked]
    await broker.tell(issue(place, deployment))
    assert await broker.secrets.get(f"leases/{deployment}/1") is None


async def test_a_revoke_before_its_issue_leaves_a_tombstone(broker: Broker) -> None:
    place, deployment = broker.place(), uuid7()
    await broker.tell(revoke(deployment))
    await broker.tell(issue(place, deployment))
    assert [type(message) for message in await broker.said()] == [vault.CredentialRevoked, vault.CredentialRefused]
    assert await broker.living(place) == []


async def test_an_old_serial_takes_nothing_from_a_newer_one(broker: Broker) -> None:
    place, deployment = broker.place(), uuid7()
    await broker.tell(issue(place, deployment, serial=0))
    await broker.tell(issue(place, deployment, serial=1))
    await broker.tell(revoke(deployment, serial=0))
    secret = await broker.secrets.get(f"leases/{deployment}/1")
    assert secret is not None
    await broker.check(place, secret)
    await broker.tell(issue(place, deployment, serial=0))
    assert await broker.secrets.get(f"leases/{deployment}/1") == secret
    await broker.tell(revoke(deployment, serial=1))
    assert await broker.secrets.get(f"leases/{deployment}/1") is None
    assert await broker.living(place) == []


async def test_serials_of_one_attempt_handled_at_once_end_with_the_newest(broker: Broker) -> None:
    place = broker.place()
    for _ in range(10):
        deployment = uuid7()
        await broker.tell(issue(place, deployment, serial=0))
        await asyncio.gather(
            broker.tell(revoke(deployment, serial=0)), broker.tell(issue(place, deployment, serial=1)),
            broker.tell(issue(place, deployment, serial=0)),
        )  # fmt: skip
        secret = await broker.secrets.get(f"leases/{deployment}/1")
        assert secret is not None
        assert secret["serial"] == "1"
        assert [key for key in await broker.living(place) if deployment in key] == [f"{deployment}/1/1"]


async def test_issue_and_revoke_at_once_leave_nothing(broker: Broker) -> None:
    place = broker.place()
    for order in (1, -1):
        deployment = uuid7()
        both = [broker.tell(issue(place, deployment)), broker.tell(revoke(deployment))]
        await asyncio.gather(*both[::order])
        assert await broker.secrets.get(f"leases/{deployment}/1") is None
    assert await broker.living(place) == []


async def test_a_replica_that_wakes_up_after_the_revoke_clears_what_it_lays_down(broker: Broker) -> None:
    """One replica stands still before its put; another gets the message again, then the revoke."""
    place, deployment, id = broker.place(), uuid7(), uuid7()
    stands_still, goes_on = asyncio.Event(), asyncio.Event()

    class Slow(Guarded):
        async def put(self, path: str, secret: Mapping[str, object]) -> None:
            stands_still.set()
            await goes_on.wait()
            await broker.secrets.put(path, secret)

    slow = Broker(broker.folder, Slow(broker.secrets, Fuse()))  # type: ignore[arg-type]
    slow.store, slow.clock, slow._services = broker.store, broker.clock, broker._services
    slow.restart(fused=False)
    late = asyncio.create_task(slow.tell(issue(place, deployment), id))
    await stands_still.wait()
    await broker.tell(issue(place, deployment), id)
    await broker.tell(revoke(deployment))
    goes_on.set()
    with pytest.raises(Conflict):
        await late
    assert await broker.secrets.get(f"leases/{deployment}/1") is None
    assert await broker.living(place) == []


STEPS = [(step, when) for step in range(1, 20) for when in ("before", "after")]


async def test_an_issue_that_dies_at_any_step_is_completed_by_its_repeat(broker: Broker) -> None:
    place, reached = broker.place(), 0
    for crash in STEPS:
        broker.restart()
        deployment, id = uuid7(), uuid7()
        died = await broker.deliver(issue(place, deployment), id, crash=crash)
        await broker.deliver(issue(place, deployment), id)
        secret = await broker.secrets.get(f"leases/{deployment}/1")
        assert secret is not None
        await broker.check(place, secret)
        issued = [m for m in await broker.said() if isinstance(m, vault.CredentialIssued)]
        assert len(issued) == 1
        reached += died
    assert reached == 10  # intent, site, look, put, save: before and after each


async def test_whatever_dies_where_a_revoke_leaves_nothing(broker: Broker) -> None:
    """The revoke overtakes an issue that died, dies itself, and both are delivered again, in either order."""
    place = broker.place()
    for first in STEPS:
        for second in (None, *STEPS):
            broker.restart()
            deployment, ids = uuid7(), (uuid7(), uuid7())
            died = await broker.deliver(issue(place, deployment), ids[0], crash=first)
            died_too = await broker.deliver(revoke(deployment), ids[1], crash=second)
            if died_too and second is not None and second[0] % 2:
                await broker.deliver(issue(place, deployment), ids[0])
            await broker.deliver(revoke(deployment), ids[1])
            await broker.deliver(issue(place, deployment), ids[0])
            assert await broker.secrets.get(f"leases/{deployment}/1") is None, (first, second)
            assert await broker.living(place) == [], (first, second)
            assert (await broker.leases.get(f"{deployment}/1/0")).state is State.REVOKED
            if second is not None and not died_too:
                break
        if not died:
            return
    pytest.fail("the issue never came to its end")


async def test_an_old_issue_that_is_repeated_late_does_not_cover_a_newer_credential(broker: Broker) -> None:
    place, deployment, id = broker.place(), uuid7(), uuid7()
    broker.restart()
    assert await broker.deliver(issue(place, deployment, serial=0), id, crash=(3, "before"))
    await broker.deliver(issue(place, deployment, serial=1), uuid7())
    await broker.deliver(issue(place, deployment, serial=0), id)
    secret = await broker.secrets.get(f"leases/{deployment}/1")
    assert secret is not None
    assert secret["serial"] == "1"


async def test_a_slow_removal_does_not_take_the_next_serials_secret(broker: Broker) -> None:
    place, deployment, goes_on = broker.place(), uuid7(), asyncio.Event()

    class Slow(Guarded):
        async def delete(self, path: str) -> None:
            await goes_on.wait()
            await broker.secrets.delete(path)

    slow = Broker(broker.folder, Slow(broker.secrets, Fuse()))  # type: ignore[arg-type]
    slow.store, slow.clock, slow._services = broker.store, broker.clock, broker._services
    slow.restart(fused=False)
    await slow.tell(issue(place, deployment, serial=0))
    both = asyncio.gather(slow.tell(revoke(deployment, serial=0)), slow.tell(issue(place, deployment, serial=1)))
    await asyncio.wait([both], timeout=0.3)  # time enough for a put that does not wait
    goes_on.set()
    await both
    secret = await broker.secrets.get(f"leases/{deployment}/1")
    assert secret is not None
    assert secret["serial"] == "1"


async def test_a_site_that_is_down_is_asked_again(broker: Broker) -> None:
    place, deployment, id = broker.place(), uuid7(), uuid7()
    folder = broker.folder / "sites/site-a"
    break_site(folder, down=True)
    with pytest.raises(Unavailable):
        await broker.tell(issue(place, deployment), id)
    assert await broker.said() == []
    break_site(folder)
    await broker.tell(issue(place, deployment), id)
    break_site(folder, down=True)
    with pytest.raises(Unavailable):
        await broker.tell(revoke(deployment))
    assert await broker.secrets.get(f"leases/{deployment}/1") is None  # what is to be revoked is of no use to anybody
    break_site(folder)
    await broker.tell(revoke(deployment))
    assert await broker.living(place) == []


async def test_a_kind_without_an_issuer_gets_a_copy_of_its_standing_credential(broker: Broker) -> None:
    place, deployment = broker.place().model_copy(update={"kind": "abacus"}), uuid7()
    await broker.tell(issue(place, deployment))
    [answer] = await broker.said()
    assert isinstance(answer, vault.CredentialIssued)
    assert await broker.secrets.get(answer.handle) == {"kind": "abacus", "serial": "0"}
    await broker.tell(revoke(deployment))
    assert await broker.secrets.get(answer.handle) is None
    assert (await broker.leases.get(f"{deployment}/1/0")).state is State.REVOKED


async def test_what_the_site_refuses_is_refused_for_good(broker: Broker) -> None:
    place, deployment = broker.place(), uuid7()
    site = Site.at(place.endpoint, place.provider, clock=broker.clock)
    await site.run(lambda connection: simulation.revoke(connection, f"{deployment}/1/0", broker.clock.now()))
    site.close()
    for _ in range(2):
        await broker.tell(issue(place, deployment))
    answers = await broker.said()
    assert [answer.reason.code for answer in answers if isinstance(answer, vault.CredentialRefused)] == [
        "policy-refused"
    ] * 2


async def test_a_credential_in_use_is_replaced_before_it_expires(broker: Broker) -> None:
    place, deployment = broker.place(), uuid7()
    await broker.tell(issue(place, deployment))
    first = await broker.secrets.get(f"leases/{deployment}/1")
    await broker.due()
    assert await broker.secrets.get(f"leases/{deployment}/1") == first
    for _ in range(4):
        broker.clock.advance(timedelta(seconds=TTL_S * 0.7))
        await broker.due()
    secret = await broker.secrets.get(f"leases/{deployment}/1")
    assert secret is not None
    assert secret != first
    await broker.check(place, secret)
    await broker.tell(revoke(deployment))
    assert await broker.living(place) == []


async def test_a_renewal_that_dies_at_any_step_is_done_by_the_next(broker: Broker) -> None:
    for crash in STEPS:
        broker.restart()
        place, deployment = broker.place(), uuid7()
        await broker.deliver(issue(place, deployment), uuid7())
        broker.clock.advance(timedelta(seconds=TTL_S * 0.7))
        broker.fuse.set(crash)
        try:
            await broker.due()
        except Crash:
            broker.restart()
        broker.fuse.set(None)
        broker.clock.advance(timedelta(minutes=6))
        await broker.due()
        broker.clock.advance(timedelta(seconds=TTL_S * 0.3))
        secret = await broker.secrets.get(f"leases/{deployment}/1")
        assert secret is not None
        await broker.check(place, secret)
        await broker.deliver(revoke(deployment), uuid7())
        assert await broker.living(place) == []


async def test_a_credential_that_could_not_be_renewed_expires_for_good(broker: Broker) -> None:
    place, deployment = broker.place(), uuid7()
    await broker.tell(issue(place, deployment))
    break_site(broker.folder / "sites/site-a", down=True)
    broker.clock.advance(timedelta(seconds=TTL_S * 0.9))
    with pytest.raises(Unavailable):
        await broker.due()
    broker.clock.advance(timedelta(seconds=TTL_S * 0.2))
    await broker.due()
    assert (await broker.leases.get(f"{deployment}/1/0")).state is State.EXPIRED
    assert await broker.secrets.get(f"leases/{deployment}/1") is None
    await broker.tell(revoke(deployment))  # needs no site
    await broker.tell(issue(place, deployment))
    assert [type(m) for m in await broker.said()] == [
        vault.CredentialIssued, vault.CredentialRevoked, vault.CredentialRefused,
    ]  # fmt: skip


@pytest.fixture
async def left_behind(broker: Broker, embedded: EmbeddedVault) -> str:
    """A deployment with a secret in every place."""
    deployment = uuid7()
    for service, kinds in {"gateway": ("inputs", "sessions"), "orchestrator": ("outputs",)}.items():
        secrets = embedded.secrets_for(service)
        await secrets.start()
        for kind in kinds:
            await secrets.put(f"{kind}/{deployment}", {"password": "x"})
        await secrets.stop()
    for attempt in (1, 2):
        await broker.tell(issue(broker.place(), deployment, attempt))
    return deployment


async def left(broker: Broker, deployment: str) -> set[str]:
    found = {kind for kind in ("inputs", "outputs", "sessions") if deployment in await broker.secrets.list(kind)}
    return found | {f"leases/{attempt}" for attempt in await broker.secrets.list(f"leases/{deployment}")}


async def test_a_failed_deployment_loses_inputs_and_outputs_and_may_still_be_cleaned(
    broker: Broker, left_behind: str
) -> None:
    assert await left(broker, left_behind) == {"inputs", "outputs", "sessions", "leases/1", "leases/2"}
    reason = Failure(code="no-capacity", detail="no")
    for _ in range(2):
        await broker.tell(orchestrator.DeploymentFailed(deployment_id=DeploymentId(left_behind), reason=reason))
    assert await left(broker, left_behind) == {"sessions", "leases/1", "leases/2"}


async def test_of_a_deleted_deployment_nothing_is_left(broker: Broker, left_behind: str) -> None:
    for _ in range(2):
        await broker.tell(orchestrator.DeploymentDeleted(deployment_id=DeploymentId(left_behind)))
    assert await left(broker, left_behind) == set()


async def test_a_sweep_that_the_vault_refuses_is_tried_again(broker: Broker) -> None:
    with pytest.raises(Unavailable):
        await broker.tell(orchestrator.DeploymentDeleted(deployment_id=DeploymentId("../../sys")))


def about(name: str = "laptop", user: str | None = None) -> dict[str, Any]:
    return {"user_id": user or uuid7(), "name": name, "owner": OWNER}


async def test_a_new_key_pair_keeps_its_private_half_in_the_vault(broker: Broker) -> None:
    asked = about()
    with structlog.testing.capture_logs() as logs:
        for _ in range(2):
            await broker.tell(vault.KeyCreate(**asked))
    first, again = await broker.said()
    assert first == again
    assert isinstance(first, vault.KeyCreated)
    assert first.generated
    secret = await broker.secrets.get(f"users/{asked['user_id']}/keys/laptop")
    assert secret is not None
    assert secret["public_key"] == first.public_key
    load_ssh_private_key(str(secret["private_key"]).encode(), password=None)
    assert "PRIVATE" not in json.dumps([*logs, first.model_dump()], default=str)


async def test_a_creation_that_dies_at_any_step_ends_with_one_matching_pair(broker: Broker) -> None:
    for crash in STEPS:
        broker.restart()
        asked, id = about(), uuid7()
        died = await broker.deliver(vault.KeyCreate(**asked), id, crash=crash)
        await broker.deliver(vault.KeyCreate(**asked), id)
        [created] = await broker.said()
        secret = await broker.secrets.get(f"users/{asked['user_id']}/keys/laptop")
        assert isinstance(created, vault.KeyCreated)
        assert secret is not None
        assert secret["public_key"] == created.public_key
        if not died:
            return
    pytest.fail("the creation never came to its end")


async def test_a_registered_key_is_kept_without_a_private_half(broker: Broker) -> None:
    asked, line = about(), "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB ada@laptop"
    await broker.tell(vault.KeyRegister(**asked, public_key=line))
    await broker.tell(vault.KeyCreate(**asked))
    first, again = await broker.said()
    assert first == again
    assert isinstance(first, vault.KeyCreated)
    assert (first.public_key, first.generated) == (line, False)
    assert await broker.secrets.get(f"users/{asked['user_id']}/keys/laptop") is None


async def test_a_wrong_key_is_refused_without_an_event_and_its_name_stays_free(broker: Broker) -> None:
    asked = about()
    await broker.tell(vault.KeyRegister(**asked, public_key="ssh-dss AAAA"))
    assert await broker.said() == []
    assert (await broker.keys.get(f"{asked['user_id']}/laptop")).state is KeyState.REFUSED
    await broker.tell(vault.KeyCreate(**asked))
    assert len(await broker.said()) == 1


async def test_a_deleted_key_is_gone_and_its_name_free(broker: Broker) -> None:
    asked = about()
    await broker.tell(vault.KeyCreate(**asked))
    for _ in range(2):
        await broker.tell(vault.KeyDelete(**asked))
    assert await broker.secrets.get(f"users/{asked['user_id']}/keys/laptop") is None
    await broker.tell(vault.KeyCreate(**asked))
    created, *_, again = await broker.said()
    assert isinstance(created, vault.KeyCreated)
    assert isinstance(again, vault.KeyCreated)
    assert created.fingerprint != again.fingerprint


def test_the_broker_owns_the_vaults_commands() -> None:
    handled = {message.TYPE for message in SERVICE.messages}
    assert {"vault.credential.issue.v1", "vault.credential.revoke.v1", "vault.key.create.v1"} <= handled
