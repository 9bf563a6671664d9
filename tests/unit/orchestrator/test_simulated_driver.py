"""What a simulated cloud does when it is told to misbehave, and what it keeps."""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from indaco_common.clock import ManualClock
from indaco_common.contracts.values import Place, PortRule
from indaco_common.errors import CredentialRejected, NoCapacity, SpecRejected, Unavailable
from indaco_common.simulation import Site, break_site, parse_endpoint
from indaco_common.units import ResourceVector
from indaco_orchestrator.drivers import simulated_site
from indaco_orchestrator.drivers.port import Credential, NodeKey, NodeSpec, Phase, ResourceId
from indaco_orchestrator.drivers.simulated import SimulatedDriver
from indaco_vault_broker.issuers.simulated import SimulatedIssuer

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SPEC = NodeSpec(needs=ResourceVector(cpu_milli=2000, memory_mib=1024))


def key(n: int = 0, *, attempt: int = 1) -> NodeKey:
    return NodeKey("0190f7c1", attempt, f"server-{n}")


class Cloud:
    """One simulated site with a driver and a good credential for it, at a clock that stands still."""

    def __init__(self, folder: Path, query: str, *, project: str = "p", region: str = "r") -> None:
        self.clock = ManualClock(NOW)
        self.place = Place(
            provider="alpha",
            kind="simulated",
            endpoint=f"simulated:{folder}?{query}",
            region=region,
            project=project,
            agreement="a",
        )
        self.folder = parse_endpoint(self.place.endpoint, "alpha")[0]
        self.issuer = SimulatedIssuer(self.clock)
        self.driver: SimulatedDriver
        self.credential: Credential

    async def start(self) -> "Cloud":
        self.driver = await SimulatedDriver.open(self.place, clock=self.clock)
        self.credential = (await self.issuer.issue(self.place, f"0190f7c1/1/{self.place.project}", 86_400)).secret
        return self

    async def close(self) -> None:
        await self.driver.close()
        await self.issuer.close()

    def machines(self, *, with_deleted: bool = False) -> list[simulated_site.Machine]:
        site = Site(self.folder)
        try:
            return site.transact(lambda c: simulated_site.machines(c, with_deleted=with_deleted))
        finally:
            site.close()


Opener = Callable[..., Awaitable[Cloud]]


@pytest.fixture
async def open_cloud(tmp_path: Path) -> AsyncIterator[Opener]:
    clouds: list[Cloud] = []

    async def open_cloud(query: str = "boot_s=0&seed=1", **place: str) -> Cloud:
        clouds.append(await Cloud(tmp_path, query, **place).start())
        return clouds[-1]

    yield open_cloud
    for cloud in clouds:
        await cloud.close()


async def outcomes(cloud: Cloud, count: int) -> Counter[str]:
    seen: Counter[str] = Counter()
    for n in range(count):
        try:
            await cloud.driver.create(key(n), SPEC, cloud.credential)
            seen["made"] += 1
        except (NoCapacity, Unavailable, CredentialRejected) as error:
            seen[type(error).__name__] += 1
    return seen


async def test_a_machine_boots_in_its_time(open_cloud: Opener) -> None:
    cloud = await open_cloud("boot_s=30")
    id = await cloud.driver.create(key(), SPEC, cloud.credential)
    assert (await cloud.driver.describe(id, cloud.credential)).phase is Phase.CREATING
    cloud.clock.advance(timedelta(seconds=30))
    state = await cloud.driver.describe(id, cloud.credential)
    assert (state.phase, state.started_at) == (Phase.RUNNING, NOW + timedelta(seconds=30))


async def test_what_it_shows_says_that_it_is_simulated(open_cloud: Opener) -> None:
    cloud = await open_cloud()
    public = replace(
        SPEC, needs=SPEC.needs + {"public_ips": 1}, ports=(PortRule(port=80), PortRule(port=8000, port_end=8001))
    )
    ids = [await cloud.driver.create(key(n), spec, cloud.credential) for n, spec in enumerate((SPEC, public))]
    hidden, shown = [await cloud.driver.describe(id, cloud.credential) for id in ids]
    assert all(id.startswith("simulated-") for id in ids)
    assert (hidden.private_addresses, hidden.public_addresses) == (("198.51.100.1",), ())
    assert (shown.public_addresses, shown.ports) == (("198.51.100.2",), {22: 22, 80: 80, 8000: 8000, 8001: 8001})


