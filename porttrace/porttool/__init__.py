"""The embedded ``port`` tool: Python that hosts a Tcl interpreter in which the phases and the Portfiles run."""

NO_TCL = (
    "this Python has no tkinter, which the port command needs: install python3-tk (Debian), "
    "the tkinter of its version (MacPorts: py313-tkinter) or python-tk (Homebrew)"
)
