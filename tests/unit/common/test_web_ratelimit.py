"""Buckets that fill by themselves, and whose address counts."""

import ipaddress
from dataclasses import dataclass

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st

from indaco_common.errors import TooManyRequests
from indaco_common.web.ratelimit import Buckets, Guesses, Rate, client_address

RATE = Rate("read", quota=10, window_s=5)  # one comes back every half second


@dataclass
class Watch:
    now: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def buckets(watch: Watch) -> Buckets:
    return Buckets(RATE, now=watch)


def test_the_whole_quota_may_be_taken_at_once_and_no_more(buckets: Buckets) -> None:
    taken = [buckets.take("ada") for _ in range(11)]
    assert [each.remaining for each in taken] == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0]
    assert [each.is_granted for each in taken] == [True] * 10 + [False]


def test_a_refusal_says_when_there_is_one_again(buckets: Buckets, watch: Watch) -> None:
    for _ in range(10):
        buckets.take("ada")
    refused = buckets.take("ada")
    assert refused.retry_after_s == pytest.approx(0.5)
    assert refused.full_in_s == pytest.approx(5)
    watch.now += refused.retry_after_s
    assert buckets.take("ada").is_granted
    assert not buckets.take("ada").is_granted


def test_what_is_refused_costs_nothing(buckets: Buckets, watch: Watch) -> None:
    for _ in range(1000):
        buckets.take("ada")
    watch.now += 0.5
    assert buckets.take("ada").is_granted


def test_a_bucket_is_full_again_after_its_window_and_no_fuller(buckets: Buckets, watch: Watch) -> None:
    for _ in range(10):
        buckets.take("ada")
    watch.now += 5
    assert buckets.take("ada").remaining == 9
    watch.now += 3600
    assert buckets.take("ada").remaining == 9


def test_everybody_has_a_bucket_of_their_own(buckets: Buckets) -> None:
    for _ in range(11):
        buckets.take("ada")
    assert buckets.take("bob").remaining == 9


def test_looking_how_long_to_wait_takes_nothing(buckets: Buckets) -> None:
    assert buckets.wait_s("ada") == 0
    for _ in range(10):
        assert buckets.wait_s("ada") == 0
        buckets.take("ada")
    assert buckets.wait_s("ada") == pytest.approx(0.5)


def test_the_headers_say_policy_and_rest(buckets: Buckets) -> None:
    assert buckets.policy == '"read";q=10;w=5'
    assert buckets.header(buckets.take("ada")) == '"read";r=9;t=1'


def test_memory_is_bounded_and_the_oldest_is_forgotten_first(watch: Watch) -> None:
    buckets = Buckets(RATE, most=3, now=watch)
    for who in "abcabd":
        buckets.take(who)
    assert len(buckets) == 3
    assert buckets.take("b").remaining == 7
    assert buckets.take("c").remaining == 9


@given(st.lists(st.floats(0, 3), max_size=200), st.integers(1, 50), st.integers(1, 60))
def test_no_more_than_the_quota_and_what_came_back_is_ever_granted(gaps: list[float], quota: int, window: int) -> None:
    watch = Watch(0.0)
    buckets = Buckets(Rate("x", quota, window), now=watch)
    granted = 0
    for gap in gaps:
        watch.now += gap
        taken = buckets.take("ada")
        granted += taken.is_granted
        assert 0 <= taken.remaining < quota
        assert granted <= quota + watch.now * quota / window + 0.01


@pytest.mark.parametrize(("text", "policy"), [("1200/60", '"read";q=1200;w=60'), ("1/1", '"read";q=1;w=1')])
def test_a_rate_is_read_from_its_text(text: str, policy: str) -> None:
    rate = Rate.parse("read", text)
    assert rate is not None
    assert rate.policy == policy


def test_no_limit_is_said_as_none() -> None:
    assert Rate.parse("read", "none") is None


@pytest.mark.parametrize("text", ["", "0/60", "60/0", "60", "-1/60", "1.5/60", "none ", "10/60\n", "99999999/1"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not requests/seconds"):
        Rate.parse("read", text)


# ── guesses


@pytest.fixture
def guesses(watch: Watch) -> Guesses:
    return Guesses(RATE, now=watch)


def fail(guesses: Guesses, times: int = 10) -> None:
    for number in range(times):
        guesses.check("192.0.2.1", f"guess {number}")
        guesses.failed("192.0.2.1", f"guess {number}")


def test_guesses_are_bounded_and_told_when_to_come_back(guesses: Guesses) -> None:
    fail(guesses)
    with pytest.raises(TooManyRequests) as caught:
        guesses.check("192.0.2.1", "another")
    assert caught.value.retry_after_s == pytest.approx(0.5)


def test_whoever_is_known_is_not_locked_out_by_a_neighbour(guesses: Guesses) -> None:
    guesses.proved("ada's token")
    fail(guesses)
    guesses.check("192.0.2.1", "ada's token")


def test_other_addresses_do_not_notice(guesses: Guesses) -> None:
    fail(guesses)
    guesses.check("192.0.2.2", "guess 1")


def test_somebody_new_waits_for_moments_once_the_guessing_ends(guesses: Guesses, watch: Watch) -> None:
    fail(guesses)
    for _ in range(1000):
        with pytest.raises(TooManyRequests):
            guesses.check("192.0.2.1", "another")
    watch.now += 0.5
    guesses.check("192.0.2.1", "bob's first token")


def test_a_token_that_was_good_and_fails_is_a_guess_from_then_on(guesses: Guesses) -> None:
    guesses.proved("old")
    guesses.failed("192.0.2.1", "old")
    fail(guesses, 9)
    with pytest.raises(TooManyRequests):
        guesses.check("192.0.2.1", "old")


def test_only_hashes_of_good_tokens_are_kept(guesses: Guesses) -> None:
    guesses.proved("ada's token")
    assert all(isinstance(each, int) for each in guesses._good)


# ── addresses


def request(remote: str, forwarded: str | None = None) -> web.Request:
    headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}
    return make_mocked_request("GET", "/", headers=headers).clone(remote=remote)


PROXIES = (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8"))


@pytest.mark.parametrize(
    ("remote", "forwarded", "address"),
    [
        ("192.0.2.7", None, "192.0.2.7"),
        ("192.0.2.7", "198.51.100.1", "192.0.2.7"),
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "203.0.113.9, 198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "203.0.113.9, 198.51.100.1, 10.0.0.2", "198.51.100.1"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.1"),
        ("10.0.0.1", None, "10.0.0.1"),
        ("10.0.0.1", "unknown", "10.0.0.1"),
        ("fd00::1", "2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::4", None, "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", None, "192.0.2.7"),
        ("", None, ""),
    ],
)
def test_the_last_address_that_is_not_a_proxys_counts(remote: str, forwarded: str | None, address: str) -> None:
    assert client_address(request(remote, forwarded), PROXIES) == address


def test_without_trusted_proxies_nobody_is_believed_about_others() -> None:
    assert client_address(request("10.0.0.1", "198.51.100.1")) == "10.0.0.1"
