"""/v1/subscriptions: webhooks of a user, and what became of the deliveries to them."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from aiohttp import web

from indaco_common.auth import Principal
from indaco_common.clock import Clock
from indaco_common.errors import Conflict, FieldError, Invalid, NotFound
from indaco_common.ids import user_id, uuid7
from indaco_common.secrets.port import Secrets
from indaco_common.store import Query, Repository
from indaco_common.store.locks import Locks
from indaco_common.web import NoQuery, describe, excerpt, json_response, read_json, read_query
from indaco_gateway.identity.access import Access, context, owner_of
from indaco_gateway.model.conflicts import WrongState
from indaco_gateway.model.delivery import Delivery
from indaco_gateway.model.subscription import (
    MAX_CLAIMED_GROUPS,
    Claims,
    Subscription,
    SubscriptionState,
    Terms,
    is_pattern,
    is_possible,
    nearest,
)
from indaco_gateway.races import rerun
from indaco_gateway.webhooks.destinations import Destinations
from indaco_gateway.webhooks.signing import WebhookSecrets

from .answers import MERGE_PATCH
from .webhook_models import (
    DeliveriesQuery,
    DeliveryList,
    NewSubscription,
    SecretShown,
    SubscriptionList,
    SubscriptionMade,
    SubscriptionPatch,
    SubscriptionShown,
    shown,
)

ONE = "/v1/subscriptions/{id}"
READING = (400, 401, 404, 503)
CHANGING = (400, 401, 403, 404, 409, 413, 415, 503)


class Subscriptions:
    """The subscriptions of whoever asks; nobody sees another's, not even an operator."""

    def __init__(
        self,
        access: Access,
        subscriptions: Repository[Subscription],
        destinations: Destinations,
        vault: Secrets,
        clock: Clock,
        *,
        limit: int,
        max_waiting: int,
    ) -> None:
        """*limit*: subscriptions of one user; *max_waiting*: deliveries of one subscription."""
        self._access, self._subscriptions, self._destinations = access, subscriptions, destinations
        self._secrets, self._clock, self._limit, self._max_waiting = (
            WebhookSecrets(vault, clock),
            clock,
            limit,
            max_waiting,
        )
        self._locks = Locks()

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/v1/subscriptions", self.index),
            web.post("/v1/subscriptions", self.create),
            web.get(ONE, self.show),
            web.patch(ONE, self.patch),
            web.delete(ONE, self.delete),
            web.post(f"{ONE}/pause", self.pause),
            web.post(f"{ONE}/resume", self.resume),
            web.post(f"{ONE}/rotate", self.rotate),
            web.post(f"{ONE}/ping", self.ping),
            web.get(f"{ONE}/deliveries", self.deliveries),
            web.post(f"{ONE}/deliveries/{{delivery}}/retry", self.retry),
        ]

    @describe(
        "List your subscriptions",
        tag="subscriptions",
        query=NoQuery,
        answers={200: SubscriptionList},
        errors=(400, 401, 503),
    )
    async def index(self, request: web.Request) -> web.Response:
        """All of them, in the order in which they were made: there are not many."""
        principal = await self._access.caller(request)
        read_query(request, NoQuery)
        found = []
        for each in await self._mine(principal):
            with suppress(NotFound):  # deleted meanwhile
                found.append(shown(await self._seen(each, principal, request)))
        return json_response(SubscriptionList(content=found))

    @describe(
        "Subscribe", tag="subscriptions", body=NewSubscription, answers={201: SubscriptionMade}, errors=CHANGING, sends=("Location",)
    )  # fmt: skip
    async def create(self, request: web.Request) -> web.Response:
        """The answer has the secret that its deliveries are signed with; it is not shown again."""
        principal = await self._access.writer(request)
        read_query(request, NoQuery)
        terms = self._terms({}, (await read_json(request, NewSubscription)).model_dump())
        user, id, now = _user(principal), uuid7(), self._clock.now()
        await self._locks.acquire(user)
        try:
            if len(await self._mine(principal)) >= self._limit:
                raise WrongState(f"There are {self._limit} subscriptions; delete one first")
            signer = await self._secrets.renew(user, id)  # first: a subscription without one could send nothing
            subscription = Subscription(id=id)
            subscription.begin(owner_of(principal), terms, self._claims(principal), now)
            await self._subscriptions.create(subscription, context(request, principal))
        finally:
            self._locks.release(user)
        location = f"{self._access.base(request)}/v1/subscriptions/{id}"
        made = SubscriptionMade(**shown(subscription).model_dump(), secret=signer.secrets[0])
        return json_response(made, status=201, headers={"Location": location})

    @describe(
        "Show a subscription", tag="subscriptions", query=NoQuery, answers={200: SubscriptionShown}, errors=READING
    )
    async def show(self, request: web.Request) -> web.Response:
        principal = await self._access.caller(request)
        read_query(request, NoQuery)
        found = await self._seen(await self._one(request, principal), principal, request)
        return json_response(shown(found))

    @describe(
        "Change a subscription", tag="subscriptions", body=SubscriptionPatch, body_type=MERGE_PATCH, answers={200: SubscriptionShown},
        errors=CHANGING,
    )  # fmt: skip
    async def patch(self, request: web.Request) -> web.Response:
        """What waits is sent to the new URL."""
        principal = await self._access.writer(request)
        read_query(request, NoQuery)
        await self._one(request, principal)
        body = await read_json(request, SubscriptionPatch, media_types=("application/json", MERGE_PATCH))
        changes = {name: getattr(body, name) for name in body.model_fields_set}

        def change(subscription: Subscription) -> None:
            terms = self._terms(subscription.terms.model_dump(), changes)
            subscription.change(terms, self._claims(principal), self._clock.now())

        return json_response(shown(await self._edit(request, principal, change)))

    @describe("Delete a subscription", tag="subscriptions", query=NoQuery, answers={204: None}, errors=CHANGING)
    async def delete(self, request: web.Request) -> web.Response:
        """What waits is not sent any more."""
        principal = await self._access.writer(request)
        read_query(request, NoQuery)
        deleted = await self._edit(request, principal, lambda one: one.delete(self._clock.now()))
        await self._secrets.forget(_user(principal), deleted.id)
        return web.Response(status=204)

    @describe(
        "Pause a subscription", tag="subscriptions", query=NoQuery, answers={200: SubscriptionShown}, errors=CHANGING
    )
    async def pause(self, request: web.Request) -> web.Response:
        """What waits stays; what happens meanwhile is not told later."""
        principal = await self._access.writer(request)
        read_query(request, NoQuery)
        paused = await self._edit(request, principal, lambda one: one.pause("paused by its owner", self._clock.now()))
        return json_response(shown(paused))

    @describe(
        "Resume a subscription", tag="subscriptions", query=NoQuery, answers={200: SubscriptionShown}, errors=CHANGING
    )
    async def resume(self, request: web.Request) -> web.Response:
        """What waits is sent first."""
        principal = await self._access.writer(request)
        read_query(request, NoQuery)
        return json_response(shown(await self._edit(request, principal, lambda one: one.resume(self._clock.now()))))

    @describe("Replace the secret", tag="subscriptions", query=NoQuery, answers={200: SecretShown}, errors=CHANGING)
    async def rotate(self, request: web.Request) -> web.Response:
        """For a day deliveries are signed with the earlier secret as well."""
        principal = await self._access.writer(request)
        read_query(request, NoQuery)
        one = await self._one(request, principal)
        signer = await self._secrets.renew(_user(principal), one.id)
        await self._edit(request, principal, lambda one: one.rotated(signer.created_at))
        return json_response(
            SecretShown(secret=signer.secrets[0], created_at=signer.created_at, previous_until=signer.previous_until)
        )

    @describe("Send a test", tag="subscriptions", query=NoQuery, answers={202: Delivery}, errors=CHANGING)
    async def ping(self, request: web.Request) -> web.Response:
        """An event of the type ``subscription.ping`` is queued; the deliveries tell what became of it."""
        return await self._queued(request, lambda one: one.ping(self._clock.now(), self._max_waiting))

    @describe(
        "List deliveries", tag="subscriptions", query=DeliveriesQuery, answers={200: DeliveryList}, errors=READING
    )
    async def deliveries(self, request: web.Request) -> web.Response:
        """All that wait, and the last 50 each that arrived and that were given up."""
        principal = await self._access.caller(request)
        asked = read_query(request, DeliveriesQuery)
        found = await self._seen(await self._one(request, principal), principal, request)
        return json_response(asked.of(found.queue.newest()))

    @describe("Retry a delivery", tag="subscriptions", query=NoQuery, answers={202: Delivery}, errors=CHANGING)
    async def retry(self, request: web.Request) -> web.Response:
        """One that is dead is tried as if it were new; one that waits, at once."""
        return await self._queued(request, lambda one: one.retry(request.match_info["delivery"], self._clock.now()))

    async def _queued(self, request: web.Request, queue: Callable[[Subscription], Delivery]) -> web.Response:
        principal = await self._access.writer(request)
        read_query(request, NoQuery)
        queued: list[Delivery] = []
        await self._edit(request, principal, lambda one: queued.append(queue(one)))
        return json_response(queued[-1], status=202)

    async def _mine(self, principal: Principal) -> list[Subscription]:
        states = [SubscriptionState.ACTIVE.value, SubscriptionState.PAUSED.value]
        owned = {"owner.issuer": principal.issuer, "owner.subject": principal.subject}
        found, _ = await self._subscriptions.find(
            Query(equal=owned, any_of={"state": states}, descending=False, limit=self._limit * 2, is_counted=False)
        )
        return found

    async def _one(self, request: web.Request, principal: Principal) -> Subscription:
        """Raises: NotFound."""
        id = request.match_info["id"]
        try:
            found = await self._subscriptions.get(id)
        except NotFound:
            raise _absent(id) from None
        _require(found, principal)
        return found

    async def _edit(
        self, request: web.Request, principal: Principal, change: Callable[[Subscription], Any]
    ) -> Subscription:
        """Change the subscription in the path, whoever else does at the same time. Raises: NotFound, WrongState, Conflict."""
        id, ctx = request.match_info["id"], context(request, principal)

        async def once() -> Subscription:
            async with self._subscriptions.edit(id, ctx) as subscription:
                _require(subscription, principal)
                subscription.saw(self._claims(principal))
                change(subscription)
            return subscription

        return await _known(id, lambda: rerun(once))

    async def _seen(self, one: Subscription, principal: Principal, request: web.Request) -> Subscription:
        """Note what the token says now, where that decides about anything. Raises: NotFound, if it was deleted meanwhile."""
        if one.terms.scope == "own" or not one.model_copy().saw(self._claims(principal)):
            return one
        ctx = context(request, principal)

        async def once() -> Subscription:
            async with self._subscriptions.edit(one.id, ctx) as subscription:
                _require(subscription, principal)
                subscription.saw(self._claims(principal))
            return subscription

        try:
            return await _known(one.id, lambda: rerun(once))
        except Conflict:  # much goes on there: the next look notes it
            return one

    def _claims(self, principal: Principal) -> Claims:
        groups, scopes = sorted(principal.groups)[:MAX_CLAIMED_GROUPS], sorted(principal.scopes)
        return Claims(groups=tuple(groups), scopes=tuple(scopes), seen_at=self._clock.now())

    def _terms(self, known: dict[str, Any], given: dict[str, Any]) -> Terms:
        """Return *known* with what is *given*; what is known already may be of a time when other types were. Raises: Invalid."""
        terms = {**known, **given}
        errors = [
            FieldError(f"/types/{index}", why)
            for index, each in enumerate(given.get("types", ()))
            if (why := _unfit(each))
        ]
        if why := self._destinations.refusal(terms["url"]):
            errors.append(FieldError("/url", why))
        if terms["group"] is not None:
            terms["group"] = terms["group"].removeprefix("/")
        if terms["group"] == "":
            errors.append(FieldError("/group", "This is not the path of a group, such as cms or cms/analysis"))
        if errors:
            raise Invalid(f"{len(errors)} field(s) of the body are wrong", errors=errors)
        return Terms(**terms)


def _unfit(pattern: str) -> str:
    """Return what is wrong with *pattern*, or nothing."""
    if not is_pattern(pattern):
        return f"{excerpt(pattern)} is not a type such as deployment.running, nor a pattern such as deployment.*"
    if not is_possible(pattern):
        return f"{excerpt(pattern)} is no event's type, and would match none; the nearest are {', '.join(nearest(pattern))}"
    return ""


async def _known(id: str, work: Callable[[], Awaitable[Subscription]]) -> Subscription:
    try:
        return await work()
    except NotFound as error:
        raise (_absent(id) if id in error.detail else error) from None


def _require(subscription: Subscription, principal: Principal) -> None:
    """Raises: NotFound."""
    if subscription.owner != owner_of(principal) or subscription.state is SubscriptionState.DELETED:
        raise _absent(subscription.id)


def _absent(id: str) -> NotFound:
    return NotFound(f"There is no subscription {excerpt(id)}")


def _user(principal: Principal) -> str:
    return user_id(principal.issuer, principal.subject)
