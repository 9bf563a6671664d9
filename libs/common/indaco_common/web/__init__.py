"""HTTP as all services speak it: one application builder, one error body, strict JSON reading, health endpoints."""

from indaco_common.web.app import Served, always_native, create_app, json_response, request_id, slash_tolerant
from indaco_common.web.health import Check, CheckResult, Health, Readiness
from indaco_common.web.limits import load_json, parse_json, read_json
from indaco_common.web.links import base_url
from indaco_common.web.problems import Face, UnsupportedMediaType, excerpt

__all__ = [
    "Check",
    "CheckResult",
    "Face",
    "Health",
    "Readiness",
    "Served",
    "UnsupportedMediaType",
    "always_native",
    "base_url",
    "create_app",
    "excerpt",
    "json_response",
    "load_json",
    "parse_json",
    "read_json",
    "request_id",
    "slash_tolerant",
]
