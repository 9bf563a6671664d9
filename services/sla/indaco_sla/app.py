"""Builds sla."""

from datetime import timedelta

from indaco_common.service import Infra, Service, ServiceSpec

from . import federation
from .handlers import Ledgers, Placing, Registering
from .model.ledger import Ledger
from .model.placement import Placement
from .model.proposal import Proposal
from .model.quota_report import QuotaReport
from .model.registry import Agreement, Provider
from .offers import Offers
from .proposing import Proposing
from .reporting import Reporting
from .settings import SlaSettings


def build(infra: Infra, settings: SlaSettings) -> Service:
    ledgers, providers, agreements = (
        infra.repository(Ledger), infra.repository(Provider), infra.repository(Agreement),
    )  # fmt: skip
    offers = Offers(
        providers, agreements, ledgers, infra.clock, infra.hints, refresh=timedelta(seconds=settings.refresh_s)
    )
    registering = Registering(providers, agreements, ledgers, infra.clock)
    handlers = (
        Placing(infra.repository(Placement), offers, infra.clock), Ledgers(ledgers, infra.clock), registering,
        Proposing(infra.repository(Proposal), offers, ledgers, infra.clock),
    )  # fmt: skip

    reporting = Reporting(
        ledgers, infra.repository(QuotaReport), infra.clock, every=timedelta(seconds=settings.report_s)
    )

    async def load() -> None:
        if settings.federation is not None:
            path = federation.DEMO if settings.federation == "demo" else settings.federation
            await registering.load(federation.load(path))

    return Service(infra, handlers=handlers, starting=(load,), tasks={"quota": reporting.run})


SERVICE = ServiceSpec("sla", SlaSettings, handlers=(Placing, Ledgers, Registering, Proposing), build=build, port=8081)
