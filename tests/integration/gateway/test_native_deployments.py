"""/v1/deployments on a running gateway: create, list, describe, lock, share, delete, and read what belongs to one."""

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from indaco_common.contracts import orchestrator
from indaco_common.contracts.gateway import DeploymentDeletionRequested, DeploymentRequested
from indaco_common.ids import DeploymentId
from indaco_gateway import live

from .world import VM, Answer, World, node, running, running_event

PASSWORDS = ("hunter2-1234",)


async def new(world: World, user: str = "ada", key: str | None = None, **body: Any) -> Answer:
    headers = {} if key is None else {"Idempotency-Key": key}
    content = {"template": VM, "group": "cms", **body}
    return await world.send("POST", "/v1/deployments", user, headers=headers, json=content)


async def made(world: World, user: str = "ada", **body: Any) -> str:
    answer = await new(world, user, **body)
    assert answer.status == 201, answer.text
    return str(answer.json["id"])


def ids(answer: Answer) -> list[str]:
    assert answer.status == 200, answer.text
    return [each["id"] for each in answer.json["content"]]


def is_problem(answer: Answer, status: int, code: str) -> bool:
    assert answer.status == status, answer.text
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    return bool(answer.json["code"] == code)


async def test_a_deployment_is_created_shown_and_known_at_the_root_too(world: World) -> None:
    answer = await new(world, name=" My first ", tags={"experiment": "atlas", "empty": ""}, max_attempts=3)
    assert answer.status == 201, answer.text
    body = answer.json
    assert answer.headers["Location"] == f"{world.url}/v1/deployments/{body['id']}"
    assert (body["name"], body["tags"]) == ("My first", {"experiment": "atlas", "empty": ""})
    assert (body["status"], body["group"]) == ("CREATE_IN_PROGRESS", "cms")
    assert body["owner"] == {"issuer": world.issuer.url, "subject": "ada"}
    assert body["created_at"].endswith("Z")
    assert abs((datetime.fromisoformat(body["created_at"]) - datetime.now(UTC)).total_seconds()) < 60
    shown = await world.get(f"/v1/deployments/{body['id']}")
    assert shown.json == body
    assert shown.headers["ETag"] == answer.headers["ETag"]
    assert (await world.get(f"/deployments/{body['id']}")).json["uuid"] == body["id"]
    [request] = [message for message in await world.messages() if isinstance(message, DeploymentRequested)]
    assert (request.deployment_id, request.max_attempts) == (body["id"], 3)


async def test_a_repeat_under_one_key_is_the_same_at_both_faces(world: World) -> None:
    first, again = await new(world, key="k-1"), await new(world, key="k-1")
    assert first.json["id"] == again.json["id"]
    assert (await world.create(key="k-1")).json["uuid"] == first.json["id"]
    assert is_problem(await new(world, key="k-1", name="other"), 422, "idempotency-key-reused")
    assert len(ids(await world.get("/v1/deployments"))) == 1


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"template": ""}, "/template"),
        ({"name": "x" * 201}, "/name"),
        ({"name": "two\nlines"}, "/name"),
        ({"tags": {"a=b": "c"}}, "/tags/a=b"),
        ({"tags": {"a": "b\nc"}}, "/tags/a"),
        ({"tags": {f"k{n}": "" for n in range(51)}}, "/tags"),
        ({"parameters": {"num_cpus": "many"}}, "/parameters/num_cpus"),
        ({"userGroup": "cms"}, "/userGroup"),
        ({"keepLastAttempt": True}, "/keepLastAttempt"),
        ({"timeout_minutes": 0}, "/timeout_minutes"),
        ({"timeout_minutes": True}, "/timeout_minutes"),
        ({"attempt_timeout_minutes": True}, "/attempt_timeout_minutes"),
        ({"max_attempts": True}, "/max_attempts"),
        ({"timeout_minutes": 5, "attempt_timeout_minutes": 6}, "/attempt_timeout_minutes"),
        ({"max_attempts": 256}, "/max_attempts"),
        ({"callback": "ftp://example.org/"}, "/callback"),
    ],
)
async def test_what_is_wrong_with_a_new_one_is_told_with_its_place(
    world: World, body: dict[str, Any], pointer: str
) -> None:
    before = world.rows()
    answer = await new(world, **body)
    assert is_problem(answer, 400, "invalid")
    assert any(error["pointer"].startswith(pointer) for error in answer.json["errors"]), answer.text
    assert world.rows() == before


