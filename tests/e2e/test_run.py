"""`indaco run`, typed by a person with nothing but the package: where to go, how to sign in, what stays and what does not."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio

from indaco_common.secrets.child import ProcessId
from indaco_common.testing.federation import SERVICES, free_ports

from .worlds import ROOT, approve, until

TEMPLATE = ROOT / "examples" / "templates" / "virtual-machine.yaml"
STOP_S = 40.0


@dataclass(slots=True)
class Shell:
    """A person's shell, with folders and ports of its own."""

    folder: Path
    ports: Mapping[str, int] = field(
        default_factory=lambda: dict(zip((*SERVICES, "issuer"), free_ports(6), strict=True))
    )
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("INDACO_")}
        ports = {f"INDACO_{name.upper().replace('-', '_')}_PORT": str(port) for name, port in self.ports.items()}
        mine = {
            "TMPDIR": str(self.folder / "tmp"), "INDACO_SESSION": str(self.folder / "session.json"),
            "INDACO_URL": f"http://127.0.0.1:{self.ports['gateway']}", "INDACO_ISSUER": f"http://127.0.0.1:{self.ports['issuer']}",
            "INDACO_ORCHESTRATOR_CLAIM_S": "3",
        }  # fmt: skip
        return {**kept, **ports, **mine}

    def run(self, *arguments: str, name: str = "run") -> subprocess.Popen[bytes]:
        """Start `indaco run`; what it prints goes to <name>.out, its log to <name>.log."""
        environment = self.environment
        del environment["INDACO_ISSUER"]  # that of the services; it is told who it is
        with (self.folder / f"{name}.out").open("wb") as out, (self.folder / f"{name}.log").open("ab") as log:
            command = [sys.executable, "-m", "indaco_client.cli", "run", *arguments]
            process = subprocess.Popen(command, env=environment, cwd=self.folder, stdout=out, stderr=log)
        self.started.append(process)
        return process

    async def printed(self, process: subprocess.Popen[bytes], name: str = "run") -> str:
        """Return what it has printed, once it says that it is ready."""
        file = self.folder / f"{name}.out"

        async def is_ready() -> bool:
            assert process.poll() is None, (self.folder / f"{name}.log").read_text()
            return "Ctrl-C" in file.read_text()

        await until(is_ready, within_s=60)
        return file.read_text()

    async def indaco(self, *arguments: str, told: Callable[[str], None] | None = None) -> tuple[int, str]:
        """Type a command; return its exit code and all that it printed."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-u", "-m", "indaco_client.cli", *arguments, env=self.environment, cwd=self.folder,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert process.stdout is not None
        lines = []
        async for line in process.stdout:
            lines.append(line.decode())
            if told is not None:
                told(lines[-1])
        return await process.wait(), "".join(lines)

    async def stop(self, process: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> int:
        process.send_signal(number)
        return await asyncio.to_thread(process.wait, STOP_S)

    def vault(self, data: str) -> ProcessId:
        place = json.loads((self.folder / data / "vault" / "vault.json").read_text())
        return ProcessId(place["pid"], place["started"])


@pytest_asyncio.fixture
async def shell(tmp_path: Path) -> AsyncIterator[Shell]:
    (tmp_path / "tmp").mkdir()
    shell = Shell(tmp_path)
    yield shell
    for process in shell.started:
        if process.poll() is None:
            await shell.stop(process)


async def signed_in(shell: Shell, printed: str, user: str) -> None:
    """Sign in with what `indaco run` has printed and nothing else."""
    password = re.search(rf"\b{user} / (\S+?)[,)]", printed)
    assert password is not None, printed
    browsers: list[asyncio.Task[None]] = []

    def open_browser(line: str) -> None:
        if line.startswith("Open "):
            browsers.append(asyncio.create_task(approve(line.split()[1], user, password[1])))

    code, said = await shell.indaco("login", told=open_browser)
    await asyncio.gather(*browsers)
    assert code == 0, said


async def test_one_command_brings_all_that_a_person_needs_and_data_outlive_it(shell: Shell) -> None:
    process = shell.run("--data", "kept")
    printed = await shell.printed(process)
    assert f"http://127.0.0.1:{shell.ports['gateway']}" in printed
    assert f"indaco login --url http://127.0.0.1:{shell.ports['gateway']}" in printed
    await signed_in(shell, printed, "ada")
    code, said = await shell.indaco("deployment", "create", str(TEMPLATE), "--group", "cms", "--wait", "-o", "json")
    assert code == 0, said
    made = json.loads(said[said.index("{") :])
    assert made["status"] == "CREATE_COMPLETE"
    assert await shell.stop(process, signal.SIGINT) == 0

    again = shell.run("--data", "kept")
    assert await shell.printed(again) == printed  # the same users with the same passwords
    code, said = await shell.indaco("deployment", "show", made["id"], "-o", "json")
    assert (code, json.loads(said)["provider"]) == (0, made["provider"])
    assert (await shell.indaco("deployment", "delete", made["id"], "--wait"))[0] == 0
    vault = shell.vault("kept")
    assert await shell.stop(again) == 0
    assert not vault.is_running()
    assert (shell.folder / "kept").stat().st_mode & 0o077 == 0


async def test_ephemeral_leaves_nothing(shell: Shell) -> None:
    process = shell.run("--ephemeral")
    printed = await shell.printed(process)
    [folder] = (shell.folder / "tmp").iterdir()
    assert str(folder) in printed
    vault = shell.vault(f"tmp/{folder.name}")
    assert vault.is_running()
    assert await shell.stop(process) == 0
    assert list((shell.folder / "tmp").iterdir()) == []
    assert not vault.is_running()
    assert not (shell.folder / "data").exists()


async def test_one_that_cannot_start_says_why_and_one_that_was_killed_leaves_its_vault_to_the_next(
    shell: Shell,
) -> None:
    process = shell.run("--data", "kept")
    await shell.printed(process)
    vault = shell.vault("kept")
    same_folder, same_port = Shell(shell.folder), Shell(shell.folder, {**shell.ports, "issuer": free_ports(1)[0]})
    first, second = same_folder.run("--data", "kept", name="first"), same_port.run("--data", "other", name="second")
    assert await asyncio.to_thread(first.wait, 60) == 1
    assert await asyncio.to_thread(second.wait, 60) == 1
    told = (shell.folder / "first.log").read_text()
    assert "is used by another `indaco run`" in told
    assert "Traceback" not in told
    last = (shell.folder / "second.log").read_text().splitlines()[-1]
    assert "address already in use" in last
    assert "_PORT" in last
    assert not same_port.vault("other").is_running()
    assert process.poll() is None

    assert await shell.stop(process, signal.SIGKILL) == -signal.SIGKILL
    assert vault.is_running()
    again = shell.run("--data", "kept")
    await shell.printed(again)
    assert shell.vault("kept") == vault
    assert await shell.stop(again) == 0
    assert not vault.is_running()


@pytest.mark.parametrize("moment_s", [1.0, 2.5])
async def test_a_stop_in_the_middle_of_the_start_is_heeded(shell: Shell, moment_s: float) -> None:
    process = shell.run("--data", "kept")
    await asyncio.sleep(moment_s)
    assert await shell.stop(process) in (0, -signal.SIGTERM)  # before the program can handle it, it is the system's
    if (shell.folder / "kept" / "vault" / "vault.json").exists():
        assert not shell.vault("kept").is_running()
