"""``indaco deployment``: everything that becomes of deployments, once they were asked for."""

from __future__ import annotations

import json
from typing import IO, TYPE_CHECKING, Any

import click

from indaco_client.errors import NotFound
from indaco_client.find import deployment_argument, id_of
from indaco_client.program import call, group_of, output_option, pair, program, timeout_option
from indaco_client.progress import line_of
from indaco_client.tables import clean, show

from .acting import start, stop
from .create import create
from .given import complete, given, input_options
from .shown import own_outputs, show_deployment

if TYPE_CHECKING:
    from indaco_client.client import Client
    from indaco_client.wire import Json

COLUMNS = {
    "id": "id", "name": "name", "status": "status", "group": "group", "provider": "provider", "created": "created_at",
}  # fmt: skip
DELIVERIES = {
    "id": "id",
    "step": "step",
    "state": "state",
    "tries": "tries",
    "status": "status",
    "error": "error",
    "next try": "next_at",
}
_DELETED = frozenset({"DELETE_COMPLETE"})
_STATUSES = tuple(
    f"{what}_{how}" for what in ("CREATE", "UPDATE", "DELETE") for how in ("IN_PROGRESS", "COMPLETE", "FAILED")
)


@click.group()
def deployment() -> None:
    """Create, watch, show, share, stop, start and delete deployments.

    ID is an id, the beginning of one that no other has, or a name.

    Example: indaco deployment create catalogue:virtual-machine --wait
    """


for command in (create, start, stop):
    deployment.add_command(command)


@deployment.command("list")
@click.option("--group", help="Only of this group.")
@click.option("--status", multiple=True, type=click.Choice(_STATUSES, case_sensitive=False), help="May be repeated.")
@click.option("--provider", help="Only at this provider.")
@click.option("--tag", multiple=True, metavar="KEY[=VALUE]", help="Only with this tag. May be repeated: all of them.")
@click.option("--text", help="Only with this in name or id.")
@click.option(
    "--scope", type=click.Choice(["own", "shared", "all"]), default="own", show_default=True,
    help="Whose: yours, those that others share with your groups, or (operators, auditors) everybody's.",
)  # fmt: skip
@click.option("--limit", type=click.IntRange(min=1), help="At most so many.")
@click.option("--all", "with_deleted", is_flag=True, help="Deleted ones too.")
@output_option
def list_deployments(
    *, limit: int | None, with_deleted: bool, output: str, status: tuple[str, ...], **asked: Any
) -> None:
    """List deployments, newest first.

    Example: indaco deployment list --status CREATE_FAILED --tag project=higgs
    """
    filters = {name: value for name, value in asked.items() if value}
    if with_deleted or status:
        filters["status"] = status or _STATUSES

    async def work(client: Client) -> list[Json]:
        found: list[Json] = []
        async for one in client.deployments(**filters):
            found.append(one)
            if len(found) == limit:
                break
        return found

    show(call(work), output, COLUMNS)


@deployment.command("show")
@deployment_argument
@output_option
def show_one(*, id: str, output: str) -> None:
    """Show one deployment, and why it went where it is.

    Example: indaco deployment show my-server
    """

    async def work(client: Client) -> tuple[Json, Json]:
        found = await id_of(client, id)
        return await client.deployment(found), await own_outputs(client, found) if output == "table" else {}

    one, outputs = call(work)
    show_deployment(one, output, outputs)


@deployment.command("wait")
@deployment_argument
@timeout_option
@output_option
def wait_for(*, id: str, timeout: float, output: str) -> None:
    """Wait until nothing is under way; exit code 7 if that takes too long, 8 if it failed.

    Example: indaco deployment wait my-server --timeout 30m
    """

    async def work(client: Client) -> Json:
        found = await id_of(client, id)
        program().goes_on = f"stopped waiting; the deployment goes on: indaco deployment watch {found}"
        return await client.wait(found, timeout_s=timeout)

    show_deployment(call(work), output, {})


@deployment.command("watch")
@deployment_argument
@output_option
def watch(*, id: str, output: str) -> None:
    """Print what happens, from the beginning, as it happens; Ctrl-C to stop.

    With -o json one event a line.

    Example: indaco deployment watch my-server
    """
    program().goes_on = "stopped watching; the deployment goes on"

    async def work(client: Client) -> None:
        async for step in client.events(await id_of(client, id)):
            if output == "json":
                click.echo(json.dumps(step))
            else:
                click.echo(clean(f"{step['at'][:19]}  {step['status']:<19} {step['title']}  {step['detail']}"))

    call(work)


@deployment.command("outputs")
@deployment_argument
@click.argument("name", required=False)
@click.option(
    "-o", "--output", type=click.Choice(["json", "yaml", "table", "csv"]), default="json", show_default=True,
    help="How to print them.",
)  # fmt: skip
def outputs(*, id: str, name: str | None, output: str) -> None:
    """Print the outputs, secret ones too; of one NAME its value alone, as it is.

    Example: indaco deployment outputs my-server node_ip
    """

    async def work(client: Client) -> Json:
        return await client.outputs(await id_of(client, id))

    found = call(work)
    if name is None:
        show(found, output)
    elif name in found:
        value = found[name]
        click.echo(value if isinstance(value, str) else json.dumps(value))
    else:
        raise NotFound(f"there is no output {name}; there are: {', '.join(found) or 'none yet'}")


