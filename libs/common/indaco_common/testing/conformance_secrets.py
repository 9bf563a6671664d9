"""What every adapter of the secrets port must do; a test module subclasses the suite and supplies the fixtures.

- ``secrets``: the vault-broker's secrets, started;
- ``secrets_of``: a coroutine function that returns the started secrets of a service by its name.

The vault may be shared: the suite keeps to paths of its own and removes what it wrote.
"""

import asyncio
import logging
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import structlog.testing

from indaco_common.errors import Conflict, Forbidden, IndacoError, Invalid, NotFound, PayloadTooLarge
from indaco_common.ids import uuid7
from indaco_common.secrets.port import MAX_SECRET_BYTES, Secrets

SecretsOf = Callable[[str], Awaitable[Secrets]]

_CONCURRENT = 50


class SecretsConformance:
    """Each test is one promise of :class:`~indaco_common.secrets.port.Secrets`."""

    @pytest.fixture
    async def folder(self, secrets: Secrets) -> AsyncIterator[str]:
        """A folder that is empty, and is emptied afterwards."""
        folder = f"leases/conformance-{uuid7()}"
        yield folder
        await _empty(secrets, folder)

    async def test_a_secret_comes_back_as_it_was_put(self, secrets: Secrets, folder: str) -> None:
        secret = {"text": "pässwörd \"<&>'\n\u2028", "count": 2**53, "share": 0.1, "on": True, "none": None}
        nested: dict[str, object] = {**secret, "list": [1, ["a"], {"b": {}}], "empty": {}, "": "no name"}
        await secrets.put(f"{folder}/1", nested)
        assert await secrets.get(f"{folder}/1") == nested

    async def test_an_empty_secret_is_not_an_absent_one(self, secrets: Secrets, folder: str) -> None:
        await secrets.put(f"{folder}/1", {})
        assert await secrets.get(f"{folder}/1") == {}

    async def test_a_secret_is_replaced_as_a_whole(self, secrets: Secrets, folder: str) -> None:
        await secrets.put(f"{folder}/1", {"user": "ada", "password": "one"})
        await secrets.put(f"{folder}/1", {"password": "two"})
        assert await secrets.get(f"{folder}/1") == {"password": "two"}

    async def test_what_was_never_put_is_absent(self, secrets: Secrets, folder: str) -> None:
        assert await secrets.get(f"{folder}/1") is None
        assert await secrets.list(folder) == []

    async def test_what_was_deleted_is_absent_and_may_be_deleted_again(self, secrets: Secrets, folder: str) -> None:
        await secrets.put(f"{folder}/1", {"password": "one"})
        await secrets.delete(f"{folder}/1")
        assert await secrets.get(f"{folder}/1") is None
        assert await secrets.list(folder) == []
        await secrets.delete(f"{folder}/1")

    async def test_a_deleted_secret_may_be_put_again(self, secrets: Secrets, folder: str) -> None:
        await secrets.put(f"{folder}/1", {"password": "one"})
        await secrets.delete(f"{folder}/1")
        await secrets.put(f"{folder}/1", {"password": "two"})
        assert await secrets.get(f"{folder}/1") == {"password": "two"}

    async def test_a_list_names_what_is_directly_below(self, secrets: Secrets, folder: str) -> None:
        for path in ("b", "a", "a/1", "c/1/2", "c/3"):
            await secrets.put(f"{folder}/{path}", {"path": path})
        assert await secrets.list(folder) == ["a", "a/", "b", "c/"]
        assert await secrets.list(f"{folder}/c/") == ["1/", "3"]

    @pytest.mark.parametrize(
        "path",
        [
            "",
            "/leases/x",
            "leases/x/",
            "leases//x",
            "leases/../issuer/keys",
            "leases/a..b",
            "leases/*",
            "leases/+/x",
            "leases/%2e%2e/x",
            "leases/x?list=true",
            "leases/x#y",
            "leases/x y",
            "leases/\n",
            "leases/" + "x" * 600,
        ],
    )
    async def test_a_path_that_could_be_read_in_two_ways_is_refused(self, secrets: Secrets, path: str) -> None:
        for attempt in (secrets.put(path, {"a": 1}), secrets.get(path), secrets.delete(path)):
            with pytest.raises(Invalid):
                await attempt

    async def test_a_service_cannot_leave_its_policy(self, secrets_of: SecretsOf, folder: str) -> None:
        gateway, orchestrator = await secrets_of("gateway"), await secrets_of("orchestrator")
        deployment = f"conformance-{uuid7()}"
        refused = [
            gateway.get(f"{folder}/1"),
            gateway.put(f"{folder}/1", {"a": 1}),
            gateway.get(f"leases/{deployment}/1"),
            gateway.delete(f"inputs/{deployment}"),
            gateway.put(f"users/{deployment}/keys/one", {"a": 1}),
            gateway.get(f"users/{deployment}/credentials/one"),
            orchestrator.put(f"inputs/{deployment}", {"a": 1}),
            orchestrator.put(f"{folder}/1", {"a": 1}),
            orchestrator.delete(f"outputs/{deployment}"),
            orchestrator.get(f"sessions/{deployment}"),
            orchestrator.list("inputs"),
            orchestrator.wrap({"a": 1}, 60),
        ]
        for attempt in refused:
            with pytest.raises(Forbidden):
                await attempt

    async def test_secrets_pass_from_service_to_service_as_the_policies_say(
        self, secrets: Secrets, secrets_of: SecretsOf
    ) -> None:
        gateway, orchestrator = await secrets_of("gateway"), await secrets_of("orchestrator")
        deployment = f"conformance-{uuid7()}"
        await gateway.put(f"inputs/{deployment}", {"in": 1})
        assert await orchestrator.get(f"inputs/{deployment}") == {"in": 1}
        await orchestrator.put(f"outputs/{deployment}", {"out": 1})
        assert await gateway.get(f"outputs/{deployment}") == {"out": 1}
        await gateway.put(f"sessions/{deployment}", {"session": 1})
        assert await gateway.get(f"sessions/{deployment}") == {"session": 1}
        with pytest.raises(Forbidden):  # it may find and remove what is left there, and not read it
            await secrets.get(f"sessions/{deployment}")
        await gateway.put(f"users/{deployment}/tokens/1", {"token": 1})
        assert await secrets.get(f"users/{deployment}/tokens/1") == {"token": 1}
        await gateway.delete(f"users/{deployment}/tokens/1")
        await secrets.put(f"users/{deployment}/keys/one", {"private": 1})
        assert await gateway.get(f"users/{deployment}/keys/one") == {"private": 1}
        assert await gateway.list(f"users/{deployment}/keys") == ["one"]
        assert deployment in await secrets.list("inputs")
        for path in (f"inputs/{deployment}", f"outputs/{deployment}", f"users/{deployment}/keys/one"):
            await secrets.delete(path)
        await gateway.delete(f"sessions/{deployment}")
        assert await orchestrator.get(f"inputs/{deployment}") is None
        assert await gateway.get(f"outputs/{deployment}") is None

    async def test_a_secret_is_replaced_where_nobody_else_has_written_since(
        self, secrets: Secrets, folder: str
    ) -> None:
        path = f"{folder}/versions"
        assert await secrets.get_version(path) == (None, 0)
        first = await secrets.replace(path, {"a": 1}, version=0)
        with pytest.raises(Conflict):
            await secrets.replace(path, {"a": 2}, version=0)
        second = await secrets.replace(path, {"a": 2}, version=first)
        assert (await secrets.get_version(path), second > first) == (({"a": 2}, second), True)
        with pytest.raises(Conflict):
            await secrets.replace(path, {"a": 3}, version=first)
        await secrets.put(path, {"a": 4})
        with pytest.raises(Conflict):
            await secrets.replace(path, {"a": 5}, version=second)

    async def test_what_was_removed_is_not_replaced(self, secrets: Secrets, folder: str) -> None:
        path = f"{folder}/removed"
        version = await secrets.replace(path, {"a": 1}, version=0)
        await secrets.delete(path)
        with pytest.raises(Conflict):
            await secrets.replace(path, {"a": 2}, version=version)
        assert await secrets.get(path) is None

    async def test_of_many_who_replace_the_same_version_one_succeeds(self, secrets: Secrets, folder: str) -> None:
        path = f"{folder}/many"
        version = await secrets.replace(path, {"n": -1}, version=0)
        calls = (secrets.replace(path, {"n": n}, version=version) for n in range(8))
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert sum(isinstance(answer, int) for answer in answers) == 1
        assert all(isinstance(answer, int | Conflict) for answer in answers)

    async def test_a_wrapping_token_opens_once(self, secrets: Secrets, secrets_of: SecretsOf) -> None:
        gateway = await secrets_of("gateway")
        token = await gateway.wrap({"private": "-----BEGIN", "n": 1, "deep": {"list": [None]}}, 60)
        assert await secrets.unwrap(token) == {"private": "-----BEGIN", "n": 1, "deep": {"list": [None]}}
        for opener in (secrets, gateway):
            with pytest.raises(NotFound):
                await opener.unwrap(token)

    async def test_of_many_who_open_a_wrapping_token_one_succeeds(
        self, secrets: Secrets, secrets_of: SecretsOf
    ) -> None:
        token = await (await secrets_of("gateway")).wrap({"a": 1}, 60)
        opened = await asyncio.gather(*(secrets.unwrap(token) for _ in range(8)), return_exceptions=True)
        assert [answer for answer in opened if not isinstance(answer, NotFound)] == [{"a": 1}]

    async def test_a_wrapping_token_expires(self, secrets: Secrets, secrets_of: SecretsOf) -> None:
        token = await (await secrets_of("gateway")).wrap({"a": 1}, 1)
        await asyncio.sleep(1.2)
        with pytest.raises(NotFound):
            await secrets.unwrap(token)

    @pytest.mark.parametrize("token", ["", "s.neverwasoneofthese", "two\r\nlines", "é", "x" * 5000])
    async def test_what_never_was_a_wrapping_token_opens_nothing(self, secrets: Secrets, token: str) -> None:
        with pytest.raises(NotFound):
            await secrets.unwrap(token)

    async def test_fifty_at_once_each_get_their_own(self, secrets: Secrets, folder: str) -> None:
        async def one(number: int) -> None:
            await secrets.put(f"{folder}/{number}", {"number": number})
            assert await secrets.get(f"{folder}/{number}") == {"number": number}
            await secrets.delete(f"{folder}/{number}")

        await asyncio.gather(*(one(number) for number in range(_CONCURRENT)))
        assert await secrets.list(folder) == []

    async def test_nothing_of_a_secret_is_logged_or_raised(
        self, secrets: Secrets, secrets_of: SecretsOf, folder: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        marker = f"hush-{uuid7()}"
        orchestrator, gateway = await secrets_of("orchestrator"), await secrets_of("gateway")
        caplog.set_level(logging.DEBUG)
        with structlog.testing.capture_logs() as logged:
            await secrets.put(f"{folder}/1", {"password": marker})
            await secrets.get(f"{folder}/1")
            token = await gateway.wrap({"password": marker}, 60)
            await secrets.unwrap(token)
            problems = [
                await _problem(orchestrator.put(f"{folder}/1", {"password": marker}), Forbidden),
                await _problem(secrets.put(f"{folder}/1", {"password": marker, "not JSON": object()}), Invalid),
                await _problem(secrets.put(f"{folder}/1", {"password": marker, "not JSON": float("nan")}), Invalid),
                await _problem(secrets.put(f"{folder}/1", {"password": f"{marker}\ud800"}), Invalid),
                await _problem(
                    secrets.put(f"{folder}/1", {"password": marker * (MAX_SECRET_BYTES // 40)}), PayloadTooLarge
                ),
                await _problem(secrets.unwrap(token), NotFound),
            ]
        everything = " ".join([str(logged), caplog.text, repr(secrets), *problems])
        assert marker not in everything
        assert token not in everything

    async def test_a_ping_is_quick_and_needs_a_login(self, secrets: Secrets) -> None:
        begin = time.monotonic()
        await secrets.ping()
        assert time.monotonic() - begin < 1

    async def test_what_was_stopped_may_be_stopped_and_started_again(self, secrets_of: SecretsOf, folder: str) -> None:
        broker = await secrets_of("vault-broker")
        await broker.put(f"{folder}/1", {"a": 1})
        await broker.stop()
        await broker.stop()
        await broker.start()
        assert await broker.get(f"{folder}/1") == {"a": 1}


async def _problem(attempt: Awaitable[Any], kind: type[IndacoError]) -> str:
    """Return all that the error of *attempt* could show to anyone: its words, its chain, its traceback."""
    try:
        await attempt
    except kind as error:
        chain = [repr(link) for link in (error, error.__cause__, error.__context__)]
        return " ".join([*chain, *traceback.format_exception(error), str(error.extra)])
    raise AssertionError(f"{kind.__name__} was not raised")


async def _empty(secrets: Secrets, folder: str) -> None:
    for name in await secrets.list(folder):
        if name.endswith("/"):
            await _empty(secrets, f"{folder}/{name.rstrip('/')}")
        else:
            await secrets.delete(f"{folder}/{name}")
