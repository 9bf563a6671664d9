"""Usage records: state in, message, state out."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indaco_accounting.model import Status, UsageRecord
from indaco_accounting.rating import epoch_ms, month_ends, next_month, rate
from indaco_common.contracts.accounting import RecordClosed, RecordOpened
from indaco_common.contracts.orchestrator import NodeRemoved
from indaco_common.units import ResourceVector

from .builders import START, Node

HOUR = timedelta(hours=1)
instants = st.integers(0, 4 * 365 * 86_400_000).map(
    lambda ms: datetime(2024, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
)
sizes = st.integers(0, 2**40)


def test_a_start_opens_the_record_once() -> None:
    node = Node()
    record = node.record(node.started(), node.started())
    assert record.status is Status.OPEN
    assert [type(message) for message in record.emitted] == [RecordOpened]
    assert record.facts is not None
    assert record.facts.group.path == "cms/analysis"


def test_a_removal_closes_with_exact_figures() -> None:
    node = Node()
    record = node.record(node.started(), node.removed(START + timedelta(hours=2, milliseconds=500)))
    closed = record.emitted[-1]
    assert isinstance(closed, RecordClosed)
    assert (closed.wall_s, closed.cpu_s) == (7200.5, 28802.0)
    assert closed.record_id == node.id


def test_a_removal_that_comes_first_opens_and_closes() -> None:
    node = Node()
    record = node.record(node.removed(START + HOUR), node.started())
    assert record.status is Status.CLOSED
    assert [type(message) for message in record.emitted] == [RecordOpened, RecordClosed]


def test_a_second_removal_changes_nothing() -> None:
    node = Node()
    record = node.record(node.removed(START + HOUR), node.removed(START + 3 * HOUR))
    assert record.stopped_at == START + HOUR
    assert sum(isinstance(message, RecordClosed) for message in record.emitted) == 1


def test_a_stop_before_the_start_is_the_start() -> None:
    node = Node()
    record = node.record(node.removed(START - HOUR))
    assert record.stopped_at == START
    assert record.usage().wall_ms == 0


def test_an_older_sample_does_not_replace_a_newer_one() -> None:
    node = Node()
    record = node.record(
        node.sampled(START + 2 * HOUR, network_in_bytes=200), node.sampled(START + HOUR, network_in_bytes=100)
    )
    assert record.figures().network_in_bytes == 200


def test_figures_of_before_an_instant_are_those_of_its_month() -> None:
    node = Node()
    december = datetime(2026, 12, 1, tzinfo=UTC)
    record = node.record(
        node.sampled(december - HOUR, network_in_bytes=100), node.sampled(december + HOUR, network_in_bytes=300)
    )
    assert record.figures(december).network_in_bytes == 100
    assert record.figures().network_in_bytes == 300
    assert record.figures(START) is None


def test_figures_never_fall_when_a_counter_starts_again() -> None:
    node = Node()
    december = datetime(2026, 12, 1, tzinfo=UTC)
    record = node.record(
        node.sampled(december - HOUR, network_in_bytes=500), node.sampled(december + HOUR, network_in_bytes=3)
    )
    assert record.figures().network_in_bytes == 500


def test_usage_up_to_now_ends_at_the_stop() -> None:
    node = Node()
    record = node.record(node.started())
    assert record.usage(START + HOUR).wall_s == 3600
    record.removed(node.removed(START + HOUR))
    assert record.usage(START + 9 * HOUR).wall_s == 3600


def test_a_closed_record_is_done_with_once_it_was_exported_as_it_is() -> None:
    node = Node()
    record = node.record(node.removed(START + HOUR))
    record.mark("apel", {"2026-11": "v"}, seen_version=record.version + 1)
    assert record.is_pending
    record.mark("apel", {"2026-11": "v"}, seen_version=record.version)
    assert not record.is_pending
    record.sampled(node.sampled(START + HOUR / 2, network_in_bytes=1))
    assert record.is_pending


@st.composite
def stories(draw: st.DrawFn) -> tuple[list[Any], list[Any]]:
    """Return what happened to a node, in order, and the same in any order with repeats."""
    node = Node(draw(instants))
    start = node.started().started_at
    ages = draw(st.lists(st.integers(0, 10**8), max_size=6, unique=True))
    samples = [
        node.sampled(start + timedelta(seconds=age), network_in_bytes=draw(sizes), cpu_s=draw(st.floats(0, 1e9)))
        for age in sorted(ages)
    ]
    events = [node.started(), *samples]
    if draw(st.booleans()):
        events.append(node.removed(start + timedelta(seconds=draw(st.integers(0, 10**8)))))
    arrival = draw(st.permutations(events + draw(st.lists(st.sampled_from(events), max_size=4))))
    return events, arrival


@given(story=stories())
def test_the_record_is_the_same_in_any_order_and_with_any_repeats(story: tuple[list[Any], list[Any]]) -> None:
    events, arrival = story
    node = Node()
    in_order, as_it_came = node.record(*events), node.record(*arrival)
    assert as_it_came.model_dump() == in_order.model_dump()
    for record in (in_order, as_it_came):
        kinds = [type(message) for message in record.emitted]
        assert kinds.count(RecordOpened) == 1
        assert kinds.count(RecordClosed) == any(isinstance(event, NodeRemoved) for event in events)


@given(story=stories())
def test_a_record_comes_back_from_the_store_as_it_was(story: tuple[list[Any], list[Any]]) -> None:
    record = Node().record(*story[1])
    assert UsageRecord.model_validate_json(record.model_dump_json()).model_dump() == record.model_dump()


@given(start=instants, cuts=st.lists(instants, max_size=5), cpu=st.integers(0, 10**9))
def test_slices_add_up_to_the_whole(start: datetime, cuts: list[datetime], cpu: int) -> None:
    points = sorted([start, *cuts])
    needs = ResourceVector(cpu_milli=cpu)
    parts = [rate(needs, epoch_ms(b) - epoch_ms(a)) for a, b in pairwise(points)]
    whole = rate(needs, epoch_ms(points[-1]) - epoch_ms(points[0]))
    assert sum(part.wall_ms for part in parts) == whole.wall_ms
    assert sum((part.cpu_s for part in parts), Decimal(0)) == whole.cpu_s


def test_cpu_seconds_are_exact_for_a_third_of_a_core() -> None:
    usage = rate(ResourceVector(cpu_milli=333, memory_mib=512, disk_gib=3), 1001)
    assert usage.cpu_s == Decimal("0.333333")
    assert (usage.memory_gib_s, usage.disk_gib_s) == (Decimal("0.5005"), Decimal("3.003"))


@pytest.mark.parametrize(
    ("moment", "following"),
    [("2026-12-31T23:59:59+00:00", "2027-01-01"), ("2027-01-01T00:00:00+00:00", "2027-02-01"),
     ("2028-02-29T12:00:00+00:00", "2028-03-01"), ("2026-12-01T00:30:00+01:00", "2026-12-01")],
)  # fmt: skip
def test_months_are_those_of_utc(moment: str, following: str) -> None:
    assert next_month(datetime.fromisoformat(moment)) == datetime.fromisoformat(f"{following}T00:00:00+00:00")


def test_the_end_of_the_interval_counts_as_a_month_end() -> None:
    assert list(month_ends(START, datetime(2027, 1, 1, tzinfo=UTC))) == [
        datetime(2026, 12, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC),
    ]  # fmt: skip
