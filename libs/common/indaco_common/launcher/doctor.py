"""``indaco doctor``: is everything there that the services need?"""

import asyncio
import os
import platform
import sqlite3
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import click

from indaco_common.errors import IndacoError, Unavailable
from indaco_common.infra import open_bus, open_secrets, open_store, store_file
from indaco_common.secrets.child import openbao_binary
from indaco_common.settings import Settings

from .embedded import has_docker
from .operations import log_errors_only
from .specs import all_specs, read, whole_topology

Check = Callable[[], Awaitable[str]]


@click.command()
def doctor() -> None:
    """Check adapters, topology, vault and providers' engines, and say how to mend what is missing.

    Example: INDACO_BUS=amqp://admin:…@broker/indaco indaco doctor
    """
    checks: dict[str, Check] = {
        "python": _python, "settings": _settings, "bus": _bus, "store": _store, "vault": _vault, "docker": _docker,
    }  # fmt: skip
    log_errors_only()
    failed = 0
    for name, check in checks.items():
        try:
            click.echo(f"ok    {name:<8} {asyncio.run(_limited(check))}")
        except (IndacoError, OSError, TimeoutError) as error:
            failed += 1
            click.echo(f"FAIL  {name:<8} {getattr(error, 'detail', None) or str(error) or 'no answer within 20 s'}")
    if failed:
        raise click.exceptions.Exit(1)


async def _limited(check: Check) -> str:
    async with asyncio.timeout(20):
        return await check()


async def _python() -> str:
    return f"{platform.python_version()} on {sys.platform}, SQLite {sqlite3.sqlite_version}"


async def _settings() -> str:
    names = [spec.name for spec in all_specs() if read(spec.settings)]
    return f"those of {', '.join(names)} can be read"


async def _bus() -> str:
    settings = read(Settings)
    if settings.bus.startswith("embedded:"):
        return f"embedded, in {settings.data.absolute()}"
    bus = open_bus(settings, "indaco doctor")
    await bus.start()
    try:
        for service in whole_topology().services:
            await bus.verify(whole_topology(), service)
        states = {service: await bus.state(service) for service in whole_topology().services}
    finally:
        await bus.stop()
    return "reached, topology complete; " + ", ".join(
        f"{service}: {state.ready} ready, {state.dead} dead" for service, state in states.items()
    )


async def _store() -> str:
    """Open what there is, and make nothing: a file that is not there yet needs a folder that it can be made in."""
    settings, absent = read(Settings), []
    for spec in all_specs():
        if (file := store_file(settings, spec.name)) is not None and not file.exists():
            _require_writable(file.parent)
            absent.append(spec.name)
            continue
        store = open_store(settings, spec.name)
        await store.start()
        try:
            await store.ping()
        finally:
            await store.stop()
    found = f"{settings.store.partition(':')[0]}: all services can read and write"
    return f"{found}; not there yet, and made at the first start: {', '.join(absent)}" if absent else found


def _require_writable(folder: Path) -> None:
    """Raises: Unavailable, if *folder* can neither be written to nor made."""
    there = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        why = f"{there} is no folder that can be written to; set INDACO_DATA or INDACO_STORE"
        raise Unavailable(f"{folder.absolute()}: {why}")


async def _vault() -> str:
    settings = read(Settings)
    if settings.secrets == "embedded:":
        return f"embedded OpenBao: {openbao_binary()}"
    for spec in all_specs():
        if spec.needs_secrets:
            secrets = open_secrets(settings, spec.name, None)
            await secrets.start()
            await secrets.stop()
    return "reached, every service can log in"


async def _docker() -> str:
    if await has_docker():
        return "engine and machine image are there"
    return "no engine with the image indaco/vm:12 (deploy/docker/vm-image.sh); machines will be simulated"
