"""sla over a real store: its handlers are called as the runtime would, and what they say to each other is delivered, twice if told."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
import structlog.testing

from indaco_common.bus.embedded import EmbeddedBus
from indaco_common.clock import ManualClock
from indaco_common.contracts import gateway, orchestrator, sla
from indaco_common.contracts.values import MAIN, Failure, Group, NodeNeeds, Owner, Place
from indaco_common.envelope import Context, Sealed, unseal
from indaco_common.errors import AlreadyHandled, NotFound
from indaco_common.handling import collect
from indaco_common.hints import Hints
from indaco_common.ids import DeploymentId, reservation_id, uuid7
from indaco_common.messages import Message
from indaco_common.metrics import Metrics
from indaco_common.service import Infra
from indaco_common.settings import Settings
from indaco_common.store.sqlite import SqliteStore
from indaco_common.units import ResourceVector
from indaco_sla.app import build
from indaco_sla.model.ledger import HOLD, Ledger, State
from indaco_sla.model.placement import Placement, Status
from indaco_sla.model.registry import Agreement, Provider
from indaco_sla.settings import SlaSettings

M = TypeVar("M", bound=Message)
ISSUER = "https://iam.example.org/"
OWNER, GROUP = Owner(issuer=ISSUER, subject="ada"), Group(issuer=ISSUER, path="cms")
ONE = ResourceVector(instances=1, cpu_milli=1000, memory_mib=1024)
FEDERATION = """
providers:
  - {id: site-a, kind: simulated}
  - {id: site-b, kind: simulated}
agreements:
  - &first
    id: cms-a
    group: {issuer: "https://iam.example.org/", path: cms}
    provider: site-a
    project: cms
    weight: 1.0
    limits: {instances: 3, cpu_milli: 8000, memory_mib: 8192}
    user_limits: {instances: 2, cpu_milli: 8000, memory_mib: 8192}
    valid_from: 2025-01-01T00:00:00Z
    valid_to: 2035-01-01T00:00:00Z
  - {<<: *first, id: cms-b, provider: site-b, weight: 0.1}
