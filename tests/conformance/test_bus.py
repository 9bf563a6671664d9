"""Every bus against the one suite, and what only a broker can do."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import yarl

from indaco_common.bus.embedded import EmbeddedBus
from indaco_common.bus.port import Bus, Delivery, Done, Later, Verdict
from indaco_common.bus.rabbitmq import RabbitBus
from indaco_common.bus.topology import queue
from indaco_common.errors import Unavailable
from indaco_common.testing.bells import ALPHA, BETA, TOPOLOGY, Ear, OpenBus, Rang, bells, settled
from indaco_common.testing.conformance_bus import BusConformance
from indaco_common.testing.rabbitmq import Passage, VirtualHost


class TestEmbeddedBus(BusConformance):
    @pytest.fixture
    def open_bus(self, tmp_path: Path) -> OpenBus:
        return lambda: EmbeddedBus(tmp_path / "bus.db")


@pytest.fixture(scope="module")
def host(amqp_url: str, amqp_management: str) -> Iterator[VirtualHost]:
    host = VirtualHost(amqp_url, amqp_management)
    yield host
    host.drop()


@pytest.fixture
async def empty_host(host: VirtualHost) -> VirtualHost:
    await host.purge(ALPHA, BETA)
    return host


@pytest.mark.rabbitmq
class TestRabbitBus(BusConformance):
    @pytest.fixture
    def open_bus(self, empty_host: VirtualHost) -> OpenBus:
        return lambda: RabbitBus(empty_host.url, connection_name="conformance")


@pytest.mark.rabbitmq
class TestBroker:
    """Faults of the broker and of the way to it."""

    @pytest.fixture
    async def bus(self, empty_host: VirtualHost) -> AsyncIterator[RabbitBus]:
        bus = RabbitBus(empty_host.url, connection_name="faults")
        await bus.start()
        await bus.declare(TOPOLOGY)
        yield bus
        await bus.stop()

    @pytest.fixture
    async def passage(self, host: VirtualHost) -> AsyncIterator[Passage]:
        address = yarl.URL(host.url)
        assert address.host
        assert address.port
        passage = Passage(address.host, address.port)
        await passage.mend()
        yield passage
        await passage.cut()

    @pytest.fixture
    async def remote(self, bus: RabbitBus, host: VirtualHost, passage: Passage) -> AsyncIterator[RabbitBus]:
        """A second bus, on the passage."""
        url = yarl.URL(host.url).with_host("127.0.0.1").with_port(passage.port)
        remote = RabbitBus(str(url), connection_name="remote", timeout_s=3.0)
        await remote.start()
        yield remote
        await remote.stop()

    async def test_the_name_that_a_message_was_let_through_under_is_told_and_after_a_delay_it_is_our_own(
        self, bus: RabbitBus
    ) -> None:
        ear = Ear(lambda delivery: Done() if delivery.attempt else Later(0, 1, "later"))
        await bus.subscribe(BETA, ear)
        await bus.publish(bells(1))
        await ear.hears(2)
        assert [delivery.routed_as for delivery in ear.heard] == [Rang.TYPE, None]

    async def test_a_broker_that_is_gone_makes_it_unavailable_and_all_comes_back_by_itself(
        self, bus: RabbitBus, remote: RabbitBus, passage: Passage
    ) -> None:
        ear = Ear()
        await remote.subscribe(ALPHA, ear)
        await passage.cut()
        await asyncio.sleep(0.1)
        for call in (remote.publish(bells(1)), remote.ping(), remote.state(ALPHA), remote.pause(BETA)):
            with pytest.raises((Unavailable, KeyError)):
                await call
        await bus.publish(bells(3))
        await passage.mend()
        await ear.hears(3)
        await remote.ping()
        assert len(await remote.publish(bells(2))) == 2
        await ear.hears(5)
        await settled(bus, ALPHA)

    async def test_a_start_without_a_broker_is_unavailable(self, passage: Passage, host: VirtualHost) -> None:
        await passage.cut()
        url = yarl.URL(host.url).with_host("127.0.0.1").with_port(passage.port)
        with pytest.raises(Unavailable):
            await RabbitBus(str(url), timeout_s=1.0).start()

    async def test_a_wrong_password_is_told_without_the_password(self, host: VirtualHost) -> None:
        with pytest.raises(Unavailable) as caught:
            await RabbitBus(str(yarl.URL(host.url).with_password("hunter2")), timeout_s=5.0).start()
        assert "hunter2" not in caught.value.detail

    async def test_a_handler_outlives_its_connection_and_the_message_comes_again(
        self, bus: RabbitBus, remote: RabbitBus, passage: Passage
    ) -> None:
        ear = Ear()
        ear.gate.clear()
        await remote.subscribe(ALPHA, ear)
        await bus.publish(bells(1))
        await ear.hears(1)
        await passage.cut()
        await passage.mend()
        await ear.hears(2)
        assert ear.heard[1].redelivered
        ear.gate.set()
        await settled(bus, ALPHA)
        assert ear.cancelled == 0

    async def test_messages_confirmed_or_not_are_told_apart_when_the_way_is_cut(
        self, bus: RabbitBus, remote: RabbitBus, passage: Passage
    ) -> None:
        messages, confirmed = bells(3000), set()

        async def publish_all() -> None:
            for start in range(0, 3000, 50):
                confirmed.update(await remote.publish(messages[start : start + 50]))

        publishing = asyncio.create_task(publish_all())
        await asyncio.sleep(0.15)
        await passage.cut()
        with pytest.raises(Unavailable):
            await publishing
        ear = Ear()
        await bus.subscribe(ALPHA, ear)
        await asyncio.sleep(0.5)
        await bus.drain(ALPHA)
        arrived = {f"b-{number}" for number, message in enumerate(messages) if message.id in confirmed}
        assert arrived <= set(ear.bells)
        assert len(confirmed) < 3000

    async def test_a_queue_that_was_deleted_and_made_again_is_consumed(self, bus: RabbitBus, host: VirtualHost) -> None:
        ear = Ear()
        await bus.subscribe(ALPHA, ear)
        await host.delete_queue(queue(ALPHA))
        await asyncio.sleep(0.5)
        await bus.declare(TOPOLOGY)
        await bus.publish(bells(2))
        await ear.hears(2)

    async def test_a_consumer_that_was_cut_off_without_a_word_is_renewed(
        self, bus: RabbitBus, host: VirtualHost
    ) -> None:
        """The broker says nothing when a quorum queue is deleted and made again at once."""
        ear, other = Ear(), RabbitBus(host.url, connection_name="renewed", renew_s=1.0)
        await other.start()
        try:
            await other.subscribe(ALPHA, ear)
            await host.delete_queue(queue(ALPHA))
            await bus.declare(TOPOLOGY)
            await bus.publish(bells(2))
            await ear.hears(2)
            await settled(bus, ALPHA)
        finally:
            await other.stop()

    async def test_what_kills_everybody_who_takes_it_dies_itself(self, bus: RabbitBus, host: VirtualHost) -> None:
        """A process that is killed leaves its messages without an answer; after the limit the broker gives up."""
        host.limit_deliveries(3)
        await bus.publish(bells(1))
        for _ in range(4):
            killed, ear = RabbitBus(host.url, connection_name="killed"), Ear()
            ear.gate.clear()
            await killed.start()
            await killed.subscribe(ALPHA, ear)
            await ear.hears(1)
            await killed.stop()
        await settled(bus, ALPHA, dead=1)
        (letter,) = await bus.dead_letters(ALPHA)
        assert letter.error.startswith("delivery-limit")
        ear = Ear()
        await bus.subscribe(ALPHA, ear)
        assert await bus.retry_dead(ALPHA) == 1
        await ear.hears(1)

    async def test_two_processes_share_the_work(self, bus: RabbitBus, host: VirtualHost) -> None:
        async def slowly(delivery: Delivery) -> Verdict:
            await asyncio.sleep(0.005)
            heard.append(delivery.body)
            return Done()

        heard: list[bytes] = []
        ear, other = Ear(), RabbitBus(host.url, connection_name="other")
        await other.start()
        await other.subscribe(ALPHA, slowly, prefetch=2)
        await bus.subscribe(ALPHA, ear, prefetch=2)
        await bus.publish(bells(200))
        await settled(bus, ALPHA)
        await other.drain(ALPHA)
        await other.stop()
        assert heard
        assert len(ear.heard) + len(heard) == 200

    async def test_declaring_leaves_exactly_the_bindings_of_the_topology(self, bus: Bus, host: VirtualHost) -> None:
        await bus.declare(TOPOLOGY)
        assert host.count_bindings(queue(ALPHA)) == 3  # two messages, and the way back from the delay queues
