"""Create, list, show and delete, as INDIGO's clients do it."""

import re
from datetime import UTC, datetime

import pytest

from indaco_common.contracts import gateway, orchestrator
from indaco_common.contracts.values import Failure
from indaco_common.ids import DeploymentId

from .world import COMPOSE, VM, World, running_event

DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d\+0000")


async def test_a_deployment_is_created_shown_and_on_its_way(world: World) -> None:
    answer = await world.create(
        parameters={"num_cpus": "2"}, timeoutMins="720", maxProvidersRetry=3, keepLastAttempt="true"
    )
    assert answer.status == 201
    body, id = answer.json, answer.json["uuid"]
    assert answer.headers["Location"] == f"{world.url}/deployments/{id}"
    assert (body["status"], body["task"], body["userGroup"], body["outputs"]) == (
        "CREATE_IN_PROGRESS",
        "BROKERING",
        "cms",
        {},
    )
    assert body["createdBy"] == {"issuer": world.issuer.url, "subject": "ada"}
    assert body["cloudProviderEndpoint"] == {}
    assert DATE.fullmatch(body["creationTime"])
    assert DATE.fullmatch(body["updateTime"])
    assert None not in body.values()
    shown = await world.get(f"/deployments/{id}")
    assert shown.json == body
    assert shown.headers["ETag"] == answer.headers["ETag"]
    (request,) = await world.messages()
    assert isinstance(request, gateway.DeploymentRequested)
    assert (request.deployment_id, request.template, request.inputs) == (id, VM, {"num_cpus": "2"})
    assert (request.timeout_s, request.max_attempts, request.owner.subject, request.group.path) == (
        43_200,
        3,
        "ada",
        "cms",
    )
    assert request.nodes["server"].needs["cpu_milli"] == 2000
    assert (await world.infra.bus.state("orchestrator")).ready == 1


async def test_fields_left_empty_are_as_if_not_given_and_unknown_ones_do_not_matter(world: World) -> None:
    answer = await world.create(
        callback="", timeoutMins="", providerTimeoutMins=None, maxProvidersRetry=None, keepLastAttemp=1
    )
    assert answer.status == 201
    assert "callback" not in answer.json


async def test_links_follow_the_proxy_that_users_see(world: World) -> None:
    headers = {
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "paas.example.org",
        "X-Forwarded-Prefix": "/orchestrator",
    }
    id = await world.created()
    body = (await world.get(f"/deployments/{id}", headers=headers)).json
    base = f"https://paas.example.org/orchestrator/deployments/{id}"
    assert body["links"] == [
        {"rel": "self", "href": base},
        {"rel": "resources", "href": f"{base}/resources?type={{type}}"},
        {"rel": "template", "href": f"{base}/template"},
    ]


async def test_a_user_of_one_group_need_not_name_it_and_one_of_several_must(world: World) -> None:
    assert (await world.send("POST", "/deployments", "bob", json={"template": VM})).json["userGroup"] == "cms"
    answer = await world.send("POST", "/deployments", "ada", json={"template": VM})
    assert (answer.status, answer.message) == (403, "Say for which group: one of cms, cms/analysis")
    assert (await world.create(userGroup="/cms/analysis")).json["userGroup"] == "cms/analysis"


@pytest.mark.parametrize("authorization", ["Bearer {}", "bearer {}", "Bearer{}", "BEARER  {}"])
async def test_trailing_slashes_and_odd_authorization_headers_of_old_clients_work(
    world: World, authorization: str
) -> None:
    headers = {"Authorization": authorization.format(world.issuer.token("bob")), "User-Agent": "orpy-orpy/1.0"}
    answer = await world.send(
        "POST", "/deployments/", None, headers=headers, json={"template": VM}, allow_redirects=False
    )
    assert answer.status == 201
    for path in ("", "/template", "/resources", "/timeline"):
        again = await world.get(
            f"/deployments/{answer.json['uuid']}{path}/", None, headers=headers, allow_redirects=False
        )
        assert again.status == 200


