"""Every metric, declared once; a registry per service, so that five in one process keep apart."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """The kernel's metrics of one service; a service adds its own to ``registry``."""

    def __init__(self, service: str) -> None:
        self.registry = CollectorRegistry()
        self._processed = Histogram(
            "messaging_process_duration_seconds",
            "Time to handle one message",
            ["service", "type", "outcome"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self._published = Counter(
            "messaging_client_published_messages", "Messages confirmed by the bus", ["service"], registry=self.registry
        )
        self._outbox_age = Gauge(
            "indaco_outbox_age_seconds",
            "Age of the oldest message not yet relayed",
            ["service"],
            registry=self.registry,
        )
        self._queue = Gauge(
            "indaco_queue_messages", "Messages in the service's queues", ["service", "state"], registry=self.registry
        )
        self._queue_age = Gauge(
            "indaco_queue_age_seconds", "Age of the oldest message that waits", ["service"], registry=self.registry
        )
        self._timers = Counter(
            "indaco_timers", "Timers that came due", ["service", "aggregate", "outcome"], registry=self.registry
        )
        self._brake = Gauge(
            "indaco_brake_engaged", "1 while the consumer is paused by an outage", ["service"], registry=self.registry
        )
        self._loop_lag = Gauge(
            "indaco_event_loop_lag_seconds", "How late the event loop runs", ["service"], registry=self.registry
        )
        self._requests = Histogram(
            "http_server_request_duration_seconds",
            "Time to answer a request",
            ["service", "method", "route", "status"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self._service = service

    def handled(self, type: str, outcome: str, seconds: float) -> None:
        self._processed.labels(self._service, type, outcome).observe(seconds)

    def published(self, count: int) -> None:
        self._published.labels(self._service).inc(count)

    def timer(self, aggregate: str, outcome: str) -> None:
        self._timers.labels(self._service, aggregate, outcome).inc()

    def outbox_age(self, seconds: float) -> None:
        self._outbox_age.labels(self._service).set(seconds)

    def queue(self, *, ready: int, delayed: int, dead: int, oldest_s: float | None) -> None:
        for state, count in (("ready", ready), ("delayed", delayed), ("dead", dead)):
            self._queue.labels(self._service, state).set(count)
        self._queue_age.labels(self._service).set(oldest_s or 0.0)

    def brake(self, engaged: bool) -> None:  # noqa: FBT001
        self._brake.labels(self._service).set(1 if engaged else 0)

    def loop_lag(self, seconds: float) -> None:
        self._loop_lag.labels(self._service).set(seconds)

    def served(self, method: str, route: str, status: int, seconds: float) -> None:
        self._requests.labels(self._service, method, route, str(status)).observe(seconds)
