"""What services have agreed to say stays readable, and says no secret."""

import copy
import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from indaco_common.envelope import unseal

HERE = Path(__file__).parent
SCRIPT = HERE.parent.parent / "scripts" / "contracts.py"
SECRET = re.compile(r"token|secret|password|passwd|private_key|credential|bearer", re.IGNORECASE)
NAMES_OF_SECRETS = {"secret_inputs", "secret_outputs"}  # the names of what the vault holds


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("contracts_script", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


contracts = _load()
ALL = sorted(contracts.kinds())
PLAIN: dict[str, Any] = {
    "type": "object", "required": ["id"],
    "properties": {"id": {"type": "string"}, "size": {"type": "integer", "minimum": 1, "default": 1}, "part": {"$ref": "#/$defs/Part"}},
    "$defs": {"Part": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}},
}  # fmt: skip


def test_files_are_as_the_classes_say() -> None:
    checked = subprocess.run([sys.executable, SCRIPT, "--check"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("name", ALL)
def test_the_example_is_read_and_nothing_in_it_is_lost(name: str) -> None:
    body = (HERE / "examples" / f"{name}.json").read_bytes()
    envelope, message = unseal(body)
    assert message is not None
    assert envelope.name == name
    assert json.loads(message.model_dump_json()) == _as_read(
        json.loads(body)["data"], json.loads(message.model_dump_json())
    )


def _as_read(written: Any, read: Any) -> Any:
    """What the golden file says, with the defaults of fields that came later."""
    if isinstance(written, dict) and isinstance(read, dict):
        return {**read, **{name: _as_read(value, read.get(name)) for name, value in written.items()}}
    return float(written) if isinstance(read, float) else written


@pytest.mark.parametrize("name", ALL)
def test_no_field_of_any_message_is_meant_for_a_secret(name: str) -> None:
    fields = set(_fields(contracts.schema_of(contracts.kinds()[name])))
    assert {field for field in fields if SECRET.search(field)} <= NAMES_OF_SECRETS


def _fields(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        properties = node.get("properties")
        yield from properties if isinstance(properties, dict) else ()
        for value in node.values():
            yield from _fields(value)
    elif isinstance(node, list):
        for value in node:
            yield from _fields(value)


def changed(change: str) -> list[str]:
    after = copy.deepcopy(PLAIN)
    exec(change, {"s": after, "p": after["properties"], "d": after["$defs"]})
    found: list[str] = contracts.incompatibilities(PLAIN, after)
    return found


@pytest.mark.parametrize(
    "change",
    [
        "p['note'] = {'type': 'string', 'default': ''}",
        "p['id']['description'] = 'who'",
        "p['size']['default'] = 2",
        "d['Part']['properties']['weight'] = {'type': 'number'}",
        "d['Piece'] = d.pop('Part'); p['part'] = {'$ref': '#/$defs/Piece'}",
    ],
)
def test_what_a_version_may_gain(change: str) -> None:
    assert changed(change) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("del p['size']", "/size: removed"),
        ("p['size']['type'] = 'string'", '/size/type: was "integer", is "string"'),
        ("p['size']['minimum'] = 2", "/size/minimum: was 1, is 2"),
        ("del p['size']['minimum']", "/size: minimum removed"),
        ("p['id']['pattern'] = '^a'", "/id: pattern added"),
        ("p['note'] = {'type': 'string'}; s['required'].append('note')", "/note: newly required"),
        ("s['required'].append('size')", "/size: newly required"),
        ("s['required'].remove('id')", "/id: no longer required"),
        ("del d['Part']['properties']['name']", "/part/name: removed"),
        ("d['Part']['properties']['name']['type'] = 'integer'", '/part/name/type: was "string", is "integer"'),
    ],
)
def test_what_it_may_not_change(change: str, told: str) -> None:
    assert told in changed(change)


def test_a_message_that_is_gone_and_an_example_that_is_not_understood_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contracts, "SCHEMAS", tmp_path)
    monkeypatch.setattr(contracts, "EXAMPLES", tmp_path)
    example = json.loads((HERE / "examples" / "orchestrator.attempt.alive.v1.json").read_text())
    example["data"]["attempt"] = "first"
    (tmp_path / "sla.quota.lent.v1.json").write_text(json.dumps(example))
    assert list(contracts.broken()) == [
        "sla.quota.lent.v1: gone; it stays until no queue and no journal holds one any more"
    ]
    [told] = contracts.unreadable()
    assert "not understood any more: envelope: attempt" in told


def test_every_message_has_a_channel_and_who_sends_and_receives_it_is_known() -> None:
    document = contracts.asyncapi()
    assert list(document["channels"]) == ALL
    assert document["asyncapi"] == "3.0.0"
    received = [name for name in ALL if any(f".receive.{name}" in operation for operation in document["operations"])]
    commands = [name for name, kind in contracts.kinds().items() if issubclass(kind, contracts.Command)]
    assert set(commands) <= set(received)
    assert "gateway.send.gateway.deployment.requested.v1" in document["operations"]
    assert "orchestrator.send.vault.credential.issue.v1" in document["operations"]


def test_every_reference_of_the_document_leads_somewhere() -> None:
    document = contracts.asyncapi()
    for reference in set(re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(document))):
        node: Any = document
        for part in reference.split("/"):
            node = node[part]
        assert node
