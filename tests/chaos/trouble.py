"""Trouble: processes killed, sites that fail and hang, messages doubled on the wire, letters that nobody can read."""

import asyncio
import json
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from indaco_common.bus.port import Bus
from indaco_common.clock import SystemClock
from indaco_common.contracts import vault
from indaco_common.contracts.values import Owner
from indaco_common.envelope import Context, seal, unseal
from indaco_common.errors import IndacoError
from indaco_common.simulation import break_site
from indaco_common.testing.federation import SERVICES, Federation

from .books import Letter
from .reading import Reader

FAILING, HANGING, SOUND = "CLOUD-A", "CLOUD-B", "CLOUD-C"
SITES = frozenset({FAILING, HANGING, SOUND})
HANG_S = 60.0
DOUBLE_EVERY_S = 0.25
LOOK_S = 0.5
FIRST_START_S = (0.5, 3.0)
PATIENCE_S = 15.0  # with a kill, for work to be under way


@dataclass(slots=True)
class Kills:
    """*busy*: those while work was unfinished."""

    count: int = 0
    busy: int = 0
    by_unit: dict[str, int] = field(default_factory=dict)


class Killer:
    """Ends random processes at random moments, without a warning, and starts them again at once.

    At most *idle* of them while nothing is going on: what is killed at rest proves little.
    """

    def __init__(self, federation: Federation, chance: random.Random, *, idle: int) -> None:
        self._federation, self._chance, self._idle = federation, chance, idle
        self.kills = Kills()
        self.surprises: list[str] = []

    async def cut_start(self) -> None:
        """Kill a process in its very first start, in which much is made for good."""
        await asyncio.sleep(self._chance.uniform(*FIRST_START_S))
        self._kill(is_busy=False)

    async def run(self, moments: Sequence[float], reader: Reader) -> None:
        """Kill at *moments*, in seconds from now."""
        begin = time.monotonic()
        for moment in sorted(moments):
            await asyncio.sleep(max(0.0, begin + moment - time.monotonic()))
            patience = time.monotonic() + PATIENCE_S
            is_busy = await _is_busy(reader)
            while not is_busy and self.kills.count - self.kills.busy >= self._idle and time.monotonic() < patience:
                await asyncio.sleep(LOOK_S)
                is_busy = await _is_busy(reader)
            self._kill(is_busy=is_busy)

    async def watch(self) -> None:
        """Start again what ends by itself, as a supervisor would; but it is a broken promise."""
        while True:
            for unit, process in list(self._federation.processes.items()):
                if (code := process.poll()) is not None:
                    self.surprises.append(f"{unit} ended by itself with {code}")
                    self._federation.launch(unit)
            await asyncio.sleep(LOOK_S)

    def _kill(self, *, is_busy: bool) -> None:
        unit = self._chance.choice(self._federation.units)
        if self._federation.processes[unit].poll() is not None:  # it has ended by itself: the watch will say so
            return
        self._federation.kill(unit)
        self._federation.launch(unit)
        self.kills.count += 1
        self.kills.busy += is_busy
        self.kills.by_unit[unit] = self.kills.by_unit.get(unit, 0) + 1


async def _is_busy(reader: Reader) -> bool:
    try:
        return await reader.under_way() > 0
    except IndacoError:  # the store is away: nothing is known
        return False


def break_sites(federation: Federation) -> None:
    """One site fails half its calls from now on, some of them after they have had their effect; one hangs for a minute."""
    break_site(federation.sites / FAILING, fail_rate=0.3, lose_answers=0.3)
    break_site(federation.sites / HANGING, hang_until=time.time() + HANG_S)


class Doubler:
    """Delivers published messages again: half of the time one that was published just now, else any."""

    def __init__(self, reader: Reader, bus: Bus, receivers: Mapping[str, Sequence[str]], chance: random.Random) -> None:
        self._reader, self._bus, self._receivers, self._chance = reader, bus, receivers, chance
        self._known: dict[str, list[bytes]] = {service: [] for service in SERVICES}
        self._last = dict.fromkeys(SERVICES, "")
        self.count = 0

    async def run(self) -> None:
        """Double until cancelled; a broker or store that is away is waited for."""
        while True:
            try:
                await self._double(self._chance.choice(SERVICES))
            except IndacoError:
                await asyncio.sleep(1)
            await asyncio.sleep(self._chance.uniform(0, 2 * DOUBLE_EVERY_S))

    async def _double(self, service: str) -> None:
        known = self._known[service]
        if news := await self._reader.journal(service, after=self._last[service]):
            known += news
            self._last[service] = unseal(news[-1])[0].id
        if not known:
            return
        body = self._chance.choice(self._chance.choice((news or known[-10:], known)))
        receivers = self._receivers.get(unseal(body)[0].name, ())
        if receivers:
            await self._bus.inject(self._chance.choice(receivers), body)
            self.count += 1


async def plant(bus: Bus) -> list[Letter]:
    """Put letters into queues that must end as dead letters, and nothing else; return them."""
    letters = [
        Letter("sla", b"this is no envelope"),
        Letter("orchestrator", b'{"specversion": "1.0"'),
        Letter("accounting", json.dumps({"specversion": "1.0", "id": "chaos-1", "type": "indaco.a.b.c.v1"}).encode()),
        Letter("gateway", bytes(range(256))),
        Letter("vault-broker", _poison()),
    ]
    for letter in letters:
        await _insert(bus, letter)
    return letters


async def _insert(bus: Bus, letter: Letter) -> None:
    """Put it in once the broker takes it."""
    while True:
        try:
            return await bus.inject(letter.service, letter.body)
        except IndacoError:
            await asyncio.sleep(1)


def _poison() -> bytes:
    """Return a well-formed command whose handler fails for good, each time: no vault takes such a path."""
    command = vault.KeyDelete(user_id="..", name="poison", owner=Owner(issuer="chaos", subject="chaos"))
    return seal(command, Context(), source="gateway", version=1, index=0, now=SystemClock().now()).body
