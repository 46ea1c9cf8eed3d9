"""Errors that a user of hwgen can cause and cure."""


class HwgenError(Exception):
    """Something the user gave is wrong or missing.

    The text is one line that names the thing and the remedy. The command line prints it and ends
    with exit status 2; no traceback is needed to act on it.
    """


class OverBudget(Exception):
    """A figure of a core is over its limit; str() names both."""
