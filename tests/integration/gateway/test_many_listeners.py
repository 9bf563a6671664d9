"""A thousand listeners on one gateway process, by real sockets; one who does not read holds up nobody, and nothing is kept for him."""

import asyncio
import contextlib
import resource
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from indaco_common.clock import SystemClock
from indaco_common.contracts import orchestrator
from indaco_common.envelope import Context
from indaco_common.ids import DeploymentId
from indaco_common.secrets.embedded import EmbeddedVault
from indaco_gateway.api import events
from indaco_gateway.live import Live
from indaco_gateway.model.operation import TIMELINE_LENGTH, Operation

from .world import Issuer, World, running

MANY = 1000
NEEDED_FILES = 3 * MANY
WITHIN_S = 1.0
MAX_EVENT = 8 * 1024  # bytes
TRIES = 5  # the machine may be busy with other things: an event that came late to somebody is followed by another


@dataclass(eq=False)
class Raw:
    """One connection, read without an HTTP client: a thousand of those would be what is measured."""

    path: str
    numbers: list[int] = field(default_factory=list)
    heard_at: float = 0.0
    _writer: asyncio.StreamWriter | None = None
    _reading: asyncio.Task[None] | None = None

    @property
    def id(self) -> str:
        return self.path.split("/")[-2]

    async def open(self, world: World) -> None:
        reader, self._writer = await asyncio.open_connection("127.0.0.1", world.runner.port)
        after = f"Last-Event-ID: {self.numbers[-1]}\r\n" if self.numbers else ""
        token = world.issuer.token("ada")
        self._writer.write(
            f"GET {self.path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n{after}\r\n".encode()
        )
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
        self._reading = asyncio.create_task(self._read(reader))

    async def _read(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                if line.startswith(b"id: "):
                    self.numbers.append(int(line[4:]))
                    self.heard_at = time.perf_counter()

    async def break_off(self) -> None:
        """As a network does: no word of farewell."""
        assert self._writer is not None
        assert self._reading is not None
        self._writer.transport.abort()
        await self._reading


@asynccontextmanager
async def listeners(world: World, paths: list[str]) -> AsyncIterator[list[Raw]]:
    raws = [Raw(path) for path in paths]
    try:
        for begin in range(0, len(raws), 50):
            await asyncio.gather(*(raw.open(world) for raw in raws[begin : begin + 50]))
        yield raws
    finally:
        await asyncio.gather(*(raw.break_off() for raw in raws if raw._reading is not None))


async def all_have(world: World, raws: list[Raw], number: int) -> None:
    async def have() -> bool:
        return all(raw.numbers and raw.numbers[-1] >= number for raw in raws)

    await world.until(have, within_s=30)


def cleaned(id: str, attempt: int) -> orchestrator.AttemptCleaned:
    return orchestrator.AttemptCleaned(deployment_id=DeploymentId(id), attempt=attempt)


@pytest.fixture
async def world(tmp_path: Path, openbao: EmbeddedVault, issuer: Issuer) -> AsyncIterator[World]:
    """All listeners are one user here, who comes back more often than one would be let."""
    async with running(
        World(tmp_path, openbao, issuer, {"rate_events": "none", "max_user_listeners": 2 * MANY})
    ) as world:
        yield world


@pytest.fixture(autouse=True)
def many_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < NEEDED_FILES:
        if hard != resource.RLIM_INFINITY and hard < NEEDED_FILES:
            pytest.skip(f"{NEEDED_FILES} open files are needed, {hard} are allowed")
        resource.setrlimit(resource.RLIMIT_NOFILE, (NEEDED_FILES, hard))


async def heard_by_all_in_time(world: World, ids: list[str], raws: list[Raw], number: int) -> None:
    """Tell each deployment something new until all who listen have heard it in time: counted from its save."""
    saved_at: dict[str, float] = {}
    world.infra.hints.on_change(Operation, lambda id: saved_at.update({id: time.perf_counter()}))
    delays = []
    for attempt in range(TRIES):
        await world.say(*(cleaned(id, 1 + attempt) for id in ids))
        await all_have(world, raws, number + attempt)
        delays.append(max(raw.heard_at - saved_at[raw.id] for raw in raws))
        if delays[-1] < WITHIN_S:
            break
    print(f"\n{len(raws)} listeners of {len(ids)} deployments heard an event after {[f'{d:.3f}' for d in delays]} s")
    assert min(delays) < WITHIN_S


async def test_a_thousand_listeners_of_one_deployment_hear_it_within_a_second_and_once(world: World) -> None:
    id = await world.created()
    async with listeners(world, [f"/v1/deployments/{id}/events"] * MANY) as raws:
        await all_have(world, raws, 1)
        await heard_by_all_in_time(world, [id], raws, 2)
        for raw in raws[::2]:
            await raw.break_off()
        await world.say(*(cleaned(id, n) for n in range(100, 105)))
        await asyncio.gather(*(raw.open(world) for raw in raws[::2]))
        last = (await world.get(f"/v1/deployments/{id}/timeline")).json["last"]
        await all_have(world, raws, last)
        assert all(raw.numbers == list(range(1, last + 1)) for raw in raws)


async def test_a_thousand_listeners_of_a_hundred_deployments_cost_one_look_a_second(world: World) -> None:
    ids = [await world.created() for _ in range(100)]
    paths = [f"/deployments/{id}/events" for id in ids for _ in range(MANY // 100)]
    async with listeners(world, paths) as raws:
        await all_have(world, raws, 1)
        looks, loads = 0, 0
        store = world.infra.store
        versions, load = store.versions, store.load

        async def counted(kind: str, ids: list[str]) -> dict[str, int]:
            nonlocal looks
            looks += 1
            return await versions(kind, ids)

        async def loaded(kind: str, id: str, message_id: str | None = None) -> object:
            nonlocal loads
            loads += message_id is None
            return await load(kind, id, message_id)

        store.versions, store.load = counted, loaded  # type: ignore[method-assign, assignment]
        began = time.process_time()
        await asyncio.sleep(3)
        print(f"\nquiet for 3 s: {looks} looks, {loads} reads, {time.process_time() - began:.3f} s of CPU")
        assert looks <= 4
        assert loads == 0
        await heard_by_all_in_time(world, ids, raws, 2)
        assert loads <= TRIES * 2 * len(ids)


async def test_who_does_not_read_is_dropped_and_holds_up_nobody(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "SLOW_S", 0.5)
    unsent, write = [0], events._Stream.write

    async def watched(stream: events._Stream, text: bytes) -> None:
        await write(stream, text)
        if (transport := stream.request.transport) is not None:
            unsent.append(transport.get_write_buffer_size())

    monkeypatch.setattr(events._Stream, "write", watched)
    id = await world.created()
    live = world.runner._service.tasks["event streams"].__self__  # type: ignore[attr-defined]
    assert isinstance(live, Live)
    with socket.create_connection(("127.0.0.1", world.runner.port)) as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        token = world.issuer.token("ada")
        slow.sendall(
            f"GET /v1/deployments/{id}/events HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
        )
        async with listeners(world, [f"/v1/deployments/{id}/events"]) as [quick]:
            await all_have(world, [quick], 1)

            async def both_listen() -> bool:
                return live._by_user.total() == 2

            await world.until(both_listen)
            operations = world.infra.repository(Operation)
            for part in range(3):  # several megabytes: more than the kernel would take for one who does not read
                async with operations.edit(id, Context()) as operation:
                    for _ in range(TIMELINE_LENGTH):
                        operation.note(SystemClock().now(), "test.step", "é" * 500, "é" * 500)
                await all_have(world, [quick], 1 + (part + 1) * TIMELINE_LENGTH)
            assert quick.numbers == list(range(1, 3 * TIMELINE_LENGTH + 2))

            async def is_alone() -> bool:
                return live._by_user.total() == 1

            await world.until(is_alone, within_s=5)
    assert MAX_EVENT < max(unsent) <= events.MAX_UNSENT + MAX_EVENT
