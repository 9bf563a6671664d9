"""Listing aggregates in MongoDB: indexed fields in a subdocument, and an index for each shape of question asked."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from pymongo.asynchronous.collection import AsyncCollection

from indaco_common.errors import Invalid

from .port import Found, Page, Query, Scalar

Document = dict[str, Any]
NOTHING: Document = {"id": {"$in": []}}
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
        asked = query.fields()
        if not asked <= self._fields.get(kind, set()):
            await self.learn()  # another replica may have been the first to save it
        if unknown := asked - self._fields.get(kind, set()):
            raise Invalid(f"{kind} cannot be listed by {min(unknown)!r}")
        await self._index(query)
        condition = _condition(kind, query)
        total = await self._aggregates.count_documents(condition) if query.is_counted else 0
        way = -1 if query.descending else 1
        order = [(_path(field), way) for field in dict.fromkeys((query.order_by, "id"))]
        found: list[Document] = []
        for begin in _beginnings(query):
            if left := query.limit - len(found):
                states = self._aggregates.find({"$and": [condition, *begin]}, {"version": 1, "state": 1}).sort(order)
                found += await states.skip(query.offset).limit(left).to_list(left)
        return Page([Found(document["version"], document["state"]) for document in found], total)

    async def _index(self, query: Query) -> None:
        sought, filters = query.shape()
        fields = ["kind", *(_path(field) for field in (*sought, *filters))]
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
    conditions += [{"$or": [_has(field, text) for text in texts] or [NOTHING]} for field, texts in query.contains]
    return {"$and": conditions}


def _has(field: str, text: str) -> Document:
    return {_path(field): {"$regex": re.escape(text)}}


def _beginnings(query: Query) -> list[list[Document]]:
    """Return the conditions of the parts, one behind the other, in which lies what comes after ``query.after``.

    None sorts before all else, and no comparison finds it: hence two parts, each of which an index walks.
    """
    if query.after is None:
        return [[]]
    (value, id), than = query.after, "$lt" if query.descending else "$gt"
    later, path = {"id": {than: id}}, _path(query.order_by)
    if query.order_by == "id":
        return [[later]]
    null, rest = {path: None}, {path: {"$ne": None}}
    if value is None:
        return [[null, later]] if query.descending else [[null, later], [rest]]
    among: list[Document] = [{path: {f"{than}e": value}}, {"$or": [{path: {than: value}}, later]}]
    return [among, [null]] if query.descending else [among]
