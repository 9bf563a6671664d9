"""``indaco deployment stop`` and ``start``, and the same of ``indaco resource``: machines that stand still, and run again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from indaco_client.find import deployment_argument, id_of
from indaco_client.machines import ON_ITS_WAY
from indaco_client.program import call, output_option, program, timeout_option
from indaco_client.progress import follow_machines
from indaco_client.tables import show

if TYPE_CHECKING:
    from indaco_client.client import Client
    from indaco_client.wire import Json

COLUMNS = {"node": "node", "state": "state", "address": "public_address", "type": "type", "id": "id"}


def acting_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add what every command that starts or stops machines takes."""
    wait = click.option("--wait/--no-wait", help="Until they are; exit code 8 if one could not be.")
    return wait(timeout_option(output_option(command)))


nodes_argument = click.argument("nodes", metavar="[NODE]...", nargs=-1)


@click.command("stop")
@deployment_argument
@nodes_argument
@acting_options
def stop(*, id: str, nodes: tuple[str, ...], **options: Any) -> None:
    """Stop machines of a deployment: the named ones (`indaco resource list ID`), or all.

    They keep their place, their quota and their disks.

    Example: indaco deployment stop my-cluster agent-1 --wait
    """
    act("stop", id, nodes, **options)


@click.command("start")
@deployment_argument
@nodes_argument
@acting_options
def start(*, id: str, nodes: tuple[str, ...], **options: Any) -> None:
    """Start machines of a deployment that were stopped: the named ones, or all. Their addresses may be others then.

    Example: indaco deployment start my-cluster --wait
    """
    act("start", id, nodes, **options)


def act(action: str, id: str, nodes: tuple[str, ...], *, wait: bool, timeout: float, output: str) -> None:
    """Have machines started or stopped, and print them."""

    async def work(client: Client) -> list[Json]:
        found = await id_of(client, id)
        steps = await client.timeline(found) if wait else []
        machines = await client.act(found, action, nodes or None)
        if not wait:
            return machines
        program().goes_on = f"stopped waiting; the machines go on: indaco resource list {found}"
        names = [machine["node"] for machine in machines]
        if any(machine["state"] in ON_ITS_WAY for machine in machines):
            await follow_machines(client, found, {*names}, steps[-1]["number"] if steps else 0, timeout)
        return await client.wait_for_action(found, action, names, timeout_s=timeout)

    show(call(work), output, COLUMNS, name="node")
