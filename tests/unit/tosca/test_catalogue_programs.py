"""The shell programs of the catalogue's templates, run with what they call being functions or fakes."""

import base64
import json
import shutil
import subprocess
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar

import pytest
import yaml
from tests.corpus import REPOSITORY

from indaco_tosca import parse, plan
from indaco_tosca.recipes.shell import FUNCTIONS


def template_of(card: str):
    return parse((REPOSITORY / "catalogue" / card / "1.0.0/template.yaml").read_text())


def program_of(card: str, node: str) -> str:
    return template_of(card).nodes[node].properties["script"]


def run(program: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a folder that stands for /etc, /var/lib and /usr/local, with what it calls being functions."""
    for path in ("/etc/", "/var/lib/", "/usr/local/"):
        program = program.replace(path, f"{folder}{path}")
        (folder / path[1:]).mkdir(parents=True, exist_ok=True)
    return subprocess.run(
        ["/bin/sh", "-eu", "-c", program], env={"PATH": "/usr/bin:/bin", **environment}, cwd=folder, capture_output=True,
        text=True, check=False, timeout=10,
    )  # fmt: skip


ENCRYPTION = r"""
no_metadata() { :; }
packages() { [ ! "${NO_PACKAGES:-}" ]; }
blkid() { [ "$1" != -L ]; }
blank_disk() { echo "$1" >asked; echo /dev/new; }
cryptsetup() { cat >passphrase; }
mountpoint() { :; }
"""


@pytest.mark.skipif(not shutil.which("numfmt"), reason="numfmt is not here")
@pytest.mark.parametrize("size", ["10 GB", "1.5TiB", "4000000 kB", "3000   mib", "1073741824 B", "1.000000001 tb"])
def test_the_disk_that_is_encrypted_is_as_large_as_the_volume(tmp_path, size):
    inputs = {"passphrase": "correct-horse-battery", "volume_size": size}
    (server,) = plan(template_of("virtual-machine-encrypted-volume"), inputs).nodes
    program = ENCRYPTION + program_of("virtual-machine-encrypted-volume", "encryption")
    done = run(program, tmp_path, PASSPHRASE="it's $x", MOUNT_POINT=f"{tmp_path}/data", VOLUME_SIZE=size)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "asked").read_text() == f"{server.volumes[0].size_bytes}\n"
    assert (tmp_path / "passphrase").read_text() == "it's $x"
    assert not (tmp_path / "var/lib/cloud").exists()


@pytest.mark.parametrize("failing", ["", "yes"])
def test_no_copy_of_the_passphrase_stays_on_the_root_disk_even_if_the_first_boot_fails(tmp_path, failing):
    instance = tmp_path / "var/lib/cloud/instance"
    copies = [instance / name for name in ("user-data.txt", "user-data.txt.i", "obj.pkl", "scripts/part-001")]

    def boot():
        (instance / "scripts").mkdir(parents=True, exist_ok=True)
        for copy in copies:
            copy.write_text("passphrase")

    boot()
    (instance / "sem").write_text("what was done already")
    program = ENCRYPTION + program_of("virtual-machine-encrypted-volume", "encryption")
    given = {"PASSPHRASE": "x", "MOUNT_POINT": f"{tmp_path}/data", "VOLUME_SIZE": "1 GB", "NO_PACKAGES": failing}
    assert (run(program, tmp_path, **given).returncode != 0) == bool(failing)
    assert [copy for copy in copies if copy.exists()] == []
    boot()
    (again,) = (tmp_path / "var/lib/cloud/scripts/per-boot").iterdir()
    subprocess.run([again], check=True, timeout=10)
    assert [copy for copy in copies if copy.exists()] == []
    assert (instance / "sem").exists()


SLURM = """
packages() { :; }
chmod() { :; }
exportfs() { :; }
systemctl() { :; }
hostname() { echo 10.2.3.4; }
ip() { printf '%s dev eth0 proto kernel scope link src 10.2.3.4\\n' $ROUTES; }
"""


@pytest.mark.parametrize(
    ("cluster", "routes", "exported"),
    [
        ("10.0.0.0/8", "10.2.3.0/24", ["10.2.3.0/24"]),
        ("10.0.0.0/8", "192.0.2.0/24 10.2.3.0/24", ["10.2.3.0/24"]),
        ("10.2.3.128/25", "10.2.3.0/24", ["10.2.3.128/25"]),
        ("10.0.0.0/8", "10.2.3.0/24 10.9.0.0/16", ["10.2.3.0/24", "10.9.0.0/16"]),
        ("10.0.0.0/8", "192.168.3.0/24", []),
    ],
)
def test_the_shared_folder_is_exported_to_the_controllers_own_part_of_the_clusters_network(
    tmp_path, cluster, routes, exported
):
    program = SLURM + program_of("slurm-cluster", "slurmctld")
    done = run(program, tmp_path, CLUSTER_NETWORK=cluster, ROUTES=routes)
    told = tmp_path / "etc/exports"
    lines = sorted(told.read_text().splitlines()) if told.exists() else []
    assert lines == [f"/shared {network}(rw,sync,no_subtree_check)" for network in exported]
    assert (done.returncode == 0, cluster in done.stderr) == (bool(exported), not exported)


K3S = """
packages() { :; }
curl() { return 1; }
fetch() { echo "sum  $binary" >"$2"; }
sha256sum() { cat >/dev/null; }
systemctl() { :; }
no_metadata() { :; }
"""


@pytest.mark.parametrize("node", ["control_plane", "kubelet"])
def test_pods_are_kept_from_the_metadata_service_before_there_are_any_and_after_each_restart(tmp_path, node):
    for folder in ("etc/systemd/system", "usr/local/bin"):
        (tmp_path / folder).mkdir(parents=True)
    program = K3S + program_of("kubernetes", node)
    done = run(program, tmp_path, K3S_VERSION="v1", JOIN_TOKEN="x", ROLE="agent", SERVER="10.0.0.1")
    assert done.returncode == 0, done.stderr
    unit = (tmp_path / "etc/systemd/system/k3s.service").read_text().splitlines()
    assert "ExecStartPre=-/opt/indaco/no-metadata" in unit


CALLS = """
packages() { echo packages "$@" >>calls; }
no_metadata() { echo no_metadata >>calls; }
systemctl() { echo systemctl "$@" >>calls; }
cryptsetup() { cat >/dev/null; echo cryptsetup "$@" >>calls; }
blank_disk() { echo /dev/new; }
blkid() { [ "$1" != -L ]; }
chown() { :; }
curl() { return 1; }
fetch() { echo "sum  $binary" >"$2"; }
mountpoint() { :; }
sha256sum() { cat >/dev/null; }
"""


@pytest.mark.parametrize(
    ("card", "node", "starts"),
    [
        ("kubernetes", "control_plane", "systemctl restart --no-block k3s"),
        ("kubernetes", "kubelet", "systemctl restart --no-block k3s"),
        ("slurm-cluster", "controller_munge", "systemctl restart munge"),
        ("slurm-cluster", "worker_munge", "systemctl restart munge"),
        ("virtual-machine-encrypted-volume", "encryption", "cryptsetup open --key-file=- /dev/new data"),
    ],
)
def test_the_data_of_the_first_boot_is_out_of_reach_before_a_secret_of_it_is_used(tmp_path, card, node, starts):
    for folder in ("etc/systemd/system", "etc/munge", "usr/local/bin"):
        (tmp_path / folder).mkdir(parents=True)
    program = CALLS + program_of(card, node)
    done = run(
        program, tmp_path, K3S_VERSION="v1", JOIN_TOKEN="x", ROLE="agent", SERVER="10.0.0.1", CLUSTER_SECRET="x", PASSPHRASE="x",
        MOUNT_POINT=f"{tmp_path}/data", VOLUME_SIZE="1 GB",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls.index("no_metadata") < calls.index(starts)
    assert not any("iptables" in call for call in calls[calls.index("no_metadata") :])


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
    program = template_of("elasticsearch-kibana").nodes["elastic"].properties["files"]["passwords.sh"]
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
