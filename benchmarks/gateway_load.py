"""Load on an HTTP server, by raw sockets: a client that parses no more than it must is not what is measured.

As a program (``python -m benchmarks.gateway_load``) it reads an order as JSON from standard input and prints JSON: ``requests``, by
connections that each wait for their answer and ask again; ``listeners``, who wait for what a request to the same server brings them.
"""

import asyncio
import json
import sys
import time
from functools import partial
from itertools import cycle
from typing import Any

RING_S = 60.0  # within which all must have heard
PAUSE_S = 0.3  # between two rings
ANSWER_S = 120.0
MANY = 50  # connections that are opened at once


class Asking(asyncio.Protocol):
    """One keep-alive connection: asks, reads the answer to its end, asks again. *taken*: seconds for each answer."""

    def __init__(self, requests: list[bytes], start: int, status: bytes, until: float, most: int) -> None:
        self._requests, self._place, self._status, self._until, self._most = requests, start, status, until, most
        self._buffer, self._length, self._sent_at = b"", -1, 0.0
        self.taken: list[float] = []
        self.bytes, self._is_over = 0, False
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._ask()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._length < 0 and not self._has_head():
            return
        if len(self._buffer) < self._length:
            return
        now = time.perf_counter()
        self.taken.append(now - self._sent_at)
        self.bytes += self._length
        self._buffer, self._length = b"", -1
        if now >= self._until or len(self.taken) >= self._most:
            self._is_over = True
            self._transport.close()
        else:
            self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._is_over:
            self.done.set_result(None)
        else:
            self._fail(f"the connection was lost after {len(self.taken)} answers: {exc}")

    def _ask(self) -> None:
        request = self._requests[self._place]
        self._place = (self._place + 1) % len(self._requests)
        self._sent_at = time.perf_counter()
        self._transport.write(request)

    def _has_head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        begin = self._buffer.find(b"Content-Length: ", 0, end)
        if begin < 0 or self._buffer[9:12] != self._status:
            self._fail(f"not the answer that was expected: {self._buffer[:600]!r}")
            return False
        self._length = end + 4 + int(self._buffer[begin + 16 : self._buffer.find(b"\r", begin)])
        return True

    def _fail(self, text: str) -> None:
        if not self.done.done():
            self.done.set_exception(RuntimeError(text))
        self._transport.abort()


def written(method: str, target: str, token: str, body: str = "") -> bytes:
    """Return a request as it goes over the wire."""
    length = f"Content-Type: application/json\r\nContent-Length: {len(body.encode())}\r\n" if body else ""
    return (
        f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n{length}\r\n{body}".encode()
    )


async def requests(order: dict[str, Any]) -> dict[str, Any]:
    """Return how many answers a second there were, and how long they took in ms; connection *n* begins with the *n*-th target."""
    loop, count = asyncio.get_running_loop(), order["connections"]
    tokens, targets = order["tokens"], order["targets"]
    each = max(1, len(targets) // count)
    work = [
        [written(order["method"], target, token, order.get("body", "")) for target in targets]
        for token in tokens[:count]
    ]
    status, most, port = str(order.get("status", 200)).encode(), order.get("most", 1 << 60), order["port"]
    begun = time.perf_counter()
    until = begun + order["seconds"]
    made = [
        await loop.create_connection(
            partial(Asking, work[n % len(work)], n * each % len(targets), status, until, most), "127.0.0.1", port
        )
        for n in range(count)
    ]
    async with asyncio.timeout(order["seconds"] + ANSWER_S):
        await asyncio.gather(*(asking.done for _, asking in made))
    seconds = time.perf_counter() - begun
    taken = sorted(one * 1000 for _, asking in made for one in asking.taken)
    return {
        "count": len(taken), "per_s": len(taken) / seconds, "own_cpu_us": time.process_time() / len(taken) * 1e6,
        "bytes": sum(asking.bytes for _, asking in made) // len(taken), **percentiles(taken),
    }  # fmt: skip


def percentiles(values: list[float]) -> dict[str, float]:
    """Return what *values*, sorted, are at some places."""

    def at(percent: float) -> float:
        return round(values[min(len(values) - 1, int(len(values) * percent / 100))], 2)

    return {"p50_ms": at(50), "p90_ms": at(90), "p99_ms": at(99), "worst_ms": round(values[-1], 2)}


class Listening(asyncio.Protocol):
    """One open event stream. *heard* counts events; *heard_at* is when the last came."""

    def __init__(self, request: bytes) -> None:
        self._request, self._begun = request, False
        self.heard, self.heard_at = 0, 0.0
        self.lost = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if not self._begun:
            self._begun = True
            if data[9:12] != b"200":
                self.lost = repr(data[:300])
        if events := data.count(b"\ndata: "):
            self.heard += events
            self.heard_at = time.perf_counter()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = self.lost or f"the connection was lost: {exc}"


async def listeners(order: dict[str, Any]) -> dict[str, Any]:
    """Return, in ms from each request (ring), when the first and when the last listener has heard of it.

    The order's *rings* are requests, one after the other; the first *known* events are there when one begins to listen.
    """
    loop, port, made = asyncio.get_running_loop(), order["port"], list[Listening]()
    tokens = cycle(order["tokens"])
    for _ in range(0, order["listeners"], MANY):
        wanted = [written("GET", order["target"], next(tokens)) for _ in range(MANY)]
        opened = await asyncio.gather(
            *(loop.create_connection(partial(Listening, request), "127.0.0.1", port) for request in wanted)
        )
        made += [listening for _, listening in opened]
        await _all(made, order["known"])
    if order.get("wait"):
        print("listening", flush=True)  # whoever gave the order looks at the memory now
        await loop.run_in_executor(None, sys.stdin.readline)
    first, last, number = [], [], order["known"]
    for body in order["rings"]:
        number += 1
        ring = partial(Asking, [written(order["method"], order["ring"], order["tokens"][0], body)], 0, b"200", 0.0, 1)
        await asyncio.sleep(PAUSE_S)
        begun = time.perf_counter()
        _, asking = await loop.create_connection(ring, "127.0.0.1", port)
        await asking.done
        await _all(made, number)
        heard = sorted(listening.heard_at - begun for listening in made)
        first.append(round(heard[0] * 1000, 2))
        last.append(round(heard[-1] * 1000, 2))
    for listening in made:
        listening.transport.abort()
    return {"first_ms": first, "last_ms": last, "listeners": len(made)}


async def _all(made: list[Listening], number: int) -> None:
    async with asyncio.timeout(RING_S):
        while any(listening.heard < number for listening in made):
            if lost := next((listening.lost for listening in made if listening.lost), ""):
                raise RuntimeError(lost)
            await asyncio.sleep(0.005)


if __name__ == "__main__":
    given = json.loads(sys.stdin.readline())
    work = {"requests": requests, "listeners": listeners}[given["do"]]
    print(json.dumps(asyncio.run(work(given))))
