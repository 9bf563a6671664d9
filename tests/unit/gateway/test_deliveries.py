"""The queue of one receiver: what is claimed, tried, given up, kept; and what a subscription makes of it."""

import re
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indaco_common.contracts.values import Owner
from indaco_common.errors import AlreadyHandled, NotFound
from indaco_common.messages import REGISTRY, Event
from indaco_gateway.handlers import SHOWN
from indaco_gateway.model import subscription
from indaco_gateway.model.conflicts import WrongState
from indaco_gateway.model.delivery import (
    BATCH,
    CLAIM_S,
    KEPT,
    LONGEST_PAUSE_S,
    MAX_TRIES,
    Delivery,
    DeliveryState,
    Queue,
    Result,
    pause_s,
)
from indaco_gateway.model.operation import Operation, Status, Step
from indaco_gateway.model.subscription import (
    PING,
    TYPES,
    Callback,
    Claims,
    Subscription,
    SubscriptionState,
    Terms,
    is_pattern,
    is_possible,
    matches,
    nearest,
    news,
)

from .builders import ADA, NOW, accepted

DEPLOYMENT = "0190f7c1-0000-7000-8000-000000000001"
TAKEN, REFUSED = Result(status=200), Result(status=500, error="the answer was 500")


def a_delivery(step: int = 1, receiver: str = "s") -> Delivery:
    return Delivery.of(receiver, "deployment.running", DEPLOYMENT, step, NOW)


def a_queue(count: int = 1) -> Queue:
    queue = Queue()
    for step in range(1, count + 1):
        assert queue.add(a_delivery(step))
    return queue


def a_subscription(**terms: object) -> Subscription:
    found = Subscription(id="s")
    found.begin(ADA, Terms.model_validate({"url": "https://example.org/", **terms}), Claims(seen_at=NOW), NOW)
    return found


def test_a_delivery_has_the_same_id_each_time_it_is_made_and_another_for_another_receiver_or_step() -> None:
    ids = {a_delivery().id, a_delivery().id, a_delivery(2).id, a_delivery(receiver="t").id}
    assert len(ids) == 3
    assert not any("." in id for id in ids)  # the signature joins with full stops


def test_what_is_added_again_is_not_sent_again_be_it_waiting_dead_or_delivered() -> None:
    queue = a_queue(3)
    first, second, third = queue.take("me", NOW)
    queue.settle("me", {first.id: TAKEN, second.id: Result(error="no", is_over=True)}, now=NOW, spread=0.5)
    assert [queue.add(a_delivery(step)) for step in (1, 2, 3)] == [False, False, False]
    assert [delivery.id for delivery in queue.waiting] == [third.id]


def test_a_claim_keeps_others_away_until_it_ends() -> None:
    queue = a_queue(1)
    assert queue.take("me", NOW)
    assert queue.take("you", NOW + timedelta(seconds=CLAIM_S - 1)) == []
    assert queue.wake_at() == NOW + timedelta(seconds=CLAIM_S)
    queue.add(a_delivery(2))
    assert queue.wake_at() == NOW + timedelta(seconds=CLAIM_S), "what comes meanwhile waits for its end"
    assert len(queue.take("you", NOW + timedelta(seconds=CLAIM_S))) == 2


def test_a_sender_whose_claim_has_lapsed_is_heard_and_leaves_the_new_claim_alone() -> None:
    queue = a_queue(2)
    one, other = queue.take("me", NOW)
    later = NOW + timedelta(seconds=CLAIM_S)
    queue.take("you", later)
    queue.settle("me", {one.id: TAKEN}, now=later, spread=0.5)
    assert queue.claim == "you"
    assert [delivery.id for delivery in queue.waiting] == [other.id]
    queue.settle("you", {one.id: TAKEN, other.id: TAKEN}, now=later, spread=0.5)
    assert (queue.claim, queue.waiting, len(queue.ended)) == ("", [], 2)


def test_what_was_not_tried_stays_as_it_was() -> None:
    queue = a_queue(2)
    one, other = queue.take("me", NOW)
    queue.settle("me", {one.id: REFUSED}, now=NOW, spread=0.5)
    assert {delivery.id: delivery.tries for delivery in queue.waiting} == {one.id: 1, other.id: 0}


