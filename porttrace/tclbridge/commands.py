"""The one command table: what Tcl may ask of the core, whichever way it comes.

A command is a function of a client (one Tcl interpreter that loaded the package) and its words. It answers with a
value that has a text form in Tcl, or raises :class:`TclError`. tkinter's host (``embed``) and the co-process
(``coprocess``) both call :meth:`Core.invoke`, so that they cannot differ.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from porttrace.errors import PorttraceError
from porttrace.identity import privileged
from porttrace.tclbridge import tcllist
from porttrace.tclbridge.client import Client, Edit, TclError
from porttrace.tclbridge.tcllist import TclValue

if TYPE_CHECKING:
    from porttrace.tclbridge.backend import Backend
    from porttrace.tclbridge.phaselog import PhaseLog
    from porttrace.tclbridge.tracelib import Tracelib

__all__ = ["COMMANDS", "Core", "TclError"]

Command = Callable[[Client, list[str]], TclValue]
COMMANDS: dict[str, Command] = {}

_ACTIONS = ("allow", "redirect", "ask", "deny", "hide", "+", "-", "?", ">", "0", "1", "2", "3")


class Core:
    """The core behind any number of Tcl interpreters of one process.

    `caller` are the effective user and group id of that process at the start (the co-process has taken root back),
    `host_pid` is the process that session directories are named after, `alive` is called during long work.
    """

    def __init__(
        self,
        *,
        caller: tuple[int, int] | None = None,
        host_pid: int | None = None,
        alive: Callable[[], None] | None = None,
        backend: Backend | None = None,
    ) -> None:
        self._clients: dict[str, Client] = {}
        self._caller = self._given_caller = caller
        self._host_pid, self._alive = host_pid, alive
        self._backend = backend
        self._tracelib: Tracelib | None = None
        self.phase_log: PhaseLog | None = None

    @property
    def tracelib(self) -> Tracelib:
        """The process-wide state of MacPorts' `tracelib` command."""
        if self._tracelib is None:
            from porttrace.tclbridge.tracelib import Tracelib

            self._tracelib = Tracelib(self.client("tracelib"))
        return self._tracelib

    def client(self, name: str) -> Client:
        """The state kept under a client's name; made with its first command."""
        state = self._clients.get(name)
        if state is None:
            state = self._clients[name] = Client(name, self)
        return state

    @property
    def backend(self) -> Backend:
        """Sessions and policies; imported with the first command that needs them, because saying hello does not."""
        if self._backend is None:
            from porttrace.tclbridge.backend import Backend

            self._backend = Backend(caller=self._caller, host_pid=self._host_pid, alive=self._alive)
        return self._backend

    def invoke(self, client: str = "", command: str = "", *words: str) -> tuple[str, TclValue, str, int]:
        """Run one command; never raises for what a caller can get wrong.

        Returns (``ok`` or ``error``, the value or the message, Tcl's errorCode as a list's text, the core's process).
        """
        uid, gid = os.geteuid(), os.getegid()
        if uid == os.getuid():
            self._called_by(self._given_caller)
            return *self._invoke(client, command, words), os.getpid()
        # port works with lowered effective ids. The core itself does not: neither the registry nor its own
        # modules need be readable for the build user; what the policy is for is who called.
        self._called_by((uid, gid))
        with privileged():
            return *self._invoke(client, command, words), os.getpid()

    def _called_by(self, caller: tuple[int, int] | None) -> None:
        self._caller = caller
        if self._backend is not None:
            self._backend.caller = caller

    def _invoke(self, client: str, command: str, words: tuple[str, ...]) -> tuple[str, TclValue, str]:
        try:
            return "ok", tcllist.text(self.run(self.client(client), [command, *words])), "NONE"
        except TclError as error:
            return "error", str(error), tcllist.join(error.code)
        except PorttraceError as error:
            return "error", f"porttrace: {error}", "PORTTRACE REFUSED"
        except OSError as error:
            where = f": {error.filename}" if error.filename else ""
            return "error", f"porttrace: {error.strerror or error}{where}", "PORTTRACE SYSTEM"
        except Exception as error:  # a defect of ours must not take port down with it
            import traceback

            origin = traceback.extract_tb(error.__traceback__)[-1]
            message = f"porttrace: internal error in {command}: {type(error).__name__}: {error}"
            return "error", f"{message} ({origin.filename}:{origin.lineno})", "PORTTRACE INTERNAL"

    @staticmethod
    def run(client: Client, request: list[str]) -> TclValue:
        """The value of one request: a command and its words. TclError where there is no such command."""
        name = request[0] if request else ""
        function = COMMANDS.get(name)
        if function is None:
            raise TclError(f'porttrace: unknown command "{name}"', "PORTTRACE", "UNKNOWN")
        return function(client, request[1:])

    def close(self) -> None:
        """End all traces and remove what they left; the commands may be used again afterwards."""
        for client in self._clients.values():
            client.abandon()
        self._clients.clear()
        self._tracelib = None
        if self._backend is not None:
            self._backend.close()


