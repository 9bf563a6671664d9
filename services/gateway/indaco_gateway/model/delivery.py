"""What is to be told to one receiver: deliveries that wait, those that were given up, and the last that arrived.

The queue is part of the aggregate of its receiver, so that it is bounded, and that an event is added to it once. Whoever sends
claims a batch first; a sender that dies is replaced when its claim ends, and what it had sent is sent again under the same id.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

import pydantic
from pydantic import AwareDatetime

from indaco_common.errors import NotFound
from indaco_common.ids import NAMESPACE

MAX_TRIES = 12  # with the pauses below they take some 24 hours
FIRST_PAUSE_S, GROWTH, LONGEST_PAUSE_S = 5.0, 3.0, 6 * 3600.0
LONGEST_REST_S = 60.0  # of a receiver that took nothing: new events are not tried sooner either
SPREAD = 0.2  # of a pause, to either side: receivers that came back are not met by all at once
BATCH = 64  # deliveries under one claim
CLAIM_S = 30.0  # longer than a batch may take
KEPT = 50  # deliveries that arrived, and as many that were given up
MAX_ANSWER = 200  # characters of a receiver's answer


class DeliveryState(StrEnum):
    """How a delivery stands."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    DEAD = "dead"
    WITHHELD = "withheld"  # its receiver may no longer know of it


