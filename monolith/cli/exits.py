"""How the program ends: exit codes, and the error that carries one."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes; users' scripts rely on them."""

    OK = 0
    FAILED = 1
    """An analysis, a verification or the program itself failed."""
    USAGE = 2
    """The command line is wrong."""
    BAD_SOURCE = 3
    """A file or URL cannot be read, or is no video."""
    ENVIRONMENT = 4
    """The settings, the data directory, the port or the server are not right."""
    INTERRUPTED = 130
    """Ctrl-C."""


EPILOG = (
    "Exit codes: 0 ok, 1 analysis failed, 2 wrong usage, 3 bad input, "
    "4 settings, data directory or server not right, 130 Ctrl-C."
)


class CliError(Exception):
    """Ends the program with `code` and its text, for users, on standard error."""

    def __init__(self, text: str, code: Exit) -> None:
        super().__init__(text)
        self.code = code
