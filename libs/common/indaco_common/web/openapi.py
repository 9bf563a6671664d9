"""From the routes of a service to its OpenAPI 3.1 document: what :func:`describe` says beside each handler, and nothing else."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from indaco_common.web.describe import Content, Description, description_of, limit_of
from indaco_common.web.openapi_schemas import AnswerSchemas, IndigoError, Problem, without_null
from indaco_common.web.problems import Face, reason

Schema = dict[str, Any]
Key = tuple[type[BaseModel], JsonSchemaMode]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
BEARER: Schema = {
    "type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": "An access token of a trusted OpenID Connect issuer.",
}  # fmt: skip
HEADERS: dict[str, Schema] = {
    "ETag": {"description": "The version of what is shown; send it back as If-None-Match, or as If-Match with a change."},
    "Link": {"description": "Where the next page is (RFC 8288)."},
    "Location": {"description": "Where it is.", "schema": {"type": "string", "format": "uri"}},
    "RateLimit": {"description": 'What is left of the limit, and the seconds until it is whole again: "read";r=99;t=1.'},
    "RateLimit-Policy": {"description": 'The limit that the request counts for, as requests and seconds: "read";q=100;w=60.'},
    "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 0}},
    "WWW-Authenticate": {"description": "How to authenticate, and why the token was refused (RFC 6750)."},
    "X-Request-ID": {"description": "The id of this request, in logs and traces too.", "required": True},
}  # fmt: skip

_TOKEN = r"[A-Za-z0-9._~+/=:@ -]"  # noqa: S105 - characters of what a header may hold
REQUEST_HEADERS: dict[str, Schema] = {
    "Idempotency-Key": {"type": "string", "minLength": 1, "maxLength": 128, "pattern": f"^{_TOKEN}+$", "examples": ["my-first"]},
    "If-Match": {"type": "string", "examples": ['"3"']},
    "If-None-Match": {"type": "string", "examples": ['"3"']},
    "Last-Event-ID": {"type": "string", "examples": ["7"]},
}  # fmt: skip

_PARAMETER = re.compile(r"\{(?P<name>\w+)(?::(?P<pattern>(?:[^{}]|\{[^{}]*\})+))?\}")
_PARSED = ("json", "yaml")  # ends of media types whose schema is of the value, and not of its text
_BODY_ERRORS = (400, 408, 413, 415)
_WAITS = {429, 503}  # statuses that say when to come back
_CONTENT: dict[Face, tuple[str, type[BaseModel]]] = {
    "native": ("application/problem+json", Problem),
    "indigo": ("application/json", IndigoError),
}


@dataclass(frozen=True, slots=True)
class Api:
    """What the document says beside its operations.

    *face*: path → how errors are told there. *parameters*: name of a path parameter, or the path up to it ("/v1/keys/{name}") → its
    schema. *tags*: what operations belong to, in order → a sentence; *tag_of*: (path, described tag) → tag. *security*: ways to sign in beside the bearer token.
    """

    title: str
    version: str
    description: str
    face: Callable[[str], Face]
    parameters: Mapping[str, Schema] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    tag_of: Callable[[str, str], str] = lambda _path, tag: tag
    security: Mapping[str, Schema] = field(default_factory=dict)


def undescribed(routes: Iterable[web.AbstractRouteDef]) -> list[str]:
    """Return the routes that no :func:`describe` speaks for, as "GET /path"."""
    return [f"{r.method} {r.path}" for r in routes if isinstance(r, web.RouteDef) and description_of(r.handler) is None]


def document(routes: Iterable[web.AbstractRouteDef], api: Api) -> Schema:
    """Return the OpenAPI document of *routes*: the same whatever their order; those that nobody described are not in it."""
    return _Writer(api, list(_described(routes))).write()


def _described(routes: Iterable[web.AbstractRouteDef]) -> Iterator[tuple[web.RouteDef, Description]]:
    for route in routes:
        if isinstance(route, web.RouteDef) and (found := description_of(route.handler)) is not None:
            yield route, found


class _Writer:
    def __init__(self, api: Api, described: Sequence[tuple[web.RouteDef, Description]]) -> None:
        self._api = api
        self._described = sorted(described, key=lambda pair: (pair[0].path, pair[0].method))
        self._responses: dict[str, Schema] = {}
        keys = dict.fromkeys(key for _, each in self._described for key in _models(each))
        known: list[Key] = [*keys, (Problem, "serialization"), (IndigoError, "serialization")]
        self._refs, definitions = models_json_schema(
            known, ref_template="#/components/schemas/{model}", schema_generator=AnswerSchemas
        )
        self._schemas: Schema = definitions["$defs"]

    def write(self) -> Schema:
        paths: Schema = {}
        for route, described in self._described:
            path = _PARAMETER.sub(r"{\g<name>}", route.path)
            paths.setdefault(path, {})[route.method.lower()] = self._operation(route, path, described)
        used = {self._api.tag_of(route.path, described.tag) for route, described in self._described}
        tags = {**self._api.tags, **dict.fromkeys(sorted(used - self._api.tags.keys()), "")}
        api = self._api
        return {
            "openapi": "3.1.0",
            "jsonSchemaDialect": DIALECT,
            "info": {
                "title": api.title, "version": api.version, "description": api.description,
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "servers": [{"url": "..", "description": "Where this document came from."}],
            "tags": [{"name": name, "description": text} if text else {"name": name} for name, text in tags.items() if name in used],
            "paths": paths,
            "components": {
                "schemas": dict(sorted((name, schema) for name, schema in self._schemas.items() if name not in self._queries())),
                "responses": dict(sorted(self._responses.items())),
                "headers": {name: {"schema": {"type": "string"}, **header} for name, header in HEADERS.items()},
                "securitySchemes": {"bearer": BEARER, **api.security},
            },
        }  # fmt: skip

    def _queries(self) -> set[str]:
        """Return the schemas that are told as parameters alone."""
        queries = {_name(self._refs[each.query, "validation"]) for _, each in self._described if each.query}
        return queries - {_name(self._refs[each.body, "validation"]) for _, each in self._described if each.body}

    def _operation(self, route: web.RouteDef, path: str, described: Description) -> Schema:
        operation: Schema = {
            "operationId": _operation_id(route.method, path),
            "tags": [self._api.tag_of(path, described.tag)],
            "summary": described.summary,
            **({"description": described.details} if described.details else {}),
            **({"parameters": found} if (found := [*self._parameters(route.path, described)]) else {}),
        }
        if described.body is not None:
            content = {described.body_type: {"schema": self._refs[described.body, "validation"]}}
            operation["requestBody"] = {"required": described.body_required, "content": content}
        operation["responses"] = dict(self._answers(route, path, described))
        operation["security"] = [] if described.public else [{name: []} for name in ("bearer", *self._api.security)]
        if not described.public:
            operation["x-rate-limit"] = limit_of(route.method, described)
        return operation

    # ── what is asked

    def _parameters(self, path: str, described: Description) -> Iterator[Schema]:
        for match in _PARAMETER.finditer(path):
            name, pattern = match["name"], match["pattern"]
            until = _PARAMETER.sub(r"{\g<name>}", path[: match.end()])
            known = self._api.parameters.get(until) or self._api.parameters.get(name)
            plain: Schema = {"type": "string", "minLength": 1} | ({"pattern": f"^(?:{pattern})$"} if pattern else {})
            yield {"name": name, "in": "path", "required": True, "schema": known or plain}
        if described.query is not None:
            schema = self._schemas[_name(self._refs[described.query, "validation"])]
            required = schema.get("required", ())
            for name, field_schema in schema.get("properties", {}).items():
                yield _parameter(name, "query", without_null(field_schema), required=name in required)
        for name, text in described.headers.items():
            schema = REQUEST_HEADERS.get(name, {"type": "string"})
            yield _parameter(name, "header", {**schema, "description": text}, required=False)

    # ── what is answered

    def _answers(self, route: web.RouteDef, path: str, described: Description) -> Iterator[tuple[str, Schema]]:
        face, answers = self._api.face(path), described.answers
        errors = {*described.errors, *_implied(route, described, face)} - answers.keys()
        for status in sorted({*answers, *errors}):
            if status in errors:
                yield str(status), {"$ref": f"#/components/responses/{self._error(status, face)}"}
            else:
                yield str(status), self._answer(status, answers[status], described)

    def _answer(self, status: int, content: Content, described: Description) -> Schema:
        names = {"X-Request-ID", *described.sends, *_usual(status, described)}
        if not described.public:
            names |= {"RateLimit", "RateLimit-Policy"}
        answer: Schema = {"description": reason(status), "headers": _headers(names)}
        if isinstance(content, str):
            medias = (media.strip() for media in content.split(","))
            answer["content"] = {
                each: {"schema": {} if each.endswith(_PARSED) else {"type": "string"}} for each in medias
            }
        elif content is not None:
            answer["content"] = {"application/json": {"schema": self._refs[content, "serialization"]}}
        return answer

    def _error(self, status: int, face: Face) -> str:
        """Return the name of the answer that tells *status*; it is the same for every operation of a face."""
        media, model = _CONTENT[face]
        name = f"{model.__name__}{status}"
        names = {"X-Request-ID"} | ({"Retry-After"} if status in _WAITS else set())
        names |= {"WWW-Authenticate"} if status == 401 else set()  # noqa: PLR2004
        self._responses[name] = {
            "description": reason(status), "headers": _headers(names),
            "content": {media: {"schema": self._refs[model, "serialization"]}},
        }  # fmt: skip
        return name


def _models(described: Description) -> Iterator[Key]:
    for asked in (described.query, described.body):
        if asked is not None:
            yield asked, "validation"
    for content in described.answers.values():
        if content is not None and not isinstance(content, str):
            yield content, "serialization"


def _implied(route: web.RouteDef, described: Description, face: Face) -> Iterator[int]:
    """Yield the errors that every such operation has, said or not."""
    if described.body is not None:
        yield from _BODY_ERRORS
    if described.query is not None and face == "native":  # at the root parameters are read as INDIGO reads them
        yield 400
    if not described.public:
        yield from (401, 429, 503)
        if route.method not in ("GET", "HEAD"):
            yield 403


def _usual(status: int, described: Description) -> Iterator[str]:
    if status in (200, 304) and "If-None-Match" in described.headers:
        yield "ETag"
    if status == 201:  # noqa: PLR2004
        yield "Location"


def _headers(names: Iterable[str]) -> Schema:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in sorted(names)}


def _parameter(name: str, place: str, schema: Schema, *, required: bool) -> Schema:
    text = schema.get("description", "")
    left = {key: value for key, value in schema.items() if key not in ("description", "title")}
    described = {"description": text} if text else {}
    return {"name": name, "in": place, "required": required, **described, "schema": left}


def _name(ref: Schema) -> str:
    return str(ref["$ref"]).rpartition("/")[2]


def _operation_id(method: str, path: str) -> str:
    """Return "getDeploymentsIdTemplate" for GET /deployments/{id}/template: unique, as method and path are."""
    words = [word for word in re.split(r"[^A-Za-z0-9]+", path) if word]
    return method.lower() + "".join(word[0].upper() + word[1:] for word in words or ["root"])