def command(name: str, low: int, high: int | None, usage: str) -> Callable[[Command], Command]:
    """Put a function into the table under `name`; it takes from `low` to `high` words (None: any number)."""

    def register(function: Command) -> Command:
        def checked(client: Client, words: list[str]) -> TclValue:
            if len(words) < low or (high is not None and len(words) > high):
                raise TclError(f'wrong # args: should be "{name} {usage}"'.rstrip(), "TCL", "WRONGARGS")
            return function(client, words)

        checked.__doc__ = function.__doc__
        COMMANDS[name] = checked
        return function

    return register


def as_list(source: str) -> list[str]:
    """The elements of a Tcl list that a caller gave; TclError when it is none."""
    try:
        return tcllist.split(source)
    except ValueError as error:
        raise TclError(f"{error}", "TCL", "VALUE", "LIST") from None


# --- the trace ---------------------------------------------------------------


@command("hello", 0, 1, "?encoding?")
def _hello(client: Client, words: list[str]) -> TclValue:
    """Name the encoding of this interpreter's file names; answers with the protocol's version."""
    if words:
        client.set_encoding(words[0])
    return "1.1"


@command("pid", 0, 0, "")
def _pid(client: Client, words: list[str]) -> TclValue:
    """The process in which the core runs."""
    return os.getpid()


@command("batch", 1, None, "request ?request ...?")
def _batch(client: Client, words: list[str]) -> TclValue:
    """Run several requests, each a list of a command and its words; the list of their values. The first error ends it.

    A phase needs a handful of them at its beginning, and each way to the core and back costs as much as most of these.
    """
    return [client.core.run(client, as_list(word)) for word in words]


@command("recover", 0, 0, "")
def _recover(client: Client, words: list[str]) -> TclValue:
    """End the processes that a core of this port, now dead, has left, and remove its session's directory."""
    client.core.backend.recover(client)
    return ""


@command("get_ready", 0, 2, "?registry prefix?")
def _get_ready(client: Client, words: list[str]) -> TclValue:
    """Do what needs nothing but the registry and the prefix of the port to come."""
    registry, prefix = words if len(words) == 2 else ("", "")
    client.core.backend.get_ready(registry, prefix)
    return ""


@command("warm", 1, 1, "workpath")
def _warm(client: Client, words: list[str]) -> TclValue:
    """Get ready for traces of what the context says; nothing is in force after it.

    Answers with where everything may be read in each phase, as ``open_places`` does, and what to say of the tiers.
    """
    places, tiers = client.core.backend.warm(client, words[0])
    return [client.places(places), tiers]


@command("context", 0, None, "?key value ...?")
def _context(client: Client, words: list[str]) -> TclValue:
    """Set what the policy of a phase is made from, or show it."""
    if len(words) % 2:
        raise TclError('wrong # args: should be "context ?key value ...?"', "TCL", "WRONGARGS")
    for key, value in zip(words[::2], words[1::2], strict=True):
        client.set_context(key, value)
    return client.context


@command("trace_start", 1, 1, "workpath")
def _trace_start(client: Client, words: list[str]) -> TclValue:
    """Start tracing; answers with the environment to set."""
    client.start(words[0])
    return client.environment()


@command("trace_stop", 0, 0, "")
def _trace_stop(client: Client, words: list[str]) -> TclValue:
    """End the trace; what it found stays for ``violations``. The processes that had to be ended: {level text} each."""
    running = client.active
    client.stop()
    return [list(pair) for pair in client.core.backend.leftovers(client.ended if running else None)]


@command("trace_enable_fence", 0, 0, "")
def _trace_enable_fence(client: Client, words: list[str]) -> TclValue:
    """From now on nothing may be written outside; answers with the environment to set."""
    client.enable_fence()
    return client.environment()


@command("trace_active", 0, 0, "")
def _trace_active(client: Client, words: list[str]) -> TclValue:
    """Whether a trace is running."""
    return client.active


