"""The asynchronous client: what the gateway offers, as methods; JSON in and out as its native API has it."""

from typing import Self

from .catalogue import Catalogue
from .config import DEFAULT_URL, settings
from .deployments import Deployments
from .exchange import Trace
from .federation import Federation
from .keys import Keys
from .subscriptions import Subscriptions
from .tokens import Tokens
from .wire import TokenSource, Wire


class Client(Deployments, Keys, Federation, Subscriptions):
    """One user at one gateway. Use it with ``async with``.

    Calls raise :class:`~indaco_client.errors.IndacoClientError`. What may be sent twice is repeated when the server does not answer:
    reads, deletions, settings of a value, starts and stops, and creations of deployments (under an idempotency key); nothing else is. *token* may be a
    function, for work that outlives a token; *trace* is told each exchange, with secrets masked.
    """

    def __init__(self, url: str, token: TokenSource = None, *, trace: Trace | None = None) -> None:
        self._wire = Wire(url, token, trace)
        self.catalogue = Catalogue(self._wire)

    @classmethod
    def from_env(cls, *, context: str | None = None, url: str | None = None) -> Self:
        """Return a client for what the command line would use: the environment, the context, the session of ``indaco login``."""
        found = settings({"context": context, "url": url})
        return cls(found.value("url") or DEFAULT_URL, Tokens(found))

    @property
    def url(self) -> str:
        return self._wire.url

    async def __aenter__(self) -> Self:
        await self._wire.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._wire.close()
