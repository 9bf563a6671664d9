"""Several gateway processes on one MongoDB: each knows of the subscriptions that were made at another, and one of them sends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from pymongo import AsyncMongoClient

from indaco_common.ids import uuid7
from indaco_common.secrets.embedded import EmbeddedVault
from indaco_common.service import Infra
from indaco_common.store.mongo import MongoStore
from indaco_common.testing.receiver import receiving
from indaco_gateway.model.subscription import SETTLING

from . import world as worlds
from .world import Issuer, World, running, running_event

pytestmark = pytest.mark.mongodb


@pytest.fixture
async def database(mongodb_url: str) -> AsyncIterator[str]:
    name = f"indaco_test_{uuid7()}"
    yield name
    client: AsyncMongoClient[dict[str, object]] = AsyncMongoClient(mongodb_url)
    await client.drop_database(name)
    await client.close()


@pytest.fixture
async def pair(
    tmp_path: Path,
    openbao: EmbeddedVault,
    issuer: Issuer,
    mongodb_url: str,
    database: str,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[tuple[World, World]]:
    build = worlds.build

    def on_mongodb(infra: Infra, settings: object) -> object:
        return build(replace(infra, store=MongoStore(mongodb_url, database)), settings)  # type: ignore[arg-type]

    monkeypatch.setattr(worlds, "build", on_mongodb)
    async with AsyncExitStack() as stack:
        settings = {"callback_networks": ("127.0.0.0/8",)}
        one, other = [
            await stack.enter_async_context(running(World(tmp_path, openbao, issuer, settings))) for _ in range(2)
        ]
        yield one, other


async def test_a_subscription_made_at_one_gateway_is_heard_by_all_and_every_event_is_sent_once(
    pair: tuple[World, World],
) -> None:
    one, other = pair
    async with receiving() as receiver:
        made = await one.send("POST", "/v1/subscriptions", json={"url": receiver.url, "types": ["deployment.*"]})
        assert made.status == 201, made.text
        await asyncio.sleep(SETTLING.total_seconds())
        ids = [await other.created() for _ in range(3)]
        await other.say(*(running_event(id) for id in ids))
        await receiver.has(6)
        await asyncio.sleep(1)
        events = [(each.json["subject"], each.type) for each in receiver.received]
        assert len(events) == len(set(events)) == 6
        deleted = await other.send("DELETE", f"/v1/subscriptions/{made.json['id']}")
        assert deleted.status == 204
        await asyncio.sleep(SETTLING.total_seconds())
        await one.created()
        await asyncio.sleep(0.5)
        assert len(receiver.received) == 6
