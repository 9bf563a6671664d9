"""Envelopes: what travels."""

import json
from datetime import UTC, datetime
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from indaco_common.contracts import gateway, orchestrator, vault
from indaco_common.envelope import CONTENT_TYPE, MAX_ENVELOPE_BYTES, Context, seal, unseal
from indaco_common.errors import Invalid
from indaco_common.ids import DeploymentId
from indaco_common.testing.bells import Rang

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
ALIVE = orchestrator.AttemptAlive(deployment_id=DeploymentId("d-1"), attempt=1)


def sealed(message: Any = ALIVE, ctx: Context | None = None, **at: Any) -> bytes:
    return seal(
        message, ctx or Context(), **{"source": "orchestrator", "version": 3, "index": 1, "now": NOON, **at}
    ).body


def changed(**attributes: Any) -> bytes:
    return json.dumps({**json.loads(sealed()), **attributes}).encode()


@given(st.text(max_size=200), st.integers(1, 10_000))
def test_a_message_comes_out_as_it_went_in(detail: str, attempt: int) -> None:
    refused = vault.CredentialRefused(
        deployment_id=DeploymentId("d-1"), attempt=attempt, serial=0, reason={"code": "no", "detail": detail}
    )  # fmt: skip
    assert unseal(sealed(refused))[1] == refused


def test_the_envelope_says_what_cloudevents_1_0_asks_for() -> None:
    said = json.loads(sealed())
    assert said["specversion"] == "1.0"
    assert said["type"] == "indaco.orchestrator.attempt.alive.v1"
    assert said["source"] == "/indaco/orchestrator"
    assert said["subject"] == "deployment/d-1"
    assert said["time"] == "2026-03-01T12:00:00Z"
    assert said["datacontenttype"] == "application/json"
    assert said["dataschema"] == "/contracts/orchestrator.attempt.alive.v1.json"
    assert CONTENT_TYPE == "application/cloudevents+json"
    assert all(name.isalnum() and name.islower() for name in said)  # CloudEvents 1.0 §3.1: attribute names
    assert None not in said.values()


def test_it_carries_on_where_it_came_from_and_who_caused_it() -> None:
    ctx = Context(
        id="m-1", correlation_id="c-1", request_id="req-1", traceparent=TRACEPARENT, auth_type="user", auth_id="ada@iam"
    )
    envelope, _ = unseal(sealed(ctx=ctx))
    passed = envelope.context(attempt=2)
    assert envelope.causationid == "m-1"
    assert (passed.request_id, passed.traceparent, passed.auth_type, passed.auth_id) == (
        "req-1", TRACEPARENT, "user", "ada@iam",
    )  # fmt: skip
    assert (passed.id, passed.attempt, passed.time) == (envelope.id, 2, NOON)


def test_all_that_is_about_a_deployment_correlates_by_its_id_and_the_rest_by_its_cause() -> None:
    assert unseal(sealed(ctx=Context(correlation_id="c-1")))[0].correlationid == "d-1"
    assert unseal(sealed(Rang(bell_id="b"), Context(correlation_id="c-1")))[0].correlationid == "c-1"
    assert unseal(sealed(Rang(bell_id="b")))[0].correlationid == "b"


@given(st.integers(1, 10**11), st.integers(1, 10**11), st.integers(0, 99), st.integers(0, 99))
def test_sequences_sort_as_text_by_version_then_place(v: int, w: int, i: int, j: int) -> None:
    def sequence(version: int, index: int) -> str:
        return unseal(sealed(version=version, index=index))[0].sequence

    assert ((v, i) < (w, j)) == (sequence(v, i) < sequence(w, j))


def test_what_a_later_version_adds_is_ignored() -> None:
    body = changed(newattribute="x", data={"deployment_id": "d-1", "attempt": 1, "new_field": {"a": 1}})
    assert unseal(body)[1] == ALIVE


def test_a_message_of_a_type_that_is_not_known_is_no_error() -> None:
    envelope, message = unseal(changed(type="indaco.billing.invoice.sent.v1"))
    assert (envelope.name, message) == ("billing.invoice.sent.v1", None)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"\xff\xfe", "body"),
        (b"[]", "body"),
        (b"{}", "id"),
        (changed(specversion="0.3"), "specversion"),
        (changed(datacontenttype="text/xml"), "datacontenttype"),
        (changed(time="yesterday"), "time"),
        (changed(data=[]), "data"),
        (changed(data={"deployment_id": "d-1", "attempt": 0}), "attempt"),
        (changed(data={"attempt": 1}), "deployment_id"),
    ],
)
def test_what_is_no_envelope_of_ours_is_invalid_and_the_place_is_told(body: bytes, told: str) -> None:
    with pytest.raises(Invalid, match=f"envelope: {told}"):
        unseal(body)


def test_the_error_does_not_repeat_what_was_sent() -> None:
    with pytest.raises(Invalid) as refused:
        unseal(changed(data={"deployment_id": "d-1", "attempt": "hunter2"}))
    assert "hunter2" not in refused.value.detail


def test_an_envelope_has_a_largest_size_which_the_largest_template_keeps_within() -> None:
    with pytest.raises(Invalid, match="at most"):
        unseal(b" " * (MAX_ENVELOPE_BYTES + 1))
    largest = "\u00e9" * (gateway.MAX_TEMPLATE_BYTES // 2)
    request = gateway.DeploymentRequested(
        deployment_id=DeploymentId("d"), owner={"issuer": "i", "subject": "s"}, group={"issuer": "i", "path": "g"},
        template=largest, inputs={}, nodes={"n": {"needs": {}}},
    )  # fmt: skip
    assert unseal(sealed(request))[1] == request
