"""``indaco topology|replay|dead``: the broker's objects, the journals, the dead queues."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import click

from indaco_common import telemetry
from indaco_common.bus.port import Bus
from indaco_common.envelope import Envelope, unseal
from indaco_common.errors import IndacoError
from indaco_common.infra import open_bus, open_store
from indaco_common.settings import Settings
from indaco_common.store import JournalQuery

from .specs import all_specs, read, spec_named, whole_topology


def run_async(work: Callable[[], Awaitable[None]]) -> None:
    """Run *work*; an error of ours becomes one line."""

    async def main() -> None:
        await work()

    log_errors_only()
    try:
        asyncio.run(main())
    except IndacoError as error:
        raise click.ClickException(error.detail) from error


def log_errors_only() -> None:
    """Keep a command's output to what it prints: adapters log errors, to standard error."""
    telemetry.set_up_logging(Settings.model_construct(log_level="error", log_format="console"))


@asynccontextmanager
async def bus_of(settings: Settings) -> AsyncIterator[Bus]:
    bus = open_bus(settings, "indaco operator")
    await bus.start()
    try:
        if settings.bus.startswith("embedded:"):
            await bus.declare(whole_topology())
        yield bus
    finally:
        await bus.stop()


@click.group()
def topology() -> None:
    """The broker's exchanges, queues and bindings."""


@topology.command("show")
def show_topology() -> None:
    """Print every binding: exchange, service, message. Example: indaco topology show"""
    for exchange, service, name in whole_topology().routes():
        click.echo(f"{exchange:<16} {service:<13} {name}")


@topology.command("apply")
def apply_topology() -> None:
    """Declare it all at INDACO_BUS; an administrator's right. Example: INDACO_BUS=amqp://admin:…@broker/indaco indaco topology apply"""

    async def work() -> None:
        async with bus_of(read(Settings)) as bus:
            await bus.declare(whole_topology())
        click.echo(f"declared: {len(whole_topology().routes())} bindings for {len(whole_topology().services)} services")

    run_async(work)


@topology.command("verify")
def verify_topology() -> None:
    """Say whether what each service needs is there. Example: indaco topology verify"""

    async def work() -> None:
        async with bus_of(read(Settings)) as bus:
            for service in whole_topology().services:
                await bus.verify(whole_topology(), service)
                click.echo(f"{service}: ok")

    run_async(work)


@click.group()
def dead() -> None:
    """Messages that no handler could deal with."""


_service = click.argument("service")
_ids = click.argument("ids", nargs=-1)


@dead.command("list")
@click.argument("service", required=False)
def list_dead(service: str | None) -> None:
    """List dead letters of SERVICE, or of all. Example: indaco dead list sla"""

    async def work() -> None:
        async with bus_of(read(Settings)) as bus:
            for name in [spec_named(service).name] if service else [spec.name for spec in all_specs()]:
                for letter in await bus.dead_letters(name, limit=1000):
                    click.echo(f"{name:<13} {letter.id}  {letter.name:<40} attempts {letter.attempt}  {letter.error}")

    run_async(work)


@dead.command("show")
@_service
@click.argument("id")
def show_dead(service: str, id: str) -> None:
    """Print one dead letter's envelope. Example: indaco dead show sla 0190…"""

    async def work() -> None:
        async with bus_of(read(Settings)) as bus:
            found = [one for one in await bus.dead_letters(spec_named(service).name, limit=10_000) if one.id == id]
            if not found:
                raise click.ClickException(f"{service} has no dead letter {id}")
            click.echo(f"error: {found[0].error}")
            click.echo(found[0].body.decode(errors="replace"))

    run_async(work)


@dead.command("retry")
@_service
@_ids
def retry_dead(service: str, ids: tuple[str, ...]) -> None:
    """Give dead letters (all, or IDS) to SERVICE again. Example: indaco dead retry sla"""

    async def work() -> None:
        async with bus_of(read(Settings)) as bus:
            count = await bus.retry_dead(spec_named(service).name, ids or None)
            click.echo(f"{count} put back")

    run_async(work)


@dead.command("drop")
@_service
@_ids
@click.confirmation_option(prompt="Drop them for good?")
def drop_dead(service: str, ids: tuple[str, ...]) -> None:
    """Forget dead letters (all, or IDS). Example: indaco dead drop sla --yes"""

    async def work() -> None:
        async with bus_of(read(Settings)) as bus:
            click.echo(f"{await bus.drop_dead(spec_named(service).name, ids or None)} dropped")

    run_async(work)


@click.command()
@click.option("--from", "source", required=True, help="Service whose journal to read.")
@click.option("--to", "target", required=True, help="Service that is to handle the messages again.")
@click.option("--type", "name", help="Only messages of this name.")
@click.option("--since", type=click.DateTime(), help="Only messages published since then (UTC).")
@click.option("--dry-run", is_flag=True, help="Only count them.")
def replay(source: str, target: str, name: str | None, since: datetime | None, dry_run: bool) -> None:  # noqa: FBT001
    """Give published messages to one service again; its inboxes stop what it has handled already.

    Example: indaco replay --from orchestrator --to accounting --type orchestrator.node.started.v1 --since 2026-11-01
    """
    bound = {kind.TYPE for kind in spec_named(target).messages}
    query = JournalQuery(name=name, since=since.replace(tzinfo=UTC) if since else None)

    async def work() -> None:
        settings, count = read(Settings), 0
        async with bus_of(settings) as bus:
            async for envelope, body in published(settings, spec_named(source).name, query):
                if envelope.name not in bound:
                    continue
                count += 1
                if not dry_run:
                    await bus.inject(target, body)
        click.echo(f"{count} messages {'would be' if dry_run else 'were'} given to {target}")

    run_async(work)


async def published(settings: Settings, service: str, query: JournalQuery) -> AsyncIterator[tuple[Envelope, bytes]]:
    """Yield what *query* selects of a service's journal, oldest first, page by page."""
    store = open_store(settings, service)
    await store.start()
    try:
        while bodies := await store.journal(query):
            for body in bodies:
                envelope, _ = unseal(body)
                yield envelope, body
            query = dataclasses.replace(query, after=envelope.id)
    finally:
        await store.stop()
