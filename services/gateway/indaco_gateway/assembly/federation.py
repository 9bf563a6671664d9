"""Providers, agreements, quotas and usage, put together: what is heard of them, and what is answered."""

from aiohttp import web

from indaco_common.service import Infra
from indaco_gateway.api.agreements import AgreementsApi
from indaco_gateway.api.providers import ProvidersApi
from indaco_gateway.api.usage import UsageApi
from indaco_gateway.handlers import Federation, Usage
from indaco_gateway.identity.access import Access
from indaco_gateway.model.agreement_view import AgreementView
from indaco_gateway.model.provider_view import ProviderView
from indaco_gateway.model.usage_view import UsageView


class FederationViews:
    """The parts that the gateway runs."""

    def __init__(self, infra: Infra, access: Access) -> None:
        providers, agreements = infra.repository(ProviderView), infra.repository(AgreementView)
        used = infra.repository(UsageView)
        self.handlers = (Federation(providers, agreements), Usage(used))
        self._apis = (
            ProvidersApi(access, providers),
            AgreementsApi(access, agreements, infra.clock),
            UsageApi(access, used, infra.clock),
        )

    def routes(self) -> list[web.RouteDef]:
        return [route for api in self._apis for route in api.routes()]
