"""Providers, agreements, quotas and usage, put together: what is heard of them, and what is answered."""

from aiohttp import web

from indaco_common.service import Infra

from .access import Access
from .api.agreements import AgreementsApi
from .api.providers import ProvidersApi
from .api.usage import UsageApi
from .handlers import Federation, Usage
from .model.agreement_view import AgreementView
from .model.provider_view import ProviderView
from .model.usage_view import UsageView


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
