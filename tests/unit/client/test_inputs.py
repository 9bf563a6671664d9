"""Inputs on the command line: what is typed is what is sent."""

import click
import pytest

from indaco_client.inputs import parse_map, parse_setting
from indaco_client.wire import LONGEST_PAUSE_S, PAUSE_S, pause_s


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("2", 2), ("-7", -7), ("0", 0), ("22.10", "22.10"), ("007", "007"), ("0x10", "0x10"), ("12:30", "12:30"), ("1_000", "1_000"),
        ("2026-01-01", "2026-01-01"), ("true", True), ("false", False), ("yes", "yes"), ("on", "on"), ("null", None), ("", None),
        ("a=b", "a=b"), ("4 GB", "4 GB"), ('"2"', "2"), ("[1, 2.5]", [1, "2.5"]), ("{a: {b: 22}}", {"a": {"b": 22}}), ("1e3", "1e3"),
    ],
)  # fmt: skip
def test_scalars_stay_what_was_typed_unless_they_are_plain(typed: str, value: object) -> None:
    assert parse_setting(f"name={typed}") == ("name", value)


@pytest.mark.parametrize("typed", ["name", "=2", "name=[", "name={a", "name=!!python/object:os.system x"])
def test_what_cannot_be_read_is_a_usage_error(typed: str) -> None:
    with pytest.raises(click.UsageError):
        parse_setting(typed)


def test_a_file_of_inputs_is_a_map_or_empty() -> None:
    assert parse_map("", "f") == parse_map("# nothing", "f") == {}
    assert parse_map('{"a": 1.5, "b": [null]}', "f") == {"a": "1.5", "b": [None]}
    with pytest.raises(click.UsageError, match="f: a map of input names to values is expected"):
        parse_map("- a", "f")


def test_pauses_grow_heed_the_server_and_end() -> None:
    assert [pause_s(n) for n in (1, 2, 3)] == [PAUSE_S, 2 * PAUSE_S, 4 * PAUSE_S]
    assert pause_s(1, 7.0) == 7.0
    assert pause_s(1, 1e9) == pause_s(50) == LONGEST_PAUSE_S
