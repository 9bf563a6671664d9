"""What the gateway knows of a provider: what sla said of it last."""

from typing import ClassVar

from indaco_common.contracts import sla
from indaco_common.store import Aggregate


class ProviderView(Aggregate):
    """One per provider, with its id."""

    KIND: ClassVar[str] = "provider-view"
    INDEX: ClassVar[tuple[str, ...]] = ("state",)

    kind: str = ""
    state: str = ""
    regions: tuple[str, ...] = ()
    simulated: bool = False
    said: str = ""  # the sequence of the message that said so

    def registered(self, event: sla.ProviderRegistered, sequence: str) -> None:
        """Take what is newest, whatever the order in which it comes."""
        if sequence <= self.said:
            return
        self.said = sequence
        self.kind, self.state, self.regions, self.simulated = event.kind, event.state, event.regions, event.simulated