async def test_a_list_is_walked_by_its_links_and_what_is_new_is_not_on_the_pages_that_follow(world: World) -> None:
    made_ids = [await made(world) for _ in range(5)]
    await made(world, user="bob")
    seen: list[str] = []
    path: str | None = "/v1/deployments?limit=2"
    while path:
        answer = await world.get(path)
        seen += ids(answer)
        if len(seen) == 2:
            await made(world)
        following = answer.json.get("next")
        if following:
            assert answer.headers["Link"] == f'<{following}>; rel="next"'
        path = following and following.removeprefix(world.url)
    assert seen == made_ids[::-1]


async def test_a_list_is_filtered(world: World) -> None:
    a = await made(world, name="Analysis A", tags={"run": "2026", "kind": "test"})
    b = await made(world, name="Größe B", tags={"run": "2025"})
    c = await made(world, group="cms/analysis", tags={"running": "2026"})
    await world.send("DELETE", f"/v1/deployments/{b}")
    asked: list[tuple[str, list[str]]] = [
        ("", [c, b, a]),
        ("status=CREATE_IN_PROGRESS", [c, a]),
        ("status=DELETE_IN_PROGRESS&status=CREATE_IN_PROGRESS", [c, b, a]),
        ("status=CREATE_FAILED", []),
        ("group=cms", [b, a]),
        ("group=/cms/analysis", [c]),
        ("tag=run", [b, a]),
        ("tag=run=2026", [a]),
        ("tag=run&tag=kind=test", [a]),
        ("tag=un", []),
        ("tag=run=202", []),
        ("text=analysis", [a]),
        ("text=GRÖSSE", [b]),
        (f"text={c[:30]}", [c]),
        ("provider=SITE-A", []),
        ("scope=shared", []),
        ("owner=ada", [c, b, a]),
    ]
    for query, expected in asked:
        assert ids(await world.get(f"/v1/deployments?{query}")) == expected, query
    assert ids(await world.get("/v1/deployments", "bob")) == []
    assert ids(await world.get("/v1/deployments?scope=all", "root")) == [c, b, a]
    assert ids(await world.get("/v1/deployments?owner=ada&limit=1", "root")) == [c]


async def test_a_list_follows_the_provider_and_leaves_out_what_is_deleted_unless_asked(world: World) -> None:
    id = await made(world)
    await world.say(orchestrator.NodeStarted(**node(id)), running_event(id))
    await world.say(orchestrator.AttemptStarted(deployment_id=DeploymentId(id), attempt=1, place=node(id)["place"]))
    assert ids(await world.get("/v1/deployments?provider=SITE-A&status=CREATE_COMPLETE")) == [id]
    await world.say(orchestrator.DeploymentDeleted(deployment_id=DeploymentId(id)))
    assert ids(await world.get("/v1/deployments")) == []
    assert ids(await world.get("/v1/deployments?status=DELETE_COMPLETE")) == [id]


@pytest.mark.parametrize(
    "query",
    [
        "limit=0", "limit=101", "limit=x", "limit=1&limit=2", "status=running", "cursor=x", "cursor=e30", "cursor=WzEsMl0", "unknown=1",
        "text=", "scope=theirs", "scope=group",
    ],
)  # fmt: skip
async def test_a_list_asked_for_wrongly_is_refused_with_the_parameter(world: World, query: str) -> None:
    answer = await world.get(f"/v1/deployments?{query}")
    assert is_problem(answer, 400, "invalid")
    name = "group" if query == "scope=group" else query.partition("=")[0]
    assert answer.json["errors"][0]["pointer"] == f"?{name}"


@pytest.mark.parametrize("query", ["owner=bob", "scope=all", "group=atlas", "scope=group&group=cms"])
async def test_nobody_lists_what_is_not_theirs(world: World, query: str) -> None:
    assert is_problem(await world.get(f"/v1/deployments?{query}"), 403, "forbidden")


async def test_group_administrators_list_their_group(world: World) -> None:
    rule = {"role": "group-admin", "issuer": world.issuer.url, "group": "indaco-admins", "groups": ["cms"]}
    other = World(world.folder / "other", world.vault, world.issuer, {"admin_groups": (), "roles": (rule,)})
    other.folder.mkdir()
    async with running(other):
        id = await made(other)
        await made(other, user="eve", group="atlas")
        assert ids(await other.get("/v1/deployments?scope=group&group=cms", "root")) == [id]
        assert is_problem(await other.get("/v1/deployments?scope=group&group=atlas", "root"), 403, "forbidden")


