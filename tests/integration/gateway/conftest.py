"""Fixtures of the gateway's tests: a world a test; the vault and the issuer's keys are made once."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

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
