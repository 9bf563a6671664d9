"""What a service tells its supervisor: ``/livez`` (the loop turns), ``/readyz`` (it can work), ``/metrics``."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import structlog
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from indaco_common.errors import IndacoError

Check = Callable[[], Awaitable[str | None]]  # returns a short detail or None; raises when the thing does not work

MAX_LAG_S = 1.0  # of the event loop, before the process is called stuck
PROBE_S = 0.01
CHECK_TIMEOUT_S = 2.0
CACHE_S = 1.0  # a flood of probes must not become a flood of checks

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class CheckResult:
    ok: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Readiness:
    """*status* is "ok", "failing" or "draining"."""

    status: str
    checks: Mapping[str, CheckResult]

    @property
    def is_ready(self) -> bool:
        return self.status == "ok"


class Health:
    """The named checks of one service, run together, at most once a second."""

    def __init__(self, registry: CollectorRegistry | None = None, *, check_timeout_s: float = CHECK_TIMEOUT_S) -> None:
        self._registry = registry
        self._timeout_s = check_timeout_s
        self._checks: dict[str, Check] = {}
        self._is_draining = False
        self._lock = asyncio.Lock()
        self._last: tuple[float, dict[str, CheckResult]] | None = None

    def add(self, name: str, check: Check) -> None:
        """Make readiness depend on *check*; it is called from the event loop and has two seconds."""
        self._checks[name] = check
        self._last = None

    def drain(self) -> None:
        """Answer "not ready" from now on, so that no new work is sent here."""
        self._is_draining = True

    async def readiness(self) -> Readiness:
        """Run the checks (or return what they said within the last second)."""
        async with self._lock:
            now = asyncio.get_running_loop().time()
            if self._last is None or now - self._last[0] > CACHE_S:
                results = await asyncio.gather(*(self._run(name, check) for name, check in self._checks.items()))
                self._last = (now, dict(zip(self._checks, results, strict=True)))
            checks = self._last[1]
        if self._is_draining:
            return Readiness("draining", checks)
        return Readiness("ok" if all(check.ok for check in checks.values()) else "failing", checks)

    def routes(self) -> list[web.RouteDef]:
        routes = [web.get("/livez", self._livez), web.get("/readyz", self._readyz)]
        if self._registry is not None:
            routes.append(web.get("/metrics", self._metrics))
        return routes

    async def _run(self, name: str, check: Check) -> CheckResult:
        try:
            async with asyncio.timeout(self._timeout_s):
                return CheckResult(ok=True, detail=await check() or "ok")
        except TimeoutError:
            result = CheckResult(ok=False, detail=f"no answer within {self._timeout_s:g} s")
        except IndacoError as error:
            result = CheckResult(ok=False, detail=error.detail)
        except Exception as error:  # noqa: BLE001 - whatever breaks, the answer is "not ready"
            # A stranger's message may hold an address with a password in it: its class is enough here.
            result = CheckResult(ok=False, detail=type(error).__name__)
        _log.warning("health.check_failed", check=name, detail=result.detail)
        return result

    async def _livez(self, _request: web.Request) -> web.Response:
        loop = asyncio.get_running_loop()
        start = loop.time()
        await asyncio.sleep(PROBE_S)
        lag_s = max(0.0, loop.time() - start - PROBE_S)
        is_live = lag_s <= MAX_LAG_S
        body = {"status": "ok" if is_live else "failing", "event_loop_lag_s": round(lag_s, 4)}
        return web.json_response(body, status=200 if is_live else 503)

    async def _readyz(self, _request: web.Request) -> web.Response:
        readiness = await self.readiness()
        checks = {name: {"ok": each.ok, "detail": each.detail} for name, each in readiness.checks.items()}
        body = {"status": readiness.status, "checks": checks}
        return web.json_response(body, status=200 if readiness.is_ready else 503)

    async def _metrics(self, _request: web.Request) -> web.Response:
        assert self._registry is not None
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})
