"""What all commands share: times, pairs, tables; and that a command costs what it needs."""

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
import yaml

from indaco_client.program import duration, pair
from indaco_client.tables import show

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("90s", 90),
        ("0.5", 0.5),
        ("30m", 1800),
        ("1h30m", 5400),
        ("2h", 7200),
        ("1h5s", 3605),
        ("1m1.5s", 61.5),
    ],
)
def test_a_time_is_read_as_people_write_it(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", " ", "h", "30 m", "m30", "-5", "1d", "1h1h", "nan", "١m"])
def test_what_is_no_time_is_told(text: str) -> None:
    with pytest.raises(click.BadParameter, match="write 90, 90s, 30m or 1h30m"):
        duration(text)


def test_a_pair_has_a_name_and_a_value_that_may_have_more_signs() -> None:
    assert pair("a=b=c") == ("a", "b=c")
    assert pair("a=") == ("a", "")
    for wrong in ("a", "=b", ""):
        with pytest.raises(click.BadParameter):
            pair(wrong)


ROWS = [{"id": "1", "tags": ["a", "b"], "n": {"x": None, "y": "é\x1b[2J,"}}, {"id": "2", "n": 7}]


def test_the_same_facts_are_printed_in_every_way(capsys: pytest.CaptureFixture[str]) -> None:
    columns = {"id": "id", "tags": "tags", "y": "n.y", "none": "n.x"}
    shown = {}
    for how in ("json", "yaml", "csv", "name", "table"):
        show(ROWS, how, columns)
        shown[how] = capsys.readouterr().out
    assert json.loads(shown["json"]) == yaml.safe_load(shown["yaml"]) == ROWS
    assert shown["csv"] == 'id,tags,y,none\n1,"a, b","é�[2J,",\n2,,,\n'
    assert shown["name"] == "1\n2\n"
    assert [line.rstrip() for line in shown["table"].splitlines()] == [
        "id  tags  y       none",
        "1   a, b  é�[2J,",
        "2",
    ]


def test_one_object_is_a_row_for_each_member(capsys: pytest.CaptureFixture[str]) -> None:
    show({"a": "[bold]x", "b": {"c": 1}}, "table")
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [["a", "[bold]x"], ["b", '{"c":', "1}"]]
    show({"a": "x"}, "csv")
    assert capsys.readouterr().out == "name,value\na,x\n"
    show({"id": "x"}, "name")
    assert capsys.readouterr().out == "x\n"


@pytest.mark.parametrize(
    "words", [["context", "list"], ["deployment", "create", "--help"], ["completion", "bash"]], ids=" ".join
)
def test_commands_that_ask_nobody_load_no_http_no_services_and_no_terminal(words: list[str]) -> None:
    program = f"""if True:
    import sys
    from indaco_client.cli import main
    try:
        main({words!r}, standalone_mode=False)
    except SystemExit:
        pass
    print(*sys.modules)
    """
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env={"INDACO_OUTPUT": "json"}
    )
    loaded = done.stdout.splitlines()[-1].split()
    assert [name for name in ("aiohttp", "rich", "indaco_tosca", "indaco_common", "pydantic") if name in loaded] == []


def test_the_client_without_a_loop_is_what_its_script_writes() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "sync_client.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
