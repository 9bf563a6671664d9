"""Identifiers."""

import re
import threading
import time
import uuid

import hypothesis.strategies as st
import pytest
from hypothesis import given

from indaco_common import ids

TEXT = st.text(st.characters(exclude_characters="\n", codec="utf-8"), max_size=30)


def test_new_ids_sort_in_the_order_in_which_they_were_made() -> None:
    made = [ids.uuid7() for _ in range(10_000)]
    assert made == sorted(made)
    assert len(set(made)) == len(made)


def test_they_are_uuids_of_version_7_with_the_time_in_front() -> None:
    value = uuid.UUID(ids.uuid7())
    assert (value.version, value.variant) == (7, uuid.RFC_4122)
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", str(value))


def test_they_keep_their_order_when_the_clock_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    before = ids.uuid7()
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    assert ids.uuid7() > before


def test_threads_do_not_get_the_same() -> None:
    made: list[str] = []

    def make() -> None:
        made.extend(ids.uuid7() for _ in range(2000))

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 8000


@given(TEXT, TEXT, TEXT)
def test_the_same_owner_and_key_have_the_same_deployment(issuer: str, subject: str, key: str) -> None:
    assert ids.deployment_id(issuer, subject, key) == ids.deployment_id(issuer, subject, key)
    assert ids.deployment_id(issuer, subject, key) != ids.deployment_id(issuer, subject, key + "x")
    assert ids.deployment_id(issuer, subject, key) != ids.deployment_id(issuer + "x", subject, key)


def test_without_a_key_each_deployment_is_another() -> None:
    assert ids.deployment_id("i", "s", None) != ids.deployment_id("i", "s", None)


def test_reservations_differ_by_deployment_attempt_and_slot() -> None:
    asked = [("d", 1, "main"), ("d", 2, "main"), ("d", 1, "u1"), ("e", 1, "main")]
    assert len({ids.reservation_id(*one) for one in asked}) == 4
    assert ids.reservation_id("d", 1, "main") == ids.reservation_id("d", 1, "main")


def test_a_users_id_tells_nothing_of_the_user() -> None:
    assert uuid.UUID(ids.user_id("https://iam.example.org/", "ada@example.org")).version == 5