async def test_machines_survive_a_restart(open_cloud: Opener) -> None:
    first = await open_cloud()
    id = await first.driver.create(key(), SPEC, first.credential)
    await first.close()
    second = await open_cloud()
    assert await second.driver.find(key(), second.credential) == id
    assert (await second.driver.describe(id, first.credential)).phase is Phase.RUNNING


async def test_a_full_site_has_no_capacity_until_something_is_deleted(open_cloud: Opener) -> None:
    cloud = await open_cloud("capacity=3")
    assert await outcomes(cloud, 5) == {"made": 3, "NoCapacity": 2}
    await cloud.driver.delete(ResourceId(cloud.machines()[0].id), cloud.credential)
    await cloud.driver.create(key(9), SPEC, cloud.credential)


@pytest.mark.parametrize(("query", "resource"), [("cpus=5", "cpu_milli"), ("memory_gib=2", "memory_mib")])
async def test_each_resource_class_has_its_limit(open_cloud: Opener, query: str, resource: str) -> None:
    cloud = await open_cloud(query)
    assert await outcomes(cloud, 3) == {"made": 2, "NoCapacity": 1}
    with pytest.raises(NoCapacity, match=resource):
        await cloud.driver.create(key(8), SPEC, cloud.credential)


async def test_regions_have_capacity_of_their_own_and_projects_share_it(open_cloud: Opener) -> None:
    cloud = await open_cloud("capacity=1")
    await cloud.driver.create(key(), SPEC, cloud.credential)
    elsewhere, other_project = await open_cloud("capacity=1", region="x"), await open_cloud("capacity=1", project="q")
    assert await elsewhere.driver.find(key(), (await elsewhere.issuer.issue(elsewhere.place, "x", 60)).secret) is None
    assert await other_project.driver.find(key(), other_project.credential) is None
    with pytest.raises(NoCapacity):
        await other_project.driver.create(key(), SPEC, other_project.credential)


async def test_half_of_the_calls_fail_without_effect(open_cloud: Opener) -> None:
    cloud = await open_cloud("fail_rate=0.5&seed=3")
    seen = await outcomes(cloud, 100)
    assert 30 < seen["made"] < 70
    assert seen["NoCapacity"] > 5
    assert seen["Unavailable"] > 5
    assert len(cloud.machines()) == seen["made"]


async def test_only_a_creation_can_lack_capacity(open_cloud: Opener) -> None:
    cloud = await open_cloud("fail_rate=1")
    for _ in range(20):
        with pytest.raises(Unavailable):
            await cloud.driver.find(key(), cloud.credential)


async def test_a_lost_answer_leaves_what_find_finds(open_cloud: Opener) -> None:
    cloud = await open_cloud("lose_answers=1")
    with pytest.raises(Unavailable, match="lost"):
        await cloud.driver.create(key(), SPEC, cloud.credential)
    break_site(cloud.folder, lose_answers=0)
    assert await cloud.driver.find(key(), cloud.credential) == cloud.machines()[0].id


async def test_good_credentials_are_refused_now_and_then(open_cloud: Opener) -> None:
    seen = await outcomes(await open_cloud("reject_credentials=0.3&seed=2"), 60)
    assert 5 < seen["CredentialRejected"] < 35


async def test_a_site_breaks_and_is_mended_while_it_runs(open_cloud: Opener) -> None:
    cloud = await open_cloud()
    id = await cloud.driver.create(key(), SPEC, cloud.credential)
    break_site(cloud.folder, down=True)
    with pytest.raises(Unavailable):
        await cloud.driver.describe(id, cloud.credential)
    break_site(cloud.folder, capacity=0)
    with pytest.raises(NoCapacity):
        await cloud.driver.create(key(1), SPEC, cloud.credential)
    break_site(cloud.folder)
    await cloud.driver.create(key(1), SPEC, cloud.credential)