"""


class Sla:
    """One replica, and a bus that delivers what it says to itself."""

    def __init__(self, folder: Path, store: SqliteStore, clock: ManualClock) -> None:
        self.folder, self.store, self.clock = folder, store, clock
        infra = Infra(
            service="sla", settings=Settings(data=folder), clock=clock, store=store, bus=EmbeddedBus(folder / "bus.db"), secrets=None,
            metrics=Metrics("sla"), hints=Hints(),
        )  # fmt: skip
        self.service = build(infra, SlaSettings(federation=folder / "federation.yaml"))
        self._handlers, self._timers = collect(self.service.handlers)
        self.ledgers, self.placements = infra.repository(Ledger), infra.repository(Placement)
        self.providers, self.agreements = infra.repository(Provider), infra.repository(Agreement)
        self.said: list[Message] = []

    async def start(self, text: str = FEDERATION) -> None:
        (self.folder / "federation.yaml").write_text(text)
        for starting in self.service.starting:
            await starting()

    async def tell(self, message: Message, *, times: int = 1) -> None:
        """Deliver *message*, and all that follows from it, each so many times under one id."""
        await self._deliver(message, uuid7(), times)
        await self.relay(times)

    async def relay(self, times: int = 1) -> None:
        while envelopes := await self._published():
            for sealed in envelopes:
                message = unseal(sealed.body)[1]
                assert message is not None
                self.said.append(message)
                await self._deliver(message, sealed.id, times)

    async def _published(self) -> list[Sealed]:
        entries = [entry for batch in await self.store.lease(self.clock.now(), 15, 1000) for entry in batch]
        await self.store.settle(entries, self.clock.now())
        return [entry.sealed for entry in entries]

    async def _deliver(self, message: Message, id: str, times: int) -> None:
        for _ in range(times):
            for handler in self._handlers.get(message.TYPE, ()):
                try:
                    await handler(message, Context(id=id))
                except AlreadyHandled:
                    continue

    async def due(self) -> None:
        for id, version in await self.store.due(Ledger.KIND, self.clock.now(), 100):
            await self._timers[Ledger](id, Context(at_version=version))
        await self.relay()

    async def request(self, count: int = 1, *, times: int = 1, **more: Any) -> DeploymentId:
        id = DeploymentId(uuid7())
        nodes = {"server": NodeNeeds(count=count, needs=ONE)}
        message = gateway.DeploymentRequested(
            deployment_id=id, owner=OWNER, group=GROUP, template="", inputs={}, nodes=nodes, **more
        )
        await self.tell(message, times=times)
        return id

    async def line(self, ledger: str, deployment: str, attempt: int = 1, slot: str = MAIN) -> State:
        return (await self.ledgers.get(ledger)).reservations[reservation_id(deployment, attempt, slot)].state

    async def used(self, ledger: str) -> int:
        return (await self.ledgers.get(ledger)).used()["instances"]

    def heard(self, kind: type[M], id: str) -> list[M]:
        return [m for m in self.said if isinstance(m, kind) and getattr(m, "deployment_id", None) == id]


@pytest.fixture
async def sla_(tmp_path: Path) -> AsyncIterator[Sla]:
    store = SqliteStore(tmp_path / "sla.db", synchronous="OFF")
    await store.start()
    service = Sla(tmp_path, store, ManualClock())
    await service.start()
    await service.relay()
    yield service
    await store.stop()


def running(id: DeploymentId, attempt: int = 1, slots: tuple[str, ...] = (MAIN,)) -> orchestrator.DeploymentRunning:
    return orchestrator.DeploymentRunning(deployment_id=id, attempt=attempt, slots=slots, nodes=("server-0",))


def failed(id: DeploymentId, place: Place, *, clean: bool, code: str = "no-capacity") -> orchestrator.AttemptFailed:
    return orchestrator.AttemptFailed(
        deployment_id=id, attempt=1, place=place, reason=Failure(code=code, detail="full"), clean=clean
    )


# ── the whole way


@pytest.mark.parametrize("times", [1, 3])
async def test_a_reservation_is_held_confirmed_and_freed_however_often_it_is_said(sla_: Sla, times: int) -> None:
    id = await sla_.request(2, times=times)
    [reserved] = sla_.heard(sla.PlacementReserved, id)
    assert (reserved.place.provider, set(reserved.nodes)) == ("site-a", {"server-0", "server-1"})
    assert reserved.expires_at == sla_.clock.now() + HOLD
    assert [ranked.provider for ranked in reserved.ranked] == ["site-a", "site-b"]
    assert (await sla_.line("cms-a", id), await sla_.used("cms-a")) == (State.HELD, 2)
    await sla_.tell(running(id), times=times)
    assert await sla_.line("cms-a", id) is State.COMMITTED
    degraded = orchestrator.DeploymentDegraded(deployment_id=id, attempt=1, nodes=("server-1",))
    await sla_.tell(degraded, times=times)
    assert await sla_.used("cms-a") == 1
    await sla_.tell(orchestrator.DeploymentDeleted(deployment_id=id), times=times)
    assert (await sla_.line("cms-a", id), await sla_.used("cms-a")) == (State.RELEASED, 0)
    assert (await sla_.placements.get(id)).status is Status.RELEASED


async def test_what_one_user_may_not_have_here_is_reserved_at_the_next_place(sla_: Sla) -> None:
    first = await sla_.request(2)
    second = await sla_.request(1)
    assert [p.place.provider for i in (first, second) for p in sla_.heard(sla.PlacementReserved, i)] == [
        "site-a",
        "site-b",
    ]
    [reserved] = sla_.heard(sla.PlacementReserved, second)
    assert [(reason.provider, reason.code, reason.resource) for reason in reserved.refused] == [
        ("site-a", "USER_LIMIT", "instances")
    ]


async def test_what_fits_nowhere_is_rejected_with_every_reason_and_holds_nothing(sla_: Sla) -> None:
    id = await sla_.request(4)
    [rejected] = sla_.heard(sla.PlacementRejected, id)
    assert {(reason.provider, reason.code) for reason in rejected.reasons} == {("site-a", "QUOTA"), ("site-b", "QUOTA")}
    assert await sla_.used("cms-a") == await sla_.used("cms-b") == 0


@pytest.mark.parametrize("times", [1, 2])
async def test_a_failed_attempt_moves_on_and_its_hold_stays_until_it_is_clean(sla_: Sla, times: int) -> None:
    id = await sla_.request()
    [first] = sla_.heard(sla.PlacementReserved, id)
    await sla_.tell(failed(id, first.place, clean=False), times=times)
    second = sla_.heard(sla.PlacementReserved, id)[-1]
    assert (second.attempt, second.place.provider) == (2, "site-b")
    assert (await sla_.used("cms-a"), await sla_.used("cms-b")) == (1, 1)
    await sla_.tell(orchestrator.AttemptCleaned(deployment_id=id, attempt=1), times=times)
    assert (await sla_.used("cms-a"), await sla_.used("cms-b")) == (0, 1)
    assert (await sla_.providers.get("site-a")).failures == 1.0


async def test_a_hold_past_its_time_still_counts_until_it_is_answered(sla_: Sla) -> None:
    kept, returned = await sla_.request(), await sla_.request()
    sla_.clock.advance(HOLD)
    await sla_.due()
    asked = {i: sla_.heard(sla.PlacementExpiring, i) for i in (kept, returned)}
    assert all(len(expiring) == 1 for expiring in asked.values())
    assert await sla_.used("cms-a") == 2
    for id, kind in ((kept, orchestrator.ReservationKept), (returned, orchestrator.ReservationReturned)):
        about = asked[id][0]
        answer = kind(deployment_id=id, reservation_id=about.reservation_id, attempt=1, slot=MAIN, agreement="cms-a")
        await sla_.tell(answer, times=2)
    assert [await sla_.line("cms-a", id) for id in (kept, returned)] == [State.HELD, State.RELEASED]
    assert await sla_.used("cms-a") == 1
    ledger = await sla_.ledgers.get("cms-a")
    assert ledger.due_at == sla_.clock.now() + HOLD


async def test_what_is_built_is_renewed_and_not_asked_about(sla_: Sla) -> None:
    id = await sla_.request()
    sla_.clock.advance(HOLD * 2 / 3)
    await sla_.tell(orchestrator.AttemptAlive(deployment_id=id, attempt=1))
    sla_.clock.advance(HOLD * 2 / 3)
    await sla_.due()
    assert sla_.heard(sla.PlacementExpiring, id) == []


async def test_growth_is_reserved_where_the_attempt_runs_or_refused_there(sla_: Sla) -> None:
    id = await sla_.request()
    await sla_.tell(running(id))
    for slot, node in (("u1", "server-1"), ("u2", "server-2")):
        wish = orchestrator.ReservationRequested(deployment_id=id, attempt=1, slot=slot, nodes={node: ONE})
        await sla_.tell(wish, times=2)
    grown = sla_.heard(sla.PlacementReserved, id)[-1]
    assert (grown.slot, grown.place.provider, set(grown.nodes)) == ("u1", "site-a", {"server-1"})
    [rejected] = sla_.heard(sla.PlacementRejected, id)
    assert (rejected.slot, [reason.code for reason in rejected.reasons]) == ("u2", ["USER_LIMIT"])
    assert await sla_.used("cms-a") == 2


async def test_a_request_that_comes_after_its_deletion_reserves_nothing(sla_: Sla) -> None:
    id = DeploymentId(uuid7())
    await sla_.tell(orchestrator.DeploymentDeleted(deployment_id=id))
    late = gateway.DeploymentRequested(
        deployment_id=id, owner=OWNER, group=GROUP, template="", inputs={}, nodes={"server": NodeNeeds(needs=ONE)}
    )
    await sla_.tell(late)
    assert sla_.heard(sla.PlacementReserved, id) == []
    assert await sla_.used("cms-a") == 0


async def test_an_answer_about_an_unknown_deployment_waits(sla_: Sla) -> None:
    with pytest.raises(NotFound):
        await sla_.tell(orchestrator.AttemptAlive(deployment_id=DeploymentId(uuid7()), attempt=1))


# ── the registry


async def test_a_provider_that_the_registry_does_not_know_holds_no_message_up(sla_: Sla) -> None:
    id = await sla_.request()
    [reserved] = sla_.heard(sla.PlacementReserved, id)
    gone = reserved.place.model_copy(update={"provider": "gone"})
    with structlog.testing.capture_logs() as logs:
        await sla_.tell(failed(id, gone, clean=True))
    assert [line["event"] for line in logs].count("provider.unknown") == 1
    assert sla_.heard(sla.PlacementReserved, id)[-1].attempt == 2


@pytest.mark.parametrize("code", ["spec-rejected", "timeout"])
async def test_what_would_have_failed_anywhere_does_not_count_against_a_provider(sla_: Sla, code: str) -> None:
    id = await sla_.request()
    [reserved] = sla_.heard(sla.PlacementReserved, id)
    await sla_.tell(failed(id, reserved.place, clean=True, code=code))
    assert (await sla_.providers.get("site-a")).failures == 0


async def test_a_start_with_the_same_file_writes_nothing(sla_: Sla) -> None:
    async def versions() -> list[int]:
        return [
            (await sla_.providers.get("site-a")).version,
            (await sla_.agreements.get("cms-a")).version,
            (await sla_.ledgers.get("cms-a")).version,
        ]

    before = await versions()
    await sla_.start()
    assert await versions() == before
    assert [type(m) for m in sla_.said] == [sla.ProviderRegistered] * 2 + [sla.AgreementSigned] * 2


async def test_a_changed_file_changes_what_is_granted_and_takes_nothing_that_is_held(sla_: Sla) -> None:
    id = await sla_.request(2)
    await sla_.start(FEDERATION.replace("instances: 3", "instances: 1"))
    await sla_.relay()
    ledger = await sla_.ledgers.get("cms-a")
    assert (ledger.limits["instances"], ledger.used()["instances"]) == (1, 2)
    assert await sla_.line("cms-a", id) is State.HELD
    next_id = await sla_.request()
    assert [p.place.provider for p in sla_.heard(sla.PlacementReserved, next_id)] == ["site-b"]


async def test_what_the_file_no_longer_names_stays_and_is_warned_of(sla_: Sla) -> None:
    text = FEDERATION[: FEDERATION.index("  - {<<:")].replace("  - {id: site-b, kind: simulated}\n", "")
    with structlog.testing.capture_logs() as logs:
        await sla_.start(text)
    left_out = {line["kind"]: line["left_out"] for line in logs if line["event"] == "federation.incomplete"}
    assert left_out == {"provider": ["site-b"], "agreement": ["cms-b"]}
    first, second = await sla_.request(2), await sla_.request(2)
    assert [p.place.provider for i in (first, second) for p in sla_.heard(sla.PlacementReserved, i)] == [
        "site-a",
        "site-b",
    ]


async def test_two_replicas_may_start_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SqliteStore(tmp_path / "sla.db", synchronous="OFF")
    await store.start()
    one, other = (Sla(tmp_path, store, ManualClock()) for _ in range(2))
    save, lost = store.save, []

    async def after_the_other(kind: str, id: str, **more: Any) -> None:
        if (kind, id) not in lost:  # whatever this replica is about to save, the other one has just saved
            lost.append((kind, id))
            monkeypatch.setattr(store, "save", save)
            await other.start()
            monkeypatch.setattr(store, "save", after_the_other)
        await save(kind, id, **more)

    monkeypatch.setattr(store, "save", after_the_other)
    await one.start()
    assert lost == [("provider", "site-a")]
    assert (await one.ledgers.get("cms-a")).version == 1
    await store.stop()
