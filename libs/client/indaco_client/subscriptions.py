"""Webhook subscriptions, as methods."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from .wire import Json, Wire


class Subscriptions:
    """A part of :class:`~indaco_client.Client`."""

    _wire: Wire

    async def subscriptions(self) -> list[Json]:
        """Return the subscriptions of the user, in the order in which they were made."""
        content: list[Json] = (await self._wire.json("GET", "/v1/subscriptions"))["content"]
        return content

    async def subscription(self, id: str) -> Json:
        return await self._wire.json("GET", _one(id))

    async def create_subscription(self, url: str, types: Sequence[str] = ("*",), **options: Any) -> Json:
        """Let events be sent to *url*: *types* such as ``deployment.failed``, or patterns with ``*``.

        *options* are further fields of the API (``scope``, ``group``, ``deployment``, ``description``). The answer has the ``secret`` that
        signs what is sent; it is not shown again.
        """
        return await self._wire.json("POST", "/v1/subscriptions", {"url": url, "types": list(types), **options})

    async def change_subscription(self, id: str, changes: Mapping[str, Any]) -> Json:
        """Change fields of the API; None takes ``group`` or ``deployment`` away. Return it as it is then."""
        headers = {"Content-Type": "application/merge-patch+json"}
        return await self._wire.json("PATCH", _one(id), dict(changes), headers=headers, repeatable=True)

    async def delete_subscription(self, id: str) -> None:
        await self._wire.text("DELETE", _one(id))

    async def pause_subscription(self, id: str) -> None:
        await self._wire.text("POST", f"{_one(id)}/pause", repeatable=True)

    async def resume_subscription(self, id: str) -> None:
        await self._wire.text("POST", f"{_one(id)}/resume", repeatable=True)

    async def rotate_secret(self, id: str) -> Json:
        """Return the new ``secret``; the earlier one signs for a while, too."""
        return await self._wire.json("POST", f"{_one(id)}/rotate")

    async def ping_subscription(self, id: str) -> None:
        """Let an event be sent for trying it out."""
        await self._wire.text("POST", f"{_one(id)}/ping")

    async def deliveries(self, id: str, *, state: Sequence[str] = ()) -> list[Json]:
        """Return what waits, and the last of what was sent or given up, newest first; only in these states, if any are named."""
        path = f"{_one(id)}/deliveries"
        content: list[Json] = (await self._wire.json("GET", path, params={"state": list(state), "limit": "500"}))[
            "content"
        ]
        return content

    async def redeliver(self, id: str, delivery: str) -> None:
        """Send a delivery that was given up again, or one that waits at once."""
        await self._wire.text("POST", f"{_one(id)}/deliveries/{quote(delivery, safe='') or '-'}/retry")

    async def callback_secret(self) -> Json:
        """Return since when callbacks are signed, without the secret. Raises: NotFound, if they are not."""
        return await self._wire.json("GET", "/v1/webhook-secret")

    async def make_callback_secret(self) -> Json:
        """Return a new ``secret``, which signs the callbacks of all deployments of the user from now on."""
        return await self._wire.json("POST", "/v1/webhook-secret")

    async def callback_deliveries(self, id: str, *, state: Sequence[str] = ()) -> list[Json]:
        """Return what became of the callbacks of a deployment, newest first."""
        path = f"/v1/deployments/{quote(id, safe='') or '-'}/callback-deliveries"
        content: list[Json] = (await self._wire.json("GET", path, params={"state": list(state), "limit": "500"}))[
            "content"
        ]
        return content


def _one(id: str) -> str:
    return f"/v1/subscriptions/{quote(id, safe='') or '-'}"
