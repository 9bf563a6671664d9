"""A federation of real processes for demonstrations, end-to-end tests, chaos and benchmarks: started, killed, started again."""

import asyncio
import json
import os
import secrets as random
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import aiohttp
from aiohttp import web

from indaco_common import issuer as oidc
from indaco_common.errors import Unavailable

from .backing import RealBacking

SERVICES = ("gateway", "sla", "orchestrator", "vault-broker", "accounting")
ALL = "all"  # the one process of the embedded mode
AUDIENCE = "indaco"
READY_S = 60.0
LOWEST_PORT, HIGHEST_PORT = 10_000, 19_900


class MemoryKeys:
    """Signing keys of an issuer that lives as long as its process."""

    def __init__(self) -> None:
        self._jwks: str | None = None

    async def load(self) -> str | None:
        return self._jwks

    async def save(self, jwks_json: str) -> None:
        self._jwks = jwks_json


def free_ports(count: int, *, in_a_row: int = 1) -> list[int]:
    """Return *count* ports of the loopback that nobody uses at this moment, each the first of so many *in_a_row*.

    They lie below those that the kernel gives to outgoing connections: such a one could take the port of a process that was killed
    before it is started again, and a client that tries to reach the dead one can even connect to itself.
    """
    found: list[int] = []
    while len(found) < count:
        first = LOWEST_PORT + random.randbelow(HIGHEST_PORT - LOWEST_PORT)
        if all(abs(first - other) >= in_a_row for other in found) and all(
            map(_is_free, range(first, first + in_a_row))
        ):
            found.append(first)
    return found


def _is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


