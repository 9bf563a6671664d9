"""Access tokens of oidc-agent: one JSON object each way over its socket (https://indigo-dc.gitbook.io/oidc-agent/api/api-ipc)."""

import asyncio
import json
import os
from dataclasses import dataclass

from .errors import NotSignedIn

TIMEOUT_S = 60.0  # the agent may ask its user
MAX_BYTES = 256 * 1024
LEAST_S = 60  # that the token is still good for


@dataclass(frozen=True, slots=True)
class Lent:
    """An access token, and when it ends (seconds since 1970; 0: not told)."""

    token: str
    expires_at: float


async def lent(account: str) -> Lent:
    """Return a token of *account*, from the agent at ``OIDC_SOCK``. Raises: NotSignedIn."""
    path = os.environ.get("OIDC_SOCK", "")
    if not path:
        raise NotSignedIn("oidc-agent is not running: OIDC_SOCK is not set", hint="eval `oidc-agent`, then oidc-add")
    asked = {
        "request": "access_token", "account": account, "min_valid_period": LEAST_S, "application_hint": "indaco",
    }  # fmt: skip
    try:
        async with asyncio.timeout(TIMEOUT_S):
            told = await _ask(path, json.dumps(asked).encode())
        answer = json.loads(told)
    except (OSError, TimeoutError) as error:
        why = getattr(error, "strerror", None) or "no answer"
        raise NotSignedIn(f"oidc-agent at {path}: {why}", hint="is it running? eval `oidc-agent`") from None
    except ValueError:
        raise NotSignedIn(f"oidc-agent at {path} answers what is no JSON") from None
    if not isinstance(answer, dict) or not isinstance(answer.get("access_token"), str):
        why = str(answer.get("error") if isinstance(answer, dict) else "")[:200]
        raise NotSignedIn(f"oidc-agent has no token of the account {account}: {why}", hint=f"oidc-add {account}")
    ends = answer.get("expires_at", 0)
    return Lent(answer["access_token"], float(ends) if isinstance(ends, int | float) else 0.0)


async def _ask(path: str, request: bytes) -> bytes:
    """Return all that is said until the other side is done, or the object is whole: some agents keep the connection."""
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        writer.write(request)
        await writer.drain()
        told = b""
        while len(told) < MAX_BYTES and (more := await reader.read(65_536)):
            told += more
            if told.rstrip(b"\0\n ").endswith(b"}") and _is_whole(told):
                break
        return told.rstrip(b"\0")
    finally:
        writer.close()


def _is_whole(text: bytes) -> bool:
    try:
        json.loads(text.rstrip(b"\0"))
    except ValueError:
        return False
    return True
