"""The HTTP application that every service builds: errors as bodies, one log line and one span per request, safe headers."""

import asyncio
import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import Any, NamedTuple

import pydantic_core
import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Handler, Middleware
from opentelemetry import propagate, trace
from pydantic import BaseModel
from structlog.contextvars import bind_contextvars, reset_contextvars

from indaco_common import telemetry
from indaco_common.errors import IndacoError
from indaco_common.web.health import Health
from indaco_common.web.limits import MAX_BODY
from indaco_common.web.problems import Face, body_of, from_http, headers_of, type_of_face

_CLIENT_ERROR, _SERVER_ERROR = 400, 500
_REQUEST_ID = web.RequestKey("request_id", str)
_HEADERS_TOO = web.RequestKey("headers_too", dict[str, str])
_CALLERS_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_ENDS_FREELY = re.compile(r"^$|/$|\{\w+:[^{}]*\}$")  # a slash already, or a pattern that may take one in
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
_JSON = "application/json; charset=utf-8"
_PROBES = frozenset({"/livez", "/readyz", "/metrics"})

_log = structlog.get_logger(__name__)
_NO_SPAN = nullcontext(trace.INVALID_SPAN)


class Served(NamedTuple):  # made with each request; a frozen dataclass takes three times as long
    """One answered request; *route* is the template ("/deployments/{id}"), never the path itself."""

    method: str
    route: str
    status: int
    duration_s: float


class _Malformed(logging.Filter):
    """Keeps what cannot be read as HTTP out of the log: the server would quote it there, a token and all."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


_malformed = _Malformed()


def always_native(_request: web.Request) -> Face:
    return "native"


def create_app(
    name: str,
    *,
    routes: Iterable[web.AbstractRouteDef],
    health: Health,
    face: Callable[[web.Request], Face] = always_native,
    middlewares: Sequence[Middleware] = (),
    max_body: int = MAX_BODY,
    on_served: Callable[[Served], None] | None = None,
) -> web.Application:
    """Return the application of the service *name*.

    *face* says, per request, in which manner errors are told. *middlewares* run inside the error middleware, the first
    outermost. *max_body* is in bytes. *on_served* is told of every answered request (metrics).
    """
    server = _Server(name, face, on_served)
    logging.getLogger("aiohttp.server").addFilter(_malformed)  # once, however many applications there are

    @web.middleware
    async def serve(request: web.Request, handler: Handler) -> web.StreamResponse:
        return await server.serve(request, handler)

    app = web.Application(middlewares=[serve, *middlewares], client_max_size=max_body)
    app.on_response_prepare.append(server.prepare)
    app.add_routes(slash_tolerant([*routes, *health.routes()]))
    return app


def slash_tolerant(routes: Iterable[web.AbstractRouteDef]) -> list[web.AbstractRouteDef]:
    """Return *routes* and their twins with a trailing slash: a redirect would lose the body of a POST."""
    known = list(routes)
    twins: list[web.AbstractRouteDef] = []
    for route in known:
        if isinstance(route, web.RouteDef) and not _ENDS_FREELY.search(route.path):
            unnamed = {key: value for key, value in route.kwargs.items() if key != "name"}
            twins.append(web.RouteDef(route.method, route.path + "/", route.handler, unnamed))
    return [*known, *twins]


def request_id(request: web.Request) -> str:
    """Return the id of this request: the same in its answer, its log line and its problem body."""
    found = request.get(_REQUEST_ID)
    if found is None:
        found = request[_REQUEST_ID] = f"req-{os.urandom(16).hex()}"
    return found


def answer_headers(request: web.Request) -> dict[str, str]:
    """Return the headers that every answer to this request will have, errors and streams too; add to them."""
    found = request.get(_HEADERS_TOO)
    if found is None:
        found = request[_HEADERS_TOO] = {}
    return found


def json_response(
    value: BaseModel | Mapping[str, object] | bytes, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return *value* as JSON (see :func:`json_text`); bytes are JSON already."""
    body = value if isinstance(value, bytes) else json_text(value)
    return web.Response(body=body, status=status, headers={"Content-Type": _JSON, **(headers or {})})


def json_text(value: BaseModel | Mapping[str, object]) -> bytes:
    """Return *value* as JSON; a model, also one inside a mapping, by its aliases and without its empty fields."""
    try:
        return pydantic_core.to_json(value, by_alias=True, exclude_none=True, inf_nan_mode="constants")
    except ValueError:  # half a surrogate pair, which UTF-8 does not have
        plain = pydantic_core.to_jsonable_python(value, by_alias=True, exclude_none=True, inf_nan_mode="constants")
        return json.dumps(plain).encode()


