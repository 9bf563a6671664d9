"""What was made a moment ago."""

import pytest

from indaco_common.recent import Recent


def test_a_value_is_made_once_for_equal_sources_and_anew_for_others() -> None:
    recent, made = Recent[tuple[int, ...], object](most=2), []

    def make() -> object:
        made.append(object())
        return made[-1]

    first = recent.get("a", (1, 2), make)
    assert recent.get("a", (1, int("2")), make) is first
    assert recent.get("a", (1, 3), make) is not first
    assert recent.get("a", (1, 2), make) is not first, "what was made of an older source is gone"
    assert len(made) == 3


def test_those_that_were_used_longest_ago_go_first() -> None:
    recent = Recent[int, str](most=2)
    for key in ("a", "b", "a", "c"):
        recent.get(key, 1, lambda key=key: f"first {key}")  # type: ignore[misc]
    assert len(recent) == 2
    assert [recent.get(key, 1, lambda: "again") for key in ("a", "c", "b")] == ["first a", "first c", "again"]


def test_what_could_not_be_made_is_not_kept() -> None:
    recent = Recent[int, int](most=2)
    with pytest.raises(ZeroDivisionError):
        recent.get("a", 1, lambda: 1 // 0)
    assert len(recent) == 0
    assert recent.get("a", 1, lambda: 7) == 7
