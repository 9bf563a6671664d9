"""`indaco template check|plan|form`: what is printed about a file, and the exit code."""

import json
import re

import pytest
from click.testing import CliRunner
from tests.corpus import REPOSITORY

from indaco_client.cli import main
from indaco_client.template_commands import size, template

MACHINE = str(REPOSITORY / "examples" / "templates" / "virtual-machine.yaml")
COMPOSE = str(REPOSITORY / "examples" / "templates" / "docker-compose.yaml")
BROKEN = """\
tosca_definitions_version: tosca_simple_yaml_1_3
topology_template:
  inputs:
    size: {type: cubits}
  node_templates:
    server: {type: tosca.nodes.indigo.Computer, "\\e[31mcolour": red}
"""
CLUSTER = """\
tosca_definitions_version: tosca_simple_yaml_1_3
topology_template:
  inputs:
    workers: {type: integer, default: 2}
    admin_password: {type: string}
  node_templates:
    front:
      type: tosca.nodes.indigo.Compute
      capabilities:
        endpoint:
          properties:
            network_name: PUBLIC
            ports: {web: {protocol: tcp, source: 443}, dns: {protocol: udp, source: 53, remote_cidr: 10.0.0.0/8}}
        host: {properties: {num_cpus: 2, mem_size: 4 GB, disk_size: 20 GB}}
      requirements:
        - local_storage: {node: disk, relationship: {type: tosca.relationships.AttachesTo, properties: {location: /data}}}
    disk: {type: tosca.nodes.BlockStorage, properties: {size: 10 GiB}}
    worker:
      type: tosca.nodes.indigo.Compute
      capabilities:
        scalable: {properties: {count: {get_input: workers}}}
        host: {properties: {num_cpus: 8, mem_size: 16 GB, num_gpus: 1, gpu_model: A100}}
    app:
      type: my.App
      properties: {password: {get_input: admin_password}}
      requirements: [{host: front}]
  policies:
    - where: {type: tosca.policies.indigo.SlaPlacement, properties: {sla_id: sla-7}}
node_types:
  my.App:
    derived_from: tosca.nodes.SoftwareComponent
    properties: {password: {type: string}}
    interfaces: {Standard: {configure: {implementation: app.yml}}}
"""


@pytest.fixture
def run():
    """Run a command of the group; the result has the standard output and the errors apart."""

    def invoke(*arguments):
        return CliRunner().invoke(main, ["template", *(str(argument) for argument in arguments)])

    return invoke


