"""Absolute links behind a reverse proxy: the base address as the client sees it."""

import re

from aiohttp import web

_HOST = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?::(?P<port>[0-9]{1,5}))?")
_PORT = re.compile(r"[0-9]{1,5}")
_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~-]+)+/?")
_DEFAULT_PORTS = {"http": "80", "https": "443"}


def base_url(request: web.Request) -> str:
    """Return the address that links begin with, without a trailing slash: "https://paas.example.org/orchestrator".

    X-Forwarded-Proto, -Host, -Port and -Prefix are honoured; of several values the first (the client's side) counts.
    A value that is not what such a header may hold is ignored. They decide nothing but links in the caller's own answer.
    """
    scheme = _first(request, "X-Forwarded-Proto").lower()
    if scheme not in _DEFAULT_PORTS:
        scheme = request.scheme
    authority = _HOST.fullmatch(_first(request, "X-Forwarded-Host")) or _HOST.fullmatch(request.host)
    host, port = (authority["host"], authority["port"]) if authority else ("localhost", None)
    forwarded_port = _first(request, "X-Forwarded-Port")
    if _PORT.fullmatch(forwarded_port):
        port = forwarded_port
    prefix = _first(request, "X-Forwarded-Prefix")
    path = prefix.rstrip("/") if _PREFIX.fullmatch(prefix) else ""
    suffix = "" if port in (None, _DEFAULT_PORTS[scheme]) else f":{port}"
    return f"{scheme}://{host}{suffix}{path}"


def _first(request: web.Request, header: str) -> str:
    return request.headers.get(header, "").split(",", 1)[0].strip()
