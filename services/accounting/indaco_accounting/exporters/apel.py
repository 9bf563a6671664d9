"""APEL cloud usage records, version 0.4, as text. Pure, and strict: what the repository would book wrongly is not written.

A record is cumulative since the machine's start, and the repository keeps the last one received per machine and month, taking
differences between months. Hence one row closes each month that a machine outlives, stamped one second before its end although its
durations run to the end: stamped at the end itself, the whole month would be booked in the next one. Only an ended machine is
``completed``, and always with its end: without one its usage would be counted twice.
Source: https://docs.egi.eu/internal/accounting/record-and-message-formats/cloud-accounting/
"""

import hashlib
import hmac
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final
from urllib.parse import urlsplit

from indaco_accounting.exporters.text import MAX_TEXT, SEPARATOR, is_clean, sanitised
from indaco_accounting.model import Facts, Status, UsageRecord
from indaco_accounting.rating import EPOCH, epoch_ms, month_ends, month_of, rate
from indaco_common.contracts.values import Owner
from indaco_common.errors import Invalid
from indaco_common.ids import NAMESPACE

TARGET: Final = "apel"
HEADER: Final = "APEL-cloud-message: v0.4"
FIELDS: Final = (
    "RecordCreateTime", "VMUUID", "SiteName", "CloudComputeService", "MachineName", "LocalUserId", "LocalGroupId",
    "GlobalUserName", "FQAN", "Status", "StartTime", "EndTime", "SuspendDuration", "WallDuration", "CpuDuration", "CpuCount",
    "NetworkType", "NetworkInbound", "NetworkOutbound", "PublicIPCount", "Memory", "Disk", "BenchmarkType", "Benchmark",
    "StorageRecordId", "ImageId", "CloudType",
)  # fmt: skip
MAX_RECORDS: Final = 1000
MAX_BYTES: Final = 700_000  # the message broker takes less than 1 MB; signing and base64 add a third
PROVISIONAL: Final = "open"  # the version of a period that is not over
_MAX_CPU_MILLI = 10**10  # a DECIMAL(10,3) there
_MAX_INTEGER = 2**63
_GB = 10**9
_UUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_ROLE = re.compile(r"/role=", re.IGNORECASE)
SECOND = timedelta(seconds=1)


class UserName(StrEnum):
    """How a user appears: by subject and issuer, by a pseudonym that stays the same, or not at all."""

    SUBJECT = "subject"
    PSEUDONYM = "pseudonym"
    WITHHELD = "withheld"


class NotExportable(Invalid):
    code, title = "not-exportable", "The repository would book this record wrongly"


