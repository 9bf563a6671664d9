"""Usage as counters, restored from the records at the start. A view for dashboards: the ledger is the records.

Labels come from the registry of places and groups alone, and their combinations are bounded: never a user, deployment or machine.
"""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge

from .model import Facts, UsageRecord
from .rating import Usage

LABELS = ("provider", "region", "project", "vo")
OTHER = "other"


class UsageMetrics:
    """With several replicas each counts what it has handled, on top of what there was at its start."""

    def __init__(self, registry: CollectorRegistry, *, max_labelsets: int) -> None:
        self._wall = Counter("indaco_usage_wall_seconds", "Time that nodes have existed", LABELS, registry=registry)
        self._cpu = Counter("indaco_usage_cpu_seconds", "That time by allocated vCPUs", LABELS, registry=registry)
        self._corrections = Counter(
            "indaco_usage_corrections",
            "Usage counted that later proved too much, in seconds",
            ["meter"],
            registry=registry,
        )
        self._open = Gauge("indaco_accounting_open_records", "Nodes that have started and not ended", registry=registry)
        self._held = Gauge(
            "indaco_accounting_held_records", "Records that the last export could not write", registry=registry
        )
        self._dropped = Counter(
            "indaco_metrics_dropped_labelsets", "Usage counted under 'other', for want of room", registry=registry
        )
        self._max_labelsets = max_labelsets
        self._known: set[tuple[str, ...]] = set()

    def restore(self, records: Iterable[UsageRecord]) -> None:
        """Count what *records* have used so far."""
        for record in records:
            self.add(record.facts, before=Usage(), after=record.usage())

    def add(self, facts: Facts | None, *, before: Usage, after: Usage) -> None:
        """Count the growth of one record; a counter may not fall, so a loss is counted apart."""
        if facts is None:
            return
        grown = {"wall": after.wall_s - before.wall_s, "cpu": after.cpu_s - before.cpu_s}
        labels = self._labels(facts)
        for meter, counter in (("wall", self._wall), ("cpu", self._cpu)):
            amount = float(grown[meter])
            if amount >= 0:
                counter.labels(*labels).inc(amount)
            else:
                self._corrections.labels(meter).inc(-amount)

    def opened(self, count: int) -> None:
        """Set how many records are open."""
        self._open.set(count)

    def held(self, count: int) -> None:
        self._held.set(count)

    def _labels(self, facts: Facts) -> tuple[str, ...]:
        vo = facts.group.path.strip("/").partition("/")[0]
        labels = (facts.place.provider, facts.place.region, facts.place.project, vo)
        if labels in self._known:
            return labels
        if len(self._known) >= self._max_labelsets:
            self._dropped.inc()
            return (facts.place.provider, facts.place.region, OTHER, OTHER)
        self._known.add(labels)
        return labels
