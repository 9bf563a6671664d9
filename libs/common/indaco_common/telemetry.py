"""Logs as JSON lines by structlog, traces by OpenTelemetry; set up once per process."""

import logging
import sys
from typing import TextIO

import structlog
from opentelemetry import propagate, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from structlog.typing import Processor

from .settings import Settings

_QUIET = ("aio_pika", "aiormq", "aiohttp.access", "asyncio", "pymongo", "urllib3", "httpcore")


def set_up_logging(settings: Settings, stream: TextIO | None = None) -> None:
    """Send structlog's events, and the warnings of libraries, to *stream* (standard error by default)."""
    level = getattr(logging, settings.log_level.upper())
    target = stream or sys.stderr
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    if settings.log_format == "json":
        renderers: list[Processor] = [
            structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False)),
            structlog.processors.JSONRenderer(),
        ]
    else:
        renderers = [
            structlog.dev.ConsoleRenderer(colors=target.isatty(), exception_formatter=structlog.dev.plain_traceback)
        ]
    structlog.configure(
        processors=[*shared, *renderers],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(target),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(processors=[_no_record, *renderers], foreign_pre_chain=shared)
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(level, logging.INFO))
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what they mean is told by our own events


def _no_record(_logger: object, _name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    event.pop("_record", None)
    event.pop("_from_structlog", None)
    return event


def set_up_tracing(settings: Settings, exporter: SpanExporter | None = None, *, service: str | None = None) -> None:
    """Send spans to the OTLP endpoint of *settings*, or to *exporter*; without either no span is ever made.

    *service*: whose process this is; None: that of all of them.
    """
    if exporter is None and settings.otlp_endpoint:
        exporter = OTLPSpanExporter(endpoint=f"{settings.otlp_endpoint.rstrip('/')}/v1/traces")
    if exporter is None:
        return
    name = f"indaco-{service}" if service else "indaco"
    provider = TracerProvider(resource=Resource.create({"service.name": name, "service.namespace": "indaco"}))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)


def flush() -> None:
    """Send what spans are left."""
    provider = trace.get_tracer_provider()
    if isinstance(provider, TracerProvider):
        provider.shutdown()


def tracer(name: str) -> trace.Tracer | None:
    """Return a tracer, or None where tracing is off: the hot path asks once and saves the work."""
    if isinstance(trace.get_tracer_provider(), TracerProvider):
        return trace.get_tracer(name)
    return None


def traceparent() -> str | None:
    """Return the W3C header of the current span, for what leaves the process later; None where tracing is off."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return carrier.get("traceparent")
