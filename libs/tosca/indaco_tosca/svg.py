"""Icons that others have drawn: shapes and colours, and nothing that could run, load or link."""

from __future__ import annotations

from typing import Final
from xml.parsers import expat

MAX_BYTES: Final = 32 * 1024
_NAMESPACE: Final = "http://www.w3.org/2000/svg"
_SHAPES: Final = frozenset({
    "svg", "g", "title", "desc", "defs", "path", "circle", "ellipse", "rect", "line", "polyline", "polygon",
    "linearGradient", "radialGradient", "stop", "clipPath",
})  # fmt: skip
_ATTRIBUTES: Final = frozenset({
    "xmlns", "id", "viewBox", "width", "height", "d", "cx", "cy", "r", "rx", "ry", "x", "y", "x1", "x2", "y1", "y2",
    "fx", "fy", "points", "transform", "opacity", "color", "fill", "fill-opacity", "fill-rule", "clip-path", "clip-rule",
    "stroke", "stroke-width", "stroke-opacity", "stroke-linecap", "stroke-linejoin", "stroke-miterlimit",
    "stroke-dasharray", "stroke-dashoffset", "offset", "stop-color", "stop-opacity", "gradientUnits",
    "gradientTransform", "spreadMethod", "clipPathUnits", "preserveAspectRatio", "role", "aria-hidden", "version",
})  # fmt: skip


class _Flaw(Exception):
    """Ends the parser at the first thing that may not be there."""


def flaw(content: bytes) -> str:
    """Return why this is not an icon, or nothing if it is."""
    if len(content) > MAX_BYTES:
        return f"the icon has {len(content)} bytes, {MAX_BYTES} are allowed"
    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = _refuse_declaration
    parser.ProcessingInstructionHandler = _refuse_declaration
    parser.StartElementHandler = _check_element
    try:
        parser.Parse(content, True)
    except _Flaw as found:
        return str(found)
    except expat.ExpatError as error:
        return f"the icon is not XML: {expat.ErrorString(error.code)}, line {error.lineno}"
    return ""


def _refuse_declaration(*_: object) -> None:
    raise _Flaw("the icon has a declaration or an instruction")


def _check_element(name: str, attributes: dict[str, str]) -> None:
    if name not in _SHAPES:
        raise _Flaw(f"the icon has an element {name[:40]!r}")
    if attributes.get("xmlns", "" if name == "svg" else _NAMESPACE) != _NAMESPACE:
        raise _Flaw(f"the icon's namespace is not {_NAMESPACE}")
    for key, value in attributes.items():
        is_link = "url(" in value.replace("url(#", "").lower()
        if key not in _ATTRIBUTES or is_link:
            raise _Flaw(f"the icon has an attribute {key[:40]!r} that is not plain")
