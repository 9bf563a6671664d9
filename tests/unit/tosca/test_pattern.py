"""The pattern constraint: the meaning of the usual syntax, in time that cannot explode."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indaco_tosca.pattern import PatternError, matches

PATTERNS = [
    r"(a+)+$", r"[a-c1-]+", r"^\d{1,3}(\.\d{1,3}){2}$", r"a|b|(cd)*", r"[^@\s]+@[^@\s]+\.[a-d]{2,}", r"x{2,4}?y?", r"",
    r"(a|ab)(c|bcd)(d*)", r"[]a-]+", r"\.\w+\s", r"(?:a|b)*?c", r"a.c", r"a{0}b", r"(|a)+b", r"\D\W\S", r"[\d.]+", r"a$b",
]  # fmt: skip


@given(st.sampled_from(PATTERNS), st.text("abcdxy01.@- ]\t", max_size=8))
def test_a_pattern_matches_what_the_usual_engine_matches(pattern, subject):
    assert matches(pattern, subject) == bool(re.fullmatch(pattern, subject))


def test_a_pattern_that_makes_a_backtracking_engine_hang_is_answered_at_once():
    started = time.process_time()
    assert not matches("(a+)+$", "a" * 1000 + "b")
    assert not matches("(a|a)*(a|aa)*c", "a" * 1000)
    assert time.process_time() - started < 1


@pytest.mark.parametrize(
    "pattern",
    ["(", "a)", "[a", "*a", "a{3,1}", "(?=a)", r"\1", "a\\", "[z-a]", "a{1001}", "((a{9}){9}){9}", "((a{99}){99}){9}", "((a?){30}){33}", r"\pL{900}", "x" * 501],
)  # fmt: skip
def test_a_pattern_that_is_broken_too_large_or_not_regular_is_refused(pattern):
    with pytest.raises(PatternError):
        matches(pattern, "")
