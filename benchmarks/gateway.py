"""The gateway's HTTP API against bare handlers on the same machine, in turn: reads, accepted requests, lists, live events."""

import asyncio
import json
import statistics
from collections.abc import Sequence
from typing import Any

from .federations import GROUP, REQUEST, TEMPLATE
from .gateway_processes import Pair, Server, pair, told
from .machine import memory_mib
from .programs import Rate, compared
from .rows import Figures, at_least, at_most, row

DEPLOYMENTS, MORE, MANY = 1000, 10_000, 100_000
ROUNDS, SECONDS, CONNECTIONS, AT_ONCE = 7, 1.5, 8, 16
LISTS, RINGS, LISTENERS = 300, 8, 1000
PAGE, WALK = 20, 50  # deployments on a page; pages that are asked for in turn
PROCESSES = """The gateway is one process as `indaco run gateway` makes it, on SQLite, the embedded bus and a vault, with its log, metrics
and (never reached) limits; the bare server is aiohttp handlers over the same authenticator, with its memory of verified tokens, and the same
store, with nothing else; the client is a third process that reads no more of an answer than its length. In turn, medians."""


def _rate(found: dict[str, Any]) -> Rate:
    return {"per_s": found["per_s"], "cpu_us": found["cpu_us"]}


def _latency(found: dict[str, Any]) -> dict[str, float]:
    return {name: found[name] for name in ("p50_ms", "p99_ms", "worst_ms")}


# ── reads


@row("requests/s", goal=at_least(0.6, on="ratio"), conditions=PROCESSES)
def gateway_get() -> Figures:
    """GET /v1/deployments/{id} of 1,000 deployments in turn, by 8 connections with 16 verified tokens, as by those who wait for a change and
    ask again: each row is read, and has not changed since. Baseline: the same row read by primary key, decoded, its owner compared, and what
    is shown of it written as JSON. In the details: `ceiling_per_s`, what the client gets from a handler that does nothing, and `bytes_per_s`,
    from one that sends the row as it lies there."""
    return asyncio.run(_get("/v1/deployments", DEPLOYMENTS))


@row("requests/s", goal=at_least(0.6, on="ratio"), conditions=PROCESSES)
def gateway_get_indigo() -> Figures:
    """As gateway_get, by INDIGO's GET /deployments/{id}, whose answer has dates to the minute, links and a placement beside it."""
    return asyncio.run(_get("/deployments", DEPLOYMENTS))


@row("requests/s", conditions=PROCESSES)
def gateway_get_first() -> Figures:
    """As gateway_get, of 10,000 deployments in turn, ten times what the gateway remembers: each is decoded, and its answer made, anew."""
    return asyncio.run(_get("/v1/deployments", MORE))


async def _get(path: str, count: int) -> Figures:
    async with pair(count) as both:
        ours, bare, bytes_ = ([f"{place}/{id}" for id in both.ids] for place in (path, "/deployments", "/bytes"))
        await _warmed(both, ours, bare)
        rates, ceilings, stored = [], [], []
        for _ in range(ROUNDS):
            mine = await both.load(both.gateway, ours, connections=CONNECTIONS, seconds=SECONDS)
            raw = await both.load(both.bare, bare, connections=CONNECTIONS, seconds=SECONDS)
            rates.append((_rate(mine), _rate(raw)))
            ceilings.append(await both.load(both.bare, ["/constant"], connections=CONNECTIONS, seconds=SECONDS / 3))
            stored.append(await both.load(both.bare, bytes_, connections=CONNECTIONS, seconds=SECONDS / 3))
        more = {
            "ceiling_per_s": round(statistics.median(each["per_s"] for each in ceilings)),
            "bytes_per_s": round(statistics.median(each["per_s"] for each in stored)),
            "bytes_cpu_us": round(statistics.median(each["cpu_us"] for each in stored)),
            "answer_bytes": [mine["bytes"], raw["bytes"]], "gateway": _latency(mine), "bare": _latency(raw), "memory_mib": _memory(both),
        }  # fmt: skip
    return compared(rates, **more)


async def _warmed(both: Pair, ours: Sequence[str], bare: Sequence[str]) -> None:
    for server, targets in ((both.gateway, ours), (both.bare, bare)):
        await both.load(server, targets, connections=CONNECTIONS, seconds=0.5)


def _memory(both: Pair) -> dict[str, float]:
    return {"gateway": round(memory_mib(both.gateway.pid), 1), "bare": round(memory_mib(both.bare.pid), 1)}


# ── accepted requests


@row("deployments/s", conditions=PROCESSES)
def gateway_post() -> Figures:
    """POST /deployments of examples/templates/virtual-machine.yaml with two inputs, 16 in flight: authenticated, validated, planned, and answered
    with 201 once template, inputs, state and message are on disk (fsync); the relay publishes to the embedded bus meanwhile. Baseline: the
    same token and the same writes to the same store, nothing planned, nothing published. In the details: the times of single requests."""
    return asyncio.run(_post())


