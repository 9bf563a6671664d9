"""The templates of the catalogue: each is valid, asks for what its own test says, and installs itself at the first boot."""

import base64
import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import ClassVar

import pytest
import yaml
from tests.corpus import REPOSITORY

from indaco_tosca import Kind, first_boot, outputs, parse, plan
from indaco_tosca.catalogue import read
from indaco_tosca.catalogue_check import checked
from indaco_tosca.recipes.shell import FUNCTIONS

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


def program_of(card: str, node: str) -> str:
    return parse(VERSIONS[f"{card}@1.0.0"].template).nodes[node].properties["script"]


def test_the_targets_of_the_monitoring_become_one_entry_each(tmp_path):
    program = program_of("monitoring", "targets_file").replace("/opt/", f"{tmp_path}/")
    for targets, wanted in (("", []), ("a:9100,198.51.100.8:9100", [["a:9100"], ["198.51.100.8:9100"]])):
        subprocess.run(
            ["/bin/sh", "-eu", "-c", program], env={"TARGETS": targets, "PATH": "/usr/bin:/bin"}, check=True, timeout=10
        )
        entries = yaml.safe_load((tmp_path / "monitoring/targets/machines.yaml").read_text()) or []
        assert [entry["targets"] for entry in entries] == wanted


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not here")
def test_the_signing_key_of_iam_is_a_whole_rsa_key_that_is_made_once(tmp_path):
    program = "packages() { :; }\n" + program_of("iam", "signing_key").replace("/opt/", f"{tmp_path}/")
    subprocess.run(["/bin/sh", "-eu", "-c", program], check=True, timeout=60)
    made = (tmp_path / "iam/keystore.jwks").read_text()
    (key,) = json.loads(made)["keys"]
    n, e, d, p, q = (int.from_bytes(base64.urlsafe_b64decode(key[part] + "==")) for part in "nedpq")
    assert (key["kid"], n.bit_length(), p * q) == ("rsa1", 2048, n)
    assert pow(pow(42, e, n), d, n) == 42
    subprocess.run(["/bin/sh", "-eu", "-c", program], check=True, timeout=60)
    assert (tmp_path / "iam/keystore.jwks").read_text() == made


class _Elasticsearch(BaseHTTPRequestHandler):
    """Keeps what it was asked, and says the first time that it is not ready."""

    asked: ClassVar[list[tuple[str, str, object]]] = []

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        login = base64.b64decode(self.headers["Authorization"].removeprefix("Basic ")).decode()
        self.asked.append((self.path, login, body))
        self.send_response(200 if len(self.asked) > 1 else 503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format, *arguments):
        pass


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("bash")), reason="curl or bash is not here")
def test_the_password_of_kibana_is_set_as_it_was_given_once_elasticsearch_is_ready():
    elastic, kibana = 'it\'s "$(id)" \\ `id`', "a\"b\\c'd $HOME"
    program = (
        parse(VERSIONS["elasticsearch-kibana@1.0.0"].template).nodes["elastic"].properties["files"]["passwords.sh"]
    )
    with HTTPServer(("127.0.0.1", 0), _Elasticsearch) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        prepared = program.replace("elasticsearch:9200", f"127.0.0.1:{server.server_port}").replace(
            "sleep 5", "sleep 0"
        )
        environment = {
            "ELASTIC_PASSWORD": elastic,
            "KIBANA_PASSWORD": kibana,
            "PATH": "/usr/bin:/bin",
            "no_proxy": "127.0.0.1",
        }
        subprocess.run(["bash", "-c", prepared], env=environment, check=True, timeout=30, capture_output=True)
        server.shutdown()
    wanted = ("/_security/user/kibana_system/_password", f"elastic:{elastic}", {"password": kibana})
    assert _Elasticsearch.asked == [wanted, wanted]


COMPOSE = r"""
sleep() { :; }
compose() {
  echo "$*" >>calls
  case "$*" in
    *hash-password) cat >password; echo '$2a$14$hash' ;;
    *exec*) cat >>statements; echo; grep -c . calls | grep -q 5 && echo 1 || echo 0 ;;
  esac
}
"""


def test_nobody_reaches_a_new_iam_before_its_administrator_has_the_password_that_was_given(tmp_path):
    (tmp_path / "iam").mkdir()
    program = program_of("iam", "administrator").replace("/opt/", f"{tmp_path}/")
    password = 'it\'s $(id) "x"'
    environment = {"ADMIN_PASSWORD": password, "PATH": "/usr/bin:/bin"}
    whole = FUNCTIONS + COMPOSE + program
    for _ in range(2):
        subprocess.run(["/bin/sh", "-c", whole], env=environment, check=True, timeout=30, cwd=tmp_path / "iam")
    calls = (tmp_path / "iam/calls").read_text().splitlines()
    assert (tmp_path / "iam/password").read_text() == password + "\n"
    assert [call.split()[2] for call in calls] == ["run", "exec", "exec", "exec", "exec", "--profile", "--profile"]
    assert "SET password='$2a$14$hash' WHERE username='admin';" in (tmp_path / "iam/statements").read_text()
