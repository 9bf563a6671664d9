"""Tokens: from the environment, a command, oidc-agent over its real socket, or the session; each as long as it is good."""

import asyncio
import base64
import json
import shlex
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from indaco_client import agent, tokens
from indaco_client.config import Config, Settings
from indaco_client.errors import NotSignedIn
from indaco_client.tokens import Tokens

Agent = Callable[[Any], Awaitable[list[Any]]]


def jwt(expires_at: float, subject: str = "ada") -> str:
    body = base64.urlsafe_b64encode(json.dumps({"exp": expires_at, "sub": subject}).encode()).decode().rstrip("=")
    return f"e30.{body}.c2ln"


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for name in ("INDACO_SESSION", "OIDC_SOCK"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
async def oidc_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Agent]:
    """A server that speaks as oidc-agent does: one object each way; the list grows with what it is asked."""
    servers = []

    async def start(answer: Any) -> list[Any]:
        asked: list[Any] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.append(json.loads(await reader.read(65_536)))
            writer.write(answer if isinstance(answer, bytes) else json.dumps(answer).encode())
            await writer.drain()
            writer.close()

        servers.append(await asyncio.start_unix_server(serve, tmp_path / "agent"))
        monkeypatch.setenv("OIDC_SOCK", str(tmp_path / "agent"))
        return asked

    yield start
    for server in servers:
        server.close()
        await server.wait_closed()


def settings(**environment: str) -> Settings:
    return Settings(Config(), environment, {"url": "https://gateway"})


async def test_the_agent_is_asked_for_its_account_once_as_long_as_the_token_is_good(oidc_agent: Agent) -> None:
    asked = await oidc_agent({"status": "success", "access_token": "t", "issuer": "i", "expires_at": time.time() + 300})
    lender = Tokens(settings(INDACO_OIDC_ACCOUNT="iam"))
    assert [await lender(), await lender()] == ["t", "t"]
    assert asked == [
        {"request": "access_token", "account": "iam", "min_valid_period": 60, "application_hint": "indaco"}
    ]
    assert lender.origin == "oidc-agent (INDACO_OIDC_ACCOUNT)"


async def test_a_token_that_is_about_to_end_is_asked_for_again(oidc_agent: Agent) -> None:
    asked = await oidc_agent({"status": "success", "access_token": "t", "expires_at": time.time() + tokens.EARLY_S - 1})
    lender = Tokens(settings(INDACO_OIDC_ACCOUNT="iam"))
    assert [await lender(), await lender()] == ["t", "t"]
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ({"status": "failure", "error": "account not loaded"}, "no token of the account iam: account not loaded"),
        (b"<html>", "answers what is no JSON"), (b"", "answers what is no JSON"), (b"[]", "no token of the account"),
        ({"access_token": 7}, "no token of the account"),
    ],
)  # fmt: skip
async def test_an_agent_that_has_none_is_told(oidc_agent: Agent, answer: Any, says: str) -> None:
    await oidc_agent(answer)
    with pytest.raises(NotSignedIn, match=says):
        await agent.lent("iam")


async def test_no_agent_is_told_with_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(NotSignedIn, match="OIDC_SOCK is not set") as unset:
        await agent.lent("iam")
    assert "oidc-add" in unset.value.hint
    monkeypatch.setenv("OIDC_SOCK", str(tmp_path / "nothing"))
    with pytest.raises(NotSignedIn, match="No such file"):
        await agent.lent("iam")


async def test_a_command_is_run_without_a_shell_and_again_when_its_token_ends(tmp_path: Path) -> None:
    count = tmp_path / "count"
    script = f"import os, sys; open({str(count)!r}, 'a').write('x'); print(sys.argv[1])"
    for left_s, runs in ((600, 1), (30, 3)):  # one run, then one for each call
        token = jwt(time.time() + left_s)
        lender = Tokens(settings(INDACO_TOKEN_COMMAND=shlex.join([sys.executable, "-c", script, token])))
        assert [await lender(), await lender()] == [token, token]
        assert len(count.read_text()) == runs
    assert lender.origin == "a command (INDACO_TOKEN_COMMAND)"
    assert (await tokens.printed("echo $HOME;id")).token == "$HOME;id"


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("false", "ends with 1"), ("true", "prints no token"), ("echo two words", "prints more than a token"), ("", "cannot be run"),
        ("/no/such/program", "cannot be run: No such file"), ("'open", "cannot be run: No closing quotation"),
    ],
)  # fmt: skip
async def test_a_command_that_gives_no_token_is_told(command: str, says: str) -> None:
    with pytest.raises(NotSignedIn, match=says):
        await tokens.printed(command)


async def test_a_command_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "COMMAND_S", 0.2)
    with pytest.raises(NotSignedIn, match=r"does not end within 0\.2 s"):
        await tokens.printed("sleep 60")


async def test_the_environments_token_comes_first_and_nothing_else_is_asked() -> None:
    lender = Tokens(settings(INDACO_TOKEN=" t ", INDACO_TOKEN_COMMAND="false"))
    assert (await lender(), lender.origin) == ("t", "INDACO_TOKEN")


async def test_without_anything_one_is_told_to_sign_in() -> None:
    lender = Tokens(settings())
    with pytest.raises(NotSignedIn, match="you are not signed in"):
        await lender()
    assert lender.origin == "indaco login"
