"""A query string is read as strictly as a body."""

from typing import Annotated

import pytest
from aiohttp.test_utils import make_mocked_request
from pydantic import BaseModel, Field

from indaco_common.errors import Invalid
from indaco_common.web import read_query


class Asked(BaseModel):
    limit: Annotated[int, Field(ge=1, le=100)] = 20
    status: tuple[str, ...] = ()
    tags: list[str] = []
    since: Annotated[str | None, Field(alias="from")] = None


class Nothing(BaseModel):
    pass


def read(query: str, model: type[BaseModel] = Asked) -> BaseModel:
    return read_query(make_mocked_request("GET", f"/v1/things?{query}"), model)


def refused(query: str, model: type[BaseModel] = Asked) -> dict[str, str]:
    """Return the refusals by parameter."""
    with pytest.raises(Invalid) as caught:
        read(query, model)
    return {error.pointer: error.detail for error in caught.value.errors}


def test_values_are_read_by_the_models_types() -> None:
    assert read("limit=7&from=2026-01-01") == Asked.model_validate({"limit": 7, "from": "2026-01-01"})


def test_what_is_not_said_has_its_default() -> None:
    assert read("") == Asked()


def test_a_parameter_that_is_a_list_takes_every_occurrence() -> None:
    found = read("status=a&status=b&tags=x")
    assert found == Asked(status=("a", "b"), tags=["x"])


def test_an_unknown_parameter_is_told_with_those_that_are_known() -> None:
    assert refused("limits=7") == {"?limits": "is not known here; known are: from, limit, status, tags"}


def test_a_field_with_an_alias_is_not_known_by_its_own_name() -> None:
    assert list(refused("since=now")) == ["?since"]


def test_where_there_are_no_parameters_it_says_so() -> None:
    assert refused("a=1", Nothing) == {"?a": "is not known here; this takes no parameters"}


def test_a_parameter_that_is_given_twice_is_told() -> None:
    assert refused("limit=1&limit=2") == {"?limit": "is given 2 times"}


def test_a_list_has_an_end() -> None:
    assert refused("&".join(["status=x"] * 51)) == {"?status": "is given 51 times"}
    assert len(read("&".join(["status=x"] * 50)).model_dump()["status"]) == 50


@pytest.mark.parametrize("value", ["0", "101", "ten", "", "1.5", "1e1", "%00", "9" * 5000])
def test_a_value_that_does_not_fit_is_told_by_its_parameter(value: str) -> None:
    assert list(refused(f"limit={value}")) == ["?limit"]


def test_all_that_is_wrong_is_told_at_once() -> None:
    assert set(refused("limit=1&limit=2&x=1&y=2")) == {"?limit", "?x", "?y"}


def test_a_query_that_is_too_long_is_not_read() -> None:
    with pytest.raises(Invalid, match="longer than 8192 characters"):
        read("limit=1&x=" + "a" * 8192)


def test_an_error_repeats_no_more_than_the_beginning_of_a_name() -> None:
    (pointer,) = refused("a" * 5000 + "=1")
    assert len(pointer) <= 101
