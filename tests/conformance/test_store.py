"""Every store against the one suite."""

import asyncio
import gc
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pymongo
import pytest

from indaco_common.errors import Unavailable
from indaco_common.ids import uuid7
from indaco_common.store.mongo import Driver, MongoStore
from indaco_common.store.sqlite import SqliteStore
from indaco_common.testing.conformance_store import StoreConformance


class TestSqliteStore(StoreConformance):
    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[SqliteStore]:
        store = SqliteStore(tmp_path / "store.db")
        await store.start()
        yield store
        await store.stop()


@pytest.mark.mongodb
@pytest.mark.parametrize("driver", ["motor", "pymongo"])
class TestMongoStore(StoreConformance):
    @pytest.fixture
    async def store(self, driver: Driver, mongodb_url: str) -> AsyncIterator[MongoStore]:
        name = f"indaco_test_{uuid7().replace('-', '')}"
        store = MongoStore(mongodb_url, name, driver)
        await store.start()
        yield store
        await store.stop()
        client: pymongo.MongoClient[dict[str, object]]
        with pymongo.MongoClient(mongodb_url) as client:
            client.drop_database(name)


# PyMongo's asyncio monitor, cancelled while it connects, leaves its socket to the collector: here, not in a later test.
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
@pytest.mark.parametrize("driver", ["motor", "pymongo"])
def test_a_mongodb_that_does_not_answer_is_unavailable(driver: Driver) -> None:
    async def start(url: str) -> None:
        store = MongoStore(url, "indaco_test", driver)
        with pytest.raises(Unavailable):
            await store.start()
        await store.stop()

    with socket.create_server(("127.0.0.1", 0)) as silent:
        options = "serverSelectionTimeoutMS=300&connectTimeoutMS=200&socketTimeoutMS=200"
        asyncio.run(start(f"mongodb://127.0.0.1:{silent.getsockname()[1]}/?{options}"))
    gc.collect()
