"""Fixtures of the gateway's tests: a world a test; the vault and the issuer's keys are made once."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import structlog
from click.testing import CliRunner, Result

from indaco_client.cli import main
from indaco_common.secrets.embedded import EmbeddedVault
from indaco_common.testing.federation import MemoryKeys

from .world import Issuer, World, running


@pytest.fixture(scope="session")
def keys() -> MemoryKeys:
    return MemoryKeys()


@pytest.fixture
async def issuer(keys: MemoryKeys) -> AsyncIterator[Issuer]:
    issuer = Issuer(keys)
    await issuer.start()
    yield issuer
    await issuer.stop()


@pytest.fixture
async def world(tmp_path: Path, openbao: EmbeddedVault, issuer: Issuer) -> AsyncIterator[World]:
    async with running(World(tmp_path, openbao, issuer)) as world:
        yield world


# ── the command line


Indaco = Callable[..., Awaitable[Result]]
"""Runs ``indaco`` with arguments, and variables of the environment by keyword (None: unset), and *input* on standard input."""


@pytest.fixture
def quiet() -> Iterator[None]:
    """Keep the gateway's log out of what the command prints: both share the process here."""

    def drop(_: object, __: str, ___: structlog.typing.EventDict) -> structlog.typing.EventDict:
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(processors=[drop])
    yield
    structlog.configure(**before)


@pytest.fixture
def environment(quiet: None, world: World, tmp_path: Path) -> dict[str, str | None]:
    """The environment of ada, who has a token and a home of her own."""
    return {
        "INDACO_URL": world.url, "INDACO_TOKEN": world.issuer.token(), "HOME": str(tmp_path / "home"),
        "XDG_CONFIG_HOME": None, "XDG_CACHE_HOME": None, "XDG_RUNTIME_DIR": None,
    }  # fmt: skip


@pytest.fixture
def indaco(environment: dict[str, str | None]) -> Indaco:
    async def run(*arguments: str, input: str | None = None, **more: str | None) -> Result:
        return await asyncio.to_thread(CliRunner().invoke, main, arguments, input=input, env={**environment, **more})

    return run


async def spoken(*arguments: str, environment: dict[str, str | None]) -> asyncio.subprocess.Process:
    """Start the command as a process of its own."""
    known = {**os.environ, **{name: value for name, value in environment.items() if value}}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "indaco_client.cli", *arguments, env=known, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )  # fmt: skip
