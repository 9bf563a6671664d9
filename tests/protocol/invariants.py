"""What must hold at every moment, and what the books must say at rest."""

from tests.protocol.sites import Key, Site
from tests.protocol.storage import MemoryStore
from tests.protocol.told import Told

from indaco_accounting.model import UsageRecord
from indaco_common.contracts.values import Owner
from indaco_orchestrator.model import power
from indaco_orchestrator.model.deployment import Deployment
from indaco_orchestrator.model.values import Status
from indaco_sla.model.ledger import COUNTED, Ledger, State
from indaco_sla.model.placement import Placement
from indaco_sla.model.placement import Status as Placing
from indaco_vault_broker.model.lease import Lease
from indaco_vault_broker.model.lease import State as LeaseState

BUILT = (Status.CREATING, Status.RUNNING, Status.UPDATING)
ENDS = (Status.RUNNING, Status.FAILED, Status.DELETED)


class Hole(AssertionError):
    """An invariant is broken."""


def is_given_up(d: Deployment, site: str, key: Key) -> bool:
    """Whether a forced deletion has named this machine for the operator and forgotten it."""
    return f"{site}: {'.'.join(map(str, key))}" in d.given_up


class Invariants:
    """Looks at the saved state of every aggregate and at what there is at the sites."""

    def __init__(self, store: MemoryStore, sites: dict[str, Site], site_of: dict[str, str], told: Told) -> None:
        """*site_of*: agreement → site."""
        self._store, self._sites, self._site_of, self._told = store, sites, site_of, told
        self._counted: dict[str, set[Key]] = {}  # per ledger
        self._machines: dict[str, list[str]] = {}  # per site, the ids at the last look

    # ── always

    def always(self) -> None:
        """No ledger over its limit; every machine counted by one, owned by one attempt, and never twice. Raises: Hole."""
        changed, self._store.changed = self._store.changed, set()
        machines = {name: list(site.machines) for name, site in self._sites.items()}
        if not changed and machines == self._machines:
            return
        self._machines = machines
        for kind, id in changed:
            if kind == Ledger.KIND:
                self._check_ledger(id)
            elif kind == UsageRecord.KIND:
                self._check_record(id)
        for site in self._sites.values():
            self._check_machines(site)

    def _check_ledger(self, id: str) -> None:
        ledger = self._store.read(Ledger, id)
        assert ledger is not None
        scopes: list[tuple[Owner | None, str]] = [(None, "its")]
        if ledger.user_limits is not None:
            scopes += [(owner, "a user's") for owner in {line.owner for line in ledger.reservations.values()}]
        for owner, whose in scopes:
            limits = ledger.limits if owner is None else ledger.user_limits
            assert limits is not None
            if short := ledger.used(owner).shortfall(limits):
                raise Hole(f"ledger {id} over {whose} limit by {short}")
        self._counted[id] = {
            (line.deployment_id, line.attempt, node)
            for line in ledger.reservations.values()
            if line.state in COUNTED
            for node in line.nodes
        }

    def _check_record(self, id: str) -> None:
        record = self._store.read(UsageRecord, id)
        assert record is not None
        if record.stopped_at and record.facts and record.stopped_at < record.facts.started_at:
            raise Hole(f"record {id} stops before it starts")

    def _check_machines(self, site: Site) -> None:
        counted: set[Key] = set()
        for ledger, name in self._site_of.items():
            if name == site.name:
                counted |= self._counted.get(ledger, set())
        live: set[Key] = set()
        for key in [machine.key for machine in site.machines.values()]:
            id, attempt, node = key
            d = self._store.read(Deployment, id)
            if d is None:
                raise Hole(f"machine of nobody: {site.name} {key}")
            if is_given_up(d, site.name, key):
                continue
            if key not in counted:
                raise Hole(f"live machine not counted: {site.name} {key}")
            if any(debris.attempt == attempt and node in debris.nodes for debris in d.debris):
                continue
            if key in live:
                raise Hole(f"two live machines: {site.name} {key}")
            live.add(key)
            if d.status not in BUILT or attempt != d.attempt or node not in d.spec | d.growth:
                raise Hole(f"forgotten machine: {site.name} {key}")

    # ── at rest

    def is_quiet(self) -> bool:
        """Whether nothing is under way in any aggregate."""
        held = any(
            line.state in (State.HELD, State.EXPIRING)
            for ledger in self._store.all(Ledger).values()
            for line in ledger.reservations.values()
        )
        return not held and not self.restless()

    def restless(self) -> list[tuple[str, str, list[tuple[int, str]], set[int]]]:
        """Return what has not come to its end: id, status, debris, and the attempts whose credential is awaited."""
        return [
            (d.id, d.status.value, [(debris.attempt, debris.slot) for debris in d.debris], d.pending)
            for d in self._store.all(Deployment).values()
            if d.status not in ENDS or d.debris or d.pending or power.wished_at(d)
        ]

    def at_rest(self, now: int, deleted: set[str], turned: set[Key]) -> None:
        """Raises: Hole, unless machines, ledgers, leases, records and placements say the same, and what was told.

        *deleted* was asked for; the machines of *turned* stopped or started by themselves.
        """
        deployments = self._store.all(Deployment)
        runs = sorted(
            (d.place.provider, (d.id, d.attempt, name))
            for d in deployments.values()
            if d.status is Status.RUNNING and d.place is not None
            for name in d.spec
        )
        alive = sorted(
            (name, m.key)
            for name, site in self._sites.items()
            for m in site.machines.values()
            if not is_given_up(deployments[m.key[0]], name, m.key)
        )
        if alive != runs:
            raise Hole(f"machines {alive} are not what runs {runs}")
        self._check_books(runs)
        self._check_told(runs, turned)
        self._check_credentials(deployments, now)
        for id, placement in self._store.all(Placement).items():
            self._check_placement(id, placement, deployments[id])
        for id in sorted(deleted):
            if deployments[id].status is not Status.DELETED:
                raise Hole(f"{id}: deletion asked for, yet {deployments[id].status}")

    def _check_books(self, runs: list[tuple[str, Key]]) -> None:
        counted = sorted((self._site_of[ledger], key) for ledger, keys in self._counted.items() for key in keys)
        if counted != runs:
            raise Hole(f"ledgers count {counted}, runs {runs}")
        opened = sorted(
            (r.deployment_id, r.attempt, r.node) for r in self._store.all(UsageRecord).values() if r.stopped_at is None
        )
        if opened != sorted(key for _, key in runs):
            raise Hole(f"open records {opened}, runs {runs}")

    def _check_told(self, runs: list[tuple[str, Key]], turned: set[Key]) -> None:
        """Every action has its answer, and who has heard all knows which machines run, and where."""
        machines = {machine.key: machine for site in self._sites.values() for machine in site.machines.values()}
        for _, key in runs:
            known, machine = self._told.machines[key], machines[key]
            if known.answered < known.asked:
                raise Hole(f"no answer: action {known.asked} on {key}, newest answer {known.answered}")
            if known.newest[1] != machine.is_stopped:
                raise Hole(f"told wrongly: {key} is stopped: {machine.is_stopped}, told {known.newest}")
            is_done = known.asked > known.failed and key not in turned
            if is_done and machine.is_stopped != (known.action == "stop"):
                raise Hole(f"not as wished: {key} is stopped: {machine.is_stopped}, last wish {known.action}")
            where = self._told.outputs[key[0]].get(key[2])
            if not machine.is_stopped and where != [*machine.addresses]:
                raise Hole(f"outputs wrong: {key} is at {machine.addresses}, told {where}")

    def _check_credentials(self, deployments: dict[str, Deployment], now: int) -> None:
        """Only what runs has credentials, at the vault broker and at the sites."""
        live = [
            k for s in self._sites.values() for k, until in s.credentials.items() if until is not None and until > now
        ]
        for lease in self._store.all(Lease).values():
            d = deployments[lease.deployment_id]
            runs = d.status is Status.RUNNING and d.attempt == lease.attempt
            if lease.state in (LeaseState.ISSUED, LeaseState.ISSUING) and not runs:
                raise Hole(
                    f"lease alive: {lease.id} is {lease.state}, its deployment {d.status} in attempt {d.attempt}"
                )
            if not runs and any(key == lease.id or key.startswith(f"{lease.id}/") for key in live):
                raise Hole(f"credential alive at its site: {lease.id}")

    def _check_placement(self, id: str, placement: Placement, d: Deployment) -> None:
        ends = {Placing.CONFIRMED} if d.status is Status.RUNNING else {Placing.RELEASED, Placing.REJECTED}
        if placement.status not in ends:
            raise Hole(f"placement {id} is {placement.status}, its deployment {d.status}")
        force = {rid: hold.ledger for rid, hold in placement.force.items()}
        taken = {rid: use.agreement for rid, use in d.taken.items()}
        if force != taken:
            raise Hole(f"placement {id} has in force {force}, its deployment uses {taken}")
