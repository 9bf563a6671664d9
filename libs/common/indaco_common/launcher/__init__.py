"""What operators run: ``indaco run``, and the tools that look into bus and journals, and pin what templates import. Imports no service; finds them by entry points."""

from .doctor import doctor
from .imports_command import imports
from .operations import dead, replay, topology
from .run import run
from .trace import trace

COMMANDS = (run, topology, replay, dead, trace, doctor, imports)

__all__ = ["COMMANDS"]
