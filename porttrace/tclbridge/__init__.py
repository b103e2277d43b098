"""The core's commands for Tcl, and the two ways to reach them: inside the process (tkinter) and over a pipe."""