@pytest.fixture
def file(tmp_path):
    def write(text, name="template.yaml"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


# ── check


def test_good_templates_are_valid_and_the_exit_code_is_0(run):
    result = run("check", MACHINE, COMPOSE)
    assert result.exit_code == 0
    assert result.stderr.count(": valid") == 2
    assert result.stdout == ""


def test_every_problem_is_told_with_its_place_and_the_exit_code_is_6(run, file):
    result = run("check", MACHINE, file(BROKEN), "-o", "json")
    assert result.exit_code == 6
    good, bad = json.loads(result.stdout)
    assert (good["valid"], good["errors"], bad["valid"]) == (True, [], False)
    assert {(each["line"], each["code"]) for each in bad["errors"]} == {
        (4, "unknown-type"),
        (6, "unknown-type"),
        (6, "unknown-key"),
    }
    assert all(each["column"] and each["path"] and each["message"] for each in bad["errors"])


def test_a_table_of_problems_names_the_file_and_moves_no_cursor(run, file):
    path = file(BROKEN)
    result = run("check", path)
    assert result.exit_code == 6
    assert str(path) in result.stdout
    assert "colour" in result.stdout
    assert "\x1b" not in result.stdout + result.stderr


def test_warnings_are_shown_and_do_not_make_a_template_invalid(run, file):
    text = CLUSTER.replace(
        "topology_template:", "metadata: {tabs: {Rest: [nobody]}}\nsurplus: 1\ntopology_template:", 1
    )
    result = run("check", file(text), "-o", "json")
    assert result.exit_code == 0
    (found,) = json.loads(result.stdout)
    assert {each["code"] for each in found["warnings"]} >= {"unknown-key", "unknown-input"}


def test_what_can_be_read_but_not_deployed_is_not_valid(run, file):
    text = CLUSTER.replace("topology_template:\n", "topology_template:\n  workflows: {deploy: {}}\n", 1)
    result = run("check", file(text), "-o", "json")
    assert result.exit_code == 6
    assert [each["code"] for each in json.loads(result.stdout)[0]["errors"]] == ["unsupported-feature"]


def test_a_file_that_is_too_large_is_refused_without_reading_all_of_it(run, file):
    result = run("check", file("#" * 300_000), "-o", "json")
    assert result.exit_code == 6
    assert json.loads(result.stdout)[0]["errors"][0]["code"] == "document-too-large"


def test_a_file_that_is_not_there_is_a_mistake_of_usage(run):
    assert run("check", "/nonexistent.yaml").exit_code == 2
    assert run("check").exit_code == 2


# ── plan


def test_a_plan_has_the_machines_the_steps_and_the_totals(run, file):
    result = run("plan", file(CLUSTER), "--set", "workers=3", "-o", "json")
    assert result.exit_code == 0, result.output
    made = json.loads(result.stdout)
    nodes = {node["name"]: node for node in made["nodes"]}
    assert (nodes["front"]["vcpus"], nodes["front"]["memory_bytes"], nodes["front"]["public_ip"]) == (
        2,
        4 * 10**9,
        True,
    )
    assert (nodes["worker"]["count"], nodes["worker"]["gpus"], nodes["worker"]["gpu_model"]) == (3, 1, "A100")
    assert nodes["front"]["volumes"][0]["size_bytes"] == 10 * 2**30
    assert [each["by"] for each in nodes["front"]["software"]] == ["ansible"]
    assert made["totals"] == {
        "machines": 4, "containers": 0, "buckets": 0, "vcpus": 26, "memory_bytes": 52 * 10**9, "disk_bytes": 20 * 10**9,
        "gpus": 3, "public_ips": 1, "volumes": 1, "volume_bytes": 10 * 2**30,
    }  # fmt: skip
    steps = [{each["node"] for each in step["nodes"]} for step in made["steps"]]
    assert steps[0] == {"front", "worker"}, "both machines may be made at the same time"
    assert steps[-1] == {"app"}
    assert made["placement"]["sla_id"] == "sla-7"


def test_a_machine_that_needs_the_address_of_another_is_made_after_it(run, file):
    text = CLUSTER.replace(
        "    app:\n",
        """\
    agent:
      type: tosca.nodes.indaco.Script
      properties: {script: "echo $FRONT", environment: {FRONT: {get_attribute: [front, private_address, 0]}}}
      requirements: [{host: worker}]
    app:
""",
    )
    made = json.loads(run("plan", file(text), "-o", "json").stdout)
    steps = [{each["node"] for each in step["nodes"]} for step in made["steps"]]
    assert steps == [{"front"}, {"worker", "app"}, {"agent"}]
    assert [node["is_late"] for node in made["nodes"]] == [False, True]


def test_a_secret_input_needs_no_value(run, file):
    result = run("plan", file(CLUSTER), "-o", "json")
    assert json.loads(result.stdout)["absent_secrets"] == ["admin_password"]
    shown = run("plan", file(CLUSTER), "--set", "admin_password=hunter2")
    assert shown.exit_code == 0
    assert "hunter2" not in shown.output


def test_a_plan_as_a_table_says_who_configures_what_and_where(run, file):
    result = run("plan", file(CLUSTER))
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    front = next(line for line in lines if line.startswith("front"))
    assert all(
        part in front for part in ("machine", "4 GB", "20 GB", "yes", "443, 53/udp from 10.0.0.0/8", "10 GiB /data")
    )
    assert any(line.split()[1:] == ["app", "my.App", "ansible", "front"] for line in lines)
    assert any("machines 3, vcpus 18, memory 36 GB" in line for line in lines)
    assert any("sla id sla-7" in line for line in lines)
    assert "admin_password" in result.stderr


def test_inputs_come_from_a_file_and_from_options_and_the_option_wins(run, file):
    inputs = file("workers: 5\nadmin_password: x\n", "inputs.yaml")
    made = json.loads(run("plan", file(CLUSTER), "-f", inputs, "--input", "workers=4", "-o", "json").stdout)
    assert next(node["count"] for node in made["nodes"] if node["name"] == "worker") == 4
    assert made["absent_secrets"] == []


@pytest.mark.parametrize("setting", ["num_cpus=many", "num_cpus=1000", "nobody=1", "mem_size=2"])
def test_an_input_that_does_not_fit_is_named(setting, run):
    result = run("plan", MACHINE, "--set", setting, "-o", "json")
    assert result.exit_code == 6
    (problem,) = json.loads(result.stdout)["errors"]
    assert problem["path"] == f"/inputs/{setting.partition('=')[0]}"
    assert problem["message"]


def test_the_value_of_a_secret_that_does_not_fit_is_not_told(run, file):
    path = file(CLUSTER.replace("admin_password: {type: string}", "admin_password: {type: integer}"))
    result = run("plan", path, "--set", "admin_password=hunter2")
    assert result.exit_code == 6
    assert "hunter2" not in result.output


# ── form


def test_a_form_is_json_schema_with_hints(run):
    made = json.loads(run("form", MACHINE, "-o", "json").stdout)
    assert made["schema"]["properties"]["num_cpus"]["maximum"] == 64
    assert made["ui"]["fields"]["service_ports"]["widget"] == "ports"


def test_a_form_as_a_table_says_what_is_allowed(run, file):
    result = run("form", file(CLUSTER))
    assert result.exit_code == 0
    assert "(required)" in next(line for line in result.stdout.splitlines() if "admin_password" in line)
    machine = run("form", MACHINE).stdout
    assert "≥ 1, ≤ 64" in machine
    assert "ubuntu, debian, almalinux" in machine


def test_a_parameters_document_and_a_group_change_the_form(run, file):
    text = "inputs: {workers: {display_name: Nodes, group_overrides: {cms: {default: 7}}, colour: red}}\n"
    result = run("form", file(CLUSTER), "--parameters", file(text, "p.yml"), "--group", "cms", "-o", "json")
    made = json.loads(result.stdout)
    assert (made["schema"]["properties"]["workers"]["title"], made["schema"]["properties"]["workers"]["default"]) == (
        "Nodes",
        7,
    )
    assert [each["code"] for each in made["warnings"]] == ["unknown-key"]


def test_a_parameters_document_that_cannot_be_read_is_refused(run, file):
    assert run("form", MACHINE, "--parameters", file("a: [", "p.yml")).exit_code == 6
    assert run("form", MACHINE, "--parameters", file("- a", "p.yml")).exit_code == 2


def test_warnings_about_a_parameters_document_name_it(run, file):
    document = file("inputs: {nobody: {}}\n", "p.yml")
    assert str(document) in run("form", MACHINE, "--parameters", document).stdout


# ── all


def test_the_template_of_the_guide_is_right_and_prints_what_the_guide_says(run, file):
    guide = (REPOSITORY / "docs" / "howto" / "write-a-template.md").read_text()
    template, parameters = re.findall(r"```yaml\n(.*?)```", guide, re.DOTALL)
    path, document = file(template, "notebooks.yaml"), file(parameters, "p.yml")
    for arguments in (("plan", path, "--set", "num_cpus=4"), ("form", path)):
        lines = [line.rstrip() for line in run(*arguments).stdout.splitlines()]
        assert "\n".join(lines) in guide
    made = json.loads(run("form", path, "--parameters", document, "--group", "cms", "-o", "json").stdout)
    assert made["warnings"] == []
    assert made["ui"]["fields"]["open_to"]["show_if"] == {"field": "restrict", "in": [True]}
    assert made["schema"]["properties"]["open_to"]["default"] == "192.0.2.0/24"


def test_every_command_has_an_example_in_its_help(run):
    for name in template.commands:
        assert "Example: indaco template" in run(name, "--help").output


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        (0, ""),
        (2**30, "1 GiB"),
        (10**9, "1 GB"),
        (512 * 2**20, "512 MiB"),
        (5 * 10**8, "500 MB"),
        (1_234_567_890, "1.23 GB"),
    ],
)
def test_a_size_is_shown_in_the_unit_that_is_exact(amount, shown):
    assert size(amount) == shown


