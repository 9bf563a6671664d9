"""The first boot of a machine: what the script does, and that values cannot become commands."""

import re
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indaco_tosca import TemplateError, first_boot, parse, plan
from indaco_tosca.model import Configurator, Software, Volume
from indaco_tosca.recipes import render, script
from indaco_tosca.recipes.components import _dotenv

HOSTED = {"requirements": [{"host": "server"}]}
# What a user may type, with what shells take for their own more often than chance would have it; no surrogates, no zero byte.
VALUES = st.lists(
    st.sampled_from(
        ["'", '"', "\n", "$(touch escaped)", "`touch escaped`", "\\", "; touch escaped;", "$HOME", "EOF\n", " "]
    )
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5),
    max_size=8,
).map("".join)


def user_data(template, kind, properties, **rest):
    node = {"type": f"tosca.nodes.{kind}", "properties": properties, **HOSTED}
    return plan(parse(template(nodes={"app": node}, **rest)), {}).nodes[0].user_data


def run(script, folder, answers=None):
    """Run a script in a shell whose docker, curl and others only write down how they were called, and say what ``answers`` has."""
    commands = folder / "bin"
    commands.mkdir(exist_ok=True)
    (folder / "calls").write_text("")
    for name in ("docker", "curl", "systemctl", "docker-compose", *(answers or {})):
        command = commands / name
        command.write_text(
            f'#!/bin/sh\nfor word in {name} "$@"; do printf "%s\\0" "$word"; done >> {folder}/calls\n'
            f"echo >> {folder}/calls\n{(answers or {}).get(name, '')}\n"
        )
        command.chmod(0o755)
    prepared = script.replace("/opt/", f"{folder}/opt/").replace("/etc/fstab", f"{folder}/fstab")
    prepared = prepared.replace("/etc/systemd/", f"{folder}/").replace("[ -d /run/systemd/system ]", "false")
    subprocess.run(
        ["/bin/sh", "-c", prepared], check=True, env={"PATH": f"{commands}:/usr/bin:/bin"}, cwd=folder, timeout=30
    )
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


def test_the_url_of_a_compose_file_counts_more_than_its_text(template, tmp_path):
    properties = {
        "project_name": "p",
        "docker_compose_file_url": "https://example.org/a.yaml",
        "compose_file": "services: {}\n",
    }
    calls = run(user_data(template, "indaco.DockerCompose", properties), tmp_path)
    assert [call[-1] for call in calls if call[0] == "curl"] == ["https://example.org/a.yaml"]


def test_the_files_of_a_compose_project_are_readable_by_its_containers_alone(template, tmp_path):
    files = {"settings.yaml": "a: '$b'\n", "conf.d/10-pool.conf": "use ROLE : Submit\n"}
    properties = {"project_name": "p", "compose_file": "services: {}\n", "files": files}
    run(user_data(template, "indaco.DockerCompose", properties), tmp_path)
    folder = tmp_path / "opt" / "p"
    assert (
        folder.stat().st_mode & 0o777 == 0o700
    )  # so nobody on the machine, though each container to which one is mounted
    assert {name: (folder / name).read_text() for name in files} == files
    assert (folder / "settings.yaml").stat().st_mode & 0o777 == 0o644


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
        ("indaco.DockerCompose", {"project_name": "p", "compose_file": "x", "files": {"../etc/passwd": "x"}}, "files"),
        ("indaco.DockerCompose", {"project_name": "p", "compose_file": "x", "files": {"docker-compose.yaml": "x"}}, "files"),
        ("indaco.Script", {"script": " "}, "script"),
        ("indaco.Script", {"script": "id", "environment": {"A=B; id": "x"}}, "environment"),
        ("indaco.Script", {"script": "id", "secret_environment": {"A B": "x"}}, "secret_environment"),
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


