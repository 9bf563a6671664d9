"""What operators run: ``indaco run``, and the tools that look into bus and journals. Imports no service; finds them by entry points."""

from .doctor import doctor
from .operations import dead, replay, topology
from .run import run
from .trace import trace

COMMANDS = (run, topology, replay, dead, trace, doctor)

__all__ = ["COMMANDS"]
