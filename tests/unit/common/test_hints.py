"""Hints between parts of one process."""

from datetime import UTC, datetime
from typing import ClassVar

from indaco_common.hints import Hints
from indaco_common.store import Aggregate

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Alarm(Aggregate):
    KIND: ClassVar[str] = "alarm"


class Clock(Aggregate):
    KIND: ClassVar[str] = "clock"


def test_a_save_with_messages_wakes_the_relay_alone() -> None:
    hints = Hints()
    hints.saved(Alarm(id="a"), has_outbox=False)
    assert not hints.outbox.is_set()
    hints.saved(Alarm(id="a"), has_outbox=True)
    assert hints.outbox.is_set()


def test_a_timer_hears_when_its_own_kind_is_due_next() -> None:
    hints, heard = Hints(), list[datetime]()
    hints.on_due(Alarm, heard.append)
    hints.saved(Alarm(id="a"), has_outbox=False)
    hints.saved(Clock(id="c", due_at=NOON), has_outbox=False)
    hints.saved(Alarm(id="a", due_at=NOON), has_outbox=False)
    assert heard == [NOON]


def test_all_listeners_hear_which_aggregate_has_changed() -> None:
    hints, first, second = Hints(), list[str](), list[str]()
    hints.on_change(Alarm, first.append)
    hints.on_change(Alarm, second.append)
    hints.saved(Alarm(id="a"), has_outbox=False)
    hints.saved(Clock(id="c"), has_outbox=False)
    assert (first, second) == (["a"], ["a"])


def test_what_has_been_heard_is_unknown_until_the_runtime_says() -> None:
    hints = Hints()
    assert hints.heard() is None
    hints.seen_until = lambda: NOON
    assert hints.heard() == NOON


def test_a_listener_is_shown_what_was_saved_of_its_kind() -> None:
    hints, shown, alarm = Hints(), list[Alarm](), Alarm(id="a")
    hints.on_saved(Alarm, shown.append)
    hints.saved(Clock(id="c"), has_outbox=False)
    hints.saved(alarm, has_outbox=False)
    assert shown == [alarm]
