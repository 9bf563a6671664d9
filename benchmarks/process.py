"""What the embedded mode costs while it does little: memory, start, idling."""

import asyncio
import time

from .federations import client_of, deploy, running
from .machine import children, cpu_s, memory_mib
from .rows import Figures, at_most, row

DEPLOYMENTS, IDLE_S, SETTLE_S, STARTS = 200, 60.0, 10.0, 3


@row("MiB", goal=at_most(250))
def memory_embedded() -> Figures:
    """Resident memory of the process with all five services, after 200 deployments; the vault is a child process and told apart."""
    return asyncio.run(_memory())


async def _memory() -> Figures:
    async with running() as federation, client_of(federation) as client:
        pid = federation.processes["all"].pid
        fresh = memory_mib(pid)
        await deploy(client, DEPLOYMENTS, 16)
        used, vault = memory_mib(pid), sum(memory_mib(child) for child in children(pid))
    details = {"fresh_mib": round(fresh, 1), "vault_mib": round(vault, 1), "deployments": DEPLOYMENTS}
    return Figures(used, details=details, note=f"{fresh:.0f} at the start; the vault {vault:.0f}")


@row("s", goal=at_most(3))
def start_embedded() -> Figures:
    """From the start of the process until all five services say that they are ready, on data that is there already (vault
    initialised); the slowest of 3 starts."""
    return asyncio.run(_start())


async def _start() -> Figures:
    async with running() as federation:
        taken = []
        for _ in range(STARTS):
            await federation.terminate("all")
            begun = time.perf_counter()
            federation.launch("all")
            await federation.ready()
            taken.append(round(time.perf_counter() - begun, 3))
    return Figures(max(taken), details={"starts_s": taken})


@row("% of a core", goal=at_most(2))
def idle_embedded() -> Figures:
    """Processor time of the process with all five services over 60 s in which nothing is asked, 10 s after a deployment; the vault
    is told apart."""
    return asyncio.run(_idle())


async def _idle() -> Figures:
    async with running(INDACO_ORCHESTRATOR_WATCH_S="3600") as federation, client_of(federation) as client:
        await deploy(client, 1, 1)
        pid = federation.processes["all"].pid
        (vault,) = children(pid)
        await asyncio.sleep(SETTLE_S)
        before, begun = (cpu_s(pid), cpu_s(vault)), time.perf_counter()
        await asyncio.sleep(IDLE_S)
        seconds = time.perf_counter() - begun
        mine, its = (100 * (cpu_s(p) - b) / seconds for p, b in zip((pid, vault), before, strict=True))
    return Figures(
        mine, details={"seconds": round(seconds, 1), "vault_percent": round(its, 2)}, note=f"the vault {its:.2f} %"
    )
