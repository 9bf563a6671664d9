"""The machines of a simulated site: one table in the site's file, and what a cloud knows of each row."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network
from uuid import uuid4

from indaco_common.errors import NoCapacity
from indaco_common.simulation import Connection, SiteOptions
from indaco_common.units import ResourceVector
from indaco_orchestrator.drivers.port import Phase

ADDRESSES = IPv4Network("198.51.100.0/24")  # for documentation only (RFC 5737): nothing can answer there
LIMITED = ("instances", "cpu_milli", "memory_mib")
_CPUS_PER_INSTANCE = 8
_MEMORY_GIB_PER_INSTANCE = 32
_SCHEMA = """
CREATE TABLE IF NOT EXISTS machines(
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, key TEXT NOT NULL, region TEXT NOT NULL, project TEXT NOT NULL,
    needs TEXT NOT NULL, ports TEXT NOT NULL, address TEXT NOT NULL, created_at REAL NOT NULL, boots_at REAL NOT NULL,
    forced TEXT NOT NULL DEFAULT '', reason TEXT NOT NULL DEFAULT '', deleted_at REAL,
    cpu_milli INTEGER GENERATED ALWAYS AS (coalesce(json_extract(needs, '$.cpu_milli'), 0)) STORED,
    memory_mib INTEGER GENERATED ALWAYS AS (coalesce(json_extract(needs, '$.memory_mib'), 0)) STORED);
CREATE UNIQUE INDEX IF NOT EXISTS machines_by_key ON machines(region, project, key) WHERE deleted_at IS NULL;
CREATE INDEX IF NOT EXISTS machines_by_region ON machines(region, cpu_milli, memory_mib) WHERE deleted_at IS NULL;
CREATE INDEX IF NOT EXISTS machines_by_address ON machines(address) WHERE deleted_at IS NULL
"""
_ADDED = {"stopped_at": "REAL", "ran_s": "REAL NOT NULL DEFAULT 0"}  # columns that files of earlier versions lack
_COLUMNS = "id, key, region, project, needs, ports, address, created_at, boots_at, forced, reason, deleted_at, stopped_at, ran_s"


@dataclass(frozen=True, slots=True)
class Machine:
    """One row. *forced* is a phase that a fault or a person imposed, empty if time alone decides; *ran*: before it was last started."""

    id: str
    key: str
    region: str
    project: str
    needs: ResourceVector
    ports: tuple[int, ...]
    address: str
    created_at: datetime
    boots_at: datetime
    forced: str = ""
    reason: str = ""
    deleted_at: datetime | None = None
    stopped_at: datetime | None = None
    ran: timedelta = timedelta(0)

    def phase(self, now: datetime) -> Phase:
        """Return the phase at *now*."""
        if self.deleted_at is not None:
            return Phase.ABSENT
        if self.stopped_at is not None:
            return Phase.STOPPED
        if now < self.boots_at:
            return Phase.CREATING
        return Phase(self.forced) if self.forced else Phase.RUNNING


def prepare(connection: Connection) -> None:
    """Make the table, if it is not there."""
    for statement in _SCHEMA.split(";"):  # executescript() would end the transaction that this is part of
        connection.execute(statement)
    there = {row["name"] for row in connection.execute("PRAGMA table_info(machines)")}
    for name, kind in _ADDED.items():
        if name not in there:
            connection.execute(f"ALTER TABLE machines ADD COLUMN {name} {kind}")


def limit(options: SiteOptions) -> ResourceVector:
    """Return what one region holds at most."""
    cpus = options.capacity * _CPUS_PER_INSTANCE if options.cpus is None else options.cpus
    memory_gib = options.capacity * _MEMORY_GIB_PER_INSTANCE if options.memory_gib is None else options.memory_gib
    return ResourceVector(instances=options.capacity, cpu_milli=cpus * 1000, memory_mib=memory_gib * 1024)


def used(connection: Connection, region: str) -> ResourceVector:
    """Return what the machines of *region* take, those of every project."""
    query = (
        "SELECT count(*) FILTER (WHERE json_extract(needs, '$.buckets') IS NULL) AS instances, coalesce(sum(cpu_milli), 0) AS cpu_milli, coalesce(sum(memory_mib), 0) AS memory_mib"
        " FROM machines WHERE region = ? AND deleted_at IS NULL"
    )
    row = connection.execute(query, (region,)).fetchone()
    return ResourceVector({name: row[name] for name in LIMITED})


def by_key(connection: Connection, region: str, project: str, key: str) -> Machine | None:
    query = f"SELECT {_COLUMNS} FROM machines WHERE region = ? AND project = ? AND key = ? AND deleted_at IS NULL"  # noqa: S608
    return _only(connection.execute(query, (region, project, key)).fetchone())


def by_id(connection: Connection, region: str, project: str, id: str) -> Machine | None:
    """Return the machine, a deleted one too."""
    query = f"SELECT {_COLUMNS} FROM machines WHERE region = ? AND project = ? AND id = ?"  # noqa: S608 - constant columns
    return _only(connection.execute(query, (region, project, id)).fetchone())


def machines(connection: Connection, *, with_deleted: bool = False) -> list[Machine]:
    """Return the site's books in the order of creation: what there is, or (*with_deleted*) ever was."""
    prepare(connection)
    condition = "" if with_deleted else "WHERE deleted_at IS NULL"
    query = f"SELECT {_COLUMNS} FROM machines {condition} ORDER BY seq"  # noqa: S608 - constants
    return [_machine(row) for row in connection.execute(query)]


