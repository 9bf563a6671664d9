"""What users ask of a deployment: acceptance, repeats, deletion, reset; no loop, no store."""

import pytest

from indaco_common.contracts import gateway
from indaco_common.errors import Conflict
from indaco_gateway.model.conflicts import KeyReused, WrongState
from indaco_gateway.model.operation import MAX_DETAIL, TIMELINE_LENGTH, Operation, Status, Task, resource_id

from .builders import ADA, CMS, ID, MINUTE, NOW, accepted, deleted, hear, request, running


def accept(operation: Operation, fingerprint: str = "f") -> None:
    operation.accept(request(), fingerprint=fingerprint, template="digest", types={}, callback=None, now=NOW)


def test_an_accepted_request_is_on_its_way_and_shows_what_was_asked_for() -> None:
    operation = Operation(id=ID)
    accept(operation)
    assert operation.emitted == [request()]
    assert (operation.status, operation.task) == (Status.CREATE_IN_PROGRESS, Task.BROKERING)
    assert (operation.owner, operation.group, operation.template) == (ADA, CMS, "digest")
    assert operation.nodes == ("server-0", "server-1")
    assert operation.created_at == operation.updated_at == NOW
    assert [(step.number, step.title) for step in operation.timeline] == [(1, "Request accepted")]


def test_the_same_request_is_a_repeat_and_another_under_its_key_is_refused() -> None:
    operation = Operation(id=ID)
    assert not operation.is_repeat("f")
    accept(operation)
    assert operation.is_repeat("f")
    with pytest.raises(KeyReused):
        operation.is_repeat("another")
    with pytest.raises(Conflict):
        accept(operation)
    with pytest.raises(KeyReused):
        accept(operation, "another")


def test_a_claim_keeps_the_id_for_its_request_alone_and_shows_nothing() -> None:
    operation = Operation(id=ID)
    operation.claim("f")
    assert (operation.created_at, operation.emitted, operation.timeline) == (None, [], [])
    assert not operation.is_repeat("f")
    operation.claim("f")
    with pytest.raises(KeyReused):
        operation.claim("another")
    accept(operation)
    with pytest.raises(Conflict):
        operation.claim("f")


def test_a_deletion_is_asked_for_once_unless_it_is_forced() -> None:
    operation = accepted()
    operation.delete(force=False, now=NOW + MINUTE)
    with pytest.raises(WrongState, match=r"Deployment already in DELETE_IN_PROGRESS state\."):
        operation.delete(force=False, now=NOW + MINUTE)
    operation.delete(force=True, now=NOW + MINUTE)
    wishes = [gateway.DeploymentDeletionRequested(deployment_id=ID, force=force) for force in (False, True)]
    assert operation.emitted == wishes
    assert (operation.status, operation.updated_at) == (Status.DELETE_IN_PROGRESS, NOW + MINUTE)


@pytest.mark.parametrize("force", [False, True])
def test_what_is_deleted_cannot_be_deleted(*, force: bool) -> None:
    operation = hear(accepted(), deleted())
    with pytest.raises(WrongState, match="DELETE_COMPLETE"):
        operation.delete(force=force, now=NOW)
    assert operation.emitted == []


def test_a_deletion_that_hangs_can_be_reset_and_asked_for_again() -> None:
    operation = hear(accepted(), running())
    with pytest.raises(WrongState, match="Cannot reset a deployment in CREATE_COMPLETE state"):
        operation.reset(NOW)
    operation.delete(force=False, now=NOW)
    operation.reset(NOW)
    assert (operation.status, operation.task, operation.reason) == (Status.DELETE_FAILED, Task.NONE, "")
    operation.delete(force=False, now=NOW)
    assert operation.status is Status.DELETE_IN_PROGRESS


def test_a_timeline_is_bounded_in_steps_and_in_words() -> None:
    operation = accepted()
    for _ in range(TIMELINE_LENGTH + 10):
        operation.note(NOW, "x.y.z", "t" * 10_000, "d" * 10_000)
    assert len(operation.timeline) == TIMELINE_LENGTH
    assert operation.timeline[-1].number == operation.steps == TIMELINE_LENGTH + 11
    assert {len(step.detail) for step in operation.timeline} == {MAX_DETAIL}
    assert operation.timeline[-1].detail.endswith("…")


def test_a_resource_has_the_same_id_every_time_and_in_no_other_deployment() -> None:
    assert resource_id(ID, "server-0") == resource_id(ID, "server-0")
    assert len({resource_id(ID, "server-0"), resource_id(ID, "server-1"), resource_id("other", "server-0")}) == 3
