"""Sends what waits: to the webhooks of subscriptions, and to the callbacks of deployments.

A batch is claimed by a save, sent, and settled by another. A process that dies in between has sent some of it: that is sent again, under the same
id, when the claim ends. One receiver is spoken to by one process at a time, about one deployment in the order of its steps; after a failure the later
steps do not wait for the earlier one. How many batches go to one host, and for one owner, at a time is bounded (:mod:`.shares`).
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from itertools import groupby

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram

from indaco_common.clock import Clock
from indaco_common.envelope import Context
from indaco_common.errors import NotFound, Unavailable
from indaco_common.handling import on_due
from indaco_common.ids import user_id, uuid7
from indaco_common.metrics import BUCKETS
from indaco_common.store import Repository
from indaco_common.web import json_text
from indaco_gateway.indigo import render
from indaco_gateway.model.delivery import Delivery, Result
from indaco_gateway.model.operation import Facts, Operation, Step
from indaco_gateway.model.subscription import PING, Callback, Subscription, SubscriptionState
from indaco_gateway.races import rerun

from . import cloudevents
from .destinations import host_of
from .listeners import Listeners
from .outbound import Outbound, Post
from .shares import Job, Shares
from .signing import CALLBACK, Signer, WebhookSecrets, headers

BATCH_S = 15.0  # no delivery of a batch begins later; with one more it is shorter than a claim
AT_ONCE = 8  # requests to one receiver
CRASHED = Result(error="the gateway failed to make or send it; its operator finds the reason in the log")
LATENCIES = (0.1, 0.5, 1, 5, 30, 120, 600, 3600, 6 * 3600, 24 * 3600)

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)
Send = Callable[[Delivery], Awaitable[Result | None]]


class DeliveryMetrics:
    """What became of tries, how long each took, and how old the events were that arrived."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._tries = Counter(
            "indaco_deliveries",
            "Tries to deliver, by what became of the delivery",
            ["kind", "outcome"],
            registry=registry,
        )
        self._duration = Histogram(
            "indaco_delivery_duration_seconds", "Time of one try", ["kind"], buckets=BUCKETS, registry=registry
        )
        self._latency = Histogram(
            "indaco_delivery_latency_seconds", "Age of an event when its receiver took it", ["kind"], buckets=LATENCIES, registry=registry
        )  # fmt: skip

    def tried(self, kind: str, seconds: float) -> None:
        self._duration.labels(kind).observe(seconds)

    def settled(self, kind: str, delivery: Delivery) -> None:
        """Count it as delivered, failed (it will be tried again), dead, or withheld."""
        outcome = "failed" if delivery.state == "waiting" else delivery.state.value
        self._tries.labels(kind, outcome).inc()
        if outcome == "delivered" and delivery.ended_at is not None:
            self._latency.labels(kind).observe((delivery.ended_at - delivery.created_at).total_seconds())


