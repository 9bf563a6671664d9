"""What every driver of a kind of cloud must do; a test module subclasses the suite and supplies the fixture ``site``.

The kernel imports no service, so the orchestrator's types come in through :class:`SiteUnderTest`, as what the driver itself takes.
Whatever the suite makes bears a key of its own, and it removes it.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from indaco_common.errors import CredentialRejected, NoCapacity, SpecRejected, Unavailable
from indaco_common.ids import uuid7

CONTRACT_ERRORS = (NoCapacity, CredentialRejected, SpecRejected, Unavailable)
CALL_TIMEOUT_S = 10.0
_NEVER_MADE = "no-such-resource"
_POWER = "power"  # the ability to start and stop


@dataclass(frozen=True, slots=True)
class SiteUnderTest:
    """One place to try a driver at.

    *key* makes a NodeKey of (deployment, attempt, node); *spec* is a NodeSpec that the place can run, *huge* one that it has no room
    for, *impossible* one that it will never take; *count* asks the cloud itself how many resources bear a key; *silent* is the same
    driver at a place where nothing answers; *boot_s* is how long a machine may take until it runs; *reopen* gives a second driver of the
    same place, as after a restart.
    """

    driver: Any
    silent: Any
    credential: Mapping[str, str]
    key: Callable[[str, int, str], Any]
    spec: Any
    huge: Any
    impossible: Any
    count: Callable[[Any], Awaitable[int]]
    boot_s: float
    reopen: Callable[[], Awaitable[Any]]
    refused_credentials: tuple[Mapping[str, str], ...] = ()
    made: list[Any] = field(default_factory=list)

    def new_key(self, node: str = "server-0", attempt: int = 1, deployment: str = "") -> Any:
        """Return a key that is removed when the test ends."""
        key = self.key(deployment or uuid7(), attempt, node)
        self.made.append(key)
        return key

    async def create(self, key: Any) -> Any:
        return await self.driver.create(key, self.spec, self.credential)

    @property
    def has_power(self) -> bool:
        return _POWER in self.driver.abilities

    async def phase_of(self, id: Any) -> str:
        return str((await self.driver.describe(id, self.credential)).phase)

    async def until(self, id: Any, phase: str) -> Any:
        """Return the state once it is in *phase*; fail after the boot time."""
        end = time.monotonic() + self.boot_s
        while True:
            state = await self.driver.describe(id, self.credential)
            if state.phase == phase:
                return state
            assert state.phase == "creating" or phase == "absent", f"{state.phase}: {state.reason}"
            assert time.monotonic() < end, f"still {state.phase} after {self.boot_s} s"
            await asyncio.sleep(0.05)


class DriverConformance:
    """Each test is one promise of the driver's contract."""

    @pytest.fixture(autouse=True)
    async def _nothing_is_left(self, site: SiteUnderTest) -> AsyncIterator[None]:
        yield
        for key in site.made:
            while (id := await site.driver.find(key, site.credential)) is not None:
                await site.driver.delete(id, site.credential)
                await site.until(id, "absent")

    async def test_a_created_machine_comes_to_run_and_says_where(self, site: SiteUnderTest) -> None:
        id = await site.create(site.new_key())
        state = await site.until(id, "running")
        assert state.id == id
        assert state.private_addresses
        assert state.started_at.utcoffset().total_seconds() == 0

    async def test_a_second_create_with_the_same_key_finds_the_first(self, site: SiteUnderTest) -> None:
        key = site.new_key()
        first = await site.create(key)
        assert await site.create(key) == first
        await site.until(first, "running")
        assert await site.create(key) == first
        assert await site.count(key) == 1

    async def test_concurrent_creates_of_one_key_make_one_machine(self, site: SiteUnderTest) -> None:
        key = site.new_key()
        ids = await asyncio.gather(*(site.create(key) for _ in range(5)))
        assert len(set(ids)) == 1
        assert await site.count(key) == 1
        await site.until(ids[0], "running")

    async def test_each_node_and_each_attempt_has_a_machine_of_its_own(self, site: SiteUnderTest) -> None:
        first = site.new_key()
        others = [site.new_key("server-1", 1, first.deployment), site.new_key("server-0", 2, first.deployment)]
        ids = [await site.create(key) for key in (first, *others)]
        assert len(set(ids)) == len(ids)
        assert [await site.driver.find(key, site.credential) for key in (first, *others)] == ids

    async def test_find_returns_what_bears_the_key_in_any_phase(self, site: SiteUnderTest) -> None:
        key = site.new_key()
        assert await site.driver.find(key, site.credential) is None
        id = await site.create(key)
        assert await site.driver.find(key, site.credential) == id
        await site.until(id, "running")
        assert await site.driver.find(key, site.credential) == id

    @pytest.mark.parametrize("after_s", [0.0, 0.002, 0.01, 0.03, 0.1, 0.3])
    async def test_a_create_that_was_cut_short_leaves_one_machine_or_none_and_can_be_repeated(
        self, site: SiteUnderTest, after_s: float
    ) -> None:
        key = site.new_key()
        call = asyncio.create_task(site.create(key))
        await asyncio.sleep(after_s)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        assert await site.count(key) <= 1
        id = await site.create(key)
        await site.until(id, "running")
        assert await site.driver.find(key, site.credential) == id
        assert await site.count(key) == 1

    async def test_a_driver_opened_later_knows_what_an_earlier_one_made(self, site: SiteUnderTest) -> None:
        key = site.new_key()
        id = await site.create(key)
        before = await site.until(id, "running")
        later = await site.reopen()
        assert await later.find(key, site.credential) == id
        assert await later.create(key, site.spec, site.credential) == id
        assert await later.describe(id, site.credential) == before
        await later.delete(id, site.credential)
        await later.close()
        await site.until(id, "absent")

    async def test_a_deleted_machine_is_absent_and_may_be_deleted_again(self, site: SiteUnderTest) -> None:
        key = site.new_key()
        id = await site.create(key)
        await site.driver.delete(id, site.credential)
        await site.until(id, "absent")
        await site.driver.delete(id, site.credential)
        assert await site.driver.find(key, site.credential) is None
        assert await site.count(key) == 0

    async def test_concurrent_deletes_all_succeed(self, site: SiteUnderTest) -> None:
        id = await site.create(site.new_key())
        await asyncio.gather(*(site.driver.delete(id, site.credential) for _ in range(4)))
        await site.until(id, "absent")

    async def test_what_was_never_made_is_absent_and_may_be_deleted(self, site: SiteUnderTest) -> None:
        assert await site.phase_of(_NEVER_MADE) == "absent"
        await site.driver.delete(_NEVER_MADE, site.credential)
        usage = await site.driver.usage(_NEVER_MADE, site.credential)
        assert (usage.cpu_s, usage.network_in_bytes, usage.network_out_bytes) == (0, 0, 0)

    @pytest.fixture
    def powered(self, site: SiteUnderTest) -> SiteUnderTest:
        if not site.has_power:
            pytest.skip(f"the driver has not the ability {_POWER!r}: it is asked neither to start nor to stop")
        return site

    async def test_a_machine_stands_still_once_it_was_stopped_and_runs_again_once_it_was_started(
        self, powered: SiteUnderTest
    ) -> None:
        site, key = powered, powered.new_key()
        id = await site.create(key)
        await site.until(id, "running")
        for _ in range(2):
            await site.driver.stop(id, site.credential)
            assert await site.phase_of(id) != "running"
            await site.until(id, "stopped")
            await site.driver.start(id, site.credential)
            assert await site.phase_of(id) != "stopped"
            state = await site.until(id, "running")
            assert state.id == id
            assert state.private_addresses
        assert await site.count(key) == 1

    async def test_a_stopped_machine_is_found_counted_and_known_to_a_driver_opened_later(
        self, powered: SiteUnderTest
    ) -> None:
        site, key = powered, powered.new_key()
        id = await site.create(key)
        await site.until(id, "running")
        before = await site.driver.capacity(site.credential)
        await site.driver.stop(id, site.credential)
        await site.until(id, "stopped")
        assert await site.driver.find(key, site.credential) == id
        assert await site.create(key) == id
        assert await site.driver.capacity(site.credential) == before
        await site.driver.usage(id, site.credential)
        later = await site.reopen()
        assert (await later.describe(id, site.credential)).phase == "stopped"
        await later.start(id, site.credential)
        await later.close()
        await site.until(id, "running")

    async def test_what_stands_or_runs_already_may_be_stopped_or_started_also_by_calls_at_once(
        self, powered: SiteUnderTest
    ) -> None:
        site = powered
        id = await site.create(site.new_key())
        await site.until(id, "running")
        await site.driver.start(id, site.credential)
        await site.until(id, "running")
        for call, phase in ((site.driver.stop, "stopped"), (site.driver.start, "running")):
            await asyncio.gather(*(call(id, site.credential) for _ in range(4)))
            await site.until(id, phase)
            await call(id, site.credential)
            await site.until(id, phase)

    async def test_a_stopped_machine_may_be_deleted_and_what_is_absent_stopped_and_started(
        self, powered: SiteUnderTest
    ) -> None:
        site, key = powered, powered.new_key()
        id = await site.create(key)
        await site.until(id, "running")
        await site.driver.stop(id, site.credential)
        await site.driver.delete(id, site.credential)
        await site.until(id, "absent")
        for gone in (id, _NEVER_MADE):
            await site.driver.stop(gone, site.credential)
            await site.driver.start(gone, site.credential)
            assert await site.phase_of(gone) == "absent"
        assert await site.count(key) == 0

    async def test_a_key_may_be_used_again_after_its_machine_is_gone(self, site: SiteUnderTest) -> None:
        key = site.new_key()
        first = await site.create(key)
        await site.driver.delete(first, site.credential)
        await site.until(first, "absent")
        second = await site.create(key)
        assert second != first
        await site.until(second, "running")

    async def test_capacity_counts_what_was_created(self, site: SiteUnderTest) -> None:
        before = await site.driver.capacity(site.credential)
        id = await site.create(site.new_key())
        during = await site.driver.capacity(site.credential)
        assert during.limit == before.limit
        assert during.used["cpu_milli"] - before.used["cpu_milli"] == site.spec.needs["cpu_milli"]
        assert during.used["memory_mib"] - before.used["memory_mib"] == site.spec.needs["memory_mib"]
        await site.driver.delete(id, site.credential)
        await site.until(id, "absent")
        assert (await site.driver.capacity(site.credential)).used == before.used

    async def test_usage_grows(self, site: SiteUnderTest) -> None:
        id = await site.create(site.new_key())
        await site.until(id, "running")
        first = await site.driver.usage(id, site.credential)
        await asyncio.sleep(0.05)
        second = await site.driver.usage(id, site.credential)
        assert second.cpu_s >= first.cpu_s > 0
        assert second.network_in_bytes >= first.network_in_bytes >= 0

    async def test_what_there_is_no_room_for_is_refused_and_leaves_nothing(self, site: SiteUnderTest) -> None:
        key = site.new_key()
        with pytest.raises(NoCapacity):
            await site.driver.create(key, site.huge, site.credential)
        assert await site.count(key) == 0

    async def test_what_no_place_would_take_is_refused_and_leaves_nothing(self, site: SiteUnderTest) -> None:
        key = site.new_key()
        with pytest.raises(SpecRejected):
            await site.driver.create(key, site.impossible, site.credential)
        assert await site.count(key) == 0

    async def test_a_credential_that_the_place_did_not_make_is_rejected_by_every_call(
        self, site: SiteUnderTest
    ) -> None:
        for credential in site.refused_credentials:
            for call in calls(site.driver, site, credential):
                with pytest.raises(CredentialRejected):
                    await call()

    async def test_a_place_where_nothing_answers_is_unavailable_in_time_to_every_call(
        self, site: SiteUnderTest
    ) -> None:
        for call in calls(site.silent, site, site.credential):
            begun = time.monotonic()
            with pytest.raises(Unavailable):
                await call()
            assert time.monotonic() - begun < CALL_TIMEOUT_S

    async def test_every_call_is_quick(self, site: SiteUnderTest) -> None:
        id = await site.create(site.new_key())
        for call in calls(site.driver, site, site.credential, id=id):
            begun = time.monotonic()
            await call()
            assert time.monotonic() - begun < CALL_TIMEOUT_S

    async def test_a_driver_may_be_closed_twice(self, site: SiteUnderTest) -> None:
        await site.silent.close()
        await site.silent.close()


def calls(
    driver: Any, site: SiteUnderTest, credential: Mapping[str, str], id: Any = _NEVER_MADE
) -> list[Callable[[], Awaitable[Any]]]:
    """Return every call of the contract on *driver*, ready to be made."""
    key = site.new_key()
    power = [lambda: driver.stop(id, credential), lambda: driver.start(id, credential)] if site.has_power else []
    return [
        lambda: driver.capacity(credential),
        lambda: driver.create(key, site.spec, credential),
        lambda: driver.find(key, credential),
        lambda: driver.describe(id, credential),
        lambda: driver.usage(id, credential),
        *power,
        lambda: driver.delete(id, credential),
    ]