class Delivery(pydantic.BaseModel):
    """One event for one receiver. *deployment* and *step* say which: the content is read when it is sent.

    *status* and *answer* are the receiver's last ones: the HTTP status and the printable beginning of the body; *error* is why there was none.
    """

    id: str
    type: str
    deployment: str = ""
    step: int = 0
    state: DeliveryState = DeliveryState.WAITING
    created_at: AwareDatetime
    tries: int = 0
    next_at: AwareDatetime | None = None
    ended_at: AwareDatetime | None = None
    status: int | None = None
    answer: str = ""
    error: str = ""

    @classmethod
    def of(cls, receiver: str, type: str, deployment: str, step: int, now: datetime) -> "Delivery":
        """Return the delivery of a step to *receiver*: made again, it has the same id."""
        id = str(uuid.uuid5(NAMESPACE, f"delivery\n{receiver}\n{deployment}\n{step}"))
        return cls(id=id, type=type, deployment=deployment, step=step, created_at=now, next_at=now)


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one try. *error* is empty if the receiver took it; *is_over*: no further try will help."""

    status: int | None = None
    answer: str = ""
    error: str = ""
    retry_after_s: float | None = None
    is_over: bool = False
    is_gone: bool = False
    is_withheld: bool = False


class Queue(pydantic.BaseModel):
    """Deliveries to one receiver, oldest first."""

    waiting: list[Delivery] = pydantic.Field(default_factory=list)
    dead: list[Delivery] = pydantic.Field(default_factory=list)
    ended: list[Delivery] = pydantic.Field(default_factory=list)  # delivered or withheld
    dead_in_row: int = 0
    failing: int = 0  # batches in a row of which nothing was taken
    rest_until: AwareDatetime | None = None
    claim: str = ""
    claimed_until: AwareDatetime | None = None

    def knows(self, id: str) -> bool:
        return any(delivery.id == id for delivery in (*self.waiting, *self.dead, *self.ended))

    def add(self, delivery: Delivery) -> bool:
        """Return whether it is new here."""
        if self.knows(delivery.id):
            return False
        self.waiting.append(delivery)
        return True

    def wake_at(self) -> datetime | None:
        """Return when there is something to send: not before a claim in force, or a rest, ends."""
        times = [delivery.next_at for delivery in self.waiting if delivery.next_at is not None]
        if not times:
            return None
        return max(filter(None, (min(times), self.claimed_until, self.rest_until)))

    def take(self, token: str, now: datetime) -> list[Delivery]:
        """Claim what is due, at most a batch, for the sender that calls itself *token*; nothing while another's claim is in force."""
        if any(until is not None and until > now for until in (self.claimed_until, self.rest_until)):
            return []
        due = [delivery for delivery in self.waiting if delivery.next_at is not None and delivery.next_at <= now]
        self.claim, self.claimed_until = (token, now + timedelta(seconds=CLAIM_S)) if due else ("", None)
        return due[:BATCH]

    def settle(self, token: str, results: Mapping[str, Result], *, now: datetime, spread: float) -> list[Delivery]:
        """Note what came of the tries, by the ids of the deliveries; return these. *spread*, from 0 to 1, is drawn by the caller.

        A sender whose claim has lapsed is heard as well: what it sent was sent.
        """
        if self.claim == token:
            self.claim, self.claimed_until = "", None
        waiting, self.waiting = self.waiting, []
        tried = []
        for delivery in waiting:
            if (result := results.get(delivery.id)) is not None:
                self._try(delivery, result, now, spread)
                tried.append(delivery)
            else:
                self.waiting.append(delivery)
        self._rest(tried, now, spread)
        del self.dead[:-KEPT], self.ended[:-KEPT]
        return tried

    def _rest(self, tried: list[Delivery], now: datetime, spread: float) -> None:
        """Leave a receiver that takes nothing alone for a while, so that it holds up no others, and spends no tries of what waits."""
        if any(delivery.state is DeliveryState.DELIVERED for delivery in tried):
            self.wake()
        elif any(delivery.state is not DeliveryState.WITHHELD for delivery in tried):
            self.failing += 1
            self.rest_until = now + timedelta(seconds=min(pause_s(self.failing, spread, None), LONGEST_REST_S))

    def wake(self) -> None:
        """Forget that the receiver took nothing."""
        self.failing, self.rest_until = 0, None

    def _try(self, delivery: Delivery, result: Result, now: datetime, spread: float) -> None:
        delivery.tries += 1
        delivery.status, delivery.answer, delivery.error = result.status, result.answer, result.error
        delivery.next_at, delivery.ended_at = None, now
        if result.is_withheld:
            delivery.state = DeliveryState.WITHHELD
            self.ended.append(delivery)
        elif not result.error:
            delivery.state, self.dead_in_row = DeliveryState.DELIVERED, 0
            self.ended.append(delivery)
        elif result.is_over or result.is_gone or delivery.tries >= MAX_TRIES:
            self._bury(delivery, now)
            self.dead_in_row += 1
        else:
            seconds = pause_s(delivery.tries, spread, result.retry_after_s)
            delivery.next_at, delivery.ended_at = now + timedelta(seconds=seconds), None
            self.waiting.append(delivery)

    def bury_beyond(self, limit: int, now: datetime) -> bool:
        """Give up the oldest that wait, so that at most *limit* are left; return whether that was needed."""
        beyond, self.waiting = self.waiting[:-limit], self.waiting[-limit:]
        for delivery in beyond:
            delivery.error = f"more than {limit} deliveries were waiting; the oldest were given up"
            self._bury(delivery, now)
        del self.dead[:-KEPT]
        return bool(beyond)

    def _bury(self, delivery: Delivery, now: datetime) -> None:
        delivery.state, delivery.next_at, delivery.ended_at = DeliveryState.DEAD, None, now
        self.dead.append(delivery)

    def retry(self, id: str, now: datetime) -> Delivery:
        """Let one that is dead be tried again as if it were new; one that waits, at once. Raises: NotFound."""
        for delivery in (*self.dead, *self.waiting):
            if delivery.id == id:
                break
        else:
            raise NotFound("No such delivery is waiting or dead")
        if delivery.state is DeliveryState.DEAD:
            self.dead = [other for other in self.dead if other.id != id]
            delivery.state, delivery.tries, delivery.ended_at = DeliveryState.WAITING, 0, None
            self.waiting.append(delivery)
        delivery.next_at = now
        self.wake()
        return delivery

    def newest(self) -> list[Delivery]:
        """Return all that are known, newest first."""
        known = (*self.waiting, *self.dead, *self.ended)
        return sorted(known, key=lambda delivery: (delivery.created_at, delivery.step), reverse=True)


def pause_s(tries: int, spread: float, retry_after_s: float | None) -> float:
    """Return how long to wait after *tries* failed ones; a receiver may ask for more, but not for longer than the longest pause."""
    plain = min(FIRST_PAUSE_S * GROWTH ** (tries - 1), LONGEST_PAUSE_S)
    spaced = plain * (1 - SPREAD + 2 * SPREAD * spread)
    return max(spaced, min(retry_after_s or 0.0, LONGEST_PAUSE_S))
