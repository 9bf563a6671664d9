"""Errors as HTTP answers: RFC 9457 problems under the native API, INDIGO's error object under the compatible one.

Both bodies come from the one tree of :mod:`indaco_common.errors`, so that a handler raises and never builds an error answer.
"""

from http import HTTPStatus
from typing import Literal

from aiohttp import web

from indaco_common.errors import FieldError, IndacoError

Face = Literal["native", "indigo"]

PROBLEM_BASE = "https://indaco.dev/problems/"
MAX_ECHO = 100  # characters of a request that an error may repeat
REALM = "indaco"

type_of_face = {"native": "application/problem+json", "indigo": "application/json;charset=UTF-8"}

# The standard library renamed these between Python versions; clients compare the words.
_PHRASES = {413: "Payload Too Large", 422: "Unprocessable Entity", 416: "Range Not Satisfiable", 414: "URI Too Long"}
_CODES = {400: "invalid", 401: "unauthenticated", 500: "internal-error"}


class UnsupportedMediaType(IndacoError):
    status, code, title = 415, "unsupported-media-type", "Unsupported media type"


def excerpt(text: str, limit: int = MAX_ECHO) -> str:
    """Return the printable beginning of *text*: what an error may repeat of a request."""
    shown = "".join(char if char.isprintable() else "�" for char in text[: limit + 1])
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def reason(status: int) -> str:
    """Return the reason phrase of *status*, the same on every version of Python."""
    try:
        return _PHRASES.get(status) or HTTPStatus(status).phrase
    except ValueError:
        return "Error"


class HttpError(IndacoError):
    """What the HTTP server refused by itself (no route, wrong method, body too large …)."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status  # type: ignore[misc]  # one class for all the statuses of HTTP
        self.title = reason(status)  # type: ignore[misc]
        self.code = _CODES.get(status) or self.title.lower().replace(" ", "-").replace("'", "")  # type: ignore[misc]


def from_http(error: web.HTTPException, request: web.Request) -> HttpError:
    """Translate an exception of aiohttp into a sentence that says what to do."""
    path, method = excerpt(request.path), excerpt(request.method)
    match error.status:
        case 404:
            detail = f"No handler found for {method} {path}"
        case 405:
            allowed = ", ".join(sorted(error.allowed_methods)) if isinstance(error, web.HTTPMethodNotAllowed) else ""
            detail = f"Method {method} is not supported for {path}; use one of: {allowed}"
        case 413:
            limit = request.client_max_size
            detail = f"The body is larger than {limit} bytes" if limit else "The body is too large"
        case _:
            standard = f"{error.status}: {error.reason}"
            detail = excerpt(error.text, 300) if error.text and error.text != standard else reason(error.status)
    return HttpError(error.status, detail)


def body_of(error: IndacoError, *, face: Face, instance: str, request_id: str) -> dict[str, object]:
    """Return the JSON body that tells *error* in the manner of *face*."""
    errors = [{"pointer": field.pointer, "detail": field.detail} for field in error.errors]
    if face == "indigo":
        body: dict[str, object] = {"code": error.status, "title": reason(error.status), "message": _message(error)}
        if errors:
            body["errors"] = errors
        return body | {"requestId": request_id}
    body = {
        "type": PROBLEM_BASE + error.code,
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
        "instance": excerpt(instance, 300),
        "code": error.code,
        "request_id": request_id,
    }
    if errors:
        body["errors"] = errors
    return {**error.extra, **body}


def headers_of(error: IndacoError, *, authorization_sent: bool) -> dict[str, str]:
    """Return the headers that belong to *error*: when to come back, and how to authenticate (RFC 6750 §3)."""
    headers = {}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(max(0, -int(-error.retry_after_s // 1)))
    if error.status == HTTPStatus.UNAUTHORIZED:
        reason_given = f', error="invalid_token", error_description="{_quotable(error.detail)}"'
        headers["WWW-Authenticate"] = f'Bearer realm="{REALM}"' + (reason_given if authorization_sent else "")
    elif error.code == "insufficient-scope":
        scope = _quotable(str(error.extra.get("scope", "")))
        headers["WWW-Authenticate"] = f'Bearer realm="{REALM}", error="insufficient_scope", scope="{scope}"'
    return headers


def _message(error: IndacoError) -> str:
    """Return one text for clients that show nothing but the message: the sentence and the first fields."""
    shown = [f"{_field(field)}: {field.detail}" for field in error.errors[:5]]
    return "; ".join([error.detail, *shown])


def _field(field: FieldError) -> str:
    return field.pointer.lstrip("/").replace("/", ".") or "body"


def _quotable(text: str) -> str:
    """Keep what RFC 6750 allows within a quoted attribute."""
    return "".join(char if " " <= char <= "~" and char not in '"\\' else "'" for char in text)
