"""Write docs/reference/settings.md and docs/reference/cli.md from the code; run by `make docs`."""

from collections.abc import Iterator
from pathlib import Path

import click
from click.testing import CliRunner
from pydantic_settings import BaseSettings

from indaco_client import config
from indaco_client.cli import main
from indaco_common.launcher.specs import all_specs
from indaco_common.settings import Settings

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "reference"
ENVIRONMENT = {
    "INDACO_TOKEN": "an access token; it comes before everything else",
    "INDACO_CONTEXT": "the context to use",
    "INDACO_CONFIG": "the file that contexts are kept in, instead of ~/.config/indaco/config.toml",
    "INDACO_SESSION": "the file that the session of `indaco login` is kept in",
    "INDACO_DEBUG": "1: show the exchange with the server, secrets masked",
    "OIDC_SOCK": "the socket of oidc-agent, which sets it",
    "NO_COLOR": "anything: no colours",
}


def settings_page() -> str:
    """Return the table of every setting: name, default, meaning."""
    parts = ["# Settings\n\nFrom the environment. Made from the code by `scripts/reference.py`.\n"]
    for title, model in [("All services", Settings), *((spec.name, spec.settings) for spec in all_specs())]:
        parts.append(f"## {title}\n\n| setting | default | meaning |\n| --- | --- | --- |")
        parts += rows(model)
        parts.append("")
    return "\n".join(parts)


def rows(model: type[BaseSettings]) -> list[str]:
    prefix = model.model_config.get("env_prefix", "")
    found = []
    for name, field in model.model_fields.items():
        meaning = " ".join((field.description or "").split()).replace("``", "`").replace("|", "\\|")
        value = field.get_default(call_default_factory=True)
        default = "" if value is None or not str(value) else f"`{value}`"
        found.append(f"| `{prefix}{name.upper()}` | {default} | {meaning} |")
    return found


def cli_page() -> str:
    """Return what the commands say of themselves, and what they read from the environment."""
    parts = ["# Command line\n\nWhat `--help` prints, of every command. Made by `scripts/reference.py`.\n"]
    parts.append("## Environment\n\n| variable | what it is |\n| --- | --- |")
    known = {config.VARIABLES[key]: meaning for key, meaning in config.KEYS.items()} | ENVIRONMENT
    parts += [f"| `{name}` | {meaning} |" for name, meaning in sorted(known.items())]
    parts.append("")
    runner = CliRunner(env={"COLUMNS": "100", "INDACO_CONFIG": "/dev/null"})
    for words in ((), *paths(main)):
        shown = runner.invoke(main, [*words, "--help"], prog_name="indaco", catch_exceptions=False).output
        parts.append(
            f"{'###' if words[1:] else '##'} {' '.join(('indaco', *words))}\n\n```text\n{shown.rstrip()}\n```\n"
        )
    return "\n".join(parts)


def paths(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield every command of the tree, by its words."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        yield (*path, name)
        if isinstance(command, click.Group):
            yield from paths(command, (*path, name))


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "settings.md").write_text(settings_page())
    (FOLDER / "cli.md").write_text(cli_page())
