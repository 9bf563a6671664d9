"""The HTTP building blocks, spoken to over a real socket."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import structlog
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry, Counter
from pydantic import BaseModel, Field

from indaco_common import telemetry
from indaco_common.errors import Conflict, FieldError, Forbidden, Invalid, QuotaExceeded, Unauthenticated, Unavailable
from indaco_common.web import Face, Health, Served, base_url, create_app, json_response, load_json, read_json

Client = TestClient[web.Request, web.Application]


class Node(BaseModel):
    name: str
    cpus: int = Field(gt=0)


class Ask(BaseModel):
    template: str
    nodes: list[Node] = []
    size: int | str | None = None


async def take(request: web.Request) -> web.Response:
    return json_response(await read_json(request, Ask), status=201)


async def fail(request: web.Request) -> web.Response:
    errors: dict[str, Exception] = {
        "bug": RuntimeError("password=hunter2"),
        "quota": QuotaExceeded(resource="vcpu", asked=16, free=4),
        "fields": Invalid("2 fields are wrong", errors=[FieldError("/a/b", "too long"), FieldError("", "odd")]),
        "busy": Unavailable("The store does not answer", retry_after_s=1.2),
        "conflict": Conflict("Please retry later", retry_after_s=0),
        "token": Unauthenticated('The token is "expired"'),
        "teapot": web.HTTPConflict(text="one at a time"),
        "moved": web.HTTPFound("/v1/elsewhere"),
        "gone": web.HTTPGone(),
    }
    raise errors[request.match_info["what"]]


async def base(request: web.Request) -> web.Response:
    return web.Response(text=base_url(request))


async def stream(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Cache-Control": "no-cache"})
    await response.prepare(request)
    await response.write(b"data: 1\n\n")
    return response


def face(request: web.Request) -> Face:
    return "native" if request.path.startswith("/v1") else "indigo"


@pytest.fixture
def served() -> list[Served]:
    return []


@pytest.fixture
def health() -> Health:
    registry = CollectorRegistry()
    Counter("indaco_things", "Things.", registry=registry).inc(3)
    return Health(registry)


@pytest.fixture
async def client(health: Health, served: list[Served]) -> AsyncIterator[Client]:
    routes = [
        web.post("/deployments", take),
        web.post("/v1/deployments", take),
        web.get("/fail/{what}", fail, name="fail"),
        web.get("/v1/fail/{what}", fail),
        web.get("/base", base),
        web.get("/stream", stream),
    ]
    app = create_app("gateway", routes=routes, health=health, face=face, max_body=2000, on_served=served.append)
    async with TestClient(TestServer(app)) as found:
        yield found


async def send(client: Client, body: bytes | str, **headers: str) -> tuple[int, dict[str, Any]]:
    async with client.post(
        "/v1/deployments", data=body, headers={"Content-Type": "application/json", **headers}
    ) as got:
        return got.status, await got.json(content_type=None)


async def test_an_error_under_the_native_api_is_a_problem(client: Client) -> None:
    async with client.get("/v1/fail/quota") as answer:
        assert answer.status == 403
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert await answer.json(content_type=None) == {
            "type": "https://indaco.dev/problems/quota-exceeded",
            "title": "Quota exceeded",
            "status": 403,
            "detail": "vcpu: 16 asked, 4 free",
            "instance": "/v1/fail/quota",
            "code": "quota-exceeded",
            "request_id": answer.headers["X-Request-ID"],
            "resource": "vcpu",
            "asked": 16,
            "free": 4,
        }


async def test_an_error_under_the_compatible_api_is_indigos_object_and_more(client: Client) -> None:
    async with client.get("/fail/fields") as answer:
        assert answer.headers["Content-Type"] == "application/json;charset=UTF-8"
        assert await answer.json() == {
            "code": 400,
            "title": "Bad Request",
            "message": "2 fields are wrong; a.b: too long; body: odd",
            "errors": [{"pointer": "/a/b", "detail": "too long"}, {"pointer": "", "detail": "odd"}],
            "requestId": answer.headers["X-Request-ID"],
        }


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("GET", "/nowhere", 404, "No handler found for GET /nowhere"),
        ("DELETE", "/deployments", 405, "Method DELETE is not supported for /deployments; use one of: POST"),
        ("GET", "/fail/teapot", 409, "one at a time"),
        ("GET", "/fail/gone", 410, "Gone"),
    ],
)
async def test_what_the_server_refuses_by_itself_has_a_body_too(
    client: Client, method: str, path: str, status: int, message: str
) -> None:
    async with client.request(method, path) as answer:
        body = await answer.json()
        assert (answer.status, body["code"], body["message"]) == (status, status, message)
        assert answer.headers["X-Request-ID"].startswith("req-")


async def test_wrong_method_names_the_right_ones(client: Client) -> None:
    async with client.put("/v1/deployments") as answer:
        assert answer.headers["Allow"] == "POST"
        assert (await answer.json(content_type=None))["code"] == "method-not-allowed"


async def test_a_bug_is_a_500_that_tells_nothing_but_its_id(client: Client) -> None:
    async with client.get("/v1/fail/bug") as answer:
        text = await answer.text()
        assert answer.status == 500
        assert "hunter2" not in text
        assert answer.headers["X-Request-ID"] in text


async def test_redirects_pass_through(client: Client) -> None:
    async with client.get("/v1/fail/moved", allow_redirects=False) as answer:
        assert (answer.status, answer.headers["Location"]) == (302, "/v1/elsewhere")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(("what", "seconds"), [("busy", "2"), ("conflict", "0")])
async def test_retry_after_is_whole_seconds_rounded_up(client: Client, what: str, seconds: str) -> None:
    async with client.get(f"/v1/fail/{what}") as answer:
        assert answer.headers["Retry-After"] == seconds


async def test_a_401_says_how_to_authenticate_and_quotes_nothing_dangerous(client: Client) -> None:
    async with client.get("/v1/fail/token") as answer:
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="indaco"'
    async with client.get("/v1/fail/token", headers={"Authorization": "Bearer x"}) as answer:
        expected = 'Bearer realm="indaco", error="invalid_token", error_description="The token is \'expired\'"'
        assert answer.headers["WWW-Authenticate"] == expected


async def test_safe_headers_are_on_every_answer_and_on_streams(client: Client) -> None:
    for path in ("/stream", "/nowhere", "/livez"):
        async with client.get(path) as answer:
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["X-Frame-Options"] == "DENY"
            assert answer.headers["X-Request-ID"]
            assert answer.headers["Server"] == "indaco"
    async with client.get("/stream") as answer:
        assert answer.headers["Cache-Control"] == "no-cache"


async def test_a_trailing_slash_is_the_same_place_without_a_redirect(client: Client) -> None:
    body = json.dumps({"template": "t"})
    async with client.post("/deployments/", data=body, headers={"Content-Type": "application/json"}) as answer:
        assert (answer.status, await answer.json()) == (201, {"template": "t", "nodes": []})
    async with client.get("/fail/gone/", allow_redirects=False) as answer:
        assert answer.status == 410
    async with client.delete("/deployments/") as answer:
        assert (answer.status, answer.headers["Allow"]) == (405, "POST")


async def test_the_callers_request_id_is_kept_under_the_native_api_only(client: Client) -> None:
    given = {"X-Request-ID": "from-the-caller.1"}
    async with client.get("/v1/nowhere", headers=given) as answer:
        assert answer.headers["X-Request-ID"] == "from-the-caller.1"
    async with client.get("/nowhere", headers=given) as answer:
        assert answer.headers["X-Request-ID"] != "from-the-caller.1"
    async with client.get("/v1/nowhere", headers={"X-Request-ID": "x" * 65}) as answer:
        assert answer.headers["X-Request-ID"].startswith("req-")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "empty"),
        (b'{"template": "a", "template": "b"}', "'template' occurs twice"),
        (b'{"template": "a", "nodes": NaN}', "NaN is not a JSON number"),
        (b'{"template": -Infinity}', "-Infinity is not"),
        (b'{"template": 1e400}', "out of range"),
        (b'{"template": ' + b"[" * 70 + b"]" * 70 + b"}", "deeper than 64"),
        (b"[" * 1900, "deeper than 64"),
        (b'{"template": "\xff"}', "not UTF-8: wrong byte at offset 14"),
        (b'{"template": "a"\n "x"}', "line 2, column 2"),
        (b"\xef\xbb\xbf{}", "BOM"),
        (b'{"template": ' + b"9" * 1500 + b"}", "1 field(s)"),
        (b'{"template": "\\ud800"}', "1 field(s)"),
        (b'"text"', "1 field(s)"),
    ],
)
async def test_a_body_that_is_not_strict_json_is_refused_with_the_reason(
    client: Client, body: bytes, words: str
) -> None:
    status, answer = await send(client, body)
    assert (status, answer["code"]) == (400, "invalid")
    assert words in answer["detail"]


async def test_wrong_fields_are_named_by_json_pointers(client: Client) -> None:
    wrong = {"nodes": [{"name": "a", "cpus": 1}, {"name": 7, "cpus": 0}], "size": {"a/b": 1}}
    status, answer = await send(client, json.dumps(wrong))
    found = {each["pointer"]: each["detail"] for each in answer["errors"]}
    assert status == 400
    assert set(found) == {"/template", "/nodes/1/name", "/nodes/1/cpus", "/size"}
    assert found["/template"] == "Field required"


async def test_an_error_never_echoes_more_than_a_hundred_characters(client: Client) -> None:
    long = "k" * 600
    _, answer = await send(client, json.dumps({long: 1})[:-1] + f', "{long}": 2}}')
    assert "k" * 101 not in json.dumps(answer)
    async with client.get("/" + long) as missing:
        assert "k" * 101 not in (await missing.json())["message"]


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-16"]
)
async def test_another_media_type_is_a_415(client: Client, kind: str) -> None:
    status, answer = await send(client, "{}", **{"Content-Type": kind})
    assert (status, answer["code"]) == (415, "unsupported-media-type")


async def test_a_body_over_the_limit_is_a_413(client: Client) -> None:
    status, answer = await send(client, b" " * 2001)
    assert (status, answer["code"], answer["detail"]) == (
        413,
        "payload-too-large",
        "The body is larger than 2000 bytes",
    )


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "gzip, gzip"])
async def test_a_compressed_body_is_a_415(client: Client, coding: str) -> None:
    status, answer = await send(client, b"{}", **{"Content-Type": "application/json", "Content-Encoding": coding})
    assert (status, answer["code"]) == (415, "unsupported-media-type")
    assert "uncompressed" in answer["detail"]


@pytest.mark.parametrize("begin", ["Content-Length: 1000\r\n\r\n{", "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"])
@pytest.mark.parametrize("end", ["", "ZZ\r\n"])
async def test_a_body_that_breaks_off_is_no_failure_of_ours(
    client: Client, served: list[Served], begin: str, end: str
) -> None:
    head = "POST /v1/deployments HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    with structlog.testing.capture_logs() as lines:
        _, writer = await asyncio.open_connection(client.host, client.port)
        writer.write((head + begin).encode())
        await asyncio.sleep(0.1)  # the handler waits for the rest
        writer.write(end.encode())
        await asyncio.sleep(0.1)
        writer.close()
        async with asyncio.timeout(5):
            while not served:
                await asyncio.sleep(0.01)
    assert [each.status for each in served] in ([400], [499])
    assert not [line for line in lines if line["event"] == "http.request_failed"]


async def test_a_body_that_says_it_is_not_compressed_is_read(client: Client) -> None:
    status, _ = await send(client, b"{}", **{"Content-Type": "application/json", "Content-Encoding": "identity"})
    assert status != 415


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Host": "paas.example.org:8080"}, "http://paas.example.org:8080"),
        ({"Host": "a.example", "X-Forwarded-Proto": "https"}, "https://a.example"),
        (
            {
                "X-Forwarded-Proto": "https, http",
                "X-Forwarded-Host": "paas.example.org, inner",
                "X-Forwarded-Port": "443",
                "X-Forwarded-Prefix": "/orchestrator/",
            },
            "https://paas.example.org/orchestrator",
        ),
        ({"X-Forwarded-Host": "[2001:db8::1]:8443"}, "http://[2001:db8::1]:8443"),
        ({"Host": "a.example", "X-Forwarded-Host": 'evil"><script>'}, "http://a.example"),
        ({"Host": "a.example", "X-Forwarded-Prefix": "//evil.example"}, "http://a.example"),
        ({"Host": "a.example", "X-Forwarded-Proto": "javascript"}, "http://a.example"),
    ],
)
async def test_links_begin_with_the_address_the_client_sees(
    client: Client, headers: dict[str, str], expected: str
) -> None:
    async with client.get("/base", headers=headers) as answer:
        assert await answer.text() == expected


async def test_each_request_is_one_log_line_without_its_query(client: Client, served: list[Served]) -> None:
    with structlog.testing.capture_logs() as lines:
        async with client.get("/v1/fail/quota/?access_token=xyzzy") as answer:
            await answer.read()
    line = next(each for each in lines if each["event"] == "http.request_served")
    assert (line["method"], line["route"], line["status"]) == ("GET", "/v1/fail/{what}", 403)
    assert line["request_id"] == answer.headers["X-Request-ID"]
    assert line["duration_ms"] >= 0
    assert "xyzzy" not in str(lines)
    assert [(each.route, each.status) for each in served] == [("/v1/fail/{what}", 403)]


def test_half_a_surrogate_pair_is_answered_as_it_was_asked() -> None:
    answer = json_response({"name": "\ud800", "é": 1})
    assert answer.text is not None
    assert json.loads(answer.text) == {"name": "\ud800", "é": 1}
    assert (answer.content_type, answer.charset) == ("application/json", "utf-8")


async def test_each_request_is_a_server_span_in_the_callers_trace(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(telemetry, "tracer", provider.get_tracer)
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    async with client.get("/v1/fail/bug", headers={"traceparent": f"00-{trace_id}-00f067aa0ba902b7-01"}):
        pass
    (span,) = exporter.get_finished_spans()
    assert span.name == "GET /v1/fail/{what}"
    assert span.context is not None
    assert f"{span.context.trace_id:032x}" == trace_id
    assert span.attributes is not None
    assert span.attributes["http.response.status_code"] == 500
    assert span.events == ()
    provider.shutdown()


async def test_live_and_ready_when_every_check_passes(client: Client, health: Health) -> None:
    async def bus() -> str:
        return "3 queues"

    health.add("bus", bus)
    async with client.get("/readyz") as answer:
        assert answer.status == 200
        assert await answer.json() == {"status": "ok", "checks": {"bus": {"ok": True, "detail": "3 queues"}}}
    async with client.get("/livez") as answer:
        assert answer.status == 200
        assert (await answer.json())["event_loop_lag_s"] < 1


async def test_not_ready_when_a_check_fails_hangs_or_the_service_drains(client: Client) -> None:
    health = Health(check_timeout_s=0.05)

    async def store() -> None:
        raise Unavailable("The store does not answer")

    async def vault() -> None:
        raise RuntimeError("http://user:secret@vault")

    async def bus() -> None:
        await asyncio.sleep(5)

    for name, check in (("store", store), ("vault", vault), ("bus", bus)):
        health.add(name, check)
    readiness = await health.readiness()
    assert readiness.status == "failing"
    assert not readiness.is_ready
    assert {name: each.detail for name, each in readiness.checks.items()} == {
        "store": "The store does not answer",
        "vault": "RuntimeError",
        "bus": "no answer within 0.05 s",
    }
    idle = Health()
    assert (await idle.readiness()).is_ready
    idle.drain()
    assert (await idle.readiness()).status == "draining"


async def test_a_flood_of_probes_is_one_check_a_second(health: Health) -> None:
    calls = []

    async def check() -> None:
        calls.append(1)

    health.add("bus", check)
    await asyncio.gather(*(health.readiness() for _ in range(50)))
    assert len(calls) == 1


async def test_metrics_are_those_of_the_given_registry(client: Client) -> None:
    async with client.get("/metrics") as answer:
        assert "indaco_things_total 3.0" in await answer.text()


async def test_a_scope_that_is_missing_is_named_in_the_challenge() -> None:
    class Scopeless(Forbidden):
        code = "insufficient-scope"

    async def handler(_request: web.Request) -> web.Response:
        raise Scopeless("Insufficient scope", extra={"scope": "offline_access"})

    app = create_app("gateway", routes=[web.get("/", handler)], health=Health())
    async with TestClient(TestServer(app)) as client, client.get("/") as answer:
        expected = 'Bearer realm="indaco", error="insufficient_scope", scope="offline_access"'
        assert answer.headers["WWW-Authenticate"] == expected


async def test_a_client_that_goes_away_is_noted(served: list[Served]) -> None:
    started = asyncio.Event()

    async def slow(_request: web.Request) -> web.Response:
        started.set()
        await asyncio.sleep(30)
        return web.Response()

    app = create_app("gateway", routes=[web.get("/slow", slow)], health=Health(), on_served=served.append)
    async with TestClient(TestServer(app)) as client:
        call = asyncio.create_task(client.get("/slow"))
        await started.wait()
        call.cancel()
        async with asyncio.timeout(5):
            while not served:
                await asyncio.sleep(0.01)
    assert (served[0].route, served[0].status) == ("/slow", 499)


@pytest.mark.parametrize("depth", [64, 65])
async def test_sixty_four_levels_are_enough(depth: int) -> None:
    body = "[" * depth + "1" + "]" * depth + " " * 10
    if depth == 64:
        assert load_json(body)
    else:
        with pytest.raises(Invalid, match="deeper than 64"):
            load_json(body)
