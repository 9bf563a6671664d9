"""The example of a subscriber, run as it is, by the least user that its README makes, on a real broker."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yarl

from indaco_common.bus.rabbitmq import RabbitBus
from indaco_common.clock import SystemClock
from indaco_common.contracts import gateway, orchestrator
from indaco_common.contracts.values import Failure
from indaco_common.envelope import Context, Sealed, seal
from indaco_common.ids import DeploymentId, uuid7
from indaco_common.launcher.specs import whole_topology
from indaco_common.messages import Message
from indaco_common.testing.rabbitmq import VirtualHost

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "subscriber" / "subscriber.py"
ID = DeploymentId("0190f7c1-0000-7000-8000-000000000001")
pytestmark = pytest.mark.rabbitmq


@pytest.fixture
def host(amqp_url: str, amqp_management: str) -> Iterator[VirtualHost]:
    host = VirtualHost(amqp_url, amqp_management)
    yield host
    host.drop()


@pytest.fixture
async def bus(host: VirtualHost) -> AsyncIterator[RabbitBus]:
    bus = RabbitBus(host.url, connection_name="subscriber example")
    await bus.start()
    await bus.declare(whole_topology())
    yield bus
    await bus.stop()


@pytest.fixture
def watcher(host: VirtualHost) -> Iterator[str]:
    """The URL of a user with the permissions of the README."""
    name, password = f"watcher-{uuid7()}", uuid7()
    host._call("PUT", f"users/{name}", {"password": password, "tags": ""})
    mine = r"^watcher\."
    host._call(
        "PUT",
        f"permissions/{host.name}/{name}",
        {"configure": mine, "write": mine, "read": r"^(watcher\.|indaco\.events$)"},
    )
    host._call(
        "PUT", f"topic-permissions/{host.name}/{name}",
        {"exchange": "indaco.events", "write": "^$", "read": r"^(orchestrator|sla|accounting)\."},
    )  # fmt: skip
    yield str(yarl.URL(host.url).with_user(name).with_password(password))
    host._call("DELETE", f"users/{name}")


def sealed(message: Message, version: int = 1) -> Sealed:
    return seal(message, Context(), source="orchestrator", version=version, index=0, now=SystemClock().now())


@asynccontextmanager
async def running(url: str, *keys: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(EXAMPLE), *keys, env={**os.environ, "AMQP_URL": url}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


async def line(stream: asyncio.StreamReader | None) -> str:
    assert stream is not None
    async with asyncio.timeout(20):
        return (await stream.readline()).decode()


async def test_the_example_prints_events_once_marks_what_is_late_and_misses_nothing_while_it_is_away(
    bus: RabbitBus, watcher: str
) -> None:
    running_event = sealed(
        orchestrator.DeploymentRunning(deployment_id=ID, attempt=1, slots=("main",), nodes=("server-0",)), 3
    )
    reason = Failure(code="no-capacity", detail="the site is full")
    failed = sealed(orchestrator.DeploymentFailed(deployment_id=ID, reason=reason), 2)
    async with running(watcher) as process:
        assert (await line(process.stderr)).startswith("listening for orchestrator.deployment.*.v1")
        await bus.publish([running_event])
        await bus.publish([running_event, failed])
        first, second = await line(process.stdout), await line(process.stdout)
    assert f"{ID}  indaco.orchestrator.deployment.running.v1  " in first
    assert "indaco.orchestrator.deployment.failed.v1 (late)" in second
    assert "the site is full" in second
    assert process.returncode == 0
    deleted = sealed(orchestrator.DeploymentDeleted(deployment_id=ID), 4)
    await bus.publish([deleted])
    async with running(watcher) as process:
        assert "indaco.orchestrator.deployment.deleted.v1" in await line(process.stdout)


async def test_the_user_of_the_readme_may_not_bind_to_what_has_templates(bus: RabbitBus, watcher: str) -> None:
    assert gateway.DeploymentRequested.TYPE.startswith("gateway.deployment.")
    async with running(watcher, "gateway.deployment.*.v1") as process:
        assert process.stderr is not None
        async with asyncio.timeout(20):
            told = (await process.stderr.read()).decode()
            await process.wait()
    assert "ACCESS_REFUSED" in told
    assert process.returncode == 1
