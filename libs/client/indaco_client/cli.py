"""The ``indaco`` command: what users do, and, where the services are installed, what operators do."""

from importlib.metadata import entry_points

import click


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="indaco")
def main() -> None:
    """Indaco: from a TOSCA template to a running service at the right site."""


for _entry in entry_points(group="indaco.commands"):
    for _command in _entry.load():
        main.add_command(_command)
