"""Every store against the one suite."""

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


@pytest.mark.parametrize("driver", ["motor", "pymongo"])
async def test_a_mongodb_that_does_not_answer_is_unavailable(driver: Driver) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        options = "serverSelectionTimeoutMS=300&connectTimeoutMS=200&socketTimeoutMS=200"
        store = MongoStore(f"mongodb://127.0.0.1:{port}/?{options}", "indaco_test", driver)
        with pytest.raises(Unavailable):
            await store.start()
    await store.stop()
