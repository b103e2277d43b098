"""What the core keeps for one Tcl interpreter: its context, its changes to the filemaps, its trace."""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING

from porttrace.records import field, record
from porttrace.tclbridge import tcllist
from porttrace.tclbridge.tcllist import TclValue

if TYPE_CHECKING:
    from porttrace.filemap import Filemap
    from porttrace.findings import Finding
    from porttrace.readout import Used
    from porttrace.tclbridge.commands import Core
    from porttrace.trace import Trace, TraceResult

__all__ = ["CONTEXT_KEYS", "PHASES", "Client", "Edit", "TclError"]

#: What ``context`` may be told. Lists are Tcl lists; paths are absolute.
CONTEXT_KEYS = {
    "port": "name of the port that is being built",
    "phase": "the phase, without org.macports.",
    "prefix": "the MacPorts prefix",
    "registry": "path of registry.db; empty: no ports are known",
    "portpath": "directory of the Portfile",
    "distpath": "where distfiles lie",
    "portdbpath": "MacPorts' database directory; default: ${prefix}/var/macports",
    "tmpdir": "directory for temporary files",
    "ccache_dir": "directory of the compiler cache",
    "extra": "list of further readable and writable places",
    "readable": "list of further readable places",
    "sdk": "directory of the SDK that stands in the place of /, or its name; empty: none",
    "declared": "list of the dependencies in force, type (depends_lib) and depspec by turns; for the report only",
    "variants": "the variants in force, as +a+b; for the report only",
    "tests": "boolean: the Portfile has tests turned on; for the report only",
    "allowances": "list of {kind path origin ?phase? ?target?}; kind is read, write, hide or redirect",
    "user": "user that phases run as; default: the effective user of the calling process",
    "strict": "boolean: files in the prefix that no port owns are refused",
    "audit": "boolean: refuse nothing, record everything",
    "log": "boolean: record every access",
    "absent": "boolean: remember what was looked for and is not there; for the report only",
    "enforce": "boolean: the policy is in force from trace_start on, not only from trace_enable_fence (default 1)",
}

#: The targets that MacPorts traces. It traces neither clean nor uninstall.
PHASES = (
    *("main", "archivefetch", "fetch", "checksum", "extract", "patch", "configure", "build", "test", "destroot"),
    *("archive", "unarchive", "install", "activate", "deactivate", "load", "unload", "reload", "mirror", "lint"),
    *("livecheck", "distcheck", "distfiles", "bump", "pkg", "mpkg", "dmg", "mdmg"),
)


class TclError(Exception):
    """An error to be raised in Tcl, with its errorCode."""

    def __init__(self, message: str, *code: str) -> None:
        super().__init__(message)
        self.code: tuple[str, ...] = code or ("NONE",)


def _no_nul(what: str, text: str) -> None:
    """TclError where no file can have that name: it would be noticed only by a later call, and stop each one."""
    if "\0" in text:
        raise TclError(f"{what} cannot hold a NUL byte", "PORTTRACE", "USAGE")


@record(frozen=True)
class Edit:
    """One change to one or both filemaps, kept so that it can be made again for the next phase.

    `phase` is empty where it holds for all.
    """

    verb: str
    maps: tuple[str, ...]
    phase: str = ""
    path: bytes = b""
    action: str = ""
    target: bytes | None = None
    data: bytes = b""
    literal: bool = False


@cache
def _place(encoding: str, place: bytes, exceptions: tuple[bytes, ...]) -> str:
    """An open place as an element of a Tcl list: they are many, and nearly the same in each phase."""
    paths = [path.decode(encoding, "surrogateescape") for path in (place, *exceptions)]
    return tcllist.quote(tcllist.join([paths[0], paths[1:]]))


