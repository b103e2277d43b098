"""The core inside a Python process that hosts Tcl with ``tkinter.Tcl()``.

The same Tcl package is loaded as in the drop-in; only its way to the core is short: one command,
``::porttrace::core::invoke``, in place of the pipe.
"""

from __future__ import annotations

import tkinter
from importlib.resources import files
from pathlib import Path

from porttrace.tclbridge import tcllist
from porttrace.tclbridge.commands import Core

__all__ = ["adopt", "install", "tcl_library"]

_COMMAND = "::porttrace::core::invoke"


def tcl_library() -> Path:
    """The directory to put on ``auto_path``: below it lie the Tcl packages of this installation."""
    return Path(str(files("porttrace") / "tcl"))


def install(interp: tkinter.Tk, core: Core | None = None) -> Core:
    """Make ``package require porttrace`` work in `interp` and reach `core` (a new one where none is given).

    Returns the core; its :meth:`~Core.close` belongs at the end of the process.
    """
    used = core if core is not None else Core()

    def invoke(*words: str) -> str:
        return tcllist.join(used.invoke(*words))

    interp.tk.eval("namespace eval ::porttrace::core {}")
    interp.tk.createcommand(_COMMAND, invoke)
    interp.tk.call("lappend", "::auto_path", str(tcl_library()))
    return used


def adopt(interp: tkinter.Tk, child: str) -> None:
    """Give the child interpreter `child` of `interp` (its path) the same core; it loads the package by itself."""
    tk = interp.tk
    tk.call("interp", "eval", child, "namespace eval ::porttrace::core {}")
    tk.call("interp", "alias", child, _COMMAND, "", _COMMAND)
    tk.call("interp", "eval", child, tcllist.join(["lappend", "::auto_path", str(tcl_library())]))