def test_a_shell_program_is_told_its_values_and_keeps_what_it_sets_to_itself(template, tmp_path):
    program = "printf '%s' \"$GREETING\" >greeting\nLEFT=over\n"
    greeting = 'it\'s\n"$(id)" `id` \\'
    first = {
        "type": "tosca.nodes.indaco.Script",
        "properties": {"script": program, "environment": {"GREETING": greeting}},
        **HOSTED,
    }
    second = {
        "type": "tosca.nodes.indaco.Script",
        "properties": {"script": "printf '%s' \"${LEFT-}${GREETING-}\" >left"},
        **HOSTED,
    }
    parsed = parse(template(nodes={"first": first, "second": second}))
    run(plan(parsed, {}).nodes[0].user_data, tmp_path)
    assert (tmp_path / "opt/indaco/first/greeting").read_text() == greeting
    assert (tmp_path / "opt/indaco/second/left").read_text() == ""


def test_a_shell_program_that_fails_ends_the_boot_there(template, tmp_path):
    with pytest.raises(subprocess.CalledProcessError):
        run(user_data(template, "indaco.Script", {"script": "false\ntouch reached\n"}), tmp_path)
    assert not (tmp_path / "opt/indaco/app/reached").exists()


@settings(max_examples=60, deadline=None)
@given(VALUES, VALUES, VALUES, st.sampled_from(["environment", "secret_environment"]))
def test_no_value_of_a_shell_program_or_a_compose_file_is_ever_run(value, text, line, kind):
    program = Software("p", "tosca.nodes.indaco.Script", {"script": "printf '%s' \"$VALUE\" >value", kind: {"VALUE": value}}, Configurator.CLOUD_INIT)  # fmt: skip
    single = line.replace("\n", " ")
    project = {"project_name": "p", "compose_file": text + "x", "files": {"f": text}, "secret_variables": {"S": single}}
    compose = Software("c", "tosca.nodes.indaco.DockerCompose", project, Configurator.CLOUD_INIT)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        calls = run(script([render(program, ()), render(compose, ())]), home)
        assert (home / "opt/indaco/p/value").read_bytes() == value.encode()
        assert (home / "opt/p/docker-compose.yaml").read_bytes() == (text + "x").encode()
        assert (home / "opt/p/f").read_bytes() == text.encode()
        assert {call[0] for call in calls} <= {"docker", "systemctl"}
        assert not list(home.rglob("escaped"))


DISKS = "50 /dev/vde disk|20 /dev/vdd disk|10 /dev/vdc disk|5 /dev/vdb disk|20 /dev/vda1 part"
ATTACHED = {
    "lsblk": f"echo '{DISKS}' | tr '|' '\\n' | sed 's/ /000000000 /'",
    "wipefs": '[ "$1" != /dev/vdc ] || echo signature',
    "mountpoint": "false",
    "blkid": "false",
    "mkfs.xfs": "",
    "mount": "",
}


def volume(size_bytes=9_000_000_000, mount="/mnt/data", **rest):
    return Volume(size_bytes, mount, "data", **rest)


def test_a_new_volume_is_the_smallest_blank_disk_that_suffices_and_is_mounted_at_every_boot(tmp_path):
    made = script([], (volume(),)).replace("/mnt/data", f"{tmp_path}/mnt")
    calls = run(made, tmp_path, ATTACHED | {"mkfs.ext4": ""})
    made_on = [call for call in calls if call[0] == "mkfs.ext4"]
    assert [call[-1] for call in made_on] == ["/dev/vdd"]
    label = made_on[0][2]
    options = "defaults,nofail,x-systemd.before=docker.service"
    assert (tmp_path / "fstab").read_text() == f"LABEL={label} {tmp_path}/mnt auto {options} 0 2\n"


def test_a_volume_that_was_formatted_before_is_only_mounted(tmp_path):
    made = script([], (volume(fs_type="xfs"),)).replace("/mnt/data", f"{tmp_path}/mnt")
    calls = run(made, tmp_path, ATTACHED | {"blkid": "echo /dev/vdb"})
    assert not [call for call in calls if call[0].startswith("mkfs")]
    assert [call for call in calls if call[0] == "mount"] == [["mount", f"{tmp_path}/mnt"]]


def test_an_existing_volume_is_found_by_its_id_and_never_formatted():
    made = script([], (volume(0, volume_id="3f0b7d7c-2a54-4d6e-9d8f-0e2b6b1f8f11"),))
    assert made.splitlines()[-1] == "old_volume /dev/disk/by-id/virtio-3f0b7d7c-2a54-4d6e-9 /mnt/data"


