"""What the command line prints: data for programs, tables for people; whatever a server says is shown as it is, never as markup."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import click

UNBOUNDED = 10_000  # columns, where no terminal limits them: a line of a pipe is one row

Columns = Mapping[str, str]
"""Title → the key that a row has the cell under; ``a.b`` is member b of member a."""


def show(value: Any, output: str, columns: Columns | None = None, *, name: str = "id") -> None:
    """Print *value* as *output* says: one of :data:`indaco_client.config.OUTPUTS`.

    A table or CSV of a list has *columns*, that of one object a row for each member. ``json`` and ``yaml`` are the body of the API.
    ``name`` prints member *name* of each.
    """
    match output:
        case "json":
            click.echo(json.dumps(value, indent=1))
        case "yaml":
            click.echo(_yaml(value), nl=False)
        case "csv":
            click.echo(_csv(value, columns), nl=False)
        case "name":
            for each in value if isinstance(value, list) else [value]:
                click.echo(clean(_cell(each, name)))
        case _:
            _print_table(value, columns)


def clean(text: str) -> str:
    """Return *text* without control characters, which would move a cursor or worse."""
    return "".join(c if c.isprintable() or c == "\n" else "�" for c in text)


def _print_table(value: Any, columns: Columns | None) -> None:
    from rich.console import Console  # noqa: PLC0415 - a tenth of a second, and most output is for programs
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, show_header=columns is not None)
    if columns is None:
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
    for title in columns or ():
        table.add_column(title, overflow="fold")
    for row in _rows(value, columns):
        table.add_row(*(Text(clean(cell)) for cell in row))
    console = Console()
    if not console.is_terminal:
        console.width = UNBOUNDED
    console.print(table)


def _rows(value: Any, columns: Columns | None) -> list[list[str]]:
    if columns is None:
        return [[str(name), _text(member)] for name, member in value.items()]
    return [[_cell(row, key) for key in columns.values()] for row in value]


def _cell(row: Any, key: str) -> str:
    found = row
    for part in key.split("."):
        found = found.get(part, "") if isinstance(found, dict) else ""
    return _text(found)


def _text(value: Any) -> str:
    """Return a cell's text: plain values as they are, lists of them with commas, everything else as JSON."""
    if value is None:
        return ""
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return ", ".join(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _csv(value: Any, columns: Columns | None) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    heads: Sequence[str] = ("name", "value") if columns is None else tuple(columns)
    writer.writerow(heads)
    writer.writerows([clean(cell) for cell in row] for row in _rows(value, columns))
    return out.getvalue()


def _yaml(value: Any) -> str:
    import yaml  # noqa: PLC0415 - most output is not YAML

    text: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=UNBOUNDED)
    return text
