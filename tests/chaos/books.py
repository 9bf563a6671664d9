"""What stores, sites, vault and queues hold at the end, and whether it adds up. Pure: :mod:`tests.chaos.reading` fetches it.

Nothing here comes from the program's own counters, nor from what the run believes: only what was asked for by users and what
lies in the files and servers.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

RUNNING, FAILED, DELETED = "running", "failed", "deleted"
VIEWS = {RUNNING: "CREATE_COMPLETE", FAILED: "CREATE_FAILED", DELETED: "DELETE_COMPLETE"}
LEAST_SHARE = 0.95  # of the deployments that nobody deleted: so many run
SHOWN = 5  # examples per broken promise

Attempt = tuple[str, int]  # deployment, attempt
NodeId = tuple[str, int, str]  # deployment, attempt, node
Amounts = dict[str, int]  # resource class → amount


@dataclass(frozen=True, slots=True)
class Asked:
    """What a user asked for, and was told that it was accepted."""

    secret: bool = False
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class Life:
    """A deployment as the orchestrator has it."""

    status: str
    attempt: int = 0
    nodes: frozenset[str] = frozenset()
    debris: int = 0


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine in a site's own file; *phase* is the site's."""

    site: str
    project: str
    node: NodeId
    id: str
    phase: str
    needs: Amounts

    @property
    def is_there(self) -> bool:
        return self.phase != "absent"


@dataclass(frozen=True, slots=True)
class Record:
    """A usage record of accounting."""

    node: NodeId
    machine: str
    is_open: bool


