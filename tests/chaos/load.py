"""The load: users who deploy, and change their minds, through a gateway that may be dead at any moment."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from indaco_client import Client, Conflict, NotFound, TimedOut, Unreachable
from indaco_common.testing.backing import REPOSITORY

from .books import Asked

Inputs = dict[str, object]
USERS = {"ada": "cms", "bob": "atlas"}  # and the group of each
PLAIN = (REPOSITORY / "examples" / "templates" / "virtual-machine.yaml").read_text()
WITH_SECRET = (REPOSITORY / "tests" / "chaos" / "virtual-machine.yaml").read_text()
DEBIAN: Inputs = {"os_distribution": "debian", "os_version": "12"}
UBUNTU: Inputs = {"os_distribution": "ubuntu", "os_version": "22.04", "num_cpus": 2, "mem_size": "4 GB"}
DELETED = 1 / 3  # of the deployments
SECRET = 1 / 3
HOPELESS = 60  # one in so many asks for an image that sites only claim to have: it must be tried at all of them
EARLY = 0.4  # of those deleted: before they run
MADE_IN_S = 10.0
AGAIN_S = 0.3

T = TypeVar("T")


class Load:
    """*deployments* arrive over *seconds*; a third of them are deleted, each some time after it was accepted."""

    def __init__(self, clients: dict[str, Client], chance: random.Random, *, deployments: int, seconds: float) -> None:
        self._clients, self._chance, self._seconds = clients, chance, seconds
        self._count = deployments
        self.asked: dict[str, Asked] = {}

    async def run(self) -> None:
        """Return once everything was asked for and accepted."""
        chance, count = self._chance, self._count
        arrivals = sorted(chance.uniform(0, self._seconds) for _ in range(count))
        doomed = set(chance.sample(range(count), round(count * DELETED)))
        patience = {number: self._patience(arrivals[number]) for number in sorted(doomed)}
        secret = set(chance.sample(range(count), round(count * SECRET)))
        hopeless = set(chance.sample(sorted(secret - doomed), count // HOPELESS))
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_keys())
            for number, at in enumerate(arrivals):
                what = PLAIN, UBUNTU
                if number in secret:
                    what = WITH_SECRET, {"service_token": f"token-{number}"} | (DEBIAN if number in hopeless else {})
                group.create_task(self._one(number, at, what, patience_s=patience.get(number)))

    def _patience(self, arrival: float) -> float:
        """Return after how many seconds somebody deletes: often while it is made, else when it has run for a while."""
        if self._chance.random() < EARLY:
            return self._chance.uniform(0, MADE_IN_S)
        return MADE_IN_S + self._chance.uniform(0, max(0.0, self._seconds - arrival - MADE_IN_S))

    async def _one(self, number: int, at: float, what: tuple[str, Inputs], *, patience_s: float | None) -> None:
        """Deploy at *at*; if there is a limit to the patience, delete."""
        user, secret = sorted(USERS)[number % len(USERS)], what[0] is WITH_SECRET
        client = self._clients[user]
        await asyncio.sleep(at)
        made = await insist(lambda: client.create(*what, group=USERS[user], idempotency_key=f"chaos-{number}"))
        id = str(made["id"])
        self.asked[id] = Asked(secret=secret)
        if patience_s is not None:
            await asyncio.sleep(patience_s)
            await insist(lambda: _gone(client.delete(id)))
            self.asked[id] = Asked(secret=secret, deleted=True)

    async def _keep_keys(self) -> None:
        """Each user makes two keys and thinks better of one."""
        for client in self._clients.values():
            for name in ("default", "spare"):
                await insist(lambda c=client, n=name: _made(c.create_key(n)))  # type: ignore[misc]
            await asyncio.sleep(self._seconds / 3)
            await insist(lambda c=client: _gone(c.delete_key("spare")))  # type: ignore[misc]


async def insist(call: Callable[[], Awaitable[T]]) -> T:
    """Call until the gateway answers."""
    while True:
        try:
            return await call()
        except (Unreachable, TimedOut):
            await asyncio.sleep(AGAIN_S)


async def _gone(call: Awaitable[None]) -> None:
    """A deletion whose answer was lost, asked for again, is refused or finds nothing: it was accepted."""
    try:
        await call
    except (Conflict, NotFound):
        return


async def _made(call: Awaitable[object]) -> None:
    try:
        await call
    except Conflict:
        return
