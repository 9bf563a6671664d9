"""What the command line prints: JSON for programs, tables for people; whatever a server says is shown as it is, never as markup."""

import json
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .wire import Json

UNBOUNDED = 10_000  # columns, where no terminal limits them: a line of a pipe is one row
DEPLOYMENT = ("uuid", "status", "statusReason", "task", "userGroup", "cloudProviderName", "creationTime", "outputs")


def show(value: Any, output: str, columns: dict[str, str] | None = None) -> None:
    """Print JSON, or a table of *columns* (title → key) of a list, or of one object's members."""
    if output == "json":
        click.echo(json.dumps(value, indent=1))
        return
    table = Table(box=None, pad_edge=False, show_header=columns is not None)
    if columns is None:
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for name, member in value.items():
            table.add_row(name, _text(member))
    else:
        for title in columns:
            table.add_column(title, overflow="fold")
        for row in value:
            table.add_row(*(_text(row.get(key, "")) for key in columns.values()))
    console = Console()
    if not console.is_terminal:
        console.width = UNBOUNDED
    console.print(table)


def show_deployment(one: Json, output: str) -> None:
    """Print a deployment, and why it went where it is."""
    if output == "json":
        show(one, output)
        return
    rows = {name: one[name] for name in DEPLOYMENT if one.get(name)}
    if one.get("simulated") and "cloudProviderName" in rows:
        rows["cloudProviderName"] += " (simulated)"
    for reason in one.get("placement", {}).get("refused", ()):
        name = f"not {reason['provider']}"
        rows[name] = "; ".join(filter(None, (rows.get(name), reason["detail"])))
    show(rows, output)


def _text(value: Any) -> Text:
    """Return *value* as plain text: brackets are no markup, and control characters move no cursor."""
    shown = value if isinstance(value, str) else json.dumps(value)
    return Text("".join(c if c.isprintable() or c == "\n" else "�" for c in shown))
