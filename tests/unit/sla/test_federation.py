"""The federation file: what it says, and how each fault is told with its file and place."""

import json
from pathlib import Path

import pytest
import yaml

from indaco_common.errors import Invalid
from indaco_sla import federation
from indaco_sla.federation import DEMO, MAX_BYTES, load

GOOD = """
providers:
  - id: site-a
    kind: simulated
    regions: [r1, r2]
agreements:
  - &first
    id: cms-a
    group: {issuer: "${TEST_ISSUER}", path: cms}
    provider: site-a
    region: r1
    project: cms
    limits: {instances: 4, cpu_milli: 8000}
    valid_from: 2026-01-01T00:00:00Z
    valid_to: 2027-01-01T00:00:00Z
  - <<: *first
    id: cms-b
    region: r2
"""


@pytest.fixture(autouse=True)
def issuer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_ISSUER", "https://iam.example.org/")


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "federation.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def faults(path: Path) -> dict[str, str]:
    with pytest.raises(Invalid) as raised:
        load(path)
    assert str(path) in raised.value.detail
    return {fault.pointer: fault.detail for fault in raised.value.errors}


def test_a_good_file_is_read_with_what_the_environment_has(tmp_path: Path) -> None:
    read = load(written(tmp_path, GOOD))
    assert [agreement.id for agreement in read.agreements] == ["cms-a", "cms-b"]
    assert read.agreements[1].group.issuer == "https://iam.example.org/"
    assert read.providers[0].regions == ("r1", "r2")


def test_json_is_yaml_too(tmp_path: Path) -> None:
    read = load(written(tmp_path, json.dumps({"providers": [{"id": "a", "kind": "docker"}]})))
    assert read.providers[0].kind == "docker"


def test_an_empty_file_is_an_empty_federation(tmp_path: Path) -> None:
    assert load(written(tmp_path, "# nothing yet, and ${NOT_SET} in a comment is nothing\n")).providers == ()


def test_the_demo_is_a_good_file(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {
        "INDACO_ISSUER": "http://127.0.0.1:8085",
        "INDACO_SIMULATED": "/tmp/sites",
        "INDACO_DOCKER_STATE": "maintenance",
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    assert len(load(DEMO).providers) == 4


def test_variables_that_are_not_set_are_all_named_with_their_places(tmp_path: Path) -> None:
    text = GOOD.replace("kind: simulated", 'kind: simulated\n    endpoint: "simulated:${NOT_SET}/${NOR_THIS}"')
    found = faults(written(tmp_path, text))
    assert found == {"/providers/0/endpoint": "the environment has no NOR_THIS"}
    with pytest.raises(Invalid, match=r"NOT_SET.*NOR_THIS"):
        load(tmp_path / "federation.yaml")


def test_a_variable_changes_a_value_and_never_what_the_file_is_made_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_ISSUER", 'x", path: root}\nproviders: [] # ${HOME}')
    read = load(written(tmp_path, GOOD))
    assert read.agreements[0].group.issuer == 'x", path: root}\nproviders: [] # ${HOME}'
    assert read.agreements[0].group.path == "cms"


def test_a_dollar_alone_is_a_dollar(tmp_path: Path) -> None:
    text = GOOD.replace("project: cms", 'project: "$HOME $5 {x}"')
    assert load(written(tmp_path, text)).agreements[0].project == "$HOME $5 {x}"


@pytest.mark.parametrize(
    ("old", "new", "pointer", "detail"),
    [
        ("kind: simulated", "kind: Simulated", "/providers/0/kind", "pattern"),
        ("kind: simulated", "kind: simulated\n    colour: red", "/providers/0/colour", "not permitted"),
        ("provider: site-a", "provider: site-b", "/agreements/0/provider", "no provider site-b"),
        ("region: r1", "region: r3", "/agreements/0/region", "site-a has no region r3"),
        ("id: cms-b", "id: cms-a", "/agreements/1/id", "cms-a is named twice"),
        ("instances: 4", "machines: 4", "/agreements/0/limits", "no resource class"),
        ("2027-01-01T00:00:00Z", "2025-01-01T00:00:00Z", "/agreements/0", "before"),
        ("2027-01-01T00:00:00Z", "2027-01-01T00:00:00", "/agreements/0/valid_to", "timezone"),
    ],
)  # fmt: skip
def test_a_fault_is_told_with_its_place(tmp_path: Path, old: str, new: str, pointer: str, detail: str) -> None:
    found = faults(written(tmp_path, GOOD.replace(old, new)))
    assert detail in found[pointer]


def test_all_faults_are_told_the_first_in_words(tmp_path: Path) -> None:
    document = {"agreements": [{"id": f"a{i}"} for i in range(3)]}
    path = written(tmp_path, yaml.safe_dump(document))
    found = faults(path)
    assert {f"/agreements/{i}/provider" for i in range(3)} <= set(found)
    with pytest.raises(Invalid, match=r"and \d+ more"):
        load(path)


@pytest.mark.parametrize(
    ("text", "told"),
    [("providers: [", "not YAML"), (b"\xff\xfe\x00", "not YAML"), ("- a\n- b\n", "/: "), ("!!python/object:x {}", "not YAML")],
)  # fmt: skip
def test_what_is_no_federation_is_refused(tmp_path: Path, text: str | bytes, told: str) -> None:
    with pytest.raises(Invalid, match=told) as raised:
        load(written(tmp_path, text))
    assert "\n" not in raised.value.detail


def test_a_file_that_is_not_there_or_too_large_is_named(tmp_path: Path) -> None:
    faults(tmp_path / "none.yaml")
    with pytest.raises(Invalid, match="larger than"):
        load(written(tmp_path, b"#" * (MAX_BYTES + 1)))


def test_the_module_says_that_leaving_out_removes_nothing() -> None:
    assert federation.__doc__ is not None
    assert "Nothing is removed" in federation.__doc__
