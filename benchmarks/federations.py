"""A federation to measure: real processes, simulated sites whose machines run at once, agreements that nobody exhausts."""

import asyncio
import json
import shutil
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from indaco_common.testing.backing import RealBacking
from indaco_common.testing.federation import Federation

ROOT = Path(__file__).resolve().parent.parent
TEMPLATE = (ROOT / "examples" / "templates" / "virtual-machine.yaml").read_text()
USER, GROUP, SITES = "ada", "cms", 3
LOOK_S = 0.3  # between two looks whether all is done: a look costs the service some milliseconds
PROVIDER = """
  - id: SITE-{number}
    kind: simulated
    endpoint: "simulated:${{INDACO_SIMULATED}}?boot_s=0&capacity=100000"
    regions: [one]
    simulated: true
    flavors: [{{name: medium, vcpus: 2, memory_mib: 4096, disk_gib: 20}}]
    images: [{{name: ubuntu-22.04, distribution: ubuntu, version: "22.04"}}]"""
AGREEMENT = """
  - id: cms-{number}
    group: {{issuer: "${{INDACO_ISSUER}}", path: cms}}
    provider: SITE-{number}
    region: one
    project: cms
    weight: 0.5
    limits: {{instances: 100000, cpu_milli: 800000000, memory_mib: 3000000000, disk_gib: 10000000, public_ips: 100000}}
    valid_from: 2026-01-01T00:00:00Z
    valid_to: 2036-01-01T00:00:00Z"""
REQUEST = {"num_cpus": 2, "mem_size": "4 GB"}
# Which message, handled by whom, ends a deployment's way: every service has done its part.
LAST = (
    ("gateway", "orchestrator.deployment.running.v1"),
    ("accounting", "orchestrator.node.started.v1"),
    ("sla", "sla.quota.confirm.v1"),
)
HANDLED = 'messaging_process_duration_seconds_count{{outcome="done",service="{service}",type="{type}"}} '


def federation_file() -> str:
    numbers = range(1, SITES + 1)
    providers = "".join(PROVIDER.format(number=number) for number in numbers)
    agreements = "".join(AGREEMENT.format(number=number) for number in numbers)
    return f"providers:{providers}\nagreements:{agreements}\n"


@asynccontextmanager
async def running(store: str | None = None, **settings: str) -> AsyncIterator[Federation]:
    """Run the embedded mode, or (*store*: sqlite, mongodb) five processes on the servers of the environment; removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="indaco-bench-"))
    backing = RealBacking(folder, store=store) if store else None
    federation = Federation(folder, federation_file(), {USER: (GROUP,)}, backing=backing, settings=settings)
    try:
        await federation.start()
        yield federation
    finally:
        await federation.stop()
        shutil.rmtree(folder, ignore_errors=True)


class Client:
    """Submits over one keep-alive pool, as a user's program does; knows only HTTP."""

    def __init__(self, federation: Federation, token: str) -> None:
        self._federation = federation
        headers = {"Authorization": f"Bearer {token}"}
        self._http = aiohttp.ClientSession(headers=headers, connector=aiohttp.TCPConnector(limit=64))

    async def close(self) -> None:
        await self._http.close()

    async def submit(self) -> str:
        body = {"template": TEMPLATE, "parameters": REQUEST, "userGroup": GROUP}
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        async with self._http.post(f"{self._federation.url}/deployments", json=body, headers=headers) as answer:
            answer.raise_for_status()
            return str((await answer.json())["uuid"])

    async def until_running(self, id: str) -> None:
        """Return once the live events say that it runs. Raises: RuntimeError, if it comes to another end."""
        async with self._http.get(f"{self._federation.url}/deployments/{id}/events") as stream:
            async for line in stream.content:
                if not line.startswith(b"data: "):
                    continue
                status = json.loads(line[6:])["status"]
                if status == "CREATE_COMPLETE":
                    return
                if status != "CREATE_IN_PROGRESS":
                    raise RuntimeError(f"deployment {id} ended as {status}")

    async def count(self, status_not: Sequence[str] = ()) -> int:
        """Return how many deployments there are, those in *status_not* left out."""
        params = {"size": "1", "excludedStatus": ",".join(status_not)}
        async with self._http.get(f"{self._federation.url}/deployments", params=params) as answer:
            return int((await answer.json())["page"]["totalElements"])

    async def handled(self, service: str, type: str) -> int:
        """Return how many messages of *type* the service has handled so far."""
        async with self._http.get(f"http://127.0.0.1:{self._federation.ports[service]}/metrics") as answer:
            text = await answer.text()
        start = HANDLED.format(service=service, type=type)
        return next((int(float(line.rpartition(" ")[2])) for line in text.splitlines() if line.startswith(start)), 0)


@asynccontextmanager
async def client_of(federation: Federation) -> AsyncIterator[Client]:
    client = Client(federation, await federation.token(USER))
    try:
        yield client
    finally:
        await client.close()


async def deploy(client: Client, count: int, at_once: int) -> float:
    """Submit *count*, *at_once* in flight; return the seconds from the first request until every service has done its part."""
    before = {service: await client.handled(service, type) for service, type in LAST}
    begun, left = time.perf_counter(), count

    async def user() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await client.submit()

    await asyncio.gather(*(user() for _ in range(at_once)))
    for service, type in LAST:
        while await client.handled(service, type) - before[service] < count:
            await asyncio.sleep(LOOK_S)
    return time.perf_counter() - begun


def facts(federation: Federation, load: dict[str, Any]) -> dict[str, Any]:
    """Return what belongs beside every figure of a federation."""
    return {"processes": len(federation.units), "load": load}
