"""What happens to a deployment, told while one waits: lines that scroll, and on a terminal what is going on below them."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

import click

from .errors import Unreachable
from .tables import clean

if TYPE_CHECKING:
    from .client import Client
    from .wire import Json


class Teller(Protocol):
    """Tells one step of a timeline."""

    def __call__(self, step: Json) -> None: ...


def line_of(step: Json) -> str:
    detail = f": {step['detail']}" if step["detail"] else ""
    return clean(f"{step['at'][11:19]}  {step['title']}{detail}")


@contextlib.contextmanager
def telling(id: str) -> Iterator[Teller]:
    """Tell steps on standard error; on a terminal with a last line that says what is going on, and for how long."""
    if not sys.stderr.isatty():
        yield lambda step: click.echo(line_of(step), err=True)
        return
    from rich.console import Console  # noqa: PLC0415 - not needed elsewhere
    from rich.text import Text  # noqa: PLC0415

    console, begun = Console(stderr=True, highlight=False), time.monotonic()
    with console.status(Text(f"deployment {id}")) as status:

        def tell(step: Json) -> None:
            console.print(Text(line_of(step)), soft_wrap=True)
            status.update(Text(f"{step['status']}, {time.monotonic() - begun:.0f} s"))

        yield tell


async def follow(client: Client, id: str, timeout_s: float) -> None:
    """Tell the timeline as it grows, until nothing is under way; whoever called waits, should the stream fail."""
    try:
        with telling(id) as tell:
            async with asyncio.timeout(timeout_s):
                async for step in client.events(id):
                    tell(step)
                    if not step["status"].endswith("IN_PROGRESS"):
                        return
    except (TimeoutError, Unreachable):
        return