class Delivering:
    """The timers of subscriptions and callbacks."""

    def __init__(
        self,
        operations: Repository[Operation],
        subscriptions: Repository[Subscription],
        callbacks: Repository[Callback],
        listeners: Listeners,
        secrets: WebhookSecrets,
        outbound: Outbound,
        metrics: DeliveryMetrics,
        clock: Clock,
        dead_limit: int,
    ) -> None:
        self._operations, self._subscriptions, self._callbacks = operations, subscriptions, callbacks
        self._listeners, self._secrets, self._outbound = listeners, secrets, outbound
        self._metrics, self._clock, self._dead_limit = metrics, clock, dead_limit
        self._shares = Shares()

    @on_due(Subscription)
    async def serve(self, id: str, ctx: Context) -> None:
        """Send what is due of one subscription, if there is room; of one that is deleted, take away what is left."""
        if (job := self._shares.noted(id)) is None:
            subscription = await self._subscriptions.get(id)
            user = user_id(subscription.owner.issuer, subscription.owner.subject)
            if subscription.state is SubscriptionState.DELETED:
                await self._secrets.forget(user, id)
                await self._subscriptions.remove(id, ctx)
                return
            host = host_of(subscription.terms.url)
            job = Job(Subscription.KIND, id, host, user, lambda ctx: self._serve(id, user, ctx))
        await self._shares.run(job, ctx)

    @on_due(Callback)
    async def call_back(self, id: str, ctx: Context) -> None:
        """Send what is due to one deployment's callback, if there is room."""
        if (job := self._shares.noted(id)) is None:
            operation = await self._operations.get_part(id, Facts)
            user = user_id(operation.owner.issuer, operation.owner.subject)
            host = host_of(operation.callback or "")
            job = Job(Callback.KIND, id, host, user, lambda ctx: self._call_back(id, user, ctx))
        await self._shares.run(job, ctx)

    async def _serve(self, id: str, user: str, ctx: Context) -> None:
        signer = await self._secrets.signer(user, id)  # before the claim: without a vault no try is spent
        token, now = uuid7(), self._clock.now()
        async with self._subscriptions.edit(id, ctx) as subscription:
            due = subscription.take(token, now)
        if due:
            results = await self._send_all("subscription", due, lambda one: self._to_webhook(subscription, one, signer))
            await rerun(lambda: self._settle_subscription(id, token, results))

    async def _call_back(self, id: str, user: str, ctx: Context) -> None:
        signer = await self._secrets.signer(user, CALLBACK)
        token, now = uuid7(), self._clock.now()
        async with self._callbacks.edit(id, ctx) as callback:
            due = callback.take(token, now)
        if due:
            results = await self._send_all("callback", due, lambda one: self._to_callback(one, signer))
            await rerun(lambda: self._settle_callback(id, token, results))

    async def _send_all(self, kind: str, due: list[Delivery], send: Send) -> dict[str, Result]:
        """Return what came of those that were tried: some deployments beside each other, the steps of one in turn.

        Who gives no answer at all is asked nothing more in this batch.
        """
        results: dict[str, Result] = {}
        loop, slots = asyncio.get_running_loop(), asyncio.Semaphore(AT_ONCE)
        end = loop.time() + BATCH_S

        async def in_turn(deliveries: list[Delivery]) -> None:
            nonlocal end
            for delivery in deliveries:
                async with slots:
                    begun = loop.time()
                    if begun > end or (result := await _tried(send, delivery)) is None:
                        return
                results[delivery.id] = result
                self._metrics.tried(kind, loop.time() - begun)
                if _is_silence(result):
                    end = 0.0
                if result.error:
                    return

        ordered = sorted(due, key=lambda delivery: (delivery.deployment, delivery.step))
        await asyncio.gather(*(in_turn(list(some)) for _, some in groupby(ordered, key=lambda one: one.deployment)))
        return results

    async def _to_webhook(self, subscription: Subscription, delivery: Delivery, signer: Signer | None) -> Result | None:
        if signer is None:
            return Result(error="the secret is not in the vault; rotate it")
        if delivery.type == PING:
            body = cloudevents.of_ping(delivery, subscription.id)
        else:
            found = await self._found(delivery)
            if not isinstance(found, tuple):
                return found
            operation, step = found
            if not self._listeners.may_know(subscription, operation):
                return Result(error="the subscriber may not read the deployment now", is_withheld=True)
            body = cloudevents.of_step(delivery, operation, step)
        return await self._post(subscription.terms.url, delivery, body, cloudevents.CONTENT_TYPE, signer)

    async def _to_callback(self, delivery: Delivery, signer: Signer | None) -> Result | None:
        """INDIGO's deployment, as it stands now, and which step it is sent for."""
        found = await self._found(delivery)
        if not isinstance(found, tuple):
            return found
        operation, step = found
        if operation.callback is None:
            return Result(error="the deployment has no callback any more", is_over=True)
        content = {**render.deployment(operation, None), "step": step.number, "event": delivery.type}
        return await self._post(operation.callback, delivery, json_text(content), "application/json", signer)

    async def _found(self, delivery: Delivery) -> tuple[Operation, Step] | Result | None:
        """Return what the delivery is about, or why it cannot be sent; None if that cannot be told now."""
        try:
            operation = await self._operations.get(delivery.deployment)
        except NotFound:
            return Result(error="the deployment is not known any more", is_over=True)
        except Unavailable:
            return None
        for step in reversed(operation.timeline):
            if step.number == delivery.step:
                return operation, step
        return Result(error="the step is not in the timeline any more", is_over=True)

    async def _post(self, url: str, delivery: Delivery, body: bytes, type: str, signer: Signer | None) -> Result:
        secrets = signer.secrets if signer is not None else ()
        signed = headers(delivery.id, body, at=self._clock.now(), secrets=secrets)
        return await self._outbound.post(Post(url, body, {"Content-Type": type, **signed}))

    async def _settle_subscription(self, id: str, token: str, results: Mapping[str, Result]) -> None:
        async with self._subscriptions.edit(id, Context()) as subscription:
            tried = subscription.settle(
                token, results, now=self._clock.now(), spread=random.random(), dead_limit=self._dead_limit  # noqa: S311 - to spread load
            )  # fmt: skip
        self._note("subscription", id, tried)

    async def _settle_callback(self, id: str, token: str, results: Mapping[str, Result]) -> None:
        async with self._callbacks.edit(id, Context()) as callback:
            tried = callback.settle(token, results, now=self._clock.now(), spread=random.random())  # noqa: S311
        self._note("callback", id, tried)

    def _note(self, kind: str, id: str, tried: list[Delivery]) -> None:
        for delivery in tried:
            self._metrics.settled(kind, delivery)
            tell = log.warning if delivery.error else log.info
            tell(
                "delivery.tried", kind=kind, receiver=id, delivery_id=delivery.id, event_type=delivery.type,
                deployment_id=delivery.deployment, state=delivery.state.value, tries=delivery.tries, status=delivery.status,
                error=delivery.error or None,
            )  # fmt: skip


async def _tried(send: Send, delivery: Delivery) -> Result | None:
    """Return what came of a try; a defect of ours is one delivery's misfortune, not that of all in its batch, for ever."""
    try:
        return await send(delivery)
    except Exception:
        log.exception("delivery.crashed", delivery_id=delivery.id)
        return CRASHED


def _is_silence(result: Result) -> bool:
    """Was the receiver asked, and gave no answer?"""
    is_ours = result is CRASHED or result.is_over or result.is_withheld
    return bool(result.error) and result.status is None and not is_ours
