"""The handlers of four services on one store, as their ``app.py`` builds them, with their times in ticks (seconds) of this world."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar, cast

from prometheus_client import CollectorRegistry
from tests.protocol.sites import Issuer, Turns, Vault
from tests.protocol.storage import MemoryStore

from indaco_accounting.handlers import Recording
from indaco_accounting.metrics import UsageMetrics
from indaco_accounting.model import UsageRecord
from indaco_common.clock import ManualClock
from indaco_common.contracts.values import Group
from indaco_common.handling import Handler, collect
from indaco_common.imports import PinnedImports
from indaco_common.store import Aggregate, Repository
from indaco_orchestrator.handlers import Deploying
from indaco_orchestrator.model.deployment import Deployment
from indaco_orchestrator.model.values import Timing
from indaco_sla.handlers import Ledgers, Placing
from indaco_sla.matching import Option
from indaco_sla.model import ledger
from indaco_sla.model.ledger import Ledger
from indaco_sla.model.placement import Placement
from indaco_vault_broker.handlers import Leasing, Sweeping
from indaco_vault_broker.model import lease
from indaco_vault_broker.model.lease import Lease

A = TypeVar("A", bound=Aggregate)

HOLD = timedelta(seconds=60)
CREDENTIAL_TTL_S = 240.0
TIMING = Timing(
    wait=timedelta(seconds=150),
    attempt=timedelta(seconds=150),
    unreachable=timedelta(seconds=90),
    claim=timedelta(seconds=30),
    alive=HOLD / 3,
    poll=timedelta(seconds=2),
    poll_max=timedelta(seconds=8),
    watch=timedelta(seconds=12),
    sample=timedelta(seconds=40),
    delete=timedelta(seconds=100),
    force=timedelta(seconds=40),
    action=timedelta(seconds=60),
)


@dataclass(frozen=True, slots=True)
class Parts:
    """What the world gives to the services."""

    store: MemoryStore
    clock: ManualClock
    turns: Turns
    vault: Vault
    issuer: Issuer
    offers: Callable[[], Sequence[Option]]
    heard: Callable[[], datetime | None]


class Offers:
    """The registry as matching needs it."""

    def __init__(self, options: Callable[[], Sequence[Option]]) -> None:
        self._options = options

    async def of(self, group: Group) -> list[Option]:
        return list(self._options())


class Services:
    """Which service reads what, and whose timer is whose."""

    def __init__(self, parts: Parts) -> None:
        ledger.HOLD, lease.RETRY_RENEWAL = HOLD, timedelta(seconds=20)
        self.readers: dict[str, dict[str, list[Handler]]] = {}  # by message, by service
        self.timers: dict[str, Handler] = {}  # by kind of aggregate
        self.ledgers = self._repository(parts, Ledger, "sla")
        handlers: dict[str, list[object]] = {
            "sla": [
                Placing(self._repository(parts, Placement, "sla"), cast("Any", Offers(parts.offers)), parts.clock),
                Ledgers(self.ledgers, parts.clock),
            ],
            "orchestrator": [
                Deploying(
                    self._repository(parts, Deployment, "orchestrator"), cast("Any", parts.store), PinnedImports(None),
                    cast("Any", parts.turns), parts.clock, TIMING, parts.heard,
                )
            ],
            "vault-broker": [
                Leasing(
                    self._repository(parts, Lease, "vault-broker"), cast("Any", parts.issuer), cast("Any", parts.vault),
                    parts.clock, ttl_s=CREDENTIAL_TTL_S,
                ),
                Sweeping(cast("Any", parts.vault)),
            ],
            "accounting": [
                Recording(
                    self._repository(parts, UsageRecord, "accounting"),
                    UsageMetrics(CollectorRegistry(), max_labelsets=100),
                )
            ],
        }  # fmt: skip
        for service, instances in handlers.items():
            by_type, timers = collect(instances)
            for name, methods in by_type.items():
                self.readers.setdefault(name, {})[service] = methods
            self.timers |= {kind.KIND: timer for kind, timer in timers.items()}

    @staticmethod
    def _repository(parts: Parts, kind: type[A], service: str) -> Repository[A]:
        return Repository(cast("Any", parts.store), kind, source=service, clock=parts.clock, saved=lambda _, __: None)