@deployment.command("log")
@deployment_argument
def log(*, id: str) -> None:
    """Print what happened so far, as text.

    Example: indaco deployment log my-server
    """

    async def work(client: Client) -> list[Json]:
        return await client.timeline(await id_of(client, id))

    for step in call(work):
        click.echo(f"{step['at'][:10]} {line_of(step)}")


@deployment.command("template")
@deployment_argument
def template(*, id: str) -> None:
    """Print the template as it was submitted.

    Example: indaco deployment template my-server
    """

    async def work(client: Client) -> str:
        return await client.template(await id_of(client, id))

    click.echo(call(work), nl=False)


@deployment.command("update")
@deployment_argument
@click.option("--template", "file", type=click.File(), help="Another template; by default the one that it has.")
@input_options
@click.option("--wait/--no-wait", help="Until it is done.")
@timeout_option
@output_option
def update(*, id: str, file: IO[str] | None, wait: bool, timeout: float, output: str, **options: Any) -> None:
    """Change what runs: other inputs, or another template. Inputs that are not named stay as they are.

    `indaco template diff` shows beforehand what a change comes to.

    Example: indaco deployment update my-cluster --set agent_count=4 --wait
    """
    inputs, is_open = given(options)
    if not inputs and file is None:
        raise click.UsageError("say what is to change: --set, --set-json, --set-file, -f or --template")

    async def look(client: Client) -> tuple[str, str]:
        found = await id_of(client, id)
        return found, await client.template(found)

    found, before = call(look)
    text = file.read() if file else None
    complete(text or before, inputs, is_open, asks=False)

    async def work(client: Client) -> Json:
        await client.update(found, inputs, template=text)
        if not wait:
            return await client.deployment(found)
        program().goes_on = f"stopped waiting; the update goes on: indaco deployment watch {found}"
        return await client.wait(found, timeout_s=timeout)

    show_deployment(call(work), output, {})


@deployment.command("delete")
@deployment_argument
@click.option("--force", is_flag=True, help="Give up on what the site does not let us remove; it is listed.")
@click.option("--wait/--no-wait", help="Until it is gone.")
@timeout_option
def delete(*, id: str, force: bool, wait: bool, timeout: float) -> None:
    """Delete a deployment.

    Example: indaco deployment delete my-server --wait
    """

    async def work(client: Client) -> None:
        found = await id_of(client, id)
        await client.delete(found, force=force)
        if wait:
            program().goes_on = f"stopped waiting; the deletion goes on: indaco deployment watch {found}"
            await client.wait(found, timeout_s=timeout, until=_DELETED)

    call(work)
    click.echo("deleted" if wait else "deletion requested")


@deployment.command("callbacks")
@deployment_argument
@output_option
def callbacks(*, id: str, output: str) -> None:
    """List what became of the calls to the address that was given with --callback.

    Example: indaco deployment callbacks my-server
    """

    async def work(client: Client) -> list[Json]:
        return await client.callback_deliveries(await id_of(client, id))

    show(call(work), output, DELIVERIES)


@deployment.command("lock")
@deployment_argument
@click.option("--reason", required=True, help="Why; it is told to whoever wants to change or delete it.")
def lock(*, id: str, reason: str) -> None:
    """Keep a deployment from being changed or deleted.

    Example: indaco deployment lock my-server --reason "results are not copied yet"
    """

    async def work(client: Client) -> None:
        await client.lock(await id_of(client, id), reason)

    call(work)
    click.echo("locked")


@deployment.command("unlock")
@deployment_argument
def unlock(*, id: str) -> None:
    """Let a deployment be changed and deleted again.

    Example: indaco deployment unlock my-server
    """

    async def work(client: Client) -> None:
        await client.unlock(await id_of(client, id))

    call(work)
    click.echo("unlocked")


@deployment.command("share")
@deployment_argument
@click.option("--group", help="A group of yours (INDACO_GROUP).")
@click.option(
    "--access",
    type=click.Choice(["read", "change"]),
    default="read",
    show_default=True,
    help="What its members may do.",
)
@click.option("--stop", is_flag=True, help="Share it no longer.")
def share(*, id: str, group: str | None, access: str, stop: bool) -> None:
    """Let the members of a group see a deployment, or change it too; secrets stay yours.

    Example: indaco deployment share my-server --group cms --access change
    """
    path = group_of(group)
    if path is None:
        raise click.UsageError("say with which group: --group")

    async def work(client: Client) -> None:
        found = await id_of(client, id)
        await (client.unshare(found, path) if stop else client.share(found, path, access))

    call(work)
    click.echo(f"shared with {path} no longer" if stop else f"shared with {path}: {access}")


@deployment.command("tag")
@deployment_argument
@click.argument("tags", metavar="[KEY=VALUE | KEY=]...", nargs=-1, type=pair)
@click.option("--name", help="Give the deployment another name.")
@output_option
def tag(*, id: str, tags: tuple[tuple[str, str], ...], name: str | None, output: str) -> None:
    """Set tags, or the name, of a deployment. `KEY=` removes a tag.

    Example: indaco deployment tag my-server project=higgs --name analysis
    """
    if not tags and name is None:
        raise click.UsageError("give KEY=VALUE, or --name")

    async def work(client: Client) -> Json:
        found = await id_of(client, id)
        return await client.change(found, name=name, tags={key: value or None for key, value in tags})

    one = call(work)
    shown = {"id": one["id"], "name": one["name"], "tags": ", ".join(f"{k}={v}" for k, v in one["tags"].items())}
    show(shown if output == "table" else one, output)
