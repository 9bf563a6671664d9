"""Builds sla."""

from datetime import timedelta

from indaco_common.service import Infra, Service, ServiceSpec

from . import federation
from .handlers import Ledgers, Placing, Registering
from .model.ledger import Ledger
from .model.placement import Placement
from .model.registry import Agreement, Provider
from .offers import Offers
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
    )  # fmt: skip

    async def load() -> None:
        if settings.federation is not None:
            path = federation.DEMO if settings.federation == "demo" else settings.federation
            await registering.load(federation.load(path))

    return Service(infra, handlers=handlers, starting=(load,))


SERVICE = ServiceSpec("sla", SlaSettings, handlers=(Placing, Ledgers, Registering), build=build, port=8081)
