"""Keep the published language: a JSON Schema and an example of every message, AsyncAPI and the page of events made from them; and
the gateway's API as OpenAPI.

`scripts/contracts.py` writes what is new; `--check` changes nothing and fails if files are stale or a contract has broken. Within a
version a message may gain optional fields and nothing else: whoever reads an old message with a new class, or a new message with an
old one, must understand it.
"""

import argparse
import ast
import json
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic.json_schema import models_json_schema

from indaco_common.clock import SystemClock
from indaco_common.envelope import CONTENT_TYPE, TYPE_PREFIX, Envelope, unseal
from indaco_common.errors import Invalid
from indaco_common.infra import open_infra
from indaco_common.launcher.specs import ORDER, whole_topology
from indaco_common.messages import REGISTRY, Command, Message
from indaco_common.settings import Settings
from indaco_gateway.api.docs import openapi as describe_routes
from indaco_gateway.app import SERVICE as GATEWAY
from indaco_gateway.settings import GatewaySettings

ROOT = Path(__file__).resolve().parent.parent
SCHEMAS, EXAMPLES = ROOT / "tests/contracts/schemas", ROOT / "tests/contracts/examples"
EVENTS, ASYNCAPI, OPENAPI = ROOT / "docs/events.md", ROOT / "docs/asyncapi.json", ROOT / "docs/openapi.json"
PROSE = frozenset({"title", "description", "default", "examples"})  # keywords that validate nothing
Schema = dict[str, Any]


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the contracts of all messages, or check them.")
    parser.add_argument("--check", action="store_true", help="change nothing; fail if something is stale or has broken")
    parser.add_argument(
        "--accept-breaking", action="store_true", help="overwrite contracts that nobody has relied upon yet"
    )
    arguments = parser.parse_args()
    problems = [] if arguments.accept_breaking else list(broken())
    problems += list(unreadable())
    if not problems and not arguments.check:
        write()
    if arguments.check:
        problems += stale()
    print("\n".join(problems) or f"contracts: {len(kinds())} messages, all as agreed")
    return bool(problems)


# ── what there is


def kinds() -> dict[str, type[Message]]:
    """Return every message of the published language by its name."""
    published = {
        name: kind for name, kind in REGISTRY.items() if kind.__module__.startswith("indaco_common.contracts.")
    }
    return dict(sorted(published.items()))


def schema_of(kind: type[Message]) -> Schema:
    word = "command" if issubclass(kind, Command) else "event"
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"/contracts/{kind.TYPE}.json",
        "x-kind": word,
    }
    return {**head, **kind.model_json_schema()}


def senders() -> dict[str, tuple[str, ...]]:
    """Return name → services whose code makes the message: found by reading it, since nobody declares what they say.

    Where the class is chosen first and called later, the service that the message is named for is taken, if it knows the class.
    """
    code = {service: list(_references(service)) for service in ORDER}
    found = {}
    for name, kind in kinds().items():
        makes = [s for s in ORDER if (kind.__name__, True) in code[s]]
        knows = [s for s in ORDER if s.startswith(name.partition(".")[0]) and (kind.__name__, False) in code[s]]
        found[name] = tuple(makes or knows)
    return found


def _references(service: str) -> Iterator[tuple[str, bool]]:
    """Yield the names in a service's code, and whether they are called."""
    spec = find_spec(f"indaco_{service.replace('-', '_')}")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for file in sorted(Path(folder).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text())):
                called = isinstance(node, ast.Call)
                target = node.func if isinstance(node, ast.Call) else node
                if isinstance(target, ast.Name | ast.Attribute):
                    yield (target.id if isinstance(target, ast.Name) else target.attr), called


# ── what may not change


def broken() -> Iterator[str]:
    """Yield where a committed contract is no longer kept."""
    now = kinds()
    for file in sorted(SCHEMAS.glob("*.json")):
        if file.stem not in now:
            yield f"{file.stem}: gone; it stays until no queue and no journal holds one any more"
            continue
        before, after = json.loads(file.read_text()), schema_of(now[file.stem])
        yield from (f"{file.stem}: {change}" for change in incompatibilities(before, after))


def incompatibilities(before: Schema, after: Schema) -> list[str]:
    """Return how a reader of one of two schemas of the same message would not understand what fits the other."""
    return list(_compare(_resolved(before, before), _resolved(after, after), ""))