@dataclass(frozen=True, slots=True)
class ApelOptions:
    """*version* is Indaco's; *site_names*: provider → name in GOCDB, its own id where there is none."""

    version: str
    site_names: Mapping[str, str] = field(default_factory=dict)
    user_name: UserName = UserName.PSEUDONYM
    pseudonym_key: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Row:
    """One record of a message: what a machine has used up to some instant of *period* ("2026-11")."""

    record_id: str
    period: str
    text: str
    is_final: bool

    @property
    def version(self) -> str:
        """What tells a row from the one before for the same period."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:16] if self.is_final else PROVISIONAL


def rows(record: UsageRecord, now: datetime, options: ApelOptions) -> list[Row]:
    """Return all that is to be said of *record* at *now*, oldest first: a row per month that it outlived, and the present one.

    Raises: NotExportable.
    """
    facts = _checked(record, now, options)
    stop = record.stopped_at
    ends = [end for end in month_ends(facts.started_at, stop or now) if end != stop]
    told = [_row(record, facts, options, stamp=end - SECOND, until=end, before=end) for end in ends]
    if stop is not None:
        at_month_end = stop > facts.started_at and stop in month_ends(facts.started_at, stop)
        told.append(_row(record, facts, options, stamp=stop - SECOND if at_month_end else stop, until=stop))
    elif now not in ends:
        told.append(_row(record, facts, options, stamp=now, until=now, is_final=False))
    return told


def pending(record: UsageRecord, now: datetime, options: ApelOptions) -> list[Row]:
    """Return what the repository does not know yet: from the first row that is new or changed, in order, since each later one is
    a difference to it. A month that was reported before the end became known gets a row that adds nothing.

    Raises: NotExportable.
    """
    told, written = rows(record, now, options), record.exported.get(TARGET, {})
    if record.stopped_at is not None:
        told += _nothing_after(record, told[-1].period, written, options)
    for place, row in enumerate(told):
        if not row.is_final or written.get(row.period) != row.version:
            return told[place:]
    return []


def render(written: Sequence[Row]) -> str:
    """Return one message. Raises: Invalid, if it has no record (which kills the repository's loader) or too many."""
    if not 1 <= len(written) <= MAX_RECORDS:
        raise Invalid(f"a message has 1 to {MAX_RECORDS} records, not {len(written)}")
    return f"{HEADER}\n" + "".join(f"{row.text}{SEPARATOR}\n" for row in written)


def messages(written: Sequence[Row]) -> Iterator[str]:
    """Yield messages of at most MAX_RECORDS records and MAX_BYTES bytes, rows in their order."""
    batch: list[Row] = []
    size = 0
    for row in written:
        if batch and (len(batch) == MAX_RECORDS or size + len(row.text) > MAX_BYTES):
            yield render(batch)
            batch, size = [], 0
        batch.append(row)
        size += len(row.text) + len(SEPARATOR) + 1
    if batch:
        yield render(batch)


def user_name(owner: Owner, options: ApelOptions) -> str:
    """Return how *owner* appears in exports."""
    match options.user_name:
        case UserName.SUBJECT:
            return sanitised(f"{owner.subject}@{urlsplit(owner.issuer).hostname or owner.issuer}")
        case UserName.WITHHELD:
            return "withheld"
        case UserName.PSEUDONYM:
            who = f"{owner.issuer}\n{owner.subject}".encode()
            return "p-" + hmac.new(options.pseudonym_key, who, hashlib.sha256).hexdigest()[:32]


def machine_id(record: UsageRecord) -> str:
    """Return the site's own id where it is a UUID: others may report the same machine. Else one made of the record's id, since
    the repository's key has no site in it, and short ids of two sites would overwrite each other.
    """
    native = record.facts.resource_id if record.facts else ""
    return native.lower() if _UUID.fullmatch(native) else str(uuid.uuid5(NAMESPACE, f"machine\n{record.id}"))


def _nothing_after(record: UsageRecord, last: str, written: Mapping[str, str], options: ApelOptions) -> list[Row]:
    assert record.facts is not None
    late = sorted(period for period in written if period > last)
    stamps = [datetime.fromisoformat(f"{period}-01T00:00:01+00:00") for period in late]
    return [_row(record, record.facts, options, stamp=stamp, until=stamp) for stamp in stamps]


def _row(
    record: UsageRecord,
    facts: Facts,
    options: ApelOptions,
    *,
    stamp: datetime,
    until: datetime,
    before: datetime | None = None,
    is_final: bool = True,
) -> Row:
    """Return the row of the month of *stamp*: durations run to *until*, network figures are those of *before*."""
    end = until if record.stopped_at is None else min(until, record.stopped_at)
    usage = rate(facts.needs, epoch_ms(end) - epoch_ms(facts.started_at))
    figures = record.figures(before)
    is_completed = record.status is Status.CLOSED and until == record.stopped_at
    values: dict[str, str | int | None] = {
        "RecordCreateTime": _epoch_s(stamp),
        "VMUUID": machine_id(record),
        "SiteName": options.site_names.get(facts.place.provider, facts.place.provider),
        "CloudComputeService": sanitised(f"{facts.place.provider}/{facts.place.region}"),
        "MachineName": sanitised(record.node),
        "LocalGroupId": sanitised(facts.place.project),
        "GlobalUserName": user_name(facts.owner, options),
        "FQAN": _fqan(facts),
        "Status": "completed" if is_completed else "started",
        "StartTime": _epoch_s(facts.started_at),
        "EndTime": _epoch_s(stamp) if is_completed else None,
        "SuspendDuration": 0,
        "WallDuration": usage.wall_ms // 1000,
        "CpuDuration": usage.wall_ms * usage.cpu_milli // 1_000_000,
        "CpuCount": _decimal(usage.cpu_milli),
        "NetworkInbound": figures.network_in_bytes // _GB if figures else None,
        "NetworkOutbound": figures.network_out_bytes // _GB if figures else None,
        "PublicIPCount": facts.needs["public_ips"],
        "Memory": usage.memory_mib,
        "Disk": usage.disk_gib,
        "ImageId": sanitised(facts.image),
        "CloudType": sanitised(f"indaco/{options.version} ({facts.place.kind})"),
    }
    text = "".join(f"{name}: {_written(values.get(name))}\n" for name in FIELDS)
    return Row(record.id, month_of(stamp), text, is_final)


def _checked(record: UsageRecord, now: datetime, options: ApelOptions) -> Facts:
    """Return the record's facts, if its rows will be booked as they are meant. Raises: NotExportable."""
    facts = record.facts
    if facts is None:
        raise NotExportable(f"{record.id}: nothing has been told about it")
    last = record.stopped_at or facts.started_at
    site = options.site_names.get(facts.place.provider, facts.place.provider)
    figures = record.figures()
    problems = {
        "its start is not after 1970": facts.started_at <= EPOCH,
        "it stops before its start": last < facts.started_at,
        "it lies in the future": max(last, facts.started_at) > now,
        f"the site's name {site!r} is not plain ASCII of 1 to {MAX_TEXT} characters": not is_clean(site),
        f"the group {facts.group.path!r} cannot be written as a VO": not _is_group(facts),
        "it has too many vCPUs": facts.needs["cpu_milli"] >= _MAX_CPU_MILLI,
        "its figures are negative or too large": figures is not None
        and not (0 <= figures.network_in_bytes < _MAX_INTEGER and 0 <= figures.network_out_bytes < _MAX_INTEGER),
    }
    for problem, is_there in problems.items():
        if is_there:
            raise NotExportable(f"{record.id}: {problem}")
    return facts


def _fqan(facts: Facts) -> str:
    return "/" + facts.group.path.strip("/")


def _is_group(facts: Facts) -> bool:
    """Whether the repository will read VO and group as they are: one name of many, no role by accident, nothing to guess."""
    fqan = _fqan(facts)
    return is_clean(fqan) and not _ROLE.search(fqan) and ";" not in fqan and all(fqan[1:].split("/"))


def _epoch_s(moment: datetime) -> int:
    return epoch_ms(moment) // 1000


def _decimal(milli: int) -> str:
    whole, rest = divmod(milli, 1000)
    return f"{whole}.{rest:03d}".rstrip("0").rstrip(".")


def _written(value: str | int | None) -> str:
    return "NULL" if value is None or value == "" else str(value)
