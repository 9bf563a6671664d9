"""Listing aggregates in MongoDB: indexed fields in a subdocument, and an index for each shape of question asked."""

import asyncio
import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from pymongo.asynchronous.collection import AsyncCollection

from indaco_common.errors import Invalid

from .port import Found, Page, Query, Scalar

Document = dict[str, Any]
MAX_SHAPES = 48  # of the 64 indexes that a collection may have; questions beyond it use an index that fits less well


class Listing:
    """The lists of one database. *kinds* keeps which fields each kind has been saved with, for all replicas."""

    def __init__(self, aggregates: AsyncCollection[Document], kinds: AsyncCollection[Document]) -> None:
        self._aggregates, self._kinds = aggregates, kinds
        self._fields: dict[str, set[str]] = {}
        self._shapes: set[str] = set()

    async def learn(self) -> None:
        """Read which fields and indexes there are."""
        self._fields = {document["_id"]: set(document["fields"]) async for document in self._kinds.find({})}
        self._shapes = {name for name in await self._aggregates.index_information() if name.startswith("list_")}

    async def declare(self, kind: str, fields: Iterable[str]) -> None:
        """Note fields that *kind* was not saved with before. A field new to old aggregates is None until they are saved again."""
        known = self._fields.setdefault(kind, set())
        if new := [field for field in fields if field not in known]:
            await self._kinds.update_one({"_id": kind}, {"$addToSet": {"fields": {"$each": new}}}, upsert=True)
            known.update(new)

    @staticmethod
    def document(index: Mapping[str, Scalar]) -> Document:
        """Return the subdocument ``index``; a nested field's path is one name in it, and may hold no dot."""
        return {field.replace(".", ":"): value for field, value in index.items()}

    async def find(self, kind: str, query: Query) -> Page:
        """Return a page and the total. Raises: Invalid, if a field is not indexed."""
        asked = {*query.equal, *query.any_of, *query.none_of, query.order_by} - {"id"}
        if not asked <= self._fields.get(kind, set()):
            await self.learn()  # another replica may have been the first to save it
        if unknown := asked - self._fields.get(kind, set()):
            raise Invalid(f"{kind} cannot be listed by {min(unknown)!r}")
        await self._index(query)
        condition = _condition(kind, query)
        way = -1 if query.descending else 1
        order = [(_path(field), way) for field in dict.fromkeys((query.order_by, "id"))]
        states = self._aggregates.find(condition, {"version": 1, "state": 1}).sort(order).skip(query.offset)
        total, found = await asyncio.gather(
            self._aggregates.count_documents(condition), states.limit(query.limit).to_list(query.limit)
        )
        return Page([Found(document["version"], document["state"]) for document in found], total)

    async def _index(self, query: Query) -> None:
        filters = sorted({*query.any_of, *query.none_of})
        fields = ["kind", *dict.fromkeys(_path(f) for f in (*sorted(query.equal), query.order_by, "id", *filters))]
        name = f"list_{hashlib.sha256(' '.join(fields).encode()).hexdigest()[:16]}"
        if name in self._shapes or len(self._shapes) >= MAX_SHAPES:
            return
        await self._aggregates.create_index([(field, 1) for field in fields], name=name)
        self._shapes.add(name)


def _path(field: str) -> str:
    return "id" if field == "id" else f"index.{field.replace('.', ':')}"


def _condition(kind: str, query: Query) -> Document:
    """Return the filter; a missing field is None."""
    conditions: list[Document] = [{"kind": kind}]
    conditions += [{_path(field): value} for field, value in query.equal.items()]
    conditions += [{_path(field): {"$in": list(values)}} for field, values in query.any_of.items()]
    conditions += [{_path(field): {"$nin": list(values)}} for field, values in query.none_of.items()]
    return {"$and": conditions}
