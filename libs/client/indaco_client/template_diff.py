"""``indaco template diff``: what another template, or other inputs, would change about a deployment, before it is done."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from indaco_tosca.update import Change, change

from .inputs import parse_setting
from .tables import show
from .template_commands import output_option, planned, template
from .wire import Json

_file = click.Path(exists=True, dir_okay=False, path_type=Path)


@template.command("diff")
@click.argument("before", type=_file)
@click.argument("after", type=_file)
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="An input of both; VALUE is read as YAML.")
@click.option("--to", "changed", multiple=True, metavar="NAME=VALUE", help="An input of AFTER alone.")
@output_option
def diff(before: Path, after: Path, settings: tuple[str, ...], changed: tuple[str, ...], output: str) -> None:
    """Show the least change from a deployment of BEFORE to one of AFTER; the same FILE twice for other inputs.

    Secret inputs need no value: they count as given, and as the same.

    Example: indaco template diff cluster.yaml cluster.yaml --to agent_count=4
    """
    values = dict(parse_setting(setting) for setting in settings)
    first = planned(before, values, output)
    second = planned(after, values | dict(parse_setting(setting, "--to") for setting in changed), output)
    found = change(first, second)
    if output == "json":
        show(described(found), output)
    else:
        click.echo("\n".join(found.summary()))


def described(found: Change) -> Json:
    """Return a change as JSON; values of secrets are in none of its sentences."""
    content: dict[str, Any] = asdict(found)
    return content | {"summary": list(found.summary()), "touches_machines": found.touches_machines}
