"""The gateway's service catalogue, as methods."""

from urllib.parse import quote

from .wire import Json, Wire

LATEST = "latest"


class Catalogue:
    """What is on offer for the groups of whoever asks. Calls raise :class:`~indaco_client.errors.IndacoClientError`."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def cards(self, *, group: str | None = None) -> list[Json]:
        """Return the cards for any of the user's groups, or for one of them."""
        content: list[Json] = (await self._wire.json("GET", "/v1/catalogue", params={"group": group} if group else {}))[
            "content"
        ]
        return content

    async def card(self, name: str) -> Json:
        """Return a card with its guide, and its versions, newest first."""
        return await self._wire.json("GET", _path(name))

    async def version(self, name: str, number: str = LATEST) -> Json:
        """Return a version's ``template`` (text), ``digest`` and ``tests``."""
        return await self._wire.json("GET", _path(name, number))

    async def form(self, name: str, number: str = LATEST) -> Json:
        """Return what a version asks for: a JSON Schema and hints."""
        return await self._wire.json("GET", _path(name, number, "form"))

    async def status(self) -> Json:
        """Return where the catalogue comes from and what is wrong with it; for administrators."""
        return await self._wire.json("GET", _path("status"))

    async def reload(self) -> Json:
        """Let the gateway that answers read it now, and return its status; for administrators."""
        return await self._wire.json("POST", _path("reload"), repeatable=True)


def _path(*parts: str) -> str:
    return "/".join(("/v1/catalogue", *(quote(part, safe="") or "-" for part in parts)))
