"""Leases: state in, message, state out."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from indaco_common.contracts.values import Failure, Place
from indaco_common.contracts.vault import CredentialIssued, CredentialRefused, CredentialRevoked
from indaco_vault_broker.model.lease import FINAL, Lease, State, lease_id, secret_of, serial_of

NOW = datetime(2026, 11, 3, 10, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
PLACE = Place(
    provider="site-a", kind="simulated", endpoint="simulated:", region="r", project="p", agreement="a", simulated=True
)
REASON = Failure(code="policy-refused", detail="not for you")


def a_lease(*, life: timedelta | None = None) -> Lease:
    """Return a new lease, or one that was issued for *life*."""
    lease = Lease.new(lease_id("0190f7c1", 2, 1))
    if life is not None:
        lease.begin(PLACE)
        lease.issued(NOW + life, NOW)
    return lease


def test_a_lease_knows_whose_it_is_from_its_id() -> None:
    lease = a_lease()
    assert (lease.deployment_id, lease.attempt, lease.serial) == ("0190f7c1", 2, 1)
    assert lease.handle == "leases/0190f7c1/2"


def test_the_place_is_known_before_the_site_is_asked() -> None:
    lease = a_lease()
    lease.begin(PLACE)
    assert (lease.state, lease.place, lease.alive(NOW)) == (State.ISSUING, PLACE, ["0190f7c1/2/1"])


def test_an_issue_is_answered_with_the_handle_again_and_again() -> None:
    lease = a_lease(life=HOUR)
    lease.answer()
    lease.answer()
    about = {"deployment_id": "0190f7c1", "attempt": 2, "serial": 1}
    assert lease.emitted == [CredentialIssued(**about, handle="leases/0190f7c1/2", expires_at=NOW + HOUR)] * 2


def test_a_refusal_is_answered_with_its_reason_again() -> None:
    lease = a_lease()
    lease.begin(PLACE)
    lease.refused(REASON)
    lease.answer()
    [answer] = lease.emitted
    assert isinstance(answer, CredentialRefused)
    assert answer.reason == REASON


def test_a_revoke_that_comes_first_forbids_the_issue() -> None:
    lease = a_lease()
    lease.revoked()
    lease.begin(PLACE)
    lease.answer()
    assert lease.state is State.REVOKED
    assert [type(message) for message in lease.emitted] == [CredentialRevoked, CredentialRefused]


def test_a_credential_is_due_for_renewal_after_two_thirds_of_its_life() -> None:
    assert a_lease(life=3 * HOUR).due_at == NOW + 2 * HOUR


def test_a_renewal_keeps_its_name_until_it_is_answered() -> None:
    lease = a_lease(life=3 * HOUR)
    later = NOW + 2 * HOUR
    assert lease.begin_renewal(later) == lease.begin_renewal(later) == "0190f7c1/2/1/1"
    lease.renewed("0190f7c1/2/1/1", later + 3 * HOUR, later)
    assert lease.alive(later) == ["0190f7c1/2/1", "0190f7c1/2/1/1"]
    assert lease.begin_renewal(later) == "0190f7c1/2/1/2"
    assert lease.alive(NOW + 3 * HOUR) == ["0190f7c1/2/1/1", "0190f7c1/2/1/2"]


def test_names_whose_credentials_have_expired_are_forgotten() -> None:
    lease, now = a_lease(life=3 * HOUR), NOW
    for _ in range(50):
        now += 2 * HOUR
        name = lease.begin_renewal(now)
        assert name is not None
        lease.renewed(name, now + 3 * HOUR, now)
    assert len(lease.site_keys) == 2


def test_a_renewal_that_is_not_answered_is_tried_again_before_the_end() -> None:
    lease = a_lease(life=3 * HOUR)
    lease.begin_renewal(NOW + 2 * HOUR)
    assert lease.due_at == NOW + 2 * HOUR + timedelta(minutes=5)
    lease.begin_renewal(NOW + 3 * HOUR - timedelta(minutes=1))
    assert lease.due_at == NOW + 3 * HOUR


def test_a_refused_renewal_leaves_the_credential_to_its_end() -> None:
    lease = a_lease(life=3 * HOUR)
    lease.begin_renewal(NOW + 2 * HOUR)
    lease.renewal_refused()
    assert (lease.state, lease.due_at) == (State.ISSUED, NOW + 3 * HOUR)


def test_what_has_expired_stays_expired() -> None:
    lease = a_lease(life=HOUR)
    assert not lease.is_expired(NOW + HOUR - timedelta(seconds=1))
    assert lease.is_expired(NOW + HOUR)
    lease.expired()
    lease.revoked()
    lease.answer()
    assert (lease.state, lease.due_at) == (State.EXPIRED, None)
    assert [type(message) for message in lease.emitted] == [CredentialRevoked, CredentialRefused]


def test_a_lease_that_is_over_is_not_renewed() -> None:
    lease = a_lease(life=HOUR)
    lease.revoked()
    assert lease.begin_renewal(NOW) is None


@pytest.mark.parametrize(
    ("secret", "serial"), [(None, None), ({}, -1), ({"serial": "x"}, -1), (secret_of({"token": "t"}, 7), 7)]
)
def test_the_serial_in_the_vault_tells_whose_secret_it_is(secret: dict[str, object] | None, serial: int | None) -> None:
    assert serial_of(secret) == serial


class LeaseMachine(RuleBasedStateMachine):
    """Whatever comes in whatever order: final is final, and no name that may live at the site is forgotten."""

    @initialize()
    def begin(self) -> None:
        self.lease, self.now = a_lease(), NOW
        self.at_site: dict[str, datetime] = {}
        self.was: State = State.NEW

    @rule()
    def issue(self) -> None:
        self.lease.begin(PLACE)
        if self.lease.state is State.ISSUING:
            self.at_site[self.lease.id] = self.now + 3 * HOUR  # the site may have it, whether or not we hear of it
        self.lease.answer()

    @precondition(lambda self: self.lease.state is State.ISSUING)
    @rule(is_granted=st.booleans())
    def answered(self, *, is_granted: bool) -> None:
        if is_granted:
            self.lease.issued(self.at_site[self.lease.id], self.now)
        else:
            self.lease.refused(REASON)

    @rule()
    def revoke(self) -> None:
        for name in self.lease.alive(self.now):
            self.at_site.pop(name, None)
        self.lease.revoked()

    @rule(minutes=st.integers(1, 300), answer=st.sampled_from(["granted", "lost", "refused"]))
    def time_passes(self, minutes: int, answer: str) -> None:
        self.now += timedelta(minutes=minutes)
        if self.lease.due_at is None or self.lease.due_at > self.now:
            return
        if self.lease.is_expired(self.now):
            self.lease.expired()
        elif (name := self.lease.begin_renewal(self.now)) is not None:
            self.renewal(name, answer)

    def renewal(self, name: str, answer: str) -> None:
        if answer == "refused":
            self.lease.renewal_refused()
            return
        expires_at = self.at_site.setdefault(name, self.now + 3 * HOUR)
        if answer == "granted":
            self.lease.renewed(name, expires_at, self.now)

    @invariant()
    def final_is_final(self) -> None:
        assert self.was not in FINAL or self.lease.state is self.was
        self.was = self.lease.state

    @invariant()
    def nothing_is_forgotten(self) -> None:
        living = {name for name, expires_at in self.at_site.items() if expires_at > self.now}
        if self.lease.state is not State.EXPIRED:
            assert living <= set(self.lease.alive(self.now))

    @invariant()
    def an_issued_one_has_a_timer(self) -> None:
        assert (self.lease.due_at is not None) == (self.lease.state is State.ISSUED)


TestLeaseMachine = LeaseMachine.TestCase
TestLeaseMachine.settings = settings(max_examples=60, stateful_step_count=30)
