"""The gateway describes itself: every route, in a document that is valid, and on a page."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from aiohttp import web

from indaco_common.web import description_of
from indaco_common.web.openapi import undescribed

from .world import ROOT, World

PROBES = {"/livez", "/readyz", "/metrics"}  # of every service, for its supervisor


def routes_of(world: World) -> list[web.RouteDef]:
    return [route for route in world.runner._service.routes if isinstance(route, web.RouteDef)]


def served_by(world: World) -> set[tuple[str, str]]:
    """What the running application answers, from its router: (method, path) without the twins that end in a slash."""
    assert world.runner._web is not None
    routes = [route for route in world.runner._web.app.router.routes() if route.method not in ("HEAD", "OPTIONS")]
    found = {(route.method.lower(), route.resource.canonical) for route in routes if route.resource is not None}
    return {(method, path) for method, path in found if path not in PROBES and (path == "/" or not path.endswith("/"))}


async def test_every_route_is_described(world: World) -> None:
    assert undescribed(routes_of(world)) == []


async def test_the_document_has_every_route_that_is_served_and_no_other(world: World) -> None:
    made = (await world.get("/v1/openapi.json", None)).json
    documented = {(method, path) for path, methods in made["paths"].items() for method in methods}
    assert documented == served_by(world)


async def test_every_tag_is_explained(world: World) -> None:
    made = (await world.get("/v1/openapi.json", None)).json
    assert [tag["name"] for tag in made["tags"] if "description" not in tag] == []


async def test_the_document_is_public_and_known_by_its_tag(world: World) -> None:
    answer = await world.get("/v1/openapi.json", None)
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json; charset=utf-8")
    assert answer.headers["Cache-Control"].startswith("public")
    tag = answer.headers["ETag"]
    again = await world.get("/v1/openapi.json", None, headers={"If-None-Match": f'"x", {tag}'})
    assert (again.status, again.text, again.headers["ETag"]) == (304, "", tag)
    assert (await world.get("/v1/openapi.json", None, headers={"If-None-Match": '"x"'})).status == 200


async def test_the_committed_document_is_the_one_that_is_served(world: World) -> None:
    assert (await world.get("/v1/openapi.json", None)).json == json.loads((ROOT / "docs" / "openapi.json").read_text())


async def test_its_schemas_are_json_schemas_and_its_examples_fit(world: World) -> None:
    made = (await world.get("/v1/openapi.json", None)).json
    for schema in made["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    for methods in made["paths"].values():
        for parameter in (each for operation in methods.values() for each in operation.get("parameters", ())):
            schema = {**parameter["schema"], "components": made["components"]}
            for example in parameter["schema"].get("examples", ()):
                jsonschema.validate(example, schema)


async def test_names_in_the_paths_of_the_table_are_in_use(world: World) -> None:
    """A parameter's schema that no path has is a leftover."""
    from indaco_gateway.api.docs import PARAMETERS

    paths = list((await world.get("/v1/openapi.json", None)).json["paths"])
    for name in PARAMETERS:
        wanted = name if name.startswith("/") else f"{{{name}}}"
        assert [path for path in paths if wanted in path], name


async def test_the_events_are_served_as_asyncapi(world: World) -> None:
    answer = await world.get("/v1/asyncapi.json", None)
    assert answer.json == json.loads((ROOT / "docs" / "asyncapi.json").read_text())
    assert answer.headers["Content-Type"].startswith("application/json")


async def test_an_installation_without_the_document_of_events_says_so(world: World, monkeypatch: Any) -> None:
    monkeypatch.setattr("indaco_gateway.api.docs.SHIPPED", (Path("/nowhere"),))
    answer = await world.get("/v1/asyncapi.json", None)
    assert (answer.status, answer.json["code"]) == (404, "not-found")


@pytest.mark.parametrize(
    ("path", "link"), [("/v1/docs", "href='openapi.json'"), ("/v1/docs/", "href='../openapi.json'")]
)
async def test_the_page_runs_no_script_and_links_to_the_document(world: World, path: str, link: str) -> None:
    answer = await world.get(path, None)
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert link in answer.text
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert "script-src" not in policy


async def test_the_page_has_every_operation(world: World) -> None:
    made, page = (await world.get("/v1/openapi.json", None)).json, (await world.get("/v1/docs", None)).text
    ids = [operation["operationId"] for methods in made["paths"].values() for operation in methods.values()]
    assert [id for id in ids if f"<div id={id}>" not in page] == []


async def test_the_cookie_in_the_document_is_the_one_that_pages_get(world: World) -> None:
    from indaco_gateway.identity.sessions import Place

    made = (await world.get("/v1/openapi.json", None)).json
    assert made["components"]["securitySchemes"]["session"]["name"] == Place("https://x.example.org").cookie("session")


async def test_what_answers_with_events_is_limited_as_such(world: World) -> None:
    for route in routes_of(world):
        described = description_of(route.handler)
        assert described is not None
        if described.streams:
            made = (await world.get("/v1/openapi.json", None)).json
            assert made["paths"][route.path]["get"]["x-rate-limit"] == "events"
