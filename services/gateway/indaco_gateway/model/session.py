"""A session of a page: whose it is and how long it lasts. Its tokens are in the vault, under the same id; its cookie is nowhere."""

import hashlib
from datetime import datetime, timedelta
from typing import ClassVar

from pydantic import AwareDatetime

from indaco_common.contracts.values import Owner
from indaco_common.store import Aggregate

NOTE_AFTER = timedelta(seconds=60)  # that it was used is not written at each request


class Session(Aggregate):
    """One browser in which somebody has logged in; its id is the digest of the cookie."""

    KIND: ClassVar[str] = "session"
    INDEX: ClassVar[tuple[str, ...]] = ("owner.issuer", "owner.subject", "created_at")

    owner: Owner = Owner(issuer="", subject="")
    created_at: AwareDatetime | None = None
    seen_at: AwareDatetime | None = None
    ends_at: AwareDatetime | None = None
    idle_s: float = 0
    is_ended: bool = False

    def begin(self, owner: Owner, *, idle_s: float, life_s: float, now: datetime) -> None:
        self.owner, self.created_at, self.seen_at, self.idle_s = owner, now, now, idle_s
        self.ends_at = now + timedelta(seconds=life_s)
        self._schedule()

    def is_alive(self, now: datetime) -> bool:
        return not self.is_ended and self.due_at is not None and now < self.due_at

    def is_to_be_noted(self, now: datetime) -> bool:
        """Is it so long ago that its use was written that this one should be?"""
        return self.seen_at is not None and now - self.seen_at >= min(NOTE_AFTER, timedelta(seconds=self.idle_s / 4))

    def saw(self, now: datetime) -> None:
        if self.is_alive(now) and self.seen_at is not None:
            self.seen_at = max(self.seen_at, now)
            self._schedule()

    def end(self, now: datetime) -> None:
        """From now on it is refused; its timer takes the tokens away."""
        if not self.is_ended:
            self.is_ended, self.due_at = True, now

    def _schedule(self) -> None:
        if self.seen_at is not None and self.ends_at is not None:
            self.due_at = min(self.seen_at + timedelta(seconds=self.idle_s), self.ends_at)


def session_id(cookie: str) -> str:
    """Return the id of the session with that cookie: from the id nobody finds the cookie."""
    return hashlib.sha256(cookie.encode()).hexdigest()


def tokens_path(id: str) -> str:
    """Return where the tokens of a session are in the vault."""
    return f"sessions/{id}"
