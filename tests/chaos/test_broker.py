"""Time that a run makes pass in the delay queues really passes there."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from indaco_common.bus.embedded import EmbeddedBus
from indaco_common.bus.port import Bus, Delivery, Done, Later, Verdict
from indaco_common.bus.rabbitmq import RabbitBus
from indaco_common.launcher.specs import whole_topology
from indaco_common.testing.rabbitmq import VirtualHost

from .broker import hasten


@pytest.fixture
def embedded_url() -> str:
    return "embedded:"


@pytest.fixture
def rabbit_url(amqp_url: str, amqp_management: str) -> Iterator[str]:
    vhost = VirtualHost(amqp_url, amqp_management)
    yield vhost.url
    vhost.drop()


@pytest.mark.parametrize("url", ["embedded_url", pytest.param("rabbit_url", marks=pytest.mark.rabbitmq)])
async def test_what_waits_ten_minutes_comes_at_once_with_its_attempts(
    url: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    address = request.getfixturevalue(url)
    bus: Bus = RabbitBus(address) if address.startswith("amqp") else EmbeddedBus(tmp_path / "bus.db", poll_s=0.05)
    attempts: list[int] = []
    came = asyncio.Event()

    async def receive(delivery: Delivery) -> Verdict:
        attempts.append(delivery.attempt)
        came.set()
        return Later(3, delivery.attempt + 4, "wait") if not delivery.attempt else Done()

    await bus.start()
    try:
        await bus.declare(whole_topology())
        await bus.subscribe("sla", receive)
        await bus.inject("sla", b"anything")
        await until(bus, delayed=1)
        came.clear()
        assert await hasten(bus=address, data=tmp_path, services=["sla"]) == 1
        async with asyncio.timeout(10):
            await came.wait()
        await until(bus, delayed=0)
    finally:
        await bus.stop()
    assert attempts == [0, 4]


async def until(bus: Bus, *, delayed: int) -> None:
    async with asyncio.timeout(10):
        while (await bus.state("sla")).delayed != delayed:
            await asyncio.sleep(0.05)
