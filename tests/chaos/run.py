"""One run: a federation, its load, its trouble; then rest, and the books."""

import asyncio
import contextlib
import random
import shutil
import tempfile
import time
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from indaco_client import Client
from indaco_common.errors import Unavailable
from indaco_common.launcher.specs import whole_topology
from indaco_common.testing.backing import RealBacking
from indaco_common.testing.federation import SERVICES, Federation

from .books import judge
from .broker import LocalBroker, hasten
from .load import USERS, Load
from .reading import Reader
from .trouble import FAILING, HANG_S, HANGING, SITES, SOUND, Doubler, Killer, break_sites, plant

QUICK = {
    "POLL": "0.3", "POLL_MAX": "2", "CLAIM": "12", "WATCH": "15", "UNREACHABLE": "30", "ALIVE": "20", "WAIT": "120",
    "ATTEMPT": "120", "DELETE": "60", "SAMPLE": "600",
}  # fmt: skip
# What runs is sampled once, when it is first looked at: a hundred machines are not to keep messages on their way. Where stores are
# slow, sla may be minutes behind: that is no reason to give up, as by default it is not.
SLOWER: dict[str, dict[str, str]] = {"embedded": {}, "real": {"WATCH": "60", "WAIT": "600", "ALIVE": "300"}}
LOOK_S = 2.0
CALM_S = {"embedded": 2.0, "real": 10.0}  # how long nothing is to be seen: counters of a broker are some seconds old
READY_S = 120.0
PER_DEPLOYMENT_S = {"embedded": 1.0, "real": 1.5}
LEAST_S = HANG_S  # a run is not shorter than the hang
STALL_S = 120.0  # after which what has not changed is taken to hang
SETTLE_S = {"embedded": 300.0, "real": 1200.0}  # at most, however it changes
HASTEN_S = 15.0  # between two looks at the long delay tiers
SITE = """
  - id: {id}
    kind: simulated
    endpoint: "simulated:${{INDACO_SIMULATED}}?boot_s={boot_s}&capacity=1000&images=ubuntu-22.04"
    regions: [{region}]
    simulated: true
    flavors: [{{name: small, vcpus: 1, memory_mib: 2048, disk_gib: 20}}, {{name: medium, vcpus: 2, memory_mib: 4096, disk_gib: 20}}]
    images: [{{name: ubuntu-22.04, distribution: ubuntu, version: "22.04"}}, {{name: debian-12, distribution: debian, version: "12"}}]"""
