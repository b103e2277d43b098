"""What the tests of the injected library share: a directory with library, policy and events, and a compiler."""

from __future__ import annotations

import hashlib
import mmap
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import porttrace
from porttrace._core import ffi, lib
from porttrace.filemap import Action, Filemap, Rule
from porttrace.inject import InjectedLibrary
from porttrace.policy import Ownership, Policy

SOURCE = Path(__file__).parent.parent
#: The library to try: the installed one, or one that was built otherwise (see test_tracelib_sanitizer.py).
LIBRARY = Path(os.environ.get("PORTTRACE_TEST_TRACELIB") or Path(porttrace.__file__).parent / "libtracelib.so")
#: The same for programs whose C library is musl; only where musl-gcc was there when porttrace was built.
MUSL_LIBRARY = Path(porttrace.__file__).parent / "libtracelib-musl.so"
KINDS = {lib.PT_EV_PROCESS: "process", lib.PT_EV_EXEC: "exec", lib.PT_EV_FINDING: "finding",
         lib.PT_EV_ACCESS: "access", lib.PT_EV_UNTRACED: "untraced",
         lib.PT_EV_USED: "used"}  # fmt: skip
OUTCOMES = ("allow", "hide", "deny", "redirect", "unowned", "absent", "redirected-missing")
ACCESS = ("read", "stat", "exec", "list", "readlink", "write", "create", "delete", "rename", "link", "attributes")
#: Seconds for a program; bench/mutants.py makes them few, because some of its changes let programs hang.
TIMEOUT = float(os.environ.get("PORTTRACE_TEST_TIMEOUT", "60"))
ACTIONS = {"+": Action.ALLOW, "-": Action.DENY, "?": Action.ASK}


@dataclass(frozen=True)
class Event:
    """One record of the event file."""

    kind: str
    op: str
    access: str
    outcome: str
    error: int
    path: str
    asked: str
    pid: int
    count: int
    rule: int = lib.PT_NO_RULE


def rules(entries: Sequence[str]) -> tuple[Filemap, Filemap]:
    """Filemaps from ``rw:/path=+`` and ``rw:/path=>/target``."""
    maps = {"r": Filemap(), "w": Filemap()}
    for entry in entries:
        which, _, rest = entry.partition(":")
        path, _, action = rest.partition("=")
        if action.startswith(">"):
            rule = Rule(os.fsencode(path), Action.REDIRECT, os.fsencode(action[1:]))
        else:
            rule = Rule(os.fsencode(path), ACTIONS[action])
        for letter in which:
            maps[letter].append(rule)
    return maps["r"], maps["w"]


class Session:
    """A session directory as processes see it, without a port process behind it."""

    def __init__(
        self,
        *entries: str,
        log: bool = False,
        audit: bool = False,
        owners: Ownership | None = None,
        closure: Sequence[str] = (),
        prefix: Path | None = None,
        places: Mapping[bytes, bytes] | None = None,
        programs: Mapping[bytes, bytes] | None = None,
        in_library: bool = True,
    ) -> None:
        self.half_told = 0  # so many events may have been begun and not ended
        self.top = Path(tempfile.mkdtemp(prefix="tracelib-"))
        self.top.chmod(0o755)
        self.dir = self.top / "1"
        self.dir.mkdir()
        read, write = rules(entries)
        policy = Policy(
            read=read,
            write=write,
            prefix=prefix,
            owners=owners,
            closure=frozenset(closure),
            log=log,
            audit=audit,
            places=places or {},
            programs=programs or {},
        )
        image = policy.compile()
        (self.dir / "policy").write_bytes(image)
        assert lib.pt_events_create(os.fsencode(self.dir / "events"), 64 << 20) == 0
        self.library = self.dir / "tracelib.so"
        for source, to in ((LIBRARY, self.library), (MUSL_LIBRARY, self.dir / "tracelib-musl.so")):
            if source.exists():
                library = InjectedLibrary(source.read_bytes())
                if in_library and library.has_room:
                    library.write(to)
                    library.put(to, image)
                else:
                    shutil.copy(source, to)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.top, ignore_errors=True)

    @property
    def env(self) -> dict[str, str]:
        return {**os.environ, "LD_PRELOAD": str(self.library), "LC_ALL": "C"}

    def run(self, *argv: object, input: str = "", env: dict[str, str] | None = None, **kw: object) -> subprocess.CompletedProcess[str]:  # fmt: skip # noqa: E501
        return subprocess.run(
            [str(a) for a in argv],
            input=input,
            env=self.env if env is None else {**env, "LD_PRELOAD": str(self.library)},
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            **kw,  # type: ignore[call-overload]
        )

    def events(self, *kinds: str) -> list[Event]:
        with (self.dir / "events").open("r+b") as f:
            m = mmap.mmap(f.fileno(), 0)
        return [e for e in self._read(m) if not kinds or e.kind in kinds]

    def _read(self, m: mmap.mmap) -> Iterator[Event]:
        ev = ffi.cast("struct pt_events *", ffi.from_buffer(m))
        cursor, out = ffi.new("struct pt_reading *"), ffi.new("struct pt_event *")

        def text(pointer: object, length: int) -> str:
            return bytes(ffi.buffer(pointer, length)).decode("utf-8", "surrogateescape")

        while lib.pt_events_next(ev, len(m), cursor, out):
            yield Event(
                KINDS[out.kind],
                ffi.string(lib.pt_op_names[out.op]).decode(),
                ACCESS[out.access],
                OUTCOMES[out.outcome],
                out.error,
                text(out.path, out.path_len),
                text(out.asked, out.asked_len),
                out.pid,
                out.count,
                out.rule,
            )
        assert cursor.drops <= self.half_told
        assert lib.pt_events_lost(ev) == 0

    def arena(self) -> int:
        """How far the part of the event file is written that programs have to map."""
        ends = ffi.new("uint64_t[2]")
        with (self.dir / "events").open("rb") as f:
            assert lib.pt_events_ends(f.fileno(), ends)
        return int(ends[1])

    def findings(self) -> list[Event]:
        return self.events("finding")


def compile_c(source: Path, out: Path, *flags: str, compiler: str = "cc") -> Path:
    """Compile one C file; warnings are errors. bench/mutants.py says where what was compiled once is kept."""
    words = ["-std=gnu11", "-D_GNU_SOURCE", "-O1", "-g", "-Wall", "-Wextra", "-Werror", str(source)]
    kept = None
    if place := os.environ.get("PORTTRACE_TEST_COMPILED"):
        texts = [subprocess.run([compiler, "-E", "-P", *words[:3], f, *(o for o in flags if not o.endswith(".c"))],
                                check=True, capture_output=True).stdout
                 for f in (str(source), *(o for o in flags if o.endswith(".c")))]  # fmt: skip
        same = [compiler, *(o for o in flags if not o.startswith("-I"))]
        kept = Path(place) / hashlib.sha256(repr((same, texts)).encode()).hexdigest()
        if kept.exists():
            return Path(shutil.copy(kept, out))
    subprocess.run([compiler, *words, "-o", str(out), *flags], check=True)
    if kept:
        shutil.copy(out, kept)
    return out
