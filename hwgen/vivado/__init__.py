"""From a build to a board with Vivado: scripts, constraints, and what its reports say."""
from . import reports
from .boards import BOARDS
from .generate import CLOCK_MHZ, generate
from .run import SCRIPTS, command, installed, run

__all__ = ["BOARDS", "CLOCK_MHZ", "SCRIPTS", "command", "generate", "installed", "reports", "run"]
