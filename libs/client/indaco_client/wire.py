"""Requests and answers: one session, errors in the user's words, repeats where they are safe."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import aiohttp

from .errors import IndacoClientError, Unreachable, error_of
from .exchange import Trace, answer_lines, request_lines

Json = dict[str, Any]
TokenSource = str | Callable[[], Awaitable[str | None]] | None
Params = Mapping[str, str | Sequence[str]]
TIMEOUT_S = 60.0
SILENCE_S = 60.0  # of a stream of events, after which it is taken for dead; the server speaks every 15 s
TRIES = 4  # of calls that may be repeated
PAUSE_S = 0.4  # before the first repeat; it doubles
LONGEST_PAUSE_S = 30.0
REDIRECT, ERROR = 300, 400


class Wire:
    """The way to one gateway. *token* is a token, or a function that returns one that is good now; *trace* is told each exchange."""

    def __init__(self, url: str, token: TokenSource, trace: Trace | None = None) -> None:
        self.url = url.rstrip("/")
        self._token, self._trace = token, trace
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S))

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def json(self, method: str, path: str, body: object = None, **options: Any) -> Json:
        """Return the answer's JSON object. Raises: IndacoClientError."""
        try:
            value = json.loads(await self.text(method, path, body, **options))
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise IndacoClientError(f"{self.url} does not answer as a gateway does", hint="is INDACO_URL right?")
        return value

    async def text(
        self, method: str, path: str, body: object = None, *, repeatable: bool = False, **options: Any
    ) -> str:
        """Call, and again after growing pauses where that is safe. Raises: Unreachable, and what the server says."""
        tries = TRIES if repeatable or method == "GET" else 1
        for number in range(1, tries):
            try:
                return await self._once(method, path, body, **options)
            except Unreachable as error:
                await asyncio.sleep(pause_s(number, error.retry_after_s))
        return await self._once(method, path, body, **options)

    async def pages(self, path: str, params: Params, size: int) -> AsyncIterator[Json]:
        """Yield the members of a list of the native API, page by page, as they are asked for."""
        query: Params = {**params, "limit": str(size)}
        while query:
            page = await self.json("GET", path, params=query)
            for member in page["content"]:
                yield member
            query = parse_qs(
                urlsplit(page.get("next") or "").query
            )  # its host is not asked: a token is for this one alone

    async def lines(self, path: str, headers: Mapping[str, str]) -> AsyncIterator[bytes]:
        """Yield the lines of a stream until it ends. Raises: Unreachable, also where it breaks off; what the server says."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=TIMEOUT_S, sock_read=SILENCE_S)
        try:
            sent = await self._headers(headers)
            self._tell(request_lines, "GET", self.url + path, sent, None)
            async with self._request("GET", path, headers=sent, timeout=timeout) as answer:
                await self._check("GET", answer)
                async for line in answer.content:
                    yield line
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self._silence() from error

    async def _once(
        self, method: str, path: str, body: object, *, headers: Mapping[str, str] | None = None, **options: Any
    ) -> str:
        try:
            sent = await self._headers(headers or {})
            self._tell(request_lines, method, _with(self.url + path, options.get("params")), sent, body)
            async with self._request(method, path, json=body, headers=sent, **options) as answer:
                await self._check(method, answer)
                text: str = await answer.text()
                self._tell(answer_lines, method, str(answer.url), answer.status, answer.headers, text)
                return text
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self._silence() from error

    def _request(self, method: str, path: str, **options: Any) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        assert self._session is not None, "use the client with `async with`"
        if params := options.pop("params", None):
            path = f"{path}?{urlencode(params, doseq=True)}"
        return self._session.request(method, self.url + path, allow_redirects=False, **options)

    async def _headers(self, more: Mapping[str, str]) -> dict[str, str]:
        token = await self._token() if callable(self._token) else self._token
        return {**({"Authorization": f"Bearer {token}"} if token else {}), **more}

    async def _check(self, method: str, answer: aiohttp.ClientResponse) -> None:
        if answer.status < REDIRECT:
            return
        text = await answer.text()
        self._tell(answer_lines, method, str(answer.url), answer.status, answer.headers, text)
        if answer.status < ERROR:
            where = answer.headers.get("Location", "elsewhere")
            raise IndacoClientError(
                f"the server sends us to {where}", hint="set INDACO_URL to the gateway's own address"
            )
        try:
            body = json.loads(text)
        except ValueError:
            body = {}
        raise error_of(answer.status, body if isinstance(body, dict) else {}, answer.headers.get("Retry-After", ""))

    def _tell(self, lines: Callable[..., str], *what: object) -> None:
        if self._trace is not None:
            self._trace(lines(*what))

    def _silence(self) -> Unreachable:
        return Unreachable(f"{self.url} does not answer", hint="is it running? indaco run")


def pause_s(number: int, asked_s: float = 0.0) -> float:
    """Return how long to wait before repeat *number* (from 1); at least what the server asked for, within reason."""
    return min(max(PAUSE_S * 2.0 ** (number - 1), asked_s), LONGEST_PAUSE_S)


def _with(url: str, params: Params | None) -> str:
    return f"{url}?{urlencode(params, doseq=True)}" if params else url
