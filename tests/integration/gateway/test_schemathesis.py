"""Everything in the document, asked for with whatever fits its schemas and with what does not: no answer but those it promises.

``INDACO_FUZZ_EXAMPLES`` is the number of examples of either kind per operation: 30 unless it is set, the same ones each time; set it
(1000 in a nightly run) for as many new ones.
"""

import json
import os
import re
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indaco_common.runtime import MAX_LINE

from .fuzzing import Target, target
from .world import ROOT

pytest.importorskip("schemathesis", reason="schemathesis: not installed: pip install --group dev")

import schemathesis
from schemathesis import checks as known_checks
from schemathesis.config import SchemathesisConfig


def can_be_wrong(operation: dict[str, Any]) -> bool:
    """Whether there is anything that does not fit; a header without a pattern may be any text."""
    parameters = operation.get("parameters", ())
    return "requestBody" in operation or any(p["in"] != "header" or "pattern" in p["schema"] for p in parameters)


EXAMPLES = int(os.environ.get("INDACO_FUZZ_EXAMPLES", "0"))
SETTINGS = settings(
    max_examples=EXAMPLES or 30,
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
CHECKS = (
    "status_code_conformance", "content_type_conformance", "response_headers_conformance", "response_schema_conformance",
    "allow_header_conformance",
)  # fmt: skip
EVENTS = "text/event-stream"
DEAD = "needs a delivery that was given up"
NEVER = {  # operations that nothing generated need succeed at
    **dict.fromkeys(("GET /schedules", "POST /schedules", "GET /schedules/{id}"), "501"),
    **dict.fromkeys(("GET /schedules/{id}/events", "GET /schedules/{id}/template"), "501"),
    **dict.fromkeys(("POST /deployments/{id}/resources/{rid}/actions", "POST /v1/deployments/{id}/actions"), "needs machines that run"),
    "PATCH /deployments/{id}": "needs a deletion that hangs",
    "POST /v1/deployments/{id}/callback-deliveries/{delivery}/retry": DEAD,
    "POST /v1/subscriptions/{id}/deliveries/{delivery}/retry": DEAD,
    "POST /v1/subscriptions/{id}/ping": "may be paused",
    "GET /v1/login": "needs an issuer with a client for pages",
    "GET /v1/login/callback": "needs a login that has begun",
}  # fmt: skip
DOCUMENT = json.loads((ROOT / "docs" / "openapi.json").read_text())
ORDER = [
    "POST",
    "PATCH",
    "PUT",
    "GET",
    "DELETE",
]  # so that there is something to show, and what is locked is not for long
OPERATIONS = sorted(
    ((m.upper(), path) for path, methods in DOCUMENT["paths"].items() for m in methods),
    key=lambda pair: (ORDER.index(pair[0]), -pair[1].count("/"), pair[1]),
)
TAKING = [(m, p) for m, p in OPERATIONS if can_be_wrong(DOCUMENT["paths"][p][m.lower()])]
STRICT = [(m, p) for m, p in TAKING if p.startswith("/v1/")]  # at the root much is read as leniently as INDIGO reads it


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with target(tmp_path_factory.mktemp("fuzz")) as running:
        yield running


@pytest.fixture(scope="module")
def schema(gateway: Target) -> Any:
    known_checks.load_all_checks()
    found = schemathesis.openapi.from_dict(dict(gateway.document), config=SchemathesisConfig())
    found.config.update(base_url=gateway.url)
    refusals = found.config.checks.negative_data_rejection
    refusals.expected_statuses = [*refusals.expected_statuses, "412", "413", "414", "423"]
    return found


def checks(*names: str) -> list[Any]:
    return [known_checks.CHECKS.get_one(name) for name in names]


def streams(gateway: Target, method: str, path: str) -> bool:
    answers = gateway.document["paths"][path][method.lower()]["responses"].values()
    return any(EVENTS in answer.get("content", ()) for answer in answers)


def test_the_document_is_valid_openapi(schema: Any) -> None:
    schema.validate()


def test_every_operation_of_the_document_is_in_this_suite(gateway: Target) -> None:
    served = {(m.upper(), path) for path, methods in gateway.document["paths"].items() for m in methods}
    assert served == set(OPERATIONS)


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_what_fits_the_document_is_answered_as_promised(gateway: Target, schema: Any, method: str, path: str) -> None:
    existing = gateway.existing(method, path)
    gateway.tried.add((method, path))

    @SETTINGS
    @given(case=schema[path][method].as_strategy(), is_there=st.booleans())
    def check(case: Any, *, is_there: bool) -> None:
        gateway.tame(case, existing if is_there else None)
        judge(gateway, case, *CHECKS)

    check()


@pytest.mark.parametrize(("method", "path"), TAKING)
def test_what_does_not_fit_is_refused_and_breaks_nothing(gateway: Target, schema: Any, method: str, path: str) -> None:
    names = (*CHECKS, "negative_data_rejection") if (method, path) in STRICT else CHECKS

    @SETTINGS
    @given(case=schema[path][method].as_strategy(schemathesis.GenerationMode.NEGATIVE))
    def check(case: Any) -> None:
        is_tamed = gateway.tame(case, None)  # what was wrong with it may be gone
        judge(gateway, case, *(CHECKS if is_tamed else names))

    check()


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_without_a_token_only_what_is_public_is_answered(gateway: Target, method: str, path: str) -> None:
    operation = gateway.document["paths"][path][method.lower()]
    url = gateway.url + re.sub(r"\{\w+\}", "x", path)
    for headers in ({}, {"Authorization": "Bearer nonsense"}):
        with requests.request(method, url, headers=headers, timeout=20, stream=True, allow_redirects=False) as answer:
            if operation["security"]:
                assert answer.status_code == 401
                assert answer.headers["WWW-Authenticate"].startswith("Bearer")
            else:
                assert answer.status_code not in (401, 403)


def test_nearly_every_operation_has_succeeded(gateway: Target) -> None:
    """Else the examples would prove little."""
    if gateway.tried != set(OPERATIONS):
        pytest.skip("corpus: only a part of the suite was run")
    never = {f"{m} {p}" for m, p in OPERATIONS} - gateway.succeeded - set(NEVER)
    assert not never, "\n".join(sorted(never))


def judge(gateway: Target, case: Any, *names: str) -> None:
    """Send *case*, and check the answer; a stream is left after its head."""
    if streams(gateway, case.method, case.path):
        kwargs = case.as_transport_kwargs(base_url=gateway.url)
        kwargs["headers"] = {**kwargs.get("headers", {}), **gateway.session.headers}
        with requests.request(**kwargs, timeout=20, stream=True) as answer:
            promised = gateway.document["paths"][case.path][case.method.lower()]["responses"]
            assert str(answer.status_code) in promised
            if answer.status_code == 200:
                gateway.note(case, answer)
                assert answer.headers["Content-Type"].startswith(EVENTS)
        return
    answer = case.call(session=gateway.session, base_url=gateway.url, timeout=20, allow_redirects=False)
    assert answer.status_code != 500, answer.content[:2000]
    if len(answer.request.url) > MAX_LINE // 2:  # the HTTP parser has its own word for these
        return
    case.validate_response(answer, checks=checks(*names))
    gateway.note(case, answer)
