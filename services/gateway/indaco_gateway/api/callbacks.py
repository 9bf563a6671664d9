"""What became of the callbacks of a deployment, and the secret that a user's callbacks are signed with."""

import pydantic
from aiohttp import web
from pydantic import AwareDatetime

from indaco_common.clock import Clock
from indaco_common.errors import NotFound
from indaco_common.ids import user_id
from indaco_common.secrets.port import Secrets
from indaco_common.store import Repository
from indaco_common.web import NoQuery, describe, json_response, read_query
from indaco_gateway.identity.access import Access, Right, context
from indaco_gateway.model.delivery import Delivery
from indaco_gateway.model.subscription import Callback
from indaco_gateway.races import rerun
from indaco_gateway.webhooks.signing import CALLBACK, WebhookSecrets

from .webhook_models import DeliveriesQuery, DeliveryList, SecretShown

SECRET = "/v1/webhook-secret"  # noqa: S105 - a path
DELIVERIES = "/v1/deployments/{id}/callback-deliveries"
READING = (400, 401, 403, 404, 503)
CHANGING = (400, 401, 403, 404, 409, 503)


class SecretFacts(pydantic.BaseModel):
    """When it was made, and until when earlier ones sign as well."""

    created_at: AwareDatetime
    previous_until: AwareDatetime | None


class Callbacks:
    """Deliveries are their deployment's owner's to see; the secret is that of whoever asks."""

    def __init__(self, access: Access, callbacks: Repository[Callback], vault: Secrets, clock: Clock) -> None:
        self._access, self._callbacks, self._clock = access, callbacks, clock
        self._secrets = WebhookSecrets(vault, clock)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get(SECRET, self.facts),
            web.post(SECRET, self.renew),
            web.get(DELIVERIES, self.deliveries),
            web.post(f"{DELIVERIES}/{{delivery}}/retry", self.retry),
        ]

    @describe(
        "Show whether callbacks are signed", tag="callbacks", query=NoQuery, answers={200: SecretFacts}, errors=READING
    )
    async def facts(self, request: web.Request) -> web.Response:
        """404 before a secret was made: callbacks have no signature then. The secret itself is shown when it is made."""
        principal = await self._access.caller(request)
        read_query(request, NoQuery)
        signer = await self._secrets.signer(user_id(principal.issuer, principal.subject), CALLBACK)
        if signer is None:
            raise NotFound(f"There is no secret yet: make one with POST {SECRET}")
        return json_response(SecretFacts(created_at=signer.created_at, previous_until=signer.previous_until))

    @describe(
        "Make a secret for callbacks", tag="callbacks", query=NoQuery, answers={201: SecretShown}, errors=CHANGING
    )
    async def renew(self, request: web.Request) -> web.Response:
        """From now on the callbacks of all your deployments are signed with it; for a day with an earlier one as well."""
        principal = await self._access.writer(request)
        read_query(request, NoQuery)
        signer = await self._secrets.renew(user_id(principal.issuer, principal.subject), CALLBACK)
        made = SecretShown(secret=signer.secrets[0], created_at=signer.created_at, previous_until=signer.previous_until)
        return json_response(made, status=201)

    @describe(
        "List deliveries to the callback",
        tag="callbacks",
        query=DeliveriesQuery,
        answers={200: DeliveryList},
        errors=READING,
    )
    async def deliveries(self, request: web.Request) -> web.Response:
        """All that wait, and the last 50 each that arrived and that were given up."""
        operation, _ = await self._access.operation(request, Right.OWN)
        asked = read_query(request, DeliveriesQuery)
        try:
            found = (await self._callbacks.get(operation.id)).queue.newest()
        except NotFound:
            found = []
        return json_response(asked.of(found))

    @describe(
        "Retry a delivery to the callback", tag="callbacks", query=NoQuery, answers={202: Delivery}, errors=CHANGING
    )
    async def retry(self, request: web.Request) -> web.Response:
        """One that is dead is tried as if it were new; one that waits, at once."""
        operation, _ = await self._access.operation(request, Right.OWN)
        principal = await self._access.writer(request)
        read_query(request, NoQuery)
        ctx, delivery = context(request, principal), request.match_info["delivery"]

        async def once() -> Delivery:
            async with self._callbacks.upsert(operation.id, ctx) as callback:
                return callback.retry(delivery, self._clock.now())

        return json_response(await rerun(once), status=202)
