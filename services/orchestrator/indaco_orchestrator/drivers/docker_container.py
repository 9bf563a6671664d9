"""What a node is as a container, and what a container's papers say about the node. Pure: no engine is asked here."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from indaco_common.errors import NoCapacity, SpecRejected
from indaco_common.units import ResourceVector
from indaco_orchestrator.drivers.docker_engine import without_values
from indaco_orchestrator.drivers.port import NodeKey, NodeSpec, Phase, ResourceId, ResourceState, UsageSample

LOOPBACK: Final = "127.0.0.1"
SSH: Final = "22/tcp"
DOOR_FOLDER: Final = "/run/engine"  # where a machine finds its mediator; also known to deploy/docker
SHARED_FOLDER: Final = "/data"  # what a machine may share with its containers
CONTAINER: Final = "container"  # the kind of a node that is no machine
KEY_LABEL: Final = "indaco.key"
KIND_LABEL: Final = "indaco.kind"  # of what is no machine
MACHINE_LABEL: Final = "indaco.machine"  # of the mediator of a machine and what it made: the machine's id
MACHINE_KEY_LABEL: Final = "indaco.machine-key"  # of the same: the machine's key
CPU_LABEL: Final = "indaco.cpu-milli"
MEMORY_LABEL: Final = "indaco.memory-mib"
MIB: Final = 1024 * 1024
_DEFAULT_NEEDS: Final = {"cpu_milli": 1000, "memory_mib": 512}
_NOT_HERE: Final = ("gpus", "volumes", "buckets")
_MAX_PORTS: Final = 64  # each costs the host a process (docker-proxy)
_MAX_PROCESSES: Final = 1024
_MAX_USER_DATA_BYTES: Final = 64 * 1024  # as on most clouds; the kernel takes 128 KiB in one variable
_MAX_RESTARTS: Final = 3  # in a machine's life, before a short run counts as failure
_SHORT_RUN: Final = timedelta(seconds=10)  # the engine itself takes a longer one for a success
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,254}")
_USER: Final = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_FRACTION: Final = re.compile(r"\.(\d{1,6})\d*")


def container_name(key: NodeKey) -> str:
    """Return the one name that a container of *key* can have: the engine lets no second one exist."""
    digest = hashlib.sha256(str(key).encode()).hexdigest()[:20]
    return f"indaco-{digest}-{key.node}"[:120]


def needed(spec: NodeSpec) -> ResourceVector:
    """Return what the container takes: defaults where *spec* does not say. Raises NoCapacity for what containers lack."""
    for name in _NOT_HERE:
        if spec.needs[name]:
            raise NoCapacity(f"this Docker Engine gives no {name}")
    return ResourceVector(
        {"instances": 1} | {name: spec.needs[name] or usual for name, usual in _DEFAULT_NEEDS.items()}
    )


def container_body(key: NodeKey, spec: NodeSpec, image: str, *, is_mediated: bool = False) -> dict[str, Any]:
    """Return the engine's description of the container for *spec*; *is_mediated*: it may have containers made beside it.

    Raises SpecRejected, NoCapacity.
    """
    needs = needed(spec)
    ports = _published(spec)
    memory = needs["memory_mib"] * MIB
    body: dict[str, Any] = {
        "Image": image,
        "Hostname": _hostname(spec.hostname or key.node),
        "Env": _variables(spec) if spec.kind == CONTAINER else _environment(spec),
        "Labels": _labels(key, spec, needs),
        "ExposedPorts": {port: {} for port in ports},
        "Volumes": {folder: {} for folder in (DOOR_FOLDER, SHARED_FOLDER) if is_mediated},
        "HostConfig": {
            "NanoCpus": needs["cpu_milli"] * 1_000_000,
            "Memory": memory,
            "MemorySwap": memory,  # memory and swap together: so, no swap
            "PidsLimit": _MAX_PROCESSES,
            "PortBindings": {port: [{"HostIp": LOOPBACK, "HostPort": ""}] for port in ports},
            "RestartPolicy": {"Name": "unless-stopped"},
            # The user's sudo needs setuid programs, so "no-new-privileges" cannot be set; what no user of a machine needs is dropped.
            "CapDrop": ["MKNOD", "NET_RAW"],
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "5m", "max-file": "1"}},
        },
    }
    if spec.kind == CONTAINER:
        body["HostConfig"]["SecurityOpt"] = ["no-new-privileges"]
    if spec.command:
        _check_texts({"the command": "".join(spec.command)})
        body["Cmd"] = list(spec.command)
    return body


def state_of(papers: Mapping[str, Any], *, is_answering: bool, last_line: str = "") -> ResourceState:
    """Return what an inspected container is: running only if its SSH server answers."""
    state = papers["State"]
    phase, reason = _phase(papers, is_answering=is_answering, last_line=last_line)
    networks = papers["NetworkSettings"].get("Networks") or {}
    return ResourceState(
        id=ResourceId(papers["Id"]),
        phase=phase,
        private_addresses=tuple(network["IPAddress"] for network in networks.values() if network.get("IPAddress")),
        public_addresses=(LOOPBACK,) if phase is Phase.RUNNING else (),
        ports=host_ports(papers),
        started_at=moment(state.get("StartedAt", "")),
        reason=reason,
    )


def is_machine(papers: Mapping[str, Any]) -> bool:
    """Return False for a node that is a container by its template: nobody logs in there."""
    return not papers["Config"]["Labels"].get(KIND_LABEL)


def is_mediated(papers: Mapping[str, Any]) -> bool:
    """Return True if the machine was made with a door to a mediator."""
    return DOOR_FOLDER in (papers["Config"].get("Volumes") or ())


def has_failed(papers: Mapping[str, Any]) -> bool:
    """Return True if the engine gave the container up, or it ends again and again soon after its start."""
    state = papers["State"]
    if state["Status"] == "restarting" and papers.get("RestartCount", 0) >= _MAX_RESTARTS:
        started_at, finished_at = moment(state.get("StartedAt", "")), moment(state.get("FinishedAt", ""))
        return started_at is not None and finished_at is not None and finished_at - started_at < _SHORT_RUN
    return state["Status"] == "dead" or (state["Status"] in ("created", "exited") and bool(state.get("Error")))


def host_ports(papers: Mapping[str, Any]) -> dict[int, int]:
    """Return port of the machine → port on the host's loopback; of a number open in TCP and UDP, the TCP one."""
    ports: dict[int, int] = {}
    bindings = papers["NetworkSettings"].get("Ports") or {}
    for name in sorted(bindings, reverse=True):  # udp before tcp
        number = int(name.partition("/")[0])
        for bound in bindings[name] or ():
            ports[number] = int(bound["HostPort"])
    return dict(sorted(ports.items()))