@dataclass(frozen=True, slots=True)
class Ledger:
    """What counts against one agreement, and how many holds are neither confirmed nor freed."""

    site: str
    project: str
    used: Amounts
    unsettled: int = 0


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter, by the bytes that it consists of."""

    service: str
    body: bytes
    error: str = field(default="", compare=False)


@dataclass(slots=True)
class Books:
    """Everything, at one moment after the end."""

    asked: dict[str, Asked] = field(default_factory=dict)
    lives: dict[str, Life] = field(default_factory=dict)
    views: dict[str, str] = field(default_factory=dict)  # the gateway's status
    tried: dict[str, set[str]] = field(default_factory=dict)  # sla's: sites that were tried or had no room
    machines: list[Machine] = field(default_factory=list)
    ran: set[NodeId] = field(default_factory=set)  # seen running, by the orchestrator's journal
    records: list[Record] = field(default_factory=list)
    ledgers: dict[str, Ledger] = field(default_factory=dict)
    site_leases: list[Attempt] = field(default_factory=list)  # that the sites still honour
    broker_leases: list[Attempt] = field(default_factory=list)  # that the broker believes to be open
    vault: set[str] = field(default_factory=set)  # every path that holds a secret
    keys: set[str] = field(default_factory=set)  # paths of users' keys, by the gateway's rings
    dead: list[Letter] = field(default_factory=list)
    waiting: dict[str, int] = field(default_factory=dict)  # per service: messages in outbox, queue and delay tiers
    surprises: list[str] = field(default_factory=list)  # a process that ended by itself, a vault without a parent


@dataclass(frozen=True, slots=True)
class Verdict:
    """The figures, and every promise that was broken."""

    figures: dict[str, int]
    broken: list[str]


def judge(books: Books, *, sites: frozenset[str], planted: Iterable[Letter]) -> Verdict:
    """Return what the books say, given every site that there is and the dead letters that were planted."""
    broken = [
        *_ended(books),
        *_enough(books, sites),
        *_machines(books),
        *_records(books),
        *_quota(books),
        *_leases(books),
        *_secrets(books),
        *_letters(books, planted),
        *(f"{count} messages of {service} are still on their way" for service, count in books.waiting.items() if count),
        *books.surprises,
    ]
    return Verdict(_figures(books, planted), broken)


def _figures(books: Books, planted: Iterable[Letter]) -> dict[str, int]:
    status = Counter(life.status for life in books.lives.values())
    unplanted = [letter for letter in books.dead if letter not in set(planted)]
    return {
        "deployments": len(books.asked),
        "running": status[RUNNING],
        "deleted": status[DELETED],
        "failed": status[FAILED],
        "attempts": sum(life.attempt for life in books.lives.values()),
        "machines": sum(machine.is_there for machine in books.machines),
        "machines_removed": sum(not machine.is_there for machine in books.machines),
        "records_open": sum(record.is_open for record in books.records),
        "records_closed": sum(not record.is_open for record in books.records),
        "quota_diff": sum(abs(amount) for diff in _quota_diff(books).values() for amount in diff.values()),
        "leases_left": len(_leases_left(books)),
        "dead_letters": len(unplanted),
        "dead_letters_planted": len(set(books.dead) & set(planted)),
    }


def running(books: Books) -> dict[str, Life]:
    return {id: life for id, life in books.lives.items() if life.status == RUNNING}


def _attempts(books: Books) -> set[Attempt]:
    return {(id, life.attempt) for id, life in running(books).items()}


def _nodes(books: Books) -> set[NodeId]:
    return {(id, life.attempt, node) for id, life in running(books).items() for node in life.nodes}


def _ended(books: Books) -> Iterator[str]:
    """Each deployment that was asked for has ended as asked, everybody says the same of it, and there is no other."""
    yield from _told("asked for, unknown to the orchestrator", books.asked.keys() - books.lives.keys())
    yield from _told("known to the orchestrator, never asked for", books.lives.keys() - books.asked.keys())
    yield from _told("not ended", (f"{i} {v.status}" for i, v in books.lives.items() if v.status not in VIEWS))
    yield from _told("debris is left", (id for id, life in books.lives.items() if life.debris))
    yield from _told(
        "the user is shown something else",
        (
            f"{id}: {life.status}, shown {books.views.get(id)}"
            for id, life in books.lives.items()
            if books.views.get(id) != VIEWS.get(life.status)
        ),
    )
    yield from _told(
        "deletion was accepted, it is there",
        (i for i in _known(books) if books.asked[i].deleted and _is(books, i) != DELETED),
    )
    yield from _told(
        "deleted unasked", (i for i in _known(books) if not books.asked[i].deleted and _is(books, i) == DELETED)
    )


def _known(books: Books) -> list[str]:
    return [id for id in books.asked if id in books.lives]


def _is(books: Books, id: str) -> str:
    return books.lives[id].status


def _enough(books: Books, sites: frozenset[str]) -> Iterator[str]:
    """At least 95 % of those that nobody deleted run; each of the others was tried at every site."""
    wanted = [id for id, asked in books.asked.items() if not asked.deleted]
    run = [id for id in wanted if id in books.lives and _is(books, id) == RUNNING]
    if len(run) < LEAST_SHARE * len(wanted):
        yield f"only {len(run)} of {len(wanted)} run that nobody deleted"
    failed = [id for id in _known(books) if _is(books, id) == FAILED]
    yield from _told(
        "failed without a try at every site",
        (f"{id}: not {', '.join(sorted(left))}" for id in failed if (left := sites - books.tried.get(id, set()))),
    )


def _machines(books: Books) -> Iterator[str]:
    """Exactly one machine for each node that runs, and none besides."""
    expected, there = _nodes(books), [machine for machine in books.machines if machine.is_there]
    count = Counter(machine.node for machine in there)
    yield from _told("no machine for", map(_name, expected - count.keys()))
    yield from _told("more than one machine for", (_name(node) for node, n in count.items() if n > 1))
    yield from _told(
        "a machine of nobody", (f"{m.site} {m.id} {_name(m.node)}" for m in there if m.node not in expected)
    )
    yield from _told(
        "a machine that does not run", (f"{m.site} {m.id} {m.phase}" for m in there if m.phase != "running")
    )


def _records(books: Books) -> Iterator[str]:
    """One open record for each node that runs, one closed for each that ran; of the very machines that the sites have or had."""
    by_state = {True: Counter[NodeId](), False: Counter[NodeId]()}
    for record in books.records:
        by_state[record.is_open][record.node] += 1
    expected = {True: _nodes(books), False: books.ran - _nodes(books)}
    for is_open, word in ((True, "open"), (False, "closed")):
        yield from _told(f"no {word} record of", map(_name, expected[is_open] - by_state[is_open].keys()))
        yield from _told(f"an {word} record of what is not so" if is_open else "a closed record of what never ran or runs",
                         map(_name, by_state[is_open].keys() - expected[is_open]))  # fmt: skip
        yield from _told(f"more than one {word} record of", (_name(n) for n, c in by_state[is_open].items() if c > 1))
    yield from _told("runs, but was never said to have started", map(_name, _nodes(books) - books.ran))
    there = {machine.id: machine.is_there for machine in books.machines}
    yield from _told(
        "a record that its site contradicts",
        (f"{_name(r.node)} {r.machine}" for r in books.records if there.get(r.machine) is not r.is_open),
    )


def _quota_diff(books: Books) -> dict[str, Amounts]:
    """Return, per ledger, what it counts more (or less) than the machines of its project at its site take."""
    found = {}
    for id, ledger in books.ledgers.items():
        diff = Counter(ledger.used)
        for machine in books.machines:
            if machine.is_there and (machine.site, machine.project) == (ledger.site, ledger.project):
                diff.subtract(machine.needs)
        found[id] = {name: amount for name, amount in diff.items() if amount}
    return found


def _quota(books: Books) -> Iterator[str]:
    """Quota is exactly what runs, and all of it confirmed."""
    yield from _told("quota that is not what runs", (f"{id} {diff}" for id, diff in _quota_diff(books).items() if diff))
    yield from _told("holds not settled", (f"{id}: {v.unsettled}" for id, v in books.ledgers.items() if v.unsettled))


def _lying(books: Books) -> list[Attempt]:
    """Return the attempts for which a credential lies in the vault."""
    parts = [path.split("/") for path in books.vault if path.startswith("leases/")]
    return [(deployment, int(attempt)) for _, deployment, attempt in parts]


def _leases_left(books: Books) -> set[tuple[str, Attempt]]:
    """Return the leases, by who has them, that nothing that runs has a use for."""
    places = {"site": books.site_leases, "broker": books.broker_leases, "vault": _lying(books)}
    return {(place, lease) for place, leases in places.items() for lease in leases if lease not in _attempts(books)}


def _leases(books: Books) -> Iterator[str]:
    """Exactly one lease for each that runs, at its site, in the broker's books and in the vault."""
    yield from _told("a lease is left over", (f"{place}: {_name(lease)}" for place, lease in _leases_left(books)))
    for place, leases in (("site", books.site_leases), ("broker", books.broker_leases), ("vault", _lying(books))):
        count = Counter(leases)
        yield from _told(f"no lease ({place}) for", map(_name, _attempts(books) - count.keys()))
        yield from _told(f"more than one lease ({place}) for", (_name(a) for a, n in count.items() if n > 1))


