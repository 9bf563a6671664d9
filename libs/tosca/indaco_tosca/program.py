"""Describe a template for comparison with other tools: ``python -m indaco_tosca expect FILE``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Final

from indaco_tosca.errors import Problem, TemplateError
from indaco_tosca.expect import expect, problem_of
from indaco_tosca.load import MAX_BYTES, MAX_TYPES_BYTES
from indaco_tosca.model import ImportResolver
from indaco_tosca.parser import parse

_EXAMPLE: Final = "example: python -m indaco_tosca expect template.yaml --inputs inputs.json --imports IMPORTS.tsv"
_IMPORTS: Final = (
    "table with the columns import_url and local_path (below the folder of the table): which file an imported URL is; "
    "nothing is fetched"
)
_Help: Final = partial(argparse.HelpFormatter, width=78)  # to ask for the terminal's would load what packs files


def main(arguments: list[str] | None = None) -> int:
    """Print the description and return 0, or print the list of problems and return 1."""
    given = _parser().parse_args(arguments)
    try:
        described = _expect(given.file, given.inputs, given.imports)
    except TemplateError as error:
        sys.stdout.write(json.dumps([problem_of(problem) for problem in error.problems], indent=2) + "\n")
        return 1
    sys.stdout.write(json.dumps(described, indent=2, allow_nan=False) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m indaco_tosca", description=__doc__, epilog=_EXAMPLE, formatter_class=_Help
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    what = "print what a template comes to, as one JSON object"
    command = commands.add_parser("expect", help=what, epilog=_EXAMPLE, formatter_class=_Help)
    command.add_argument("file", type=Path, metavar="FILE", help="the template; relative imports are found beside it")
    command.add_argument("--inputs", type=Path, metavar="JSON-FILE", help="values of inputs: one JSON object")
    command.add_argument("--imports", type=Path, metavar="IMPORTS.tsv", help=_IMPORTS)
    return parser


def _expect(file: Path, inputs: Path | None, imports: Path | None) -> Mapping[str, object]:
    """Raises: TemplateError, also for a file that cannot be read."""
    folder = file.resolve().parent
    root = imports.resolve().parent if imports and imports.resolve().parent in folder.parents else folder
    template = parse(
        _read(file, MAX_BYTES),
        resolve=_resolver(root, _table(imports) if imports else {}),
        base=file.resolve().relative_to(root).as_posix(),
    )
    return expect(template, _inputs(inputs) if inputs else {})


def _resolver(root: Path, table: Mapping[str, Path]) -> ImportResolver:
    """Return a resolver of the URLs in a table and of the files below a folder."""

    def resolve(name: str) -> bytes | None:
        try:
            path = table.get(name) or (None if "://" in name else (root / name).resolve())
            if path is None or not path.is_file() or (name not in table and not path.is_relative_to(root)):
                return None
        except (OSError, ValueError):  # no name that a file could have
            return None
        return _read(path, MAX_TYPES_BYTES)

    return resolve


def _table(imports: Path) -> dict[str, Path]:
    """Return which file an imported URL is; a row without either says nothing."""
    import csv  # noqa: PLC0415 - most calls have no table

    lines = _read(imports, MAX_TYPES_BYTES).decode("utf-8", "replace").splitlines()
    rows = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    try:
        if not {"import_url", "local_path"} <= set(rows.fieldnames or ()):
            raise _refusal(imports, "has no columns import_url and local_path")
        pairs = [(row["import_url"], row["local_path"]) for row in rows]
    except csv.Error as error:
        raise _refusal(imports, f"is not a table: {error}") from None
    return {url: imports.parent / path for url, path in pairs if url and path}


def _inputs(file: Path) -> Mapping[str, object]:
    try:
        values = json.loads(_read(file, MAX_TYPES_BYTES))
    except (ValueError, RecursionError) as error:
        raise _refusal(file, f"is not JSON: {str(error)[:100]}") from None
    if not isinstance(values, dict):
        raise _refusal(file, "must hold one JSON object, name: value")
    return values


def _read(file: Path, limit: int) -> bytes:
    """Return the bytes of a file, one more than the limit at most."""
    try:
        with file.open("rb") as stream:
            return stream.read(limit + 1)
    except OSError as error:
        raise _refusal(file, error.strerror or "cannot be read") from None


def _refusal(file: Path, why: str) -> TemplateError:
    return TemplateError([Problem("bad-file", "", f"{file}: {why}")])