@command("setdeps", 1, 1, "list")
def _setdeps(client: Client, words: list[str]) -> TclValue:
    """The ports that this phase may see, with all that they depend on; answers with the environment to set."""
    client.set_deps(as_list(words[0]))
    return client.environment() if client.active else ""


@command("environment", 0, 0, "")
def _environment(client: Client, words: list[str]) -> TclValue:
    """What a process started now needs in its environment, as a dict; empty when no trace is running."""
    return client.environment()


@command("launcher", 0, 0, "")
def _launcher(client: Client, words: list[str]) -> TclValue:
    """The words to put before a command line that is to run under the policy; empty when no trace is running."""
    return client.launcher()


# --- what was found ----------------------------------------------------------


@command("trace_check_violations", 0, 2, "?-verbose? ?-color?")
def _trace_check_violations(client: Client, words: list[str]) -> TclValue:
    """What the trace found, as text: a list of {level text}."""
    for word in words:
        if word not in ("-verbose", "-color"):
            raise TclError(f'bad option "{word}": must be -verbose or -color', "TCL", "LOOKUP", "INDEX", "option", word)
    return client.messages(verbose="-verbose" in words, color="-color" in words)


@command("finish", 0, 2, "?-verbose? ?-color?")
def _finish(client: Client, words: list[str]) -> TclValue:
    """End the trace, then say what it found, with one look at the events.

    Answers with what ``trace_check_violations`` does and what ``trace_stop`` does.
    """
    ended = _trace_stop(client, [])
    return [_trace_check_violations(client, words), ended]


@command("usage", 0, 0, "")
def _usage(client: Client, words: list[str]) -> TclValue:
    """What the phase that has just ended used of which ports, as JSON; see porttrace.usage.PhaseUsage."""
    import json

    return json.dumps(client.core.backend.usage(client).to_json())


@command("violations", 0, 1, "?-json?")
def _violations(client: Client, words: list[str]) -> TclValue:
    """The findings of the running trace, or of the last: a list of dicts, or JSON."""
    if words and words[0] != "-json":
        raise TclError(f'bad option "{words[0]}": must be -json', "TCL", "LOOKUP", "INDEX", "option", words[0])
    from porttrace.report import finding_json

    findings = [finding_json(finding) for finding in client.findings()]
    if words:
        import json

        return json.dumps(findings, ensure_ascii=True)
    return [{key: _dict_value(value) for key, value in finding.items()} for finding in findings]