def _compare(before: Any, after: Any, where: str) -> Iterator[str]:
    """Everything that validates must be the same, but that objects may have new fields which are not required."""
    if not (isinstance(before, dict) and isinstance(after, dict)):
        if before != after:
            yield f"{where or '/'}: was {json.dumps(before)}, is {json.dumps(after)}"
        return
    fields = before.get("properties", {}), after.get("properties", {})
    for name in fields[0]:
        if name not in fields[1]:
            yield f"{where}/{name}: removed"
        else:
            yield from _compare(fields[0][name], fields[1][name], f"{where}/{name}")
    required = set(before.get("required", ())), set(after.get("required", ()))
    yield from (f"{where}/{name}: newly required" for name in sorted(required[1] - required[0]))
    yield from (
        f"{where}/{name}: no longer required" for name in sorted(required[0] - required[1]) if name in fields[1]
    )
    for keyword in sorted((before.keys() | after.keys()) - PROSE - {"properties", "required"}):
        if keyword not in before or keyword not in after:
            yield f"{where or '/'}: {keyword} {'removed' if keyword in before else 'added'}"
        else:
            yield from _compare_keyword(before[keyword], after[keyword], f"{where}/{keyword}")


def _compare_keyword(before: Any, after: Any, where: str) -> Iterator[str]:
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for one, other in zip(before, after, strict=True):
            yield from _compare(one, other, where)
    else:
        yield from _compare(before, after, where)


def _resolved(node: Any, root: Schema, depth: int = 0) -> Any:
    """Return *node* with its references replaced by what they stand for; prose and identifiers left out."""
    if depth > 30:  # noqa: PLR2004
        raise SystemExit("a contract refers to itself; this comparison does not know how to end")
    if isinstance(node, list):
        return [_resolved(item, root, depth + 1) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return _resolved(root["$defs"][node["$ref"].removeprefix("#/$defs/")], root, depth + 1)
    left = {name: value for name, value in node.items() if name not in PROSE | {"$defs", "$schema", "$id"}}
    fields = left.pop("properties", None)
    resolved = {name: _resolved(value, root, depth + 1) for name, value in left.items()}
    if fields is not None:  # their names are not keywords: one may be called "title"
        resolved["properties"] = {name: _resolved(value, root, depth + 1) for name, value in fields.items()}
    return resolved


def unreadable() -> Iterator[str]:
    """Yield the committed examples that the present classes do not read."""
    for file in sorted(EXAMPLES.glob("*.json")):
        try:
            _, message = unseal(file.read_bytes())
        except Invalid as error:
            yield f"{file.stem}: its example is not understood any more: {error.detail}"
            continue
        if message is None:
            yield f"{file.stem}: its example has no reader any more"


# ── what is written


def write() -> None:
    for file, text in generated().items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    EXAMPLES.mkdir(parents=True, exist_ok=True)
    for name, kind in kinds().items():
        file = EXAMPLES / f"{name}.json"
        if not file.exists():  # an example is golden: a later version of the class must read it as it is
            file.write_text(_pretty(example_of(kind)))


def stale() -> list[str]:
    found = []
    for file, text in generated().items():
        if not file.exists() or file.read_text() != text:
            found.append(f"{file.relative_to(ROOT)}: stale; make contracts")
    found += [f"{n}: has no example; make contracts" for n in kinds() if not (EXAMPLES / f"{n}.json").exists()]
    return found


def generated() -> dict[Path, str]:
    """Return every file that is made from the classes alone."""
    files = {SCHEMAS / f"{name}.json": _pretty(schema_of(kind)) for name, kind in kinds().items()}
    return {**files, ASYNCAPI: _pretty(asyncapi()), EVENTS: events_page(), OPENAPI: _pretty(openapi())}


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def example_of(kind: type[Message]) -> Schema:
    """Return an envelope whose every field has a value; made once, then edited by hand where that reads better."""
    schema = kind.model_json_schema()
    data = {name: _example(name, field, schema) for name, field in schema["properties"].items()}
    service = senders()[kind.TYPE][:1] or (kind.TYPE.partition(".")[0],)
    envelope = {
        "specversion": "1.0", "id": "01990000-0000-7000-8000-000000000001", "source": f"/indaco/{service[0]}",
        "type": TYPE_PREFIX + kind.TYPE, "subject": f"{kind.SUBJECT}/{data[kind.KEY]}", "time": "2026-03-01T12:00:00Z",
        "datacontenttype": "application/json", "dataschema": f"/contracts/{kind.TYPE}.json", "sequence": "000000000003.00",
        "partitionkey": data[kind.KEY], "correlationid": data.get("deployment_id", data[kind.KEY]),
        "causationid": "01990000-0000-7000-8000-000000000000", "data": data,
    }  # fmt: skip
    return Envelope.model_validate(envelope).model_dump(mode="json", exclude_none=True)


SAMPLES: Mapping[str, Any] = {
    "deployment_id": "0198f7c1-5b1e-7c3a-9c1d-2f0e8a7b6c5d", "reservation_id": "6f3a0d5e-5c1b-5a38-9d0e-1b6f6a4f2c11",
    "user_id": "0b6e0f0a-2f0d-5c58-8d2f-6f1f0c6f7a10", "ledger_id": "cms-cnaf", "agreement": "cms-cnaf", "agreement_id": "cms-cnaf",
    "provider": "CLOUD-CNAF-T1", "provider_id": "CLOUD-CNAF-T1", "region": "tier1", "project": "cms", "kind": "simulated",
    "endpoint": "https://cloud.example.org:5000/v3", "issuer": "https://iam.example.org/", "subject": "ada", "path": "cms/analysis",
    "slot": "main", "node": "server-0", "name": "default", "state": "active", "flavor": "medium", "image": "ubuntu-22.04",
    "handle": "leases/0198f7c1-5b1e-7c3a-9c1d-2f0e8a7b6c5d/1", "fingerprint": "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU",
    "public_key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f default",
    "template": "tosca_definitions_version: tosca_simple_yaml_1_3\n", "code": "no-capacity", "detail": "the site is full",
    "resource_id": "vm-0001", "record_id": "0198f7c1-5b1e-7c3a-9c1d-2f0e8a7b6c5d/1/server-0", "public_address": "198.51.100.1",
    "protocol": "tcp", "remote_cidr": "0.0.0.0/0", "inputs": {"num_cpus": 2}, "outputs": {"node_ip": "198.51.100.1"},
    "secret_inputs": ["service_token"], "secret_outputs": ["node_creds"], "attempt": 1, "serial": 0, "update": 1, "port": 22, "port_end": 22,
    "max_attempts": 255, "count": 1, "score": 0.75,
}  # fmt: skip


def _example(name: str, schema: Schema, root: Schema) -> Any:
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].removeprefix("#/$defs/")]
    if "properties" in schema:
        return {inner: _example(inner, field, root) for inner, field in schema["properties"].items()}
    if name in SAMPLES:
        return SAMPLES[name]
    if options := [option for option in schema.get("anyOf", ()) if option.get("type") != "null"]:
        return _example(name, options[0], root)
    match schema.get("type"):
        case "string" if schema.get("format") == "date-time":
            return "2026-03-01T12:00:00Z"
        case "string":
            return ""
        case "boolean":
            return False
        case "integer" | "number":
            return max(1, schema.get("minimum", 1))
        case "array":
            return (
                [_example(name.removesuffix("s").replace("reason", "code"), schema["items"], root)]
                if "items" in schema
                else []
            )
        case "object" if values := _values(schema):
            key = "instances" if values.get("type") == "integer" else "server-0"
            return {key: _example(key, values, root)}
        case _:
            return {}


