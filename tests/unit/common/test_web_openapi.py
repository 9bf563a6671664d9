"""The document says what the handlers were described as, and is valid."""

import enum
import json
from datetime import datetime
from typing import Annotated, Any

import jsonschema
import pytest
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from indaco_common.web import describe, description_of, json_response
from indaco_common.web.describe import Description, limit_of
from indaco_common.web.openapi import Api, document, undescribed


class Colour(enum.StrEnum):
    RED = "red"
    BLUE = "blue"


class Part(BaseModel):
    name: str
    colour: Colour | None = None


class Thing(BaseModel):
    id: str
    made_at: datetime
    gone_at: datetime | None
    parts: list[Part] = []
    note: str | None = None


class NewThing(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(min_length=1)]
    note: str | None = None
    part: Part


class Asked(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)

    limit: Annotated[int, Field(ge=1, le=100)] = 20
    """How many."""
    colour: tuple[Colour, ...] = ()
    since: Annotated[datetime | None, Field(alias="from")] = None
    of: str


class Things:
    @describe("List things", tag="things", query=Asked, answers={200: Thing}, headers={"If-None-Match": "Known?"})
    async def index(self, request: web.Request) -> web.Response:
        """All that
        there are."""
        return web.Response()

    @describe(
        "Make a thing", tag="things", body=NewThing, answers={202: Thing}, errors=(409,), sends=("Location", "ETag")
    )
    async def create(self, request: web.Request) -> web.Response:
        return web.Response()

    @describe("Follow", tag="events", answers={200: "text/event-stream", 204: None}, errors=(404,))
    async def follow(self, request: web.Request) -> web.Response:
        return web.Response()

    @describe(
        "Plan",
        tag="things",
        body=NewThing,
        body_required=False,
        answers={200: "text/plain, application/json"},
        limit="plan",
    )
    async def plan(self, request: web.Request) -> web.Response:
        return web.Response()

    @describe("Greet", tag="things", answers={200: "text/plain"}, public=True)
    async def greet(self, request: web.Request) -> web.Response:
        return web.Response()

    async def silent(self, request: web.Request) -> web.Response:
        return web.Response()


def routes() -> list[web.RouteDef]:
    things = Things()
    return [
        web.get("/v1/things", things.index), web.post("/v1/things", things.create),
        web.get("/v1/things/{id}/events", things.follow, allow_head=False),
        web.post(r"/v1/things/{id}/{part:[a-z]{1,9}}", things.plan), web.get("/", things.greet), web.put("/things", things.create),
    ]  # fmt: skip


API = Api(
    title="Things", version="1", description="Of things.", face=lambda path: "native" if path.startswith("/v1/") else "indigo",
    parameters={"id": {"type": "string", "format": "uuid"}}, tags={"things": "What there is.", "unused": "No."},
)  # fmt: skip


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    return document(routes(), API)


def operation(made: dict[str, Any], method: str, path: str) -> dict[str, Any]:
    found: dict[str, Any] = made["paths"][path][method]
    return found


