"""Fixtures of the end-to-end tests."""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
import pytest_asyncio

from indaco_common.testing.backing import RealBacking
from indaco_common.testing.federation import Federation

from .worlds import QUICK, SITES, Collector, MakeFederation


@pytest.fixture(scope="session")
def make_federation(tmp_path_factory: pytest.TempPathFactory) -> MakeFederation:
    def make(
        *, backing: RealBacking | None = None, folder: Path | None = None, federation: str = SITES, **settings: str
    ) -> Federation:
        folder = folder or (backing.folder if backing else tmp_path_factory.mktemp("federation"))
        users: Mapping[str, tuple[str, ...]] = {"ada": ("cms",), "bob": ("cms",), "operator": ("indaco-admins",)}
        return Federation(folder, federation, users, backing=backing, settings={**QUICK, **settings})

    return make


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def collector() -> AsyncIterator[Collector]:
    collector = Collector()
    await collector.start()
    yield collector
    await collector.stop()
