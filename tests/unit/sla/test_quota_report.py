"""What is told of a ledger: used and held apart, the newest alone, and nothing that is known."""

from datetime import UTC, datetime, timedelta

from indaco_common.contracts import sla
from indaco_common.contracts.values import MAIN, Owner
from indaco_common.ids import DeploymentId, ReservationId
from indaco_common.units import ResourceVector
from indaco_sla.model.ledger import HOLD, Ledger
from indaco_sla.model.quota_report import QuotaReport, Standing

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ONE = ResourceVector(instances=1, cpu_milli=2000)


def ledger(*reservations: str) -> Ledger:
    found = Ledger(id="a1")
    found.grant(provider="recas", region="r", limits=ResourceVector(instances=5, cpu_milli=9000), user_limits=None)
    for rid in reservations:
        found.reserve(
            sla.QuotaReserve(
                ledger_id="a1", reservation_id=ReservationId(rid), deployment_id=DeploymentId("d"), attempt=1, slot=MAIN,
                owner=Owner(issuer="i", subject="ada"), nodes={"n-0": ONE},
            ),
            NOW,
        )  # fmt: skip
    return found


def test_what_runs_is_used_and_what_is_being_built_or_asked_about_is_held() -> None:
    found = ledger("r1", "r2", "r3", "r4")
    found.confirm(ReservationId("r1"), NOW)
    found.release(sla.QuotaRelease(ledger_id="a1", reservation_id=ReservationId("r2")), NOW)
    found.renew(ReservationId("r3"), NOW + timedelta(minutes=1))
    found.expire(NOW + HOLD)  # r4 is past its time and still counts
    standing = Standing.of(found)
    assert (standing.used, standing.held) == (ONE, ONE * 2)
    assert standing.used + standing.held == found.used()


def test_it_is_told_once_with_the_version_of_the_ledger_that_it_is_of() -> None:
    report = QuotaReport(id="a1")
    standing = Standing.of(ledger("r1"))
    report.tell(standing, 4, NOW)
    report.tell(standing, 5, NOW)
    [told] = report.emitted
    assert told == sla.QuotaChanged(
        ledger_id="a1", revision=4, provider="recas", region="r", limits=ResourceVector(instances=5, cpu_milli=9000), held=ONE, as_of=NOW
    )  # fmt: skip


def test_what_another_replica_read_earlier_is_not_told_after_what_is_newer() -> None:
    report = QuotaReport(id="a1")
    report.tell(Standing.of(ledger("r1", "r2")), 7, NOW)
    report.tell(Standing.of(ledger("r1")), 6, NOW + timedelta(seconds=1))
    assert [message.revision for message in report.emitted if isinstance(message, sla.QuotaChanged)] == [7]
    report.tell(Standing.of(ledger()), 8, NOW)
    assert len(report.emitted) == 2
