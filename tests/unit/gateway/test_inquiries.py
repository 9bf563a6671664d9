"""Who waits for the answer of a dry run, and until when."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from indaco_common.clock import SystemClock
from indaco_common.envelope import Context
from indaco_common.hints import Hints
from indaco_common.imports import PinnedImports
from indaco_common.store import Repository
from indaco_common.store.sqlite import SqliteStore
from indaco_gateway.catalogue.served import ServiceCatalogue
from indaco_gateway.inquiries import Inquiries
from indaco_gateway.model.inquiry import Inquiry


@pytest.fixture
async def inquiries(tmp_path: Path) -> AsyncIterator[Inquiries]:
    """With two, *a* and *b*, that nobody answers."""
    store, clock, hints, imports = SqliteStore(tmp_path / "db"), SystemClock(), Hints(), PinnedImports(None)
    await store.start()
    repository = Repository(store, Inquiry, source="gateway", clock=clock, saved=hints.saved)
    for id in "ab":
        await repository.create(Inquiry(id=id), Context())
    yield Inquiries(repository, hints, clock, imports, ServiceCatalogue(None, clock, 30, imports.closure))
    await store.stop()


async def test_all_who_wait_are_let_go_when_the_service_stops_and_who_comes_later_does_not_wait(
    inquiries: Inquiries,
) -> None:
    running = asyncio.create_task(inquiries.run())
    waiting = [asyncio.create_task(inquiries.wait(id, 30)) for id in "ab"]
    await asyncio.sleep(0.1)
    assert not any(each.done() for each in waiting)
    running.cancel()
    async with asyncio.timeout(0.3):  # sooner than another look would be
        assert [(await each).placement for each in waiting] == [None, None]
        await inquiries.wait("a", 30)
