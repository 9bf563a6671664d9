"""``indaco subscription``: events sent to an address of yours, signed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from indaco_client.find import id_of
from indaco_client.program import call, output_option
from indaco_client.tables import show

if TYPE_CHECKING:
    from indaco_client.client import Client
    from indaco_client.wire import Json

COLUMNS = {
    "id": "id",
    "state": "state",
    "types": "types",
    "url": "url",
    "waiting": "waiting",
    "dead": "dead",
    "reason": "reason",
}
DELIVERIES = {
    "id": "id", "type": "type", "state": "state", "tries": "tries", "status": "status", "error": "error", "next try": "next_at",
}  # fmt: skip
_id = click.argument("id")


@click.group()
def subscription() -> None:
    """Webhooks: events sent to an address of yours.

    What is sent is signed with a secret of the subscription.

    Example: indaco subscription create https://example.org/hook --type "deployment.*"
    """


@subscription.command("list")
@output_option
def list_subscriptions(*, output: str) -> None:
    """List your subscriptions.

    Example: indaco subscription list
    """
    show(call(lambda client: client.subscriptions()), output, COLUMNS)


@subscription.command("show")
@_id
@output_option
def show_one(*, id: str, output: str) -> None:
    """Show a subscription.

    Example: indaco subscription show 0190f7c1-…
    """
    show(call(lambda client: client.subscription(id)), output)


@subscription.command("create")
@click.argument("url")
@click.option(
    "--type",
    "types",
    multiple=True,
    default=("*",),
    show_default=True,
    help="Which events; '*' stands for a word. May be repeated.",
)
@click.option(
    "--scope",
    type=click.Choice(["own", "readable"]),
    default="own",
    show_default=True,
    help="Of your deployments, or of all that you may read.",
)
@click.option("--group", help="Only of this group's deployments.")
@click.option("--deployment", help="Only of this deployment.")
@click.option("--description", help="What it is for.")
@output_option
def create(*, url: str, types: tuple[str, ...], deployment: str | None, output: str, **options: Any) -> None:
    """Let events be sent to URL. The secret that signs them is printed this once.

    Example: indaco subscription create https://example.org/hook --type deployment.failed --description pager
    """
    given = {name: value for name, value in options.items() if value}

    async def work(client: Client) -> Json:
        if deployment:
            given["deployment"] = await id_of(client, deployment)
        return await client.create_subscription(url, types, **given)

    show(call(work), output)


@subscription.command("delete")
@_id
def delete(*, id: str) -> None:
    """Delete a subscription.

    Example: indaco subscription delete 0190f7c1-…
    """
    call(lambda client: client.delete_subscription(id))
    click.echo("deleted")


@subscription.command("pause")
@_id
def pause(*, id: str) -> None:
    """Send nothing, and collect nothing, until it is resumed.

    Example: indaco subscription pause 0190f7c1-…
    """
    call(lambda client: client.pause_subscription(id))
    click.echo("paused")


@subscription.command("resume")
@_id
def resume(*, id: str) -> None:
    """Go on with a subscription that was paused.

    Example: indaco subscription resume 0190f7c1-…
    """
    call(lambda client: client.resume_subscription(id))
    click.echo("resumed")


@subscription.command("rotate-secret")
@_id
@output_option
def rotate(*, id: str, output: str) -> None:
    """Make another secret, and print it this once; the earlier one signs for a while, too.

    Example: indaco subscription rotate-secret 0190f7c1-…
    """
    show(call(lambda client: client.rotate_secret(id)), output, name="secret")


@subscription.command("ping")
@_id
def ping(*, id: str) -> None:
    """Send an event for trying it out; `indaco subscription deliveries` tells what became of it.

    Example: indaco subscription ping 0190f7c1-…
    """
    call(lambda client: client.ping_subscription(id))
    click.echo("queued")


@subscription.command("deliveries")
@_id
@click.option(
    "--state", multiple=True, type=click.Choice(["waiting", "delivered", "dead", "withheld"]), help="May be repeated."
)
@output_option
def deliveries(*, id: str, state: tuple[str, ...], output: str) -> None:
    """List what waits, and the last of what was sent or given up.

    Example: indaco subscription deliveries 0190f7c1-… --state dead
    """
    show(call(lambda client: client.deliveries(id, state=state)), output, DELIVERIES)


@subscription.command("redeliver")
@_id
@click.argument("delivery")
def redeliver(*, id: str, delivery: str) -> None:
    """Send a delivery that was given up again.

    Example: indaco subscription redeliver 0190f7c1-… 5b0c6a7e-…
    """
    call(lambda client: client.redeliver(id, delivery))
    click.echo("queued")


@subscription.command("update")
@_id
@click.option("--url", help="Another address; what waits is sent there.")
@click.option("--type", "types", multiple=True, help="Which events, instead of those so far. May be repeated.")
@click.option("--description", help="What it is for.")
@output_option
def update(*, id: str, types: tuple[str, ...], output: str, **options: Any) -> None:
    """Change a subscription.

    Example: indaco subscription update 0190f7c1-… --type deployment.failed
    """
    changes = {name: value for name, value in options.items() if value is not None}
    if types:
        changes["types"] = list(types)
    if not changes:
        raise click.UsageError("say what is to change: --url, --type or --description")
    show(call(lambda client: client.change_subscription(id, changes)), output)


@subscription.command("callback-secret")
@click.option("--renew", is_flag=True, help="Make one, or another one, and print it this once.")
@output_option
def callback_secret(*, renew: bool, output: str) -> None:
    """Show since when the callbacks of your deployments are signed, or make the secret that signs them.

    Example: indaco subscription callback-secret --renew
    """
    show(
        call(lambda client: client.make_callback_secret() if renew else client.callback_secret()), output, name="secret"
    )
