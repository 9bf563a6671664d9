"""Headers by which a caller says what it has, and that it asks again: If-None-Match, Idempotency-Key."""

from aiohttp import web

from indaco_common.errors import Invalid

MAX_KEY = 128  # characters of an Idempotency-Key


def is_known(request: web.Request, tag: str) -> bool:
    """Has the caller this representation already (If-None-Match, RFC 9110 §13.1.2: a list, weakly compared)?"""
    given = request.headers.get("If-None-Match")
    if given is None:
        return False
    return any(each.strip().removeprefix("W/") in ("*", tag) for each in given.split(","))


def idempotency_key(request: web.Request) -> str | None:
    """Return the key under which a repeat gets the same answer, if there is one. Raises: Invalid."""
    key = request.headers.get("Idempotency-Key")
    if key is not None and not (0 < len(key) <= MAX_KEY and key.isascii() and key.isprintable()):
        raise Invalid(f"Idempotency-Key: 1 to {MAX_KEY} printable ASCII characters")
    return key