def test_a_change_is_told_before_it_is_done(run, file):
    path = file(CLUSTER)
    result = run("diff", path, path, "--set", "admin_password=hunter2", "--to", "workers=3")
    assert result.exit_code == 0
    assert "worker: scale out: makes worker-2" in result.output
    assert "hunter2" not in result.output
    shown = json.loads(run("diff", path, path, "--to", "workers=3", "-o", "json").output)
    assert (shown["totals"]["machines"], shown["touches_machines"]) == (1, True)
    assert run("diff", path, path).output == "nothing changes\n"


def test_diff_refuses_what_cannot_be_planned(run, file):
    path = file(CLUSTER)
    result = run("diff", path, path, "--to", "workers=many")
    assert result.exit_code == 6


# ── what is wrong, told


@pytest.mark.parametrize(
    "value",
    [
        "!!int abc", "!!int ''", "!!float z", "!!bool x", "!!timestamp 2001-99-99", "!!timestamp z", "!!binary aGk=", "[" * 3000,
        "1" * 5000,
    ],
)  # fmt: skip
@pytest.mark.parametrize("option", ["--set", "-f"])
def test_a_value_that_cannot_be_read_is_a_mistake_of_usage(option, value, run, file):
    given = f"workers={value}" if option == "--set" else file(f"workers: {value}\n", "inputs.yaml")
    result = run("plan", file(CLUSTER), option, given)
    assert result.exit_code == 2
    assert ("--set workers: " if option == "--set" else "inputs.yaml: ") in result.stderr


