"""The templates that are shipped as examples."""

import time

from indaco_tosca import outputs, parse, plan
from indaco_tosca.parser import _parse

ATTRIBUTES = {
    "server": {
        "public_address": ["192.0.2.7"],
        "private_address": ["10.0.0.7"],
        "endpoint": {
            "credential": [{"user": "ubuntu", "token_type": "private_key", "token": "KEY"}],
            "ports": {"ssh": {"source": 22, "target": 2222}},
        },
    }
}


def test_the_virtual_machine_plans_and_gives_its_outputs(examples):
    users = [{"os_user_name": "alice", "os_user_ssh_public_key": "ssh-ed25519 AAAA", "os_user_add_to_sudoers": True}]
    made = plan(parse((examples / "virtual-machine.yaml").read_bytes()), {"num_cpus": 2, "users": users})
    node = made.nodes[0]
    assert made.warnings == ()
    assert (node.count, node.cpu_milli, node.memory_mib, node.public_ip, node.user_data) == (1, 2000, 1908, True, "")
    assert node.image == {"type": "linux", "distribution": "ubuntu", "version": "22.04"}
    resolved = outputs(made, ATTRIBUTES)
    assert resolved["node_ip"].value == "192.0.2.7"
    assert resolved["ssh_endpoint"].value == "ssh://192.0.2.7:2222"
    assert resolved["os_users"].value == users
    assert (resolved["node_creds"].value["user"], resolved["node_creds"].secret) == ("ubuntu", True)


def test_the_compose_project_installs_itself_and_keeps_its_secret(examples):
    parsed = parse((examples / "docker-compose.yaml").read_bytes())
    made = plan(parsed, {"service_token": "hunter2"})
    assert made.secret_inputs == {"service_token"}
    assert "SERVICE_TOKEN=hunter2" in made.nodes[0].user_data
    assert plan(parsed, {}, absent_secrets=frozenset({"service_token"})).nodes[0].user_data == ""
    assert [rule.port for rule in made.nodes[0].ports] == [22, 80]


def test_parsing_and_planning_take_milliseconds(examples):
    text = (examples / "virtual-machine.yaml").read_bytes()

    def once():
        started = time.process_time()
        plan(_parse(text, None), {})
        return time.process_time() - started

    assert min(once() for _ in range(30)) < 0.01  # about 2.5 ms on an idle core; the rest is room for a busy machine
