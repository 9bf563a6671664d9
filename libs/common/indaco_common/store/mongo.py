"""The store on MongoDB: one document per aggregate, one update per save, no transaction and no replica set needed.

A document is ``{_id: "kind/id", kind, id, version, state, index, due_at?, inbox, outbox?, outbox_at?, relay_at?, leased?, leased_by?}``. A save
only pushes to ``outbox`` and alone changes ``version``; a relay only removes from ``outbox``: so they commute. ``relay_at`` is when
a relay may take the outbox, later than now while one has it; ``leased`` is the version up to which that lease reaches: what is saved
during a lease does not wait for its end. ``outbox_at`` is the age of the oldest message.

Only calls are used that motor and PyMongo's own asyncio client share, so that the driver is a setting.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from typing import Any, Literal, cast
from urllib.parse import parse_qs, urlsplit

import pymongo
from bson.errors import InvalidDocument
from pymongo import AsyncMongoClient
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import BulkWriteError, DuplicateKeyError, OperationFailure, PyMongoError

from indaco_common.envelope import Sealed
from indaco_common.errors import Conflict, Unavailable
from indaco_common.ids import uuid7

from .mongo_listing import Listing
from .port import INBOX_LENGTH, Entry, Found, JournalQuery, Page, Query, Scalar

Document = dict[str, Any]
Driver = Literal["motor", "pymongo"]

# https://github.com/mongodb/mongo/blob/master/src/mongo/base/error_codes.yml
DUPLICATE_KEY, WRITE_CONFLICT = 11000, 112
OUR_BUGS = frozenset(
    {2, 9, 14, 40, 52, 66, 10334}
)  # bad value, parse, type, conflicting or empty or immutable field, too large

SELECTION_MS = 5000  # how long to look for a primary: an election takes some seconds, a message handler has 60
SOCKET_MS = 20_000
MILLISECOND = timedelta(milliseconds=1)


def connect(url: str, driver: Driver) -> AsyncMongoClient[Document]:
    """Return a client; it connects when first used. motor's is not of PyMongo's class but answers the same calls."""
    options: dict[str, Any] = {
        "tz_aware": True, "w": "majority", "wTimeoutMS": SOCKET_MS, "serverSelectionTimeoutMS": SELECTION_MS,
        "connectTimeoutMS": SELECTION_MS, "socketTimeoutMS": SOCKET_MS, "appname": "indaco",
    }  # fmt: skip
    chosen = {name.lower() for name in parse_qs(urlsplit(url).query)}
    options = {name: value for name, value in options.items() if name.lower() not in chosen}
    if driver == "pymongo":
        return AsyncMongoClient(url, **options)
    from motor.motor_asyncio import AsyncIOMotorClient  # noqa: PLC0415 - who chose the other driver need not have it

    return cast("AsyncMongoClient[Document]", AsyncIOMotorClient(url, **options))


@contextmanager
def translated() -> Iterator[None]:
    """Turn a driver's error into Conflict or Unavailable, but for those that are bugs of ours."""
    try:
        yield
    except InvalidDocument:
        raise
    except PyMongoError as error:
        code = error.code if isinstance(error, OperationFailure) else None
        if code in OUR_BUGS:
            raise
        if code == WRITE_CONFLICT:
            raise Conflict("another save of the document was under way") from error
        # The driver's text names hosts: it stays in the chained cause.
        raise Unavailable(f"MongoDB does not answer ({type(error).__name__})", retry_after_s=1.0) from error