def parameter(operation: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [each for each in operation["parameters"] if each["name"] == name]
    return dict(found)


def test_a_docstring_becomes_the_details() -> None:
    described = description_of(Things().index)
    assert described is not None
    assert described.details == "All that there are."


def test_what_was_not_described_is_named() -> None:
    assert undescribed([*routes(), web.get("/v1/silent", Things().silent)]) == ["GET /v1/silent"]
    assert "/v1/silent" not in document([web.get("/v1/silent", Things().silent)], API)["paths"]


def test_the_order_of_the_routes_changes_nothing(made: dict[str, Any]) -> None:
    assert json.dumps(document(reversed(routes()), API)) == json.dumps(made)


def test_every_reference_leads_somewhere(made: dict[str, Any]) -> None:
    def check(node: Any) -> None:
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            if key == "$ref":
                target = made
                for step in value.removeprefix("#/").split("/"):
                    target = target[step]
            elif isinstance(value, dict | list):
                check(value)

    check(made)


def test_schemas_are_json_schemas(made: dict[str, Any]) -> None:
    for schema in made["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_a_path_parameter_has_its_schema_or_the_pattern_of_its_route(made: dict[str, Any]) -> None:
    found = operation(made, "post", "/v1/things/{id}/{part}")
    assert parameter(found, "id")["schema"] == {"type": "string", "format": "uuid"}
    assert parameter(found, "part")["schema"] == {"type": "string", "minLength": 1, "pattern": "^(?:[a-z]{1,9})$"}


def test_the_fields_of_a_query_are_parameters_by_their_alias(made: dict[str, Any]) -> None:
    found = operation(made, "get", "/v1/things")
    assert parameter(found, "limit") == {
        "name": "limit", "in": "query", "required": False, "description": "How many.",
        "schema": {"type": "integer", "minimum": 1, "maximum": 100, "default": 20},
    }  # fmt: skip
    assert parameter(found, "from")["schema"] == {"type": "string", "format": "date-time"}
    assert parameter(found, "colour")["schema"]["items"] == {"$ref": "#/components/schemas/Colour"}
    assert parameter(found, "of")["required"]
    assert "Asked" not in made["components"]["schemas"]


def test_an_answer_never_has_null_where_a_body_may(made: dict[str, Any]) -> None:
    answered, asked = made["components"]["schemas"]["Thing"], made["components"]["schemas"]["NewThing"]
    assert answered["required"] == ["id", "made_at"]
    assert answered["properties"]["note"] == {"type": "string", "title": "Note"}
    assert {"type": "null"} in asked["properties"]["note"]["anyOf"]
    assert asked["additionalProperties"] is False


def test_a_model_that_is_read_and_written_differently_has_two_names(made: dict[str, Any]) -> None:
    assert {"Part-Input", "Part-Output"} <= made["components"]["schemas"].keys()


def test_what_is_answered_fits_its_schema(made: dict[str, Any]) -> None:
    thing = Thing(id="1", made_at=datetime.fromisoformat("2026-01-01T00:00:00Z"), gone_at=None, parts=[Part(name="a")])
    schema = {"$ref": "#/components/schemas/Thing", "components": made["components"]}
    jsonschema.validate(json.loads(json_response(thing).body), schema)  # type: ignore[arg-type]


def test_errors_are_problems_under_v1_and_indigos_at_the_root(made: dict[str, Any]) -> None:
    native, indigo = operation(made, "post", "/v1/things"), operation(made, "put", "/things")
    assert native["responses"]["409"] == {"$ref": "#/components/responses/Problem409"}
    assert indigo["responses"]["409"] == {"$ref": "#/components/responses/IndigoError409"}
    answers = made["components"]["responses"]
    assert list(answers["Problem409"]["content"]) == ["application/problem+json"]
    assert list(answers["IndigoError409"]["content"]) == ["application/json"]
    assert "WWW-Authenticate" in answers["Problem401"]["headers"]
    assert "Retry-After" in answers["Problem429"]["headers"]


def test_errors_that_every_such_operation_has_need_not_be_said(made: dict[str, Any]) -> None:
    assert {"400", "401", "403", "408", "413", "415", "429", "503"} < operation(made, "post", "/v1/things")[
        "responses"
    ].keys()
    assert operation(made, "get", "/")["responses"].keys() == {"200"}


def test_answers_say_which_headers_they_have(made: dict[str, Any]) -> None:
    answers = operation(made, "get", "/v1/things")["responses"]["200"]["headers"]
    assert answers.keys() == {"ETag", "RateLimit", "RateLimit-Policy", "X-Request-ID"}
    assert {"Location", "ETag"} < operation(made, "post", "/v1/things")["responses"]["202"]["headers"].keys()
    assert operation(made, "get", "/")["responses"]["200"]["headers"].keys() == {"X-Request-ID"}


def test_text_has_its_media_type_or_several(made: dict[str, Any]) -> None:
    content = operation(made, "post", "/v1/things/{id}/{part}")["responses"]["200"]["content"]
    assert content == {"text/plain": {"schema": {"type": "string"}}, "application/json": {"schema": {}}}
    assert "content" not in operation(made, "get", "/v1/things/{id}/events")["responses"]["204"]


def test_a_public_operation_needs_no_token(made: dict[str, Any]) -> None:
    assert operation(made, "get", "/")["security"] == []
    assert operation(made, "get", "/v1/things")["security"] == [{"bearer": []}]


def test_a_body_may_be_left_out_where_it_says_so(made: dict[str, Any]) -> None:
    assert operation(made, "post", "/v1/things")["requestBody"]["required"] is True
    assert operation(made, "post", "/v1/things/{id}/{part}")["requestBody"]["required"] is False


def test_only_tags_in_use_are_listed_and_the_known_ones_first(made: dict[str, Any]) -> None:
    assert made["tags"] == [{"name": "things", "description": "What there is."}, {"name": "events"}]


def test_operation_ids_are_unique(made: dict[str, Any]) -> None:
    ids = [each["operationId"] for methods in made["paths"].values() for each in methods.values()]
    assert len(ids) == len(set(ids)) == 6
    assert "postV1ThingsIdPart" in ids
    assert "getRoot" in ids


@pytest.mark.parametrize(
    ("method", "handler", "limit"),
    [
        ("GET", Things.index, "read"),
        ("POST", Things.create, "write"),
        ("GET", Things.follow, "events"),
        ("POST", Things.plan, "plan"),
    ],
)
def test_the_class_of_a_request_follows_from_what_it_does(method: str, handler: Any, limit: str) -> None:
    assert limit_of(method, description_of(handler)) == limit


def test_a_route_that_was_not_described_is_limited_too() -> None:
    assert limit_of("DELETE", None) == "write"
    assert limit_of("GET", Description("x", "y")) == "read"