def test_a_file_of_inputs_that_is_no_text_is_a_mistake_of_usage(run, file, tmp_path):
    path = tmp_path / "inputs.yaml"
    path.write_bytes(b"workers: \xff\xfe")
    result = run("plan", file(CLUSTER), "-f", path)
    assert result.exit_code == 2
    assert "inputs.yaml: the file is not text in UTF-8" in result.stderr


def test_a_setting_without_a_value_is_told_by_its_own_option(run, file):
    path = file(CLUSTER)
    result = run("diff", path, path, "--to", "foo")
    assert result.exit_code == 2
    assert "--to foo: write NAME=VALUE" in result.stderr


HEAD = "tosca_definitions_version: tosca_simple_yaml_1_3\n"
TWO = """\
    {name}:
      type: tosca.nodes.indigo.Compute
    {name}_script:
      type: tosca.nodes.indaco.Script
      properties: {{script: "true", environment: {{IP: {{get_attribute: [{other}, private_address, 0]}}}}}}
      requirements: [{{host: {name}}}]
"""
MUTUAL = (
    HEAD
    + "imports: [indaco.yaml]\ntopology_template:\n  node_templates:\n"
    + TWO.format(name="a", other="b")
    + TWO.format(name="b", other="a")
)
DEFAULT = CLUSTER.replace("default: 2}", "default: zzz}")


@pytest.mark.parametrize(
    ("text", "code", "path"),
    [
        (HEAD + "topology_template: {}\n", "nothing-to-deploy", "/topology_template/node_templates"),
        (MUTUAL, "boot-cycle", "/topology_template/node_templates/a"),
        (DEFAULT, "wrong-type", "/topology_template/inputs/workers/default"),
    ],
)
def test_what_no_input_makes_deployable_is_not_valid(text, code, path, run, file):
    result = run("check", file(text), "-o", "json")
    assert result.exit_code == 6
    assert [(each["code"], each["path"]) for each in json.loads(result.stdout)[0]["errors"]] == [(code, path)]


@pytest.mark.parametrize("rest", ["{type: integer}", "{type: string, default: random(12)}"])
def test_an_input_that_must_be_given_does_not_make_a_template_invalid(rest, run, file):
    text = CLUSTER.replace("    workers:", f"    asked: {rest}\n    workers:", 1)
    assert run("check", file(text)).exit_code == 0
