"""APEL records: the format, the traps, and what the repository makes of them."""

import re
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indaco_accounting.exporters.apel import (
    FIELDS,
    MAX_BYTES,
    ApelOptions,
    NotExportable,
    Row,
    UserName,
    messages,
    pending,
    render,
    rows,
)
from indaco_accounting.exporters.text import sanitised
from indaco_accounting.model import UsageRecord
from indaco_common.contracts.values import Group
from indaco_common.errors import Invalid
from indaco_common.units import ResourceVector

from .builders import START, Node, tell

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
DECEMBER = datetime(2026, 12, 1, tzinfo=UTC)
JANUARY = datetime(2027, 1, 1, tzinfo=UTC)


def fields(row: Row) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in row.text.splitlines())


def remember(record: UsageRecord, written: Sequence[Row]) -> None:
    record.mark("apel", {row.period: row.version for row in written}, seen_version=record.version)


class Repository:
    """APEL's booking rule: the last row received per machine and month; a month's use is the difference to the row before."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], tuple[int, dict[str, str]]] = {}

    def load(self, written: Sequence[Row]) -> None:
        for row in written:
            told = fields(row)
            is_completed = told["Status"] == "completed"
            measured = int(told["EndTime"] if is_completed else told["RecordCreateTime"])
            month = datetime.fromtimestamp(measured, UTC).strftime("%Y-%m")
            self.rows[told["VMUUID"].lower(), month] = (measured, told)

    def months(self, name: str = "WallDuration") -> dict[str, int]:
        used: dict[str, int] = {}
        for (machine, month), (measured, told) in self.rows.items():
            earlier = [(m, t) for (other, _), (m, t) in self.rows.items() if other == machine and m < measured]
            before = int(max(earlier, key=lambda each: each[0])[1][name]) if earlier else 0
            used[month] = used.get(month, 0) + int(told[name]) - before
        return used


def test_a_message_has_every_field_in_the_order_of_the_format(options: ApelOptions) -> None:
    node = Node()
    text = render(rows(node.record(node.removed(START + HOUR)), START + DAY, options))
    lines = text.splitlines()
    assert lines[0] == "APEL-cloud-message: v0.4"
    assert [line.partition(":")[0] for line in lines[1:-1]] == list(FIELDS)
    assert lines[-1] == "%%"
    assert len(FIELDS) == 27


def test_an_ended_machine_is_completed_with_its_end(options: ApelOptions) -> None:
    node = Node()
    record = node.record(
        node.removed(START + HOUR), node.sampled(START + HOUR / 2, network_in_bytes=2_999_999_999, network_out_bytes=5)
    )
    [row] = rows(record, START + DAY, options)
    start = int(START.timestamp())
    assert fields(row) == {
        "RecordCreateTime": str(start + 3600), "VMUUID": "6f3a0d5e-5c1b-4a38-9d0e-1b6f6a4f2c11", "SiteName": "RECAS-BARI",
        "CloudComputeService": "recas-bari/RegionOne", "MachineName": "server-0", "LocalUserId": "NULL",
        "LocalGroupId": "cms-prod", "GlobalUserName": fields(row)["GlobalUserName"], "FQAN": "/cms/analysis",
        "Status": "completed", "StartTime": str(start), "EndTime": str(start + 3600), "SuspendDuration": "0",
        "WallDuration": "3600", "CpuDuration": "14400", "CpuCount": "4", "NetworkType": "NULL", "NetworkInbound": "2",
        "NetworkOutbound": "0", "PublicIPCount": "1", "Memory": "8192", "Disk": "40", "BenchmarkType": "NULL",
        "Benchmark": "NULL", "StorageRecordId": "NULL", "ImageId": "debian-12", "CloudType": "indaco/1.2.3 (openstack)",
    }  # fmt: skip


def test_a_running_machine_has_no_end(options: ApelOptions) -> None:
    node = Node()
    [row] = rows(node.record(node.started()), START + 90 * timedelta(seconds=1), options)
    told = fields(row)
    assert (told["Status"], told["EndTime"], told["WallDuration"]) == ("started", "NULL", "90")
    assert not row.is_final


def test_a_month_is_closed_one_second_before_its_end_with_all_its_usage(options: ApelOptions) -> None:
    node = Node()
    closing, present = rows(node.record(node.started()), DECEMBER + HOUR, options)
    told = fields(closing)
    assert int(told["RecordCreateTime"]) == DECEMBER.timestamp() - 1
    assert int(told["WallDuration"]) == (DECEMBER - START).total_seconds()
    assert (told["Status"], told["EndTime"]) == ("started", "NULL")
    assert int(fields(present)["RecordCreateTime"]) == (DECEMBER + HOUR).timestamp()


def test_nothing_is_stamped_at_the_first_instant_of_a_month(options: ApelOptions) -> None:
    node = Node()
    [running] = rows(node.record(node.started()), DECEMBER, options)
    [ended] = rows(node.record(node.removed(DECEMBER)), DECEMBER, options)
    for row in (running, ended):
        assert int(fields(row)["RecordCreateTime"]) == DECEMBER.timestamp() - 1
    assert int(fields(ended)["EndTime"]) == DECEMBER.timestamp() - 1


def test_a_machine_of_no_length_at_a_month_start_stays_in_its_month(options: ApelOptions) -> None:
    node = Node(DECEMBER)
    [row] = rows(node.record(node.removed(DECEMBER)), DECEMBER + HOUR, options)
    told = fields(row)
    assert int(told["StartTime"]) == int(told["EndTime"]) == DECEMBER.timestamp()


def test_the_network_of_a_closed_month_is_that_of_the_month(options: ApelOptions) -> None:
    node = Node()
    record = node.record(
        node.sampled(DECEMBER - HOUR, network_in_bytes=7 * 10**9),
        node.sampled(DECEMBER + HOUR, network_in_bytes=9 * 10**9),
    )
    closing, present = rows(record, DECEMBER + 2 * HOUR, options)
    assert (fields(closing)["NetworkInbound"], fields(present)["NetworkInbound"]) == ("7", "9")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"group": Group(issuer="https://iam", path="")}, "written as a VO"),
        ({"group": Group(issuer="https://iam", path="città")}, "written as a VO"),
        ({"group": Group(issuer="https://iam", path="cms;/atlas")}, "written as a VO"),
        ({"group": Group(issuer="https://iam", path="cms//x")}, "written as a VO"),
        ({"group": Group(issuer="https://iam", path="cms/Role=admin")}, "written as a VO"),
        ({"group": Group(issuer="https://iam", path="cms%%x")}, "written as a VO"),
        ({"group": Group(issuer="https://iam", path="c" * 255)}, "written as a VO"),
        ({"needs": ResourceVector(cpu_milli=10**10)}, "too many vCPUs"),
    ],
)
def test_what_would_be_booked_wrongly_is_not_written(changes: dict[str, Any], words: str, options: ApelOptions) -> None:
    node = Node(**changes)
    with pytest.raises(NotExportable, match=words):
        rows(node.record(node.started()), START + HOUR, options)


def test_the_future_is_not_written(options: ApelOptions) -> None:
    node = Node()
    for event in (node.started(), node.removed(START + 2 * HOUR)):
        with pytest.raises(NotExportable, match="future"):
            rows(node.record(event), START - HOUR, options)


@pytest.mark.parametrize("name", ["", "null", "Bari\nCpuCount: 99", "Città", "x" * 256, "a%%b"])
def test_a_site_without_a_proper_name_is_not_written(name: str, options: ApelOptions) -> None:
    node = Node()
    with pytest.raises(NotExportable, match="site's name"):
        rows(node.record(node.started()), START + HOUR, replace(options, site_names={"recas-bari": name}))


def test_a_record_of_which_nothing_is_known_is_not_written(options: ApelOptions) -> None:
    with pytest.raises(NotExportable, match="nothing has been told"):
        rows(UsageRecord.new("d/1/n"), START, options)


def test_negative_figures_are_not_written(options: ApelOptions) -> None:
    node = Node()
    with pytest.raises(NotExportable, match="negative"):
        rows(node.record(node.sampled(START + HOUR, network_in_bytes=-1)), START + DAY, options)


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("web\nCpuCount: 99", "web CpuCount: 99"), ("a\u2028b\x85c\vd", "a b c d"), ("caffè", "caffe"), ("日本", "?"),
        ("a%%%%b", "a%b"), ("  x  ", "x"), ("y" * 300, "y" * 255), ("\x00\x1b[31m", "[31m"),
    ],
)  # fmt: skip
def test_text_of_users_cannot_leave_its_line(given: str, written: str) -> None:
    assert sanitised(given) == written


def test_a_users_image_name_cannot_add_a_field(options: ApelOptions) -> None:
    node = Node(image="debian\nCpuCount: 99\n%%")
    [row] = rows(node.record(node.started()), START + HOUR, options)
    assert fields(row)["CpuCount"] == "4"
    assert row.text.count("CpuCount:") == 2  # the second one within the image's line
    assert "%%" not in row.text


@given(text=st.text(max_size=400))
def test_any_text_becomes_one_ascii_line_without_a_separator(text: str) -> None:
    line = sanitised(text)
    assert line.isascii()
    assert len(line) <= 255
    assert "%%" not in line
    assert len(line.splitlines()) <= 1
    assert sanitised(line) == line


def test_users_appear_as_the_settings_say(options: ApelOptions) -> None:
    node, other = Node(), Node(owner=Node().started().owner.model_copy(update={"subject": "bob"}))

    def name(of: Node, **changes: Any) -> str:
        [row] = rows(of.record(of.started()), START + HOUR, replace(options, **changes))
        return fields(row)["GlobalUserName"]

    assert re.fullmatch("p-[0-9a-f]{32}", name(node))
    assert name(node) == name(node) != name(other)
    assert name(node, pseudonym_key=b"other") != name(node)
    assert name(node, user_name=UserName.SUBJECT) == "ada@iam.example.org"
    assert name(node, user_name=UserName.WITHHELD) == "withheld"


def test_short_ids_of_two_machines_do_not_collide(options: ApelOptions) -> None:
    one, two = Node(resource_id="i-1"), Node(resource_id="i-1", node="server-1")
    ids = {fields(rows(n.record(n.started()), START + HOUR, options)[0])["VMUUID"] for n in (one, two)}
    assert len(ids) == 2


def test_fractions_of_a_core_are_kept(options: ApelOptions) -> None:
    node = Node(needs=ResourceVector(cpu_milli=2500))
    [row] = rows(node.record(node.removed(START + timedelta(seconds=3))), START + HOUR, options)
    assert (fields(row)["CpuCount"], fields(row)["CpuDuration"]) == ("2.5", "7")


def test_a_message_without_records_is_never_made(options: ApelOptions) -> None:
    assert list(messages([])) == []
    with pytest.raises(Invalid):
        render([])


def test_messages_are_small_enough_for_the_broker(options: ApelOptions) -> None:
    node = Node(image="i" * 255)
    [row] = rows(node.record(node.started()), START + HOUR, options)
    told = list(messages([row] * 2500))
    assert all(len(text) <= MAX_BYTES for text in told)
    assert sum(text.count("%%") for text in told) == 2500
    assert all(text.count("%%") <= 1000 for text in told)


def test_what_is_known_already_is_not_told_again(options: ApelOptions) -> None:
    node = Node()
    record = node.record(node.removed(START + HOUR))
    remember(record, pending(record, START + DAY, options))
    assert pending(record, START + 2 * DAY, options) == []


def test_the_same_moment_gives_the_same_bytes(options: ApelOptions) -> None:
    node = Node()
    record = node.record(node.started(), node.sampled(START + HOUR, network_in_bytes=10**10))
    assert render(rows(record, JANUARY, options)) == render(rows(record.model_copy(deep=True), JANUARY, options))


def test_a_late_sample_is_told_from_its_month_on_in_order(options: ApelOptions) -> None:
    node = Node()
    record = node.record(node.started())
    remember(record, pending(record, JANUARY + HOUR, options))
    assert [row.period for row in pending(record, JANUARY + 2 * HOUR, options)] == ["2027-01"]
    record.sampled(node.sampled(DECEMBER + DAY, network_in_bytes=10**10))
    assert [row.period for row in pending(record, JANUARY + 2 * HOUR, options)] == ["2026-12", "2027-01"]


def test_an_end_that_becomes_known_late_takes_back_the_months_after_it(options: ApelOptions) -> None:
    node, repository = Node(), Repository()
    record = node.record(node.started())
    told = pending(record, JANUARY + HOUR, options)
    repository.load(told)
    remember(record, told)
    record.removed(node.removed(DECEMBER - DAY))
    told = pending(record, JANUARY + 2 * HOUR, options)
    repository.load(told)
    remember(record, told)
    assert repository.months() == {"2026-11": (DECEMBER - DAY - START).total_seconds(), "2026-12": 0, "2027-01": 0}
    assert pending(record, JANUARY + DAY, options) == []


days = st.integers(0, 250).map(lambda n: n * 86400)  # from the first of a month, they often end a month exactly


@given(
    start_s=st.integers(0, 150 * 86400) | days,
    life_s=st.integers(0, 200 * 86400) | days,
    exports=st.lists(st.integers(0, 300 * 86400) | days, min_size=1, max_size=5),
    late_s=st.integers(0, 90 * 86400) | st.just(0),
)
def test_the_repositorys_months_are_our_months_whenever_we_export(
    start_s: int, life_s: int, exports: list[int], late_s: int
) -> None:
    start = datetime(2026, 6, 1, tzinfo=UTC) + timedelta(seconds=start_s)
    node, repository, stop = Node(start), Repository(), start + timedelta(seconds=life_s)
    options, record = ApelOptions("1"), node.record(node.started())
    told_at = stop + timedelta(seconds=late_s)
    moments = sorted([*(start + timedelta(seconds=s) for s in exports), told_at + timedelta(days=365)])
    for now in moments:
        if now >= told_at and record.stopped_at is None:
            tell(record, node.removed(stop))
        written = pending(record, now, options)
        repository.load(written)
        remember(record, written)
    assert {month: used for month, used in repository.months().items() if used} == by_month(start, stop)
    assert {m: u / 4 for m, u in repository.months("CpuDuration").items() if u} == by_month(start, stop)


def by_month(start: datetime, stop: datetime) -> dict[str, int]:
    """Return seconds by month, counted in the plainest way."""
    used: dict[str, int] = {}
    while start < stop:
        end = min(stop, (start.replace(day=1, hour=0, minute=0, second=0) + timedelta(days=32)).replace(day=1))
        used[start.strftime("%Y-%m")] = int((end - start).total_seconds())
        start = end
    return used


def test_the_zone_of_the_machine_does_not_matter(options: ApelOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node()
    record = node.record(node.started())
    expected = render(rows(record, JANUARY, options))
    for zone in ("Europe/Rome", "America/St_Johns"):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        assert render(rows(record, JANUARY, options)) == expected
    monkeypatch.undo()
    time.tzset()
