"""Inputs on the command line: from options and files, checked for secrets that stand there for all to see, and asked for on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from indaco_client.inputs import parse_json, parse_setting, read_map
from indaco_client.program import call, pair

if TYPE_CHECKING:
    from indaco_client.wire import Json

CATALOGUE = "catalogue:"
MAX_BYTES = 1024 * 1024  # of a file that is one input
Command = TypeVar("Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="An input; VALUE is read as YAML. May be repeated."),
    click.option("--set-json", "json_settings", multiple=True, metavar="NAME=JSON", help="An input, as JSON. May be repeated."),
    click.option(
        "--set-file", "file_settings", multiple=True, type=pair, metavar="NAME=PATH",
        help="An input, the text of a file without its last line end; '-' is standard input. For secrets, too.",
    ),
    click.option("-f", "--inputs", type=click.File(), help="A YAML or JSON file with inputs; '-' is standard input."),
)  # fmt: skip


def input_options(command: Command) -> Command:
    """Give a command the options for inputs; :func:`given` reads them."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def given(options: Json) -> tuple[Json, set[str]]:
    """Return the inputs, and which of them stand on the command line. Raises: click.UsageError."""
    told = dict(parse_setting(setting) for setting in options["settings"])
    told |= dict(parse_json(setting) for setting in options["json_settings"])
    found = (read_map(options["inputs"]) if options["inputs"] else {}) | told
    found |= {name: _content(name, path) for name, path in options["file_settings"]}
    return found, set(told)


def complete(template: str, found: Json, is_open: set[str], *, asks: bool, everything: bool = False) -> None:
    """Refuse secrets that stand on the command line, and ask for what is missing. Raises: click.UsageError, click.Abort.

    Not within an event loop, which would keep an interruption from whoever is asked.
    """
    if not asks and not is_open:
        return
    from indaco_client.asking import ask  # noqa: PLC0415 - many runs need none of it
    from indaco_client.questions import given_openly  # noqa: PLC0415

    form = _form(template)
    if form is None:
        return
    if names := given_openly(form, is_open):
        raise click.UsageError(
            f"{', '.join(names)}: secret, and seen by others on a command line; use --set-file {names[0]}=PATH (or '-'), or an inputs file"
        )
    if asks:
        ask(form, found, everything=everything)


def is_interactive() -> bool:
    """May a question be asked? Not in a pipe."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def _form(template: str) -> Json | None:
    """Return what a template asks for; None, if only the server can say so: it has types that are not here."""
    if template.startswith(CATALOGUE):
        from indaco_client.catalogue import LATEST  # noqa: PLC0415

        name, _, version = template.removeprefix(CATALOGUE).partition("@")
        return call(lambda client: client.catalogue.form(name, version or LATEST))
    from indaco_tosca import TemplateError, parse  # noqa: PLC0415
    from indaco_tosca.forms import form  # noqa: PLC0415

    try:
        return form(parse(template)).dump()
    except TemplateError:
        return None


def _content(name: str, path: str) -> str:
    """Return a file's text without its last line end. Raises: click.UsageError."""
    try:
        with click.open_file(path) as file:
            text: str = file.read(MAX_BYTES + 1)
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "is not UTF-8 text"
        raise click.UsageError(f"--set-file {name}: {path}: {why}") from None
    if len(text) > MAX_BYTES:
        raise click.UsageError(f"--set-file {name}: {path} is larger than {MAX_BYTES // 1024} KiB")
    return text.removesuffix("\n").removesuffix("\r")