def test_a_volume_without_a_mount_point_is_left_alone():
    assert script([], (volume(mount=""),)) == ""


@pytest.mark.parametrize(("given", "name"), [({"location": "/mnt/$(id)"}, "location"), ({"location": "/../etc"}, "location"),
                                             ({"location": "/mnt", "fs_type": "vfat"}, "fs_type")])  # fmt: skip
def test_a_volume_that_cannot_be_mounted_is_refused(given, name, template):
    storage = {"type": "tosca.nodes.BlockStorage", "properties": {"size": "1 GB"}}
    relationship = {"type": "tosca.relationships.indigo.AttachesTo", "properties": given}
    server = {"requirements": [{"local_storage": {"node": "disk", "relationship": relationship}}]}
    parsed = parse(template(server=server, nodes={"disk": storage}))
    with pytest.raises(TemplateError) as raised:
        plan(parsed, {})
    assert [problem.message.partition(":")[0] for problem in raised.value.problems] == [name]


def cluster(template, program='printf %s "$SERVER" >server', **environment):
    """A machine "server", and workers that are told its address and a secret."""
    given = {"SERVER": {"get_attribute": ["server", "private_address", 0]}, **environment}
    secret = {"SECRET": {"get_input": "join_token"}}
    properties = {"script": program, "environment": given, "secret_environment": secret}
    nodes = {
        "worker": {"type": "tosca.nodes.indigo.Compute"},
        "agent": {"type": "tosca.nodes.indaco.Script", "properties": properties, "requirements": [{"host": "worker"}]},
        "other": {
            "type": "tosca.nodes.indaco.Script",
            "properties": {"script": "true"},
            "requirements": [{"host": "worker"}],
        },
    }
    return parse(template(nodes=nodes, inputs={"join_token": {}}))


def test_a_machine_that_is_told_addresses_of_others_gets_its_script_once_they_run(template, tmp_path):
    made = plan(cluster(template), {"join_token": "hunter2"})
    server, worker = made.nodes
    assert (server.name, worker.name, worker.dependencies) == ("server", "worker", ("server",))
    assert (worker.is_late, worker.user_data, worker.software[0].is_native) == (True, "", True)
    run(first_boot(made, worker, {"server": {"private_address": ["10.0.0.7"]}}), tmp_path)
    assert (tmp_path / "opt/indaco/agent/server").read_text() == "10.0.0.7"


@pytest.mark.parametrize("attributes", [{}, {"server": {"private_address": []}}])
def test_the_script_of_a_machine_whose_neighbours_have_no_address_is_refused(attributes, template):
    made = plan(cluster(template), {"join_token": "hunter2"})
    with pytest.raises(TemplateError) as raised:
        first_boot(made, made.nodes[1], attributes)
    assert {problem.path.rpartition("/properties")[0] for problem in raised.value.problems} == {
        "/topology_template/node_templates/agent"
    }
    assert "hunter2" not in repr(raised.value.problems)


def test_the_script_of_a_machine_is_refused_as_long_as_a_secret_is_absent(template):
    made = plan(cluster(template), {}, absent_secrets=frozenset({"join_token"}))
    with pytest.raises(TemplateError) as raised:
        first_boot(made, made.nodes[1], {"server": {"private_address": ["10.0.0.7"]}})
    assert [problem.code for problem in raised.value.problems] == ["value-not-known"]


def test_an_attribute_cannot_become_a_command_either(template, tmp_path):
    made = plan(cluster(template), {"join_token": "hunter2"})
    run(
        first_boot(made, made.nodes[1], {"server": {"private_address": ["$(touch escaped)'; touch escaped"]}}), tmp_path
    )
    assert not list(tmp_path.rglob("escaped"))


@pytest.mark.parametrize(
    ("secret", "given"),
    [
        ({"key": {"get_input": "db_password"}, "value": "x"}, "my secret pass!"),
        ({"PASS": {"get_input": "db_password"}}, "my secret\npass!"),
    ],
)
def test_what_is_wrong_with_a_secret_variable_does_not_show_it(secret, given, template) -> None:
    properties = {"project_name": "p", "compose_file": "services: {}\n", "secret_variables": secret}
    node = {"type": "tosca.nodes.indaco.DockerCompose", "properties": properties, **HOSTED}
    parsed = parse(template(nodes={"app": node}, inputs={"db_password": {}}))
    with pytest.raises(TemplateError) as raised:
        plan(parsed, {"db_password": given})
    (problem,) = raised.value.problems
    assert problem.path.endswith("/secret_variables")
    assert "secret pass" not in repr(raised.value.problems)


