"""What was used: whatever the order of the events, cut at the window, summed without loss, shown to whom it may be."""

from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise, permutations
from typing import Any

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indaco_common.auth import Principal
from indaco_common.contracts import orchestrator
from indaco_common.errors import Forbidden, Invalid
from indaco_common.units import ResourceVector
from indaco_gateway.api.usage import KEYS, By, UsageQuery, whose
from indaco_gateway.identity.policy import Roles
from indaco_gateway.model.usage_view import NEVER, Sums, UsageView, Window, is_computing, usage_id

from .builders import ADA, CMS, ID, NOW, place

NodeEvent = orchestrator.NodeStarted | orchestrator.NodeRemoved
HOUR = timedelta(hours=1)
NEEDS = ResourceVector(instances=1, cpu_milli=2000, memory_mib=3072)


def known(name: str = "server-0", **changes: Any) -> dict[str, Any]:
    return {
        "deployment_id": ID, "attempt": 1, "node": name, "owner": ADA, "group": CMS, "place": place(), "needs": NEEDS, "started_at": NOW,
        **changes,
    }  # fmt: skip


def started(**changes: Any) -> orchestrator.NodeStarted:
    return orchestrator.NodeStarted(**known(**changes))


def removed(stopped_at: datetime = NOW + HOUR, **changes: Any) -> orchestrator.NodeRemoved:
    return orchestrator.NodeRemoved(**known(**changes), stopped_at=stopped_at)


def record(*events: NodeEvent) -> UsageView:
    found = UsageView(id=usage_id(events[0]))
    for event in events:
        if isinstance(event, orchestrator.NodeStarted):
            found.started(event)
        else:
            found.removed(event)
    return found


def summed(
    *records: UsageView,
    begin: datetime = NOW - HOUR,
    end: datetime = NOW + 9 * HOUR,
    now: datetime | None = None,
    by: By = "provider",
) -> Sums[Any]:
    sums: Sums[Any] = Sums(Window(begin, end, now or end), KEYS[by])
    sums.add(records)
    return sums


def test_the_removal_is_the_last_word_whatever_the_order_and_however_often() -> None:
    events: list[NodeEvent] = [started(), removed(needs=NEEDS * 2), removed(NOW + 5 * HOUR), started()]
    for order in permutations(events[:2]):
        assert record(*order, *order) == record(*events[:2])
    found = record(*events[:2], *events[2:])
    assert (found.ended_at, found.used and found.used.cpu_milli, found.is_open) == (NOW + HOUR, 4000, False)


def test_it_never_ends_before_it_starts_and_ends_in_utc() -> None:
    found = record(removed(NOW - HOUR))
    assert found.ended_at == NOW
    there = timezone(timedelta(hours=2))
    assert record(removed((NOW + HOUR).astimezone(there))).ended_at.isoformat() == (NOW + HOUR).isoformat()


def test_what_is_kept_is_the_same_when_it_is_read_again() -> None:
    for found in (record(started()), record(removed())):
        again = UsageView.model_validate_json(found.model_dump_json())
        assert again == found
        assert again.ended_at.isoformat() == found.ended_at.isoformat()


def test_storage_is_not_counted() -> None:
    assert is_computing(started())
    assert not is_computing(started(needs=ResourceVector(buckets=1)))


def test_figures_are_those_of_the_shape_times_the_hours_within_the_window() -> None:
    found = summed(record(started(), removed(NOW + 3 * HOUR)), begin=NOW + HOUR, end=NOW + 2 * HOUR).total
    assert (found.core_hours, found.memory_gib_hours, found.wall_hours, found.machines, found.running) == (
        2,
        3,
        1,
        1,
        0,
    )


def test_what_still_runs_counts_until_now_and_not_into_the_future() -> None:
    found = summed(record(started()), now=NOW + HOUR / 2).total
    assert (found.wall_hours, found.running, found.machines) == (0.5, 1, 1)


def test_what_ended_before_the_window_or_starts_after_it_is_no_machine_of_it() -> None:
    life = record(started(), removed())
    assert summed(life, begin=NOW + HOUR, end=NOW + 2 * HOUR).total.machines == 0
    assert summed(life, begin=NOW - HOUR, end=NOW).total.machines == 0
    moment = record(removed(NOW))  # it was there for no time at all
    assert [
        summed(moment, begin=NOW, end=NOW + HOUR).total.machines,
        summed(moment, begin=NOW - HOUR, end=NOW).total.machines,
    ] == [1, 0]


def test_one_that_ends_between_two_pages_is_counted_once() -> None:
    sums = summed(record(started()))
    sums.add([record(started(), removed())])
    assert sums.total.machines == 1


TIMES = st.integers(0, 10**9)  # microseconds