async def _post() -> Figures:
    body = json.dumps({"template": TEMPLATE, "parameters": REQUEST, "userGroup": GROUP})
    order: dict[str, Any] = {"method": "POST", "body": body, "status": 201}
    async with pair(DEPLOYMENTS) as both:
        servers = (both.gateway, both.bare)

        async def load(server: Server, at_once: int, seconds: float) -> dict[str, Any]:
            return await both.load(server, ["/deployments"], connections=at_once, seconds=seconds, **order)

        for server in servers:
            await load(server, AT_ONCE, 0.5)
        rounds = [[await load(server, AT_ONCE, SECONDS) for server in servers] for _ in range(ROUNDS)]
        alone = [await load(server, 1, SECONDS) for server in servers]
        memory = _memory(both)
    rates = [(_rate(mine), _rate(raw)) for mine, raw in rounds]
    p99 = [statistics.median(pair_[i]["p99_ms"] for pair_ in rounds) for i in (0, 1)]
    found = compared(
        rates, p99_ms=p99, one_at_a_time=[_latency(each) for each in alone], memory_mib=memory, in_flight=AT_ONCE
    )
    return Figures(
        found.ours, found.baseline, found.ratio, found.details,
        f"p99 {p99[0]:.1f} ms, baseline {p99[1]:.1f}; alone {alone[0]['p99_ms']:.1f} and {alone[1]['p99_ms']:.1f}; {found.note}",
    )  # fmt: skip


# ── lists


@row("ms", goal=at_most(20), conditions=PROCESSES)
def gateway_list() -> Figures:
    """A page of 20 of the caller's 100,000 deployments (20,000 more are others'), one request after the other, 300 of each kind: the worse
    of the 99th percentiles of /v1/deployments (the first page and 49 behind cursors) and of INDIGO's /deployments, which counts all of them.
    Baseline: the same of the bare server, which counts nothing. In the details: filters, INDIGO's pages far behind, and memory."""
    return asyncio.run(_list())


async def _list() -> Figures:
    async with pair(MANY) as both:
        before = _memory(both)
        native = await _walk(both)
        indigo = [f"/deployments?size={PAGE}&page={page}" for page in range(WALK)]
        kinds = {
            "native": (both.gateway, native), "bare": (both.bare, [f"/deployments?offset={PAGE * page}" for page in range(WALK)]),
            "indigo": (both.gateway, indigo), "indigo_far": (both.gateway, [f"/deployments?size={PAGE}&page=4000"]),
            "native_failed": (both.gateway, ["/v1/deployments?status=CREATE_FAILED"]),
            "native_text": (both.gateway, ["/v1/deployments?text=analysis%204711"]),
            "native_tag": (both.gateway, ["/v1/deployments?tag=run%3D77"]),
        }  # fmt: skip
        found = {}
        for name, (server, targets) in kinds.items():
            await both.load(server, targets[:1], connections=1, seconds=60, most=5)  # the first makes the index
            found[name] = await both.load(server, targets, connections=1, seconds=60, most=LISTS)
        after = _memory(both)
    worst = max(found["native"]["p99_ms"], found["indigo"]["p99_ms"])
    times = {name: {**_latency(each), "cpu_us": round(each["cpu_us"])} for name, each in found.items()}
    note = "; ".join(
        f"{name} p50 {times[name]['p50_ms']:.1f} p99 {times[name]['p99_ms']:.1f}" for name in ("native", "indigo")
    )
    return Figures(
        worst, found["bare"]["p99_ms"], worst / found["bare"]["p99_ms"], {**times, "memory_mib": {"before": before, "after": after}}, note
    )  # fmt: skip


async def _walk(both: Pair) -> list[str]:
    """Return the addresses of the first pages: each is told by the one before."""
    targets = [f"/v1/deployments?limit={PAGE}"]
    while len(targets) < WALK:
        following = (await both.get(targets[-1]))["next"]
        targets.append(following.removeprefix(both.federation.url))
    return targets


# ── live events


@row("ms", goal=at_most(1000), conditions=PROCESSES)
def gateway_events() -> Figures:
    """1,000 listeners of one deployment, on one gateway process: from a request that changes it (PUT …/lock) until the last of them has the
    event; the median of 8. Baseline: bare streams, and a request that wakes them and saves nothing. In the details: the memory of a listener."""
    return asyncio.run(_events())


async def _events() -> Figures:
    async with pair(PAGE) as both:
        id = both.ids[-1]
        steps = len((await both.get(f"/v1/deployments/{id}/timeline"))["content"])
        common = {"do": "listeners", "listeners": LISTENERS, "tokens": both.tokens, "method": "PUT"}
        rings = [json.dumps({"reason": f"so that listeners hear of it, {number}"}) for number in range(RINGS)]
        memory = [_memory(both)]
        ours = await told(
            {**common, "port": both.gateway.port, "target": f"/v1/deployments/{id}/events", "known": steps, "rings": rings, "ring": f"/v1/deployments/{id}/lock"},
            lambda: memory.append(_memory(both)),
        )  # fmt: skip
        bare = await told(
            {**common, "port": both.bare.port, "target": "/events", "known": 1, "rings": ["{}"] * RINGS, "ring": "/events"},
            lambda: memory.append(_memory(both)),
        )  # fmt: skip
    mine, raw = (statistics.median(each["last_ms"]) for each in (ours, bare))
    kib = [(memory[i]["gateway" if i == 1 else "bare"] - memory[0]["gateway" if i == 1 else "bare"]) * 1024 / LISTENERS for i in (1, 2)]  # fmt: skip
    details = {"gateway": ours, "bare": bare, "kib_each": [round(each, 1) for each in kib], "memory_mib": memory}
    first = statistics.median(ours["first_ms"])
    return Figures(
        mine,
        raw,
        mine / raw,
        details,
        f"the first has it after {first:.0f} ms; {kib[0]:.0f} KiB a listener, baseline {kib[1]:.0f}",
    )
