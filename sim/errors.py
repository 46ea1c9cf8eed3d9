"""What can go wrong around a simulation."""


class SimulationError(RuntimeError):
    """A tool is missing, a build failed, or a core broke its contract; one line says which.

    The message ends with the remedy where there is one. Wrong data raise ValueError instead.
    """
