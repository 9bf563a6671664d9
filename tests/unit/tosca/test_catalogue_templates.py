"""The templates of the catalogue: each is valid, asks for what its own test says, and installs itself at the first boot."""

import re
import subprocess
from collections.abc import Mapping

import pytest
import yaml
from tests.corpus import REPOSITORY

from indaco_tosca import Kind, TemplateError, first_boot, outputs, parse, plan
from indaco_tosca.catalogue import read
from indaco_tosca.catalogue_check import checked

CATALOGUE = REPOSITORY / "catalogue"
FILES = {str(file.relative_to(CATALOGUE)): file.read_bytes() for file in CATALOGUE.rglob("*") if file.is_file()}
READ = checked(read(FILES))
VERSIONS = {f"{name}@{version.number}": version for name, card in READ.cards.items() for version in card.versions}
CASES = {f"{name}: {case.name}": (version, case) for name, version in VERSIONS.items() for case in version.cases}
WANTED = {
    "virtual-machine", "virtual-machine-with-volume", "virtual-machine-encrypted-volume", "docker-run", "docker-compose", "jupyter",
    "jupyterhub", "jupyter-ml-gpu", "spark-jupyter", "kubernetes", "htcondor-mini", "htcondor-cluster", "elasticsearch-kibana",
    "slurm-cluster", "nextcloud", "iam", "s3-bucket", "monitoring", "cvmfs-workstation",
}  # fmt: skip
WITH_A_SYSTEM = [
    "virtual-machine", "virtual-machine-with-volume", "virtual-machine-encrypted-volume", "docker-run", "docker-compose", "jupyter",
]  # fmt: skip
MAX_USER_DATA = 16 * 1024  # bytes, on the clouds that take least
PINNED = re.compile(r"[a-z0-9./-]+:[A-Za-z0-9_.-]*(\d|\$\{[A-Z_]+\})[A-Za-z0-9_.-]*")
every_case = pytest.mark.parametrize(("version", "case"), CASES.values(), ids=CASES)
every_version = pytest.mark.parametrize("version", VERSIONS.values(), ids=VERSIONS)


def planned(version, case):
    return plan(parse(version.template), case.inputs)


def attributes_of(made) -> dict[str, dict[str, object]]:
    """What a site may say of each node of a plan that runs."""
    found = {}
    for index, node in enumerate(made.nodes):
        ports = {"ssh": {"source": 22, "target": 22}} | {
            rule.name: {"source": rule.port, "target": rule.port} for rule in node.ports
        }
        found[node.name] = {
            "private_address": [f"10.0.{index}.{number}" for number in range(1, node.count + 1)],
            "public_address": [f"192.0.2.{index + 1}"] if node.public_ip else [],
            "endpoint": {
                "credential": [{"user": "ubuntu", "token_type": "public_key", "token": "KEY"}],
                "ports": ports,
            },
        }
        if node.kind is Kind.BUCKET:
            found[node.name] = {"bucket_name": "1234-results", "s3_url": "https://s3.example.org"}
    return found


def boots_of(made) -> dict[str, str]:
    """The script of each machine, those that wait for others too."""
    attributes = attributes_of(made)
    return {
        node.name: first_boot(made, node, attributes) if node.is_late else node.user_data
        for node in made.nodes
        if node.kind is Kind.MACHINE
    }


def compose_files(version) -> list[Mapping]:
    nodes = parse(version.template).nodes.values()
    return [yaml.safe_load(text) for node in nodes if isinstance(text := node.properties.get("compose_file"), str)]


def test_every_card_that_was_promised_is_there_and_passes_its_own_test():
    assert not READ.problems, [f"{p.file} {p.problem.path}: {p.problem.message}" for p in READ.problems]
    assert READ.cards.keys() == WANTED


@every_case
def test_a_template_plans_without_a_warning_and_nothing_needs_a_configurator(version, case):
    made = planned(version, case)
    assert made.warnings == ()
    machines = [node for node in made.nodes if node.kind is Kind.MACHINE]
    assert [software.node for node in machines for software in node.software if not software.is_native] == []


@every_case
def test_every_output_has_a_value_once_the_machines_run(version, case):
    made = planned(version, case)
    for name, output in outputs(made, attributes_of(made)).items():
        assert output.problem == "", name
        assert output.value not in (None, ""), name


@every_case
def test_every_first_boot_is_a_correct_shell_program_of_a_size_that_all_clouds_take(version, case):
    for script in boots_of(planned(version, case)).values():
        subprocess.run(["/bin/sh", "-n"], input=script, text=True, check=True, timeout=10)
        assert len(script.encode()) < MAX_USER_DATA


@every_case
def test_a_machine_that_waits_needs_only_machines_that_do_not(version, case):
    made = planned(version, case)
    late = {node.name for node in made.nodes if node.is_late}
    assert not [node.name for node in made.nodes if late & set(node.dependencies)]