class MongoStore:
    """:class:`~indaco_common.store.port.Store` on one database of a MongoDB server. Options in *url* overrule our time-outs and write concern."""

    def __init__(self, url: str, database: str, driver: Driver = "motor") -> None:
        self._url, self._name, self._driver = url, database, driver
        self._client: AsyncMongoClient[Document] | None = None

    async def start(self) -> None:
        """Connect and make the indexes. Raises: Unavailable."""
        self._client = connect(self._url, self._driver)
        database = self._client[self._name]
        self._aggregates: AsyncCollection[Document] = database["aggregates"]
        self._journal: AsyncCollection[Document] = database["journal"]
        self._blobs: AsyncCollection[Document] = database["blobs"]
        self._pings: AsyncCollection[Document] = database["pings"]
        self._listing = Listing(self._aggregates, database["kinds"])
        try:
            with translated():
                await self._make_indexes()
                await self._listing.learn()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        if self._client is None:
            return
        client, self._client = self._client, None
        closing: object = client.close()
        if inspect.isawaitable(closing):  # PyMongo's is, motor's is not
            await closing

    def on_saving(self, wake: Callable[[], None]) -> None:
        """Never calls: a lease before the save has ended would find nothing."""

    async def ping(self) -> None:
        with translated():
            await self._pings.update_one({"_id": 1}, {"$inc": {"count": 1}}, upsert=True)

    async def load(self, kind: str, id: str, message_id: str | None = None) -> Found | None:
        projection: Document = {"version": 1, "state": 1}
        if message_id is not None:
            projection["inbox"] = {"$elemMatch": {"$eq": message_id}}
        with translated():
            document = await self._aggregates.find_one({"_id": _key(kind, id)}, projection)
        if document is None:
            return None
        handled = message_id is not None and bool(document.get("inbox"))
        return Found(document["version"], document["state"], handled)

    async def save(
        self,
        kind: str,
        id: str,
        *,
        version: int,
        state: bytes,
        index: Mapping[str, Scalar],
        due_at: datetime | None,
        outbox: Sequence[Sealed],
        message_id: str | None,
        now: datetime,
    ) -> None:
        fields = self._listing.document(index)
        entries = [_packed(sealed, version + 1, now) for sealed in outbox]
        handled = [] if message_id is None else [message_id]
        due = {} if due_at is None else {"due_at": _up(due_at)}
        with translated():
            await self._listing.declare(kind, index)
            if version == 0:
                await self._create(
                    {"_id": _key(kind, id), "kind": kind, "id": id, "version": 1, "state": state, "index": fields, **due, "inbox": handled}
                    | ({"outbox": entries, "outbox_at": now, "relay_at": now} if entries else {})
                )  # fmt: skip
                return
            update: Document = {"$set": {"state": state, "index": fields, **due}, "$inc": {"version": 1}}
            if due_at is None:
                update["$unset"] = {"due_at": ""}
            push: Document = {}
            if handled:
                push["inbox"] = {"$each": handled, "$slice": -INBOX_LENGTH}
            if entries:
                push["outbox"] = {"$each": entries}
                # A lease in force lasts (its end is later than now); the oldest message stays the oldest.
                update |= {"$max": {"relay_at": now}, "$min": {"outbox_at": now}}
            if push:
                update["$push"] = push
            result = await self._aggregates.update_one({"_id": _key(kind, id), "version": version}, update)
        if result.matched_count == 0:
            raise Conflict(f"{kind} {id} is no longer at version {version}")

    async def versions(self, kind: str, ids: Sequence[str]) -> dict[str, int]:
        if not ids:
            return {}
        asked = {"_id": {"$in": [_key(kind, id) for id in ids]}}
        with translated():
            found = await self._aggregates.find(asked, {"id": 1, "version": 1}).to_list(len(ids))
        return {document["id"]: document["version"] for document in found}

    async def remove(self, kind: str, id: str, *, version: int) -> None:
        settled = {"_id": _key(kind, id), "version": version, "outbox_at": {"$exists": False}}
        with translated():
            result = await self._aggregates.delete_one(settled)
        if result.deleted_count == 0:
            raise Conflict(f"{kind} {id} is not at version {version}, or has messages to send")

    async def due(self, kind: str, now: datetime, limit: int) -> list[tuple[str, int]]:
        with translated():
            cursor = self._aggregates.find({"kind": kind, "due_at": {"$lte": now}}, {"id": 1, "version": 1})
            found = await cursor.sort("due_at", 1).limit(limit).to_list(limit)
        return [(document["id"], document["version"]) for document in found]

    async def next_due(self, kind: str) -> datetime | None:
        with translated():
            document = await self._aggregates.find_one(
                {"kind": kind, "due_at": {"$exists": True}}, {"due_at": 1}, sort=[("due_at", 1)]
            )
        return None if document is None else cast("datetime", document["due_at"])

    async def lease(self, now: datetime, lease_s: float, limit: int) -> list[list[Entry]]:
        """Three calls for any number of outboxes: who is free, take those still free, read what was taken."""
        free: Document = {"relay_at": {"$lte": now}}
        taken: Document = {
            "relay_at": now + timedelta(seconds=lease_s), "leased": "$version", "leased_by": {"$literal": uuid7()}
        }  # fmt: skip
        with translated():
            cursor = self._aggregates.find(free, {"_id": 1}).sort("relay_at", 1).limit(limit)
            keys = [document["_id"] for document in await cursor.to_list(limit)]
            if not keys:
                return []
            await self._aggregates.update_many({"_id": {"$in": keys}, **free}, [{"$set": taken}])
            mine = self._aggregates.find(
                {"_id": {"$in": keys}, "leased_by": taken["leased_by"]["$literal"], "outbox_at": {"$exists": True}},
                {"kind": 1, "id": 1, "leased": 1, "outbox": 1, "outbox_at": 1},
            )
            documents = await mine.to_list(limit)
        documents.sort(key=lambda document: document["outbox_at"])
        return [entries for document in documents if (entries := _entries(document))]

    async def settle(self, published: Sequence[Entry], now: datetime) -> None:
        """Journal first: a crash in between publishes again, and loses nothing."""
        if not published:
            return
        records = [
            {
                "_id": entry.sealed.id, "name": entry.sealed.name, "correlation_id": entry.sealed.correlation_id,
                "published_at": now, "body": entry.sealed.body,
            }
            for entry in published
        ]  # fmt: skip
        settled: dict[str, list[str]] = {}
        for entry in published:
            settled.setdefault(_key(entry.kind, entry.id), []).append(entry.sealed.id)
        with translated():
            await self._record(records)
            await self._aggregates.bulk_write(
                [pymongo.UpdateOne({"_id": key}, _without(ids, now)) for key, ids in settled.items()], ordered=False
            )

    async def give_back(self, entries: Sequence[Entry]) -> None:
        keys = list({_key(entry.kind, entry.id) for entry in entries})
        with translated():
            await self._aggregates.update_many(
                {"_id": {"$in": keys}, "relay_at": {"$exists": True}}, [{"$set": {"relay_at": "$outbox_at"}}]
            )

    async def outbox_age_s(self, now: datetime) -> float:
        with translated():
            document = await self._aggregates.find_one(
                {"outbox_at": {"$exists": True}}, {"outbox_at": 1}, sort=[("outbox_at", 1)]
            )
        return 0.0 if document is None else max(0.0, (now - document["outbox_at"]).total_seconds())

    async def find(self, kind: str, query: Query) -> Page:
        with translated():
            return await self._listing.find(kind, query)

    async def journal(self, query: JournalQuery) -> list[bytes]:
        condition: Document = {"_id": {"$gt": query.after}}
        if query.name is not None:
            condition["name"] = query.name
        if query.correlation_id is not None:
            condition["correlation_id"] = query.correlation_id
        if query.since is not None:
            condition["published_at"] = {"$gte": query.since}
        with translated():
            cursor = self._journal.find(condition, {"body": 1}).sort("_id", 1).limit(query.limit)
            return [document["body"] for document in await cursor.to_list(query.limit)]

    async def prune(self, before: datetime) -> int:
        with translated():
            return (await self._journal.delete_many({"published_at": {"$lt": before}})).deleted_count

    async def put_blob(self, digest: str, body: bytes) -> None:
        with translated(), suppress(DuplicateKeyError):
            await self._blobs.insert_one({"_id": digest, "body": body})

    async def get_blob(self, digest: str) -> bytes | None:
        with translated():
            document = await self._blobs.find_one({"_id": digest})
        return None if document is None else cast("bytes", document["body"])

    async def _create(self, document: Document) -> None:
        try:
            await self._aggregates.insert_one(document)
        except DuplicateKeyError:
            raise Conflict(f"{document['kind']} {document['id']} exists") from None

    async def _record(self, records: list[Document]) -> None:
        try:
            await self._journal.insert_many(records, ordered=False)
        except BulkWriteError as error:
            details: Document = dict(error.details or {})
            others = [e for e in details.get("writeErrors", []) if e.get("code") != DUPLICATE_KEY]
            if others or details.get("writeConcernErrors"):
                raise  # what was settled before is in the journal already; anything else is an error

    async def _make_indexes(self) -> None:
        for field in ("relay_at", "outbox_at"):
            await self._aggregates.create_index([(field, 1)], sparse=True)
        await self._aggregates.create_index(
            [("kind", 1), ("due_at", 1)], partialFilterExpression={"due_at": {"$exists": True}}
        )
        await self._journal.create_index([("name", 1), ("_id", 1)])
        await self._journal.create_index([("correlation_id", 1), ("_id", 1)])
        await self._journal.create_index([("published_at", 1)])


