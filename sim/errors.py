"""What can go wrong around a simulation."""
from driver.transport import BusError


class SimulationError(RuntimeError):
    """A tool is missing, a build failed, or a core broke its contract; one line says which.

    The message ends with the remedy where there is one. Wrong data raise ValueError instead.
    """


class BusFault(SimulationError, BusError):
    """A register access of a simulated core that failed."""
