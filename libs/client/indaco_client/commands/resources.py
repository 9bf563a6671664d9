"""``indaco resource``: the machines of a deployment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from indaco_client.errors import NotFound
from indaco_client.find import deployment_argument, id_of
from indaco_client.program import call, output_option
from indaco_client.tables import show

from .acting import COLUMNS, act, acting_options

if TYPE_CHECKING:
    from indaco_client.client import Client
    from indaco_client.wire import Json


@click.group()
def resource() -> None:
    """The machines, containers and buckets of a deployment.

    Example: indaco resource list my-cluster
    """


@resource.command("list")
@deployment_argument
@output_option
def list_resources(*, id: str, output: str) -> None:
    """List what a deployment has.

    Example: indaco resource list my-cluster
    """

    async def work(client: Client) -> list[Json]:
        return await client.resources(await id_of(client, id))

    show(call(work), output, COLUMNS, name="node")


@resource.command("show")
@deployment_argument
@click.argument("node")
@output_option
def show_one(*, id: str, node: str, output: str) -> None:
    """Show one machine: NODE is its name or its id.

    Example: indaco resource show my-cluster agent-1
    """

    async def work(client: Client) -> Json:
        _, found = await _one(client, id, node)
        return found

    show(call(work), output, name="node")


@resource.command("start")
@deployment_argument
@click.argument("node")
@acting_options
def start(*, id: str, node: str, **options: Any) -> None:
    """Start a machine that was stopped.

    Example: indaco resource start my-cluster agent-1
    """
    act("start", id, (node,), **options)


@resource.command("stop")
@deployment_argument
@click.argument("node")
@acting_options
def stop(*, id: str, node: str, **options: Any) -> None:
    """Stop a machine.

    Example: indaco resource stop my-cluster agent-1 --wait
    """
    act("stop", id, (node,), **options)


async def _one(client: Client, id: str, node: str) -> tuple[str, Json]:
    """Return a deployment's id, and the machine of it that is called *node*. Raises: NotFound."""
    deployment = await id_of(client, id)
    known = await client.resources(deployment)
    for each in known:
        if node in {each["id"], each["node"]}:
            return deployment, each
    names = ", ".join(each["node"] for each in known) or "none"
    raise NotFound(f"there is no machine {node}; there are: {names}", hint=f"indaco resource list {id}")
