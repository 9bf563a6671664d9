"""What every bus must do. A test class inherits :class:`BusConformance` and supplies the fixture ``open_bus``.

``open_bus()`` returns a bus, not started, on one and the same broker or file, empty at the beginning of each test: a second one
stands for the process after a restart.
"""

# ruff: noqa: PLR2004 - a test's numbers are what it says

import asyncio
import itertools
import time
from collections.abc import AsyncIterator

import pytest

from indaco_common.bus.port import Bus, Dead, Delivery, Done, Later, Verdict
from indaco_common.bus.topology import Topology
from indaco_common.errors import Unavailable

from .bells import (
    ALPHA,
    BETA,
    PATIENCE_S,
    QUIET_S,
    TOPOLOGY,
    Ear,
    Melt,
    OpenBus,
    Rang,
    Ring,
    Rusted,
    bell_of,
    bells,
    ids,
    sealed,
    settled,
)


class BusConformance:
    @pytest.fixture
    async def bus(self, open_bus: OpenBus) -> AsyncIterator[Bus]:
        bus = open_bus()
        await bus.start()
        await bus.declare(TOPOLOGY)
        yield bus
        await bus.stop()

    async def test_what_is_published_is_confirmed_and_reaches_each_bound_service_once(self, bus: Bus) -> None:
        alpha, beta, messages = Ear(), Ear(), bells(20)
        await bus.subscribe(ALPHA, alpha)
        await bus.subscribe(BETA, beta)
        assert await bus.publish(messages) == ids(messages)
        await alpha.hears(20)
        await beta.hears(20)
        await asyncio.sleep(QUIET_S)
        assert sorted(alpha.bells) == sorted(beta.bells) == sorted(f"b-{number}" for number in range(20))
        assert {delivery.attempt for delivery in alpha.heard} == {0}

    async def test_the_bytes_arrive_as_they_were(self, bus: Bus) -> None:
        ear, large = Ear(), sealed(Rang(bell_id="größte", weight="x" * 900_000))
        await bus.subscribe(ALPHA, ear)
        assert await bus.publish([large]) == [large.id]
        await ear.hears(1)
        assert ear.heard[0].body == large.body

    async def test_an_event_that_nobody_takes_is_confirmed_and_gone(self, bus: Bus) -> None:
        message = sealed(Rusted(bell_id="b"))
        assert await bus.publish([message]) == [message.id]
        assert (await bus.state(ALPHA)).ready == (await bus.state(BETA)).ready == 0

    async def test_a_command_reaches_its_owner_alone(self, bus: Bus) -> None:
        alpha, beta, command = Ear(), Ear(), sealed(Ring(bell_id="b"))
        await bus.subscribe(ALPHA, alpha)
        await bus.subscribe(BETA, beta)
        assert await bus.publish([command], mandatory=frozenset({command.name})) == [command.id]
        await alpha.hears(1)
        await asyncio.sleep(QUIET_S)
        assert beta.heard == []

    async def test_a_mandatory_command_without_an_owner_is_not_confirmed_and_the_others_are(self, bus: Bus) -> None:
        first, orphan, last = sealed(Ring(bell_id="1")), sealed(Melt(bell_id="2")), sealed(Ring(bell_id="3"))
        mandatory = frozenset({first.name, orphan.name})
        assert await bus.publish([first, orphan, last], mandatory=mandatory) == [first.id, last.id]
        assert await bus.publish([orphan], mandatory=mandatory) == []

    async def test_messages_of_one_call_keep_their_order_for_one_who_takes_them_in_turn(self, bus: Bus) -> None:
        ear, messages = Ear(), bells(150)
        await bus.publish(messages)
        await bus.subscribe(ALPHA, ear, prefetch=1)
        await ear.hears(150)
        assert ear.bells == [f"b-{number}" for number in range(150)]

    async def test_what_was_published_before_the_subscription_is_not_lost(self, bus: Bus) -> None:
        ear = Ear()
        await bus.publish(bells(3))
        await settled(bus, ALPHA, ready=3)
        await bus.subscribe(ALPHA, ear)
        await ear.hears(3)

    async def test_later_brings_the_message_back_after_the_delay_with_its_attempt(self, bus: Bus) -> None:
        def answer(delivery: Delivery) -> Verdict:
            times.append(time.monotonic())
            return Later(0, delivery.attempt + 1, "not-yet: too early") if delivery.attempt < 2 else Done()

        times: list[float] = []
        ear = Ear(answer)
        await bus.subscribe(ALPHA, ear)
        await bus.publish(bells(1))
        await ear.hears(3)
        assert [delivery.attempt for delivery in ear.heard] == [0, 1, 2]
        assert all(0.9 < later - sooner < 3 for sooner, later in itertools.pairwise(times))
        await settled(bus, ALPHA)

    async def test_higher_tiers_wait_longer(self, bus: Bus) -> None:
        ear = Ear(lambda delivery: Later(int(bell_of(delivery.body)[2:]), delivery.attempt + 1, "not-yet: too early"))
        await bus.subscribe(ALPHA, ear)
        await bus.publish(bells(4))
        await ear.hears(4)
        await settled(bus, ALPHA, delayed=4)
        ear.answer = lambda _: Done()
        await ear.hears(5)
        assert ear.bells[4:] == ["b-0"]
        await settled(bus, ALPHA, delayed=3)

    async def test_a_delayed_message_does_not_hold_up_the_others(self, bus: Bus) -> None:
        ear = Ear(lambda delivery: Later(1, 1, "not-yet") if bell_of(delivery.body) == "b-0" else Done())
        await bus.subscribe(ALPHA, ear, prefetch=1)
        await bus.publish(bells(30))
        await ear.hears(30)
        await settled(bus, ALPHA, delayed=1)

    async def test_dead_letters_can_be_listed_retried_and_dropped(self, bus: Bus) -> None:
        messages = bells(4)
        ear = Ear(lambda _: Dead("invalid: no such bell"))
        await bus.subscribe(ALPHA, ear)
        await bus.publish(messages)
        await settled(bus, ALPHA, dead=4)
        letters = await bus.dead_letters(ALPHA)
        assert sorted(letter.id for letter in letters) == sorted(ids(messages))
        assert {(letter.name, letter.error, letter.attempt) for letter in letters} == {
            (Rang.TYPE, "invalid: no such bell", 0)
        }
        assert {letter.body for letter in letters} == {message.body for message in messages}
        assert len(await bus.dead_letters(ALPHA, limit=2)) == 2

        ear.answer = lambda _: Done()
        assert await bus.retry_dead(ALPHA, [messages[0].id]) == 1
        await ear.hears(5)
        assert (ear.bells[4], ear.heard[4].attempt) == ("b-0", 0)
        assert await bus.drop_dead(ALPHA, [messages[1].id, "unknown"]) == 1
        await settled(bus, ALPHA, dead=2)
        assert await bus.retry_dead(ALPHA) == 2
        await ear.hears(7)
        await settled(bus, ALPHA)
        assert await bus.drop_dead(ALPHA) == 0

    async def test_a_dead_letter_tells_its_attempts_and_its_last_error(self, bus: Bus) -> None:
        ear = Ear(lambda delivery: Dead("invalid: no") if delivery.attempt else Later(0, 5, "unavailable: wait"))
        await bus.subscribe(ALPHA, ear)
        await bus.publish(bells(1))
        await settled(bus, ALPHA, dead=1)
        (letter,) = await bus.dead_letters(ALPHA)
        assert (letter.attempt, letter.error) == (5, "invalid: no")

    async def test_a_receiver_that_raises_gets_the_message_again_later_and_does_not_block_others(
        self, bus: Bus
    ) -> None:
        def answer(delivery: Delivery) -> Verdict:
            if bell_of(delivery.body) == "b-0" and not delivery.attempt:
                raise RuntimeError("a bug")
            return Done()

        ear = Ear(answer)
        await bus.subscribe(ALPHA, ear, prefetch=1)
        await bus.publish(bells(10))
        await ear.hears(11)
        assert ear.bells[-1] == "b-0"
        await settled(bus, ALPHA)

    async def test_no_more_than_prefetch_are_under_way(self, bus: Bus) -> None:
        ear = Ear()
        ear.gate.clear()
        await bus.subscribe(ALPHA, ear, prefetch=3)
        await bus.publish(bells(12))
        await ear.hears(3)
        await asyncio.sleep(QUIET_S)
        assert len(ear.heard) == 3
        assert (await bus.state(ALPHA)).ready == 9
        ear.gate.set()
        await ear.hears(12)
        assert ear.most_at_once == 3

    async def test_a_paused_subscription_gets_nothing_until_it_is_resumed(self, bus: Bus) -> None:
        ear = Ear()
        await bus.subscribe(ALPHA, ear)
        await bus.publish(bells(1))
        await ear.hears(1)
        await bus.pause(ALPHA)
        await bus.publish(bells(5))
        await asyncio.sleep(QUIET_S)
        assert len(ear.heard) == 1
        await settled(bus, ALPHA, ready=5)
        await bus.resume(ALPHA)
        await ear.hears(6)

    async def test_a_receiver_may_pause_and_its_own_verdict_counts(self, bus: Bus) -> None:
        class Pausing(Ear):
            async def __call__(self, delivery: Delivery) -> Verdict:
                await bus.pause(ALPHA)
                return await super().__call__(delivery)

        ear = Pausing()
        await bus.publish(bells(5))
        await bus.subscribe(ALPHA, ear, prefetch=1)
        await ear.hears(1)
        await settled(bus, ALPHA, ready=4)
        await asyncio.sleep(QUIET_S)
        assert len(ear.heard) == 1

    async def test_resuming_sets_the_prefetch_anew(self, bus: Bus) -> None:
        ear = Ear()
        ear.gate.clear()
        await bus.subscribe(ALPHA, ear, prefetch=4)
        await bus.pause(ALPHA)
        await bus.resume(ALPHA, prefetch=1)
        await bus.publish(bells(9))
        await ear.hears(1)
        await asyncio.sleep(QUIET_S)
        assert len(ear.heard) == 1
        await bus.resume(ALPHA, prefetch=4)
        ear.gate.set()
        await ear.hears(9)

    async def test_draining_waits_for_what_is_under_way_and_takes_nothing_more(self, bus: Bus) -> None:
        ear = Ear()
        ear.gate.clear()
        await bus.subscribe(ALPHA, ear, prefetch=2)
        await bus.publish(bells(5))
        await ear.hears(2)
        draining = asyncio.create_task(bus.drain(ALPHA))
        await asyncio.sleep(QUIET_S)
        assert not draining.done()
        ear.gate.set()
        await asyncio.wait_for(draining, PATIENCE_S)
        assert len(ear.heard) == 2
        await settled(bus, ALPHA, ready=3)

    async def test_a_restart_keeps_what_waits_what_is_delayed_and_what_is_dead(
        self, bus: Bus, open_bus: OpenBus
    ) -> None:
        verdicts: dict[str, Verdict] = {"b-0": Dead("invalid"), "b-1": Later(1, 1, "not-yet")}
        ear = Ear(lambda delivery: verdicts[bell_of(delivery.body)])
        await bus.subscribe(ALPHA, ear)
        await bus.publish(bells(2))
        await settled(bus, ALPHA, delayed=1, dead=1)
        await bus.drain(ALPHA)
        await bus.publish(bells(3))
        await bus.stop()

        again = open_bus()
        await again.start()
        try:
            await again.declare(TOPOLOGY)
            await settled(again, ALPHA, ready=3, delayed=1, dead=1)
        finally:
            await again.stop()

    async def test_what_is_under_way_at_the_stop_is_delivered_again(self, bus: Bus, open_bus: OpenBus) -> None:
        stuck, ear = Ear(), Ear()
        stuck.gate.clear()
        await bus.subscribe(ALPHA, stuck, prefetch=2)
        await bus.publish(bells(4))
        await stuck.hears(2)
        await bus.stop()
        assert stuck.cancelled == 2

        again = open_bus()
        await again.start()
        try:
            await again.declare(TOPOLOGY)
            await again.subscribe(ALPHA, ear)
            await ear.hears(4)
            await settled(again, ALPHA)
        finally:
            await again.stop()
        assert sorted(ear.bells) == [f"b-{number}" for number in range(4)]
        assert {delivery.attempt for delivery in ear.heard} == {0}

    async def test_a_slow_message_holds_up_no_other_and_is_alone_in_coming_again(
        self, bus: Bus, open_bus: OpenBus
    ) -> None:
        class Slow(Ear):
            async def __call__(self, delivery: Delivery) -> Verdict:
                if bell_of(delivery.body) in {"b-0", "b-7"}:
                    await asyncio.Event().wait()
                return await super().__call__(delivery)

        slow, ear = Slow(), Ear()
        await bus.subscribe(ALPHA, slow, prefetch=3)
        await bus.publish(bells(60))
        await slow.hears(58)
        await settled(bus, ALPHA)
        await bus.stop()

        again = open_bus()
        await again.start()
        try:
            await again.declare(TOPOLOGY)
            await again.subscribe(ALPHA, ear)
            await ear.hears(2)
            await settled(again, ALPHA)
        finally:
            await again.stop()
        assert sorted(ear.bells) == ["b-0", "b-7"]

    async def test_the_same_message_may_be_published_twice(self, bus: Bus) -> None:
        ear, message = Ear(), sealed(Rang(bell_id="b"))
        assert await bus.publish([message]) == await bus.publish([message]) == [message.id]
        await bus.subscribe(ALPHA, ear)
        await ear.hears(1)
        await settled(bus, ALPHA)
        assert set(ear.bells) == {"b"}

    async def test_what_is_injected_reaches_one_service_whatever_it_is(self, bus: Bus) -> None:
        alpha, beta = Ear(lambda _: Dead("invalid: envelope: body")), Ear()
        await bus.subscribe(ALPHA, alpha)
        await bus.subscribe(BETA, beta)
        await bus.inject(ALPHA, b"\xff no envelope")
        await bus.inject(ALPHA, sealed(Melt(bell_id="b")).body)
        await settled(bus, ALPHA, dead=2)
        assert beta.heard == []
        letters = {letter.name: letter for letter in await bus.dead_letters(ALPHA)}
        assert letters[""].body == b"\xff no envelope"
        assert await bus.drop_dead(ALPHA, [letters[""].id]) == 1
        assert [letter.name for letter in await bus.dead_letters(ALPHA)] == [Melt.TYPE]

    async def test_the_topology_may_be_declared_again_and_is_verified(self, bus: Bus) -> None:
        await bus.publish(bells(2))
        await bus.declare(TOPOLOGY)
        await bus.verify(TOPOLOGY, ALPHA)
        await settled(bus, ALPHA, ready=2)

    async def test_a_binding_that_is_no_longer_wanted_goes(self, bus: Bus) -> None:
        await bus.declare(Topology({ALPHA: (Ring,), BETA: (Rang,)}))
        await bus.publish(bells(1))
        await settled(bus, BETA, ready=1)
        assert (await bus.state(ALPHA)).ready == 0

    async def test_a_service_without_its_place_is_not_verified(self, bus: Bus) -> None:
        with pytest.raises(Unavailable):
            await bus.verify(Topology({**TOPOLOGY.bindings, "gamma": (Rang,)}), "gamma")

    async def test_many_messages_arrive_once_each_though_some_are_put_off_and_some_die(self, bus: Bus) -> None:
        def answer(delivery: Delivery) -> Verdict:
            number = int(bell_of(delivery.body)[2:])
            if number % 50 == 0:
                return Dead("invalid")
            return Later(0, 1, "not-yet") if number % 50 == 1 and not delivery.attempt else Done()

        ear, messages = Ear(answer), bells(1000)
        await bus.subscribe(ALPHA, ear, prefetch=16)
        confirmed = await asyncio.gather(*(bus.publish(messages[start : start + 100]) for start in range(0, 1000, 100)))
        assert [id for batch in confirmed for id in batch] == ids(messages)
        await ear.hears(1020)
        await settled(bus, ALPHA, dead=20)
        assert len(ear.heard) == 1020
        assert len(set(ear.bells)) == 1000

    async def test_it_is_unavailable_once_stopped(self, bus: Bus) -> None:
        await bus.ping()
        await bus.stop()
        with pytest.raises(Unavailable):
            await bus.ping()
        with pytest.raises(Unavailable):
            await bus.publish(bells(1))
