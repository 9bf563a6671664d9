"""The example of a receiver, run as it is, by whatever Python there is."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from indaco_common.secrets.embedded import EmbeddedVault
from indaco_common.testing.federation import free_ports

from .world import ROOT, Issuer, World, running, running_event

EXAMPLE = ROOT / "examples" / "webhook" / "receiver.py"


@asynccontextmanager
async def example(port: int, secret: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-S", str(EXAMPLE), str(port), env={**os.environ, "WEBHOOK_SECRET": secret}, stdout=subprocess.PIPE
    )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        await process.communicate()


async def answers(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


async def test_the_example_prints_what_is_genuine_and_refuses_what_is_not(
    tmp_path: Path, openbao: EmbeddedVault, issuer: Issuer
) -> None:
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}/"
    async with running(World(tmp_path, openbao, issuer, {"callback_networks": ("127.0.0.0/8",)})) as world:
        made = (await world.send("POST", "/v1/subscriptions", json={"url": url, "types": ["deployment.running"]})).json
        async with example(port, made["secret"]) as process:
            await world.until(lambda: answers(port))
            id = await world.created()
            await world.say(running_event(id))
            assert process.stdout is not None
            async with asyncio.timeout(10):
                line = (await process.stdout.readline()).decode()
            assert line == f"{id}  CREATE_COMPLETE  indaco.deployment.running.v1: Running\n"
            stamps = {"webhook-id": "x", "webhook-timestamp": "1700000000", "webhook-signature": "v1,bm90aGluZw=="}
            for headers in (stamps, {}, {"webhook-timestamp": "soon"}):
                async with aiohttp.ClientSession() as http, http.post(url, data=b"{}", headers=headers) as answer:
                    assert answer.status == 401
        secret = (await world.send("POST", "/v1/webhook-secret")).json["secret"]
        async with example(port, secret) as process:
            await world.until(lambda: answers(port))
            id = await world.created(callback=url)
            await world.say(running_event(id))
            assert process.stdout is not None
            async with asyncio.timeout(10):
                assert (await process.stdout.readline()).decode() == f"{id}  CREATE_COMPLETE  (step 2)\n"
