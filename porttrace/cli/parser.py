"""The command-line parser of all subcommands: what is wrong in a command line is one line, as any other error."""

from __future__ import annotations

import argparse
from typing import NoReturn

from porttrace.errors import UsageError

__all__ = ["Parser"]


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are UsageError."""

    def error(self, message: str) -> NoReturn:
        """Raise UsageError with the message and where to read on."""
        raise UsageError(f"{message}; {self.prog} --help tells more")