@record
class Client:
    """The state of one Tcl interpreter that loaded the package.

    `base` replaces the default rules of both maps where it is set (by ``tracelib setsandbox``).
    """

    name: str
    core: Core
    encoding: str = "utf-8"
    context: dict[str, str] = field(default_factory=dict)
    edits: list[Edit] = field(default_factory=list)
    deps: list[str] = field(default_factory=list)
    workpath: str = ""
    fence: bool = False
    trace: Trace | None = None
    ended: Trace | None = None
    dirty: bool = False
    past: list[Finding] = field(default_factory=list)
    own: list[Finding] = field(default_factory=list)
    base: Filemap | None = None
    used: Used = field(default_factory=dict)
    rules_used: set[tuple[bytes, str]] = field(default_factory=set)
    incomplete: bool = False

    # --- text and bytes ---

    def set_encoding(self, tcl_name: str) -> None:
        """The encoding that this interpreter turns file names into; Python's name for it is found here."""
        import codecs

        python_name = {"identity": "utf-8", "ascii": "latin-1"}.get(tcl_name, tcl_name.replace("iso8859", "iso-8859"))
        try:
            self.encoding = codecs.lookup(python_name).name
        except LookupError:
            raise TclError(f'unknown encoding "{tcl_name}"', "PORTTRACE", "USAGE") from None

    def encode(self, path: str) -> bytes:
        """A path's bytes as the interpreter would hand them to the kernel."""
        return path.encode(self.encoding, "surrogateescape" if self.encoding == "utf-8" else "replace")

    def decode(self, path: bytes) -> str:
        """The reverse of :meth:`encode`."""
        return path.decode(self.encoding, "surrogateescape")

    # --- context ---

    def set_context(self, key: str, value: str) -> None:
        """Set one item of :data:`CONTEXT_KEYS`; a running trace follows with its next process."""
        if key not in CONTEXT_KEYS:
            message = f'unknown context "{key}": must be {", ".join(CONTEXT_KEYS)}'
            raise TclError(message, "TCL", "LOOKUP", "INDEX", "context", key)
        _no_nul(f"context {key}", value)
        if self.context.get(key, "") != value:
            self.context[key] = value
            self.dirty = True

    def check_phase(self, phase: str) -> None:
        """TclError where there is no such phase: a rule for it would never hold. A script may have one of its own,
        which the context names; empty means all."""
        if phase and phase not in (*PHASES, self.context.get("phase")):
            message = f'unknown phase "{phase}": must be one of {", ".join(PHASES)}'
            raise TclError(message, "TCL", "LOOKUP", "INDEX", "phase", phase)

    def flag(self, key: str, default: bool = False) -> bool:
        """A boolean of the context, in any of Tcl's spellings."""
        value = self.context.get(key, "").lower()
        return default if not value else value in ("1", "yes", "true", "on", "y", "t")

    # --- the trace ---

    @property
    def active(self) -> bool:
        """Whether a trace is running."""
        return self.workpath != ""

    @property
    def enforced(self) -> bool:
        """Whether the policy is in force: from the start, or (as in MacPorts) only where the fence was asked for."""
        return self.active and (self.fence or self.flag("enforce", True))

    def start(self, workpath: str) -> None:
        """Begin a trace; a former one that was never stopped is ended first."""
        if not workpath.startswith("/"):
            raise TclError(f'workpath "{workpath}" is not absolute', "PORTTRACE", "USAGE")
        _no_nul("workpath", workpath)
        if self.active:
            self.stop()
        place = self.encode(workpath)
        if os.path.lexists(place) and not os.path.isdir(place):  # noqa: PTH112 - bytes
            raise TclError(f'workpath "{workpath}" is not a directory', "PORTTRACE", "USAGE")
        self.past, self.own, self.fence, self.ended = [], [], False, None
        self.used, self.rules_used, self.incomplete = {}, set(), False
        self.workpath, self.dirty = workpath, True
        try:
            self.refresh()
        except BaseException:
            self.workpath = ""
            raise

    def refresh(self) -> None:
        """Make the running trace's policy that of the present context, edits and dependencies.

        Processes that are running keep theirs. Nothing is done where nothing changed, or nothing is in force yet.
        """
        if not self.enforced or (self.trace is not None and not self.dirty):
            return
        fresh = self.core.backend.start(self)
        self.trace, self.dirty = fresh, False

    def enable_fence(self) -> None:
        """Writes outside are stopped by the kernel too, from the next process on."""
        self._require_trace("trace_enable_fence")
        if not self.fence:
            self.fence = self.dirty = True

    def set_deps(self, names: list[str]) -> None:
        """The ports whose files this phase may see; their own dependencies are added."""
        if names != self.deps:
            self.deps, self.dirty = names, True

    def stop(self) -> None:
        """End the trace. What it found stays. Nothing to do where none is running."""
        trace, deps = self.trace, self.deps
        self.trace, self.workpath, self.fence, self.deps = None, "", False, []
        if trace is not None:
            result = self._with_left_out(trace, trace.stop())
            self.ended = trace
            if self.core.phase_log is not None:
                portpath = self.context.get("portpath", "")
                self.core.phase_log.add(
                    trace,
                    result,
                    self.own,
                    deps=deps,
                    registry=self.context.get("registry", ""),
                    portfile=f"{portpath}/Portfile" if portpath else "",
                    declared=self._declared(),
                    variants=self.context.get("variants", ""),
                    tests=self.flag("tests"),
                )
            self.past.extend(result.findings)
            self.incomplete |= bool(result.incomplete)
            self.rules_used |= result.rules_used
            for port, paths in result.used.items():
                for path, accesses in paths.items():
                    self.use(port, path, *accesses)

    def _declared(self) -> list[tuple[str, str]] | None:
        """Type and depspec of the dependencies in force; None where the client does not tell."""
        if not self.context.get("tests"):  # a boolean, where the rest may be empty
            return None
        words = tcllist.split(self.context.get("declared", ""))
        return [(kind.removeprefix("depends_"), spec) for kind, spec in zip(words[::2], words[1::2], strict=False)]

    def _with_left_out(self, trace: Trace, result: TraceResult) -> TraceResult:
        """The result with a finding for each port whose files a listing left out."""
        registry, prefix = self.context.get("registry", ""), trace.policy.prefix
        if not result.listed or not registry or prefix is None:
            return result
        from porttrace.listings import left_out
        from porttrace.records import replace

        policy = trace.policy
        found = left_out(
            result.listed,
            registry,
            prefix,
            policy.closure,
            phase=policy.phase,
            built=policy.port,
            audit=policy.audit,
        )
        return replace(result, findings=[*result.findings, *found])

    def use(self, port: str, path: str, *accesses: str) -> None:
        """Remember that a file of a port was used."""
        self.used.setdefault(port, {}).setdefault(path, set()).update(accesses)

    def abandon(self) -> None:
        """End the trace without caring what it found."""
        import contextlib

        with contextlib.suppress(Exception):
            self.stop()

    def environment(self) -> dict[str, TclValue]:
        """Variables that a process started now needs; empty where nothing is in force. TclError without a trace."""
        self._require_trace("environment")
        self.refresh()
        return dict(self.trace.env) if self.trace is not None else {}

    def launcher(self) -> list[str]:
        """The words to put before a command line; empty where nothing is in force. TclError without a trace."""
        self._require_trace("launcher")
        self.refresh()
        return list(self.trace.launch_argv) if self.trace is not None else []

    def _require_trace(self, what: str) -> None:
        if not self.active:
            raise TclError(f"{what}: no trace is running: call trace_start first", "PORTTRACE", "USAGE")

    # --- findings ---

    def findings(self) -> list[Finding]:
        """All findings of the running or last trace: of its processes, and of the port process itself."""
        from porttrace.findings import merge

        live = self.trace.findings() if self.trace is not None else []
        return merge([self.past, live, self.own])

    def messages(self, *, verbose: bool, color: bool) -> list[list[str]]:
        """What the user is told of the running or last trace: [level, text] each.

        The findings in the texts that users know, then what the report is worth: what went missing, and by which
        tiers the phase was held.
        """
        from porttrace.messages import render
        from porttrace.noise import classify_finding

        told = render(self.findings(), verbose, color, classify_finding)
        trace = self.trace or self.ended
        if trace is not None:
            told = [*told, *self.core.backend.account(trace)]
        return [list(pair) for pair in told]

    # --- filemaps ---

    def rule_path(self, path: str, literal: bool = False) -> bytes:
        """A path that a person gave for a rule: absolute, and clean unless `literal`. TclError where not."""
        _no_nul("path", path)
        if literal and path:
            return self.encode(path)
        if not path.startswith("/"):
            raise TclError(f'path "{path}" is not absolute', "PORTTRACE", "USAGE")
        return b"/" + os.path.normpath(self.encode(path)).lstrip(b"/")

    def check_map_bytes(self, data: bytes) -> None:
        """Raises TclError with the offset where the bytes are no filemap."""
        from porttrace.filemap import Filemap, FilemapError

        try:
            Filemap.from_bytes(data)
        except FilemapError as error:
            raise TclError(f"filemap load: {error}", "PORTTRACE", "FILEMAP", str(error.offset)) from None

    def edit(self, edit: Edit) -> None:
        """Make one change; it takes effect for processes started after it.

        ``reset`` forgets all changes. TclError where there is nothing to replace.
        """
        if edit.verb == "reset":
            self.edits.clear()
        else:
            if edit.verb == "replace":
                maps = self.core.backend.maps(self, edit.phase)
                if not any(rule.path == edit.path for which in edit.maps for rule in maps[which]):
                    raise TclError(f"filemap replace: no rule for {self.decode(edit.path)}", "PORTTRACE", "USAGE")
            if edit.verb == "clear" and not edit.phase and len(edit.maps) == 2:
                self.edits.clear()
            self.edits.append(edit)
        self.dirty = True

    def list_rules(self, which: str, phase: str) -> list[list[str]]:
        """The rules of one map in order: [path, action] or [path, redirect, target]."""
        out: list[list[str]] = []
        for rule in self.core.backend.maps(self, phase)[which]:
            words = [self.decode(rule.path), rule.action.name.lower()]
            if rule.target is not None:
                words.append(self.decode(rule.target))
            out.append(words)
        return out

    def dump(self, which: str, phase: str) -> bytes:
        """One map as the bytes of 2007. TclError where they cannot express a rule."""
        from porttrace.filemap import FilemapError

        try:
            return self.core.backend.maps(self, phase)[which].to_bytes()
        except FilemapError as error:
            raise TclError(f"filemap dump: {error}", "PORTTRACE", "FILEMAP", str(error.offset)) from None

    # --- the port process itself ---

    def check(self, access: str, path: str) -> list[str]:
        """The policy's verdict on what the port process wants to do itself: [verdict, path to use]."""
        self._require_trace("check")
        self.refresh()
        if self.trace is None:
            return ["ok", path]
        verdict, physical = self.core.backend.check(self, access, self.encode(path))
        return [verdict, path if physical is None else self.decode(physical)]

    def open_places(self) -> list[TclValue]:
        """Places where everything may be read, and where everything may be written, each {directory exceptions}."""
        self._require_trace("open_places")
        self.refresh()
        if self.trace is None:
            return [[], []]
        return [self.places(places) for places in self.core.backend.open_places(self.trace)]

    def places(self, places: list[tuple[bytes, list[bytes]]]) -> str:
        """Open places (`inport.open_places`) for Tcl: {directory exceptions} each."""
        return " ".join([_place(self.encoding, place, tuple(exceptions)) for place, exceptions in places])

    def hidden_below(self, path: str) -> str:
        """What of the tree at `path` the policy hides, the first of it; empty where there is nothing."""
        self._require_trace("hidden_below")
        self.refresh()
        found = self.core.backend.hidden_below(self, self.encode(path)) if self.trace is not None else None
        return "" if found is None else self.decode(found)

    def program(self, name: str, search: str, cwd: str) -> list[str]:
        """What execvp would find for `name` under the policy: [verdict, path]."""
        if "/" in name:
            return self._runnable(os.path.join(cwd, name))  # noqa: PTH118 - text of Tcl's, not of ours
        worst, first = ["ENOENT", name], True
        for place in search.split(":"):
            path = os.path.join(cwd, place or ".", name)  # noqa: PTH118
            found = self._runnable(path)
            if found[0] == "ok":
                # The first of all in the path needs no other name: the program sees the one it was called by.
                return ["ok", name] if first and found[1] == path else found
            if found[0] == "EACCES":
                worst = ["EACCES", name]
            first = first and not os.path.lexists(self.encode(path))
        return worst

    def _runnable(self, path: str) -> list[str]:
        if not os.path.lexists(self.encode(path)):
            return ["ENOENT", path]  # one of the many places that a search looks at: nothing to report
        verdict, physical = self.check("exec", path)
        raw = self.encode(physical)
        if verdict != "ok" or not os.path.isfile(raw):  # noqa: PTH113 - bytes
            return ["ENOENT", path]
        return ["ok", physical] if os.access(raw, os.X_OK) else ["EACCES", path]