async def test_a_version_that_is_known_is_not_sent_again(world: World) -> None:
    id = await world.created()
    etag = (await world.get(f"/deployments/{id}")).headers["ETag"]
    for known in (etag, f'"x", W/{etag}', "*"):
        answer = await world.get(f"/deployments/{id}", headers={"If-None-Match": known})
        assert (answer.status, answer.text, answer.headers["ETag"]) == (304, "", etag)
    assert (await world.get(f"/deployments/{id}", headers={"If-None-Match": '"x"'})).status == 200
    await world.say(running_event(id))
    changed = await world.get(f"/deployments/{id}", headers={"If-None-Match": etag})
    assert (changed.status, changed.json["status"]) == (200, "CREATE_COMPLETE")
    assert changed.headers["ETag"] != etag


# ── lists


def rels(body: dict[str, list[dict[str, str]]]) -> list[str]:
    return [link["rel"] for link in body["links"]]


async def test_a_list_is_walked_by_its_links_from_the_newest_to_the_oldest(world: World) -> None:
    ids = [await world.created(user="bob") for _ in range(5)]
    body = (await world.get("/deployments?createdBy=me&size=2&userGroup=cms", "bob")).json
    assert rels(body) == ["first", "self", "next", "last"]
    found, pages = [one["uuid"] for one in body["content"]], [body["page"]]
    while (following := {link["rel"]: link["href"] for link in body["links"]}.get("next")) is not None:
        assert "createdBy=me" in following
        assert "userGroup=cms" in following
        body = (await world.get(following.removeprefix(world.url), "bob")).json
        found += [one["uuid"] for one in body["content"]]
        pages.append(body["page"])
    assert found == ids[::-1]
    assert rels(body) == ["first", "prev", "self", "last"]
    assert pages == [{"size": 2, "totalElements": 5, "totalPages": 3, "number": n} for n in range(3)]
    first, last = ({link["rel"]: link["href"] for link in body["links"]}[rel] for rel in ("self", "last"))
    assert first == last


async def test_a_page_behind_the_last_is_empty_and_one_page_has_but_itself(world: World) -> None:
    empty = (await world.get("/deployments", "bob")).json
    assert (empty["content"], empty["page"]["totalPages"], rels(empty)) == ([], 0, ["self"])
    await world.created(user="bob")
    beyond = (await world.get("/deployments?page=7&size=1", "bob")).json
    assert (beyond["content"], beyond["page"]["totalElements"], rels(beyond)) == ([], 1, ["self"])


@pytest.mark.parametrize(
    ("query", "size"), [("", 10), ("size=0", 10), ("size=-1", 10), ("size=junk", 10), ("size=99999", 2000), ("page=x", 10)]
)  # fmt: skip
async def test_paging_parameters_are_read_leniently(world: World, query: str, size: int) -> None:
    page = (await world.get(f"/deployments?{query}")).json["page"]
    assert (page["size"], page["number"]) == (size, 0)


async def test_orpy_whose_paging_is_broken_gets_all_at_once(world: World) -> None:
    body = (await world.get("/deployments", headers={"User-Agent": "orpy-orpy/1.0.4"})).json
    assert body["page"]["size"] == 2000


@pytest.mark.parametrize(
    ("sort", "ascending"), [("createdAt", True), ("createdAt,asc", True), ("createdAt,DESC", False)]
)
async def test_lists_are_sorted_as_asked_and_their_links_keep_that(world: World, sort: str, *, ascending: bool) -> None:
    ids = [await world.created(user="bob") for _ in range(2)]
    body = (await world.get(f"/deployments?sort={sort}&size=1", "bob")).json
    assert body["content"][0]["uuid"] == (ids[0] if ascending else ids[1])
    assert all(f"sort={sort}" in link["href"] for link in body["links"])


