"""A virtual host of a test's own on a RabbitMQ broker, and a way to it that can be cut."""

import asyncio
import base64
import contextlib
import json
import os
import urllib.request
from typing import Any
from urllib.parse import quote, urlsplit

import aio_pika
import yarl

from indaco_common.bus.rabbitmq_objects import queues
from indaco_common.ids import uuid7

URL, MANAGEMENT = "INDACO_TEST_AMQP", "INDACO_TEST_AMQP_MANAGEMENT"
TIMEOUT_S = 10.0


class VirtualHost:
    """A virtual host, made through the management API and to be removed by :meth:`drop`; calls block."""

    def __init__(self, url: str, management: str) -> None:
        """*url* is an administrator's, of any virtual host; *management* is ``http://user:password@host:port``."""
        self.name = f"indaco-test-{uuid7()}"
        self.url = str(yarl.URL(url).with_path(f"/{self.name}"))
        self._management = management
        user = urlsplit(url).username or ""
        self._call("PUT", f"vhosts/{self.name}")
        self._call("PUT", f"permissions/{self.name}/{user}", {"configure": ".*", "write": ".*", "read": ".*"})

    @classmethod
    def from_environment(cls) -> "VirtualHost | None":
        """Return a new one on the broker that the environment names; None, if it names none."""
        url, management = os.environ.get(URL), os.environ.get(MANAGEMENT)
        return cls(url, management) if url and management else None

    def drop(self) -> None:
        self._call("DELETE", f"vhosts/{self.name}")

    def limit_deliveries(self, limit: int) -> None:
        """Set the policy that the definitions file sets in production."""
        definition = {"pattern": r"^indaco\.[a-z-]+$", "definition": {"delivery-limit": limit}, "apply-to": "queues"}
        self._call("PUT", f"policies/{self.name}/crash-loops", definition)

    def count_bindings(self, queue: str) -> int:
        """Return how many bindings *queue* has, that of the default exchange left out."""
        bindings = self._call("GET", f"queues/{self.name}/{queue}/bindings")
        return sum(1 for binding in bindings if binding["source"])

    async def purge(self, *services: str) -> None:
        """Empty the queues of *services*, as far as they exist."""
        connection = await aio_pika.connect(self.url, timeout=TIMEOUT_S)
        async with connection:
            for name in (name for service in services for name in queues(service)):
                channel = await connection.channel()
                with contextlib.suppress(aio_pika.exceptions.ChannelClosed):
                    await (await channel.get_queue(name, ensure=False)).purge()
                    await channel.close()

    async def delete_queue(self, name: str) -> None:
        connection = await aio_pika.connect(self.url, timeout=TIMEOUT_S)
        async with connection, connection.channel() as channel:
            await channel.queue_delete(name)

    def _call(self, method: str, path: str, body: object = None) -> Any:
        parts = urlsplit(self._management)
        credentials = base64.b64encode(f"{parts.username}:{parts.password}".encode()).decode()
        request = urllib.request.Request(  # noqa: S310 - the scheme is the test's own
            f"{parts.scheme}://{parts.hostname}:{parts.port}/api/{quote(path, safe='/')}",
            method=method,
            data=json.dumps(body).encode() if body is not None else None,
            headers={"Authorization": f"Basic {credentials}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:  # noqa: S310
            return json.loads(response.read() or b"null")


class Passage:
    """A TCP relay to a server: :meth:`cut` is the server's death as its clients see it, :meth:`mend` its return."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0

    async def mend(self) -> None:
        self._server = await asyncio.start_server(self._pass, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        if self._server is not None:
            self._server.close()
            for writer in tuple(self._writers):
                writer.transport.abort()
            await self._server.wait_closed()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        onward_reader, onward = await asyncio.open_connection(self._host, self._port)
        self._writers |= {writer, onward}
        await asyncio.gather(_copy(reader, onward), _copy(onward_reader, writer))
        self._writers -= {writer, onward}


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while block := await reader.read(65536):
            writer.write(block)
            await writer.drain()
    writer.close()
