"""From a body to what travels: leniency, fingerprints, needs, groups."""

from typing import Any

import pydantic
import pytest

from indaco_common.auth import Principal
from indaco_common.errors import Conflict, Forbidden, Invalid
from indaco_gateway.identity.access import group_of
from indaco_gateway.model.conflicts import WrongState
from indaco_gateway.needs import DEFAULT_CPU_MILLI, DEFAULT_MEMORY_MIB, nodes_of, plan_of, policy_of
from indaco_gateway.races import TRIES, rerun
from indaco_gateway.submission import Submission, _fingerprint

from .builders import NOW

SERVER = """
tosca_definitions_version: tosca_simple_yaml_1_3
imports: [indigo.yaml]
topology_template:
  inputs:
    token: {type: string}
  node_templates:
    server:
      type: tosca.nodes.indigo.Compute
"""


def body(**changes: Any) -> Submission:
    return Submission.model_validate({"template": SERVER, **changes})


def test_text_numbers_are_taken_and_what_is_empty_is_not_given() -> None:
    taken = body(
        timeoutMins="720", providerTimeoutMins="", maxProvidersRetry="3", callback="", userGroup="", nonsense=1
    )
    assert (taken.timeout_mins, taken.provider_timeout_mins, taken.max_providers_retry) == (720, None, 3)
    assert (taken.callback, taken.user_group) == (None, None)


@pytest.mark.parametrize("callback", ["http://x", "https://x:8443/a?b=c"])
def test_callbacks_are_http_urls(callback: str) -> None:
    assert body(callback=callback).callback == callback


@pytest.mark.parametrize(
    "callback", ["x", "http:x", "http://", "https://:1", "https://x:port/", "javascript://x/", "http://[::1"]
)
def test_other_callbacks_are_not_taken(callback: str) -> None:
    with pytest.raises(pydantic.ValidationError, match="must be a valid HTTP or HTTPS URL"):
        body(callback=callback)


def test_a_fingerprint_is_of_all_that_was_asked_for_but_no_secrets_value() -> None:
    asked = "cms", ("token",)
    known = _fingerprint(body(parameters={"token": "a"}), *asked)
    assert _fingerprint(body(parameters={"token": "b"}, nonsense=1), *asked) == known
    others = [
        _fingerprint(body(callback="https://x/"), *asked),
        _fingerprint(body(timeoutMins=5), *asked),
        _fingerprint(body(maxProvidersRetry=5), *asked),
        _fingerprint(Submission(template=SERVER + "#"), *asked),
        _fingerprint(body(), *asked),
        _fingerprint(body(parameters={"token": "a", "a": 1}), *asked),
        _fingerprint(body(parameters={"token": "a"}), "other", ("token",)),
    ]
    assert len({known, *others}) == len(others) + 1


async def test_a_machine_that_does_not_say_gets_a_little_of_everything() -> None:
    plan = await plan_of(SERVER, {"token": "x"})
    needs = nodes_of(plan)["server"]
    assert (needs.count, needs.needs["instances"]) == (1, 1)
    assert (needs.needs["cpu_milli"], needs.needs["memory_mib"]) == (DEFAULT_CPU_MILLI, DEFAULT_MEMORY_MIB)
    assert policy_of(plan).provider == ""


async def test_a_large_template_is_planned_too() -> None:
    plan = await plan_of(SERVER + "#" * 20_000, {"token": "x"})
    assert [node.name for node in plan.nodes] == ["server"]
    with pytest.raises(Invalid, match=r"1 problem$"):
        await plan_of(SERVER + "#" * 20_000, {})


def principal(*groups: str) -> Principal:
    return Principal("https://iam.example.org/", "ada", frozenset(groups), frozenset(), None, None, NOW)


def test_a_group_is_a_path_of_its_issuer_with_or_without_a_slash() -> None:
    for asked in ("cms", "/cms"):
        assert group_of(principal("cms", "atlas"), asked).path == "cms"
    assert group_of(principal("cms"), None).issuer == "https://iam.example.org/"


@pytest.mark.parametrize(
    ("groups", "asked"), [((), None), ((), "cms"), (("cms",), "atlas"), (("cms", "atlas"), None), (("cms",), "//cms")]
)
def test_no_group_but_ones_own_is_acted_for(groups: tuple[str, ...], asked: str | None) -> None:
    with pytest.raises(Forbidden):
        group_of(principal(*groups), asked)


async def test_a_lost_race_is_run_again_and_a_wrong_state_is_not() -> None:
    tried = []

    async def lose(error: Conflict, times: int) -> int:
        tried.append(error)
        if len(tried) <= times:
            raise error
        return len(tried)

    assert await rerun(lambda: lose(Conflict("x"), 2)) == 3
    tried.clear()
    with pytest.raises(Conflict, match="Please retry later") as caught:
        await rerun(lambda: lose(Conflict("x"), 99))
    assert (len(tried), caught.value.retry_after_s) == (TRIES, 1)
    tried.clear()
    with pytest.raises(WrongState):
        await rerun(lambda: lose(WrongState("x"), 99))
    assert len(tried) == 1


async def test_a_container_takes_no_address_and_a_bucket_nothing_but_itself() -> None:
    text = """
tosca_definitions_version: tosca_simple_yaml_1_3
imports: [indigo.yaml]
topology_template:
  node_templates:
    app:
      type: tosca.nodes.Container.Application.Docker
      requirements: [{host: runtime}]
      artifacts: {image: {file: "nginx:1.27.3", type: tosca.artifacts.Deployment.Image.Container.Docker}}
    runtime:
      type: tosca.nodes.Container.Runtime.Docker
      capabilities: {host: {properties: {num_cpus: 0.5, mem_size: 1 GiB, publish_ports: [{source: 80}]}}}
    store: {type: tosca.nodes.indigo.S3Bucket, properties: {bucket_name: b}}
"""
    needs = nodes_of(await plan_of(text, {}))
    assert (needs["app"].kind, needs["store"].kind) == ("container", "bucket")
    assert dict(needs["app"].needs) == {"instances": 1, "cpu_milli": 500, "memory_mib": 1024}
    assert dict(needs["store"].needs) == {"buckets": 1}
    assert (needs["app"].image.name, needs["app"].ports[0].port) == ("nginx:1.27.3", 80)
