"""``indaco ssh``: to a machine of a deployment, with the right address, port, account and key."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from indaco_client.config import folder
from indaco_client.errors import IndacoClientError, Refused
from indaco_client.find import deployment_argument, id_of
from indaco_client.machines import Target, target
from indaco_client.program import call

if TYPE_CHECKING:
    from indaco_client.client import Client

_COMMAND = "indaco.command"
_CONNECT_S = 30  # the system's own time-out is minutes, or none


class _Ssh(click.Command):
    """Takes what stands behind ``--`` as the command to run there, whatever it looks like."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--" in args:
            at = args.index("--")
            ctx.meta[_COMMAND], args = args[at + 1 :], args[:at]
        return super().parse_args(ctx, args)


@click.command("ssh", cls=_Ssh)
@deployment_argument
@click.argument("node", required=False)
@click.option("-l", "--user", help="The account; by default the one that the outputs name.")
@click.option(
    "-p", "--port", type=click.IntRange(1, 65_535), help="The port; by default the one that the outputs name, else 22."
)
@click.option("-i", "--identity", type=click.Path(exists=True, dir_okay=False), help="A private key of your own.")
@click.option("--key", "key_name", default="default", show_default=True, help="The key that was made here.")
@click.option("--print", "is_shown", is_flag=True, help="Print where to, as ssh://user@host:port; do not connect.")
def ssh(
    *, id: str, node: str | None, user: str | None, port: int | None, identity: str | None, key_name: str, is_shown: bool
) -> None:  # fmt: skip
    """Connect to a machine of a deployment by SSH.

    NODE is a machine's name, if there are several (`indaco resource list ID`). COMMAND stands behind `--`. A key that was made here
    is fetched for the time of the connection into a file that nobody else can read. Ends with the exit code of ssh.

    \b
    Examples:
      indaco ssh my-server
      indaco ssh my-cluster agent-1 -- uptime
    """  # noqa: D301 - click's mark for a paragraph that is not to be wrapped
    words: list[str] = click.get_current_context().meta.get(_COMMAND, [])

    async def look(client: Client) -> tuple[str, Target, str]:
        found = await id_of(client, id)
        where = target(await client.outputs(found), await client.resources(found), node)
        private = "" if identity or is_shown else await _private_key(client, key_name)
        if not is_shown and (await client.deployment(found)).get("simulated"):
            click.echo("the machine is simulated: nobody may answer there", err=True)
        return found, where, private

    found, where, private = call(look)
    where = replace(where, user=user or where.user, port=port or where.port)
    if is_shown:
        click.echo(f"ssh://{where.user + '@' if where.user else ''}{where.host}:{where.port}")
        return
    with _kept(private) as file:
        sys.exit(_run(found, where, words, identity or file))


async def _private_key(client: Client, name: str) -> str:
    """Return the private half of a key that was made here; nothing, if there is none: then ssh looks for the user's own."""
    if not any(key["name"] == name and key.get("generated") and key.get("ready") for key in await client.keys()):
        return ""
    return await client.reveal_key(name)


@contextmanager
def _kept(private: str) -> Iterator[str | None]:
    """Keep a private key in a file of mode 0600, in memory where the system has such a place, as long as it is used."""
    if not private:
        yield None
        return
    memory = os.environ.get("XDG_RUNTIME_DIR")
    place = tempfile.mkdtemp(
        prefix="indaco-ssh-", dir=memory if memory and Path(memory).is_dir() else None
    )  # mode 0700
    try:
        file = Path(place) / "key"
        file.touch(mode=0o600)
        file.write_text(private)
        yield str(file)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _run(deployment: str, where: Target, words: list[str], key: str | None) -> int:
    """Run ssh until it ends and return its exit code. Raises: IndacoClientError, if there is none."""
    program = shutil.which("ssh")
    if program is None:
        raise IndacoClientError(
            "there is no ssh program on this machine", hint="install OpenSSH's client, or use --print"
        )
    known = folder() / "known_hosts"
    known.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    options = [
        "-p", str(where.port), "-o", f"UserKnownHostsFile={known}", "-o", f"HostKeyAlias={deployment}-{where.node or where.host}",
        "-o", f"ConnectTimeout={_CONNECT_S}",
        "-o", "StrictHostKeyChecking=accept-new",  # addresses are used again by other machines: the name here is the deployment's
        *(["-i", key, "-o", "IdentitiesOnly=yes"] if key else []), *(["-l", where.user] if where.user else []),
    ]  # fmt: skip
    if any("\n" in option for option in options):
        raise Refused("a path with a line end in it cannot be given to ssh")
    before = {number: signal.signal(number, _leave_to_ssh) for number in (signal.SIGINT, signal.SIGQUIT)}
    try:
        return subprocess.run([program, *options, "--", where.host, *words], check=False).returncode  # noqa: S603
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave_to_ssh(_: int, __: object) -> None:
    """Keys that interrupt are for the machine at the other end; a handler, since ssh would inherit that they are ignored."""