class _Server:
    """Everything that happens around a handler."""

    def __init__(
        self, name: str, face: Callable[[web.Request], Face], on_served: Callable[[Served], None] | None
    ) -> None:
        self._name = name
        self._face = face
        self._on_served = on_served

    @cached_property
    def _log(self) -> Any:
        """The logger as it was set up when the first request came: a name alone is looked up for each line."""
        return _log.bind()

    @cached_property
    def _tracer(self) -> trace.Tracer | None:
        return telemetry.tracer("indaco.web")

    async def prepare(self, request: web.Request, response: web.StreamResponse) -> None:
        """Add the headers at the last moment, so that streams have them too; a handler's own values stay."""
        response.headers["X-Request-ID"] = request_id(request)
        response.headers["Server"] = "indaco"
        response.headers.update(request.get(_HEADERS_TOO, {}))
        for header, value in _HEADERS.items():
            response.headers.setdefault(header, value)

    async def serve(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer *request* by *handler*, or tell what went wrong; note it in log, trace and metrics."""
        face = self._face(request)
        _take_callers_id(request, face)
        bound = bind_contextvars(service=self._name, request_id=request_id(request))
        try:
            return await self._serve(request, handler, face)
        finally:
            reset_contextvars(**bound)

    async def _serve(self, request: web.Request, handler: Handler, face: Face) -> web.StreamResponse:
        start, route = time.perf_counter(), _route(request)
        with self._span(request, route) as span:
            try:
                response = await self._answer(request, handler, face)
            except asyncio.CancelledError:
                self._note(request, route, status=499, start=start)  # the client went away; nginx's number for it
                raise
            span.set_attribute("http.response.status_code", response.status)
            if response.status >= _SERVER_ERROR:
                span.set_status(trace.StatusCode.ERROR)
            self._note(request, route, status=response.status, start=start)
            return response

    async def _answer(self, request: web.Request, handler: Handler, face: Face) -> web.StreamResponse:
        try:
            return await handler(request)
        except web.HTTPException as error:
            if error.status < _CLIENT_ERROR:
                raise
            response = _told(from_http(error, request), request, face)
            if "Allow" in error.headers:
                response.headers["Allow"] = error.headers["Allow"]
            return response
        except IndacoError as error:
            if error.status >= _SERVER_ERROR:
                _log.warning("http.request_refused", code=error.code, detail=error.detail)
            return _told(error, request, face)
        except Exception:  # noqa: BLE001 - the outermost guard: a bug becomes a 500 with an id
            _log.exception("http.request_failed", method=request.method, route=_route(request))
            return _told(IndacoError("Unexpected error; it has been logged under the request id"), request, face)

    def _span(self, request: web.Request, route: str) -> AbstractContextManager[trace.Span]:
        """Return the span of a request. Where tracing is off there is none: to make one that nobody sees takes as long as a read."""
        if self._tracer is None:
            return _NO_SPAN
        return self._tracer.start_as_current_span(
            f"{request.method} {route}",
            context=propagate.extract(request.headers),
            kind=trace.SpanKind.SERVER,
            attributes={"http.request.method": request.method, "http.route": route, "url.scheme": request.scheme},
            record_exception=False,
            set_status_on_exception=False,
        )

    def _note(self, request: web.Request, route: str, *, status: int, start: float) -> None:
        duration_s = time.perf_counter() - start
        log = self._log.debug if route in _PROBES else self._log.info
        log(
            "http.request_served",
            method=request.method,
            route=route,
            status=status,
            duration_ms=round(duration_s * 1000, 1),
            request_id=request_id(request),
        )
        if self._on_served is not None:
            self._on_served(Served(request.method, route, status, duration_s))


def _told(error: IndacoError, request: web.Request, face: Face) -> web.Response:
    body = body_of(error, face=face, instance=request.path, request_id=request_id(request))
    response = web.json_response(body, status=error.status)
    response.headers["Content-Type"] = type_of_face[face]
    response.headers.update(headers_of(error, authorization_sent="Authorization" in request.headers))
    return response


def _take_callers_id(request: web.Request, face: Face) -> None:
    """Under the native API a caller may name its request; INDIGO's own server always makes a new id."""
    given = request.headers.get("X-Request-ID", "")
    if face == "native" and _CALLERS_ID.fullmatch(given):
        request[_REQUEST_ID] = given


def _route(request: web.Request) -> str:
    resource = request.match_info.route.resource
    if resource is None:
        return "unknown"
    return resource.canonical.rstrip("/") or "/"
