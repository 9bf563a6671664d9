"""A federation on simulated sites for whoever sends it anything, from a thread of its own; and what generated requests are given of it."""

import asyncio
import threading
import time
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import requests
from aiohttp import web
from tests.e2e.worlds import QUICK, SITES

from indaco_common.testing.federation import Federation, free_ports

from .world import VM

T = TypeVar("T")
USERS = {"ada": ("cms", "indaco-admins")}  # may do everything, so that it gets further than 403
ROLES = (
    "root",
    "native",
    "root to delete",
    "native to delete",
)  # a deployment each, which requests of that kind speak of
READY_S = 60.0
LISTED = ("content", "items")
NAMES = ("id", "uuid", "name")
SINK = "sink://"  # stands for the address that may be called
GOOD: dict[str, dict[str, Any]] = {  # bodies that are more than well-formed
    "POST /deployments": {"template": VM, "userGroup": "cms"},
    "PUT /deployments/{id}": {"parameters": {}},
    "POST /v1/deployments": {"template": VM, "group": "cms", "tags": {"a": "b"}},
    "POST /v1/plans": {"template": VM, "group": "cms"},
    "POST /v1/subscriptions": {"url": SINK, "types": ["deployment.*"]},
    "PATCH /v1/subscriptions/{id}": {"url": SINK, "types": ["*"]},
}


class Loop:
    """An event loop in a thread: what is generated is sent by blocking calls meanwhile."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(120)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@dataclass
class Target:
    """The running gateway; *sink* is the only address that anything generated may lead to."""

    federation: Federation
    sink: str
    session: requests.Session
    document: Mapping[str, Any]
    tried: set[tuple[str, str]] = field(default_factory=set)
    succeeded: set[str] = field(default_factory=set)
    """Operations that were answered with success, as "GET /path"."""
    _made: dict[str, str] = field(default_factory=dict)
    _seeds: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return self.federation.url

    def send(self, method: str, path: str, **options: Any) -> requests.Response:
        return self.session.request(method, self.url + path, timeout=20, allow_redirects=False, **options)

    def seed(self) -> None:
        """Make one of everything that paths name."""
        for role in ROLES:
            id = self._make("/v1/deployments", template=VM, group="cms", name=role).json()["id"]
            self._seeds[role] = id
            self.send("PUT", f"/v1/deployments/{id}/shares/cms", json={"access": "read"})
        self._make("/v1/keys", name="default")
        self._make("/v1/subscriptions", url=self.sink, types=["deployment.*"])
        end = time.monotonic() + READY_S
        while any(self._status(id) != "CREATE_COMPLETE" for id in self._seeds.values()):
            assert time.monotonic() < end, {id: self._status(id) for id in self._seeds.values()}
            time.sleep(0.2)

    def _status(self, id: str) -> str:
        return str(self.send("GET", f"/v1/deployments/{id}").json()["status"])

    def _make(self, path: str, **body: object) -> requests.Response:
        answer = self.send("POST", path, json=body)
        assert answer.status_code in (201, 202), (path, answer.text)
        return answer

    def existing(self, method: str, path: str) -> dict[str, str]:
        """Return values of the parameters of *path* that lead to something, as far as lists or this table tell."""
        found: dict[str, str] = {"version": "latest", "group": "cms"}
        if path.removeprefix("/v1").startswith("/deployments/{id}"):
            role = ("native" if path.startswith("/v1") else "root") + (" to delete" if method == "DELETE" else "")
            found["id"] = self._seeds[role]
        parts, walked = path.split("/"), ""
        for part in parts:
            if part.startswith("{"):
                name = part.strip("{}")
                if (value := found.get(name) or self._first(walked)) is None:
                    break
                found[name] = value
                part = value  # noqa: PLW2901
            walked += f"/{part}" if part else ""
        return found

    def note(self, case: Any, answer: Any) -> None:
        """Remember a success, and what was made by it."""
        if answer.status_code < 400:
            self.succeeded.add(f"{case.method} {case.path}")
            if case.method == "POST" and (location := answer.headers.get("location")):
                self._made[case.path] = str(location).rpartition("/")[2].strip("']")

    def _first(self, path: str) -> str | None:
        """Return what the list at *path* names first, or what was made there last."""
        if path == "/v1/catalogue":
            return "kubernetes"
        answer = self.send("GET", path)
        body = answer.json() if answer.status_code == 200 else {}
        rows = next((body[key] for key in LISTED if body.get(key)), [])
        return next((str(rows[0][key]) for key in NAMES if rows and key in rows[0]), self._made.get(path))

    def tame(self, case: Any, existing: Mapping[str, str] | None) -> bool:
        """Keep what was generated from leading elsewhere or taking long; *existing*: and let it speak of what is there.

        Return whether anything was changed.
        """
        before = case.body
        case.body = self._harmless(before)
        is_tamed = bool(case.body != before)
        if isinstance(case.query, dict) and _is_long(case.query.get("wait")):
            case.query["wait"] = "0"
            is_tamed = True
        if existing is None:
            return is_tamed
        for name in ("If-Match", "If-None-Match"):
            (case.headers or {}).pop(name, None)
        for name in case.path_parameters or {}:
            if name in existing:
                case.path_parameters[name] = existing[name]
        if (good := GOOD.get(f"{case.method} {case.path}")) is not None:
            case.body = {key: self.sink if value == SINK else value for key, value in good.items()}
        return True

    def _harmless(self, value: Any) -> Any:
        if isinstance(value, str) and "://" in value:
            return self.sink
        if isinstance(value, dict):
            return {key: self._harmless(each) for key, each in value.items()}
        return [self._harmless(each) for each in value] if isinstance(value, list) else value


def _is_long(wait: object) -> bool:
    """Whether a long poll would really wait."""
    try:
        return float(str(wait)) > 0
    except ValueError:
        return False


@contextmanager
def target(folder: Path) -> Iterator[Target]:
    """Run a federation whose gateway has no limits on the number of requests, and calls nobody but the sink."""
    loop, (port,) = Loop(), free_ports(1)
    rates = {f"INDACO_GATEWAY_RATE_{name}": "none" for name in ("READ", "WRITE", "PLAN", "EVENTS", "GUESSES")}
    outside = {
        "INDACO_GATEWAY_CALLBACK_NETWORKS": '["127.0.0.0/8"]', "INDACO_GATEWAY_CALLBACK_PORTS": str(port),
        "INDACO_GATEWAY_MAX_SUBSCRIPTIONS": "1000",
    }  # fmt: skip
    federation = Federation(folder, SITES, USERS, settings={**QUICK, **rates, **outside})
    runner = loop.run(_sink(port))
    try:
        loop.run(federation.start())
        session = requests.Session()
        session.headers["Authorization"] = f"Bearer {loop.run(federation.token('ada', lifetime_s=6 * 3600))}"
        document = requests.get(f"{federation.url}/v1/openapi.json", timeout=20).json()
        found = Target(federation, f"http://127.0.0.1:{port}/hook", session, document)
        found.seed()
        yield found
        session.close()
    finally:
        loop.run(federation.stop())
        loop.run(runner.cleanup())
        loop.close()


async def _sink(port: int) -> web.AppRunner:
    async def take(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(status=204)

    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", take)
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    return runner