AGREEMENT = """
  - id: {group}-{region}
    group: {{issuer: "${{INDACO_ISSUER}}", path: {group}}}
    provider: {id}
    region: {region}
    project: {group}
    weight: {weight}
    limits: {{instances: 1000, cpu_milli: 8000000, memory_mib: 16777216, disk_gib: 100000, public_ips: 1000}}
    valid_from: 2020-01-01T00:00:00Z
    valid_to: 2040-01-01T00:00:00Z"""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do; the same *seed* chooses the same arrivals, moments and victims."""

    backends: str
    seed: int
    kills: int
    deployments: int

    @property
    def seconds(self) -> float:
        """Over how long deployments arrive."""
        return max(LEAST_S, self.deployments * PER_DEPLOYMENT_S[self.backends])


Tell = Callable[[str], None]


async def run(plan: Plan, tell: Tell) -> dict[str, Any]:
    """Return the figures; ``holds`` says whether every promise was kept, ``broken`` lists those that were not."""
    begin = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="indaco-chaos-"))
    async with AsyncExitStack() as stack:
        broker = None
        if plan.backends == "real":
            broker = await LocalBroker.start()
            stack.push_async_callback(broker.remove)
        federation = _federation(folder, plan)
        stack.push_async_callback(federation.stop)
        await federation.prepare()
        killer = Killer(federation, random.Random(plan.seed + 1), idle=max(1, plan.kills // 3))
        for unit in federation.units:
            federation.launch(unit)
        if plan.kills:
            await killer.cut_start()
        await federation.ready(timeout_s=READY_S)
        reader = await Reader.open(federation)
        stack.push_async_callback(reader.close)
        tell(f"the federation runs after {time.monotonic() - begin:.1f} s; its data and logs: {folder}")
        try:
            facts = await _Run(plan, tell, federation, killer, reader, broker).facts()
        except Exception:  # told before the tidying up: that may fail in its turn
            tell(traceback.format_exc())
            raise
    if facts["holds"]:
        shutil.rmtree(folder, ignore_errors=True)
    return {**asdict(plan), **facts, "seconds": round(time.monotonic() - begin, 1)}


def _federation(folder: Path, plan: Plan) -> Federation:
    sites = [(FAILING, "a", 0.5, 0.7), (HANGING, "b", 0.8, 0.6), (SOUND, "c", 1.2, 0.5)]
    text = "providers:" + "".join(SITE.format(id=id, region=region, boot_s=boot_s) for id, region, boot_s, _ in sites)
    text += "\nagreements:" + "".join(
        AGREEMENT.format(group=group, id=id, region=region, weight=weight)
        for id, region, _, weight in sites
        for group in USERS.values()
    )
    times = QUICK | SLOWER[plan.backends]
    settings = {f"INDACO_ORCHESTRATOR_{name}_S": value for name, value in times.items()}
    return Federation(
        folder, text, {user: (group,) for user, group in USERS.items()}, settings=settings,
        backing=RealBacking(folder) if plan.backends == "real" else None,
    )  # fmt: skip


class _Run:
    def __init__(
        self,
        plan: Plan,
        tell: Tell,
        federation: Federation,
        killer: Killer,
        reader: Reader,
        broker: LocalBroker | None,
    ) -> None:
        self.plan, self.tell, self.federation, self.reader, self.broker = plan, tell, federation, reader, broker
        self.chance, self.killer = random.Random(plan.seed), killer
        receivers = whole_topology().receivers()
        self.doubler = Doubler(reader, reader.bus, receivers, random.Random(plan.seed + 2))

    async def facts(self) -> dict[str, Any]:
        break_sites(self.federation)
        watch = asyncio.create_task(self.killer.watch())
        try:
            async with self._clients() as clients:
                load = Load(clients, self.chance, deployments=self.plan.deployments, seconds=self.plan.seconds)
                planted = await self._trouble(load)
            await self._rest()
            books = await self.reader.read(load.asked)
        finally:
            await _cancel(watch)
        books.surprises += self.killer.surprises
        books.surprises += await self._stopped()
        verdict = judge(books, sites=SITES, planted=planted)
        kills = self.killer.kills
        return {
            **verdict.figures, "kills": kills.count, "kills_while_busy": kills.busy, "killed": kills.by_unit,
            "broker_restarts": 2 if self.broker else 0, "doubled": self.doubler.count,
            "holds": not verdict.broken, "broken": verdict.broken,
        }  # fmt: skip

    async def _trouble(self, load: Load) -> list[Any]:
        """Do everything at once, until the load is done and the last process was killed; return what was planted."""
        moments = [self.chance.uniform(0, self.plan.seconds) for _ in range(self.plan.kills - 1)]
        doubling = asyncio.create_task(self.doubler.run())
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(load.run())
                group.create_task(self.killer.run(moments, self.reader))
                group.create_task(self._restart_broker())
                group.create_task(self._report(load))
                planting = group.create_task(self._plant())
            return planting.result()
        finally:
            await _cancel(doubling)

    async def _plant(self) -> list[Any]:
        await asyncio.sleep(self.plan.seconds / 4)
        return await plant(self.reader.bus)

    async def _restart_broker(self) -> None:
        """Once in good order, once by a kill."""
        if self.broker is None:
            return
        for again in (self.broker.restart, self.broker.crash):
            await asyncio.sleep(self.plan.seconds / 3)
            await again()
            self.tell("the broker was restarted")

    async def _report(self, load: Load) -> None:
        end = time.monotonic() + self.plan.seconds
        while time.monotonic() < end:
            await asyncio.sleep(min(20.0, max(1.0, end - time.monotonic())))
            self.tell(f"{len(load.asked)} asked for, {self.killer.kills.count} kills, {self.doubler.count} doubled")

    async def _rest(self) -> None:
        """Wait until nothing is going on any more, for a bounded time; what waits in long delay tiers need not wait."""
        end, before = time.monotonic() + SETTLE_S[self.plan.backends], ""
        calm_since = hastened_at = changed_at = time.monotonic()
        while time.monotonic() - calm_since < CALM_S[self.plan.backends]:
            await asyncio.sleep(LOOK_S)
            if not (left := await self._left()):
                continue
            calm_since = time.monotonic()
            changed_at, before = (changed_at if left == before else calm_since), left
            if calm_since > min(end, changed_at + STALL_S):
                self.tell(f"it does not come to rest: {left}")
                return
            if calm_since - hastened_at > HASTEN_S:
                hastened_at = calm_since
                count = await self._hasten()
                self.tell(f"{left}; {count} long delays were cut short")

    async def _left(self) -> str:
        try:
            return await self.reader.unsettled()
        except Unavailable as error:
            return error.detail

    async def _hasten(self) -> int:
        folder, backing = self.federation.folder / "data", self.federation.backing
        bus = "embedded:" if backing is None else backing.admin_environment()["INDACO_BUS"]
        return await hasten(bus=bus, data=folder, services=SERVICES)

    @asynccontextmanager
    async def _clients(self) -> AsyncIterator[dict[str, Client]]:
        async with AsyncExitStack() as stack:
            clients = {user: Client(self.federation.url, await self.federation.token(user)) for user in USERS}
            for client in clients.values():
                await stack.enter_async_context(client)
            yield clients

    async def _stopped(self) -> list[str]:
        """Stop the processes in good order; return what did not go as it should."""
        before = vaults(self.federation.folder)
        found = []
        if self.federation.backing is None and len(before) != 1:
            found.append(f"{len(before)} vault processes beside one federation")
        codes = {unit: await self.federation.terminate(unit) for unit in list(self.federation.processes)}
        found += [f"{unit} ended with {code} when it was told to stop" for unit, code in codes.items() if code]
        if left := vaults(self.federation.folder):
            found.append(f"vault processes are left over: {left}")
        return found


def vaults(folder: Path) -> list[int]:
    """Return the OpenBao processes that were started for *folder*."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            command = file.read_bytes().split(b"\0")
            if any(part.startswith(f"-config={folder}".encode()) for part in command):
                found.append(int(file.parent.name))
    return found


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