async def test_a_machine_may_fail_at_boot(open_cloud: Opener) -> None:
    cloud = await open_cloud("boot_s=0&boot_fail_rate=1")
    id = await cloud.driver.create(key(), SPEC, cloud.credential)
    state = await cloud.driver.describe(id, cloud.credential)
    assert (state.phase, state.reason) == (Phase.FAILED, "simulated failure at boot")


async def test_a_machine_can_be_stopped_and_lost_from_outside(open_cloud: Opener) -> None:
    cloud = await open_cloud()
    id = await cloud.driver.create(key(), SPEC, cloud.credential)
    site = Site(cloud.folder)
    site.transact(lambda c: simulated_site.force(c, id, Phase.STOPPED, "stopped by the site"))
    state = await cloud.driver.describe(id, cloud.credential)
    assert (state.phase, state.reason) == (Phase.STOPPED, "stopped by the site")
    site.transact(lambda c: simulated_site.force(c, id, None))
    assert (await cloud.driver.describe(id, cloud.credential)).phase is Phase.RUNNING
    site.transact(lambda c: simulated_site.remove(c, id, NOW))
    site.close()
    assert (await cloud.driver.describe(id, cloud.credential)).phase is Phase.ABSENT


async def test_a_machine_that_was_stopped_comes_back_after_its_boot_at_another_address(open_cloud: Opener) -> None:
    cloud = await open_cloud("boot_s=30")
    id = await cloud.driver.create(key(), replace(SPEC, ports=(PortRule(port=80),)), cloud.credential)
    cloud.clock.advance(timedelta(seconds=30))
    before = await cloud.driver.describe(id, cloud.credential)
    await cloud.driver.stop(id, cloud.credential)
    assert (await cloud.driver.describe(id, cloud.credential)).phase is Phase.STOPPED
    cloud.clock.advance(timedelta(hours=1))
    await cloud.driver.start(id, cloud.credential)
    assert (await cloud.driver.describe(id, cloud.credential)).phase is Phase.CREATING
    cloud.clock.advance(timedelta(seconds=30))
    after = await cloud.driver.describe(id, cloud.credential)
    assert (after.phase, after.started_at) == (Phase.RUNNING, cloud.clock.now())
    assert after.public_addresses != before.public_addresses


async def test_a_stopped_machine_keeps_its_room(open_cloud: Opener) -> None:
    cloud = await open_cloud("capacity=1&boot_s=0")
    id = await cloud.driver.create(key(), SPEC, cloud.credential)
    await cloud.driver.stop(id, cloud.credential)
    with pytest.raises(NoCapacity):
        await cloud.driver.create(key(1), SPEC, cloud.credential)
    await cloud.driver.start(id, cloud.credential)
    assert (await cloud.driver.describe(id, cloud.credential)).phase is Phase.RUNNING


async def test_a_start_may_find_no_room_and_may_fail_as_a_creation_may(open_cloud: Opener) -> None:
    cloud = await open_cloud("boot_s=0&seed=3")
    id = await cloud.driver.create(key(), SPEC, cloud.credential)
    await cloud.driver.stop(id, cloud.credential)
    break_site(cloud.folder, fail_rate=1)
    seen: Counter[str] = Counter()
    for _ in range(40):
        try:
            await cloud.driver.start(id, cloud.credential)
        except (NoCapacity, Unavailable) as error:
            seen[type(error).__name__] += 1
    assert seen.keys() == {"NoCapacity", "Unavailable"}
    break_site(cloud.folder, boot_fail_rate=1)
    await cloud.driver.start(id, cloud.credential)
    assert (await cloud.driver.describe(id, cloud.credential)).phase is Phase.FAILED


