"""Bells to ring and ears to hear them: the messages and the receiver that tests of buses share."""

import asyncio
import json
from collections.abc import Callable, Sequence

import pytest

from indaco_common.bus.port import Bus, Delivery, Done, Verdict
from indaco_common.bus.topology import Topology
from indaco_common.clock import SystemClock
from indaco_common.envelope import Context, Sealed, seal
from indaco_common.messages import Command, Event

ALPHA, BETA = "alpha", "beta"
PATIENCE_S = 10.0
QUIET_S = 0.3  # for what must not happen

OpenBus = Callable[[], Bus]


class Rang(Event, type="test.bell.rang.v1", subject="bell"):
    bell_id: str
    weight: str = ""


class Rusted(Event, type="test.bell.rusted.v1", subject="bell"):
    bell_id: str


class Ring(Command, type="test.bell.ring.v1", subject="bell"):
    bell_id: str


class Melt(Command, type="test.bell.melt.v1", subject="bell"):
    bell_id: str


TOPOLOGY = Topology({ALPHA: (Rang, Ring), BETA: (Rang,)})


def sealed(message: Event | Command) -> Sealed:
    return seal(message, Context(), source="test", version=1, index=0, now=SystemClock().now())


def bells(count: int) -> list[Sealed]:
    return [sealed(Rang(bell_id=f"b-{number}")) for number in range(count)]


class Ear:
    """A receiver that remembers what it heard; *answer* gives the verdict, *gate* holds answers back until it is set."""

    def __init__(self, answer: Callable[[Delivery], Verdict] = lambda _: Done()) -> None:
        self.answer, self.gate = answer, asyncio.Event()
        self.gate.set()
        self.heard: list[Delivery] = []
        self.at_once = self.most_at_once = 0
        self.cancelled = 0

    async def __call__(self, delivery: Delivery) -> Verdict:
        self.heard.append(delivery)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.at_once -= 1
        return self.answer(delivery)

    @property
    def bells(self) -> list[str]:
        return [bell_of(delivery.body) for delivery in self.heard]

    async def hears(self, count: int) -> None:
        await until(lambda: len(self.heard) >= count)


def bell_of(body: bytes) -> str:
    return str(json.loads(body)["data"]["bell_id"])


async def until(condition: Callable[[], bool], patience_s: float = PATIENCE_S) -> None:
    async with asyncio.timeout(patience_s):
        while not condition():  # noqa: ASYNC110 - conditions of all kinds, and a test can afford to look
            await asyncio.sleep(0.01)


async def settled(bus: Bus, service: str, *, ready: int = 0, delayed: int = 0, dead: int = 0) -> None:
    """Wait until the queues of *service* hold these numbers."""
    wanted = (ready, delayed, dead)
    found: tuple[int, int, int] | None = None
    try:
        async with asyncio.timeout(PATIENCE_S):
            while found != wanted:
                await asyncio.sleep(0.02)
                state = await bus.state(service)
                found = (state.ready, state.delayed, state.dead)
    except TimeoutError:
        pytest.fail(f"(ready, delayed, dead) of {service} is {found}, not {wanted}")


def ids(messages: Sequence[Sealed]) -> list[str]:
    return [message.id for message in messages]
