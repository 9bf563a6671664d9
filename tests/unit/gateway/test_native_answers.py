"""Cursors, preconditions and links of /v1."""

import base64
import contextlib
import json

import pytest
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st

from indaco_common.errors import Invalid, PreconditionFailed
from indaco_gateway.api.answers import MAX_CURSOR, cursor_of, next_link, position_of, require_match
from indaco_gateway.api.deployments import DeploymentPatch


@given(st.text(max_size=40), st.text(max_size=40))
def test_a_cursor_gives_back_the_position_that_it_was_made_of(first: str, second: str) -> None:
    assert position_of(cursor_of(first, second), 2) == (first, second)


@given(st.one_of(st.text(max_size=MAX_CURSOR), st.binary(max_size=200).map(lambda b: base64.b64encode(b).decode())))
def test_what_is_no_cursor_is_refused_or_read(text: str) -> None:
    with contextlib.suppress(Invalid):
        assert len(position_of(text, 2)) == 2


@pytest.mark.parametrize(
    "value", [[], ["a"], ["a", 1], ["a", None], {"a": "b"}, "ab", ["a", "b", "c"], [["a"], "b"], ["\ud800", "b"]]
)
def test_a_cursor_of_another_shape_is_refused(value: object) -> None:
    with pytest.raises(Invalid) as refused:
        position_of(base64.urlsafe_b64encode(json.dumps(value).encode()).decode(), 2)
    assert refused.value.errors[0].pointer == "?cursor"


def test_a_cursor_fits_into_what_is_read() -> None:
    assert len(cursor_of("2026-01-01T00:00:00.000001+00:00", "x" * 64)) < MAX_CURSOR


@pytest.mark.parametrize("given", [None, "*", '"3"', ' "2" , "3"'])
def test_a_precondition_that_holds(given: str | None) -> None:
    require_match(make_mocked_request("PATCH", "/", headers={"If-Match": given} if given else {}), 3)


@pytest.mark.parametrize("given", ['"4"', 'W/"3"', "3", "", '"33"'])
def test_a_precondition_that_does_not_hold(given: str) -> None:
    with pytest.raises(PreconditionFailed):
        require_match(make_mocked_request("PATCH", "/", headers={"If-Match": given}), 3)


def test_a_link_keeps_the_other_parameters_and_quotes_all() -> None:
    request = make_mocked_request("GET", "/v1/deployments?tag=a%3Db%26c&tag=d&cursor=old")
    assert (
        next_link(request, "https://x/y", cursor="n=w") == "https://x/y/v1/deployments?tag=a%3Db%26c&tag=d&cursor=n%3Dw"
    )


@pytest.mark.parametrize(
    ("body", "name", "tags", "is_cleared"),
    [
        ({}, None, {}, False), ({"name": None}, "", {}, False), ({"name": "x"}, "x", {}, False), ({"tags": None}, None, {}, True),
        ({"tags": {"a": None, "b": "c"}}, None, {"a": None, "b": "c"}, False),
    ],
)  # fmt: skip
def test_a_merge_patch_leaves_sets_and_removes(
    body: dict[str, object], name: str | None, tags: dict[str, str | None], *, is_cleared: bool
) -> None:
    change = DeploymentPatch.model_validate(body).change()
    assert (change.name, change.tags, change.is_cleared) == (name, tags, is_cleared)
