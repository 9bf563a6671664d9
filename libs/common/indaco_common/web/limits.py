"""Reading a JSON body with every limit that keeps a hostile one from costing more than it should."""

import asyncio
import json
import math
from collections.abc import Collection
from typing import Any, TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

from indaco_common.errors import FieldError, Invalid
from indaco_common.web.problems import MAX_ECHO, UnsupportedMediaType, excerpt

MAX_BODY = 1024 * 1024  # bytes; the default of create_app
MAX_DEPTH = 64  # levels of arrays and objects
MAX_FIELD_ERRORS = 50
BODY_TIMEOUT_S = 30.0
JSON_TYPES = frozenset({"application/json"})

_CONTAINERS = (dict, list)

M = TypeVar("M", bound=BaseModel)


async def read_json(request: web.Request, model: type[M], *, media_types: Collection[str] = JSON_TYPES) -> M:
    """Return the request's body as *model*.

    Raises: UnsupportedMediaType (not JSON, not in UTF-8, or compressed), Invalid (with a field error per wrong field);
    aiohttp's HTTPRequestEntityTooLarge and HTTPRequestTimeout, which become 413 and 408.
    """
    _check_type(request, media_types)
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            body = await request.read()
    except TimeoutError:
        raise web.HTTPRequestTimeout(text=f"The body did not arrive within {BODY_TIMEOUT_S:g} s; send again") from None
    except web.RequestPayloadError:  # compressed or cut into chunks, and not as its headers say
        raise Invalid("The body cannot be read: it is not encoded as its headers say") from None
    except ConnectionResetError:  # nobody hears this; it is no failure of ours
        raise Invalid("The connection ended before the body did") from None
    return parse_json(body, model)


def parse_json(body: bytes, model: type[M]) -> M:
    """Return *body* as *model*; strict JSON: UTF-8, no duplicate keys, no NaN, no infinity, at most 64 levels deep.

    Raises: Invalid.
    """
    value = load_json(body)
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise _invalid(error, value) from None


def load_json(body: bytes | str) -> Any:
    """Return the value of strict JSON text (see :func:`parse_json`).

    Raises: Invalid.
    """
    if not body:
        raise Invalid("The body is empty; a JSON document is expected")
    try:
        text = body if isinstance(body, str) else body.decode("utf-8")
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_constant, parse_float=_float)
    except UnicodeDecodeError as error:
        raise Invalid(f"The body is not UTF-8: wrong byte at offset {error.start}; encode it as UTF-8") from None
    except json.JSONDecodeError as error:
        raise Invalid(f"The body is not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise Invalid(_too_deep()) from None
    except ValueError:  # Python's own limit on the digits of an integer
        raise Invalid("The body is not valid JSON: a number has too many digits") from None
    # Most bodies have fewer brackets than levels are allowed, and need no walk.
    if text.count("[") + text.count("{") > MAX_DEPTH:
        _check_depth(value)
    return value


def _check_type(request: web.Request, media_types: Collection[str]) -> None:
    wanted = " or ".join(sorted(media_types))
    if request.content_type not in media_types:
        given = request.headers.get("Content-Type")
        found = f"'{excerpt(given)}'" if given else "missing"
        raise UnsupportedMediaType(f"The Content-Type header is {found}; send the body as {wanted}")
    charset = request.charset or "utf-8"
    if charset.lower().replace("_", "-") not in {"utf-8", "utf8", "us-ascii"}:
        raise UnsupportedMediaType(f"The charset '{excerpt(charset)}' is not supported; send the body in UTF-8")
    coding = request.headers.get("Content-Encoding", "identity")
    if coding.strip().lower() not in {"", "identity"}:
        raise UnsupportedMediaType(
            f"The Content-Encoding '{excerpt(coding)}' is not supported; send the body uncompressed"
        )


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise Invalid(f"The key '{excerpt(twice)}' occurs twice in one object; keep one of them")
    return found


def _constant(name: str) -> float:
    raise Invalid(f"{name} is not a JSON number; use a finite number or null")


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise Invalid(f"The number {excerpt(text, 30)} is out of range")
    return value


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        children: list[Any] = []
        for node in level:
            inner = node.values() if isinstance(node, dict) else node
            children += [child for child in inner if child and isinstance(child, _CONTAINERS)]
        level = children
        if not level:
            return
    raise Invalid(_too_deep())


def _too_deep() -> str:
    return f"The body is nested deeper than {MAX_DEPTH} levels; make it flatter"


def _invalid(error: ValidationError, value: Any) -> Invalid:
    found = error.errors(include_url=False, include_input=False, include_context=False)
    fields = [
        FieldError(_pointer(each["loc"], value, is_missing=each["type"] == "missing"), excerpt(each["msg"], 300))
        for each in found[:MAX_FIELD_ERRORS]
    ]
    return Invalid(f"{len(found)} field(s) of the body are wrong" if fields else "The body is wrong", errors=fields)


def _pointer(loc: tuple[int | str, ...], value: Any, *, is_missing: bool) -> str:
    """Return the RFC 6901 pointer of *loc*, without the names that pydantic adds for the branches of a union."""
    parts: list[str] = []
    for index, step in enumerate(loc):
        is_inside = (isinstance(value, dict) and step in value) or (
            isinstance(value, list) and isinstance(step, int) and step < len(value)
        )
        if is_inside:
            value = value[step]
        elif not (is_missing and index == len(loc) - 1):
            continue
        parts.append(str(step).replace("~", "~0").replace("/", "~1"))
    return excerpt("".join(f"/{part}" for part in parts), MAX_ECHO)
