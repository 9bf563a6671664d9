"""Commands of users: sign in, deployments, keys."""

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from . import login as sessions
from .client import Client
from .errors import NotSignedIn, Unreachable
from .inputs import parse_setting, read_map
from .tables import show, show_deployment
from .wire import Json

T = TypeVar("T")
DEFAULT_URL = "http://127.0.0.1:8080"
_output = click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", help="How to print it.")


def server() -> str:
    """Return the gateway's URL: ``INDACO_URL``, that of the session, or the local one."""
    return os.environ.get("INDACO_URL") or (sessions.load() or {}).get("url") or DEFAULT_URL


async def signed_in() -> str:
    """Return a token that is good now. Raises: NotSignedIn, Unreachable."""
    token = await sessions.token()
    if token is None:
        raise NotSignedIn("you are not signed in", hint="indaco login, or set INDACO_TOKEN")
    return token


def call(work: Callable[[Client], Awaitable[T]]) -> T:
    """Run *work* with a client that is signed in, for as long as it takes."""

    async def main() -> T:
        await signed_in()
        async with Client(server(), signed_in) as client:
            return await work(client)

    return asyncio.run(main())


@click.command("login")
@click.option("--url", help="The gateway (INDACO_URL).")
@click.option("--issuer", help="The OpenID Connect issuer; by default the one that a local `indaco run` brings along.")
def login(url: str | None, issuer: str | None) -> None:
    """Sign in: approve this device in a browser.

    Example: indaco login
    """
    url = url or os.environ.get("INDACO_URL") or DEFAULT_URL
    issuer = issuer or os.environ.get("INDACO_ISSUER") or "http://127.0.0.1:8085"

    def tell(address: str, code: str) -> None:
        click.echo(f"Open {address}\nand approve the code {code}")

    sessions.save(asyncio.run(sessions.sign_in(issuer, url, tell)))
    click.echo(f"Signed in at {url}")


@click.command("logout")
def logout() -> None:
    """Forget the session of this machine.

    Example: indaco logout
    """
    sessions.forget()
    click.echo("Signed out")


@click.group()
def deployment() -> None:
    """Create, watch, show and delete deployments."""


@deployment.command("create")
@click.argument("template")
@click.option(
    "--set", "settings", multiple=True, metavar="NAME=VALUE", help="An input; VALUE is read as YAML. May be repeated."
)
@click.option("-f", "--inputs", type=click.File(), help="A YAML or JSON file with inputs.")
@click.option("--group", help="The group to act for, if you are in several.")
@click.option("--wait/--no-wait", help="Show what happens until it runs or failed.")
@click.option("--timeout", default=3600.0, show_default=True, help="How long to wait, in seconds.")
@_output
def create(
    template: str, settings: tuple[str, ...], inputs: Any, group: str | None, wait: bool, timeout: float, output: str
) -> None:
    """Deploy TEMPLATE: a file, or catalogue:NAME[@VERSION].

    Example: indaco deployment create catalogue:virtual-machine --set num_cpus=2 --group cms --wait
    """
    parameters = read_map(inputs) if inputs else {}
    parameters |= dict(parse_setting(setting) for setting in settings)
    text = template if template.startswith("catalogue:") else _text_of(template)

    async def work(client: Client) -> Json:
        made = await client.create(text, parameters, group=group)
        for warning in made.get("warnings", ()):
            click.echo(f"warning: {warning}", err=True)
        if not wait:
            return made
        click.echo(f"deployment {made['uuid']}", err=True)
        end = time.monotonic() + timeout
        await follow(client, made["uuid"], timeout)
        return await client.wait(made["uuid"], timeout_s=max(0.0, end - time.monotonic()))

    show_deployment(call(work), output)


def _text_of(template: str) -> str:
    """Raises: click.UsageError."""
    try:
        return Path(template).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"{template}: {getattr(error, 'strerror', None) or 'is not UTF-8 text'}") from None


async def follow(client: Client, id: str, timeout_s: float) -> None:
    """Print the timeline as it grows, until nothing is under way; whoever called waits, should the stream fail."""
    try:
        async with asyncio.timeout(timeout_s):
            async for step in client.events(id):
                detail = f": {step['detail']}" if step["detail"] else ""
                click.echo(f"{step['at'][11:19]}  {step['title']}{detail}", err=True)
                if not step["status"].endswith("IN_PROGRESS"):
                    return
    except (TimeoutError, Unreachable):
        return


_id = click.argument("id")


