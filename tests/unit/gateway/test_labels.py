"""Names, tags, locks and shares: what users write on their deployments."""

from datetime import UTC, datetime, timedelta

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indaco_common.errors import NotFound
from indaco_gateway.model.conflicts import WrongState
from indaco_gateway.model.labels import (
    MAX_SHARES,
    MAX_TAGS,
    Change,
    Locked,
    Name,
    TagKey,
    Tags,
    TagValue,
    line,
    tag_line,
)
from indaco_gateway.model.operation import Operation, Status

NOW = datetime(2026, 6, 1, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
KEYS, VALUES = pydantic.TypeAdapter(TagKey), pydantic.TypeAdapter(TagValue)
keys = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,8}", fullmatch=True)
values = st.text(max_size=8).filter(lambda text: is_valid(VALUES, text))


def is_valid(adapter: pydantic.TypeAdapter[str], text: str) -> bool:
    try:
        adapter.validate_python(text)
    except pydantic.ValidationError:
        return False
    return True


def an_operation() -> Operation:
    return Operation(id="d-1", created_at=NOW, updated_at=NOW, status=Status.CREATE_COMPLETE)


@pytest.mark.parametrize("text", ["two\nlines", "tab\tbed", "\x00", "\x7f", "a\u2028b", "x" * 201])
def test_a_name_is_one_line_of_text(text: str) -> None:
    with pytest.raises(pydantic.ValidationError):
        pydantic.TypeAdapter(Name).validate_python(text)


@pytest.mark.parametrize("key", ["", "a=b", "a b", "-a", "ä", "a\n", "x" * 64])
def test_the_key_of_a_tag_is_a_word(key: str) -> None:
    assert not is_valid(KEYS, key)


def test_so_many_tags_are_taken_and_no_more() -> None:
    tags = pydantic.TypeAdapter(Tags)
    assert tags.validate_python({f"k{n}": "" for n in range(MAX_TAGS)})
    with pytest.raises(pydantic.ValidationError):
        tags.validate_python({f"k{n}": "" for n in range(MAX_TAGS + 1)})


@given(st.dictionaries(keys, values, max_size=4), keys, values)
def test_a_tag_is_found_in_the_labels_if_and_only_if_it_is_there(tags: dict[str, str], key: str, value: str) -> None:
    labels = Operation(id="d-1", tags=tags).labels
    assert (tag_line(key, value) in labels) == (tags.get(key) == value)
    assert (tag_line(key) in labels) == (key in tags)


@given(
    st.lists(st.text("abc/", min_size=1, max_size=5), max_size=4, unique=True), st.text("abc/", min_size=1, max_size=5)
)
def test_a_group_is_found_in_the_audience_if_and_only_if_it_is_there(groups: list[str], group: str) -> None:
    audience = Operation(id="d-1", shares=dict.fromkeys(groups, "read")).audience
    assert (line(group) in audience) == (group in groups)


def test_a_change_merges_clears_and_leaves() -> None:
    tags = {"a": "1", "b": "2"}
    assert Change().of(tags) == tags
    assert Change(tags={"a": None, "c": "3"}).of(tags) == {"b": "2", "c": "3"}
    assert Change(is_cleared=True).of(tags) == {}
    with pytest.raises(WrongState):
        Change(tags={f"k{n}": "" for n in range(MAX_TAGS)}).of(tags)


def test_what_is_named_as_before_is_no_change() -> None:
    op = an_operation()
    op.describe(Change(name="x", tags={"a": "1"}), LATER)
    assert (op.name, op.tags, op.updated_at, op.search) == ("x", {"a": "1"}, LATER, "x\nd-1")
    op.describe(Change(name="x", tags={"a": "1"}), LATER + timedelta(hours=1))
    assert op.updated_at == LATER


def test_a_lock_keeps_from_deletion_forced_or_not_until_it_is_taken_away() -> None:
    op = an_operation()
    op.lock("figures", NOW)
    op.lock("figures", LATER)
    for force in (False, True):
        with pytest.raises(Locked, match="figures") as refused:
            op.delete(force=force, now=LATER)
        assert not refused.value.retryable
    assert (op.status, op.emitted) == (Status.CREATE_COMPLETE, [])
    op.unlock(LATER)
    op.unlock(LATER)
    op.delete(force=False, now=LATER)
    assert [step.title for step in op.timeline] == ["Locked", "Unlocked", "Deletion requested"]
    with pytest.raises(WrongState, match="too late"):
        op.lock("figures", LATER)


def test_shares_are_given_changed_and_taken_and_bounded() -> None:
    op = an_operation()
    op.share("cms", "read", NOW)
    op.share("cms", "read", NOW)
    op.share("cms", "change", NOW)
    assert op.shares == {"cms": "change"}
    assert [step.detail for step in op.timeline] == ["to read", "to change"]
    for n in range(MAX_SHARES - 1):
        op.share(f"g{n}", "read", NOW)
    with pytest.raises(WrongState):
        op.share("one-more", "read", NOW)
    op.share("cms", "read", NOW)
    op.unshare("cms", NOW)
    with pytest.raises(NotFound):
        op.unshare("cms", NOW)
    assert "cms" not in op.shares