@every_case
def test_every_secret_of_a_template_is_used_and_changes_nothing_of_what_is_asked_of_a_site(version, case):
    parsed = parse(version.template)
    secrets = {name for name, declared in parsed.inputs.items() if declared.secret and name in case.inputs}
    strange = {name: f'it\'s $(id) `id` \\ "{name}" #{index}' for index, name in enumerate(sorted(secrets))}
    made = plan(parsed, {**case.inputs, **strange})
    together = "".join(boots_of(made).values())
    for name in secrets:
        assert f'"{name}"' in together or f'\\"{name}\\"' in together, f"{name} is not used"
    absent = plan(parsed, {k: v for k, v in case.inputs.items() if k not in secrets}, absent_secrets=frozenset(secrets))
    assert [node.count for node in absent.nodes] == [node.count for node in made.nodes]


@every_version
def test_every_input_has_a_description_and_stands_on_one_tab(version):
    parsed = parse(version.template)
    tabs = [name for names in parsed.metadata["tabs"].values() for name in names]
    assert sorted(tabs) == sorted(parsed.inputs)
    assert [name for name, declared in parsed.inputs.items() if not declared.description] == []
    assert parsed.metadata["template_version"] == version.number


@every_version
def test_every_image_of_a_compose_file_is_named_with_a_version(version):
    for content in compose_files(version):
        images = [service["image"] for service in content["services"].values() if "build" not in service]
        assert [image for image in images if image != "${IMAGE}" and not PINNED.fullmatch(image)] == []
        assert not [image for image in images if "latest" in image]


@every_version
def test_every_variable_of_a_compose_file_is_given_to_it(version):
    for node in parse(version.template).nodes.values():
        if not isinstance(text := node.properties.get("compose_file"), str):
            continue
        listed = [key for item in node.properties.get("environment_variables", []) for key in item]
        known = {*listed, *node.properties.get("secret_variables", {})}
        assert set(re.findall(r"(?<!\$)\$\{([A-Z_]+)\}", text)) <= known, node.name


@every_version
def test_the_shell_and_python_of_a_template_is_correct(version):
    for node in parse(version.template).nodes.values():
        for name, text in (node.properties.get("files") or {}).items():
            if name.endswith(".sh"):
                subprocess.run(["bash", "-n"], input=text, text=True, check=True, timeout=10)
            if name.endswith(".py"):
                compile(text, name, "exec")
            if name.endswith(".yaml"):
                yaml.safe_load(text)


def first_of(card: str):
    version = VERSIONS[f"{card}@1.0.0"]
    return parse(version.template), version.cases[0].inputs


@pytest.mark.parametrize("distribution", ["ubuntu", "debian", "almalinux"])
@pytest.mark.parametrize("card", WITH_A_SYSTEM)
def test_a_distribution_is_asked_for_in_any_version_unless_one_is_named(card, distribution):
    parsed, inputs = first_of(card)
    inputs = {**inputs, "os_distribution": distribution}
    (server,) = plan(parsed, inputs).nodes
    assert server.image == {"type": "linux", "distribution": distribution}
    (server,) = plan(parsed, {**inputs, "os_version": 9.4}).nodes
    assert server.image["version"] == "9.4"


@pytest.mark.parametrize(
    ("card", "refused"),
    [
        *[
            (card, {"mount_point": folder})
            for card in ("virtual-machine-with-volume", "virtual-machine-encrypted-volume")
            for folder in ("/etc", "/", "/home", "/opt", "/database", "/data/", "/data/../etc", "/srv/.a", "/mnt/a b")
        ],
        ("docker-run", {"docker_tag": "1.0 --privileged"}),
        ("docker-run", {"docker_tag": "1" * 129}),
        ("docker-compose", {"compose_file": ""}),
    ],
)
def test_what_would_make_a_machine_of_no_use_is_refused(card, refused):
    parsed, inputs = first_of(card)
    with pytest.raises(TemplateError) as error:
        plan(parsed, {**inputs, **refused})
    (name,) = refused
    assert [(problem.code, problem.path) for problem in error.value.problems] == [
        ("constraint-violated", f"/inputs/{name}")
    ]


@pytest.mark.parametrize("folder", ["/data", "/mnt", "/srv/archive", "/home/ada/of.2024", "/opt/results"])
def test_a_volume_may_appear_where_data_belongs(folder):
    parsed, inputs = first_of("virtual-machine-with-volume")
    (server,) = plan(parsed, {**inputs, "mount_point": folder}).nodes
    assert server.volumes[0].mount == folder


@pytest.mark.parametrize("card", ["elasticsearch-kibana", "monitoring"])
def test_who_deploys_what_asks_for_a_password_without_encryption_says_who_may_reach_it(card):
    parsed, inputs = first_of(card)
    with pytest.raises(TemplateError) as error:
        plan(parsed, {name: value for name, value in inputs.items() if name != "allowed_network"})
    assert [(p.code, p.path) for p in error.value.problems] == [("input-required", "/inputs/allowed_network")]


@pytest.mark.parametrize("card", ["jupyter", "jupyter-ml-gpu", "spark-jupyter", "elasticsearch-kibana", "monitoring"])
def test_a_guide_says_first_that_the_way_to_its_service_is_not_encrypted(card):
    assert "not encrypted" in (CATALOGUE / card / "guide.md").read_text().split("\n\n")[1]
