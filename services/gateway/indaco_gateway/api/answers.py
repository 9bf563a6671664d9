"""What the resources of /v1 have in common: entity tags, preconditions, cursors, links to the next page."""

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from urllib.parse import urlencode

import pydantic
from aiohttp import web

from indaco_common.errors import FieldError, Invalid, PreconditionFailed
from indaco_common.web import is_known

MERGE_PATCH = "application/merge-patch+json"  # RFC 7396
MAX_CURSOR = 400  # characters
PRIVATE = {"Cache-Control": "private, no-cache"}


def answer(
    request: web.Request,
    body: pydantic.BaseModel | bytes,
    *,
    version: int | None = None,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    content_type: str = "application/json",
) -> web.Response:
    """Answer with *body* and its entity tag: its *version*, or else a digest; 304 to a GET of who has it already."""
    text = body if isinstance(body, bytes) else text_of(body)
    tag = etag(version) if version is not None else f'"{hashlib.sha256(text).hexdigest()[:32]}"'
    all_headers = {"ETag": tag, **PRIVATE, **(headers or {})}
    if request.method in ("GET", "HEAD") and is_known(request, tag):
        return web.Response(status=304, headers=all_headers)
    return web.Response(
        body=text, status=status, headers={"Content-Type": f"{content_type}; charset=utf-8", **all_headers}
    )


def text_of(body: pydantic.BaseModel) -> bytes:
    """Return *body* as JSON, without its empty fields."""
    return body.model_dump_json(by_alias=True, exclude_none=True).encode()


def etag(version: int) -> str:
    return f'"{version}"'


def require_match(request: web.Request, version: int) -> None:
    """Heed If-Match (RFC 9110 §13.1.1: strongly compared, so that a weak tag never matches). Raises: PreconditionFailed."""
    given = request.headers.get("If-Match")
    if given is not None and not {"*", etag(version)} & {tag.strip() for tag in given.split(",")}:
        raise PreconditionFailed("It has changed since it was read: read it again, and see whether to go on")


def next_link(request: web.Request, base: str, **changes: str | int) -> str:
    """Return the address of the present request with some parameters changed."""
    kept = [(name, value) for name, value in request.query.items() if name not in changes]
    return f"{base}{request.path}?{urlencode([*kept, *changes.items()])}"


def link_header(url: str | None) -> dict[str, str]:
    """Return the header that names the next page (RFC 8288), if there is one."""
    return {"Link": f'<{url}>; rel="next"'} if url else {}


def cursor_of(*position: str) -> str:
    """Return where a page ends, as an opaque text."""
    return base64.urlsafe_b64encode(json.dumps(position, separators=(",", ":")).encode()).decode().rstrip("=")


def position_of(cursor: str, length: int) -> tuple[str, ...]:
    """Return the *length* texts that a cursor was made of. Raises: Invalid."""
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        found = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        json.dumps(found, ensure_ascii=False).encode()  # half a surrogate pair is no text that a store could compare
    except (ValueError, binascii.Error, RecursionError):
        found = None
    if not isinstance(found, list) or len(found) != length or not all(isinstance(part, str) for part in found):
        detail = "is none of ours; begin without it"
        raise Invalid("The cursor cannot be read", errors=[FieldError("?cursor", detail)])
    return tuple(found)
