"""A user's keys: asked for, heard of, deleted; news in any order."""

import pytest

from indaco_common.contracts import vault
from indaco_common.errors import NotFound
from indaco_gateway.model.conflicts import WrongState
from indaco_gateway.model.keyring import MAX_KEYS, MAX_REMEMBERED, KeyRing

from .builders import ADA, NOW


def created(name: str = "laptop", line: str = "ssh-ed25519 AAAA") -> vault.KeyCreated:
    return vault.KeyCreated(user_id="u", name=name, public_key=line, fingerprint="SHA256:x", generated=True)


def ring(*names: str) -> KeyRing:
    ring = KeyRing(id="u")
    for name in names:
        ring.create(name, ADA, None)
    return ring


def test_a_pair_is_made_by_the_broker_and_a_line_is_registered_there() -> None:
    keys = ring("made")
    keys.create("own", ADA, "ssh-ed25519 AAAA")
    assert keys.emitted == [
        vault.KeyCreate(user_id="u", name="made", owner=ADA),
        vault.KeyRegister(user_id="u", name="own", owner=ADA, public_key="ssh-ed25519 AAAA"),
    ]
    assert keys.ready() == ()


def test_a_key_is_ready_once_it_was_heard_of() -> None:
    keys = ring("laptop", "other")
    keys.created(created(), "000000000001.00", NOW)
    assert keys.ready() == ("ssh-ed25519 AAAA",)
    assert keys.keys["laptop"].created_at == NOW


def test_names_are_used_once_and_there_is_an_end_to_them() -> None:
    with pytest.raises(WrongState, match="There is a key laptop already"):
        ring("laptop").create("laptop", ADA, None)
    with pytest.raises(WrongState, match=f"There are {MAX_KEYS} keys"):
        ring(*(f"k{n}" for n in range(MAX_KEYS))).create("more", ADA, None)


def test_what_is_deleted_does_not_come_back_by_late_news() -> None:
    keys = ring("laptop")
    keys.delete("laptop", ADA)
    keys.created(created(), "000000000001.00", NOW)
    assert keys.keys == {}
    with pytest.raises(NotFound):
        keys.delete("laptop", ADA)


def test_news_of_an_earlier_key_of_the_same_name_is_not_taken_for_the_present_one() -> None:
    keys = ring("laptop")
    keys.created(created(line="first"), "000000000001.00", NOW)
    keys.delete("laptop", ADA)
    keys.create("laptop", ADA, None)
    keys.created(created(line="first"), "000000000001.00", NOW)
    assert keys.ready() == ()
    keys.created(created(line="second"), "000000000003.00", NOW)
    keys.created(created(line="first"), "000000000002.00", NOW)
    assert keys.ready() == ("second",)


def test_what_is_remembered_is_bounded() -> None:
    keys = ring()
    for number in range(MAX_REMEMBERED + 5):
        keys.created(created(f"k{number}"), "000000000001.00", NOW)
    assert len(keys.seen) == MAX_REMEMBERED
    assert "k0" not in keys.seen