def test_a_receiver_that_takes_nothing_is_left_alone_for_a_while_and_then_what_is_new_is_not_held_up() -> None:
    queue = a_queue(2)
    one, other = queue.take("me", NOW)
    queue.settle("me", {one.id: REFUSED}, now=NOW, spread=0.5)
    rest = queue.wake_at()
    assert rest is not None
    assert timedelta(0) < rest - NOW <= timedelta(seconds=6)
    assert queue.take("me", rest - timedelta(seconds=1)) == []
    for _ in range(9):
        queue.take("me", rest)
        queue.settle("me", {other.id: REFUSED, one.id: REFUSED}, now=rest, spread=1)
        rest, before = queue.wake_at() or rest, rest
        assert rest - before < timedelta(hours=8)
    assert queue.rest_until is not None
    assert queue.rest_until - before <= timedelta(seconds=60)
    queue.take("me", rest)
    queue.settle("me", {one.id: TAKEN}, now=rest, spread=1)
    assert (queue.failing, queue.rest_until) == (0, None)


def test_a_batch_is_bounded() -> None:
    assert len(a_queue(BATCH + 1).take("me", NOW)) == BATCH


def test_tries_are_bounded_and_spread_over_about_a_day() -> None:
    queue, now = a_queue(1), NOW
    for tries in range(1, MAX_TRIES + 1):
        (delivery,) = queue.take("me", now)
        queue.settle("me", {delivery.id: REFUSED}, now=now, spread=0.5)
        if tries < MAX_TRIES:
            assert queue.waiting[0].tries == tries
            now = queue.wake_at() or now
    assert (queue.waiting, queue.dead[0].state, queue.dead_in_row) == ([], DeliveryState.DEAD, 1)
    assert timedelta(hours=20) < now - NOW < timedelta(hours=26)


@given(tries=st.integers(1, MAX_TRIES), spread=st.floats(0, 1), asked=st.none() | st.floats(0, 1e9))
def test_a_pause_is_at_least_what_the_receiver_asks_for_and_never_too_long(
    tries: int, spread: float, asked: float | None
) -> None:
    pause = pause_s(tries, spread, asked)
    assert 4 <= pause <= LONGEST_PAUSE_S * 1.2 + 1
    assert pause >= min(asked or 0, LONGEST_PAUSE_S)


def test_one_that_arrives_ends_a_row_of_dead_ones() -> None:
    queue = a_queue(2)
    one, other = queue.take("me", NOW)
    queue.settle("me", {one.id: Result(error="gone", is_over=True)}, now=NOW, spread=0)
    assert queue.dead_in_row == 1
    queue.settle("me", {other.id: TAKEN}, now=NOW, spread=0)
    assert queue.dead_in_row == 0


def test_a_dead_delivery_is_retried_as_if_it_were_new() -> None:
    queue = a_queue(1)
    (delivery,) = queue.take("me", NOW)
    queue.settle(
        "me",
        {delivery.id: Result(status=400, answer="no", error="the answer was 400", is_over=True)},
        now=NOW,
        spread=0,
    )
    queue.retry(delivery.id, NOW)
    assert (queue.dead, queue.waiting[0].tries, queue.wake_at()) == ([], 0, NOW)
    with pytest.raises(NotFound):
        queue.retry("other", NOW)


@settings(max_examples=60)
@given(st.lists(st.sampled_from(["add", "ok", "fail", "over", "withheld", "retry"]), max_size=120))
def test_a_queue_is_bounded_and_every_delivery_is_in_one_place(actions: list[str]) -> None:
    queue, now = Queue(), NOW
    for step, action in enumerate(actions, 1):
        now += timedelta(hours=7)
        if action == "add":
            queue.add(a_delivery(step))
        elif action == "retry" and queue.dead:
            queue.retry(queue.dead[0].id, now)
        else:
            due = queue.take("me", now)
            result = {
                "ok": TAKEN,
                "over": Result(error="no", is_over=True),
                "withheld": Result(error="no", is_withheld=True),
            }.get(action, REFUSED)
            queue.settle("me", {delivery.id: result for delivery in due}, now=now, spread=0.5)
        queue.bury_beyond(20, now)
        ids = [delivery.id for delivery in (*queue.waiting, *queue.dead, *queue.ended)]
        assert len(ids) == len(set(ids))
        assert len(queue.waiting) <= 20
        assert max(len(queue.dead), len(queue.ended)) <= KEPT
        assert all((each.next_at is not None) is (each.state is DeliveryState.WAITING) for each in queue.newest())