@given(st.lists(TIMES, min_size=1, max_size=5), TIMES, TIMES)
def test_windows_side_by_side_add_up_to_the_whole(cuts: list[int], start: int, length: int) -> None:
    us = timedelta(microseconds=1)
    life = record(removed(NOW + (start + length) * us, started_at=NOW + start * us))
    bounds = [NOW - us, *sorted({NOW + cut * us for cut in cuts}), NOW + 3 * 10**9 * us]
    parts = sum(summed(life, begin=a, end=b).total.cpu_milli_ms for a, b in pairwise(bounds))
    assert parts == ((start + length) // 1000 - start // 1000) * 2000


def test_rows_are_by_what_was_asked_for_the_largest_first_and_the_total_is_of_all() -> None:
    records = [
        record(started(name="a", deployment_id="d1"), removed(name="a", deployment_id="d1")),
        record(removed(NOW + 2 * HOUR, name="b", deployment_id="d2", place=place("SITE-B", simulated=True))),
        record(removed(NOW + 3 * HOUR, name="c", deployment_id="d1")),
    ]
    assert [(key, row.core_hours) for key, row in summed(*records).largest(9)] == [("SITE-A", 8), ("SITE-B", 4)]
    assert [row.simulated for _, row in summed(*records).largest(9)] == [False, True]
    assert [key for key, _ in summed(*records, by="deployment").largest(1)] == ["d1"]
    assert [key for key, _ in summed(*records, by="owner").largest(9)] == [ADA]
    assert [key for key, _ in summed(*records, by="group").largest(9)] == [CMS]
    total = summed(*records, by="deployment").total
    assert (total.core_hours, total.machines, total.simulated) == (12, 3, False)


# ── questions


def who(*groups: str) -> Principal:
    return Principal(ADA.issuer, "ada", frozenset(groups), frozenset(), None, None, NOW)


def ask(**asked: Any) -> UsageQuery:
    return UsageQuery.model_validate(asked)


PLAIN, ADMIN = Roles(ADA.issuer), Roles(ADA.issuer, administered=frozenset({"cms"}))
AUDITOR, EVERYWHERE = Roles(ADA.issuer, audited=frozenset({ADA.issuer})), Roles(ADA.issuer, operated=frozenset({"*"}))
OWN = {"used.owner.issuer": ADA.issuer, "used.owner.subject": "ada"}
GROUP = {"used.group.issuer": ADA.issuer, "used.group.path": "cms"}


@pytest.mark.parametrize(
    ("asked", "roles", "expected"),
    [
        ({}, PLAIN, OWN),
        ({"by": "deployment", "group": "/cms"}, PLAIN, {**OWN, "used.group.path": "cms"}),
        ({"scope": "group", "group": "/cms"}, PLAIN, GROUP),
        ({"scope": "group", "group": "cms", "by": "group"}, PLAIN, GROUP),
        ({"scope": "group", "group": "cms", "by": "owner"}, ADMIN, GROUP),
        ({"scope": "group", "group": "cms", "by": "deployment"}, AUDITOR, GROUP),
        (
            {"scope": "group", "group": "cms/analysis", "by": "owner"},
            ADMIN,
            {**GROUP, "used.group.path": "cms/analysis"},
        ),
        ({"scope": "all", "by": "owner"}, AUDITOR, {"used.owner.issuer": ADA.issuer}),
        ({"scope": "all"}, EVERYWHERE, {}),
    ],
)
def test_whose_usage_counts(asked: dict[str, Any], roles: Roles, expected: dict[str, str]) -> None:
    assert whose(ask(**asked), who("cms"), roles) == expected


@pytest.mark.parametrize(
    ("asked", "roles"),
    [
        ({"scope": "group", "group": "cms", "by": "owner"}, PLAIN),
        ({"scope": "group", "group": "cms", "by": "deployment"}, PLAIN),
        ({"scope": "group", "group": "atlas"}, ADMIN),
        ({"scope": "group", "group": "cms/analysis"}, PLAIN),
        ({"scope": "all"}, ADMIN),
    ],
)
def test_what_others_used_is_not_for_everybody(asked: dict[str, Any], roles: Roles) -> None:
    with pytest.raises(Forbidden):
        whose(ask(**asked), who("cms"), roles)


@pytest.mark.parametrize(
    "asked", [{"scope": "group"}, {"scope": "group", "group": "/"}, {"scope": "all", "group": "cms"}]
)
def test_a_question_that_makes_no_sense_is_told_so(asked: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        whose(ask(**asked), who("cms"), AUDITOR)


def test_a_window_is_the_last_30_days_unless_it_is_given() -> None:
    assert ask().window(NOW) == Window(NOW - timedelta(days=30), NOW, NOW)
    given_ = {"from": "2026-11-01T02:00:00+02:00", "to": "2026-11-02T00:00:00Z"}
    assert ask(**given_).window(NOW) == Window(
        datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 2, tzinfo=UTC), NOW
    )
    with pytest.raises(Invalid):
        ask(**{"from": "2026-11-02T00:00:00Z", "to": "2026-11-02T00:00:00Z"}).window(NOW)
    with pytest.raises(Invalid):
        ask(**{"from": "2027-01-01T00:00:00Z"}).window(NOW)


@pytest.mark.parametrize(
    "text", ["2026-11-01", "1700000000", "2026-11-01T00:00:00", "now", "", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00", "2026-02-30T00:00:00Z"]
)  # fmt: skip
def test_only_an_instant_with_its_zone_is_one(text: str) -> None:
    with pytest.raises(pydantic.ValidationError):
        ask(**{"from": text})


def test_the_end_of_what_runs_sorts_behind_every_other() -> None:
    assert NEVER.isoformat() > datetime(2200, 12, 31, 23, 59, 59, tzinfo=UTC).isoformat()
