"""What a running federation tells its operators: traces, metrics, health, logs."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
import pytest
import pytest_asyncio
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from prometheus_client.parser import text_string_to_metric_families

from indaco_common.testing.federation import SERVICES

from .worlds import GONE, Collector, MakeFederation, World, template

pytestmark = pytest.mark.asyncio(loop_scope="module")
SECRET = "a-secret-that-only-the-machine-may-know"
MESSAGE_LINES = {"message.handled", "message.postponed", "message.died", "message.ignored"}


@dataclass(frozen=True)
class Told:
    """A federation after one deployment came and went, and how it was asked for."""

    world: World
    collector: Collector
    deployment: str
    request_id: str


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def told(make_federation: MakeFederation, collector: Collector) -> AsyncIterator[Told]:
    federation = make_federation(
        INDACO_OTLP_ENDPOINT=f"http://127.0.0.1:{collector.port}", OTEL_BSP_SCHEDULE_DELAY="200"
    )
    world = World(federation)
    try:
        await federation.start()
        body = {"template": template("docker-compose"), "parameters": {"service_token": SECRET}, "userGroup": "cms"}
        headers = {"Authorization": f"Bearer {await federation.token('ada')}"}
        async with aiohttp.ClientSession(headers=headers) as http:
            async with http.post(f"{federation.url}/deployments", json=body) as answer:
                id, request_id = (await answer.json())["uuid"], answer.headers["X-Request-ID"]
            async with http.get(f"{federation.url}/deployments/no-such-thing") as answer:
                assert answer.status == 404
        async with world.client() as client:
            await client.wait(id, timeout_s=60)
            await client.delete(id)
            await client.wait(id, timeout_s=60, until=GONE)
        await asyncio.sleep(7)  # gauges are measured every 5 s
        yield Told(world, collector, id, request_id)
    finally:
        await federation.stop()


def attributes(span: Span) -> dict[str, str]:
    return {a.key: a.value.string_value or str(a.value.int_value) for a in span.attributes}


async def test_one_thread_leads_from_the_request_through_every_service(told: Told) -> None:
    spans = told.collector.spans()
    by_id = {span.span_id: span for span in spans}
    [request] = [span for span in spans if span.name == "POST /deployments"]
    assert request.kind == Span.SPAN_KIND_SERVER
    reached, reaches = {request.span_id}, True
    while reaches:
        more = {s.span_id for s in spans if reached & {s.parent_span_id, *(link.span_id for link in s.links)}} - reached
        reached, reaches = reached | more, bool(more)
    names = {by_id[span_id].name for span_id in reached}
    services = ("gateway", "sla", "orchestrator", "vault-broker")
    assert {f"process indaco.{service}" for service in services} <= names
    handled = [span for span in spans if span.name == "process indaco.orchestrator"]
    assert all(span.kind == Span.SPAN_KIND_CONSUMER for span in handled)
    assert told.deployment in {attributes(span).get("messaging.message.conversation_id") for span in handled}


async def test_spans_tell_routes_and_names_and_no_secret(told: Told) -> None:
    raw = b"".join(told.collector.requests)
    assert SECRET.encode() not in raw
    assert b"Bearer" not in raw
    routes = {attributes(span)["http.route"] for span in told.collector.spans() if "http.route" in attributes(span)}
    assert "/deployments/{id}" in routes
    assert not any(told.deployment in route for route in routes)


async def test_metrics_of_every_service_are_well_formed_and_count_what_happened(told: Told) -> None:
    for service in SERVICES:
        url = f"http://127.0.0.1:{told.world.federation.ports[service]}/metrics"
        async with aiohttp.ClientSession() as http, http.get(url) as answer:
            text = await answer.text()
        families = {family.name: family for family in text_string_to_metric_families(text)}
        handled = families["messaging_process_duration_seconds"].samples
        outcomes = {s.labels["outcome"] for s in handled if s.name.endswith("_count") and s.value}
        assert "done" in outcomes
        assert outcomes <= {"done", "later", "ignored"}
        assert {s.labels["service"] for s in handled} == {service}
        [age] = families["indaco_outbox_age_seconds"].samples
        assert age.value == 0
        assert {s.labels["state"]: s.value for s in families["indaco_queue_messages"].samples}["dead"] == 0
        if promtool := shutil.which("promtool"):
            check = await asyncio.create_subprocess_exec(
                promtool, "check", "metrics", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
            )
            out, _ = await check.communicate(text.encode())
            assert check.returncode == 0, out.decode()


async def test_no_identifier_is_a_label(told: Told) -> None:
    """A label with as many values as there are deployments would fill the operators' disk."""
    for service in SERVICES:
        url = f"http://127.0.0.1:{told.world.federation.ports[service]}/metrics"
        async with aiohttp.ClientSession() as http, http.get(url) as answer:
            assert told.deployment not in await answer.text()


async def test_every_service_says_that_it_lives_and_can_work(told: Told) -> None:
    for service in SERVICES:
        status, body = await told.world.get(service, "/livez")
        assert (status, body["status"]) == (200, "ok")
        assert body["event_loop_lag_s"] < 1
        status, body = await told.world.get(service, "/readyz")
        assert (status, body["status"]) == (200, "ok")
        needs_vault = service in {"gateway", "orchestrator", "vault-broker"}
        assert body["checks"].keys() == {"start", "tasks", "store", "bus"} | ({"vault"} if needs_vault else set())
        assert all(check == {"ok": True, "detail": "ok"} for check in body["checks"].values())


async def test_each_line_of_the_log_is_json_and_each_request_and_message_has_one(told: Told) -> None:
    strangers = [line for line in told.world.written() if not line.startswith(("{", "Indaco is ready", "  "))]
    assert strangers == []
    lines = told.world.log_lines()
    assert all({"event", "level", "timestamp"} <= line.keys() for line in lines)
    assert {line["level"] for line in lines} <= {"info", "warning"}
    mine = [
        line for line in lines if line.get("request_id") == told.request_id and line["event"] == "http.request_served"
    ]
    assert [(line["method"], line["route"], line["status"]) for line in mine] == [("POST", "/deployments", 201)]
    of_messages = [line for line in lines if line["event"] in MESSAGE_LINES]
    assert all({"service", "correlation_id", "message_id", "type", "subject"} <= line.keys() for line in of_messages)
    done = [(line["service"], line["message_id"]) for line in of_messages if line["event"] == "message.handled"]
    assert len(done) == len(set(done))
    published = {envelope.id for envelope in await told.world.story(told.deployment)}
    assert {id for _, id in done} & published
    assert SECRET not in "\n".join(told.world.written())


async def test_spans_that_wait_are_sent_before_the_process_ends(told: Told) -> None:
    async with told.world.client() as client:
        before = len([s for s in told.collector.spans() if s.name == "GET /v1/deployments/{id}"])
        await client.deployment(told.deployment)
    assert await told.world.federation.terminate("all") == 0
    assert len([s for s in told.collector.spans() if s.name == "GET /v1/deployments/{id}"]) > before