def _key(kind: str, id: str) -> str:
    return f"{kind}/{id}"


def _up(moment: datetime) -> datetime:
    """Round up to what BSON keeps, a millisecond: a timer may be late by that, never early."""
    below = moment.replace(microsecond=moment.microsecond // 1000 * 1000)
    return below if below == moment else below + MILLISECOND


def _packed(sealed: Sealed, version: int, now: datetime) -> Document:
    return {
        "id": sealed.id, "name": sealed.name, "correlation_id": sealed.correlation_id, "subject": sealed.subject,
        "body": sealed.body, "version": version, "at": now,
    }  # fmt: skip


def _entries(document: Document) -> list[Entry]:
    return [
        Entry(
            document["kind"], document["id"], Sealed(e["id"], e["name"], e["correlation_id"], e["subject"], e["body"])
        )
        for e in document["outbox"]
        if e["version"] <= document["leased"]  # later ones were saved after the lease was taken and are not under it
    ]


def _without(ids: Sequence[str], now: datetime) -> list[Document]:
    """Return the update that removes *ids* from an outbox and ends the lease, unless some of what it covers is left."""
    left: Document = {
        "$filter": {
            "input": {"$ifNull": ["$outbox", []]},
            "cond": {"$not": [{"$in": ["$$this.id", {"$literal": ids}]}]},
        }
    }
    is_empty: Document = {"$eq": ["$outbox", []]}
    lease_is_over: Document = {"$gt": [_least("version"), "$leased"]}
    return [
        {"$set": {"outbox": left}},
        {
            "$set": {
                "outbox": {"$cond": [is_empty, "$$REMOVE", "$outbox"]},
                "outbox_at": {"$cond": [is_empty, "$$REMOVE", _least("at")]},
                "relay_at": {"$cond": [is_empty, "$$REMOVE", {"$cond": [lease_is_over, now, "$relay_at"]}]},
            }
        },
    ]


def _least(field: str) -> Document:
    return {"$min": {"$map": {"input": "$outbox", "in": f"$$this.{field}"}}}
