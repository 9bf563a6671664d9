"""What all commands share: the settings in force, the client, the options, and how things end."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

import click

from . import config

if TYPE_CHECKING:
    from .client import Client

T = TypeVar("T")
INTERRUPTED = 130
_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s?)?", re.ASCII)


@dataclass
class Program:
    """One run of the command line. *flags* are its options; *goes_on* is what to tell whoever interrupts it."""

    flags: dict[str, str | None] = field(default_factory=dict)
    debug: bool = False
    goes_on: str = ""

    @cached_property
    def settings(self) -> config.Settings:
        return config.settings(self.flags)

    def client(self) -> "Client":
        from .client import Client  # noqa: PLC0415 - HTTP takes longer to import than most commands take to run
        from .tokens import Tokens  # noqa: PLC0415

        trace = _told if self.debug else None
        return Client(self.settings.value("url") or config.DEFAULT_URL, Tokens(self.settings), trace=trace)


def program() -> Program:
    """Return that of the command that runs."""
    found = click.get_current_context().find_object(Program)
    return found if found is not None else Program()


def call(work: "Callable[[Client], Awaitable[T]]") -> T:
    """Run *work* with a client that is signed in, for as long as it takes."""

    async def main() -> T:
        async with program().client() as client:
            return await work(client)

    return asyncio.run(main())


def group_of(flag: str | None) -> str | None:
    """Return the group to act for: an option, the environment's, or the context's; None: the only one."""
    return program().settings.value("group", flag)


def _told(lines: str) -> None:
    click.echo(lines, err=True)


# ── options


def _output(context: click.Context, _: click.Parameter, value: str | None) -> str | None:
    if value is not None or context.resilient_parsing:
        return value
    found = program_of(context).settings.get("output")
    assert found is not None
    if found.value not in config.OUTPUTS:
        raise click.UsageError(f"{found.origin}: {found.value!r} is none of {', '.join(config.OUTPUTS)}")
    return found.value


def program_of(context: click.Context) -> Program:
    return context.find_object(Program) or Program()


output_option = click.option(
    "-o", "--output", type=click.Choice(config.OUTPUTS), callback=_output,
    help="How to print it (INDACO_OUTPUT; else a table).",
)  # fmt: skip
group_option = click.option("--group", help="The group to act for, if you are in several (INDACO_GROUP).")


def duration(text: str) -> float:
    """Return a time as people write it, in seconds: 90, 90s, 30m, 1h30m. Raises: click.BadParameter."""
    found = _DURATION.fullmatch(text.strip())
    if not text.strip() or found is None:
        raise click.BadParameter(f"{text!r} is no time; write 90, 90s, 30m or 1h30m")
    hours, minutes, seconds = found.groups()
    return float(hours or 0) * 3600 + float(minutes or 0) * 60 + float(seconds or 0)


timeout_option = click.option(
    "--timeout",
    type=duration,
    default="1h",
    metavar="TIME",
    show_default=True,
    help="How long to wait: 90s, 30m, 1h30m.",
)


def instant(text: str) -> str:
    """Return a day or a time as RFC 3339 has it; UTC, unless it says otherwise. Raises: click.BadParameter."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is no time; write 2026-11-01 or 2026-11-01T12:00:00Z") from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).isoformat()


def pair(text: str) -> tuple[str, str]:
    """Return the two sides of ``NAME=VALUE``. Raises: click.BadParameter."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise click.BadParameter(f"{text!r}: write NAME=VALUE")
    return name, value
