"""The ledger: what one agreement grants, and what is held of it, in whatever order the messages come."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from indaco_common.contracts import sla
from indaco_common.contracts.values import MAIN, Owner
from indaco_common.ids import DeploymentId, ReservationId
from indaco_common.messages import Message
from indaco_common.units import ResourceVector
from indaco_sla.model.ledger import COUNTED, HOLD, KEEP_SETTLED, Ledger, State

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ADA, BOB = Owner(issuer="i", subject="ada"), Owner(issuer="i", subject="bob")
R1, R2, R3 = (ReservationId(f"r{i}") for i in (1, 2, 3))


def ledger(instances: int = 3, *, per_user: int | None = None) -> Ledger:
    found = Ledger.new("a1")
    assert isinstance(found, Ledger)
    user_limits = None if per_user is None else ResourceVector(instances=per_user)
    found.grant(provider="recas", region="r", limits=ResourceVector(instances=instances), user_limits=user_limits)
    return found


def ask(
    rid: ReservationId = R1, count: int = 1, *, owner: Owner = ADA, needs: ResourceVector | None = None
) -> sla.QuotaReserve:
    needs = needs or ResourceVector(instances=1)
    return sla.QuotaReserve(
        ledger_id="a1", reservation_id=rid, deployment_id=DeploymentId("d"), attempt=1, slot=MAIN, owner=owner,
        nodes={f"n-{i}": needs for i in range(count)},
    )  # fmt: skip


def release(rid: ReservationId = R1, nodes: tuple[str, ...] | None = None) -> sla.QuotaRelease:
    return sla.QuotaRelease(ledger_id="a1", reservation_id=rid, nodes=nodes)


def said(of: Ledger) -> list[Message]:
    messages = list(of.emitted)
    of.emitted.clear()
    return messages


def kinds(of: Ledger) -> list[type[Message]]:
    return [type(message) for message in said(of)]


def held(count: int = 1, **more: int) -> Ledger:
    found = ledger(**more)
    found.reserve(ask(count=count), NOW)
    said(found)
    return found


# ── reserve


def test_what_fits_is_held_for_a_while() -> None:
    a = ledger()
    a.reserve(ask(count=3), NOW)
    (answer,) = said(a)
    assert isinstance(answer, sla.QuotaReserved)
    assert (answer.ledger_id, answer.reservation_id, answer.expires_at) == ("a1", R1, NOW + HOLD)
    assert a.used() == ResourceVector(instances=3)
    assert a.due_at == NOW + HOLD


def test_what_does_not_fit_is_refused_with_what_is_missing() -> None:
    a = held(2)
    a.reserve(ask(R2, count=3), NOW)
    (answer,) = said(a)
    assert isinstance(answer, sla.QuotaRefused)
    (reason,) = answer.reasons
    assert (reason.code, reason.resource, reason.need, reason.available, reason.limit) == (
        "QUOTA",
        "instances",
        3,
        1,
        3,
    )
    assert "2 missing" in reason.detail
    assert a.used() == ResourceVector(instances=2)


def test_a_resource_that_is_not_granted_is_refused() -> None:
    a = ledger()
    a.reserve(ask(needs=ResourceVector(instances=1, gpus=1)), NOW)
    (answer,) = said(a)
    assert isinstance(answer, sla.QuotaRefused)
    assert [reason.resource for reason in answer.reasons] == ["gpus"]


def test_one_user_may_not_take_what_the_group_has() -> None:
    a = ledger(per_user=1)
    a.reserve(ask(R1), NOW)
    a.reserve(ask(R2), NOW)
    a.reserve(ask(R3, owner=BOB), NOW)
    first, second, third = said(a)
    assert isinstance(first, sla.QuotaReserved)
    assert isinstance(second, sla.QuotaRefused)
    assert [reason.code for reason in second.reasons] == ["USER_LIMIT"]
    assert isinstance(third, sla.QuotaReserved)


def test_a_repeat_gets_the_stored_answer_whatever_is_free_by_then() -> None:
    a = held(3)
    a.reserve(ask(R2), NOW)
    a.release(release(R1), NOW)
    said(a)
    a.reserve(ask(R2), NOW + timedelta(minutes=5))
    assert kinds(a) == [sla.QuotaRefused]
    a.reserve(ask(R1), NOW + timedelta(minutes=5))
    assert said(a) == []  # it was freed: no answer can be right
    assert a.used() == ResourceVector()


def test_a_repeat_of_a_hold_names_its_present_end() -> None:
    a = held()
    a.renew(R1, NOW + timedelta(minutes=5))
    a.reserve(ask(), NOW + timedelta(minutes=6))
    (answer,) = said(a)
    assert isinstance(answer, sla.QuotaReserved)
    assert answer.expires_at == NOW + timedelta(minutes=5) + HOLD


def test_lowering_the_limits_frees_nothing() -> None:
    a = held(3)
    grant = {"provider": "recas", "region": "r", "user_limits": None}
    assert a.grant(limits=ResourceVector(instances=1), **grant)  # type: ignore[arg-type]
    assert not a.grant(limits=ResourceVector(instances=1), **grant)  # type: ignore[arg-type]
    assert a.used() == ResourceVector(instances=3)
    a.reserve(ask(R2), NOW)
    assert kinds(a) == [sla.QuotaRefused]


# ── expiry


def test_a_hold_past_its_time_is_asked_about_once_and_still_counts() -> None:
    a = held()
    a.expire(NOW + HOLD)
    (question,) = said(a)
    assert isinstance(question, sla.QuotaExpiring)
    assert question.reservation_id == R1
    assert a.used() == ResourceVector(instances=1)
    assert a.due_at is None
    a.expire(NOW + 2 * HOLD)
    assert said(a) == []


def test_a_hold_within_its_time_is_not_asked_about() -> None:
    a = held()
    a.expire(NOW + HOLD - timedelta(seconds=1))
    assert said(a) == []
    assert a.due_at == NOW + HOLD


@pytest.mark.parametrize("is_late", [False, True])
def test_renewal_gives_a_new_life_also_to_what_was_asked_about(*, is_late: bool) -> None:
    a, later = held(), NOW + 2 * HOLD
    if is_late:
        a.expire(later)
    a.renew(R1, later)
    assert a.reservations[R1].state is State.HELD
    assert a.due_at == later + HOLD


def test_what_is_confirmed_never_expires() -> None:
    a = held()
    a.expire(NOW + HOLD)
    a.confirm(R1, NOW + HOLD)
    said(a)
    assert a.reservations[R1].state is State.COMMITTED
    a.renew(R1, NOW + HOLD)
    a.expire(NOW + 9 * HOLD)
    assert (said(a), a.due_at) == ([], None)
    assert a.used() == ResourceVector(instances=1)


# ── release


def test_release_frees_for_others() -> None:
    a = held(3)
    a.release(release(), NOW)
    a.reserve(ask(R2, count=3), NOW)
    assert kinds(a) == [sla.QuotaReserved]


def test_a_release_that_comes_first_is_remembered() -> None:
    a = ledger()
    a.release(release(), NOW)
    a.reserve(ask(), NOW)
    assert said(a) == []
    assert a.used() == ResourceVector()


def test_lost_nodes_are_taken_out_in_any_order_and_number() -> None:
    a = held(3)
    a.confirm(R1, NOW)
    for nodes in (("n-1",), ("n-0", "n-1"), ("n-9",)):
        a.release(release(nodes=nodes), NOW)
    assert set(a.reservations[R1].nodes) == {"n-2"}
    a.release(release(nodes=("n-2",)), NOW)
    assert a.reservations[R1].state is State.RELEASED


def test_lost_nodes_of_what_is_unknown_are_no_tombstone() -> None:
    a = ledger()
    a.release(release(nodes=("n-0",)), NOW)
    assert a.reservations == {}


def test_neither_renewal_nor_confirmation_brings_back_what_was_freed_or_refused() -> None:
    a = held(3)
    a.reserve(ask(R2), NOW)
    a.release(release(R1), NOW)
    a.release(release(R2), NOW)
    for rid in (R1, R2, R3):
        a.renew(rid, NOW)
        a.confirm(rid, NOW)
    assert [line.state for line in a.reservations.values()] == [State.RELEASED, State.REFUSED]


def test_what_was_settled_is_forgotten_after_a_week_and_what_counts_never() -> None:
    a = ledger()
    a.reserve(ask(R1), NOW)
    a.confirm(R1, NOW)
    a.release(release(R2), NOW)
    a.release(release(R3), NOW + KEEP_SETTLED)
    a.reserve(ask(ReservationId("r4")), NOW + KEEP_SETTLED + timedelta(seconds=1))
    assert set(a.reservations) == {R1, R3, "r4"}


# ── any order of any messages


class LedgerMachine(RuleBasedStateMachine):
    """Never over quota, for all and for each user; every answer is the first one; nothing that counts is freed by the clock."""

    rids = Bundle("rids")

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.ledger = ledger(4, per_user=3)
        self.answers: dict[ReservationId, type[Message]] = {}
        self.number = 0

    @rule(target=rids)
    def name(self) -> ReservationId:
        self.number += 1
        return ReservationId(f"r{self.number}")

    @rule(rid=rids, count=st.integers(1, 3), owner=st.sampled_from([ADA, BOB]))
    def reserve(self, rid: ReservationId, count: int, owner: Owner) -> None:
        self.ledger.reserve(ask(rid, count, owner=owner), self.now)
        for answer in kinds(self.ledger):
            assert self.answers.setdefault(rid, answer) is answer

    @rule(rid=rids)
    def confirm(self, rid: ReservationId) -> None:
        self.ledger.confirm(rid, self.now)

    @rule(rid=rids)
    def renew(self, rid: ReservationId) -> None:
        self.ledger.renew(rid, self.now)

    @rule(rid=rids, nodes=st.sets(st.sampled_from(["n-0", "n-1", "n-2"]), min_size=1))
    def lose(self, rid: ReservationId, nodes: set[str]) -> None:
        self.ledger.release(release(rid, tuple(nodes)), self.now)

    @rule(rid=consumes(rids))
    def release(self, rid: ReservationId) -> None:
        self.ledger.release(release(rid), self.now)
        assert self.ledger.reservations[rid].state not in COUNTED

    @rule(minutes=st.integers(0, 30))
    def wait(self, minutes: int) -> None:
        used = self.ledger.used()
        self.now += timedelta(minutes=minutes)
        self.ledger.expire(self.now)
        asked_about = {m.reservation_id for m in said(self.ledger) if isinstance(m, sla.QuotaExpiring)}
        assert all(self.ledger.reservations[rid].state is State.EXPIRING for rid in asked_about)
        assert self.ledger.used() == used

    @rule()
    def be_saved(self) -> None:
        self.ledger = Ledger.model_validate_json(self.ledger.model_dump_json())

    @invariant()
    def is_within_its_limits(self) -> None:
        assert not self.ledger.used().shortfall(self.ledger.limits)
        for owner in (ADA, BOB):
            assert self.ledger.user_limits is not None
            assert not self.ledger.used(owner).shortfall(self.ledger.user_limits)

    @invariant()
    def has_its_timer_set(self) -> None:
        ends = [line.at for line in self.ledger.reservations.values() if line.state is State.HELD]
        assert self.ledger.due_at == min(ends, default=None)


TestLedgerMachine = LedgerMachine.TestCase
TestLedgerMachine.settings = settings(max_examples=40, stateful_step_count=50, deadline=None)


@pytest.mark.timeout(120)
def test_long_lives_stay_within_quota() -> None:
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(LedgerMachine, settings=settings(max_examples=4, stateful_step_count=500, deadline=None))
