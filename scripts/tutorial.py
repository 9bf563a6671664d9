"""Make the first deployment as a new user does, with nothing but the commands of the tutorial, and write docs/tutorial.md from what they print.

    tutorial.py [--write] [--simulated]

It starts `indaco run` in a temporary folder, on ports of its own, and plays the browser. The machine is a container where a Docker Engine
has the image indaco/vm:12, and simulated otherwise, or if asked for. Without --write the page is only printed.
"""

import argparse
import asyncio
import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from demo import approve

from indaco_common.launcher.embedded import has_docker
from indaco_common.testing.federation import SERVICES, free_ports

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "tutorial.md"
READY_S, COMMAND_S, STOP_S = 60.0, 180.0, 40.0
USER = "ada"
DEBIAN = ("--set", "os_distribution=debian", "--set", "os_version=12", "--set", "mem_size='1 GB'")
USUAL_PORTS = dict(zip((*SERVICES, "issuer"), range(8080, 8086), strict=True))


@dataclass(frozen=True, slots=True)
class Step:
    """What the page says, the command that follows, and what must be in what it prints; *first*: one of the few that a new user needs."""

    text: str
    command: tuple[str, ...]
    shows: str
    first: bool = False


def steps(*, is_real: bool) -> list[Step]:
    """Return the tutorial; on a real machine it ends with a command that runs there."""
    machine = DEBIAN if is_real else ()
    reach = (
        Step("Log in to it. The address, the port, the account and the key are looked up:", ("ssh", "first", "--", "hostname"), "vnode0", first=True)
        if is_real
        else Step("Where to log in (the machine is simulated: nobody answers there):", ("ssh", "first", "--print"), "ssh://", first=True)
    )  # fmt: skip
    return [
        Step("Sign in: open the address in a browser, log in, and approve the code.", ("login",), "Signed in", first=True),
        Step("Have a key pair made. Its private half stays in the vault.", ("key", "create"), "ssh-ed25519 ", first=True),
        Step(
            "Deploy a machine from the catalogue, and see what happens until it runs:",
            ("deployment", "create", "catalogue:virtual-machine", *machine, "--group", "cms", "--name", "first", "--wait"),
            "CREATE_COMPLETE", first=True,
        ),
        reach,
        Step("What you have, and where it is:", ("deployment", "list"), "first"),
        Step(
            "What another one would come to, where it would go, and why not elsewhere. Nothing is made:",
            ("deployment", "create", "catalogue:virtual-machine", *machine, "--group", "cms", "--dry-run"), "rank",
        ),
        Step("The outputs, for programs:", ("deployment", "outputs", "first", "-o", "json"), "node_ip"),
        Step("Keep it from being deleted by mistake, and let it go again:", ("deployment", "lock", "first", "--reason", "'results not copied'"), "locked"),
        Step("", ("deployment", "unlock", "first"), "unlocked"),
        Step("Delete it. With `--wait` the command ends when nothing is left at the site.", ("deployment", "delete", "first", "--wait"), "deleted"),
        Step("What happened, from the first to the last:", ("deployment", "log", "first"), "Deleted"),
    ]  # fmt: skip


@dataclass(slots=True)
class User:
    """Somebody new, with a home of their own, at a gateway on *ports*."""

    home: Path
    ports: dict[str, int]
    password: str = ""
    browsers: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("INDACO_", "XDG_"))}
        return kept | {
            "HOME": str(self.home), "INDACO_URL": f"http://127.0.0.1:{self.ports['gateway']}", "COLUMNS": "140", "PYTHONUNBUFFERED": "1",
        }  # fmt: skip

    async def types(self, step: Step) -> str:
        """Type a command and return what the screen shows. Raises: SystemExit, if it is not what the page promises."""
        words = shlex.split(" ".join(step.command))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "indaco_client.cli", *words, env=self.environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert process.stdout is not None
        shown = ""
        async with asyncio.timeout(COMMAND_S):
            async for line in process.stdout:
                shown += line.decode()
                if found := re.match(r"Open (\S+)", line.decode()):
                    self.browsers.append(asyncio.create_task(approve(found[1], USER, self.password)))
            code = await process.wait()
            await asyncio.gather(*self.browsers)
        if code or step.shows not in shown:
            raise SystemExit(f"indaco {' '.join(step.command)}: ended with {code}\n{shown}")
        return shown


