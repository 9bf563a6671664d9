"""Servers of a test's own, that it may stop, kill and seal without disturbing anybody."""

import asyncio
import os
import random
import shutil
import socket
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from .worlds import ROOT

SCRIPTS = ROOT / "deploy" / "local"
BLOCK = 40  # ports in a row, as the scripts want them
PROGRAMS = {"rabbitmq": "/usr/lib/rabbitmq/bin/rabbitmq-server", "openbao": "curl"}


def free_block() -> int:
    """Return the first of 40 free ports in a row, below those that the kernel hands out."""
    starts = [start * BLOCK for start in range(500, 780)]
    random.shuffle(starts)
    return next(start for start in starts if all(is_free(port) for port in range(start, start + BLOCK)))


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@dataclass(slots=True)
class OwnServers:
    """A broker and a vault, started by the project's own scripts in a folder and on ports of their own."""

    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="indaco-e2e-", dir="/var/tmp")))
    first_port: int = field(default_factory=free_block)
    before: dict[str, str | None] = field(default_factory=dict)

    async def start(self) -> None:
        """Start both, and name them in the environment; skip where a program is missing."""
        for server, program in PROGRAMS.items():
            if shutil.which(program) is None:
                pytest.skip(f"{server}: {program} is not installed; see deploy/local/{server}.sh")
        self.folder.chmod(0o755)  # the broker has a user of its own
        await asyncio.gather(self.call("rabbitmq", "start"), self.call("openbao", "start"))
        for server in PROGRAMS:
            for line in (await self.call(server, "env")).splitlines():
                name, _, value = line.removeprefix("export ").partition("=")
                self.before.setdefault(name, os.environ.get(name))
                os.environ[name] = value

    async def stop(self) -> None:
        for name, value in self.before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        for server in PROGRAMS:
            await self.call(server, "wipe")
        shutil.rmtree(self.folder, ignore_errors=True)

    async def call(self, server: str, *arguments: str) -> str:
        """Run a script and return what it prints; fail with what it says."""
        mine = {
            "INDACO_LOCAL": str(self.folder), "INDACO_PORTS": str(self.first_port),
            "INDACO_PYTHON": sys.executable,  # it has OpenBao already
        }  # fmt: skip
        process = await asyncio.create_subprocess_exec(
            SCRIPTS / f"{server}.sh", *arguments, env={**os.environ, **mine},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await process.communicate()
        assert process.returncode == 0, f"{server}.sh {arguments}: {err.decode()}"
        return out.decode()
