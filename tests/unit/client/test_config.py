"""Settings: who wins, what a configuration file may say, and that it stays whole."""

import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from indaco_client import config
from indaco_client.cli import main
from indaco_client.config import Config, Settings
from indaco_client.errors import IndacoClientError


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("CONTEXT", "URL", "GROUP", "OUTPUT", "TOKEN", "SESSION", "CONFIG", "ISSUER"):
        monkeypatch.delenv(f"INDACO_{name}", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path


def run(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(main, arguments, env=environment)


FILE = Config({"work": {"url": "https://work", "group": "cms"}, "home": {"url": "https://home"}}, "work")


@pytest.mark.parametrize(
    ("flags", "environment", "config", "found", "origin"),
    [
        ({"url": "https://flag"}, {"INDACO_URL": "https://env"}, FILE, "https://flag", "--url"),
        ({}, {"INDACO_URL": "https://env"}, FILE, "https://env", "INDACO_URL"),
        ({}, {}, FILE, "https://work", "context work"),
        ({"context": "home"}, {"INDACO_CONTEXT": "work"}, FILE, "https://home", "context home"),
        ({}, {"INDACO_CONTEXT": "home"}, FILE, "https://home", "context home"),
        ({}, {"INDACO_URL": " "}, Config(), "https://session", "indaco login"),
    ],
)
def test_a_flag_comes_before_the_environment_before_the_context_before_the_default(
    flags: dict[str, str | None], environment: dict[str, str], config: Config, found: str, origin: str
) -> None:
    setting = Settings(config, environment, flags, "https://session").get("url")
    assert setting is not None
    assert (setting.value, setting.origin) == (found, origin)


def test_without_any_word_the_local_gateway_is_meant_and_no_group() -> None:
    nobody = Settings()
    assert nobody.value("url") == config.DEFAULT_URL
    assert nobody.value("output") == "table"
    assert nobody.get("group") is None


def test_a_context_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(IndacoClientError, match=r"no context elsewhere \(INDACO_CONTEXT\); known: home, work"):
        _ = Settings(FILE, {"INDACO_CONTEXT": "elsewhere"}).context


def test_contexts_are_set_used_listed_and_deleted(home: Path) -> None:
    assert run("context", "set", "work", "url=https://work", "group=cms", 'token_command=get "a token"').exit_code == 0
    assert run("context", "set", "other.site", "url=https://other").exit_code == 0
    assert run("context", "use", "work").exit_code == 0
    file = home / "indaco" / "config.toml"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert config.read().contexts["work"]["token_command"] == 'get "a token"'
    assert run("context", "list", "-o", "name").stdout.split() == ["other.site", "work"]
    assert [line.split()[0] for line in run("context", "list").stdout.splitlines()[1:]] == ["other.site", "*"]
    assert run("context", "set", "work", "group=").exit_code == 0
    assert config.read().contexts["work"].keys() == {"url", "token_command"}
    assert (run("context", "use", "default").exit_code, config.read().current) == (
        0,
        "default",
    )  # never in the file, always there
    assert run("context", "use", "work").exit_code == 0
    (home / "indaco" / "session-work.json").write_text("{}")
    assert run("context", "delete", "work").exit_code == 0
    assert config.read() == Config({"other.site": {"url": "https://other"}})
    assert list((home / "indaco").iterdir()) == [file]


def test_the_settings_in_force_are_shown_with_their_origin_and_without_secrets(home: Path) -> None:
    run("context", "set", "work", "url=https://work", "output=csv", "group=cms")
    run("context", "use", "work")
    shown = run("config", "view", "--show-origin", INDACO_GROUP="atlas", INDACO_TOKEN="eyJsecret")
    assert shown.stdout.splitlines() == [
        "name,value,origin", f"context,work,{home}/indaco/config.toml", "url,https://work,context work", "group,atlas,INDACO_GROUP",
        "output,csv,context work", "token,(not shown),INDACO_TOKEN",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("context = ", "Invalid value"), ("[contexts]\nwork = 1", "contexts are tables"), ("[contexts.a]\nurl = 7", "one line of text"),
        ("[contexts.a]\nuri = 'x'", "contexts.a.uri is not known; known are url"), ("colour = 'red'", "colour is not known"),
        ("[contexts.a]\noutput = 'xml'", "'xml' is none of table"), ("[contexts.a]\nurl = 'ftp://x'", "is no address"),
        ("[contexts.a]\nurl = 'https://user:pw@x'", "is no address"), ("\xff", "utf-8"), ("#" * 300_000, "larger than 256 KiB"),
    ],
)  # fmt: skip
def test_a_file_that_is_wrong_is_told_with_where_and_how_to_mend_it(home: Path, text: str, says: str) -> None:
    (home / "indaco").mkdir()
    (home / "indaco" / "config.toml").write_bytes(text.encode("latin-1"))
    told = run("context", "list")
    assert told.exit_code == 1
    assert f"error: {home}/indaco/config.toml: " in told.stderr
    assert says in told.stderr
    assert "try: mend it" in told.stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("use", "nowhere"), 4), (("delete", "nowhere"), 4), (("set", "../x", "url=https://x"), 2), (("set", "x", "url"), 2),
        (("set", "x", "url=x"), 1), (("set", "x", "nothing=x"), 1), (("set", "x", "nothing="), 1),
    ],
)  # fmt: skip
def test_wrong_words_about_contexts_change_nothing(home: Path, arguments: tuple[str, ...], code: int) -> None:
    assert run("context", *arguments).exit_code == code
    assert not (home / "indaco").exists()
