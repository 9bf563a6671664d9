"""The command `docker` of a machine and what its mediator makes of a request, without an engine: read, ordered, filled in, refused."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "docker"


def program(name: str) -> ModuleType:
    """Return one of the programs of the machine image, which are in no package."""
    spec = importlib.util.spec_from_file_location(f"indaco_image_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


command, mediator = program("docker_command"), program("mediator")
MACHINE: dict[str, Any] = {
    "Id": "0123456789abcdef",
    "Config": {"Labels": {"indaco.key": "d.1.server-0", "indaco.machine": ""}},
    "HostConfig": {"NanoCpus": 5, "Memory": 6, "MemorySwap": 6, "PidsLimit": 7, "Privileged": False},
    "Mounts": [{"Destination": "/data", "Name": "anonymous"}, {"Destination": "/run/engine", "Name": "door"}],
}


def ran(*arguments: str) -> dict[str, Any]:
    asked: dict[str, Any] = command.container_of(command.parser().parse_args(["run", *arguments]))
    return asked


def project(text: str, folder: Path = Path("/"), **variables: str) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = command.containers_of(text, "p", variables, folder)
    return made


# ── docker run


def test_the_form_of_the_recipes_is_understood() -> None:
    words = "--detach --restart unless-stopped --name web --publish 8080:80 --publish 443 --env A=b=c --volume /data:/srv:ro"
    assert ran(*words.split(), "nginx:1", "serve", "--name", "-d") == {
        "name": "web",
        "image": "nginx:1",
        "entrypoint": [],
        "command": ["serve", "--name", "-d"],
        "environment": {"A": "b=c"},
        "volumes": [{"source": "/data", "target": "/srv", "read_only": True}],
        "forwards": [[8080, 80]],
        "restart": "unless-stopped",
        "user": "",
        "folder": "",
    }


@pytest.mark.parametrize("port", ["127.0.0.1:80:80", "8000-8010:8000-8010", "x", "53:54/udp", "80:80/sctp"])
def test_a_port_that_cannot_be_kept_is_refused(port: str) -> None:
    with pytest.raises(command.Refused, match=port):
        ran("--detach", "--name", "a", "--publish", port, "i")


@pytest.mark.parametrize("option", ["--privileged", "--network=host", "--pid=host", "--rm", "--na=x"])
def test_an_option_that_is_not_known_is_refused(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        ran("--detach", "--name", "a", option, "i")
    assert option.partition("=")[0] in capsys.readouterr().err


def test_a_command_without_a_mediator_says_so_and_fails() -> None:
    done = subprocess.run(
        [sys.executable, FOLDER / "docker_command.py", "info"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (1, "docker: the mediator does not answer: FileNotFoundError\n")


# ── compose files


def test_services_start_after_those_that_they_depend_on_and_are_known_by_their_names() -> None:
    made = project("""
        services:
          web: {image: w, depends_on: {cache: {condition: service_started}, db: }, hostname: shop}
          cache: {image: c, depends_on: [db], container_name: quick}
          db: {image: d}
    """)
    assert [c["name"] for c in made] == ["p-db-1", "p-cache-1", "p-web-1"]
    assert [c["aliases"] for c in made] == [["db"], ["cache", "quick"], ["web", "shop"]]


def test_variables_are_filled_in_as_compose_does() -> None:
    (made,) = project(
        """
        services:
          web:
            image: "nginx:${TAG}"
            environment:
              A: $B and ${B}
              C: ${EMPTY:-other} ${EMPTY-none} ${GONE-other}
              D: $$B costs 5$
              E: ${GONE}
        """,
        TAG="1.27",
        B="b$B",
        EMPTY="",
    )
    assert made["image"] == "nginx:1.27"
    assert made["environment"] == {"A": "b$B and b$B", "C": "other  other", "D": "$B costs 5$", "E": ""}


def test_scalars_are_the_text_that_they_are() -> None:
    (made,) = project("""
        x-common: &common {restart: always, user: 1000}
        services:
          web:
            <<: *common
            image: w
            environment: {SSL: yes, TIME: 22:22, VERSION: 1.10, NOTHING: }
            ports: [8080:80, 53:53/udp, {target: 9, published: 10}]
    """)
    assert made["environment"] == {"SSL": "yes", "TIME": "22:22", "VERSION": "1.10", "NOTHING": ""}
    assert (made["forwards"], made["restart"], made["user"]) == ([[8080, 80], [10, 9]], "always", "1000")


def test_the_variables_of_a_file_come_before_those_of_the_service(tmp_path: Path) -> None:
    (tmp_path / "a.env").write_text('# none\nA=1\nB=\'it $is\'\nC="a \\"b\\" \\$c \\\\d"\n\n')
    (made,) = project("services: {web: {image: w, env_file: a.env, environment: [A=2]}}", tmp_path)
    assert made["environment"] == {"A": "2", "B": "it $is", "C": 'a "b" $c \\d'}


def test_words_are_split_and_volumes_are_the_projects_own() -> None:
    (made,) = project("""
        services:
          web:
            image: w
            command: serve --name "a b"
            entrypoint: [run, it]
            volumes: ["kept:/kept:ro", "/data:/srv", {type: volume, source: kept, target: /too}, "/scratch"]
        volumes: {kept: }
    """)
    assert (made["command"], made["entrypoint"]) == (["serve", "--name", "a b"], ["run", "it"])
    assert [(v["source"], v["target"], v["read_only"]) for v in made["volumes"]] == [
        ("p_kept", "/kept", True),
        ("/data", "/srv", False),
        ("p_kept", "/too", False),
        ("", "/scratch", False),
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[", "no YAML"),
        ("services: [a]", "services is no map"),
        ("services: {a: {build: .}}", "build"),
        ("services: {a: {image: i, privileged: true}}", "privileged"),
        ("services: {a: {image: i, network_mode: host}}", "network_mode"),
        ("services: {a: {restart: always}}", "no image"),
        ("services: {a: {image: i, depends_on: [b]}}", "not there: b"),
        ("services: {a: {image: i, depends_on: [b]}, b: {image: i, depends_on: [a]}}", "circle"),
        ("services: {a: {image: i, ports: ['80:80']}, b: {image: i, ports: ['81:80']}}", "a and b both listen at 80"),
        ("services: {a: {image: i, ports: ['127.0.0.1:80:80']}}", "cannot be kept"),
        ("services: {a: {image: i, env_file: gone.env}}", "gone.env cannot be read"),
        ("services: {a: {image: '${GONE:?say which}'}}", "GONE is not set: say which"),
        ("{services: {a: {image: i}}, volumes: {v: {external: true}}}", "volume v has options"),
        ('services: {a: {image: i, command: "sh -c \'x"}}', "split into words"),
        ('services: {a: {image: i, entrypoint: "x \'"}}', "split into words"),
        ("services: {a: {image: i, volumes: [{type: volume, source: [v], target: /t}]}}", "is no volume"),
        ("services: {a: {image: i, volumes: [{source: v, target: {t: /t}}]}}", "is no volume"),
        ("services: {a: {image: i, volumes: {v: /t}}}", "a: volumes is no list"),
        ("services: {a: {image: i, ports: '80:80'}}", "a: ports is no list"),
        ("services: {a: {image: i, depends_on: [[b]]}}", "not there"),
        ("services: {a: {image: i, depends_on: b}}", "depends_on is no list"),
        ("services: {a: {image: i, ~: x}}", "not understood here: None"),
        ("services: &a {a: *a}", "no YAML"),
        ('services: {a: {image: i, container_name: "a b\\nc"}}', "cannot be a name"),
        ('services: {a: {image: i, hostname: "a\\n1.2.3.4 b"}}', "cannot be a name"),
        ("services: {a: {image: i, hostname: [b]}}", "cannot be a name"),
        ('services: {"a b": {image: i}}', "cannot be a name"),
        ("services: {~: {image: i}}", "cannot be a name"),
        ("{services: {a: {image: i}}, configs: {c: {content: x}}}", "configs"),
    ],
)
def test_what_is_not_understood_is_refused_with_its_reason(text: str, reason: str) -> None:
    with pytest.raises(command.Refused, match=reason):
        project(text)


def test_names_that_the_machine_knows_are_not_added_again() -> None:
    hosts = "127.0.0.1\tlocalhost\n172.17.0.2\tnode # web\n"
    assert command.hosts_with(hosts, ["node", "web", "db", "web"]) == "127.0.0.1\tweb\n127.0.0.1\tdb\n"


# ── the mediator


def body(**asked: Any) -> dict[str, Any]:
    made: dict[str, Any] = mediator.container_body({"name": "web", "image": "nginx:1", **asked}, MACHINE)
    return made


def test_a_container_has_the_machines_network_label_and_limits_and_no_power() -> None:
    made = body(environment={"A": "b"}, command=["x"], forwards=[[80, 8080]], restart="always")
    host = made["HostConfig"]
    assert host["NetworkMode"] == "container:0123456789abcdef"
    assert made["Labels"] == {
        "indaco.machine": "0123456789abcdef", "indaco.machine-key": "d.1.server-0",
        "indaco.container": "web", "indaco.forwards": "[[80, 8080]]",
    }  # fmt: skip
    assert (host["NanoCpus"], host["Memory"], host["MemorySwap"], host["PidsLimit"]) == (5, 6, 6, 7)
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert not host.keys() & {
        "Privileged",
        "Binds",
        "CapAdd",
        "Devices",
        "PidMode",
        "IpcMode",
        "UsernsMode",
        "VolumesFrom",
    }
    assert (made["Env"], made["Cmd"]) == (["A=b"], ["x"])


def test_volumes_are_the_machines_folder_or_its_own() -> None:
    mounts = body(volumes=[{"source": s, "target": "/t"} for s in ("/data", "/data/", "kept", "")])["HostConfig"][
        "Mounts"
    ]
    assert [mount.get("Source") for mount in mounts] == ["anonymous", "anonymous", "indaco-0123456789ab-kept", None]
    assert {mount["Type"] for mount in mounts} == {"volume"}
    assert mounts[2]["VolumeOptions"]["Labels"] == {
        "indaco.machine": "0123456789abcdef",
        "indaco.machine-key": "d.1.server-0",
    }


@pytest.mark.parametrize(
    "asked",
    [
        {"name": "../web"},
        {"name": ""},
        {"name": 5},
        {"image": "-x"},
        {"image": "a b"},
        {"privileged": True},
        {"HostConfig": {}},
        {"volumes": [{"source": "/", "target": "/t"}]},
        {"volumes": [{"source": "/etc", "target": "/t"}]},
        {"volumes": [{"source": "/data/../etc", "target": "/t"}]},
        {"volumes": [{"source": "/run/engine", "target": "/t"}]},
        {"volumes": [{"source": "./here", "target": "/t"}]},
        {"volumes": [{"source": "kept", "target": "t"}]},
        {"volumes": ["kept:/t"]},
        {"environment": {"A=B": "c"}},
        {"environment": {"A": 5}},
        {"environment": ["A=b"]},
        {"command": "words"},
        {"forwards": [[0, 80]]},
        {"forwards": [[80]]},
        {"forwards": [["80", 81]]},
        {"forwards": [[True, 81]]},
        {"forwards": [[port, 1] for port in range(1, 99)]},
        {"restart": "on-failure:3"},
    ],
)
def test_whatever_else_a_machine_asks_for_is_refused(asked: dict[str, Any]) -> None:
    with pytest.raises(mediator.Refused):
        body(**asked)


def test_containers_of_two_machines_never_share_a_name() -> None:
    names = {mediator.container_name(machine * 64, name) for machine in "abc" for name in ("web", "mediator")}
    assert len(names) == 6
    assert not any(name.startswith("indaco-mediator-") for name in names)
