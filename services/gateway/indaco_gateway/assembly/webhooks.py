"""Everything that tells others of deployments, put together: subscriptions, callbacks, and the way out."""

from collections.abc import Awaitable, Callable

from aiohttp import web

from indaco_common.service import Infra
from indaco_common.store import Repository
from indaco_gateway.api.callbacks import Callbacks
from indaco_gateway.api.subscriptions import Subscriptions
from indaco_gateway.identity.access import Access
from indaco_gateway.model.operation import Operation
from indaco_gateway.model.subscription import Callback, Subscription
from indaco_gateway.settings import GatewaySettings
from indaco_gateway.webhooks.announcing import Announcements
from indaco_gateway.webhooks.deliveries import Delivering, DeliveryMetrics
from indaco_gateway.webhooks.destinations import Destinations
from indaco_gateway.webhooks.listeners import Listeners
from indaco_gateway.webhooks.outbound import Outbound
from indaco_gateway.webhooks.reading import ClaimedReaders
from indaco_gateway.webhooks.signing import WebhookSecrets


class Webhooks:
    """The parts that the gateway runs, and the one that its handlers tell of what they have saved."""

    def __init__(
        self, infra: Infra, settings: GatewaySettings, operations: Repository[Operation], access: Access
    ) -> None:
        subscriptions, callbacks = infra.repository(Subscription), infra.repository(Callback)
        clock, limit = infra.clock, settings.max_waiting_deliveries
        self.destinations = Destinations.of(settings.callback_networks, settings.callback_ports)
        self._listeners = Listeners(subscriptions, ClaimedReaders(access), infra.hints, clock)
        self.announcements = Announcements(subscriptions, callbacks, self._listeners, infra.hints, clock, limit)
        self._outbound = Outbound(self.destinations, clock)
        self.delivering = Delivering(
            operations, subscriptions, callbacks, self._listeners, WebhookSecrets(infra.vault, clock), self._outbound,
            DeliveryMetrics(infra.metrics.registry), clock, settings.dead_deliveries,
        )  # fmt: skip
        self._apis = (
            Subscriptions(
                access, subscriptions, self.destinations, infra.vault, clock, limit=settings.max_subscriptions, max_waiting=limit
            ),
            Callbacks(access, callbacks, infra.vault, clock),
        )  # fmt: skip

    def routes(self) -> list[web.RouteDef]:
        return [route for api in self._apis for route in api.routes()]

    @property
    def tasks(self) -> dict[str, Callable[[], Awaitable[None]]]:
        return {"subscriptions": self._listeners.run, "announcements": self.announcements.run}

    async def open(self) -> None:
        """Before the first event is handled. Raises: Unavailable."""
        await self._listeners.load()
        await self._outbound.open()

    async def close(self) -> None:
        await self._outbound.close()