@pytest.mark.parametrize(
    "query", ["sort=password", "sort=createdAt,up", "createdBy=ada", "createdBy=@x", "createdBy=x@"]
)
async def test_a_list_that_makes_no_sense_is_refused(world: World, query: str) -> None:
    await world.created()
    answer = await world.get(f"/deployments?{query}")
    assert (answer.status, answer.json["title"]) == (400, "Bad Request")


async def test_deleted_ones_are_listed_only_to_those_who_say_what_they_leave_out(world: World) -> None:
    id, other = await world.created(), await world.created()
    await world.send("DELETE", f"/deployments/{id}")
    await world.say(orchestrator.DeploymentDeleted(deployment_id=DeploymentId(id)))

    async def listed(query: str) -> set[str]:
        return {one["uuid"] for one in (await world.get(f"/deployments{query}")).json["content"]}

    assert await listed("") == {other}
    assert await listed("?excludedStatus=CREATE_FAILED,UPDATE_FAILED") == {id, other}
    assert await listed("?excludedStatus=DELETE_COMPLETE") == {other}
    assert await listed("?excludedStatus=CREATE_IN_PROGRESS") == {id}


# ── what belongs to one deployment


async def test_template_log_and_extra_information_are_raw_text_whatever_was_asked_for(world: World) -> None:
    id = await world.created(COMPOSE, parameters={"service_token": "hush"})
    for accept, kind in (("*/*", "text/plain"), ("application/json", "application/json")):
        template = await world.get(f"/deployments/{id}/template", headers={"Accept": accept})
        assert (template.text, template.headers["Content-Type"]) == (COMPOSE, f"{kind}; charset=utf-8")
    [machine] = (await world.get(f"/deployments/{id}/extrainfo")).json
    assert {entry["class"] for entry in machine["vmProperties"]} == {"system"}
    await world.say(
        orchestrator.DeploymentFailed(deployment_id=DeploymentId(id), reason=Failure(code="x", detail="no place"))
    )
    lines = (await world.get(f"/deployments/{id}/log")).text.splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d: Request accepted: for the group cms", lines[0])
    assert lines[1:] == [lines[1], "no place"]
    assert lines[1].endswith("Failed: no place")


async def test_the_timeline_tells_what_happened_in_order(world: World) -> None:
    id = await world.created()
    await world.say(running_event(id))
    steps = (await world.get(f"/deployments/{id}/timeline")).json["content"]
    assert [(s["number"], s["type"], s["status"]) for s in steps] == [
        (1, "gateway.deployment.requested", "CREATE_IN_PROGRESS"),
        (2, "orchestrator.deployment.running", "CREATE_COMPLETE"),
    ]
    assert datetime.fromisoformat(steps[0]["at"]).tzinfo is UTC


async def test_machines_are_found_by_list_by_type_and_by_id(world: World) -> None:
    id = await world.created(VM.replace("count: 1", "count: 3"))
    url = f"/deployments/{id}/resources"
    body = (await world.get(f"{url}?size=2")).json
    assert [one["metadata"]["instance_name"] for one in body["content"]] == ["server-0", "server-1"]
    assert body["page"] == {"size": 2, "totalElements": 3, "totalPages": 2, "number": 0}
    one = body["content"][0]
    assert (one["state"], one["toscaNodeName"], one["toscaNodeType"]) == (
        "INITIAL",
        "server",
        "tosca.nodes.indigo.Compute",
    )
    assert (await world.get(f"{url}/{one['uuid']}")).json == one
    assert [link["href"] for link in one["links"]] == [
        f"{world.url}/deployments/{id}",
        f"{world.url}{url}/{one['uuid']}",
    ]
    counts = {}
    for type in (
        "tosca.nodes.indigo.Compute",
        "tosca.nodes.Compute",
        "tosca.nodes.Root",
        "tosca.nodes.Network",
        "{type}",
    ):
        counts[type] = (await world.get(url, params={"type": type})).json["page"]["totalElements"]
    assert counts == {
        "tosca.nodes.indigo.Compute": 3, "tosca.nodes.Compute": 3, "tosca.nodes.Root": 3, "tosca.nodes.Network": 0, "{type}": 3,
    }  # fmt: skip
    absent = await world.get(f"{url}/no-such-thing")
    assert (absent.status, absent.message) == (404, f"The resource <no-such-thing> in deployment <{id}> doesn't exist")


