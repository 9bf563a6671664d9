"""The ``indaco`` command: what users do, and, where the services are installed, what operators do."""

import importlib
import os
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points

import click

from .errors import IndacoClientError
from .program import INTERRUPTED, Program, program_of

COMMANDS = {
    "agreement": "commands.federation:agreement",
    "catalogue": "catalogue_commands:catalogue",
    "completion": "commands.completion:completion",
    "config": "commands.contexts:config",
    "context": "commands.contexts:context",
    "deployment": "commands.deployments:deployment",
    "key": "commands.keys:key",
    "login": "commands.session:login",
    "logout": "commands.session:logout",
    "provider": "commands.federation:provider",
    "quota": "commands.federation:quota",
    "resource": "commands.resources:resource",
    "ssh": "commands.ssh:ssh",
    "subscription": "commands.subscriptions:subscription",
    "template": "template_diff:template",
    "usage": "commands.federation:usage",
    "whoami": "commands.session:whoami",
}


class Group(click.Group):
    """Shows errors as what, why and what next, and ends with the exit code of their kind."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except IndacoClientError as error:
            _tell(error)
            sys.exit(error.exit_code)
        except (KeyboardInterrupt, click.Abort):
            click.echo(f"\n{program_of(ctx).goes_on or 'stopped'}", err=True)
            sys.exit(INTERRUPTED)


class Main(Group):
    """Imports a command when it is asked for: most runs need one of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *COMMANDS, *_mounted()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if (found := super().get_command(ctx, cmd_name)) is not None:
            return found
        if (place := COMMANDS.get(cmd_name)) is None:
            return _mounted().get(cmd_name)
        module, _, name = place.partition(":")
        command: click.Command = getattr(importlib.import_module(f"{__package__}.{module}"), name)
        return command


def _mounted() -> dict[str, click.Command]:
    """Return the commands that other distributions and the services bring."""
    return {command.name: command for command in _loaded() if command.name}


def _loaded() -> Iterator[click.Command]:
    for entry in entry_points(group="indaco.commands"):
        yield from entry.load()


def _tell(error: IndacoClientError) -> None:
    click.secho(f"error: {error.what}", fg="red", err=True)
    for name, text in (("why", error.why), ("try", error.hint), ("request", error.request_id)):
        if text:
            click.echo(f"  {name}: {text}", err=True)


@click.group(cls=Main, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="indaco")
@click.option("--context", help="The context to use (INDACO_CONTEXT).")
@click.option("--url", help="The gateway (INDACO_URL).")
@click.option(
    "--debug",
    is_flag=True,
    envvar="INDACO_DEBUG",
    help="Show the exchange with the server, secrets masked (INDACO_DEBUG).",
)
@click.pass_context
def main(ctx: click.Context, *, context: str | None, url: str | None, debug: bool) -> None:
    """Indaco: from a TOSCA template to a running service at the right site.

    Data go to standard output, everything else to standard error. Settings: an option comes before the environment, the
    environment before the context, the context before the default; `indaco config view --show-origin` tells.

    Exit codes: 0 done, 1 failed, 2 usage, 3 not signed in, 4 not found, 5 conflict, 6 refused, 7 still running when the wait ended,
    8 the deployment failed, or an action on its machines, 9 the server does not answer, 130 interrupted: what was asked for goes on.
    """
    if os.environ.get("NO_COLOR"):
        ctx.color = False
    ctx.obj = Program({"context": context, "url": url}, debug)


if __name__ == "__main__":
    main()