def _values(schema: Schema) -> Schema | None:
    """Return what a map holds."""
    found = next(iter(schema.get("patternProperties", {}).values()), schema.get("additionalProperties"))
    return found if isinstance(found, dict) else None


# ── AsyncAPI


def asyncapi() -> Schema:
    """Return the whole as an AsyncAPI 3.0 document: a channel for each routing key, who sends and who receives."""
    _, definitions = models_json_schema(
        [(kind, "validation") for kind in kinds().values()], ref_template="#/components/schemas/{model}"
    )
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Indaco", "version": version("indaco"), "license": {"name": "Apache-2.0"},
            "description": "What the services of Indaco say to each other, as CloudEvents 1.0 in structured JSON. Names are routing keys: bind a queue of "
            "your own to the topic exchange of a channel. Events come at least once, in any order; `id` and `sequence` tell.",
        },
        "defaultContentType": CONTENT_TYPE,
        "channels": {name: _channel(name, kind) for name, kind in kinds().items()},
        "operations": dict(_operations()),
        "components": {
            "messages": {name: _message(name, kind) for name, kind in kinds().items()},
            "schemas": dict(sorted(definitions["$defs"].items())),
        },
    }  # fmt: skip


def _channel(name: str, kind: type[Message]) -> Schema:
    exchange = {
        "name": "indaco.commands" if issubclass(kind, Command) else "indaco.events",
        "type": "topic",
        "durable": True,
    }
    return {
        "address": name,
        "messages": {name: {"$ref": f"#/components/messages/{name}"}},
        "bindings": {"amqp": {"is": "routingKey", "exchange": exchange, "bindingVersion": "0.3.0"}},
    }