def _secrets(books: Books) -> Iterator[str]:
    """Secrets of what runs are there, those of what has ended are gone; users' keys are those that they see."""
    alive = running(books).keys()
    for kind in ("inputs", "outputs"):
        here = {path.split("/")[1] for path in books.vault if path.startswith(f"{kind}/")}
        yield from _told(f"{kind} left over of", here - alive)
        yield from _told(f"{kind} missing of", {id for id in alive if books.asked.get(id, Asked()).secret} - here)
    yield from _told("sessions left over", (path for path in books.vault if path.startswith("sessions/")))
    keys = {path for path in books.vault if path.startswith("users/")}
    yield from _told("a key that no user has", keys - books.keys)
    yield from _told("a user's key is not in the vault", books.keys - keys)


def _letters(books: Books, planted: Iterable[Letter]) -> Iterator[str]:
    """The only dead letters are those planted; one may be there twice, if its reader was killed before it could say so."""
    found, wanted = set(books.dead), set(planted)
    yield from _told(
        "a dead letter that nobody planted",
        (f"{letter.service}: {letter.error}: {letter.body[:120]!r}" for letter in found - wanted),
    )
    yield from _told("a planted dead letter is not there", (f"{v.service}: {v.body[:60]!r}" for v in wanted - found))


def _told(promise: str, examples: Iterable[str]) -> Iterator[str]:
    """Yield one line for all *examples* of a broken promise, none if there are none."""
    found = sorted(examples)
    if found:
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        yield f"{promise}: {'; '.join(found[:SHOWN])}{more}"


def _name(what: Attempt | NodeId) -> str:
    return "/".join(map(str, what))
