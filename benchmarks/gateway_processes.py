"""A gateway in a process of its own, as ``indaco run gateway`` starts it, beside a bare server over the same data, and loads on both."""

import asyncio
import json
import resource
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from indaco_common.contracts.values import Owner
from indaco_common.secrets.directory import APPROLES
from indaco_common.secrets.embedded import EmbeddedVault
from indaco_common.testing.backing import RealBacking
from indaco_common.testing.federation import Federation, free_ports

from .gateway_data import fill
from .machine import cpu_s

ROOT = Path(__file__).resolve().parent.parent
USER, GROUP, TOKENS = "ada", "cms", 16
READY_S = 30.0
NO_FEDERATION = "providers: []\nagreements: []\n"
LIMITS = {
    "INDACO_GATEWAY_RATE_READ": "9999999/60", "INDACO_GATEWAY_RATE_WRITE": "9999999/60", "INDACO_GATEWAY_RATE_EVENTS": "9999999/60",
    "INDACO_GATEWAY_MAX_USER_LISTENERS": "2000",  # the one user stands for many
}  # fmt: skip
"""Counted as ever, and never reached."""


@dataclass(slots=True)
class Alone(RealBacking):
    """What one service alone needs of the embedded mode: store and bus as files, and a vault that the measurement starts."""

    vault: EmbeddedVault | None = None

    async def start(self) -> None:
        self.vault = EmbeddedVault(self.folder / "vault", ephemeral=True)
        await self.vault.start()
        known = json.loads((self.folder / "vault" / APPROLES).read_text())["roles"]
        file = self.folder / "approles.json"
        file.touch(mode=0o600)
        file.write_text(json.dumps(known))

    async def stop(self) -> None:
        if self.vault is not None:
            await self.vault.stop()

    def environment(self, service: str) -> dict[str, str]:  # noqa: ARG002 - all of them would have the same
        assert self.vault is not None
        return {
            "INDACO_BUS": "embedded:", "INDACO_STORE": "sqlite:", "INDACO_SECRETS": f"vault+{self.vault.address}", "INDACO_TOPOLOGY": "apply",
            "INDACO_VAULT_APPROLE_FILE": str(self.folder / "approles.json"),
        }  # fmt: skip


@dataclass(slots=True)
class Server:
    """One that is measured."""

    port: int
    pid: int


@dataclass(slots=True)
class Pair:
    """The gateway and the bare server. *ids*: of the caller's deployments, oldest first."""

    gateway: Server
    bare: Server
    tokens: list[str]
    ids: list[str]
    federation: Federation = field(repr=False)

    async def load(self, server: Server, targets: Sequence[str], **order: Any) -> dict[str, Any]:
        """Put a load on *server*; return what the client found, and *cpu_us*, the server's processor time for each answer."""
        begun = cpu_s(server.pid)
        found = await told({
            "do": "requests", "port": server.port, "targets": list(targets), "tokens": self.tokens, "method": "GET", **order
        })  # fmt: skip
        return found | {"cpu_us": (cpu_s(server.pid) - begun) / found["count"] * 1e6}

    async def get(self, target: str, **headers: str) -> Any:
        """Return what the gateway answers."""
        known = {"Authorization": f"Bearer {self.tokens[0]}", **headers}
        async with aiohttp.ClientSession() as http, http.get(f"{self.federation.url}{target}", headers=known) as answer:
            answer.raise_for_status()
            return await answer.json()


async def told(order: dict[str, Any], meanwhile: Callable[[], None] | None = None) -> dict[str, Any]:
    """Have a process of its own put a load on a server; *meanwhile* is called once its listeners listen. Raises: RuntimeError."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.gateway_load", cwd=ROOT,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(order | {"wait": meanwhile is not None}).encode() + b"\n")
    try:
        if meanwhile is not None and await process.stdout.readline():
            meanwhile()
            process.stdin.write(b"\n")
        out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise RuntimeError(f"load: {err.decode()[-2000:]}")
    found: dict[str, Any] = json.loads(out)
    return found


@asynccontextmanager
async def pair(count: int) -> AsyncIterator[Pair]:
    """Run both over *count* deployments of the caller, and a fifth as many of others."""
    many_files()
    folder = Path(tempfile.mkdtemp(prefix="indaco-bench-"))
    federation = Federation(folder, NO_FEDERATION, {USER: (GROUP,)}, backing=Alone(folder), settings=LIMITS)
    try:
        await federation.prepare()
        owner = Owner(issuer=federation.issuer_url, subject=federation.subject(USER))
        ids = await fill(folder / "data" / "gateway.db", owner, count)
        (folder / "bare").mkdir()
        shutil.copy(folder / "data" / "gateway.db", folder / "bare")
        federation.launch("gateway")
        await federation.ready()
        async with _bare(folder / "bare", federation.issuer_url) as bare:
            gateway = Server(federation.ports["gateway"], federation.processes["gateway"].pid)
            tokens = [await federation.token(USER) for _ in range(TOKENS)]
            yield Pair(gateway, bare, tokens, ids, federation)
    finally:
        await federation.stop()
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def _bare(folder: Path, issuer: str) -> AsyncIterator[Server]:
    (port,) = free_ports(1)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.gateway_bare", str(port), str(folder), issuer, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )  # fmt: skip
    assert process.stdout is not None
    try:
        async with asyncio.timeout(READY_S):
            if not await process.stdout.readline():
                raise RuntimeError("the bare server does not start")
        yield Server(port, process.pid)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def many_files() -> None:
    """Let this process, and those that it starts, have as many open files as is allowed."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