def _operations() -> Iterator[tuple[str, Schema]]:
    told, heard = senders(), whole_topology().receivers()
    for name in kinds():
        for action, services in (("send", told[name]), ("receive", heard.get(name, ()))):
            for service in services:
                yield f"{service}.{action}.{name}", {"action": action, "channel": {"$ref": f"#/channels/{name}"}}


def _message(name: str, kind: type[Message]) -> Schema:
    data = {"$ref": f"#/components/schemas/{kind.__name__}"}
    payload = {
        "type": "object", "required": ["specversion", "id", "source", "type", "subject", "time", "sequence", "correlationid", "data"],
        "properties": {
            "specversion": {"const": "1.0"}, "id": {"type": "string", "format": "uuid"}, "source": {"type": "string"},
            "type": {"const": TYPE_PREFIX + name}, "subject": {"type": "string"}, "time": {"type": "string", "format": "date-time"},
            "sequence": {"type": "string"}, "correlationid": {"type": "string"}, "causationid": {"type": "string"},
            "traceparent": {"type": "string"}, "data": data,
        },
    }  # fmt: skip
    return {
        "name": name,
        "title": kind.__name__,
        "summary": _summary(kind),
        "contentType": CONTENT_TYPE,
        "payload": payload,
    }


# ── OpenAPI


def openapi() -> Schema:
    """Return the gateway's API as an OpenAPI 3.1 document: of a gateway that was built, and never started."""
    with TemporaryDirectory() as folder:
        places = {
            "bus": "embedded:",
            "store": "sqlite:",
            "secrets": "vault+http://localhost:8200",
            "vault_token": "none",
        }
        infra = open_infra(GATEWAY, Settings.model_validate({"data": folder, **places}), SystemClock())
        return describe_routes(GATEWAY.build(infra, GatewaySettings()).routes)


# ── the page


INTRODUCTION = """\
What the services say to each other. An *event* is a fact with any number of readers; a *command* asks one owner for something.
Each is published in an envelope of CloudEvents 1.0, under its name as routing key. Within a version a message only gains optional
fields. The same as data: `docs/asyncapi.json` (AsyncAPI 3.0), and a JSON Schema and an example each in `tests/contracts/`.

To listen, bind a queue of your own to the topic exchange `indaco.events` (that of commands is `indaco.commands`). In a binding key `*` stands for one word and
`#` for any number: `orchestrator.deployment.*.v1` is what happens to deployments as a whole, `sla.placement.#` every choice of a place. An event comes at
least once, and in any order: its `id` tells what came before, and of two with the same `source` and `subject` the one with the greater `sequence` is the
later. `examples/subscriber` does it, and says which permissions it takes."""


def events_page() -> str:
    """Return the page of events for people."""
    told, heard = senders(), whole_topology().receivers()
    lines = ["# Events and commands", "", "<!-- Made by scripts/contracts.py; do not edit. -->", "", INTRODUCTION, ""]
    for owner in (service.partition("-")[0] for service in ORDER):
        lines += [f"## {owner}", ""]
        for name, kind in kinds().items():
            if name.startswith(f"{owner}."):
                lines += _section(name, kind, told[name], heard.get(name, ()))
    return "\n".join(lines).rstrip() + "\n"


def _section(name: str, kind: type[Message], told: tuple[str, ...], heard: tuple[str, ...]) -> list[str]:
    word = "Command" if issubclass(kind, Command) else "Event"
    by = ", ".join(told) or "no service yet"
    schema = kind.model_json_schema()
    required = schema.get("required", ())
    rows = [
        f"| `{field}` | {_shape(shape)} | {'yes' if field in required else ''} |"
        for field, shape in schema["properties"].items()
    ]
    return [
        f"### {name}", "", f"{word}, subject {kind.SUBJECT}, from {by} to {', '.join(heard) or 'whoever listens'}.",
        *(["", _summary(kind)] if _summary(kind) else []), "", "| field | type | required |", "| --- | --- | --- |", *rows, "",
    ]  # fmt: skip


def _summary(kind: type[Message]) -> str:
    return " ".join((kind.__dict__.get("__doc__") or "").split())


def _shape(schema: Schema) -> str:
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if options := schema.get("anyOf"):
        return " or ".join(_shape(option) for option in options)
    match schema.get("type"):
        case "array":
            return f"list of {_shape(schema.get('items', {}))}"
        case "object" if values := _values(schema):
            return f"map to {_shape(values)}"
        case "string" if schema.get("format") == "date-time":
            return "instant"
        case kind:
            return str(kind or "any")


if __name__ == "__main__":
    sys.exit(main())
