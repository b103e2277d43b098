"""The Tcl interpreter inside port, and the way from it to Python."""

from __future__ import annotations

import importlib
import os
import pkgutil
import tkinter
import traceback
from collections.abc import Callable, Mapping

import porttrace
from porttrace import noise
from porttrace.errors import PorttraceError
from porttrace.identity import privileged
from porttrace.porttool.commands import Interrupted
from porttrace.tclbridge import embed, tcllist
from porttrace.tclbridge.commands import Core
from porttrace.tclbridge.phaselog import PhaseLog
from porttrace.tclbridge.tcllist import TclValue

__all__ = ["Host"]


_AFTERWARDS = (
    *("porttrace.deptest", "porttrace.explain", "porttrace.formats", "porttrace.learn", "porttrace.linkage"),
    *("porttrace.portfile_edit", "porttrace.porttool.deptest", "porttrace.porttool.sweep", "porttrace.sweep"),
)
"""Modules of commands that look at a finished report."""


def _load_all() -> None:
    """Import what a trace needs, also the modules that are imported where they are used, and read the data."""
    for module in pkgutil.walk_packages(porttrace.__path__, "porttrace."):
        # The injected library looks like an extension module; the others are commands of their own.
        if not module.name.startswith(
            ("porttrace.libtracelib", "porttrace.cli", "porttrace.integrate", "porttrace.tclbridge.coprocess")
        ) and not module.name.startswith(_AFTERWARDS):
            importlib.import_module(module.name)
    noise.classes()


class Host:
    """One interpreter; workers are its children. ``stop`` is called with the signal that ended a command."""

    def __init__(self, stop: Callable[[int], None]) -> None:
        self.interp = tkinter.Tcl()
        self._tk = self.interp.tk
        self._stop = stop
        self._core: Core | None = None
        self.phase_log: PhaseLog | None = None
        self._tk.eval("namespace eval ::host {namespace eval raw {}}")
        self.register({"adopt": self._adopt})

    def register(self, table: Mapping[str, Callable[..., TclValue]]) -> None:
        """Make Python functions Tcl commands of the namespace ``::host``; each worker gets them by alias."""
        for name, function in table.items():
            self._tk.createcommand(f"::host::raw::{name}", self._guarded(function))
            self._tk.eval(
                f"proc ::host::{name} {{args}} {{"
                f" lassign [::host::raw::{name} {{*}}$args] status value code;"
                " if {$status ne {ok}} {return -code error -errorcode $code $value};"
                " return $value }"
            )

    def _guarded(self, function: Callable[..., TclValue]) -> Callable[..., str]:
        def call(*words: str) -> str:
            # A Python exception must not cross Tcl's C frames: Tcl would see an error without a message.
            try:
                return tcllist.join(["ok", tcllist.text(function(*words)), "NONE"])
            except (Interrupted, KeyboardInterrupt) as error:
                self._stop(getattr(error, "number", 2))
                return tcllist.join(["error", "stopped", "PORT INTERRUPTED"])
            except PorttraceError as error:
                return tcllist.join(["error", str(error), "PORT REFUSED"])
            except OSError as error:
                where = f"{error.filename}: " if error.filename else ""
                return tcllist.join(["error", f"{where}{error.strerror or error}", "PORT SYSTEM"])
            except Exception as error:  # a defect of ours, or a wrong number of words
                at = traceback.extract_tb(error.__traceback__)[-1]
                text = f"internal error: {type(error).__name__}: {error} ({at.filename}:{at.lineno})"
                return tcllist.join(["error", text, "PORT INTERNAL"])

        return call

    def use_core(self) -> Core:
        """The core behind the Tcl package porttrace; made when a traced phase first needs it."""
        if self._core is None:
            self._core = embed.install(self.interp)
            self._core.phase_log = self.phase_log
            self._core.backend.stamped = self.phase_log is not None
        return self._core

    def _adopt(self, child: str) -> str:
        # A phase runs as the build user, who may not be able to read this installation: nothing is loaded later.
        with privileged():
            if self._core is None and os.geteuid() == 0:
                _load_all()
            self.use_core()
            embed.adopt(self.interp, child)
            self._tk.call("interp", "eval", child, "package require porttrace")
        return ""

    def run(self, script: str, *words: str) -> str:
        """Call a Tcl procedure. tkinter.TclError where it fails."""
        return str(self._tk.call(script, *words))

    def close(self) -> None:
        """End all traces."""
        if self._core is not None:
            self._core.close()
            self._core = None
