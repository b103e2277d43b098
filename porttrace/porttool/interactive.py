"""A shell for a person, on the terminal of port; or for a script that feeds it commands."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from porttrace.identity import privileged
from porttrace.porttool.spawn import end_group

__all__ = ["run", "shell_words"]

_QUIET = {"bash": ["--norc", "-i"], "zsh": ["-f", "-i"]}
"""Options with which a shell leaves the environment as it is given."""
_GRACE = 3.0  # seconds between hanging up on a shell and killing it


def shell_words(terminal: bool, wanted: str, prefix: str | os.PathLike[str]) -> list[str]:
    """The shell to start: ``/bin/sh`` to read commands; for a person `wanted` (of $SHELL), else bash, else ``/bin/sh``.

    A shell that lies in the prefix is not taken: the phase may not see it.
    """
    if not terminal:
        return ["/bin/sh"]
    usable = wanted.startswith("/") and os.access(wanted, os.X_OK) and not Path(wanted).is_relative_to(prefix)
    if not usable or Path(wanted).name in ("nologin", "false"):
        wanted = shutil.which("bash", path="/bin:/usr/bin") or "/bin/sh"
    return [wanted, *_QUIET.get(Path(wanted).name, ["-i"])]


@contextlib.contextmanager
def _terminal_lent() -> Iterator[None]:
    """Let keys that send signals reach the shell alone, and take the terminal back as it was."""
    # Handlers, not SIG_IGN: an ignored signal would stay ignored in the shell.
    former = {
        number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP)
    }
    modes = termios.tcgetattr(sys.stdin)
    try:
        yield
    finally:
        # Not the foreground group yet where the shell was killed: setting modes would stop us.
        stop = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        with contextlib.suppress(OSError, termios.error):  # the terminal may be gone
            os.tcsetpgrp(sys.stdin.fileno(), os.getpgrp())
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, modes)
        signal.signal(signal.SIGTTOU, stop)
        for number, handler in former.items():
            signal.signal(number, handler)


def run(argv: Sequence[str], launcher: Sequence[str], directory: str, env: Mapping[str, str], terminal: bool) -> int:
    """Run a command on our own descriptors to its end. Returns its exit status; negative: the signal that ended it.

    Without a terminal it has a process group of its own, which is ended where we are interrupted. OSError where it
    cannot be started.
    """
    sys.stdout.flush()
    # See porttrace.porttool.spawn.run for the ids.
    with _terminal_lent() if terminal else contextlib.nullcontext():
        with privileged() if launcher else contextlib.nullcontext():
            process = subprocess.Popen([*launcher, *argv], cwd=directory, env=dict(env), start_new_session=not terminal)
        try:
            return process.wait()
        except BaseException:
            if not terminal:
                end_group(process)
                raise
            process.send_signal(signal.SIGHUP)  # it tells its jobs
            try:
                process.wait(_GRACE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            raise
