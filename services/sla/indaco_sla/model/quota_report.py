"""What was told of a ledger last: apart from the ledger, so that telling costs those nothing who reserve."""

from datetime import datetime
from typing import ClassVar

from indaco_common.contracts import sla
from indaco_common.messages import Value
from indaco_common.store import Aggregate
from indaco_common.units import ResourceVector

from .ledger import COUNTED, Ledger, State


class Standing(Value):
    """How a ledger stands: ``used`` by what runs, ``held`` for what is being built. Both count against the limits."""

    provider: str
    region: str
    limits: ResourceVector
    used: ResourceVector
    held: ResourceVector

    @classmethod
    def of(cls, ledger: Ledger) -> "Standing":
        lines = [line for line in ledger.reservations.values() if line.state in COUNTED]
        used = ResourceVector.sum(v for line in lines if line.state is State.COMMITTED for v in line.nodes.values())
        held = ResourceVector.sum(v for line in lines if line.state is not State.COMMITTED for v in line.nodes.values())
        return cls(provider=ledger.provider, region=ledger.region, limits=ledger.limits, used=used, held=held)


class QuotaReport(Aggregate):
    """One per ledger, with the same id. ``revision`` is the ledger's version of which it has told."""

    KIND: ClassVar[str] = "quota-report"

    revision: int = 0
    told: Standing | None = None

    def tell(self, standing: Standing, revision: int, now: datetime) -> None:
        """Tell how the ledger stands at *revision*; what is known, or older than that, is nothing."""
        if revision <= self.revision or standing == self.told:
            return
        self.revision, self.told = revision, standing
        self.emit(
            sla.QuotaChanged(
                ledger_id=self.id, revision=revision, provider=standing.provider, region=standing.region, limits=standing.limits,
                used=standing.used, held=standing.held, as_of=now,
            )
        )  # fmt: skip
