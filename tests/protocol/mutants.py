"""Every rule of the protocol, and how to take it out of the real code.

The code has no switches: a mutant is made in a process of its own, by loading a module from a changed source (:func:`install`). A
patch whose old text is not found exactly once is an error, so that the table follows the code. Rules that the turn's effects keep
(``orchestrator/turns.py``) are taken out of this world's own turns, which stand in their place.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

DEPLOYMENT = "indaco_orchestrator.model.deployment"
TURN = "indaco_orchestrator.model.turn"
POWER = "indaco_orchestrator.model.power"
PLACEMENT = "indaco_sla.model.placement"
LEDGER = "indaco_sla.model.ledger"
LEASING = "indaco_vault_broker.handlers"
SITES = "tests.protocol.sites"


@dataclass(frozen=True, slots=True)
class Patch:
    """Replace *old*, which occurs once in *module*, by *new*."""

    module: str
    old: str
    new: str


def _without(module: str, old: str, new: str = "pass") -> Patch:
    return Patch(module, old, new)


# The main rules.
GUARDS: dict[str, tuple[Patch, ...]] = {
    "expiry_asks": (Patch(LEDGER, "line.state = State.EXPIRING\n", "line.state, line.at = State.RELEASED, now\n"),),
    "debris_keeps_hold": (Patch(PLACEMENT, "if event.clean:", "if True:"),),
    "delete_tombstone": (
        Patch(
            DEPLOYMENT,
            """            self.present, self.status = False, Status.DELETED
            self.emit(orchestrator.DeploymentDeleted(deployment_id=self.deployment_id))
""",
            "",
        ),
    ),
    "late_returned": (
        _without(DEPLOYMENT, "self.answer(orchestrator.ReservationReturned, event, agreement)"),
        _without(PLACEMENT, "self.free(rid, event.ledger_id)"),
    ),
    "create_sent": (Patch(TURN, "d.create_sent = True\n", "pass\n"),),
    "claim": (
        Patch(TURN, "d.due_at = d.claimed = at.now + at.timing.claim", "d.due_at = d.claimed = at.now + at.timing.claim / 30"),
    ),
    "stored_answer": (Patch(LEDGER, "line = self.reservations.get(ask.reservation_id)", "line = None"),),
    "revoke_tombstone": (
        Patch(
            LEASING,
            "            if lease.state is not State.NEW and not lease.is_over:\n",
            "            if lease.state is State.NEW:\n                raise AlreadyHandled\n            if not lease.is_over:\n",
        ),
    ),
    "release_tombstone": (_without(LEDGER, "self.reservations[command.reservation_id] = _tombstone(now)"),),
    "late_revoked": (
        Patch(
            DEPLOYMENT,
            """            self.emit(
                vault.CredentialRevoke(deployment_id=self.deployment_id, attempt=event.attempt, serial=event.serial)
            )
            return
        self.pending""",
            """            return
        self.pending""",
        ),
    ),
}  # fmt: skip

# The rules that running the model taught.
FIXES: dict[str, tuple[Patch, ...]] = {
    "answer_names_ledger": (
        Patch(PLACEMENT, "if hold is None or hold.ledger != event.ledger_id or hold.reserved:", "if hold is None:"),
    ),
    "return_spares_debris": (
        Patch(
            DEPLOYMENT,
            "if use is not None and use.agreement == agreement:  # in use, or",
            "if use is not None and use.agreement == agreement and not any(\n"
            "            (x.attempt, x.slot) == (event.attempt, event.slot) for x in self.debris\n"
            "        ):  # in use, or",
        ),
    ),
    "expiring_waits": (Patch(DEPLOYMENT, "if self.status is Status.NEW or next_main or growing:", "if self.status is Status.NEW:"),),
    "failed_frees_nothing": (
        Patch(
            PLACEMENT,
            "        self.closed = True\n        self.rest()",
            "        self.closed = True\n        for rid in list(self.force):\n            self.free(rid)\n        self.rest()",
        ),
    ),
    "lease_serial": (Patch(DEPLOYMENT, "self.serial[attempt] = self.serial.get(attempt, -1) + 1", "self.serial[attempt] = 0"),),
    "slot_cleaned": (Patch(TURN, "slot = None if whole else debris.slot", "slot = None"),),
    "settle": (
        Patch(TURN, "if debris.quiet >= 2:", "if debris.quiet >= 1:"),
        Patch(SITES, "if ids or (is_complete and work.at.now > debris.settles_at):", "if True:"),
    ),
    "fresh_names": (Patch(DEPLOYMENT, "            more |= {f", "            first = have\n            more |= {f"),),
    "tombstone_says_deleted": (
        Patch(
            DEPLOYMENT,
            """            self.present, self.status = False, Status.DELETED
            self.emit(orchestrator.DeploymentDeleted(deployment_id=self.deployment_id))
