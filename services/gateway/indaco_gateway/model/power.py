"""Whether a machine runs or stands still, and what its users asked for last. In whatever order things are heard, the end is the same."""

from datetime import datetime

import pydantic
from pydantic import AwareDatetime

from indaco_common.contracts.gateway import PowerAction


class Power(pydantic.BaseModel):
    """What is known of one machine beyond that it was started. Numbers are those of the deployment's actions; 0: none.

    Of what is said of its runs the highest (run, stopped after running) is the newest, and so the truth.
    """

    run: int = 1
    is_standing: bool = False  # that run is over
    since: AwareDatetime | None = None  # None: since it was made
    addressed: int = 1  # the run that its address is of
    asked: int = 0
    action: PowerAction | None = None  # what was asked for last
    answered: int = 0
    given_up: int = 0
    reason: str = ""  # why that was given up

    def ask(self, number: int, action: PowerAction) -> None:
        self.asked, self.action = number, action

    def stopped(self, run: int, number: int, at: datetime) -> None:
        """Take that *run* is over, and with it the actions up to *number*."""
        self._heard(run, number, at, is_standing=True)

    def resumed(self, run: int, number: int, at: datetime) -> bool:
        """Take that *run* has begun; return whether nothing is known of the address of a later one."""
        self._heard(run, number, at, is_standing=False)
        is_news = run >= self.addressed
        self.addressed = max(run, self.addressed)
        return is_news

    def gave_up(self, number: int, reason: str) -> None:
        """Take that the action *number*, and those before, were given up."""
        self.answered = max(number, self.answered)
        if number >= self.given_up:
            self.given_up, self.reason = number, reason

    @property
    def state(self) -> str:
        """One of INDIGO's node states."""
        if self.asked > self.answered:
            return "STOPPING" if self.action == "stop" else "STARTING"
        return "STOPPED" if self.is_standing else "STARTED"

    @property
    def failure(self) -> str:
        """Why what was asked for last is not so; empty if it is, or is still to come."""
        is_so = self.is_standing == (self.action == "stop")
        return self.reason if self.asked and self.given_up >= self.asked and not is_so else ""

    def _heard(self, run: int, number: int, at: datetime, *, is_standing: bool) -> None:
        self.answered = max(number, self.answered)
        said, known = (run, is_standing), (self.run, self.is_standing)
        if said > known or (said == known and (self.since is None or at < self.since)):
            self.run, self.is_standing, self.since = run, is_standing, at