@deployment.command("list")
@click.option("--group", help="Only of this group.")
@click.option("--all", "with_deleted", is_flag=True, help="Deleted ones too.")
@_output
def list_deployments(group: str | None, with_deleted: bool, output: str) -> None:
    """List your deployments, newest first.

    Example: indaco deployment list -o json
    """
    filters = {"excludedStatus": "NONE" if with_deleted else "DELETE_COMPLETE"} | (
        {"userGroup": group} if group else {}
    )

    async def work(client: Client) -> list[Json]:
        return [one async for one in client.deployments(**filters)]

    columns = {
        "id": "uuid",
        "status": "status",
        "group": "userGroup",
        "provider": "cloudProviderName",
        "created": "creationTime",
    }
    show(call(work), output, columns)


@deployment.command("show")
@_id
@_output
def show_one(id: str, output: str) -> None:
    """Show one deployment, and why it went where it is.

    Example: indaco deployment show 0190f7c1-…
    """
    show_deployment(call(lambda client: client.deployment(id)), output)


@deployment.command("wait")
@_id
@click.option("--timeout", default=3600.0, show_default=True, help="In seconds.")
@_output
def wait_for(id: str, timeout: float, output: str) -> None:
    """Wait until nothing is under way; exit code 7 if that takes too long, 8 if it failed.

    Example: indaco deployment wait 0190…
    """
    show_deployment(call(lambda client: client.wait(id, timeout_s=timeout)), output)


@deployment.command("watch")
@_id
def watch(id: str) -> None:
    """Print what happens, from the beginning, as it happens; Ctrl-C to stop.

    Example: indaco deployment watch 0190…
    """

    async def work(client: Client) -> None:
        async for step in client.events(id):
            click.echo(f"{step['at'][:19]}  {step['status']:<19} {step['title']}  {step['detail']}")

    try:
        call(work)
    except KeyboardInterrupt:
        click.echo("stopped watching; the deployment goes on", err=True)
        sys.exit(130)


@deployment.command("outputs")
@_id
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="json", help="How to print it.")
def outputs(id: str, output: str) -> None:
    """Print the outputs, secret ones too.

    Example: indaco deployment outputs 0190…
    """
    show(call(lambda client: client.outputs(id)), output)


@deployment.command("log")
@_id
def log(id: str) -> None:
    """Print the timeline as text.

    Example: indaco deployment log 0190…
    """
    click.echo(call(lambda client: client.log(id)))


@deployment.command("template")
@_id
def template(id: str) -> None:
    """Print the template as it was submitted.

    Example: indaco deployment template 0190…
    """
    click.echo(call(lambda client: client.template(id)), nl=False)


@deployment.command("delete")
@_id
@click.option("--force", is_flag=True, help="Give up on what the site does not let us remove; it is listed.")
@click.option("--wait/--no-wait", help="Until it is gone.")
@click.option("--timeout", default=3600.0, show_default=True, help="How long to wait, in seconds.")
def delete(id: str, force: bool, wait: bool, timeout: float) -> None:
    """Delete a deployment.

    Example: indaco deployment delete 0190… --wait
    """

    async def work(client: Client) -> None:
        await client.delete(id, force=force)
        if wait:
            await client.wait(id, timeout_s=timeout, until=frozenset({"DELETE_COMPLETE"}))

    call(work)
    click.echo("deleted" if wait else "deletion requested")


@click.group()
def key() -> None:
    """SSH keys: they are put on the machines that you deploy."""


@key.command("list")
@_output
def list_keys(output: str) -> None:
    """List your keys.

    Example: indaco key list
    """
    show(
        call(lambda client: client.keys()),
        output,
        {"name": "name", "fingerprint": "fingerprint", "made here": "generated"},
    )


@key.command("create")
@click.argument("name", default="default")
def create_key(name: str) -> None:
    """Make an Ed25519 pair; its private half stays in the vault.

    Example: indaco key create laptop
    """
    click.echo(call(lambda client: client.create_key(name))["public_key"])


@key.command("add")
@click.argument("file", type=click.File())
@click.option("--name", default="default", show_default=True)
def add_key(file: Any, name: str) -> None:
    """Use a public key of your own.

    Example: indaco key add ~/.ssh/id_ed25519.pub --name laptop
    """
    line = file.read()
    if "PRIVATE KEY" in line:
        raise click.UsageError(
            f"{file.name} is a private key; it stays with you. Give its public half: {file.name}.pub"
        )
    click.echo(call(lambda client: client.create_key(name, line))["fingerprint"])


@key.command("reveal")
@click.argument("name", default="default")
def reveal_key(name: str) -> None:
    """Print the private half of a pair that was made here.

    Example: (umask 077; indaco key reveal > id)
    """
    click.echo(call(lambda client: client.reveal_key(name)), nl=False)


@key.command("delete")
@click.argument("name")
def delete_key(name: str) -> None:
    """Delete a key; machines keep what they have.

    Example: indaco key delete laptop
    """
    call(lambda client: client.delete_key(name))
    click.echo("deleted")


COMMANDS = (login, logout, deployment, key)
