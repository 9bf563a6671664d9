"""The ``indaco`` command: what users do, and, where the services are installed, what operators do."""

import sys
from importlib.metadata import entry_points

import click

from .catalogue_commands import CATALOGUE_COMMANDS
from .commands import COMMANDS
from .errors import IndacoClientError
from .template_commands import template
from .template_diff import diff


class Group(click.Group):
    """Shows errors as what, why and what next, and ends with the exit code of their kind."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except IndacoClientError as error:
            click.secho(f"error: {error.what}", fg="red", err=True)
            if error.hint:
                click.echo(f"  try: {error.hint}", err=True)
            if error.request_id:
                click.echo(f"  request: {error.request_id}", err=True)
            sys.exit(error.exit_code)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="indaco")
def main() -> None:
    """Indaco: from a TOSCA template to a running service at the right site.

    Exit codes: 0 done, 1 failed, 2 usage, 3 not signed in, 4 not found, 5 conflict, 6 refused, 7 still running when the wait ended,
    8 the deployment failed, 9 the server does not answer.
    """


template.add_command(diff)
for _command in (*COMMANDS, template, *CATALOGUE_COMMANDS):
    main.add_command(_command)
for _entry in entry_points(group="indaco.commands"):
    for _command in _entry.load():
        main.add_command(_command)

if __name__ == "__main__":
    main()
