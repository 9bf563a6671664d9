"""What somebody knows of machines who has heard all that the orchestrator said of them: whether they run, where, and what became of actions."""

from collections import defaultdict
from dataclasses import dataclass, field

from tests.protocol.sites import Key

from indaco_common.contracts import gateway, orchestrator
from indaco_common.contracts.gateway import PowerAction
from indaco_common.messages import Message


@dataclass(slots=True)
class Powered:
    """One machine. Numbers are those of actions; 0: none."""

    newest: tuple[int, bool] = (1, False)  # its run, and whether that is over
    asked: int = 0
    action: PowerAction | None = None
    answered: int = 0
    failed: int = 0

    def ask(self, number: int, action: PowerAction) -> None:
        self.asked, self.action = number, action

    def hear(self, number: int, newest: tuple[int, bool]) -> None:
        self.newest, self.answered = max(self.newest, newest), max(self.answered, number)


@dataclass(slots=True)
class Told:
    """All machines that were ever told of, and the outputs of every deployment: there, where each machine is."""

    machines: dict[Key, Powered] = field(default_factory=lambda: defaultdict(Powered))
    attempt: dict[str, int] = field(default_factory=dict)  # of each deployment that was said to run
    outputs: dict[str, dict[str, object]] = field(default_factory=dict)

    def hear(self, message: Message) -> None:
        match message:
            case gateway.DeploymentActionRequested():
                for node in message.nodes:
                    key = (message.deployment_id, self.attempt[message.deployment_id], node)
                    self.machines[key].ask(message.number, message.action)
            case orchestrator.NodeStarted():
                self.machines[_key(message)].hear(0, (1, False))
            case orchestrator.NodeStopped():
                self.machines[_key(message)].hear(message.number, (message.run, True))
            case orchestrator.NodeResumed():
                self.machines[_key(message)].hear(message.number, (message.run, False))
            case orchestrator.NodeActionFailed():
                machine = self.machines[_key(message)]
                machine.failed = max(machine.failed, message.number)
                machine.answered = max(machine.answered, message.number)
            case orchestrator.DeploymentRunning(slots=(_, *_)):
                self.attempt[message.deployment_id] = message.attempt
                self.outputs[message.deployment_id] = message.outputs
            case orchestrator.DeploymentOutputsChanged():
                self.outputs[message.deployment_id] = message.outputs
            case _:
                pass

    def of(self, id: str) -> list[str]:
        """Return the machines of a deployment that is said to run."""
        return sorted(node for d, attempt, node in self.machines if (d, attempt) == (id, self.attempt.get(id)))


def _key(
    event: orchestrator.NodeStarted
    | orchestrator.NodeStopped
    | orchestrator.NodeResumed
    | orchestrator.NodeActionFailed,
) -> Key:
    return event.deployment_id, event.attempt, event.node
