"""What INDIGO's clients send, as files, and what they need of the answers: sent to a gateway byte for byte, and looked at.

The recordings are our own, made from what the clients do (``tests/contracts/indigo``). ``needs`` names keys: ``content[].uuid`` is one of
every element, ``*`` of every member, ``x?`` may be left out but not be null. ``inner`` are texts that hold JSON of their own.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from yarl import URL

from indaco_common.clock import SystemClock
from indaco_common.contracts import orchestrator
from indaco_common.ids import DeploymentId

from .world import ROOT, VM, Answer, World, node, running_event

FILES = sorted((ROOT / "tests" / "contracts" / "indigo").glob("*.json"))
LARGER, LARGE = (VM.replace("count: 1", f"count: {count}") for count in (2, 12))
TYPES: dict[str, Any] = {"string": str, "integer": int, "object": dict, "array": list, "boolean": bool}
DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d\+0000")


def recorded() -> Iterator[Any]:
    for file in FILES:
        recording = json.loads(file.read_text())
        for exchange in recording["exchanges"]:
            yield pytest.param(recording["headers"], exchange, id=f"{recording['client']}: {exchange['name']}")


async def given(world: World, what: str) -> dict[str, str]:
    """Bring about what a recording begins with; return the names that it uses."""
    names = {
        "template": LARGE if what == "large" else VM, "larger": LARGER, "issuer": world.issuer.url, "subject": "ada",
        "token": world.issuer.token("ada"), "bob": world.issuer.token("bob"), "operator": world.issuer.token("root"),
    }  # fmt: skip
    if what == "nothing":
        return names
    ids = [await world.created(names["template"]) for _ in range(12 if what == "many" else 1)]
    id = DeploymentId(ids[-1])
    if what != "created":
        machines = [f"server-{n}" for n in range(12 if what == "large" else 1)]
        started = [orchestrator.NodeStarted(**node(id, name), public_address="192.0.2.7") for name in machines]
        await world.say(*started, running_event(id, nodes=tuple(machines)))
    resources = (await world.get(f"/deployments/{id}/resources")).json["content"]
    if what in ("stopping", "stopped"):
        url = f"/deployments/{id}/resources/{resources[0]['uuid']}/actions"
        assert (await world.send("POST", url, json={"type": "stop"})).status == 202
    if what == "stopped":
        stopped_at = SystemClock().now()
        await world.say(orchestrator.NodeStopped(**node(id), run=1, number=1, stopped_at=stopped_at))
    if what in ("deleting", "deleted"):
        assert (await world.send("DELETE", f"/deployments/{id}")).status == 204
    if what == "deleted":
        await world.say(orchestrator.DeploymentDeleted(deployment_id=id))
    return {**names, "id": id, "rid": resources[0]["uuid"]}


def filled(value: Any, names: Mapping[str, str]) -> Any:
    """Return *value* with the names in braces replaced."""
    match value:
        case str():
            return re.sub(r"\{(\w+)\}", lambda found: names.get(found[1], found[0]), value)
        case list():
            return [filled(each, names) for each in value]
        case dict():
            return {key: filled(each, names) for key, each in value.items()}
        case _:
            return value


def found(value: Any, path: str) -> Iterator[Any]:
    """Yield everything at *path*; what is absent is KeyError, but for an optional member."""
    head, _, rest = path.partition(".")
    name, is_each = head.removesuffix("[]"), head.endswith("[]")
    if name == "*":
        inner: list[Any] = list(value.values())
    elif not name:
        inner = [value]
    elif name.endswith("?"):
        inner = [value[name[:-1]]] if name[:-1] in value else []
    else:
        inner = [value[name]]
    inner = [each for one in inner for each in one] if is_each else inner
    for each in inner:
        yield from found(each, rest) if rest else [each]


def check(body: Any, needs: Mapping[str, str]) -> None:
    for path, kind in needs.items():
        for value in found(body, path):
            match kind:
                case "date":
                    assert DATE.fullmatch(value), f"{path}: {value!r}"
                case "url":
                    assert URL(value).is_absolute(), f"{path}: {value!r}"
                case _:
                    assert type(value) is TYPES[kind], f"{path}: {value!r} is no {kind}"


async def send(world: World, method: str, url: str, headers: Mapping[str, str], body: Any = None) -> Answer:
    data = None if body is None else json.dumps(body).encode()
    sent = {"Content-Type": "application/json", **headers} if data else headers
    async with world.http.request(
        method, URL(url, encoded=True), data=data, headers=sent, allow_redirects=False
    ) as answer:
        return Answer(answer.status, answer.headers, await answer.text())


async def walk(world: World, body: Any, headers: Mapping[str, str]) -> list[str]:
    """Follow ``next`` as the clients do, who stop where ``self`` is ``last``; return every id."""
    ids = [one["uuid"] for one in body["content"]]
    links = {link["rel"]: link["href"] for link in body["links"]}
    while "next" in links and "last" in links and links["self"] != links["last"]:
        body = (await send(world, "GET", links["next"], headers)).json
        ids += [one["uuid"] for one in body["content"]]
        links = {link["rel"]: link["href"] for link in body["links"]}
    return ids


@pytest.mark.parametrize(("headers", "exchange"), list(recorded()))
async def test_a_client_gets_what_it_needs(world: World, headers: dict[str, str], exchange: dict[str, Any]) -> None:
    names, wanted = await given(world, exchange["given"]), exchange["answer"]
    sent = filled({**headers, **exchange.get("headers", {})}, names)
    path, body = filled(exchange["path"], names), filled(exchange.get("body"), names)
    answer = await send(world, exchange["method"], world.url + path, sent, body)
    assert answer.status == wanted["status"], answer.text
    assert answer.headers["X-Request-ID"].startswith("req-")
    assert all(name in answer.headers for name in wanted.get("headers_sent", ()))
    if wanted.get("empty"):
        assert answer.text == ""
    if "text" in wanted:
        assert answer.text == filled(wanted["text"], names)
    assert wanted.get("contains", "") in answer.text
    if "needs" not in wanted:
        return
    assert answer.headers["Content-Type"].startswith("application/json") or exchange["path"].endswith("/extrainfo")
    check(answer.json, wanted["needs"])
    for at, needs in wanted.get("inner", {}).items():
        for text in found(answer.json, at):
            check(json.loads(text), needs)
    if "total" in wanted:
        assert answer.json["page"]["totalElements"] == wanted["total"]
    if "follow" in wanted:
        ids = await walk(world, answer.json, sent)
        assert len(ids) == len(set(ids)) == wanted["follow"]


def test_there_is_a_recording_of_each_client() -> None:
    assert [Path(file).stem for file in FILES] == ["dashboard", "orchent"]
