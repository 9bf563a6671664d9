"""Commands on the service catalogue: what it offers, and, for those who keep one, whether it is fit to be offered."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from indaco_tosca import TemplateError
from indaco_tosca.catalogue import MAX_FILE_BYTES, Catalogue, check_sizes, is_part, read
from indaco_tosca.catalogue_check import checked

from .errors import Refused
from .program import call, output_option
from .tables import show

if TYPE_CHECKING:
    from .client import Client
    from .wire import Json

DEPTH = 3  # folders of cards, of versions, files
_CARD = ("name", "title", "description", "tags", "groups")
_PROBLEM = {"file": "file", "line": "line", "what": "message", "how to mend it": "hint"}

_version = click.option("--version", "number", default="latest", show_default=True, help="Which version.")
_name = click.argument("name")


@click.group()
def catalogue() -> None:
    """Services that are ready to be deployed.

    Example: indaco catalogue list
    """


@catalogue.command("list")
@click.option("--group", help="Only what this group may use.")
@output_option
def list_cards(group: str | None, output: str) -> None:
    """List the services for your groups.

    Example: indaco catalogue list --group cms
    """
    cards = call(lambda client: client.catalogue.cards(group=group))
    show(
        cards,
        output,
        {"name": "name", "title": "title", "version": "version", "description": "description"},
        name="name",
    )


@catalogue.command("show")
@_name
@_version
@output_option
def show_card(name: str, number: str, output: str) -> None:
    """Show a service: its versions, what it asks for, and its guide.

    Example: indaco catalogue show jupyter
    """

    async def work(client: Client) -> tuple[Json, Json]:
        return await client.catalogue.card(name), await client.catalogue.form(name, number)

    card, form = call(work)
    if output != "table":
        show({**card, "form": form}, output, name="name")
        return
    versions = ", ".join(version["version"] for version in card["versions"])
    show({key: card[key] for key in _CARD if card[key]} | {"versions": versions}, output)
    schema = form["schema"]
    asked = [{**each, "name": name} for name, each in schema["properties"].items()]
    needed = set(schema.get("required", ()))
    rows = [{**each, "needed": "yes" if each["name"] in needed else ""} for each in asked]
    click.echo(f"\nInputs of version {form['version']}:")
    show(rows, output, {"input": "name", "needed": "needed", "default": "default", "description": "description"})
    click.echo(f"\n{card['guide']}")


@catalogue.command("template")
@_name
@_version
def template(name: str, number: str) -> None:
    """Print a service's template.

    Example: indaco catalogue template jupyter > jupyter.yaml
    """
    click.echo(call(lambda client: client.catalogue.version(name, number))["template"], nl=False)


@catalogue.command("status")
@output_option
def status(output: str) -> None:
    """Show where the catalogue comes from and what is wrong with it; for administrators.

    Example: indaco catalogue status -o json
    """
    _show_status(call(lambda client: client.catalogue.status()), output)


@catalogue.command("reload")
@output_option
def reload(output: str) -> None:
    """Let the gateway read the catalogue now, before its next look; for administrators.

    Example: indaco catalogue reload
    """
    _show_status(call(lambda client: client.catalogue.reload()), output)


@catalogue.command("validate")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", help="How to print it.")
def validate(folder: Path, output: str) -> None:
    """Check the catalogue in FOLDER and run the tests of its templates, without a server; exit code 6 if a card is not fit.

    Example: indaco catalogue validate catalogue
    """
    found = _read(folder)
    problems = [problem.dump() for problem in found.problems]
    versions = [version for card in found.cards.values() for version in card.versions]
    counts = {
        "cards": len(found.cards), "versions": len(versions), "tests": sum(len(version.cases) for version in versions)
    }  # fmt: skip
    if output == "json":
        show({**counts, "problems": problems}, output)
    elif problems:
        show(problems, output, _PROBLEM)
    if problems:
        names = sorted({problem.card for problem in found.problems})
        raise Refused(f"not fit to be offered: {', '.join(names)}")
    if output == "table":
        click.echo(", ".join(f"{count} {what}" for what, count in counts.items()) + ": all fit")


def _show_status(state: Json, output: str) -> None:
    if output != "table":
        show(state, output, name="source")
        return
    rows = {key: state[key] for key in ("source", "revision", "loaded_at", "error") if state[key]}
    old = ", ".join(card["name"] for card in state["cards"] if card["is_last_good"])
    show(rows | {"cards": len(state["cards"])} | ({"last good state of": old} if old else {}), output)
    if state["problems"]:
        show(state["problems"], output, _PROBLEM)


def _read(folder: Path) -> Catalogue:
    """Read and test a catalogue. Raises: Refused, where nothing of it can be used."""
    files = dict(_files(folder, "", DEPTH))
    try:
        check_sizes({path: file.stat().st_size for path, file in files.items()})
        return checked(read({path: _content(file) for path, file in files.items()}))
    except TemplateError as error:
        raise Refused(f"{folder}: {error.problems[0].message}", hint="indaco catalogue validate --help") from None


def _files(folder: Path, prefix: str, depth: int) -> Iterator[tuple[str, Path]]:
    """Yield what may belong to cards, by its path with slashes; links are not followed, as the gateway does not."""
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        path = prefix + entry.name
        if entry.is_dir(follow_symlinks=False) and depth > 1 and not entry.name.startswith("."):
            yield from _files(Path(entry.path), f"{path}/", depth - 1)
        elif entry.is_file(follow_symlinks=False) and is_part(path):
            yield path, Path(entry.path)


def _content(file: Path) -> bytes:
    """Return a file's bytes; of one that is too large, enough to see that it is."""
    with file.open("rb") as opened:
        return opened.read(MAX_FILE_BYTES + 1)


CATALOGUE_COMMANDS = (catalogue,)