async def test_a_bucket_cannot_be_stopped(open_cloud: Opener) -> None:
    cloud = await open_cloud()
    id = await cloud.driver.create(key(), NodeSpec(kind="bucket", needs=ResourceVector(buckets=1)), cloud.credential)
    with pytest.raises(SpecRejected, match="bucket"):
        await cloud.driver.stop(id, cloud.credential)


async def test_a_machine_that_was_stopped_from_outside_can_be_started(open_cloud: Opener) -> None:
    cloud = await open_cloud()
    id = await cloud.driver.create(key(), SPEC, cloud.credential)
    site = Site(cloud.folder)
    site.transact(lambda c: simulated_site.force(c, id, Phase.STOPPED, "stopped by the site"))
    site.close()
    await cloud.driver.start(id, cloud.credential)
    state = await cloud.driver.describe(id, cloud.credential)
    assert (state.phase, state.reason) == (Phase.RUNNING, "")


async def test_a_site_of_before_machines_could_be_stopped_goes_on(open_cloud: Opener) -> None:
    cloud = await open_cloud()
    id = await cloud.driver.create(key(), SPEC, cloud.credential)
    site = Site(cloud.folder)
    for column in ("stopped_at", "ran_s"):
        site.transact(lambda c, name=column: c.execute(f"ALTER TABLE machines DROP COLUMN {name}"))
    site.close()
    later = await open_cloud()
    await later.driver.stop(id, cloud.credential)
    assert (await later.driver.describe(id, cloud.credential)).phase is Phase.STOPPED


async def test_the_books_keep_what_was_deleted(open_cloud: Opener) -> None:
    cloud = await open_cloud()
    id = await cloud.driver.create(key(), SPEC, cloud.credential)
    await cloud.driver.delete(id, cloud.credential)
    assert cloud.machines() == []
    (gone,) = cloud.machines(with_deleted=True)
    assert (gone.id, gone.key, gone.deleted_at) == (id, "0190f7c1.1.server-0", NOW)


async def test_usage_is_the_time_of_all_runs_and_none_between_them(open_cloud: Opener) -> None:
    cloud = await open_cloud()
    id = await cloud.driver.create(key(), SPEC, cloud.credential)
    seen = []
    for act in (cloud.driver.stop, cloud.driver.start, cloud.driver.stop, cloud.driver.delete):
        cloud.clock.advance(timedelta(seconds=1000))
        await act(id, cloud.credential)
        seen.append((await cloud.driver.usage(id, cloud.credential)).network_in_bytes / 2000)
    assert seen == [1000, 1000, 2000, 2000]


async def test_usage_is_the_time_that_it_ran(open_cloud: Opener) -> None:
    cloud = await open_cloud()
    id = await cloud.driver.create(key(), SPEC, cloud.credential)
    cloud.clock.advance(timedelta(hours=1))
    usage = await cloud.driver.usage(id, cloud.credential)
    assert usage.cpu_s == pytest.approx(3600 * 2 * 0.35)
    assert usage.network_in_bytes == 3600 * 2000
    await cloud.driver.delete(id, cloud.credential)
    cloud.clock.advance(timedelta(hours=1))
    assert await cloud.driver.usage(id, cloud.credential) == usage


async def test_images_can_be_restricted(open_cloud: Opener) -> None:
    cloud = await open_cloud("images=debian-12,ubuntu-24.04")
    with pytest.raises(SpecRejected):
        await cloud.driver.create(key(), SPEC, cloud.credential)
    await cloud.driver.create(key(), replace(SPEC, image="ubuntu-24.04"), cloud.credential)


async def test_a_wrong_endpoint_is_unavailable() -> None:
    place = Place(
        provider="alpha", kind="simulated", endpoint="simulated:x?speed=1", region="r", project="p", agreement="a"
    )
    with pytest.raises(Unavailable, match="speed"):
        await SimulatedDriver.open(place)


async def test_more_machines_than_addresses_can_exist(open_cloud: Opener) -> None:
    cloud = await open_cloud("capacity=300")
    assert await outcomes(cloud, 260) == {"made": 260}
    addresses = Counter(machine.address for machine in cloud.machines())
    assert len(addresses) == 254
    assert max(addresses.values()) == 2
