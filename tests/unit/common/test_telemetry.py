"""Logs and traces as they are set up for a process."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.util._once import Once

from indaco_common import telemetry
from indaco_common.settings import Settings


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Both are set up once per process: leave nothing to the other tests."""
    root, levels = logging.getLogger(), {name: logging.getLogger(name).level for name in telemetry._QUIET}
    handlers, level = root.handlers[:], root.level
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER_SET_ONCE", Once())
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)


def logged(**settings: str) -> io.StringIO:
    stream = io.StringIO()
    telemetry.set_up_logging(Settings.model_validate(settings), stream)
    return stream


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_each_event_is_one_json_line_with_its_fields_and_context() -> None:
    stream = logged()
    structlog.contextvars.bind_contextvars(correlation_id="d-1")
    structlog.get_logger().info("deployment.placed", provider="P", note="two\nlines")
    [line] = lines(stream)
    assert {name: line[name] for name in ("event", "level", "provider", "correlation_id", "note")} == {
        "event": "deployment.placed", "level": "info", "provider": "P", "correlation_id": "d-1", "note": "two\nlines",
    }  # fmt: skip
    assert line["timestamp"].endswith("Z")


def test_what_json_or_utf8_does_not_have_does_not_lose_the_line() -> None:
    stream = logged()
    structlog.get_logger().info("odd", half="\ud800", thing=object, number=float("nan"))
    [line] = lines(stream)
    assert line["half"] == "\ud800"
    assert "object" in line["thing"]


def test_what_libraries_say_is_json_as_well() -> None:
    stream = logged()
    logging.getLogger("some.library").warning("slow: %s ms", 12)
    [line] = lines(stream)
    assert (line["event"], line["level"]) == ("slow: 12 ms", "warning")


def test_chatty_libraries_are_quiet() -> None:
    stream = logged()
    logging.getLogger("aio_pika.robust_connection").error("amqp://user:password@broker")
    logging.getLogger("aiohttp.access").info("GET /deployments?token=x")
    assert stream.getvalue() == ""


def test_a_level_below_the_one_set_is_not_written() -> None:
    stream = logged(log_level="warning")
    structlog.get_logger().info("deployment.placed")
    structlog.get_logger().warning("relay.hindered")
    assert [line["event"] for line in lines(stream)] == ["relay.hindered"]


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_stack_is_shown_without_the_values_of_its_variables(form: str) -> None:
    stream = logged(log_format=form)
    password = "hunter2"
    try:
        int(password[:0])
    except ValueError:
        structlog.get_logger().exception("message.crashed")
    assert "ValueError" in stream.getvalue()
    assert "hunter2" not in stream.getvalue().replace('password = "hunter2"', "")


def test_without_an_endpoint_no_span_is_made() -> None:
    telemetry.set_up_tracing(Settings())
    assert telemetry.tracer("x") is None
    assert telemetry.traceparent() is None
    telemetry.flush()


def test_with_one_the_span_travels_as_traceparent_and_is_sent_at_the_end() -> None:
    exporter = InMemorySpanExporter()
    telemetry.set_up_tracing(Settings(), exporter, service="sla")
    tracer = telemetry.tracer("x")
    assert tracer is not None
    with tracer.start_as_current_span("work") as span:
        carried = telemetry.traceparent()
    context = span.get_span_context()
    assert carried is not None
    assert carried.startswith(f"00-{context.trace_id:032x}-{context.span_id:016x}-")
    telemetry.flush()
    [sent] = exporter.get_finished_spans()
    assert (sent.name, sent.resource.attributes["service.name"]) == ("work", "indaco-sla")


def test_an_endpoint_is_where_spans_go() -> None:
    telemetry.set_up_tracing(Settings(otlp_endpoint="http://127.0.0.1:1/"))
    assert isinstance(trace.get_tracer_provider(), TracerProvider)
    telemetry.flush()
