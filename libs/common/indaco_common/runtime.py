"""Runs one built service: HTTP first, so that ``/readyz`` can tell what is missing; then its dependencies, as they come; then work.

Start and stop are in two phases, so that several services in one process all subscribe before any of them publishes.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from .bus.consumer import Consumer
from .bus.topology import Topology
from .errors import NotYet, Unavailable
from .guard import Guards
from .handling import collect
from .metrics import Metrics
from .relay import Relay
from .service import Service
from .telemetry import tracer
from .timers import Timer
from .web import Health, Served, create_app

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

DRAIN_S = 25.0
RETRY_S = (0.2, 5.0)  # between attempts to reach a dependency at the start
LOOK_S = 5.0
COME_BACK_S = 2.0  # told to clients of a service whose store or vault is away
PRUNE_EVERY_S = 3600.0
MAX_LINE = 32 * 1024  # bytes of a request line or a header: beyond, the HTTP parser refuses it, in text of its own


class Runner:
    """One service, running."""

    def __init__(self, service: Service, *, port: int, topology: Topology, owns_bus: bool = True) -> None:
        """*owns_bus*: start and stop the bus, which is false where services share it."""
        self._service, self._infra, self._port = service, service.infra, port
        self._topology, self._owns_bus = topology, owns_bus
        by_type, timers = collect(service.handlers)
        infra = self._infra
        pings = [infra.store.ping, infra.bus.ping, *([infra.secrets.ping] if infra.secrets else [])]
        self._consumer = Consumer(
            infra.service, infra.bus, by_type, infra.clock, metrics=infra.metrics, tracer=tracer("indaco.bus"),
            dependencies=pings, prefetch=infra.settings.prefetch,
        )  # fmt: skip
        infra.hints.seen_until = self._consumer.seen_until
        self._relay = Relay(infra.store, infra.bus, infra.clock, metrics=infra.metrics, hinted=infra.hints.outbox)
        infra.store.on_saving(infra.hints.outbox.set)
        self._timers = [
            Timer(kind, handler, infra.store, infra.clock, infra.hints, infra.metrics)
            for kind, handler in timers.items()
        ]
        self._guards, self._health = Guards(), Health(infra.metrics.registry)
        self._missing = "starting"
        self._web: web.AppRunner | None = None

    @property
    def port(self) -> int:
        """The port that the HTTP server listens on, once started."""
        assert self._web is not None
        return int(self._web.addresses[0][1])

    async def serve(self) -> None:
        """Answer HTTP: health from now on, and requests as far as what they need is there. Raises: OSError."""
        infra = self._infra
        self._health.add("start", self._check_start)
        self._health.add("tasks", self._guards.check)
        self._health.add("store", _check(infra.store.ping))
        self._health.add("bus", _check(infra.bus.ping))
        if infra.secrets is not None:
            self._health.add("vault", _check(infra.secrets.ping))
        options = dict(self._service.app_options)
        app = create_app(
            infra.service,
            routes=self._service.routes,
            health=self._health,
            on_served=_observer(infra.metrics),
            middlewares=[_tell_when_to_come_back, *options.pop("middlewares", ())],
            **options,
        )
        self._web = web.AppRunner(
            app, access_log=None, shutdown_timeout=5.0, handle_signals=False, max_line_size=MAX_LINE, max_field_size=MAX_LINE,
            auto_decompress=False,  # else it unpacks also what no handler reads, at a GiB for each MiB that anybody sends
        )  # fmt: skip
        await self._web.setup()
        await web.TCPSite(self._web, infra.settings.host, self._port, reuse_port=False).start()

    async def connect(self) -> None:
        """Reach store, bus and vault, and prove the topology; waits for each as long as it takes."""
        infra = self._infra
        await self._reach("store", infra.store.start)
        if infra.secrets is not None:
            await self._reach("vault", infra.secrets.start)
        if self._owns_bus:
            await self._reach("bus", infra.bus.start)
        if infra.settings.topology == "apply":
            await self._reach("topology", lambda: infra.bus.declare(self._topology))
        await self._reach("topology", lambda: infra.bus.verify(self._topology, infra.service))
        for start in self._service.starting:
            await self._reach("start", start)

    async def work(self) -> None:
        """Subscribe; then relay and time."""
        await self._reach("bus", self._consumer.start)
        self._guards.start("relay", self._relay.run)
        for timer in self._timers:
            self._guards.start(f"timer of {timer.name}", timer.run)
        self._guards.start("housekeeping", self._keep_house)
        self._guards.start("measurements", self._measure)
        for name, run in self._service.tasks.items():
            self._guards.start(name, run)
        self._missing = ""
        log.info("service.started", service=self._infra.service, port=self.port)

    async def drain(self) -> None:
        """Take no new work, and finish what is under way within the time for it."""
        self._health.drain()
        try:
            async with asyncio.timeout(DRAIN_S):
                await self._consumer.drain()
                for timer in self._timers:
                    await timer.drain()
        except TimeoutError:
            log.warning("service.drained_late", service=self._infra.service)
        except Unavailable as error:
            log.warning("service.drained_without_bus", service=self._infra.service, error=error.detail)

    async def stop(self) -> None:
        """Relay once more, give leases back, close everything; what does not close in order does not keep the rest open."""
        infra = self._infra
        steps: list[tuple[str, Callable[[], Awaitable[None]]]] = [
            ("relay", self._relay.stop),
            ("tasks", self._guards.stop),
        ]
        if self._web is not None:
            steps.append(("http", self._web.cleanup))
        steps += [("service", close) for close in self._service.closing]
        if self._owns_bus:
            steps.append(("bus", infra.bus.stop))
        if infra.secrets is not None:
            steps.append(("vault", infra.secrets.stop))
        for part, stop in (*steps, ("store", infra.store.stop)):
            try:
                await stop()
            except Exception:
                log.exception("service.stop_failed", service=infra.service, part=part)
        log.info("service.stopped", service=infra.service)

    async def _reach(self, name: str, start: Callable[[], Awaitable[None]]) -> None:
        pause_s = RETRY_S[0]
        while True:
            try:
                await start()
            except Unavailable as error:
                self._missing = f"{name}: {error.detail}"
                log.warning("dependency.awaited", service=self._infra.service, dependency=name, error=error.detail)
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, RETRY_S[1])
            else:
                return

    async def _check_start(self) -> str | None:
        if self._missing:
            raise Unavailable(self._missing)
        return None

    async def _keep_house(self) -> None:
        while True:
            before = self._infra.clock.now() - timedelta(days=self._infra.settings.journal_days)
            if count := await self._infra.store.prune(before):
                log.info("journal.pruned", service=self._infra.service, count=count)
            await asyncio.sleep(PRUNE_EVERY_S)

    async def _measure(self) -> None:
        """Keep gauges fresh, and know how far the queue has been read: deadlines depend on it."""
        infra, loop = self._infra, asyncio.get_running_loop()
        while True:
            begun = loop.time()
            await asyncio.sleep(LOOK_S)
            infra.metrics.loop_lag(max(0.0, loop.time() - begun - LOOK_S))
            try:
                infra.metrics.outbox_age(await infra.store.outbox_age_s(infra.clock.now()))
                state = await infra.bus.state(infra.service)
                infra.metrics.queue(ready=state.ready, delayed=state.delayed, dead=state.dead, oldest_s=state.oldest_s)
                await self._consumer.caught_up(infra.clock.now())
            except Unavailable as error:
                log.warning("measurement.missed", service=infra.service, error=error.detail)


def _check(ping: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[str | None]]:
    async def check() -> str | None:
        await ping()
        return None

    return check


@web.middleware
async def _tell_when_to_come_back(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Whatever is unavailable comes back in its own time; a client is to ask again, but not at once."""
    try:
        return await handler(request)
    except (Unavailable, NotYet) as error:
        if error.retry_after_s is None:
            error.retry_after_s = COME_BACK_S
        raise


def _observer(metrics: Metrics) -> Callable[[Served], None]:
    def observe(served: Served) -> None:
        metrics.served(served.method, served.route, served.status, served.duration_s)

    return observe
