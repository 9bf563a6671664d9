"""The whole way of a deployment, from a user's request over HTTP until the machine runs: how many a second, and how long one takes."""

import asyncio
import statistics
import time
from typing import Any

from .federations import Client, client_of, deploy, running
from .machine import cpu_s
from .rows import SERVERS, Figures, at_least, at_most, row

WARM_UP, COUNT, IN_FLIGHT, SINGLE = 30, 400, 32, 100
EVERYTHING = """Every deployment is one machine from examples/templates/virtual-machine.yaml, posted with a signed token; all services,
authentication, TOSCA validation and planning, matching, quota, a credential through the vault, journal, accounting and logs are on;
the driver is the simulated one with boot_s=0: a machine runs as soon as it is made."""
WANTED = 150  # a second: the rate whose price is told


async def _throughput(store: str | None, count: int) -> Figures:
    async with running(store) as federation, client_of(federation) as client:
        await deploy(client, WARM_UP, IN_FLIGHT)
        pids = {unit: process.pid for unit, process in federation.processes.items()}
        before = {unit: cpu_s(pid) for unit, pid in pids.items()}
        seconds = await deploy(client, count, IN_FLIGHT)
        used = {unit: round((cpu_s(pid) - before[unit]) / count * 1e3, 2) for unit, pid in pids.items()}
        unfinished = await client.count(status_not=["CREATE_COMPLETE"])
    if unfinished:
        raise RuntimeError(f"{unfinished} deployments do not run")
    total = sum(used.values())
    details = {"count": count, "seconds": round(seconds, 2), "in_flight": IN_FLIGHT, "cpu_ms_each": used}
    details["cores_for_150_per_s"] = round(WANTED * total / 1e3, 1)
    note = f"{total:.1f} ms CPU each in {len(used)} processes; {WANTED}/s would take {details['cores_for_150_per_s']} cores"
    return Figures(count / seconds, details=details, note=note)


async def _latency(store: str | None, count: int) -> Figures:
    async with running(store) as federation, client_of(federation) as client:
        await deploy(client, WARM_UP // 3, 1)
        taken = [await _one(client) for _ in range(count)]
    found: dict[str, Any] = {
        "count": count, "p50_ms": _percentile(taken, 50), "p90_ms": _percentile(taken, 90),
        "p99_ms": _percentile(taken, 99), "worst_ms": round(max(taken), 1),
    }  # fmt: skip
    return Figures(statistics.median(taken), details=found, note=f"p99 {found['p99_ms']:.1f} ms")


async def _one(client: Client) -> float:
    """Return the milliseconds from the request until the live events tell that it runs."""
    begun = time.perf_counter()
    await client.until_running(await client.submit())
    taken = (time.perf_counter() - begun) * 1e3
    await asyncio.sleep(0.02)  # what is left to do (journal, accounting) is not the next one's
    return taken


def _percentile(values: list[float], percent: int) -> float:
    return round(sorted(values)[min(len(values) - 1, len(values) * percent // 100)], 1)


@row("deployments/s", goal=at_least(50), conditions=EVERYTHING)
def deployments_embedded() -> Figures:
    """400 deployments, 32 requests in flight, from the first request until gateway, sla and accounting have handled the last message,
    after 30 to warm up. Embedded: one process, SQLite (each commit on disk), its own OpenBao; the load comes from another process of
    the same machine."""
    return asyncio.run(_throughput(None, COUNT))


@row("deployments/s", needs=SERVERS, conditions=EVERYTHING)
def deployments_rabbitmq() -> Figures:
    """As deployments_embedded, 200 of them, on five processes with RabbitMQ (quorum queues), SQLite stores and a Vault server."""
    return asyncio.run(_throughput("sqlite", COUNT // 2))


@row("ms, p50", goal=at_most(50), conditions=EVERYTHING)
def latency_embedded() -> Figures:
    """From the request until the user's event stream tells that it runs, one deployment at a time, 100 times; embedded."""
    return asyncio.run(_latency(None, SINGLE))


@row("ms, p50", goal=at_most(150), needs=SERVERS, conditions=EVERYTHING)
def latency_rabbitmq() -> Figures:
    """As latency_embedded, on five processes with RabbitMQ (quorum queues), SQLite stores and a Vault server."""
    return asyncio.run(_latency("sqlite", SINGLE))


@row("ms, p50", needs=SERVERS, conditions=EVERYTHING)
def latency_mongodb() -> Figures:
    """As latency_rabbitmq, with stores in MongoDB, 10 times; told for comparison only, since the test server is a slow one."""
    return asyncio.run(_latency("mongodb", SINGLE // 10))