async def test_names_and_tags_are_merged(world: World) -> None:
    id = await made(world, name="old", tags={"a": "1", "b": "2"})
    path = f"/v1/deployments/{id}"

    async def patched(type: str = "application/merge-patch+json", **body: Any) -> Answer:
        return await world.send("PATCH", path, headers={"Content-Type": type}, data=json.dumps(body))

    answer = await patched(tags={"a": None, "c": "3"})
    assert (answer.status, answer.json["name"], answer.json["tags"]) == (200, "old", {"b": "2", "c": "3"})
    assert (await patched("application/json", name="new")).json["name"] == "new"
    assert (await patched(name=None, tags=None)).json["tags"] == {}
    assert (await world.get(path)).json["name"] == ""
    assert is_problem(await patched(status="CREATE_COMPLETE"), 400, "invalid")
    assert is_problem(await patched("text/plain", name="x"), 415, "unsupported-media-type")
    many = {f"k{n}": "" for n in range(40)}
    assert (await patched(tags=many)).status == 200
    assert is_problem(await patched(tags={f"l{n}": "" for n in range(40)}), 409, "wrong-state")
    assert (await world.get(path)).json["tags"] == many


async def test_a_change_is_made_only_to_what_was_read(world: World) -> None:
    id = await made(world)
    path, headers = f"/v1/deployments/{id}", {"Content-Type": "application/json"}
    old = (await world.get(path)).headers["ETag"]
    changed = await world.send("PATCH", path, headers={**headers, "If-Match": old}, data='{"name": "x"}')
    assert changed.status == 200
    new_tag = changed.headers["ETag"]
    assert new_tag != old
    for method, where, data in (
        ("PATCH", path, '{"name": "y"}'), ("DELETE", path, None), ("PUT", f"{path}/lock", '{"reason": "r"}'), ("DELETE", f"{path}/lock", None),
        ("PUT", f"{path}/shares/cms", '{"access": "read"}'),
    ):  # fmt: skip
        for tag in (old, f"W/{new_tag}", '"x"', ""):
            refused = await world.send(method, where, headers={**headers, "If-Match": tag}, data=data)
            assert is_problem(refused, 412, "precondition-failed"), (method, tag)
    assert (await world.get(path)).headers["ETag"] == new_tag
    several = {**headers, "If-Match": f'"x", {new_tag}'}
    assert (await world.send("PUT", f"{path}/lock", headers=several, data='{"reason": "r"}')).status == 200
    assert (await world.send("DELETE", f"{path}/lock", headers={"If-Match": "*"})).status == 200


async def test_what_is_known_already_is_not_sent_again(world: World) -> None:
    id = await made(world)
    for path in ("", "/timeline", "/resources", "/template"):
        first = await world.get(f"/v1/deployments/{id}{path}")
        tag = first.headers["ETag"]
        assert tag.startswith('"')
        for known in (tag, f"W/{tag}", f'"x", {tag}', "*"):
            again = await world.get(f"/v1/deployments/{id}{path}", headers={"If-None-Match": known})
            assert (again.status, again.text, again.headers["ETag"]) == (304, "", tag)
        assert (await world.get(f"/v1/deployments/{id}{path}", headers={"If-None-Match": '"x"'})).text == first.text
    listed = await world.get("/v1/deployments")
    headers = {"If-None-Match": listed.headers["ETag"]}
    assert (await world.get("/v1/deployments", headers=headers)).status == 304
    await made(world)
    assert (await world.get("/v1/deployments", headers=headers)).status == 200


async def test_what_is_locked_is_neither_deleted_nor_updated_whichever_way_it_is_asked(world: World) -> None:
    id = await made(world)
    path = f"/v1/deployments/{id}"
    locked = await world.send("PUT", f"{path}/lock", json={"reason": "the paper's figures"})
    assert (locked.status, locked.json["lock_reason"]) == (200, "the paper's figures")
    for where in (path, f"{path}?force=true"):
        refused = await world.send("DELETE", where)
        assert is_problem(refused, 423, "locked")
        assert "the paper's figures" in refused.json["detail"]
    at_root = await world.send("DELETE", f"/deployments/{id}")
    assert (at_root.status, at_root.json["code"], at_root.json["title"]) == (423, 423, "Locked")
    assert (await world.send("DELETE", f"/deployments/{id}?force=true", "root")).status == 423
    update = await world.send("PUT", f"/deployments/{id}", json={"template": VM, "parameters": {"num_cpus": 2}})
    assert update.status in (409, 423)
    assert (await world.send("PATCH", path, json={"name": "still mine to name"})).status == 200
    assert not [message for message in await world.messages() if isinstance(message, DeploymentDeletionRequested)]
    assert "lock_reason" not in (await world.send("DELETE", f"{path}/lock")).json
    deleted = await world.send("DELETE", path)
    assert (deleted.status, deleted.json["status"]) == (202, "DELETE_IN_PROGRESS")
    titles = [step["title"] for step in (await world.get(f"{path}/timeline")).json["content"]]
    assert titles == ["Request accepted", "Locked", "Unlocked", "Deletion requested"]
    assert is_problem(await world.send("PUT", f"{path}/lock", json={"reason": ""}), 400, "invalid")