def add(connection: Connection, machine: Machine, options: SiteOptions) -> Machine:
    """Write *machine*, with an id and an address of its own, into the books. Raises NoCapacity."""
    taken = used(connection, machine.region)
    free = {name: max(0, amount - taken[name]) for name, amount in limit(options).items()}
    asked = ResourceVector(
        {name: machine.needs[name] for name in LIMITED} | {"instances": int(not machine.needs["buckets"])}
    )
    if short := asked.shortfall(free):
        lacks = ", ".join(f"{name}: {asked[name]} asked, {free.get(name, 0)} free" for name in short)
        raise NoCapacity(f"the simulated site is full ({lacks})")
    values = {
        "id": f"simulated-{uuid4().hex[:16]}",
        "key": machine.key,
        "region": machine.region,
        "project": machine.project,
        "needs": json.dumps(dict(machine.needs)),
        "ports": json.dumps(machine.ports),
        "address": _free_address(connection),
        "created_at": machine.created_at.timestamp(),
        "boots_at": machine.boots_at.timestamp(),
        "forced": machine.forced,
        "reason": machine.reason,
    }
    names, marks = ", ".join(values), ", ".join(f":{name}" for name in values)
    row = connection.execute(f"INSERT INTO machines({names}) VALUES ({marks}) RETURNING {_COLUMNS}", values)  # noqa: S608
    return _machine(row.fetchone())


def remove(connection: Connection, id: str, now: datetime) -> None:
    """Close the books of a machine; what is absent already stays as it is."""
    query = "UPDATE machines SET deleted_at = ? WHERE id = ? AND deleted_at IS NULL"
    connection.execute(query, (now.timestamp(), id))


def stop(connection: Connection, id: str, now: datetime) -> None:
    """Have a machine stand still, and keep its place; one that does stays as it is."""
    query = "UPDATE machines SET stopped_at = ? WHERE id = ? AND deleted_at IS NULL AND stopped_at IS NULL"
    connection.execute(query, (now.timestamp(), id))


def start(connection: Connection, stopped: Machine, booting: Machine) -> None:
    """Have a machine that stands still boot as *booting* says, at a new address."""
    ran_s = uptime(stopped, booting.boots_at).total_seconds()
    connection.execute(
        "UPDATE machines SET stopped_at = NULL, ran_s = ?, boots_at = ?, address = ?, forced = ?, reason = ? WHERE id = ?",
        (ran_s, booting.boots_at.timestamp(), _free_address(connection), booting.forced, booting.reason, stopped.id),
    )


def force(connection: Connection, id: str, phase: Phase | None, reason: str = "") -> None:
    """Put a machine into *phase* as a failing host or a site's administrator would; None lets time decide again."""
    query = "UPDATE machines SET forced = ?, reason = ? WHERE id = ?"
    connection.execute(query, ("" if phase is None else phase.value, reason, id))


def uptime(machine: Machine, now: datetime) -> timedelta:
    """Return how long the machine has run, all its runs together."""
    return machine.ran + max(timedelta(0), (machine.stopped_at or machine.deleted_at or now) - machine.boots_at)


def _free_address(connection: Connection) -> str:
    """Return an address that no machine has; beyond 254 machines addresses repeat, which harms nothing here."""
    taken = {
        row["address"] for row in connection.execute("SELECT DISTINCT address FROM machines WHERE deleted_at IS NULL")
    }
    count = connection.execute("SELECT coalesce(max(seq), 0) AS n FROM machines").fetchone()["n"]
    hosts = ADDRESSES.num_addresses - 2
    candidates = (str(ADDRESSES[(count + offset) % hosts + 1]) for offset in range(hosts))
    return next((address for address in candidates if address not in taken), str(ADDRESSES[count % hosts + 1]))


def _only(row: dict[str, object] | None) -> Machine | None:
    return None if row is None else _machine(row)


def _machine(row: dict[str, object]) -> Machine:
    def moment(name: str) -> datetime:
        return datetime.fromtimestamp(float(str(row[name])), UTC)

    def perhaps(name: str) -> datetime | None:
        return None if row[name] is None else moment(name)

    return Machine(
        id=str(row["id"]),
        key=str(row["key"]),
        region=str(row["region"]),
        project=str(row["project"]),
        needs=ResourceVector(json.loads(str(row["needs"]))),
        ports=tuple(json.loads(str(row["ports"]))),
        address=str(row["address"]),
        created_at=moment("created_at"),
        boots_at=moment("boots_at"),
        forced=str(row["forced"]),
        reason=str(row["reason"]),
        deleted_at=perhaps("deleted_at"),
        stopped_at=perhaps("stopped_at"),
        ran=timedelta(seconds=float(str(row["ran_s"]))),
    )
