"""From a step of a deployment to the queues of those who are to be told of it.

A step that an event made is announced while that event is handled: it is not acknowledged before, so nothing is lost. A step that a user
made is announced behind the answer, and with the next event if the process dies before that.
"""

import asyncio
from contextlib import suppress

import structlog

from indaco_common.clock import Clock
from indaco_common.envelope import Context
from indaco_common.errors import AlreadyHandled, IndacoError, NotFound
from indaco_common.hints import Hints
from indaco_common.store import Repository
from indaco_gateway.model.delivery import Delivery
from indaco_gateway.model.operation import Operation, Step
from indaco_gateway.model.subscription import Callback, Subscription, is_called_back, news, type_of
from indaco_gateway.races import rerun

from .listeners import Listeners

MAX_PENDING = 10_000  # steps of users that are not announced yet; beyond that the next event announces them

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class Announcements:
    """Whoever listens gets a delivery, under an id that is the same each time; for the others nothing is written."""

    def __init__(
        self,
        subscriptions: Repository[Subscription],
        callbacks: Repository[Callback],
        listeners: Listeners,
        hints: Hints,
        clock: Clock,
        max_waiting: int,
    ) -> None:
        self._subscriptions, self._callbacks, self._listeners = subscriptions, callbacks, listeners
        self._clock, self._max_waiting = clock, max_waiting
        self._pending: asyncio.Queue[tuple[str, str, list[Step]]] = asyncio.Queue(MAX_PENDING)
        hints.on_saved(Operation, self._saved)

    async def announce(self, operation: Operation, ctx: Context) -> None:
        """Tell of the step that the message of *ctx* has made; *operation* is as saved with it, or later."""
        if operation.callback is None and self._listeners.is_empty:
            return
        steps = news(operation.timeline, f"{ctx.source}#{ctx.sequence}")
        if operation.callback is not None:
            await self._call_back(operation, steps, ctx)
        for id, wanted in self._listeners.of(operation, steps).items():
            await self._tell(id, operation.id, wanted, ctx)

    async def run(self) -> None:
        """Tell of what users did."""
        while True:
            id, deployment, steps = await self._pending.get()
            try:
                await rerun(lambda: self._tell(id, deployment, steps, Context()))  # noqa: B023 - it is awaited here
            except IndacoError as error:
                log.warning("announcement.postponed", deployment_id=deployment, error=error.detail)

    def _saved(self, operation: Operation) -> None:
        """Note the step that a user has just made. A new name makes none: the last step is of another day then, and was told."""
        if self._listeners.is_empty or not operation.timeline:
            return
        last = operation.timeline[-1]
        if last.event or last.at != operation.updated_at:
            return
        for id, wanted in self._listeners.of(operation, news(operation.timeline, None)).items():
            if not self._pending.full():
                self._pending.put_nowait((id, operation.id, wanted))

    async def _call_back(self, operation: Operation, steps: list[Step], ctx: Context) -> None:
        now = self._clock.now()
        with suppress(AlreadyHandled):
            for step in filter(is_called_back, steps):  # one at most: users' steps are none of a callback's
                delivery = Delivery.of(operation.id, type_of(step), operation.id, step.number, now)
                async with self._callbacks.upsert(operation.id, ctx) as callback:
                    callback.tell(delivery, now)

    async def _tell(self, id: str, deployment: str, steps: list[Step], ctx: Context) -> None:
        now = self._clock.now()
        deliveries = [Delivery.of(id, type_of(step), deployment, step.number, now) for step in steps]
        try:
            async with self._subscriptions.edit(id, ctx) as subscription:
                subscription.tell(deliveries, limit=self._max_waiting, now=now)
        except (AlreadyHandled, NotFound):  # a subscription that is gone, or paused, or has it already
            return
