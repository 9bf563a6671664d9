"""``indaco deployment create``: inputs from files, options and answers; what would be done, or doing it, and waiting for it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from indaco_client.program import call, group_of, group_option, output_option, pair, program, timeout_option
from indaco_client.progress import follow

from .given import CATALOGUE, complete, given, input_options, is_interactive
from .shown import own_outputs, show_deployment, show_plan

if TYPE_CHECKING:
    from indaco_client.client import Client
    from indaco_client.wire import Json


@click.command("create")
@click.argument("template")
@input_options
@group_option
@click.option("--name", help="A name of your own for it.")
@click.option("--tag", "tags", multiple=True, type=pair, metavar="KEY=VALUE", help="A tag. May be repeated.")
@click.option("--callback", metavar="URL", help="Where to POST what becomes of it.")
@click.option("--dry-run", is_flag=True, help="Show what would be created, where, and why not elsewhere; nothing is.")
@click.option(
    "--ask", is_flag=True, help="Ask for all inputs that are not given, not only for those without a default."
)
@click.option("--no-input", is_flag=True, help="Ask for nothing, also on a terminal.")
@click.option("--wait/--no-wait", help="Show what happens until it runs or failed.")
@timeout_option
@click.option("--idempotency-key", metavar="KEY", help="Of several calls with the same KEY only one creates something.")
@output_option
def create(*, template: str, dry_run: bool, wait: bool, timeout: float, output: str, **options: Any) -> None:
    """Deploy TEMPLATE: a file, or catalogue:NAME[@VERSION].

    On a terminal you are asked for inputs that are missing. Secret inputs come from a file, from standard input or from your answer:
    on a command line others of the machine could see them.

    \b
    Examples:
      indaco deployment create catalogue:virtual-machine --set num_cpus=2 --group cms --wait
      indaco deployment create my.yaml -f inputs.yaml --set-file service_token=token.txt --dry-run
    """  # noqa: D301 - click's mark for a paragraph that is not to be wrapped
    text = template if template.startswith(CATALOGUE) else _text_of(template)
    inputs, is_open = given(options)
    group = group_of(options["group"])
    asks = options["ask"] or (is_interactive() and not options["no_input"])
    complete(text, inputs, is_open, asks=asks, everything=options["ask"])
    group = group or (_chosen_group() if asks else None)

    async def work(client: Client) -> tuple[Json, Json]:
        if dry_run:
            return await client.plan(text, inputs, group=group), {}
        more = {key: options[key] for key in ("name", "callback") if options[key]}
        if options["tags"]:
            more["tags"] = dict(options["tags"])
        program().goes_on = "stopped; it may have been created: indaco deployment list"
        made = await client.create(text, inputs, group=group, idempotency_key=options["idempotency_key"], **more)
        _warn(made)
        if not wait:
            return made, {}
        done = await _waited(client, made["id"], timeout)
        return done, await own_outputs(client, done["id"]) if output == "table" else {}

    found, outputs = call(work)
    if dry_run:
        _warn(found["plan"])
        show_plan(found, output)
    else:
        show_deployment(found, output, outputs)


def _chosen_group() -> str | None:
    """Ask which group to act for, if there is a choice."""
    from indaco_client.asking import answer  # noqa: PLC0415 - many runs need none of it
    from indaco_client.questions import Choice, Question  # noqa: PLC0415

    groups = call(lambda client: client.me())["groups"]
    if len(groups) < 2:  # noqa: PLR2004
        return None
    choices = tuple(Choice(group, group) for group in groups)
    chosen: str = answer(Question("group", "Group", "For which of your groups?", "string", choices, required=True))
    return chosen


async def _waited(client: Client, id: str, timeout_s: float) -> Json:
    click.echo(f"deployment {id}", err=True)
    program().goes_on = f"stopped waiting; the deployment goes on: indaco deployment watch {id}"
    end = time.monotonic() + timeout_s
    await follow(client, id, timeout_s)
    return await client.wait(id, timeout_s=max(0.0, end - time.monotonic()))


def _text_of(template: str) -> str:
    """Raises: click.UsageError."""
    try:
        return Path(template).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"{template}: {getattr(error, 'strerror', None) or 'is not UTF-8 text'}") from None


def _warn(found: Json) -> None:
    for warning in found.get("warnings", ()):
        click.echo(f"warning: {warning if isinstance(warning, str) else warning.get('message', warning)}", err=True)
