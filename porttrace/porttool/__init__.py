"""The embedded ``port`` tool: Python that hosts a Tcl interpreter in which the phases and the Portfiles run."""
