"""The Docker driver without an engine: papers read and written, and faults that a real engine cannot be made to show."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web

from indaco_common.clock import ManualClock
from indaco_common.contracts.values import PortRule
from indaco_common.errors import CredentialRejected, IndacoError, NoCapacity, SpecRejected, Unavailable
from indaco_common.units import ResourceVector
from indaco_orchestrator.drivers import docker_container, docker_engine, docker_siblings
from indaco_orchestrator.drivers.docker import DockerDriver
from indaco_orchestrator.drivers.docker_engine import Engine, EngineOptions, refusal
from indaco_orchestrator.drivers.port import NodeKey, NodeSpec, Phase, ResourceId

NOW = datetime(2026, 1, 1, tzinfo=UTC)
KEY = NodeKey("0190f7c1", 2, "web-0")
SPEC = NodeSpec(needs=ResourceVector(cpu_milli=500, memory_mib=256), ssh_keys=("ssh-ed25519 A", "ssh-ed25519 B"))


def papers(status: str = "running", **state: Any) -> dict[str, Any]:
    restarts = state.pop("RestartCount", 0)
    return {
        "Id": "c0ffee",
        "Config": {"Labels": {"indaco.key": str(KEY)}, "Volumes": {"/run/engine": {}, "/usr/local/lib/indaco": {}}},
        "Mounts": [
            {"Type": "volume", "Name": "of-the-image", "Destination": "/usr/local/lib/indaco"},
            {"Type": "volume", "Name": "door", "Destination": "/run/engine"},
        ],
        "Created": "2026-01-01T00:00:00.123456789Z",
        "RestartCount": restarts,
        "State": {"Status": status, "StartedAt": "2026-01-01T00:00:01.5Z", "Error": "", "ExitCode": 0, **state},
        "NetworkSettings": {
            "Networks": {"bridge": {"IPAddress": "172.17.0.2"}},
            "Ports": {
                "22/tcp": [{"HostIp": "127.0.0.1", "HostPort": "49153"}],
                "53/tcp": [{"HostPort": "1"}],
                "53/udp": [{"HostPort": "2"}],
                "80/tcp": None,
            },
        },
    }


def test_a_name_depends_on_the_whole_key() -> None:
    names = {docker_container.container_name(NodeKey(d, a, n)) for d in "ab" for a in (1, 2) for n in ("x", "y")}
    assert len(names) == 8
    assert docker_container.container_name(KEY) == docker_container.container_name(NodeKey("0190f7c1", 2, "web-0"))
    assert len(docker_container.container_name(NodeKey("d", 1, "n" * 128))) <= 128


def test_a_node_becomes_a_container_with_limits_labels_and_its_users_keys() -> None:
    body = docker_container.container_body(KEY, replace(SPEC, user_data="echo hi", tags={"team": "x"}), "image:1")
    assert body["Image"] == "image:1"
    assert body["Env"] == ["SSH_USER=debian", "SSH_KEY=ssh-ed25519 A\nssh-ed25519 B", "USER_DATA=echo hi"]
    assert body["Labels"] == {
        "indaco.key": "0190f7c1.2.web-0",
        "indaco.kind": "",  # those below are set, so that no label of the image counts
        "indaco.machine": "",
        "indaco.machine-key": "",
        "indaco.deployment": "0190f7c1",
        "indaco.attempt": "2",
        "indaco.node": "web-0",
        "indaco.cpu-milli": "500",
        "indaco.memory-mib": "256",
        "indaco.tag.team": "x",
    }
    host = body["HostConfig"]
    assert (host["NanoCpus"], host["Memory"], host["MemorySwap"]) == (500_000_000, 268_435_456, 268_435_456)
    assert host["PortBindings"] == {"22/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}


def test_what_is_not_said_has_a_default() -> None:
    body = docker_container.container_body(KEY, NodeSpec(needs=ResourceVector()), "i")
    assert (body["HostConfig"]["NanoCpus"], body["HostConfig"]["Memory"]) == (1_000_000_000, 512 * 2**20)
    assert body["Env"] == ["SSH_USER=debian"]


def test_ports_are_published_once_each() -> None:
    rules = (
        PortRule(port=22),
        PortRule(port=80, port_end=81),
        PortRule(port=80),
        PortRule(port=53, protocol="udp"),
        PortRule(port=1, protocol="igmp"),
    )
    body = docker_container.container_body(KEY, replace(SPEC, ports=rules), "i")
    assert sorted(body["ExposedPorts"]) == ["22/tcp", "53/udp", "80/tcp", "81/tcp"]


@pytest.mark.parametrize(
    "change",
    [
        {"user": "root; rm"},
        {"user": ""},
        {"user": "debian\n"},
        {"user_data": "#!/bin/sh\n\0"},
        {"ssh_keys": ("ssh-ed25519 A\0",)},
        {"command": ("sh", "-c", "\0")},
        {"user_data": "x" * 70_000},
        {"ports": (PortRule(port=1, port_end=65_535),)},
        {"ports": tuple(PortRule(port=port) for port in range(100, 200))},
    ],
)
def test_what_a_container_cannot_be_is_rejected(change: dict[str, Any]) -> None:
    with pytest.raises(SpecRejected):
        docker_container.container_body(KEY, replace(SPEC, **change), "i")


@pytest.mark.parametrize("needs", [{"gpus": 1}, {"volumes": 1, "volume_gib": 10}, {"buckets": 1}])
def test_what_an_engine_does_not_have_is_no_capacity(needs: dict[str, int]) -> None:
    with pytest.raises(NoCapacity):
        docker_container.container_body(KEY, replace(SPEC, needs=ResourceVector(needs)), "i")


@pytest.mark.parametrize(
    ("shown", "is_answering", "phase", "reason"),
    [
        (papers("created"), False, Phase.CREATING, ""),
        (papers("running"), False, Phase.CREATING, ""),
        (papers("running"), True, Phase.RUNNING, ""),
        (papers("restarting"), False, Phase.CREATING, ""),
        (papers("restarting", RestartCount=2, FinishedAt="2026-01-01T00:00:02Z"), False, Phase.CREATING, ""),
        (papers("restarting", RestartCount=9, FinishedAt="2026-01-01T09:00:02Z"), False, Phase.CREATING, ""),
        (papers("running", RestartCount=9, FinishedAt="2026-01-01T00:00:00Z"), True, Phase.RUNNING, ""),
        (
            papers("restarting", RestartCount=3, ExitCode=3, FinishedAt="2026-01-01T00:00:02Z"),
            False,
            Phase.FAILED,
            "ended with status 3",
        ),
        (papers("exited", ExitCode=137), False, Phase.STOPPED, "exited in the engine"),
        (papers("exited", Error="no such device"), False, Phase.FAILED, "no such device"),
        (papers("created", Error="port is taken"), False, Phase.FAILED, "port is taken"),
        (
            papers("created", Error='container init: environment variable value: "DB_PASSWORD=hunter2"'),
            False,
            Phase.FAILED,
            "container init: … (a variable, whose text is not shown)",
        ),
        (papers("paused"), False, Phase.STOPPED, "paused in the engine"),
        (papers("removing"), False, Phase.STOPPED, "being removed"),
        (papers("dead", ExitCode=1), False, Phase.FAILED, "ended with status 1"),
    ],
)
def test_a_containers_papers_are_read(shown: dict[str, Any], *, is_answering: bool, phase: Phase, reason: str) -> None:
    state = docker_container.state_of(shown, is_answering=is_answering)
    assert (state.phase, state.reason) == (phase, reason)
    assert state.ports == {22: 49153, 53: 1}
    assert state.private_addresses == ("172.17.0.2",)
    assert state.started_at == datetime(2026, 1, 1, 0, 0, 1, 500_000, tzinfo=UTC)


def test_time_stamps_of_the_engine_are_read() -> None:
    assert docker_container.moment("0001-01-01T00:00:00Z") is None
    assert docker_container.moment("") is None
    assert docker_container.moment("2026-01-01T00:00:00.123456789Z") == datetime(
        2026, 1, 1, 0, 0, 0, 123_456, tzinfo=UTC
    )
    assert docker_container.moment("2026-01-01T02:00:00.1+02:00") == datetime(2026, 1, 1, 0, 0, 0, 100_000, tzinfo=UTC)


def test_the_last_words_are_taken_from_the_log() -> None:
    def frame(text: bytes) -> bytes:
        return b"\x02\0\0\0" + len(text).to_bytes(4) + text

    assert docker_container.last_line_of(frame(b"first\n") + frame(b"the ") + frame(b"end\n\n")) == "the end"
    assert docker_container.last_line_of(b"") == ""
    assert len(docker_container.last_line_of(frame(b"x" * 999))) == 200


@pytest.mark.parametrize(
    ("status", "message", "expected"),
    [
        (400, "invalid CPU", SpecRejected),
        (404, "No such image: a:1", SpecRejected),
        (404, "No such container: a", Unavailable),
        (403, "denied by plugin", CredentialRejected),
        (409, "container is marked for removal", Unavailable),
        (500, "write /var: no space left on device", NoCapacity),
        (500, 'OCI runtime create failed: exec: "x": executable file not found in $PATH', SpecRejected),
        (400, "OCI runtime create failed: cannot allocate memory", NoCapacity),
        (500, "driver failed: Bind for 127.0.0.1:80 failed: port is already allocated", NoCapacity),
        (500, "something else", Unavailable),
        (503, "", Unavailable),
    ],
)
def test_refusals_of_the_engine_are_instructions(status: int, message: str, expected: type[IndacoError]) -> None:
    assert type(refusal(status, message)) is expected


@pytest.mark.parametrize(
    ("status", "message", "shown"),
    [
        (
            500,
            'OCI runtime create failed: environment variable value can\'t contain null(\\x00): "DB_PASSWORD=hunter2\\x00 no space left": unknown',
            "Docker: OCI runtime create failed: …",
        ),
        (
            500,
            r"OCI runtime create failed: can't contain null(\x00): \"DB_PASSWORD=hunter2\x00\"",
            "can't contain null",
        ),
        (400, "invalid environment variable: =hunter2", "invalid"),
        (500, "container_linux.go: setenv: environment variable: DB_PASSWORD: 'hunter2'", "setenv"),
    ],
)
def test_no_value_of_a_variable_is_passed_on_from_the_engine(status: int, message: str, shown: str) -> None:
    error = refusal(status, message)
    assert type(error) is SpecRejected
    assert shown in error.detail
    assert "hunter2" not in error.detail


def test_a_quoted_value_alone_does_not_make_a_fault_of_the_engine_one_of_the_user() -> None:
    error = refusal(500, 'mount "size=10m": device is busy')
    assert type(error) is Unavailable
    assert "10m" not in error.detail


def test_a_mediator_has_the_door_of_its_machine_and_nothing_else_of_it() -> None:
    body = docker_siblings.mediator_body(papers(), "the-sites-own:1", "/var/run/docker.sock")
    host = body["HostConfig"]
    assert body["Image"] == "the-sites-own:1"
    assert "VolumesFrom" not in host
    assert host["Binds"] == ["/var/run/docker.sock:/run/docker.sock"]
    assert [(m["Type"], m["Source"], m["Target"]) for m in host["Mounts"]] == [("volume", "door", "/run/engine")]
    assert body["Labels"]["indaco.machine-key"] == str(KEY)


def test_a_machine_whose_door_is_no_volume_has_no_mediator() -> None:
    bound = papers() | {"Mounts": [{"Type": "bind", "Source": "/etc", "Destination": "/run/engine"}]}
    with pytest.raises(SpecRejected, match="no volume at /run/engine"):
        docker_siblings.mediator_body(bound, "i", "/s")


def test_a_missing_image_says_how_to_get_it() -> None:
    assert "deploy/docker/vm-image.sh" in str(refusal(404, "No such image: indaco/vm:12"))


class OddEngine:
    """An HTTP server that plays an engine as far as a test needs; *answers* maps "METHOD path" to what it does."""

    def __init__(self) -> None:
        self.answers: dict[str, Callable[[], Any]] = {
            "GET /info": lambda: {"NCPU": 2, "MemTotal": 4 * 2**30},
            "GET /containers/json": list,
        }
        self.asked: list[str] = []

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/_ping":
            return web.Response(headers={"Api-Version": "1.41"})
        assert request.path.startswith("/v1.41/")
        name = f"{request.method} {request.path.removeprefix('/v1.41')}"
        self.asked.append(name)
        answer = self.answers[name]()
        if isinstance(answer, Awaitable):
            answer = await answer
        return answer if isinstance(answer, web.StreamResponse) else web.json_response(answer)


@pytest.fixture
async def engine() -> AsyncIterator[tuple[OddEngine, DockerDriver]]:
    odd = OddEngine()
    runner = web.ServerRunner(web.Server(odd.handle), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    driver = DockerDriver(Engine(f"tcp://127.0.0.1:{port}"), EngineOptions(), clock=ManualClock(NOW))
    yield odd, driver
    await driver.close()
    await runner.cleanup()


def failing(status: int, message: str) -> Callable[[], web.Response]:
    return lambda: web.json_response({"message": message}, status=status)


async def test_an_engine_that_does_not_answer_is_unavailable(
    engine: tuple[OddEngine, DockerDriver], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker_engine, "_DEADLINE_S", 0.1)
    odd, driver = engine
    odd.answers["GET /containers/json"] = lambda: asyncio.sleep(5)
    with pytest.raises(Unavailable, match="did not answer"):
        await driver.find(KEY, {})


async def test_an_engine_that_speaks_nonsense_is_unavailable(engine: tuple[OddEngine, DockerDriver]) -> None:
    odd, driver = engine
    odd.answers["GET /containers/json"] = lambda: web.Response(text="<html>")
    with pytest.raises(Unavailable):
        await driver.find(KEY, {})


async def test_an_engine_that_breaks_off_is_unavailable(engine: tuple[OddEngine, DockerDriver]) -> None:
    odd, driver = engine

    def break_off() -> web.Response:
        answer = web.Response(body=b"[", headers={"Content-Length": "100"})
        answer.force_close()
        return answer

    odd.answers["GET /containers/json"] = break_off
    with pytest.raises(Unavailable):
        await driver.find(KEY, {})


async def test_what_is_no_engine_is_unavailable() -> None:
    async def answer(_: web.BaseRequest) -> web.Response:
        return web.Response(text="hello")

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    driver = DockerDriver(Engine(f"tcp://127.0.0.1:{runner.addresses[0][1]}"), EngineOptions())
    with pytest.raises(Unavailable, match="no Docker Engine"):
        await driver.capacity({})
    await driver.close()
    await runner.cleanup()


async def test_a_container_that_cannot_be_started_is_removed_and_the_reason_is_kept(
    engine: tuple[OddEngine, DockerDriver],
) -> None:
    odd, driver = engine
    odd.answers |= {
        "POST /containers/create": lambda: web.json_response({"Id": "c0ffee"}, status=201),
        "POST /containers/c0ffee/start": failing(500, "no space left on device"),
        "DELETE /containers/c0ffee": failing(500, "busy"),
    }
    with pytest.raises(NoCapacity, match="no space"):
        await driver.create(KEY, SPEC, {})
    assert odd.asked[-1] == "DELETE /containers/c0ffee"


@pytest.mark.parametrize(
    ("status", "message", "expected"),
    [(500, "all ports are allocated", NoCapacity), (500, "the daemon is shutting down", Unavailable)],
)
async def test_a_container_that_cannot_be_started_again_stays(
    engine: tuple[OddEngine, DockerDriver], status: int, message: str, expected: type[IndacoError]
) -> None:
    odd, driver = engine
    odd.answers |= {"POST /containers/c0ffee/start": failing(status, message)}
    with pytest.raises(expected):
        await driver.start(ResourceId("c0ffee"), {})
    assert not [asked for asked in odd.asked if asked.startswith("DELETE")]


async def test_the_loser_of_a_race_takes_the_winners_container(engine: tuple[OddEngine, DockerDriver]) -> None:
    odd, driver = engine
    listed: list[dict[str, Any]] = []

    def list_later() -> list[dict[str, Any]]:
        if odd.asked.count("GET /containers/json") > 4:
            listed.append({"Id": "winner", "State": "running", "Labels": {}})
        return listed

    odd.answers |= {
        "GET /containers/json": list_later,
        "POST /containers/create": failing(409, "name is already in use"),
    }
    assert await driver.create(KEY, SPEC, {}) == "winner"


async def test_a_container_that_the_engine_gives_up_is_made_again(engine: tuple[OddEngine, DockerDriver]) -> None:
    odd, driver = engine
    odd.answers |= {
        "GET /containers/json": lambda: (
            [{"Id": "doomed", "State": "created", "Labels": {}}] if odd.asked.count("GET /containers/json") == 1 else []
        ),
        "POST /containers/doomed/start": failing(404, "No such container: doomed"),
        "POST /containers/create": lambda: web.json_response({"Id": "c0ffee"}, status=201),
        "POST /containers/c0ffee/start": lambda: web.Response(status=204),
    }
    assert await driver.create(KEY, SPEC, {}) == "c0ffee"


async def test_a_name_that_stays_taken_is_unavailable(
    engine: tuple[OddEngine, DockerDriver], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indaco_orchestrator.drivers.docker._TWIN_WAIT_S", 0.1)
    odd, driver = engine
    odd.answers["POST /containers/create"] = failing(409, "name is already in use")
    with pytest.raises(Unavailable, match="taken"):
        await driver.create(KEY, SPEC, {})


async def test_a_host_gives_cores_times_the_ratio_and_its_memory_once(engine: tuple[OddEngine, DockerDriver]) -> None:
    odd, driver = engine
    labels = {"indaco.cpu-milli": "1500", "indaco.memory-mib": "1024"}
    odd.answers["GET /containers/json"] = lambda: [{"Id": "a", "State": "exited", "Labels": labels}] * 2
    capacity = await driver.capacity({})
    assert capacity.limit == ResourceVector(instances=80, cpu_milli=8000, memory_mib=4096)
    assert capacity.used == ResourceVector(instances=2, cpu_milli=3000, memory_mib=2048)


@pytest.mark.parametrize("needs", [{"memory_mib": 4097}, {"cpu_milli": 2001}])
async def test_a_machine_larger_than_the_host_is_no_capacity(
    engine: tuple[OddEngine, DockerDriver], needs: dict[str, int]
) -> None:
    with pytest.raises(NoCapacity):
        await engine[1].create(KEY, replace(SPEC, needs=ResourceVector(needs)), {})


@pytest.mark.parametrize(("age_s", "is_started"), [(1, False), (60, True)])
async def test_only_a_forgotten_creation_is_finished_by_looking_at_it(
    engine: tuple[OddEngine, DockerDriver], age_s: int, *, is_started: bool
) -> None:
    odd, driver = engine
    driver._clock.advance(timedelta(seconds=age_s))  # type: ignore[attr-defined]
    odd.answers |= {
        "GET /containers/c0ffee/json": lambda: papers("created"),
        "POST /containers/c0ffee/start": lambda: web.Response(status=204),
    }
    assert (await driver.describe(ResourceId("c0ffee"), {})).phase is Phase.CREATING
    assert ("POST /containers/c0ffee/start" in odd.asked) is is_started


async def test_an_answer_without_end_is_not_read(
    engine: tuple[OddEngine, DockerDriver], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker_engine, "MAX_ANSWER_BYTES", 1000)
    odd, driver = engine
    odd.answers["GET /containers/json"] = lambda: web.Response(text=json.dumps(["x" * 2000]))
    with pytest.raises(Unavailable, match="too large"):
        await driver.find(KEY, {})


def sharing(driver: DockerDriver) -> DockerDriver:
    """Return another driver of the same engine, at a place that shares it."""
    return DockerDriver(driver._engine, EngineOptions(engine="shared"), clock=ManualClock(NOW))


@pytest.mark.parametrize(
    "found", [None, {}, {"Config": {"Labels": None}}, {"Config": {"Labels": {"dev.indaco.vm-image": ""}}}]
)
async def test_only_an_image_that_is_made_for_it_becomes_a_machine_with_a_mediator(
    engine: tuple[OddEngine, DockerDriver], found: dict[str, Any] | None
) -> None:
    odd, driver = engine
    odd.answers |= {"GET /images/own:1/json": (lambda: found) if found is not None else failing(404, "No such image")}
    with pytest.raises(SpecRejected, match=r"label dev\.indaco\.vm-image"):
        await sharing(driver).create(KEY, replace(SPEC, image="own:1"), {})
    assert "POST /containers/create" not in odd.asked


async def test_an_image_made_from_the_machine_image_becomes_a_machine_with_a_mediator(
    engine: tuple[OddEngine, DockerDriver],
) -> None:
    odd, driver = engine
    odd.answers |= {
        "GET /images/own:1/json": lambda: {"Config": {"Labels": {"dev.indaco.vm-image": "3"}}},
        "POST /containers/create": lambda: web.json_response({"Id": "c0ffee"}, status=201),
        "POST /containers/c0ffee/start": lambda: web.Response(status=204),
    }
    assert await sharing(driver).create(KEY, replace(SPEC, image="own:1"), {}) == "c0ffee"


async def test_a_volume_of_an_image_does_not_get_a_machine_a_mediator_where_the_engine_is_not_shared(
    engine: tuple[OddEngine, DockerDriver],
) -> None:
    odd, driver = engine
    assert await driver._is_mediated(papers())
    assert odd.asked == []


async def test_a_mediator_of_before_the_machines_new_start_does_not_count(
    engine: tuple[OddEngine, DockerDriver],
) -> None:
    odd, driver = engine[0], sharing(engine[1])
    name = docker_siblings.mediator_name(ResourceId("c0ffee"))
    odd.answers |= {
        "POST /containers/create": failing(409, "name is already in use"),
        f"GET /containers/{name}/json": papers,
        f"POST /containers/{name}/start": lambda: web.Response(status=204),
        f"POST /containers/{name}/restart": failing(409, "the machine has just ended"),
    }
    assert await driver._is_mediated(papers())
    assert not await driver._is_mediated(papers(StartedAt="2026-01-01T09:00:00Z"))
    assert odd.asked[-1] == f"POST /containers/{name}/restart"


def left(name: str = "web") -> dict[str, Any]:
    """Return what the engine lists of a container that a machine had made."""
    return {"Id": name, "State": "running", "Labels": {"indaco.machine": "c0ffee", "indaco.machine-key": str(KEY)}}


async def test_a_machine_stays_until_all_that_it_had_made_is_known_to_be_gone(
    engine: tuple[OddEngine, DockerDriver],
) -> None:
    odd, driver = engine

    def list_once() -> Any:
        return [left()] if odd.asked.count("GET /containers/json") == 1 else failing(500, "busy")()

    odd.answers |= {
        "GET /containers/json": list_once,
        "GET /volumes": lambda: {"Volumes": None},
        "DELETE /containers/web": lambda: web.Response(status=204),
    }
    with pytest.raises(Unavailable):
        await driver.delete(ResourceId("c0ffee"), {})
    assert "DELETE /containers/web" in odd.asked
    assert "DELETE /containers/c0ffee" not in odd.asked


@pytest.mark.parametrize("look", ["find", "describe", "delete"])
async def test_whoever_looks_for_a_machine_that_is_gone_removes_what_it_left(
    engine: tuple[OddEngine, DockerDriver], look: str
) -> None:
    odd, driver = engine[0], sharing(engine[1])
    kept = [left()]
    volume = {"Name": "kept", "Labels": left()["Labels"]}

    def removed() -> web.Response:
        kept.clear()
        return web.Response(status=204)

    odd.answers |= {
        "GET /containers/json": lambda: kept,
        "GET /volumes": lambda: {"Volumes": [volume]},
        "GET /containers/c0ffee/json": failing(404, "No such container: c0ffee"),
        "DELETE /containers/c0ffee": failing(404, "No such container: c0ffee"),
        "DELETE /containers/web": removed,
        "DELETE /volumes/kept": lambda: web.Response(status=204),
    }
    if look == "find":
        assert await driver.find(KEY, {}) is None
    else:
        await getattr(driver, look)(ResourceId("c0ffee"), {})
    assert {"DELETE /containers/web", "DELETE /volumes/kept"} <= set(odd.asked)


async def test_what_a_machine_has_stays_as_long_as_the_machine_is_there(
    engine: tuple[OddEngine, DockerDriver],
) -> None:
    odd, driver = engine[0], sharing(engine[1])
    odd.answers |= {
        "GET /containers/json": lambda: [left()],  # the engine does not list the machine now, but it has it
        "GET /volumes": lambda: {"Volumes": None},
        "GET /containers/c0ffee/json": papers,
    }
    assert await driver.find(KEY, {}) is None
    assert not [asked for asked in odd.asked if asked.startswith("DELETE")]