def test_each_kind_of_variable_is_refused_under_its_own_name(template, problems) -> None:
    for name in ("environment_variables", "secret_variables"):
        wrong = {"not a name": "x"}
        given = {name: [wrong] if name == "environment_variables" else wrong}
        properties = {"project_name": "p", "compose_file": "services: {}\n", **given}
        node = {"type": "tosca.nodes.indaco.DockerCompose", "properties": properties, **HOSTED}
        found = problems(plan, parse(template(nodes={"app": node})), {})
        assert found == {f"/topology_template/node_templates/app/properties/{name}": "bad-property"}


KEY = f"ssh-ed25519 {'A' * 40}"


def machine_with(template, *users):
    return plan(parse(template(server={"properties": {"os_users": list(users)}})), {}).nodes[0].user_data


def test_accounts_after_the_first_are_made_with_their_own_keys_and_sudo_only_where_it_is_asked_for(template, tmp_path):
    first = {"os_user_name": "ada", "os_user_ssh_public_key": KEY}
    bob = {"os_user_name": "bob", "os_user_ssh_public_key": f"{KEY} bob's", "os_user_add_to_sudoers": True}
    eve = {"os_user_name": "eve"}
    assert machine_with(template, first) == ""
    made = machine_with(template, first, bob, eve)
    home = {"getent": f'printf "%s:x:1:1::{tmp_path}/%s:/bin/sh" "$2" "$2"', "id": "exit 1"}
    calls = run(
        made.replace("/etc/sudoers.d", str(tmp_path)),
        tmp_path,
        {**home, "useradd": "", "chown": "", "install": f"mkdir -p {tmp_path}/bob/.ssh"},
    )
    assert [call[-1] for call in calls if call[0] == "useradd"] == ["bob", "eve"]
    assert (tmp_path / "bob/.ssh/authorized_keys").read_text() == f"{KEY} bob's\n"
    assert (tmp_path / "90-bob").read_text() == "bob ALL=(ALL) NOPASSWD:ALL\n"
    assert not (tmp_path / "90-eve").exists()


@pytest.mark.parametrize(
    "user",
    [
        {"os_user_name": "root; id"},
        {"os_user_name": "bob\n"},
        {"os_user_name": "a" * 33},
        {"os_user_name": "bob", "os_user_ssh_public_key": f"{KEY}\ncommand=x"},
    ],
)
def test_what_cannot_be_an_account_is_refused_when_it_is_planned(user, template, problems):
    parsed = parse(template(server={"properties": {"os_users": [user]}}))
    assert "bad-property" in problems(plan, parsed, {}).values()


@pytest.mark.parametrize("value", ["ab\\", "it's", "a\\'b", 'say "x"', "$HOME", "back\\slash $x"])
def test_a_variable_of_compose_never_ends_with_a_quote_after_a_backslash(value):
    written = _dotenv(value)
    assert written[0] == written[-1]
    body = written[1:-1]
    if written[0] == "'":
        assert body == value
        assert "\\" not in body
    else:
        assert re.sub(r"\\(.)", r"\1", body) == value
        assert not re.search(r"(?<!\\)(\\\\)*\\$", body)


def test_only_root_of_the_machine_reaches_the_metadata_service(template, tmp_path):
    script = user_data(template, "indaco.Script", {"script": "true"})
    rules = {"iptables": f'echo "$*" >>{tmp_path}/asked; case "$*" in *-C*) exit 1 ;; esac'}
    run(script, tmp_path, rules)
    service = "--destination 169.254.169.254 --protocol tcp --dport 80"
    made = [line for line in (tmp_path / "asked").read_text().splitlines() if " -I " in line]
    assert made == [
        f"-w -t raw -I PREROUTING {service} --jump DROP",
        f"-w -t filter -I OUTPUT {service} -m owner ! --uid-owner 0 --jump REJECT",
    ]