async def test_a_locked_one_that_runs_cannot_be_updated(world: World) -> None:
    id = await made(world)
    await world.say(orchestrator.NodeStarted(**node(id)), running_event(id))
    await world.send("PUT", f"/v1/deployments/{id}/lock", json={"reason": "do not touch"})
    update = await world.send("PUT", f"/deployments/{id}", json={"template": VM, "parameters": {"num_cpus": 2}})
    assert (update.status, "do not touch" in update.text) == (423, True)


async def test_what_is_shared_is_seen_and_changed_as_far_as_it_is_shared(world: World) -> None:
    id = await made(world)
    path, shares = f"/v1/deployments/{id}", f"/v1/deployments/{id}/shares"
    assert (await world.get(path, "bob")).status == 404
    shared = await world.send("PUT", f"{shares}/cms", json={"access": "read"})
    assert (shared.status, shared.json["shares"]) == (200, {"cms": "read"})
    assert (await world.get(path, "bob")).status == 200
    assert ids(await world.get("/v1/deployments?scope=shared", "bob")) == [id]
    assert ids(await world.get("/v1/deployments", "bob")) == []
    assert is_problem(await world.send("DELETE", path, "bob"), 403, "forbidden")
    assert is_problem(await world.get(f"{path}/outputs", "bob"), 403, "forbidden")
    assert is_problem(await world.send("PUT", f"{shares}/cms", "bob", json={"access": "change"}), 403, "forbidden")
    assert (await world.get(path, "eve")).status == 404
    assert (await world.send("PUT", f"{shares}/cms", json={"access": "change"})).json["shares"] == {"cms": "change"}
    assert (await world.send("PATCH", path, "bob", json={"name": "by bob"})).json["name"] == "by bob"
    assert (await world.send("DELETE", f"{shares}/cms")).json["shares"] == {}
    assert (await world.get(path, "bob")).status == 404
    assert ids(await world.get("/v1/deployments?scope=shared", "bob")) == []


async def test_it_is_shared_with_the_owners_groups_alone_by_their_whole_path(world: World) -> None:
    id = await made(world)
    shares = f"/v1/deployments/{id}/shares"
    for path in ("cms%2Fanalysis", "%2Fcms%2Fanalysis"):
        answer = await world.send("PUT", f"{shares}/{path}", json={"access": "read"})
        assert answer.json["shares"] == {"cms/analysis": "read"}, answer.text
    assert is_problem(await world.send("PUT", f"{shares}/atlas", json={"access": "read"}), 403, "forbidden")
    assert is_problem(await world.send("PUT", f"{shares}/cms", json={"access": "own"}), 400, "invalid")
    assert is_problem(await world.send("DELETE", f"{shares}/atlas"), 404, "not-found")
    assert (await world.send("DELETE", f"{shares}/cms%2Fanalysis")).json["shares"] == {}


async def test_outputs_are_the_owners_alone_with_the_secret_ones(world: World) -> None:
    id = await made(world)
    secrets = world.vault.secrets_for("orchestrator")
    await secrets.start()
    await secrets.put(f"outputs/{id}", {"password": PASSWORDS[0]})
    await secrets.stop()
    await world.say(running_event(id, secret_outputs=("password",)))
    answer = await world.get(f"/v1/deployments/{id}/outputs")
    assert answer.json == {"content": {"ip": "192.0.2.7", "password": PASSWORDS[0]}, "secret": ["password"]}
    assert answer.headers["Cache-Control"] == "no-store"
    assert is_problem(await world.get(f"/v1/deployments/{id}/outputs", "root"), 403, "forbidden")
    assert PASSWORDS[0] not in (await world.get(f"/v1/deployments/{id}")).text


