"""When the next export is due: state, so that one of many replicas does it, and a restart does not forget it."""

from datetime import datetime, timedelta
from typing import ClassVar

from pydantic import AwareDatetime

from indaco_common.store import Aggregate

CLAIM = timedelta(minutes=10)  # longer than an export: after that another replica tries


class Schedule(Aggregate):
    """One per target of exports."""

    KIND: ClassVar[str] = "export-schedule"

    exported_at: AwareDatetime | None = None
    records: int = 0
    held: int = 0

    def plan(self, now: datetime, every: timedelta) -> None:
        """Set the next export, at a start: no later than *every* from now; never, if that is 0."""
        if not every:
            self.due_at = None
        elif self.due_at is None or self.due_at > now + every:
            self.due_at = now + every

    def claim(self, now: datetime) -> None:
        self.due_at = now + CLAIM

    def done(self, now: datetime, *, every: timedelta, records: int, held: int) -> None:
        self.exported_at, self.records, self.held = now, records, held
        self.due_at = now + every if every else None
