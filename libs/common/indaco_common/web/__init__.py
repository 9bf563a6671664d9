"""HTTP as all services speak it: one application builder, one error body, strict JSON reading, health endpoints."""

from indaco_common.web.app import (
    Served,
    always_native,
    answer_headers,
    create_app,
    json_response,
    json_text,
    request_id,
    slash_tolerant,
)
from indaco_common.web.describe import Description, describe, description_of
from indaco_common.web.health import Check, CheckResult, Health, Readiness
from indaco_common.web.limits import load_json, parse_json, read_json
from indaco_common.web.links import base_url
from indaco_common.web.preconditions import idempotency_key, is_known
from indaco_common.web.problems import Face, UnsupportedMediaType, excerpt
from indaco_common.web.query import NoQuery, read_query

__all__ = [
    "Check",
    "CheckResult",
    "Description",
    "Face",
    "Health",
    "NoQuery",
    "Readiness",
    "Served",
    "UnsupportedMediaType",
    "always_native",
    "answer_headers",
    "base_url",
    "create_app",
    "describe",
    "description_of",
    "excerpt",
    "idempotency_key",
    "is_known",
    "json_response",
    "json_text",
    "load_json",
    "parse_json",
    "read_json",
    "read_query",
    "request_id",
    "slash_tolerant",
]