def _dict_value(value: object) -> TclValue:
    if isinstance(value, dict):
        return {str(key): _dict_value(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_dict_value(part) for part in value]
    if value is None or isinstance(value, (str, int, bool, bytes)):
        return value
    return str(value)


# --- the filemap -------------------------------------------------------------


@command("filemap", 1, None, "subcommand ?-read|-write? ?-phase phase? ?-literal? ?arg ...?")
def _filemap(client: Client, words: list[str]) -> TclValue:
    """Edit or show the filemaps; a change takes effect for processes that are started after it."""
    verbs = ("append", "prepend", "replace", "remove", "clear", "reset", "list", "dump", "load")
    verb, rest = words[0], words[1:]
    if verb not in verbs:
        listed = ", ".join(verbs[:-1]) + ", or " + verbs[-1]
        raise TclError(f'unknown subcommand "{verb}": must be {listed}', "TCL", "LOOKUP", "SUBCOMMAND", verb)
    which, phase, literal, rest = _map_options(rest)
    client.check_phase(phase)
    shapes = {"append": "path action ?target?", "remove": "path", "load": "bytes"}
    shapes |= {"prepend": shapes["append"], "replace": shapes["append"]}
    low, high = {"": (0, 0), "path": (1, 1), "bytes": (1, 1)}.get(shapes.get(verb, ""), (2, 3))
    if not low <= len(rest) <= high:
        usage = f"filemap {verb} ?-read|-write? ?-phase phase? {shapes.get(verb, '')}".rstrip()
        raise TclError(f'wrong # args: should be "{usage}"', "TCL", "WRONGARGS")
    if verb == "list":
        return client.list_rules(which or "read", phase)
    if verb == "dump":
        return client.dump(which or "read", phase)
    maps = (which,) if which else ("read", "write")
    client.edit(_edit(client, verb, maps, phase, literal, rest))
    return ""


def _map_options(words: list[str]) -> tuple[str, str, bool, list[str]]:
    which, phase, literal = "", "", False
    while words and words[0].startswith("-") and len(words[0]) > 1:
        option = words.pop(0)
        if option in ("-read", "-write"):
            if which and which != option[1:]:
                raise TclError("-read and -write exclude each other: leave both out to mean both", "PORTTRACE", "USAGE")
            which = option[1:]
        elif option == "-phase":
            if not words:
                raise TclError("-phase needs the name of a phase", "PORTTRACE", "USAGE")
            phase = words.pop(0)
        elif option == "-literal":
            literal = True
        elif option == "--":
            break
        else:
            message = f'bad option "{option}": must be -literal, -phase, -read, or -write'
            raise TclError(message, "TCL", "LOOKUP", "INDEX", "option", option)
    return which, phase, literal, words


def _edit(client: Client, verb: str, maps: tuple[str, ...], phase: str, literal: bool, rest: list[str]) -> Edit:
    if verb in ("clear", "reset"):
        return Edit(verb, maps, phase)
    if verb == "load":
        try:
            data = rest[0].encode("latin-1")
        except UnicodeEncodeError:
            raise TclError("filemap load wants bytes, and was given text", "PORTTRACE", "USAGE") from None
        client.check_map_bytes(data)
        return Edit(verb, maps, phase, data=data)
    path = client.rule_path(rest[0], literal)
    if verb == "remove":
        return Edit(verb, maps, phase, path=path, literal=literal)
    action = rest[1]
    if action not in _ACTIONS:
        raise TclError(f'bad action "{action}": must be allow, ask, deny, or redirect', "PORTTRACE", "USAGE")
    redirects = action in ("redirect", ">", "1")
    if redirects != (len(rest) == 3):
        raise TclError("action redirect needs a target, and only that one takes it", "PORTTRACE", "USAGE")
    target = client.rule_path(rest[2]) if redirects else None
    return Edit(verb, maps, phase, path=path, action=action, target=target, literal=literal)


# --- the port process's own file commands ------------------------------------


@command("check", 2, None, "access path ?path ...?")
def _check(client: Client, words: list[str]) -> TclValue:
    """What the policy says to the port process itself: for each path {verdict physical}.

    `access` is one of read stat exec list readlink write create delete rename link attributes, or lstat, or (not
    reported) entry, may-write; the verdict is ``ok``, ``ENOENT`` or ``EACCES``, `physical` the path to use.
    """
    return [client.check(words[0], path) for path in words[1:]]


@command("open_places", 0, 0, "")
def _open_places(client: Client, words: list[str]) -> TclValue:
    """Directories where the policy allows everything, for reading and for writing: lists of {directory exceptions}.

    A path there that has no links needs no ``check``, which however is what notes what the port process used.
    """
    return client.open_places()


@command("program", 3, 3, "name path cwd")
def _program(client: Client, words: list[str]) -> TclValue:
    """The program that a command's name means under the policy: {verdict path}."""
    return client.program(*words)


@command("hidden_below", 1, 1, "path")
def _hidden_below(client: Client, words: list[str]) -> TclValue:
    """The first entry of the tree at a path that the policy hides from the port process; empty: none."""
    return client.hidden_below(words[0])


_TRACELIB = {"setname": 1, "setsandbox": 1, "setdeps": 1} | dict.fromkeys(
    ("opensocket", "enablefence", "run", "poll", "waiting", "account", "closesocket", "clean"), 0
)


@command("tracelib", 1, 2, "option ?arg?")
def _tracelib(client: Client, words: list[str]) -> TclValue:
    """MacPorts' command for the whole process; see porttrace.tclbridge.tracelib."""
    option, rest = words[0], words[1:]
    if option not in _TRACELIB:
        listed = "setname, opensocket, run, clean, setsandbox, closesocket, setdeps, or enablefence"
        raise TclError(f'bad option "{option}": must be {listed}', "TCL", "LOOKUP", "INDEX", "option", option)
    if len(rest) != _TRACELIB[option]:
        raise TclError(f'wrong # args: should be "tracelib {option}{" value" * _TRACELIB[option]}"', "TCL", "WRONGARGS")
    answer: TclValue = getattr(client.core.tracelib, option)(*rest)
    return answer


@command("sandbox", 1, 1, "string")
def _sandbox(client: Client, words: list[str]) -> TclValue:
    """Replace both maps of the running trace by the entries of ``tracelib setsandbox``."""
    from porttrace.tclbridge.tracelib import parse_sandbox

    signs = {0: "allow", 2: "ask", 3: "deny"}
    entries = [(client.rule_path(path), signs[action]) for path, action in parse_sandbox(words[0])]
    client.edit(Edit("clear", ("read", "write")))
    for path, action in entries:
        client.edit(Edit("append", ("read", "write"), path=path, action=action))
    return client.environment()
