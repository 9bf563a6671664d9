"""What the issuer remembers while it runs: bounded, with an end for everything, and gone after a restart."""

import secrets
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Generic, TypeVar

from indaco_common.clock import Clock

K = TypeVar("K")
V = TypeVar("V")

_LETTERS = "BCDFGHJKLMNPQRSTVWXZ"  # RFC 8628 §6.1: no vowels, so no words


class Bounded(Generic[K, V]):
    """A dictionary of at most *limit* entries with an end each; the oldest makes room."""

    def __init__(self, clock: Clock, limit: int = 10_000) -> None:
        self._clock = clock
        self._limit = limit
        self._entries: OrderedDict[K, tuple[V, datetime]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, key: K, value: V, *, seconds: float) -> None:
        self._entries.pop(key, None)
        self._entries[key] = (value, self._clock.now() + timedelta(seconds=seconds))
        while len(self._entries) > self._limit:
            self._entries.popitem(last=False)

    def get(self, key: K) -> V | None:
        found = self._entries.get(key)
        if found is None:
            return None
        if found[1] <= self._clock.now():
            del self._entries[key]
            return None
        return found[0]

    def pop(self, key: K) -> V | None:
        value = self.get(key)
        self._entries.pop(key, None)
        return value

    def values(self) -> Iterator[V]:
        now = self._clock.now()
        return (value for value, until in list(self._entries.values()) if until > now)


@dataclass(frozen=True, slots=True)
class AuthorizationRequest:
    """A checked request for a code."""

    client_id: str
    redirect_uri: str
    challenge: str
    scopes: frozenset[str]
    audience: str
    state: str | None
    nonce: str | None


@dataclass(slots=True)
class Code:
    """An authorization code; *family* is set once it has been used, to undo what a thief of the code was given."""

    request: AuthorizationRequest
    username: str
    auth_time: datetime
    family: str | None = None
    is_used: bool = False


class DeviceStatus(StrEnum):
    PENDING = "pending"
    APPROVED = "approved"
    DENIED = "denied"


@dataclass(slots=True)
class DeviceGrant:
    """A device that waits for a person; bound to the person who approves."""

    client_id: str
    user_code: str
    scopes: frozenset[str]
    audience: str
    expires_at: datetime
    interval_s: int
    status: DeviceStatus = DeviceStatus.PENDING
    username: str | None = None
    auth_time: datetime | None = None
    polled_at: datetime | None = None


@dataclass(slots=True)
class Family:
    """All refresh tokens that descend from one login; only the last one is good."""

    client_id: str
    username: str
    scopes: frozenset[str]
    audience: str
    auth_time: datetime
    current: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Session:
    username: str
    auth_time: datetime


@dataclass(slots=True)
class Interaction:
    """A page that a person is looking at: what for, in which browser, and the token that its form must bring back.

    *username* is who has been asked to allow it: another account that logs in meanwhile has not been asked.
    """

    id: str
    browser: str
    request: AuthorizationRequest | None = None
    device_code: str | None = None
    username: str | None = None
    csrf: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)


class Attempts:
    """Wrong tries by name within the last minute."""

    def __init__(self, clock: Clock, limit: int, window: timedelta = timedelta(minutes=1)) -> None:
        self._clock = clock
        self._max_tries = limit
        self._window = window
        self._failures: Bounded[str, deque[datetime]] = Bounded(clock)

    def wait_s(self, name: str) -> float:
        """Return how long *name* must wait before the next try: 0 where it may try now."""
        failures = self._failures.get(name)
        if failures is None or len(failures) < self._max_tries:
            return 0
        return max(0.0, (failures[0] + self._window - self._clock.now()).total_seconds())

    def failed(self, name: str) -> None:
        failures = self._failures.get(name)
        if failures is None:
            failures = deque(maxlen=self._max_tries)
        failures.append(self._clock.now())
        self._failures.put(name, failures, seconds=self._window.total_seconds())


class State:
    """Everything the issuer remembers."""

    def __init__(self, clock: Clock) -> None:
        self.codes: Bounded[str, Code] = Bounded(clock)
        self.devices: Bounded[str, DeviceGrant] = Bounded(clock, 1000)
        self.device_of_user_code: Bounded[str, str] = Bounded(clock, 1000)
        self.families: Bounded[str, Family] = Bounded(clock)
        self.sessions: Bounded[str, Session] = Bounded(clock)
        self.interactions: Bounded[str, Interaction] = Bounded(clock)
        self.logins = Attempts(clock, 5)
        self.user_codes = Attempts(clock, 10)


def new_user_code() -> str:
    """Return a code that a person can read and type: eight letters, 34 bits."""
    letters = "".join(secrets.choice(_LETTERS) for _ in range(8))
    return f"{letters[:4]}-{letters[4:]}"


def normal_user_code(text: str) -> str:
    """Return what a person typed as :func:`new_user_code` writes it."""
    letters = "".join(char for char in text.upper() if char.isalpha())
    return f"{letters[:4]}-{letters[4:]}"
