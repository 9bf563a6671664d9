"""The judge of the books finds every discrepancy that is planted in books that balance."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from .books import Asked, Books, Ledger, Letter, Life, Machine, Record, judge

SITES = frozenset({"a", "b"})
NEEDS = {"instances": 1, "cpu_milli": 1000}
PLANTED = (Letter("sla", b"no envelope"),)
RAN, GONE, LOST = ("d1", 2, "server-0"), ("d1", 1, "server-0"), ("d2", 1, "server-0")


def balanced() -> Books:
    """d1 runs at its second attempt and has a secret, d2 ran and was deleted, d3 failed everywhere; 20 more run."""
    books = Books(
        asked={"d1": Asked(secret=True), "d2": Asked(deleted=True), "d3": Asked()},
        lives={"d1": Life("running", 2, frozenset({"server-0"})), "d2": Life("deleted", 1), "d3": Life("failed", 2)},
        views={"d1": "CREATE_COMPLETE", "d2": "DELETE_COMPLETE", "d3": "CREATE_FAILED"},
        tried={"d1": {"a"}, "d2": set(), "d3": {"a", "b"}},
        machines=[
            Machine("a", "cms", GONE, "m0", "absent", NEEDS),
            Machine("b", "cms", RAN, "m1", "running", NEEDS),
            Machine("a", "cms", LOST, "m2", "absent", NEEDS),
        ],
        ran={RAN, LOST},
        records=[Record(RAN, "m1", is_open=True), Record(LOST, "m2", is_open=False)],
        ledgers={
            "cms-a": Ledger("a", "cms", {}),
            "cms-b": Ledger("b", "cms", dict(NEEDS)),
            "atlas-b": Ledger("b", "atlas", {}),
        },
        site_leases=[("d1", 2)],
        broker_leases=[("d1", 2)],
        vault={"leases/d1/2", "inputs/d1", "outputs/d1", "users/u/keys/default"},
        keys={"users/u/keys/default"},
        dead=[Letter("sla", b"no envelope", "invalid: envelope")],
        waiting={"sla": 0},
    )
    for number in range(20):
        _add_running(books, f"e{number}")
    return books


def _add_running(books: Books, id: str) -> None:
    node = (id, 1, "server-0")
    books.asked[id], books.lives[id] = Asked(), Life("running", 1, frozenset({"server-0"}))
    books.views[id], books.tried[id] = "CREATE_COMPLETE", set()
    books.machines.append(Machine("a", "cms", node, f"machine of {id}", "running", NEEDS))
    books.ran.add(node)
    books.records.append(Record(node, f"machine of {id}", is_open=True))
    books.site_leases.append((id, 1))
    books.broker_leases.append((id, 1))
    books.vault.add(f"leases/{id}/1")
    used = books.ledgers["cms-a"].used
    books.ledgers["cms-a"] = Ledger("a", "cms", {name: used.get(name, 0) + amount for name, amount in NEEDS.items()})


def test_books_that_balance_keep_every_promise() -> None:
    verdict = judge(balanced(), sites=SITES, planted=PLANTED)
    assert verdict.broken == []
    assert verdict.figures == {
        "deployments": 23, "running": 21, "deleted": 1, "failed": 1, "attempts": 25, "machines": 21, "machines_removed": 2,
        "records_open": 21, "records_closed": 1, "quota_diff": 0, "leases_left": 0, "dead_letters": 0,
        "dead_letters_planted": 1,
    }  # fmt: skip


Fault = Callable[[Books], object]

FAULTS: dict[str, tuple[str, Fault]] = {
    "a request that was lost": ("unknown to the orchestrator", lambda b: b.asked.update(x=Asked())),
    "a deployment out of nothing": ("never asked for", lambda b: b.lives.update(x=Life("deleted"))),
    "a deployment that hangs": ("not ended: e1 creating", lambda b: b.lives.update(e1=Life("creating", 1))),
    "debris": ("debris is left: d2", lambda b: b.lives.update(d2=Life("deleted", 1, debris=1))),
    "a view that lags": ("shown something else: d1", lambda b: b.views.update(d1="CREATE_IN_PROGRESS")),
    "a deletion that was forgotten": ("deletion was accepted, it is there: e1", lambda b: b.asked.update(e1=Asked(deleted=True))),
    "a deletion of what nobody deleted": ("deleted unasked: d2", lambda b: b.asked.update(d2=Asked())),
    "too many failures": ("only 20 of 22 run", lambda b: b.lives.update(e1=Life("failed", 1))),
    "a failure after one try": ("without a try at every site: d3: not b", lambda b: b.tried.update(d3={"a"})),
    "a lost machine": ("no machine for: d1/2/server-0", lambda b: b.machines.pop(1)),
    "a machine twice": ("more than one machine for", lambda b: b.machines.append(Machine("a", "cms", RAN, "m9", "running", NEEDS))),
    "an orphan": ("a machine of nobody: a m9", lambda b: b.machines.append(Machine("a", "cms", GONE, "m9", "running", NEEDS))),
    "a machine that failed": ("does not run: b m1 failed", lambda b: _swap(b.machines, 1, phase="failed")),
    "no open record": ("no open record of: d1/2/server-0", lambda b: b.records.pop(0)),
    "no closed record": ("no closed record of: d2/1/server-0", lambda b: b.records.pop(1)),
    "a record left open": ("an open record of what is not so: d2", lambda b: _swap(b.records, 1, is_open=True)),
    "a record closed too soon": ("never ran or runs: d1", lambda b: _swap(b.records, 0, is_open=False)),
    "two records": ("more than one open record of: d1", lambda b: b.records.append(b.records[0])),
    "a record of another machine": ("its site contradicts: d1/2/server-0 m7", lambda b: _swap(b.records, 0, machine="m7")),
    "a start that nobody heard of": ("never said to have started: d1", lambda b: b.ran.discard(RAN)),
    "quota not freed": ("not what runs: cms-b {'instances': 1", lambda b: _swap(b.ledgers, "cms-b", used={**NEEDS, "instances": 2})),
    "quota not taken": ("not what runs: cms-b {'instances': -1", lambda b: _swap(b.ledgers, "cms-b", used={"cpu_milli": 1000})),
    "a hold that was never confirmed": ("holds not settled: cms-a: 1", lambda b: _swap(b.ledgers, "cms-a", unsettled=1)),
    "a credential that still works": ("left over: site: d1/1", lambda b: b.site_leases.append(("d1", 1))),
    "a lease that the broker forgot": ("left over: broker: d2/1", lambda b: b.broker_leases.append(("d2", 1))),
    "a credential in the vault": ("left over: vault: d2/1", lambda b: b.vault.add("leases/d2/1")),
    "no credential": ("no lease (vault) for: d1/2", lambda b: b.vault.discard("leases/d1/2")),
    "two credentials": ("more than one lease (site) for: d1/2", lambda b: b.site_leases.append(("d1", 2))),
    "inputs left over": ("inputs left over of: d2", lambda b: b.vault.add("inputs/d2")),
    "outputs left over": ("outputs left over of: d3", lambda b: b.vault.add("outputs/d3")),
    "inputs lost": ("inputs missing of: d1", lambda b: b.vault.discard("inputs/d1")),
    "a session left over": ("sessions left over: sessions/d1", lambda b: b.vault.add("sessions/d1")),
    "a key left over": ("a key that no user has", lambda b: b.vault.add("users/u/keys/spare")),
    "a key lost": ("key is not in the vault", lambda b: b.vault.discard("users/u/keys/default")),
    "a dead letter": ("nobody planted: gateway", lambda b: b.dead.append(Letter("gateway", b"x", "internal-error"))),
    "a planted letter that vanished": ("is not there: sla", lambda b: b.dead.clear()),
    "a message on its way": ("1 messages of sla", lambda b: b.waiting.update(sla=1)),
    "a process that gave up": ("sla ended by itself", lambda b: b.surprises.append("sla ended by itself with 1")),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_the_judge_finds(name: str) -> None:
    told, fault = FAULTS[name]
    books = balanced()
    fault(books)
    broken = judge(books, sites=SITES, planted=PLANTED).broken
    assert any(told in promise for promise in broken), broken


def test_figures_tell_how_far_it_is_off() -> None:
    books = balanced()
    books.site_leases.append(("d2", 1))
    books.dead.append(Letter("sla", b"another"))
    books.ledgers["cms-b"] = Ledger("b", "cms", {"instances": 3, "cpu_milli": 0})
    figures = judge(books, sites=SITES, planted=PLANTED).figures
    assert (figures["leases_left"], figures["dead_letters"], figures["quota_diff"]) == (1, 1, 2 + 1000)


def test_many_examples_are_cut_short() -> None:
    books = balanced()
    books.vault |= {f"sessions/{number}" for number in range(9)}
    (promise,) = judge(books, sites=SITES, planted=PLANTED).broken
    assert promise.endswith("and 4 more")


def _swap(container: object, key: object, **changes: object) -> None:
    container[key] = replace(container[key], **changes)  # type: ignore[index]
