"""The bus as services see it, one adapter per broker; it moves bytes and knows nothing of handlers or of errors' meaning."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from indaco_common.envelope import Sealed

from .topology import Topology

DELAYS_S = (1.0, 10.0, 60.0, 600.0)  # the delay tiers; the last one again and again


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message as it came: *attempt* counts earlier deliveries that ended in :class:`Later`.

    *routed_as* is the name that the broker let its sender publish it under; None: by this time it comes from ourselves.
    """

    body: bytes
    attempt: int = 0
    redelivered: bool = False
    routed_as: str | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """Handled: forget it."""


@dataclass(frozen=True, slots=True)
class Later:
    """Deliver again after the delay of *tier* (0…3), *attempt* counted as told; *error* travels with it."""

    tier: int
    attempt: int
    error: str


@dataclass(frozen=True, slots=True)
class Dead:
    """Nobody can handle it: keep it in the service's dead queue with its *error*."""

    error: str


Verdict = Done | Later | Dead
Receiver = Callable[[Delivery], Awaitable[Verdict]]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One message in a dead queue. *id* is the envelope's (or a broker's tag where the body cannot be read)."""

    id: str
    name: str
    error: str
    attempt: int
    body: bytes


@dataclass(frozen=True, slots=True)
class QueueState:
    """*ready*: waiting now, *delayed*: in the delay tiers, *dead*: in the dead queue; *oldest_s*: age of the oldest ready one (None: unknown)."""

    ready: int
    delayed: int
    dead: int
    oldest_s: float | None = None


class Bus(Protocol):
    """Raises Unavailable from every call while the broker does not answer; connections come back by themselves."""

    async def start(self) -> None:
        """Connect. Raises: Unavailable, if the broker does not answer within the time-out of settings."""

    async def stop(self) -> None:
        """Close; what was received and has no verdict is delivered again to somebody else."""

    async def ping(self) -> None: ...

    async def declare(self, topology: Topology) -> None:
        """Make exchanges, queues and bindings of the whole system; again is not an error (an administrator's right)."""

    async def verify(self, topology: Topology, service: str) -> None:
        """Raises: Unavailable, if what *service* needs is not there."""

    async def publish(self, messages: Sequence[Sealed], *, mandatory: frozenset[str] = frozenset()) -> list[str]:
        """Publish in order, durable and confirmed; return the ids of those that the broker has (in order).

        Names in *mandatory* (commands) that no queue takes are not in the answer. What is missing in the answer is to be published again.
        """

    async def subscribe(self, service: str, receiver: Receiver, *, prefetch: int = 16) -> None:
        """Give every message of the service's queue to *receiver*, at most *prefetch* at once, and carry out its verdict."""

    async def pause(self, service: str) -> None:
        """Take no further messages until :meth:`resume`; those under way go on."""

    async def resume(self, service: str, *, prefetch: int = 16) -> None: ...

    async def drain(self, service: str) -> None:
        """Cancel the subscription and wait for the messages under way."""

    async def state(self, service: str) -> QueueState: ...
    async def dead_letters(self, service: str, limit: int = 100) -> list[DeadLetter]: ...
    async def retry_dead(self, service: str, ids: Sequence[str] | None = None) -> int:
        """Put dead letters (all, or those of *ids*) back into the service's queue; return how many."""

    async def drop_dead(self, service: str, ids: Sequence[str] | None = None) -> int: ...

    async def inject(self, service: str, body: bytes) -> None:
        """Put *body* into one service's queue, past all bindings: replay, and planted faults in tests."""
