"""The core as a co-process of a Tcl program: ``python -m porttrace.tclbridge.coprocess``, or a call of `serve`.

Requests come on standard input, answers go to standard output, each as ``LENGTH\\n`` and so many bytes of UTF-8, which
are a Tcl list: ``{client command arg …}`` one way, ``{status value errorcode}`` the other. A length of 0 in an answer
means "still at work". End of file ends the core: it has no life of its own beyond the program that started it.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import sys
from typing import Final, NoReturn

from porttrace.tclbridge import tcllist

#: A longer request than this is not one of ours (16 MiB: a filemap of 100,000 rules fits).
MAX_REQUEST = 1 << 24


#: After these port has something else to do, and a phase comes next.
_BETWEEN_PHASES: Final = frozenset({"get_ready", "finish", "trace_stop"})

#: Who asks nothing for so long (milliseconds) waits for a program of the phase: that is when we have time.
_AT_WORK: Final = 20


class Wire:
    """The pipe's two ends, moved away from 0 and 1 so that nothing else can write into the conversation."""

    def __init__(self) -> None:
        self._source = os.fdopen(os.dup(0), "rb")
        self._sink = os.dup(1)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        os.dup2(2, 1)

    def read(self) -> list[str] | None:
        """The next request's words, or None at the end. Raises ValueError when the bytes are no request."""
        line = self._source.readline(20)
        if not line:
            return None
        if not line.endswith(b"\n") or not line.strip().isdigit() or int(line) > MAX_REQUEST:
            raise ValueError(f"not a request: {line!r}")
        body = self._source.read(int(line))
        if len(body) < int(line):
            return None
        return tcllist.split(body.decode("utf-8", "surrogateescape"))

    def idle(self, milliseconds: int = 0) -> bool:
        """Whether no request is waiting, nor the pipe's end, and none comes for so long."""
        poll = select.poll()
        poll.register(self._source, select.POLLIN)
        return not poll.poll(milliseconds)

    def write(self, answer: str) -> None:
        """Send one answer, whole."""
        body = answer.encode("utf-8", "surrogateescape")
        self._send(b"%d\n" % len(body) + body)

    def alive(self) -> None:
        """Tell the caller that a long request is still being worked on."""
        self._send(b"0\n")

    def _send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._sink, view) :]


def regain_ids() -> None:
    """Take back root where only the effective ids were given away (MacPorts' way), all ids alike elsewhere.

    The core makes the session's directory and drops the ids of every child by itself; half-dropped ids would put each
    of its own children into secure-execution mode.
    """
    if os.getuid() == 0 and os.geteuid() != 0:
        os.seteuid(0)
        os.setegid(os.getgid())


def main() -> int:
    """Serve one Tcl process until it closes the pipe. Exit status 0, or 1 when what came was not the protocol."""
    # What is loaded here stays until the end: to look through it for garbage costs a tenth of the start. Afterwards
    # that is done while nobody waits.
    gc.disable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for port; it ends us by closing the pipe
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    wire = Wire()
    caller = (os.geteuid(), os.getegid())
    regain_ids()
    from porttrace.tclbridge.commands import Core

    core = Core(caller=caller, alive=wire.alive, host_pid=os.getppid())
    try:
        core.backend.prepare()  # port has its own things to do meanwhile
        if wire.idle():
            core.backend.begin()
        gc.freeze()
        litter = False
        while (request := wire.read()) is not None:
            wire.write(tcllist.join(core.invoke(*request)))
            if not _BETWEEN_PHASES.isdisjoint(request[1:2]):
                litter = True
                if wire.idle():
                    core.backend.get_ahead()
            elif wire.idle(_AT_WORK):
                core.backend.while_it_runs()
                if litter:
                    gc.collect()
                    litter = False
    except BrokenPipeError:
        pass
    except ValueError as error:
        print(f"porttrace: the core was sent something that is not its protocol: {error}", file=sys.stderr)
        return 1
    finally:
        core.close()
    return 0


def serve() -> NoReturn:
    """Be the core, and end with it."""
    status = main()
    sys.stderr.flush()
    os._exit(status)  # port waits for this end, and there is nothing left to tidy up


if __name__ == "__main__":
    serve()