# ── the end


async def test_a_deletion_is_asked_for_once_unless_it_is_forced(world: World) -> None:
    id = await world.created()
    assert (
        await world.send("DELETE", f"/deployments/{id}?force=false", json=["a body that the dashboard sends"])
    ).status == 204
    assert (await world.get(f"/deployments/{id}")).json["status"] == "DELETE_IN_PROGRESS"
    again = await world.send("DELETE", f"/deployments/{id}")
    assert (again.status, again.message) == (409, "Deployment already in DELETE_IN_PROGRESS state.")
    assert int(again.headers["Retry-After"]) > 0
    assert (await world.send("DELETE", f"/deployments/{id}?force=TRUE")).status == 204
    wishes = [m for m in await world.messages() if isinstance(m, gateway.DeploymentDeletionRequested)]
    assert [wish.force for wish in wishes] == [False, True]
    await world.say(orchestrator.DeploymentDeleted(deployment_id=DeploymentId(id)))
    gone = await world.send("DELETE", f"/deployments/{id}?force=true")
    assert (gone.status, gone.message) == (409, "Deployment already in DELETE_COMPLETE state.")


async def test_a_deletion_that_hangs_is_reset_and_nothing_else_is(world: World) -> None:
    id = await world.created()
    reset = {"status": "DELETE_FAILED"}
    early = await world.send("PATCH", f"/deployments/{id}", json=reset)
    assert (early.status, early.message) == (409, "Cannot reset a deployment in CREATE_IN_PROGRESS state")
    await world.send("DELETE", f"/deployments/{id}")
    for wrong in ({"status": "CREATE_COMPLETE"}, {"status": "x" * 500}, {}, {"status": 1}):
        assert (await world.send("PATCH", f"/deployments/{id}", json=wrong)).status == 400
    done = await world.send("PATCH", f"/deployments/{id}", json=reset)
    assert (done.status, done.text) == (204, "")
    assert (await world.get(f"/deployments/{id}")).json["status"] == "DELETE_FAILED"


# ── what is not about deployments


async def test_the_greeting_and_the_build_are_public_and_the_configuration_is_not(world: World) -> None:
    assert (await world.get("/", None)).text == "INDIGO-Orchestrator"
    assert (await world.get("/", "ada")).status == 200
    assert (await world.get("/info", None)).json["build"]["name"] == "indaco"
    assert (await world.get("/configuration", None)).status == 401
    configuration = (await world.get("/configuration")).json
    assert {type(value) for value in configuration.values()} == {str}


async def test_what_does_not_exist_is_told_in_each_face(world: World) -> None:
    indigo, native = await world.get("/nothing"), await world.get("/v1/nothing")
    assert (indigo.status, indigo.json["code"], indigo.json["title"]) == (404, 404, "Not Found")
    assert (native.headers["Content-Type"], native.json["code"]) == ("application/problem+json", "not-found")
    wrong = await world.send("DELETE", "/deployments")
    assert (wrong.status, wrong.headers["Allow"]) == (405, "GET,HEAD,POST")


async def test_what_is_worth_a_look_in_a_template_is_told_with_its_place(world: World) -> None:
    text = VM.replace("topology_template:", "descripton: a slip\ntopology_template:", 1)
    made = await world.create(template=text)
    assert made.status == 201
    [warning] = made.json["warnings"]
    assert "descripton" in warning
    assert "line " in warning