@contextlib.asynccontextmanager
async def running(folder: Path, *, is_real: bool) -> AsyncIterator[User]:
    """Run Indaco and yield a new user, who knows what `indaco run` has printed."""
    ports = dict(zip(USUAL_PORTS, free_ports(len(USUAL_PORTS)), strict=True))
    home = folder / "home"
    home.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("INDACO_")}
    environment |= {f"INDACO_{name.upper().replace('-', '_')}_PORT": str(port) for name, port in ports.items()}
    environment |= {"INDACO_ORCHESTRATOR_CLAIM_S": "10", "PYTHONUNBUFFERED": "1"}
    if not is_real:
        environment["INDACO_DOCKER_STATE"] = "maintenance"
    out, log = folder / "run.out", folder / "run.log"
    with out.open("wb") as shown, log.open("wb") as logged:
        command = [sys.executable, "-m", "indaco_client.cli", "run", "--data", str(folder / "data")]
        process = await asyncio.create_subprocess_exec(
            *command, env=environment, cwd=folder, stdout=shown, stderr=logged
        )
    try:
        user = User(home, ports)
        async with asyncio.timeout(READY_S):
            while (
                found := re.search(rf"\b{USER} / (\S+?)[,)]", out.read_text())
            ) is None or "Ctrl-C" not in out.read_text():
                if process.returncode is not None:
                    raise SystemExit(log.read_text())
                await asyncio.sleep(0.1)
        user.password = found[1]
        yield user
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.wait(), STOP_S)


async def page(*, is_real: bool) -> str:
    """Do the tutorial and return its page."""
    todo = steps(is_real=is_real)
    first = sum(step.first for step in todo)
    parts = [_head(first, is_real=is_real)]
    with tempfile.TemporaryDirectory(prefix="indaco-tutorial-") as name:
        async with running(Path(name), is_real=is_real) as user:
            for step in todo:
                shown = _usual(await user.types(step), user.ports)
                if not step.first and "## What else" not in parts:
                    parts.append("## What else")
                parts += [step.text] if step.text else []
                parts.append(f"```console\n$ indaco {' '.join(step.command)}\n{shown.rstrip()}\n```")
    parts.append(_TAIL)
    return "\n\n".join(parts)


def _head(first: int, *, is_real: bool) -> str:
    machine = "a container of the local Docker Engine" if is_real else "simulated, since no Docker Engine was there"
    return f"""# Your first deployment

From nothing to a machine in {first} commands. What they print is real: `scripts/tutorial.py` typed them and wrote this page. The machine was {machine}.

In one terminal, start Indaco; it prints the users of its issuer with their passwords:

```console
$ indaco run
```

In another, be `{USER}`:"""


_TAIL = """Commands say more with `--help`; all of them are in the [reference](reference/cli.md). At a gateway elsewhere it is the same, once it has a name:

```console
$ indaco context set work url=https://paas.example.org group=cms
$ indaco context use work
$ indaco login
```
"""


def _usual(text: str, ports: dict[str, int]) -> str:
    """Return a screen with the ports that `indaco run` has by default, and without blanks at the ends of lines."""
    for name, port in ports.items():
        text = text.replace(f"127.0.0.1:{port}", f"127.0.0.1:{USUAL_PORTS[name]}")
    return "\n".join(line.rstrip() for line in text.splitlines())


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write docs/tutorial.md")
    parser.add_argument("--simulated", action="store_true", help="even where there is a Docker Engine")
    asked = parser.parse_args()
    text = await page(is_real=not asked.simulated and await has_docker())
    if asked.write:
        PAGE.write_text(text)
    else:
        print(text)


if __name__ == "__main__":
    asyncio.run(main())
