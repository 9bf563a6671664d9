"""What ``--debug`` shows of HTTP: who asked what and what came back, with everything masked that is or may be a secret."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

MASK = "***"
MOST, LONG = 2_000, 200  # characters of a body, and of one text in it
_SECRET = re.compile(r"(?i)token|password|passwd|secret|private|credential|authorization|cookie|api_?key|code$")
_NAMES = ("secret_inputs", "secret_outputs")  # which are secret, not what
_VALUES = ("parameters", "inputs", "outputs")  # whose values may be secret whatever they are called
_OPAQUE = (
    "/reveal",
    "/outputs",
    "/secret",
    "/webhook-secret",
)  # ends of paths whose answers are secrets, wholly or in part

Trace = Callable[[str], None]


def request_lines(method: str, url: str, headers: Mapping[str, str], body: object) -> str:
    """Return what is sent, as lines that begin with ``>``."""
    lines = [f"{method} {url}", *_headers(headers)]
    if body is not None:
        lines.append(_cut(json.dumps(masked(body), ensure_ascii=False)))
    return _marked(">", lines)


def answer_lines(method: str, url: str, status: int, headers: Mapping[str, str], text: str) -> str:
    """Return what came back, as lines that begin with ``<``."""
    lines = [f"{status} for {method} {url}", *_headers(headers)]
    if text:
        lines.append(_cut(_body(urlsplit(url).path, text)))
    return _marked("<", lines)


def masked(value: Any, key: str = "") -> Any:
    """Return *value* with its secrets masked; of inputs and outputs only the names stay."""
    if isinstance(value, dict):
        if key in _VALUES:
            return dict.fromkeys(value, MASK)
        return {name: masked(member, str(name)) for name, member in value.items()}
    if isinstance(value, list):
        return [masked(member, key) for member in value]
    if key in _NAMES or value is None or not _SECRET.search(key):
        return _cut(value, LONG) if isinstance(value, str) else value
    return MASK


def _body(path: str, text: str) -> str:
    if path.endswith(_OPAQUE):
        return f"{MASK} ({len(text)} characters)"
    try:
        return json.dumps(masked(json.loads(text)), ensure_ascii=False)
    except ValueError:
        return MASK if "PRIVATE KEY" in text else text


def _headers(headers: Mapping[str, str]) -> list[str]:
    return [f"{name}: {MASK if _SECRET.search(name) else value}" for name, value in headers.items()]


def _cut(text: str, most: int = MOST) -> str:
    return text if len(text) <= most else f"{text[:most]} … ({len(text)} characters)"


def _marked(mark: str, lines: list[str]) -> str:
    shown = (part for line in lines for part in line.splitlines() or [""])
    return "\n".join(mark + " " + "".join(c if c.isprintable() else "�" for c in line) for line in shown)