# ── subscriptions


@pytest.mark.parametrize(
    ("pattern", "type", "expected"),
    [
        ("*", "deployment.running", True), ("deployment.*", "deployment.running", True), ("*.failed", "attempt.failed", True),
        ("deployment.running", "deployment.running", True), ("deployment.*", "node.started", False), ("*.*", "node.started", True),
        ("deployment.run", "deployment.running", False),
    ],
)  # fmt: skip
def test_patterns_match_whole_words(pattern: str, type: str, *, expected: bool) -> None:
    assert is_pattern(pattern)
    assert matches(pattern, type) is expected


@pytest.mark.parametrize(
    "text", ["", "deployment", "deployment.", "dep*.running", "a.b.c", "**", "Deployment.running", "*.*.*", "x\n.y"]
)
def test_what_is_no_pattern_is_not_taken(text: str) -> None:
    assert not is_pattern(text)


def test_the_types_that_are_known_are_those_of_steps_and_no_step_is_of_another() -> None:
    noted = {
        name.removeprefix("gateway.")
        for file in sorted(Path(subscription.__file__).parent.glob("*.py"))
        for name in re.findall(r'"(gateway\.deployment\.[a-z-]+)"', file.read_text())
    }
    shown = {kind.TYPE.split(".", 1)[1].rpartition(".")[0] for kind in SHOWN}
    said = {name.split(".", 1)[1].rpartition(".")[0] for name, kind in REGISTRY.items() if issubclass(kind, Event)}
    assert noted | shown | {PING} <= TYPES
    assert TYPES - noted - said == {PING}
    assert all(is_pattern(type) and is_possible(type) for type in TYPES)


@pytest.mark.parametrize("pattern", ["*", "*.*", "deployment.*", "*.failed", "node.started", "subscription.*", PING])
def test_patterns_that_match_something_are_possible(pattern: str) -> None:
    assert is_possible(pattern)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("deploymnet.*", "deployment.*"), ("deployment.complete", "deployment.deleted"), ("*.fail", "*.failed"), ("node.stoped", "node.stopped"),
        ("attempt.alive", "attempt.failed"), ("gateway.running", "deployment.running"),
    ],
)  # fmt: skip
def test_of_a_pattern_that_can_match_nothing_the_likest_names_are_told(pattern: str, expected: str) -> None:
    assert not is_possible(pattern)
    assert expected in nearest(pattern)
    assert all(is_possible(name) for name in nearest(pattern))


def test_a_pattern_of_an_earlier_time_is_read_and_matches_nothing() -> None:
    one = Subscription.model_validate_json(a_subscription(types=("node.vanished",)).model_dump_json())
    assert one.terms.types == ("node.vanished",)
    assert not one.terms.want("node.removed")


def test_of_two_renewals_the_later_counts_in_whichever_order_they_are_noted() -> None:
    one = a_subscription()
    for seconds in (2, 1):
        one.rotated(NOW + timedelta(seconds=seconds))
    assert one.secret_changed_at == NOW + timedelta(seconds=2)


def test_a_subscription_that_has_a_step_does_not_take_it_again() -> None:
    one = a_subscription()
    one.tell([a_delivery()], limit=9, now=NOW)
    assert one.due_at == NOW
    with pytest.raises(AlreadyHandled):
        one.tell([a_delivery()], limit=9, now=NOW)


