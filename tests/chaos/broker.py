"""A RabbitMQ broker for one run alone, so that it may be killed and restarted; and time that is made to pass in delay queues."""

import asyncio
import os
import secrets
import sqlite3
import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Self

import aio_pika
import aio_pika.abc

from indaco_common.bus.rabbitmq_objects import TO_MAIN
from indaco_common.bus.topology import retry_exchange, retry_queue
from indaco_common.testing.backing import REPOSITORY
from indaco_common.testing.federation import free_ports

SCRIPT = REPOSITORY / "deploy" / "local" / "rabbitmq.sh"
PORTS = 5  # that the script takes, one after the other
LONG_TIERS = (2, 3)  # a minute, ten minutes
SHORT_S = 15.0  # longer than the other tiers


class LocalBroker:
    """Made by the project's own script in a folder and at ports of its own."""

    def __init__(self, folder: Path, port: int) -> None:
        self._folder, self._port = folder, port

    @classmethod
    async def start(cls) -> Self:
        """Start it and name it in this process's environment, for :class:`RealBacking`."""
        folder = Path("/var/tmp") / f"indaco-chaos-{secrets.token_hex(4)}"  # the broker's own user must reach it
        broker = cls(folder, *free_ports(1, in_a_row=PORTS))
        await broker.control("start")
        for line in (await broker.control("env")).splitlines():
            name, _, value = line.removeprefix("export ").partition("=")
            os.environ[name] = value
        return broker

    async def restart(self) -> None:
        await self.control("restart")

    async def crash(self) -> None:
        """Kill it, and start it again."""
        await self.control("kill")
        await self.control("start")

    async def remove(self) -> None:
        await self.control("wipe")
        for left in sorted(self._folder.rglob("*"), reverse=True):
            left.rmdir() if left.is_dir() else left.unlink()
        self._folder.rmdir()

    async def control(self, verb: str) -> str:
        """Run the script. Raises: RuntimeError, with what it printed."""
        environment = {**os.environ, "INDACO_LOCAL": str(self._folder), "INDACO_PORTS": str(self._port)}
        process = await asyncio.create_subprocess_exec(
            str(SCRIPT), verb, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        out, err = await process.communicate()
        if process.returncode:
            raise RuntimeError(f"rabbitmq.sh {verb}: {err.decode(errors='replace')[-2000:]}")
        return out.decode()


async def hasten(*, bus: str, data: Path, services: Iterable[str]) -> int:
    """Give to *services* now what waits in the long delay tiers, as if that time had passed; return how many messages."""
    if bus.startswith("embedded:"):
        return await asyncio.to_thread(_hasten_embedded, data / "bus.db")
    connection = await aio_pika.connect(bus)
    async with connection, connection.channel() as channel:
        return sum([await _hasten_queue(channel, service, tier) for service in services for tier in LONG_TIERS])


async def _hasten_queue(channel: aio_pika.abc.AbstractChannel, service: str, tier: int) -> int:
    queue = await channel.get_queue(retry_queue(service, tier))
    exchange = await channel.get_exchange(retry_exchange(service))
    count = 0
    while (message := await queue.get(fail=False)) is not None:
        await exchange.publish(message, TO_MAIN, mandatory=True)  # with its headers, as the broker itself would
        await message.ack()
        count += 1
    return count


def _hasten_embedded(path: Path) -> int:
    late = "UPDATE queue SET visible_at = :now WHERE NOT dead AND visible_at > :now + :short"
    with closing(sqlite3.connect(path, timeout=5, isolation_level=None)) as connection:
        return connection.execute(late, {"now": time.time(), "short": SHORT_S}).rowcount
