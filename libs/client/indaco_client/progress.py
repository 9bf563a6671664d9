"""What happens to a deployment, told while one waits: lines that scroll, and on a terminal what is going on below them."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Protocol

import click

from .errors import Unreachable
from .machines import ON_ITS_WAY
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

    async def is_over(step: Json) -> bool:
        return not step["status"].endswith("IN_PROGRESS")

    await _follow(client, id, 0, timeout_s, is_over)


async def follow_machines(client: Client, id: str, nodes: set[str], after: int, timeout_s: float) -> None:
    """Tell the timeline behind the step *after*, until none of these machines is on its way to another state."""

    async def is_over(_: Json) -> bool:
        return all(each["state"] not in ON_ITS_WAY for each in await client.resources(id) if each["node"] in nodes)

    await _follow(client, id, after, timeout_s, is_over)


async def _follow(
    client: Client, id: str, after: int, timeout_s: float, is_over: Callable[[Json], Awaitable[bool]]
) -> None:
    with contextlib.suppress(TimeoutError, Unreachable), telling(id) as tell:
        async with asyncio.timeout(timeout_s):
            async for step in client.events(id, after=after):
                tell(step)
                after = step["number"]
                if await is_over(step):
                    break
            for step in await client.timeline(id, after=after):  # of the same moment
                tell(step)
