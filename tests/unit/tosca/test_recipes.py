"""The first boot of a machine: what the script does, and that values cannot become commands."""

import subprocess

import pytest

from indaco_tosca import TemplateError, parse, plan

HOSTED = {"requirements": [{"host": "server"}]}


def user_data(template, kind, properties, **rest):
    node = {"type": f"tosca.nodes.{kind}", "properties": properties, **HOSTED}
    return plan(parse(template(nodes={"app": node}, **rest)), {}).nodes[0].user_data


def run(script, folder):
    """Run a script in a shell whose docker, curl and systemctl only write down how they were called."""
    commands = folder / "bin"
    commands.mkdir()
    for name in ("docker", "curl", "systemctl", "docker-compose"):
        command = commands / name
        command.write_text(
            f'#!/bin/sh\nfor word in {name} "$@"; do printf "%s\\0" "$word"; done >> {folder}/calls\necho >> {folder}/calls\n'
        )
        command.chmod(0o755)
    prepared = script.replace("/opt/", f"{folder}/opt/")
    subprocess.run(["/bin/sh", "-c", prepared], check=True, env={"PATH": f"{commands}:/usr/bin:/bin"}, timeout=30)
    lines = (folder / "calls").read_text().split("\0\n")
    return [line.split("\0") for line in lines if line]


def test_a_container_is_run_with_exactly_the_words_of_the_template(template, tmp_path):
    script = user_data(
        template,
        "indigo.dockerRun",
        {
            "docker_appname": "web",
            "docker_image": "registry.example.org:5000/nginx",
            "docker_tag": "1.27",
            "docker_ports": ["8080:80"],
            "docker_command": "nginx -g 'daemon off;' $(touch x) `id`",
            "docker_volume": "/srv",
            "environment_variables": [{"A": "it's; rm -rf /"}, {"key": "B", "value": "$HOME"}],
        },
    )
    assert run(script, tmp_path)[-1] == [
        "docker", "run", "--detach", "--restart", "unless-stopped", "--name", "web", "--publish", "8080:80",
        "--env", "A=it's; rm -rf /", "--env", "B=$HOME", "--volume", "/data:/srv", "registry.example.org:5000/nginx:1.27",
        "nginx", "-g", "daemon off;", "$(touch", "x)", "`id`",
    ]  # fmt: skip


def test_a_compose_project_is_written_and_started(template, tmp_path):
    compose = "services:\n  web: {image: nginx, command: \"echo '$HOME'\"}\n"
    script = user_data(
        template,
        "indaco.DockerCompose",
        {
            "project_name": "My.project",
            "compose_file": compose,
            "environment_variables": [{"PLAIN": "a-1"}, {"QUOTED": "a b"}],
            "secret_variables": {"BOTH": "it's $5"},
        },
    )
    calls = run(script, tmp_path)
    folder = tmp_path / "opt" / "My.project"
    assert calls[-1] == ["docker", "compose", "--project-name", "my-project", "up", "--detach"]
    assert (folder / "docker-compose.yaml").read_text() == compose
    assert (folder / ".env").read_text() == "PLAIN=a-1\nQUOTED='a b'\nBOTH=\"it's \\$5\"\n"
    assert (folder / ".env").stat().st_mode & 0o777 == 0o600


def test_a_compose_file_is_fetched_from_its_url(template, tmp_path):
    properties = {"project_name": "p", "docker_compose_file_url": "https://example.org/a.yaml?x=1&y=2"}
    script = user_data(template, "indigo.DockerCompose", properties)
    fetch = next(call for call in run(script, tmp_path) if call[0] == "curl")
    assert fetch[-1] == "https://example.org/a.yaml?x=1&y=2"


def test_a_compose_project_without_a_file_only_brings_the_engine(template, tmp_path):
    script = user_data(template, "indigo.DockerCompose", {"project_name": "p"})
    assert not [call for call in run(script, tmp_path) if "up" in call]


@pytest.mark.parametrize(
    ("kind", "properties", "name"),
    [
        ("indigo.dockerRun", {"docker_appname": "a b"}, "docker_appname"),
        ("indigo.dockerRun", {"docker_image": "--privileged"}, "docker_image"),
        ("indigo.dockerRun", {"docker_ports": ["--privileged"]}, "docker_ports"),
        ("indigo.dockerRun", {"docker_command": "echo 'x"}, "docker_command"),
        ("indigo.dockerRun", {"environment_variables": [{"A B": "x"}]}, "environment_variables"),
        ("indaco.DockerCompose", {"project_name": "../etc", "compose_file": "x"}, "project_name"),
        ("indaco.DockerCompose", {"project_name": "p", "compose_file": "x", "environment_variables": [{"A": "x\ny"}]},
         "environment_variables"),
        ("indigo.DockerCompose", {"project_name": "p", "docker_compose_file_url": "file:///etc/passwd"},
         "docker_compose_file_url"),
    ],
)  # fmt: skip
def test_a_property_that_could_mean_something_else_is_refused(kind, properties, name, template, problems):
    node = {"type": f"tosca.nodes.{kind}", "properties": properties, **HOSTED}
    found = problems(plan, parse(template(nodes={"app": node})), {})
    assert found == {f"/topology_template/node_templates/app/properties/{name}": "bad-property"}


def test_a_component_with_properties_that_the_recipe_does_not_know_is_left_to_a_configurator(template):
    types = {"tosca.nodes.indigo.DockerCompose": {"derived_from": "tosca.nodes.SoftwareComponent",
                                                  "properties": {"project_name": {}, "iam_version": {}}}}  # fmt: skip
    properties = {"project_name": "p", "iam_version": "1"}
    assert user_data(template, "indigo.DockerCompose", properties, node_types=types) == ""


def test_the_script_of_each_distribution_is_correct_shell(template):
    script = user_data(template, "indigo.dockerRun", {"docker_image": "nginx"})
    subprocess.run(["/bin/sh", "-n"], input=script, text=True, check=True)


def test_a_refused_value_that_depends_on_a_secret_is_not_shown(template):
    properties = {"docker_ports": [{"get_input": "port_token"}]}
    node = {"type": "tosca.nodes.indigo.dockerRun", "properties": properties, **HOSTED}
    parsed = parse(template(nodes={"app": node}, inputs={"port_token": {}}))
    with pytest.raises(TemplateError) as raised:
        plan(parsed, {"port_token": "hunter2"})
    assert "hunter2" not in repr(raised.value.problems)
