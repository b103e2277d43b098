"""Run a Tcl script with the core in the same process: ``python embedded.py SCRIPT [ARG …]``."""

from __future__ import annotations

import sys
import tkinter

from porttrace.tclbridge import embed


def main(script: str, *args: str) -> int:
    interp = tkinter.Tcl()
    core = embed.install(interp)
    try:
        interp.tk.call("set", "::argv0", script)
        interp.tk.call("set", "::argv", args)
        interp.tk.call("source", "-encoding", "utf-8", script)
    finally:
        core.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