""",
            "            self.present, self.status = False, Status.DELETED\n",
        ),
    ),
    "loss_frees_node": (Patch(PLACEMENT, "self.free(rid, nodes=event.nodes)", "pass"),),
    "refusal_in_cleaning": (
        Patch(
            DEPLOYMENT,
            "        self.pending.discard(event.attempt)\n        if self.status is Status.AWAITING_CREDENTIAL and event.attempt == self.attempt:\n            self.fail_attempt(event.reason, at)",
            "        if self.status is Status.AWAITING_CREDENTIAL and event.attempt == self.attempt:\n            self.fail_attempt(event.reason, at)",
        ),
    ),
    "growth_lost_fails": (Patch(TURN, "if lost & d.growth and d.status is Status.UPDATING:", "if False:"),),
    "claim_kept": (
        Patch(DEPLOYMENT, "self.status, self.entered_at = status, at.now\n        self.due_at = max(at.now, self.claimed or at.now)", "self.status, self.entered_at = status, at.now\n        self.due_at = at.now"),
    ),
    "leave_takes_slots": (Patch(DEPLOYMENT, "parts = [d for d in self.debris if d.attempt == self.attempt]", "parts: list[Debris] = []"),),
    "closed_settles": (Patch(PLACEMENT, "        self.refused += event.reasons\n        self.rest()\n", "        self.refused += event.reasons\n"),),
    "uncertain_waits": (_without(SITES, 'raise Uncertain("an answer was lost")'),),
    "claim_token": (Patch(TURN, "if found.token != d.claimed:", "if False:"),),
    "newest_wish": (Patch(POWER, "elif event.number > (node.wish.number if node.wish else node.answered):", "else:"),),
    "wish_of_its_phase": (Patch(POWER, "if node.wish is None or node.wish.action != action:", "if node.wish is None:"),),
    "acted_unsees": (
        Patch(
            SITES,
            "        found.started.pop(node.name, None)\n        found.stopped.discard(node.name)\n        machine =",
            "        machine =",
        ),
    ),
    "moved_resolves": (Patch(TURN, "return power.moves(d, found) or (", "return ("),),
    "run_counts": (Patch(POWER, "node.run = node.run + 1 if is_again else max(node.run, 2)", "node.run = max(node.run, 2)"),),
}  # fmt: skip

# Each of these is taken out together with what backs it up. Four of them the world notices only so: a late issue is revoked by
# its answer, or by its tombstone; a late reservation is given back, or meets its tombstone; and a state that is entered while a
# turn is under way does harm only if one look is enough for cleaning.
PAIRS: tuple[tuple[str, str], ...] = (
    ("revoke_tombstone", "late_revoked"),
    ("release_tombstone", "late_returned"),
    ("settle", "claim_kept"),
    ("settle", "uncertain_waits"),
)
RULES = GUARDS | FIXES
_BACKED_UP = ("revoke_tombstone", "late_revoked", "release_tombstone", "claim_kept")
MUTANTS: tuple[tuple[str, ...], ...] = (*((rule,) for rule in RULES if rule not in _BACKED_UP), *PAIRS)


class Loader(importlib.machinery.SourceFileLoader):
    """Loads a module with its patches in."""

    patches: Sequence[Patch] = ()

    def get_code(self, fullname: str) -> object:  # type: ignore[override]
        source = self.get_source(fullname) or ""
        for patch in self.patches:
            if (count := source.count(patch.old)) != 1:
                raise ImportError(f"{fullname}: found {count} times, not once: {patch.old!r}")
            source = source.replace(patch.old, patch.new)
        return compile(source, self.path, "exec", dont_inherit=True)


class Finder(importlib.abc.MetaPathFinder):
    def __init__(self, patches: Sequence[Patch]) -> None:
        self._patches = patches

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        mine = [patch for patch in self._patches if patch.module == fullname]
        spec = importlib.machinery.PathFinder.find_spec(fullname, path) if mine else None
        if spec is None or spec.origin is None:
            return None
        loader = Loader(fullname, spec.origin)
        loader.patches = mine
        return importlib.util.spec_from_file_location(fullname, spec.origin, loader=loader)


def install(rules: Sequence[str]) -> None:
    """Take *rules* out of what this process will import. Raises: RuntimeError, if a module is loaded already."""
    patches = [patch for rule in rules for patch in RULES[rule]]
    if loaded := {patch.module for patch in patches} & set(sys.modules):
        raise RuntimeError(f"too late to change {sorted(loaded)}")
    if patches:
        sys.meta_path.insert(0, Finder(patches))