@dataclass(slots=True)
class Federation:
    """*folder* holds its data and logs; *federation* is the text of its federation file, with ``${INDACO_ISSUER}`` for the issuer.

    *backing* None is the embedded mode: one process. Otherwise one process a service. The issuer runs in the caller's process, so
    that tokens can be made while everything else is down.
    """

    folder: Path
    federation: str
    users: Mapping[str, tuple[str, ...]]  # name → groups; the password is the name and "-password"
    backing: RealBacking | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    issuer: oidc.Issuer | None = None
    _runner: web.AppRunner | None = None
    _logs: list[IO[bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports['gateway']}"

    @property
    def issuer_url(self) -> str:
        return f"http://127.0.0.1:{self.ports['issuer']}"

    @property
    def units(self) -> tuple[str, ...]:
        """The processes: what can be started and killed."""
        return SERVICES if self.backing else (ALL,)

    @property
    def sites(self) -> Path:
        """The folder of the simulated sites."""
        return self.folder / "simulated"

    async def prepare(self) -> None:
        """Make everything that processes need; start none yet."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.ports = dict(zip((*SERVICES, "issuer"), free_ports(len(SERVICES) + 1), strict=True))
        await self._start_issuer()
        (self.folder / "federation.yaml").write_text(self.federation)
        if self.backing is not None:
            await self.backing.start()
            await self.operate("topology", "apply")

    async def start(self) -> None:
        """Prepare, start every process and wait until all are ready."""
        await self.prepare()
        for unit in self.units:
            self.launch(unit)
        await self.ready()

    def launch(self, unit: str) -> None:
        """Start one process; it need not be ready yet."""
        log = (self.folder / f"{unit}.log").open("ab")
        self._logs.append(log)
        command = [sys.executable, "-m", "indaco_client.cli", "run", *([unit] if self.backing else [])]
        environment = self.environment(unit)
        self.processes[unit] = subprocess.Popen(  # noqa: S603 - our own interpreter
            command, env=environment, stdout=log, stderr=log, start_new_session=True
        )

    def kill(self, unit: str) -> None:
        """SIGKILL one process, in the middle of whatever it does."""
        process = self.processes.pop(unit)
        process.kill()
        process.wait()

    async def terminate(self, unit: str, timeout_s: float = 45.0) -> int:
        """SIGTERM one process and return its exit code."""
        process = self.processes.pop(unit)
        process.send_signal(signal.SIGTERM)
        try:
            return await asyncio.to_thread(process.wait, timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            return await asyncio.to_thread(process.wait)

    async def ready(self, timeout_s: float = READY_S) -> None:
        """Wait until every process that was started says so. Raises: Unavailable, with the end of its log."""
        services = SERVICES if self.backing is None else tuple(self.processes)
        async with aiohttp.ClientSession() as http:
            for service in services:
                await self._ready(http, service, timeout_s)

    async def _ready(self, http: aiohttp.ClientSession, service: str, timeout_s: float) -> None:
        unit = service if self.backing else ALL
        end = asyncio.get_running_loop().time() + timeout_s
        while not await _answers(http, f"http://127.0.0.1:{self.ports[service]}/readyz"):
            process = self.processes.get(unit)
            if process is None or process.poll() is not None or asyncio.get_running_loop().time() > end:
                tail = (self.folder / f"{unit}.log").read_text(errors="replace")[-3000:]
                raise Unavailable(f"{unit} is not ready: {tail}")
            await asyncio.sleep(0.05)

    async def stop(self) -> None:
        """Stop every process, the issuer and what the backing made."""
        await asyncio.gather(*(self.terminate(unit) for unit in list(self.processes)))
        for log in self._logs:
            log.close()
        if self._runner is not None:
            await self._runner.cleanup()
        if self.backing is not None:
            await self.backing.stop()

    async def token(self, user: str, *, lifetime_s: int = 3600) -> str:
        """Return an access token of *user*, as after a login."""
        assert self.issuer is not None
        scopes = ("openid", "profile", "email", "offline_access", "groups")
        return self.issuer.issue_token(self.subject(user), self.users[user], scopes=scopes, lifetime_s=lifetime_s)

    def subject(self, user: str) -> str:
        """Return the user's ``sub``."""
        return oidc.User(username=user, password_hash="").subject

    def environment(self, unit: str) -> dict[str, str]:
        """Return the environment of one process; nothing of the caller's own settings gets in."""
        mine = {name: value for name, value in os.environ.items() if not name.startswith("INDACO_")}
        ports = {f"INDACO_{s.upper().replace('-', '_')}_PORT": str(self.ports[s]) for s in SERVICES}
        trusted = [{"issuer": self.issuer_url, "audiences": [AUDIENCE], "allow_http": True}]
        common = {
            "INDACO_DATA": str(self.folder / "data"),
            "INDACO_ISSUER": self.issuer_url,
            "INDACO_SIMULATED": str(self.sites),
            "INDACO_GATEWAY_ISSUERS": json.dumps(trusted),
            "INDACO_GATEWAY_ADMIN_GROUPS": '["indaco-admins"]',
            "INDACO_SLA_FEDERATION": str(self.folder / "federation.yaml"),
        }
        return {**mine, **common, **ports, **(self.backing.environment(unit) if self.backing else {}), **self.settings}

    async def operate(self, *arguments: str) -> str:
        """Run an operator's command and return what it prints. Raises: Unavailable, if it fails."""
        environment = self.environment(SERVICES[0])
        if self.backing is not None:
            environment |= self.backing.admin_environment()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "indaco_client.cli", *arguments, env=environment,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        out, err = await process.communicate()
        if process.returncode:
            raise Unavailable(f"indaco {' '.join(arguments)}: {err.decode(errors='replace')[-2000:]}")
        return out.decode()

    async def _start_issuer(self) -> None:
        users = tuple(
            oidc.User(username=name, password_hash=oidc.hash_password(f"{name}-password"), name=name, groups=groups)
            for name, groups in self.users.items()
        )
        grants: tuple[oidc.Grant, ...] = ("authorization_code", oidc.DEVICE_CODE, "refresh_token")
        client = oidc.Client(client_id="indaco", grants=grants, redirect_uris=("http://127.0.0.1/callback",))
        config = oidc.IssuerConfig(
            issuer=self.issuer_url, audiences=(AUDIENCE,), users=users, clients=(client,), device_interval_s=1
        )
        app = oidc.create_app(config, MemoryKeys())
        self.issuer = app[oidc.ISSUER]
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.ports["issuer"]).start()


async def _answers(http: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with http.get(url, timeout=aiohttp.ClientTimeout(total=5)) as answer:
            return answer.status == 200  # noqa: PLR2004
    except (aiohttp.ClientError, TimeoutError):
        return False