async def test_resources_and_template_are_shown(world: World) -> None:
    id = await made(world)
    await world.say(orchestrator.NodeStarted(**node(id), public_address="192.0.2.7"))
    [machine] = (await world.get(f"/v1/deployments/{id}/resources")).json["content"]
    assert (machine["node"], machine["public_address"], machine["state"]) == ("server-0", "192.0.2.7", "STARTED")
    template = await world.get(f"/v1/deployments/{id}/template")
    assert (template.text, template.headers["Content-Type"]) == (VM, "application/yaml; charset=utf-8")


async def test_a_timeline_is_read_in_pages(world: World) -> None:
    id = await made(world)
    await world.say(*(orchestrator.AttemptCleaned(deployment_id=DeploymentId(id), attempt=n) for n in range(1, 5)))
    numbers: list[int] = []
    path: str | None = f"/v1/deployments/{id}/timeline?limit=2"
    while path:
        answer = await world.get(path)
        numbers += [step["number"] for step in answer.json["content"]]
        assert (answer.json["last"], answer.json["is_over"]) == (5, False)
        path = answer.json.get("next") and answer.json["next"].removeprefix(world.url)
    assert numbers == [1, 2, 3, 4, 5]
    assert (await world.get(f"/v1/deployments/{id}/timeline?after=5")).json["content"] == []
    for query in ("after=-1", "limit=501", "wait=61", "wait=nan", "wait=-1"):
        assert is_problem(await world.get(f"/v1/deployments/{id}/timeline?{query}"), 400, "invalid"), query


async def test_who_waits_for_the_timeline_is_answered_when_something_new_is_there(world: World) -> None:
    id = await made(world)
    loop = asyncio.get_running_loop()
    assert len((await world.get(f"/v1/deployments/{id}/timeline?wait=20")).json["content"]) == 1  # at once
    began = loop.time()
    async with asyncio.TaskGroup() as group:
        waiting = [group.create_task(world.get(f"/v1/deployments/{id}/timeline?after=1&wait=20")) for _ in range(20)]
        await asyncio.sleep(0.3)
        assert not any(task.done() for task in waiting)
        await world.say(running_event(id))
    assert loop.time() - began < 5
    assert all([step["number"] for step in task.result().json["content"]] == [2] for task in waiting)


async def test_who_waits_and_may_no_longer_read_hears_no_more(world: World) -> None:
    id = await made(world)
    await world.send("PUT", f"/v1/deployments/{id}/shares/cms", json={"access": "read"})
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(world.get(f"/v1/deployments/{id}/timeline?after=2&wait=20", "bob"))
        await asyncio.sleep(0.3)
        assert (await world.send("DELETE", f"/v1/deployments/{id}/shares/cms")).status == 200
    assert is_problem(waiting.result(), 404, "not-found")


async def test_who_waits_in_vain_is_answered_after_the_time(world: World) -> None:
    id = await made(world)
    loop = asyncio.get_running_loop()
    began = loop.time()
    answer = await world.get(f"/v1/deployments/{id}/timeline?after=1&wait=0.5")
    assert 0.4 < loop.time() - began < 3
    assert (answer.status, answer.json["content"], answer.json["last"]) == (200, [], 1)
    await world.say(orchestrator.DeploymentDeleted(deployment_id=DeploymentId(id)))
    began = loop.time()
    over = await world.get(f"/v1/deployments/{id}/timeline?after=2&wait=30")
    assert (over.json["content"], over.json["is_over"]) == ([], True)
    assert loop.time() - began < 3


async def test_who_waits_is_told_of_what_another_gateway_saved(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "POLL_S", 0.1)
    id = await made(world)
    async with running(World(world.folder, world.vault, world.issuer)) as other, asyncio.TaskGroup() as group:
        waiting = group.create_task(world.get(f"/v1/deployments/{id}/timeline?after=1&wait=20"))
        await asyncio.sleep(0.3)
        assert (await other.send("DELETE", f"/v1/deployments/{id}")).status == 202
    assert [step["title"] for step in waiting.result().json["content"]] == ["Deletion requested"]


async def test_who_waits_takes_a_listeners_place(world: World) -> None:
    small = World(world.folder / "small", world.vault, world.issuer, {"max_listeners": 1})
    small.folder.mkdir()
    async with running(small), asyncio.TaskGroup() as group:
        id = await made(small)
        path = f"/v1/deployments/{id}/timeline?after=1&wait=2"
        waiting = group.create_task(small.get(path))
        await asyncio.sleep(0.3)
        refused = await small.get(path)
        assert is_problem(refused, 429, "too-many-requests")
        assert int(refused.headers["Retry-After"]) > 0
        assert (await waiting).status == 200
    assert not small.runner._service.tasks["event streams"].__self__._channels  # type: ignore[attr-defined]
