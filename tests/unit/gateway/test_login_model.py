"""A login while the browser is at the issuer, and a session: decisions alone."""

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st

from indaco_common.contracts.values import Owner
from indaco_gateway.identity.sessions import place_of
from indaco_gateway.model.login import Attempt, LoginFailed, check_id_token, check_issuer, is_path
from indaco_gateway.model.session import Session

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
ISSUER = "https://iam.example.org/"
GOOD = {"aud": "us", "nonce": "n" * 43, "exp": int(NOW.timestamp()) + 300, "iat": int(NOW.timestamp())}


def attempt() -> Attempt:
    return Attempt.begin(ISSUER, "/app", NOW)


def test_a_cookie_holds_a_login_whole() -> None:
    begun = attempt()
    read = Attempt.of_cookie(begun.cookie())
    assert read == begun
    assert read is not None
    assert (read.state, read.nonce, read.verifier) == (begun.state, begun.nonce, begun.verifier)
    assert len({begun.state, begun.nonce, begun.verifier}) == 3
    assert len(begun.verifier) == 43


def test_nothing_that_travels_by_url_is_the_cookies_number() -> None:
    begun = attempt()
    assert begun.seed not in (begun.state, begun.nonce, begun.verifier)
    assert begun.seed not in repr(begun)


@pytest.mark.parametrize(
    "change", [{"issuer": "https://evil.example"}, {"return_to": "/x"}, {"expires_at": NOW + timedelta(days=1)}]
)
def test_a_login_that_was_changed_has_another_state(change: dict[str, object]) -> None:
    begun = attempt()
    with pytest.raises(LoginFailed):
        replace(begun, **change).check(begun.state, NOW)  # type: ignore[arg-type]


def test_a_login_takes_ten_minutes_at_most() -> None:
    begun = attempt()
    begun.check(begun.state, NOW + timedelta(minutes=9))
    with pytest.raises(LoginFailed):
        begun.check(begun.state, NOW + timedelta(minutes=10))


def test_a_login_that_a_browser_made_up_to_end_in_years_is_none() -> None:
    made_up = replace(attempt(), expires_at=NOW + timedelta(days=3650))
    with pytest.raises(LoginFailed):
        made_up.check(made_up.state, NOW)
    ahead = replace(attempt(), expires_at=NOW + timedelta(minutes=10, seconds=30))  # by a gateway whose clock is ahead
    ahead.check(ahead.state, NOW)


@given(st.text(max_size=100) | st.recursive(st.none() | st.integers() | st.text(max_size=50), lambda inner: st.lists(inner, max_size=5)).map(
    lambda value: base64.urlsafe_b64encode(json.dumps(value).encode()).decode()
))  # fmt: skip
def test_whatever_a_cookie_holds_is_a_login_or_nothing(text: str) -> None:
    found = Attempt.of_cookie(text)
    assert found is None or is_path(found.return_to)


def test_a_login_that_leads_elsewhere_is_none() -> None:
    assert Attempt.of_cookie(replace(attempt(), return_to="//evil.example").cookie()) is None


@pytest.mark.parametrize("path", ["/", "/app", "/app?tab=1#top", "/a//b", "/a:b@c"])
def test_paths_of_ours_are_taken(path: str) -> None:
    assert is_path(path)


@pytest.mark.parametrize(
    "path", ["", "app", "//x", "/\\x", "\\\\x", "https://x", " /x", "/x y", "/\nx", "/\x00", "/é", "javascript:x", "/" + "x" * 1024, None]
)  # fmt: skip
def test_paths_that_may_lead_elsewhere_are_not(path: object) -> None:
    assert not is_path(path)


@pytest.mark.parametrize(
    ("given", "promised", "good"),
    [(ISSUER, True, True), (ISSUER, False, True), (None, False, True), (None, True, False), (ISSUER.rstrip("/"), True, False), ("", False, False)],
)  # fmt: skip
def test_an_answer_names_its_issuer_exactly(given: str | None, promised: bool, good: bool) -> None:  # noqa: FBT001
    if good:
        check_issuer(ISSUER, given, is_promised=promised)
    else:
        with pytest.raises(LoginFailed):
            check_issuer(ISSUER, given, is_promised=promised)


@pytest.mark.parametrize(
    "change",
    [
        {"aud": "them"}, {"aud": None}, {"aud": ["us", "them"]}, {"aud": "us", "azp": "them"}, {"nonce": "other"}, {"nonce": None}, {"nonce": 1},
        {"nonce": "é"}, {"exp": int(NOW.timestamp()) - 61}, {"exp": None}, {"exp": True}, {"exp": 1e12}, {"exp": 10**30},
        {"iat": int(NOW.timestamp()) + 61}, {"iat": None},
    ],
)  # fmt: skip
def test_an_id_token_of_another_kind_is_refused(change: dict[str, object]) -> None:
    check_id_token(GOOD, client_id="us", nonce="n" * 43, now=NOW)
    check_id_token({**GOOD, "aud": ["us", "them"], "azp": "us"}, client_id="us", nonce="n" * 43, now=NOW)
    with pytest.raises(LoginFailed):
        check_id_token({**GOOD, **change}, client_id="us", nonce="n" * 43, now=NOW)


def begun(idle_s: float = 600, life_s: float = 3600) -> Session:
    session = Session(id="s")
    session.begin(Owner(issuer=ISSUER, subject="ada"), idle_s=idle_s, life_s=life_s, now=NOW)
    return session


def test_a_session_that_is_used_lasts_until_its_whole_time_is_over() -> None:
    session = begun()
    for minutes in range(0, 60, 5):
        session.saw(NOW + timedelta(minutes=minutes))
    assert session.is_alive(NOW + timedelta(minutes=59, seconds=59))
    assert not session.is_alive(NOW + timedelta(minutes=60))


def test_a_session_that_is_not_used_ends_and_is_not_woken() -> None:
    session, later = begun(), NOW + timedelta(minutes=10)
    assert not session.is_alive(later)
    session.saw(later)
    assert not session.is_alive(later)


def test_a_session_that_was_ended_stays_ended() -> None:
    session = begun()
    session.end(NOW)
    session.saw(NOW)
    assert (session.is_alive(NOW), session.due_at) == (False, NOW)


def test_the_use_of_a_session_is_noted_now_and_then() -> None:
    session = begun()
    assert not session.is_to_be_noted(NOW + timedelta(seconds=59))
    assert session.is_to_be_noted(NOW + timedelta(seconds=60))
    assert begun(idle_s=4).is_to_be_noted(NOW + timedelta(seconds=1))


@pytest.mark.parametrize(
    ("host", "public", "base"),
    [
        ("127.0.0.1:8080", "", "http://127.0.0.1:8080"),
        ("localhost", "", "http://localhost"),
        ("[::1]:8080", "", "http://[::1]:8080"),
        ("paas.example.org", "", None),
        ("127.0.0.1.evil.example", "", None),
        ("127.0.0.1@evil.example", "", None),
        ("evil@127.0.0.1", "", None),
        ("127.0.0.1:99999", "", None),
        ("127.0.0.1:8080/x", "", None),
        ("evil.example", "https://paas.example.org/api/", "https://paas.example.org/api"),
        ("127.0.0.1:8080", "http://paas.example.org", None),
    ],
)
def test_people_log_in_at_our_own_address_only(host: str, public: str, base: str | None) -> None:
    place = place_of(make_mocked_request("GET", "/", {"Host": host}), public)
    assert (place and place.base) == base