def test_a_paused_subscription_collects_nothing_and_sends_nothing_but_keeps_what_waits() -> None:
    one = a_subscription()
    one.tell([a_delivery()], limit=9, now=NOW)
    one.pause("why", NOW)
    assert (one.due_at, one.take("me", NOW)) == (None, [])
    with pytest.raises(AlreadyHandled):
        one.tell([a_delivery(2)], limit=9, now=NOW)
    with pytest.raises(WrongState, match="paused: why"):
        one.ping(NOW, 9)
    one.resume(NOW)
    assert len(one.take("me", NOW)) == 1


def test_a_subscription_whose_receiver_is_gone_is_paused() -> None:
    one = a_subscription()
    one.tell([a_delivery(1), a_delivery(2)], limit=9, now=NOW)
    first, *_ = one.take("me", NOW)
    one.settle("me", {first.id: Result(status=410, error="gone", is_gone=True)}, now=NOW, spread=0, dead_limit=5)
    assert (one.state, one.reason, len(one.queue.waiting)) == (
        SubscriptionState.PAUSED,
        "the receiver answered 410 Gone",
        1,
    )


def test_what_comes_back_after_a_deletion_changes_nothing_and_the_rest_is_forgotten_later() -> None:
    one = a_subscription()
    one.tell([a_delivery()], limit=9, now=NOW)
    (sent,) = one.take("me", NOW)
    one.delete(NOW)
    one.settle("me", {sent.id: TAKEN}, now=NOW, spread=0, dead_limit=5)
    assert (one.state, one.queue, one.terms.url) == (SubscriptionState.DELETED, Queue(), "")
    assert one.due_at is not None
    assert one.due_at > NOW


def test_of_too_many_for_a_receiver_that_is_only_slow_the_oldest_are_dead_and_it_goes_on() -> None:
    one = a_subscription()
    one.tell([a_delivery(step) for step in range(1, 21)], limit=9, now=NOW)
    assert (one.state, [each.step for each in one.queue.waiting]) == (SubscriptionState.ACTIVE, list(range(12, 21)))
    assert one.queue.dead[0].error.startswith("more than 9 deliveries were waiting")
    one.settle("me", {one.take("me", NOW)[0].id: TAKEN}, now=NOW, spread=0, dead_limit=5)
    assert one.state is SubscriptionState.ACTIVE


def test_claims_are_not_written_at_each_request_but_when_they_have_changed() -> None:
    one = a_subscription()
    assert not one.saw(Claims(seen_at=NOW + timedelta(minutes=1)))
    assert one.saw(Claims(groups=("cms",), seen_at=NOW + timedelta(minutes=1)))
    assert one.saw(Claims(groups=("cms",), seen_at=NOW + timedelta(hours=1)))


def test_a_callback_keeps_a_bounded_number_and_buries_the_oldest() -> None:
    callback = Callback(id=DEPLOYMENT)
    for step in range(1, 61):
        callback.tell(a_delivery(step), NOW)
    assert (len(callback.queue.waiting), len(callback.queue.dead)) == (50, 10)
    assert callback.queue.dead[0].step == 1


def test_terms_cover_by_group_and_deployment() -> None:
    operation = accepted()
    assert Terms(url="", group="cms").cover(operation)
    assert not Terms(url="", group="atlas").cover(operation)
    assert not Terms(url="", deployment="other").cover(operation)


# ── which steps are news


def a_timeline(*events: str) -> list[Step]:
    operation = Operation(id=DEPLOYMENT, owner=Owner(issuer="i", subject="s"), status=Status.CREATE_IN_PROGRESS)
    for event in events:
        operation.note(NOW, "x.y.z", "", "", event=event)
    return operation.timeline


@pytest.mark.parametrize(
    ("events", "event", "expected"),
    [
        (("", "a"), "a", [1, 2]),
        (("", "a", "b"), "b", [3]),
        (("a", "", "", "b", "c"), "b", [2, 3, 4]),
        (("a", "b"), "a", [1]),
        (("a", "b"), "none", []),
        (("a", "", ""), None, [2, 3]),
        (("", "a"), None, []),
        ((), None, []),
        ((), "a", []),
    ],
)
def test_news_are_a_step_and_what_users_did_right_before(
    events: tuple[str, ...], event: str | None, expected: list[int]
) -> None:
    assert [step.number for step in news(a_timeline(*events), event)] == expected
