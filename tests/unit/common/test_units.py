"""Resource vectors: the arithmetic on which quota stands."""

import json

import hypothesis.strategies as st
import pydantic
import pytest
from hypothesis import given

from indaco_common.units import CLASSES, MAX_AMOUNT, ResourceVector

NAMES = st.sampled_from([*CLASSES, "gpus:A100", "gpus:Tesla T4"])
VECTORS = st.dictionaries(NAMES, st.integers(0, 2**40)).map(ResourceVector)


class Grant(pydantic.BaseModel):
    limits: ResourceVector


@given(VECTORS, VECTORS, VECTORS)
def test_addition_has_no_order(a: ResourceVector, b: ResourceVector, c: ResourceVector) -> None:
    assert a + b == b + a
    assert (a + b) + c == a + (b + c) == ResourceVector.sum([a, b, c])


@given(VECTORS, st.integers(0, 1000))
def test_so_many_times_is_so_many_additions_of_each_class(a: ResourceVector, times: int) -> None:
    assert dict(a * times) == {name: amount * times for name, amount in a.items() if times}


@given(VECTORS, VECTORS)
def test_what_is_added_is_never_short_of_what_it_was_added_to(a: ResourceVector, b: ResourceVector) -> None:
    assert a.shortfall(a + b) == {}
    assert (a + b).shortfall(a) == dict(b)


@given(VECTORS, VECTORS)
def test_granting_the_shortfall_is_just_enough(asked: ResourceVector, free: ResourceVector) -> None:
    missing = asked.shortfall(free)
    assert all(amount > 0 for amount in missing.values())
    enough = free + missing
    assert asked.shortfall(enough) == {}
    assert all(enough[name] == asked[name] for name in missing)


@given(VECTORS)
def test_it_comes_back_from_json_as_it_was(a: ResourceVector) -> None:
    grant = Grant(limits=a)
    assert Grant.model_validate_json(grant.model_dump_json()) == grant
    assert json.loads(grant.model_dump_json())["limits"] == dict(a)


@given(VECTORS)
def test_equal_vectors_have_equal_hashes(a: ResourceVector) -> None:
    twin = ResourceVector(dict(reversed(list(a.items()))))
    assert twin == a
    assert hash(twin) == hash(a)


def test_a_class_that_is_not_named_is_none_of_it() -> None:
    vector = ResourceVector(instances=2, gpus=0)
    assert (vector["gpus"], vector["volumes"], list(vector), len(vector)) == (0, 0, ["instances"], 1)


@pytest.mark.parametrize("amounts", [{"cores": 1}, {"instances": -1}, {"memory_mib": MAX_AMOUNT + 1}, {"gpus:": 1}])
def test_what_is_no_amount_of_a_resource_is_refused(amounts: dict[str, int]) -> None:
    with pytest.raises(ValueError):
        ResourceVector(amounts)
    with pytest.raises(pydantic.ValidationError):
        Grant.model_validate({"limits": amounts})


@pytest.mark.parametrize("amount", ["many", 1.5, None, [1]])
def test_json_that_holds_no_whole_number_is_refused(amount: object) -> None:
    with pytest.raises(pydantic.ValidationError):
        Grant.model_validate({"limits": {"instances": amount}})
