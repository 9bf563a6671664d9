"""SSH keys."""

from typing import IO

import click

from indaco_client.program import call, output_option
from indaco_client.tables import show


@click.group()
def key() -> None:
    """SSH keys: they are put on the machines that you deploy.

    Example: indaco key create
    """


@key.command("list")
@output_option
def list_keys(*, output: str) -> None:
    """List your keys.

    Example: indaco key list
    """
    columns = {"name": "name", "fingerprint": "fingerprint", "made here": "generated"}
    show(call(lambda client: client.keys()), output, columns, name="name")


@key.command("create")
@click.argument("name", default="default")
def create_key(*, name: str) -> None:
    """Make an Ed25519 pair; its private half stays in the vault.

    Example: indaco key create laptop
    """
    click.echo(call(lambda client: client.create_key(name))["public_key"])


@key.command("add")
@click.argument("file", type=click.File())
@click.option("--name", default="default", show_default=True)
def add_key(*, file: IO[str], name: str) -> None:
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
def reveal_key(*, name: str) -> None:
    """Print the private half of a pair that was made here.

    Example: (umask 077; indaco key reveal > id)
    """
    click.echo(call(lambda client: client.reveal_key(name)), nl=False)


@key.command("delete")
@click.argument("name")
def delete_key(*, name: str) -> None:
    """Delete a key; machines keep what they have.

    Example: indaco key delete laptop
    """
    call(lambda client: client.delete_key(name))
    click.echo("deleted")
