"""The operators' routes: usage records, their APEL text, and an export on demand.

Users appear as in exports: this port is for people who run the service, not for those who may know who somebody is.
"""

from collections.abc import Mapping
from dataclasses import asdict

from aiohttp import web

from indaco_common.clock import Clock
from indaco_common.errors import FieldError, Invalid
from indaco_common.store import Query, Repository
from indaco_common.web import json_response

from .exporters.apel import TARGET, render, rows, user_name
from .exporting import ApelExporter
from .model import Status, UsageRecord, record_id

MAX_LIMIT = 1000
FILTERS = {
    "deployment": "deployment_id",
    "status": "status",
    "group": "facts.group.path",
    "provider": "facts.place.provider",
}
PATH = "/records/{deployment}/{attempt:[0-9]+}/{node}"


class Api:
    def __init__(self, records: Repository[UsageRecord], exporter: ApelExporter, clock: Clock) -> None:
        self._records, self._exporter, self._clock = records, exporter, clock

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/records", self.find),
            web.get(PATH, self.show),
            web.get(PATH + "/apel", self.apel),
            web.post("/exports", self.export),
        ]

    async def find(self, request: web.Request) -> web.Response:
        """List records, newest start first; ``?deployment=&status=&group=&provider=&offset=&limit=``."""
        limit, offset = _number(request.query, "limit", 100, MAX_LIMIT), _number(request.query, "offset", 0, 2**31)
        status = request.query.get("status")
        if status is not None and status not in list(Status):
            raise Invalid(f"status is one of {', '.join(Status)}", errors=[FieldError("/status", "unknown")])
        equal = {field: request.query[name] for name, field in FILTERS.items() if name in request.query}
        found, total = await self._records.find(
            Query(equal=equal, order_by="facts.started_at", offset=offset, limit=limit)
        )
        shown = [self._shown(record) for record in found]
        after = offset + len(found)
        return json_response({"total": total, "records": shown, "next_offset": after if after < total else None})

    async def show(self, request: web.Request) -> web.Response:
        return json_response(self._shown(await self._record(request)))

    async def apel(self, request: web.Request) -> web.Response:
        """Return all that APEL would be told of one record now, written before or not."""
        record = await self._record(request)
        text = render(rows(record, self._clock.now(), self._exporter.options))
        return web.Response(text=text, content_type="text/plain", charset="us-ascii")

    async def export(self, _request: web.Request) -> web.Response:
        """Write what APEL does not know yet, now."""
        outcome = asdict(await self._exporter.export())
        return json_response({**outcome, "at": outcome["at"].isoformat(), "target": TARGET})

    async def _record(self, request: web.Request) -> UsageRecord:
        part = request.match_info
        return await self._records.get(record_id(part["deployment"], int(part["attempt"]), part["node"]))

    def _shown(self, record: UsageRecord) -> dict[str, object]:
        shown: dict[str, object] = record.model_dump(
            mode="json", include={"id", "deployment_id", "attempt", "node", "status", "stopped_at", "exported"}
        )
        facts = record.facts
        if facts is None:
            return shown
        usage = record.usage(self._clock.now())
        shown |= facts.model_dump(mode="json", exclude={"owner"})
        shown["user"] = user_name(facts.owner, self._exporter.options)
        shown["usage"] = {
            "wall_s": float(usage.wall_s), "cpu_s": float(usage.cpu_s), "memory_gib_s": float(usage.memory_gib_s),
            "disk_gib_s": float(usage.disk_gib_s),
        }  # fmt: skip
        figures = record.figures()
        shown["figures"] = None if figures is None else figures.model_dump(mode="json")
        return shown


def _number(query: Mapping[str, str], name: str, default: int, maximum: int) -> int:
    text = query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) < 11 and int(text) <= maximum):  # noqa: PLR2004
        raise Invalid(f"{name} is a whole number up to {maximum}", errors=[FieldError(f"/{name}", "not such a number")])
    return int(text)
