"""SSH keys, as methods."""

import asyncio
import time
from urllib.parse import quote

from .errors import TimedOut
from .wire import Json, Wire

LOOK_S = 0.1  # between two looks at a key that is being made


class Keys:
    """A part of :class:`~indaco_client.Client`."""

    _wire: Wire

    async def keys(self) -> list[Json]:
        content: list[Json] = (await self._wire.json("GET", "/v1/keys"))["content"]
        return content

    async def create_key(self, name: str, public_key: str | None = None, *, timeout_s: float = 30) -> Json:
        """Make a pair, or take *public_key*; return it once it can be put on machines. Raises: TimedOut."""
        body = {"name": name} if public_key is None else {"name": name, "public_key": public_key}
        await self._wire.json("POST", "/v1/keys", body)
        end = time.monotonic() + timeout_s
        while not (key := await self._wire.json("GET", _key(name)))["ready"]:
            if time.monotonic() > end:
                raise TimedOut(f"the key {name} is not ready after {timeout_s:g} s", hint="indaco key list")
            await asyncio.sleep(LOOK_S)
        return key

    async def delete_key(self, name: str) -> None:
        await self._wire.text("DELETE", _key(name))

    async def reveal_key(self, name: str) -> str:
        """Return the private half of a pair that was made here."""
        return await self._wire.text("POST", f"{_key(name)}/reveal")


def _key(name: str) -> str:
    return f"/v1/keys/{quote(name, safe='') or '-'}"
