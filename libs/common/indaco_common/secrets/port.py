"""The secrets port: what Indaco's services need of a vault, and nothing else.

Paths are relative to the one KV version 2 mount of Indaco (:data:`MOUNT`), with no slash at either end:
``inputs/<deployment>``, ``leases/<deployment>/<attempt>``. Events carry such a path, never what lies there.

Errors, for every operation:

- :class:`~indaco_common.errors.Unavailable` - sealed, not reachable, too slow or failing: the same call later;
- :class:`~indaco_common.errors.Forbidden` - the service's policy does not allow it, or its login was refused;
- :class:`~indaco_common.errors.Invalid` - the path or the secret cannot be stored as it is;
- :class:`~indaco_common.errors.PayloadTooLarge` - more than :data:`MAX_SECRET_BYTES` as JSON.

No error, log line or ``repr`` holds a secret, a token or a vault's answer. The names inside a secret (not its values)
do appear in a vault's audit trail: they must not be secret. OpenBao takes 1000 strings, names included, in one secret.
"""

from collections.abc import Mapping
from typing import Protocol

MOUNT = "indaco"
"""The KV version 2 mount that holds every secret of Indaco."""

MAX_SECRET_BYTES = 1024 * 1024
"""The largest secret as JSON, in bytes; raft storage refuses larger entries anyway."""


class Secrets(Protocol):
    """One service's door to the vault; any number of operations may be in flight at once."""

    async def start(self) -> None:
        """Log in and keep the token renewed until :meth:`stop`. Raises Unavailable, Forbidden."""

    async def stop(self) -> None:
        """Give the token back and close the connections; a second call does nothing."""

    async def ping(self) -> None:
        """Return if a request would be answered now. Raises Unavailable, if sealed or not reachable."""

    async def put(self, path: str, secret: Mapping[str, object]) -> None:
        """Store *secret* (JSON values, integers up to 2**53) at *path*, replacing what is there."""

    async def get(self, path: str) -> dict[str, object] | None:
        """Return the secret at *path*, or None if there is none."""

    async def get_version(self, path: str) -> tuple[dict[str, object] | None, int]:
        """Return the secret at *path* with its version, which counts the writes; (None, 0) if there is none."""

    async def replace(self, path: str, secret: Mapping[str, object], *, version: int) -> int:
        """Store *secret* where *version* still is what lies at *path* (0: nothing), and return the new version.

        Raises: Conflict, if somebody else has written or removed it since.
        """

    async def delete(self, path: str) -> None:
        """Remove every version of *path* and its metadata; what is absent already is not an error."""

    async def list(self, prefix: str) -> list[str]:
        """Return the sorted names directly below *prefix* ('' is the top); a name that has more below it ends in '/'."""

    async def wrap(self, secret: Mapping[str, object], ttl_s: int) -> str:
        """Return a token that opens *secret* once, within *ttl_s* seconds, for whoever holds it."""

    async def unwrap(self, token: str) -> dict[str, object]:
        """Return what *token* wraps and use it up. Raises NotFound, if it was opened before, has expired or never was."""
