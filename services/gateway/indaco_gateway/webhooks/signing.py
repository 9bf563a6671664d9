"""Secrets of webhooks, kept in the vault alone, and the signatures made with them: Standard Webhooks 1.0, symmetric.

A secret that is replaced goes on to sign beside the new one for a day, so that a receiver can change over in its own time.
https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from indaco_common.clock import Clock
from indaco_common.errors import Conflict
from indaco_common.secrets.port import Secrets

PREFIX = "whsec_"
LENGTH = 32  # bytes
OVERLAP = timedelta(hours=24)
MAX_PREVIOUS = 3  # secrets that still sign: an answer with a new one may have been lost
OVERTAKEN = "Another secret was made at the same time, and that one is kept; make one again if you have not got it"
CALLBACK = "callback"  # the name of a user's secret for the callbacks of deployments


@dataclass(frozen=True, slots=True)
class Signer:
    """The secrets that are valid now, the newest first."""

    secrets: tuple[str, ...] = field(repr=False)
    created_at: datetime
    previous_until: datetime | None = None


class WebhookSecrets:
    """One secret for each subscription, and one for the callbacks of each user; *user* is the opaque id."""

    def __init__(self, vault: Secrets, clock: Clock) -> None:
        self._vault, self._clock = vault, clock

    async def renew(self, user: str, name: str) -> Signer:
        """Make a secret, which stands first in what is returned: the only time that it is shown. What was valid stays so for a day.

        Raises: Conflict, if another was made at the same time: that one is kept. Unavailable.
        """
        now, new = self._clock.now(), PREFIX + base64.b64encode(secrets.token_bytes(LENGTH)).decode()
        found, version = await self._vault.get_version(_path(user, name))
        kept = found or {}
        old = [{"secret": kept["secret"], "until": (now + OVERLAP).isoformat()}] if kept else []
        previous = [*old, *self._valid(kept)][:MAX_PREVIOUS]
        renewed = {"secret": new, "created_at": now.isoformat(), "previous": previous}
        try:
            await self._vault.replace(_path(user, name), renewed, version=version)
        except Conflict:
            raise Conflict(OVERTAKEN) from None
        return self._signer(renewed)

    async def signer(self, user: str, name: str) -> Signer | None:
        """Return what signs now; None, if no secret was ever made. Raises: Unavailable."""
        kept = await self._vault.get(_path(user, name))
        return None if kept is None else self._signer(kept)

    def _signer(self, kept: Mapping[str, Any]) -> Signer:
        previous = self._valid(kept)
        until = max((datetime.fromisoformat(each["until"]) for each in previous), default=None)
        found = (str(kept["secret"]), *(each["secret"] for each in previous))
        return Signer(found, datetime.fromisoformat(str(kept["created_at"])), until)

    def _valid(self, kept: Mapping[str, Any]) -> list[dict[str, str]]:
        now = self._clock.now()
        return [each for each in kept.get("previous", ()) if datetime.fromisoformat(each["until"]) > now]

    async def forget(self, user: str, name: str) -> None:
        await self._vault.delete(_path(user, name))


def headers(id: str, body: bytes, *, at: datetime, secrets: Sequence[str]) -> Mapping[str, str]:
    """Return the three headers of a delivery; without a secret there is no signature. *id* has no full stop in it."""
    stamp = str(int(at.timestamp()))
    found = {"webhook-id": id, "webhook-timestamp": stamp}
    if secrets:
        found["webhook-signature"] = " ".join(signature(secret, id, stamp, body) for secret in secrets)
    return found


def signature(secret: str, id: str, stamp: str, body: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(PREFIX))
    digest = hmac.new(key, f"{id}.{stamp}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def _path(user: str, name: str) -> str:
    return f"users/{user}/webhooks/{name}"