def sum_of(containers: Iterable[Mapping[str, Any]]) -> ResourceVector:
    """Return what our containers were promised, stopped ones too: they may start again."""
    return ResourceVector.sum(
        {
            "instances": 1,
            "cpu_milli": int(container["Labels"].get(CPU_LABEL, 0)),
            "memory_mib": int(container["Labels"].get(MEMORY_LABEL, 0)),
        }
        for container in containers
    )


def usage_of(statistics: Mapping[str, Any]) -> UsageSample:
    """Return the engine's counters of one container; they start anew when it does."""
    networks = (statistics.get("networks") or {}).values()
    nanoseconds = ((statistics.get("cpu_stats") or {}).get("cpu_usage") or {}).get("total_usage", 0)
    return UsageSample(
        cpu_s=nanoseconds / 1e9,
        network_in_bytes=sum(network.get("rx_bytes", 0) for network in networks),
        network_out_bytes=sum(network.get("tx_bytes", 0) for network in networks),
    )


def last_line_of(stream: bytes) -> str:
    """Return the last line of a container's log (frames of 8 bytes' header, which hold the length), at most 200 characters."""
    text, rest = b"", stream
    while len(rest) > 8:  # noqa: PLR2004 - the header's size in the engine's protocol
        length = int.from_bytes(rest[4:8])
        text, rest = text + rest[8 : 8 + length], rest[8 + length :]
    lines = text.decode(errors="replace").split("\n")
    return next((line.strip()[:200] for line in reversed(lines) if line.strip()), "")


def moment(text: str) -> datetime | None:
    """Return the engine's time stamp (nanoseconds, RFC 3339); None for its way to say never."""
    if not text or text.startswith("0001-"):
        return None
    return datetime.fromisoformat(_FRACTION.sub(r".\1", text))


