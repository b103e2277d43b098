"""The standard streams of a command: closed, full, gone, or of an encoding that has not every character.

Nothing of that may end in a traceback, and where something was not written that was asked for, the exit status says so.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import os
import sys
from collections.abc import Callable
from typing import TextIO

from porttrace.errors import reason

__all__ = ["STANDARD_OUTPUT", "answer", "complain", "guarded", "what_failed"]

STANDARD_OUTPUT = "-"
"""Stands for it where the name of a file to write is asked for."""
_ESCAPE = "porttrace.escape"


def _escape(error: UnicodeError) -> tuple[bytes, int]:
    """Bytes of paths as they were; a character that the encoding lacks as ``\\xNN`` or ``\\uNNNN``."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    part = error.object[error.start : error.end]
    return b"".join(
        bytes([ord(char) - 0xDC00]) if 0xDC80 <= ord(char) <= 0xDCFF else char.encode("ascii", "backslashreplace")
        for char in part
    ), error.end


def _prepare() -> None:
    """To be called before anything is opened.

    What is closed is opened in a way in which using it is an error: a file opened later would get its number, and what
    a build writes to its standard output with it.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            # Not asked of the system: Tcl, where it is loaded already, has opened its own for what was closed.
            null = os.open(os.devnull, os.O_WRONLY if mode == "r" else os.O_RDONLY)
            if null == number:
                os.set_inheritable(null, True)
            else:
                os.dup2(null, number)
                os.close(null)
            # Buffered: what could not be written stays in the buffer, and is noticed at the end.
            setattr(sys, name, open(number, mode, buffering=1 if number == 2 else -1, closefd=False))  # noqa: SIM115 - a number
    codecs.register_error(_ESCAPE, _escape)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_ESCAPE)


def complain(text: str) -> None:
    """A line on the standard error, where that can be written."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def _lost(program: str, stream: TextIO, error: OSError) -> None:
    """Say once that `stream` cannot be written, unless its reader has only seen enough. What is left in its buffer, and
    what comes yet, goes nowhere: it would be tried once more when Python ends, which complains in its own words."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)
    if stream is sys.stdout and not isinstance(error, BrokenPipeError):
        complain(f"{program}: cannot write to standard output: {error.strerror}")


def answer(program: str, text: str) -> bool:
    """Write a line to the standard output at once. False where that cannot be done, which was said then."""
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except OSError as error:
        _lost(program, sys.stdout, error)
        return False
    return True


def _flush(program: str, status: int) -> int:
    """Write what is buffered. The status becomes 1 where standard output could not be written."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as error:
            _lost(program, stream, error)
            if stream is sys.stdout:
                status = status or 1
    return status


def what_failed(error: OSError) -> str:
    """An error of the system in words. One of a write knows no file's name: unbuffered (PYTHONUNBUFFERED), or with more
    than fits in the buffer, a standard stream fails in the middle of the work and not at the end."""
    if error.filename:
        return f"{os.fsdecode(error.filename)}: {reason(error)}"
    writing = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EBADF, errno.EIO)
    return f"cannot write the output: {error.strerror}" if writing else reason(error)


def guarded(program: str, main: Callable[[], int]) -> int:
    """What `main` returns, or the status of its SystemExit; 1 where its output could not be written whole."""
    _prepare()
    try:
        status = main()
    except SystemExit as ended:  # argparse, after --help
        status = ended.code if isinstance(ended.code, int) else int(bool(ended.code))
    except BrokenPipeError:
        status = 1
    except OSError as error:
        complain(f"{program}: {what_failed(error)}")
        status = 1
    return _flush(program, status)