def _phase(papers: Mapping[str, Any], *, is_answering: bool, last_line: str) -> tuple[Phase, str]:
    state = papers["State"]
    if has_failed(papers):
        return Phase.FAILED, last_line or _error_of(state)[:200]
    match state["Status"]:
        case "running" if is_answering:
            return Phase.RUNNING, ""
        case "running" | "created" | "restarting":
            return Phase.CREATING, ""
        case "removing":
            return Phase.STOPPED, "being removed"
        case status:
            return Phase.STOPPED, f"{status} in the engine"


def _error_of(state: Mapping[str, Any]) -> str:
    return without_values(state.get("Error") or f"ended with status {state.get('ExitCode')}")


def _environment(spec: NodeSpec) -> list[str]:
    if not _USER.fullmatch(spec.user):
        raise SpecRejected(f"{spec.user!r} cannot be the name of an account")
    if len(spec.user_data.encode()) > _MAX_USER_DATA_BYTES:
        raise SpecRejected(f"the user data is larger than {_MAX_USER_DATA_BYTES} bytes")
    _check_texts({"an SSH key": "".join(spec.ssh_keys), "the user data": spec.user_data})
    values = {"SSH_USER": spec.user, "SSH_KEY": "\n".join(spec.ssh_keys), "USER_DATA": spec.user_data}
    return [f"{name}={value}" for name, value in values.items() if value]


def _variables(spec: NodeSpec) -> list[str]:
    """Return the environment of a container. Raises SpecRejected."""
    wrong = [name[:60] for name in spec.environment if not _VARIABLE.fullmatch(name)]
    if wrong:
        raise SpecRejected(f"{wrong[0]!r} cannot be the name of a variable")
    _check_texts({f"the variable {name}": value for name, value in spec.environment.items()})
    variables = [f"{name}={value}" for name, value in spec.environment.items()]
    if sum(len(variable.encode()) for variable in variables) > _MAX_USER_DATA_BYTES:
        raise SpecRejected(f"the environment is larger than {_MAX_USER_DATA_BYTES} bytes")
    return variables


def _check_texts(texts: Mapping[str, str]) -> None:
    """Raise SpecRejected for a text that no process can be given; it is not shown, since it may be a secret."""
    for name, text in texts.items():
        if "\0" in text:
            raise SpecRejected(f"{name} has a NUL character, which no process can be given; take it out")


def _labels(key: NodeKey, spec: NodeSpec, needs: ResourceVector) -> dict[str, str]:
    # A container has its image's labels too, which are of anybody's making: so every one that counts is set.
    return {f"indaco.tag.{name}": value for name, value in spec.tags.items()} | {
        KEY_LABEL: str(key),
        KIND_LABEL: CONTAINER if spec.kind == CONTAINER else "",
        MACHINE_LABEL: "",
        MACHINE_KEY_LABEL: "",
        "indaco.deployment": key.deployment,
        "indaco.attempt": str(key.attempt),
        "indaco.node": key.node,
        CPU_LABEL: str(needs["cpu_milli"]),
        MEMORY_LABEL: str(needs["memory_mib"]),
    }


def _published(spec: NodeSpec) -> list[str]:
    """Return the engine's names of the ports to publish, a machine's SSH always among them. Raises SpecRejected, if there are too many."""
    names = set() if spec.kind == CONTAINER else {SSH}
    for rule in spec.ports:
        if rule.protocol == "igmp":
            continue  # has no ports, and nothing outside reaches the bridge anyway
        ports = range(rule.port, (rule.port_end or rule.port) + 1)
        if len(ports) > _MAX_PORTS:
            raise SpecRejected(f"more than {_MAX_PORTS} ports cannot be published")
        names |= {f"{port}/{rule.protocol}" for port in ports}
    if len(names) > _MAX_PORTS:
        raise SpecRejected(f"more than {_MAX_PORTS} ports cannot be published")
    return sorted(names)


def _hostname(name: str) -> str:
    """Return *name* as a host name (RFC 1123 label)."""
    return re.sub(r"[^a-z0-9-]+", "-", name.lower())[:63].strip("-") or "node"
