"""Run every attempt of this directory against a session, and say which ones got through.

usage: python tests/escape/runner.py [--write docs/escape-matrix.md] [--jobs N] [--tiers LIST] [--flavour NAME]
                                     [--attempt NAME]

Each attempt is one program start.  What it says about itself is believed only for reading (the secret must be in its
output) and for existence (its errno must differ from that for a name that is not there); for writing the runner looks
at what changed.  ``none`` is the same attempt without porttrace: what does not work there proves nothing.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from porttrace.filemap import Action, Filemap, Rule
from porttrace.identity import Identity
from porttrace.policy import Ownership, Policy
from porttrace.runtime_dir import RuntimeDir
from porttrace.session import Session
from porttrace.tiers import available_tiers

HERE = Path(__file__).resolve().parent
TRIES = 3
SECRET = "secret"
_BASE_FLAGS = ["-D_GNU_SOURCE", "-O1", "-w", "-lpthread"]

SOURCES = (
    "main.c",
    "read.c",
    "exist.c",
    "write.c",
    "loader.c",
    "kernel.c",
    "socket.c",
    "race.c",
    "doors.c",
    "others.c",
    "starts.c",
    "names.c",
)

#: How the attempts are compiled; "sys" flavours run only those attempts that make the system call themselves.
FLAVOURS: dict[str, list[str]] = {
    "dynamic": ["gcc"],
    "inline": ["gcc", "-DRAW"],
    "static": ["gcc", "-static"],
    "static-inline": ["gcc", "-static", "-DRAW"],
    "32bit": ["gcc", "-m32", "-idirafter", "/usr/include/x86_64-linux-gnu"],
    "32bit-int80": ["gcc", "-m32", "-DRAW", "-idirafter", "/usr/include/x86_64-linux-gnu"],
    "musl": ["musl-gcc", "-idirafter", "/usr/include", "-idirafter", "/usr/include/x86_64-linux-gnu"],
    "musl-static": ["musl-gcc", "-static", "-idirafter", "/usr/include", "-idirafter", "/usr/include/x86_64-linux-gnu"],
    "go": ["go", "build", "-o"],
    "rust": ["rustc", "-O", "-o"],
    "rust-static": ["rustc", "-Ctarget-feature=+crt-static", "-o"],
    "script": ["sh"],
}

#: Run by the system's own interpreters and tools, which the injected library holds alone.
SCRIPTS = HERE / "scripts.txt"

#: These have attempts of their own, in their language; what the others have in C they do not repeat.
NATIVE = {"go": "native.go", "rust": "native.rs", "rust-static": "native.rs"}

#: Tier sets that are compared; the first is the default.
TIER_SETS: dict[str, tuple[str, ...]] = {
    "default": ("tracelib", "supervisor", "fence"),
    "paranoid": ("supervisor", "fence"),
    "tracelib": ("tracelib",),
    "fence": ("fence",),
    "unfenced": ("tracelib", "supervisor"),  # as on a kernel without Landlock; not in the matrix
}


@dataclass(frozen=True)
class Attempt:
    kind: str  # "read", "exist" or "write"
    name: str

    def runs_as(self, flavour: str) -> bool:
        """An inline flavour differs from its libc twin only where the attempt makes the call itself."""
        inline = "inline" in flavour or flavour.endswith("int80")
        return not inline or self.name.startswith("sys-")


#: A zone of one time, which is called ABC.
ZONE = b"TZif" + bytes(35) + b"\1\0\0\0\4" + bytes(6) + b"ABC\0"

#: What a locale of glibc says of measures: the file's kind, two values and their places, 7 (no locale's), the encoding.
MEASURES = struct.pack("<4I", 0x20031115 ^ 11, 2, 16, 17) + b"\7UTF-8\0"

_ASKED, _SAID = b"Try '%s --help' for more information.\n\0", b"secret contents %s\n\0"
#: Messages of programs: head, then the places of one text and of its translation.
MESSAGES = struct.pack("<7I", 0x950412DE, 0, 1, 28, 36, 0, 44)
MESSAGES += struct.pack("<4I", len(_ASKED) - 1, 44, len(_SAID) - 1, 44 + len(_ASKED)) + _ASKED + _SAID

#: (kind, name) -> in which flavour it may get through the default tiers, and why.
EXCEPTIONS: dict[tuple[str, str], tuple[str, str]] = {}


def build(directory: Path, flavours: Iterable[str] = FLAVOURS) -> dict[str, Path]:
    """Compile the attempts; a flavour whose compiler is not here is left out (and missing in the result).

    Raises SystemExit where the compiler is here, and the attempts are what it cannot compile.
    """
    built = {}
    sources = [str(HERE / name) for name in SOURCES]
    for flavour in flavours:
        command = FLAVOURS[flavour]
        if shutil.which(command[0]) is None:
            continue
        out = directory / flavour
        if flavour == "script":
            built[flavour] = SCRIPTS
            continue
        if flavour in NATIVE:
            words = [*command, str(out), str(HERE / NATIVE[flavour])]
        else:
            words = [*command, "-o", str(out), *sources, *_BASE_FLAGS]
        # Go keeps what it has compiled below the home directory, which a clean environment does not have.
        env = {"GOCACHE": str(directory / "cache"), **os.environ, "GO111MODULE": "off", "CGO_ENABLED": "0"}
        done = subprocess.run(words, env=env, cwd=directory, capture_output=True, check=False)
        if done.returncode == 0:
            out.chmod(0o755)
            built[flavour] = out
        elif flavour not in NATIVE and _compiles(command, directory):
            raise SystemExit(f"{flavour}: the attempts do not compile: {done.stderr.decode(errors='replace').strip()}")
    return built


def _compiles(command: list[str], directory: Path) -> bool:
    """Is all there that a C compiler needs (for 32 bits: headers and libraries of their own)?"""
    source = directory / "nothing.c"
    source.write_text('#include <stdio.h>\nint main(void) { return puts("") < 0; }\n', encoding="utf-8")
    words = [*command, "-o", str(directory / "nothing"), str(source)]
    return subprocess.run(words, cwd=directory, capture_output=True, check=False).returncode == 0


def build_objects(ground: Ground) -> None:
    """What the attempts named "so-" put into programs: made once, copied to the work directory for each of them."""
    secret, lib, work = (str(ground.base / name) for name in ("hidden/secret", "hidden/libsecret.so", "work/objects"))
    out = ground.programs / "objects"
    out.mkdir(exist_ok=True)
    library = ["-shared", "-fPIC"]
    parts: dict[str, list[str]] = {
        "libsecret.so": [*library, "-DSECRET_LIBRARY", "-Wl,-soname,libsecret.so"],
        "evil.so": [*library, f'-DEVIL="{secret}"', "-Wl,-soname,evil.so"],
        "quiet.so": [*library, f'-DQUIET="{secret}"'],
        "ifunc.so": [*library, f'-DIFUNC="{secret}"', "-Wl,-soname,ifunc.so"],
        "needs-hidden": ["-DNEEDS", str(out / "libsecret.so"), f"-Wl,-rpath,{ground.base / 'hidden'}"],
        "needs-libs": ["-DNEEDS", str(out / "libsecret.so"), f"-Wl,-rpath,{work}/libs"],
        "needs-none": ["-DNEEDS", str(out / "libsecret.so")],
        "needs-path": ["-DNEEDS", str(out / "slash.so")],
        "needs-evil": ["-DNEEDS", str(out / "evil.so"), "-Wl,-rpath,$ORIGIN"],
        "needs-none-evil": ["-DNEEDS", str(out / "evil.so")],
        "needs-ifunc": ["-DNEEDS", str(out / "ifunc.so"), "-Wl,-rpath,$ORIGIN"],
        "exec-stack": [f'-DSTACK="{secret}"', "-z", "execstack"],
        "writable-text": [f'-DTEXT="{secret}"', "-Wl,--no-warn-rwx-segments"],
        "own-loader": ["-DNEEDS", str(out / "evil.so"), f"-Wl,--dynamic-linker={work}/ld-linux-x86-64.so.2"],
        "teller": [f'-DTELLER="{secret}"', "-static"],
        "says": ["-DSAYS_ALONE", "-static", "-nostdlib"],
        "ld-linux-x86-64.so.2": [f'-DLOADER="{secret}"', "-static-pie", "-nostdlib", "-fPIE"],
    }
    for name, flags in parts.items():
        if name == "needs-path":  # a needed name with a slash is a path
            slash = [*library, "-DSECRET_LIBRARY", f"-Wl,-soname,{lib}"]
            subprocess.run(["gcc", HERE / "objects.c", "-o", out / "slash.so", *slash], check=True)
        # the object stands before what it needs: the source first
        subprocess.run(["gcc", "-O1", "-w", HERE / "objects.c", "-o", out / name, *flags], check=True)
    if shutil.which("musl-gcc"):
        words = ["musl-gcc", "-static", "-O1", "-w", "-DSAYS", HERE / "objects.c", "-o", out / "says-musl"]
        subprocess.run(words, check=True)
    ground.fresh_hidden()


def scripts() -> dict[Attempt, str]:
    """Of each attempt in scripts.txt ("KIND NAME", and its lines behind a tab) the text for the shell."""
    found: dict[Attempt, str] = {}
    for line in SCRIPTS.read_text(encoding="utf-8").splitlines():
        if line.startswith("\t"):
            found[list(found)[-1]] += line[1:] + "\n"
        elif line and not line.startswith("#"):
            found[Attempt(*line.split(" ", 1))] = ""
    return found


def attempts(program: Path) -> list[Attempt]:
    if program == SCRIPTS:
        return list(scripts())
    lines = subprocess.run([program], capture_output=True, check=True, text=True).stdout.split("\n")
    return [Attempt(*line.split(" ", 1)) for line in lines if line]


class Ground:
    """The place that is attacked. It lies outside /tmp, and every file mode lets the build user do what it tries."""

    def __init__(self, owner: Identity) -> None:
        self.owner = owner
        self.base = Path(tempfile.mkdtemp(prefix="porttrace-escape-", dir="/var/tmp"))
        self.base.chmod(0o755)
        self._servers: list[socket.socket] = []
        self.programs = self.base / "programs"
        self.programs.mkdir()
        self.fresh_hidden()
        self.fresh_outside()
        self.fresh_work()
        self.outsider = self._outsider()
        self.others = self._others_session()

    def _outsider(self) -> subprocess.Popen[bytes]:
        """A process of the same user that is not of the session, and has the secret in all ways."""
        owner = self.owner
        words = (
            ["setpriv", f"--reuid={owner.uid}", f"--regid={owner.gid}", "--clear-groups"] if os.geteuid() == 0 else []
        )
        return subprocess.Popen(
            [*words, "/bin/sh", "-c", "exec 9<secret; exec sleep 100000"],
            cwd=self.base / "hidden",
            env={"OF": "secret contents", "PATH": "/usr/bin:/bin"},
        )

    def _others_session(self) -> RuntimeDir:
        """The directory of another session, of the same user."""
        made = RuntimeDir(pid=self.outsider.pid)
        phase = made.path / "1"
        phase.mkdir()
        for name, mode in (("policy", 0o444), ("tracelib.so", 0o755), ("events", 0o600)):
            (phase / name).write_text("secret contents\n")
            self._own(phase / name, mode)
        for path in (phase, made.path):
            self._own(path, 0o755)
        return made

    def _own(self, path: Path, mode: int) -> None:
        os.chown(path, self.owner.uid, self.owner.gid)
        path.chmod(mode)

    def fresh_hidden(self) -> None:
        hidden = self.base / "hidden"
        shutil.rmtree(hidden, ignore_errors=True)
        hidden.mkdir()
        (hidden / "secret").write_text("secret contents\n")
        (hidden / "program").write_text("#!/bin/echo secret\n")
        (hidden / "zone").write_bytes(ZONE)
        (hidden / "locale").mkdir()
        (hidden / "locale/LC_MEASUREMENT").write_bytes(MEASURES)
        (hidden / "LC_MESSAGES").mkdir()
        (hidden / "LC_MESSAGES/coreutils.mo").write_bytes(MESSAGES)
        (hidden / "link").symlink_to("secret-target")
        for name in ("libsecret.so", "says", "says-musl"):
            if (self.programs / "objects" / name).exists():
                shutil.copy(self.programs / "objects" / name, hidden)
        shutil.copy("/bin/echo", hidden)
        self._own(hidden / "echo", 0o755)
        self._own(hidden / "secret", 0o644)
        self._own(hidden / "program", 0o755)
        self._own(hidden, 0o755)
        self._serve(hidden)

    def _serve(self, hidden: Path) -> None:
        """Who connects, or sends a message, is told the secret, by a process outside the session."""
        for old in self._servers:
            with suppress(OSError):
                old.shutdown(socket.SHUT_RDWR)  # who waits in it wakes up
            old.close()
        stream, datagrams = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._servers = [stream, datagrams]
        for server, name in ((stream, "socket"), (datagrams, "datagrams")):
            server.bind(str(hidden / name))
            (hidden / name).chmod(0o777)
        stream.listen()

        def answer() -> None:
            while True:
                try:
                    with stream.accept()[0] as client:
                        client.send(b"secret contents\n")
                except OSError:
                    return

        def answer_messages() -> None:
            while datagrams.fileno() >= 0:
                with suppress(OSError):
                    sender = datagrams.recvfrom(100)[1]
                    if sender:
                        datagrams.sendto(b"secret contents\n", sender)

        for work in (answer, answer_messages):
            threading.Thread(target=work, daemon=True).start()

    def fresh_outside(self) -> None:
        outside = self.base / "outside"
        shutil.rmtree(outside, ignore_errors=True)
        (outside / "empty").mkdir(parents=True)
        (outside / "file").write_text("untouched\n")
        os.utime(outside / "file", (1_000_000_000, 1_000_000_000))
        self._own(outside / "file", 0o666)
        self._own(outside / "empty", 0o777)
        self._own(outside, 0o777)

    def fresh_work(self) -> None:
        work = self.base / "work"
        # what the attempts mounted where nothing held them
        while f" {work / 'm'} " in Path("/proc/self/mountinfo").read_text() and os.geteuid() == 0:
            subprocess.run(["umount", "-l", work / "m"], check=True)
        self._clear(work)
        work.mkdir()
        (work / "near/hidden").mkdir(parents=True)
        (work / "near/hidden/secret").write_text("secret contents\n")
        for path in (work / "near/hidden/secret", work / "near/hidden", work / "near", work):
            self._own(path, 0o777)
        # of a port that the build does not depend on; the place may be written
        prefix = self.base / "prefix"
        self._clear(prefix)
        (prefix / "stray/doc").mkdir(parents=True)
        (prefix / "stray/doc/secret").write_text("secret contents\n")
        for path in (prefix / "stray/doc/secret", prefix / "stray/doc", prefix / "stray", prefix):
            self._own(path, 0o777)

    @staticmethod
    def _clear(directory: Path) -> None:
        """Remove it, against what an attempt has left behind and still makes or renames there."""
        end = time.monotonic() + 20
        while directory.exists() and time.monotonic() < end:
            shutil.rmtree(directory, ignore_errors=True)

    def state(self) -> dict[str, tuple[object, ...]]:
        seen: dict[str, tuple[object, ...]] = {}
        for top in ("outside", "hidden"):
            for path in [self.base / top, *sorted((self.base / top).rglob("*"))]:
                info = path.lstat()
                content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
                names = os.listxattr(path, follow_symlinks=False)
                flags = _flags(path)
                seen[str(path)] = (
                    info.st_mode,
                    info.st_uid,
                    info.st_gid,
                    info.st_size,
                    info.st_nlink,
                    content,
                    flags,
                    *names,
                )
                if path.name == "file":
                    seen[str(path)] += (info.st_mtime_ns, info.st_ino)
        return seen

    def policy(self) -> Policy:
        base = os.fsencode(self.base)
        read, write = Filemap(), Filemap()
        for path, action in (
            (base + b"/hidden", Action.DENY),
            (base + b"/work/near/hidden", Action.DENY),
            (base + b"/prefix", Action.ASK),
            (b"/", Action.ALLOW),
        ):
            read.append(Rule(path, action))
        for path in (base + b"/work", base + b"/prefix", b"/tmp", b"/dev/null", b"/dev/ptmx", b"/dev/pts"):
            write.append(Rule(path, Action.ALLOW))
        owners = Ownership([(base + b"/prefix/stray/doc/secret", "stray")], resolve=False)
        return Policy(read=read, write=write, prefix=None, owners=owners, closure=frozenset())

    def close(self) -> None:
        self.outsider.kill()
        self.outsider.wait()
        self.others.close()
        self.fresh_work()
        subprocess.run(["chattr", "-R", "-i", self.base], capture_output=True, check=False)
        shutil.rmtree(self.base, ignore_errors=True)


def _flags(path: Path) -> int:
    """What chattr changes."""
    if path.is_symlink() or not (path.is_file() or path.is_dir()):
        return 0
    fd = os.open(path, os.O_RDONLY)
    try:
        return int.from_bytes(fcntl.ioctl(fd, 0x80086601, bytes(8))[:4], sys.byteorder)  # FS_IOC_GETFLAGS
    except OSError:
        return 0
    finally:
        os.close(fd)


@dataclass(frozen=True)
class Outcome:
    escaped: bool
    note: str = ""


class Runner:
    """Runs attempts under one tier set as one user (`tiers` None: without porttrace)."""

    def __init__(self, ground: Ground, identity: Identity, argv: list[str], patience: int) -> None:
        self.ground, self.identity, self.argv, self.patience = ground, identity, argv, patience

    def _start(self, program: Path, attempt: Attempt, target: str | None = None) -> str:
        """What it said. One that ran out of time, or never spoke, on a machine that stood still, is made anew."""
        for _ in range(TRIES - 1):
            said = self._start_once(program, attempt, target)
            if said != "TIMEOUT" and (said or program == SCRIPTS):
                return said
            self.ground.fresh_work()
        return self._start_once(program, attempt, target)

    def _start_once(self, program: Path, attempt: Attempt, target: str | None) -> str:
        # Programs that a build makes lie where it can write: put there for each start.
        work = self.ground.base / "work" / "attempt"
        if program != SCRIPTS:
            shutil.copy(program, work)
            self.ground._own(work, 0o755)
        if attempt.name.startswith("so-"):
            objects = shutil.copytree(self.ground.programs / "objects", work.parent / "objects")
            for path in (objects, *objects.iterdir()):
                self.ground._own(path, 0o755)
        words = [str(work), attempt.kind, attempt.name, *([target] if target else [])]
        if program == SCRIPTS:
            words = ["/bin/sh", "-c", scripts()[attempt]]
        if attempt.name.endswith("-starter"):
            starts = '(while :; do "$0" >/dev/null; done) & export STARTER=$!; "$0" "$@"; kill $STARTER'
            words = ["/bin/sh", "-c", starts, *words]
        if attempt.name.endswith("-sibling"):
            words = ["/bin/sh", "-c", '/bin/sleep 3 & SIBLING=$! "$0" "$@"; kill -9 $!', *words]
        words = [*self.argv, *words]
        try:
            done = subprocess.run(
                words,
                cwd=self.ground.base / "work",
                env={
                    "BASE": str(self.ground.base),
                    "OUTSIDE": str(self.ground.outsider.pid),
                    "OTHERS": str(self.ground.others.path),
                    "T": str(self.ground.base / "hidden/secret"),
                    "PATIENCE": str(self.patience),
                    "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
                },
                capture_output=True,
                timeout=20,
                check=False,
                stdin=subprocess.DEVNULL,
            )
        except subprocess.TimeoutExpired:
            return "TIMEOUT"
        text = done.stdout.decode("utf-8", "replace")
        if done.returncode < 0:
            text += f"SIGNAL {-done.returncode}\n"
        return text

    def run(self, program: Path, attempt: Attempt) -> Outcome:
        self.ground.fresh_work()
        before = self.ground.state()
        hidden = self.ground.base / "hidden"
        if attempt.kind == "exist":
            there = self._start(program, attempt, str(hidden / "secret"))
            self.ground.fresh_work()
            absent = self._start(program, attempt, str(hidden / "absent"))
            outcome = Outcome(_errno(there) != _errno(absent), f"{_errno(there)}/{_errno(absent)}")
        else:
            said = self._start(program, attempt)
            got = attempt.kind == "read" and tells(said)
            note = _errno(said) + (" crashed" if "SIGNAL" in said or said == "TIMEOUT" else "")
            outcome = Outcome(got, f"{note}; read: {said[:400]!r}" if got else note)
        after = self.ground.state()
        if before != after:
            outcome = Outcome(True, f"{outcome.note}; changed: {changes(before, after)}")
            self.ground.fresh_outside()
            self.ground.fresh_hidden()
        return outcome


def changes(before: dict[str, tuple[object, ...]], after: dict[str, tuple[object, ...]]) -> str:
    """What differs between two states of the ground, in a line."""
    found = []
    for path in sorted(before.keys() | after.keys()):
        old, new = before.get(path), after.get(path)
        if old is None or new is None:
            found.append(f"{path} {'appeared' if old is None else 'is gone'}")
        elif old != new:
            parts = [f"{a!r} -> {b!r}" for a, b in zip(old, new, strict=False) if a != b]
            found.append(f"{path}: {', '.join(parts) or f'{old!r} -> {new!r}'}")
    return "; ".join(found)


def tells(said: str) -> bool:
    """Has the secret been read? The text of an attempt's own file names never holds its contents."""
    return f"GOT {SECRET}" in said or "secret contents" in said or f"\n{SECRET}" in f"\n{said}"


def _errno(said: str) -> str:
    match = re.search(r"ERRNO (-?\d+)", said)
    return os.strerror(int(match[1])) if match else said.strip()[-40:] or "no answer"


@contextmanager
def session(ground: Ground, identity: Identity, tiers: tuple[str, ...] | None, patience: int) -> Iterator[Runner]:
    if tiers is None:
        words = ["setpriv", f"--reuid={identity.uid}", f"--regid={identity.gid}", "--clear-groups"]
        yield Runner(ground, identity, words if os.geteuid() == 0 else [], patience)
        return
    with Session(identity, tiers) as started:
        trace = started.start(ground.policy(), ground.base / "work")
        yield Runner(ground, identity, trace.launch_argv, patience)
        trace.stop()


def user_named(name: str) -> Identity:
    return Identity(0, 0, (0,), "root") if name == "root" else Identity.named("macports")


def run_all(
    users: Iterable[str],
    sets: Iterable[str],
    flavours: Iterable[str],
    only: str | None = None,
    kinds: str = "read exist write",
    patience: int = 3,
) -> tuple[dict[tuple[str, str, str, Attempt], Outcome], list[str]]:
    """(user, tier set, flavour, attempt) -> outcome, and the flavours that could not be built.

    `patience`: for so many seconds the longest races are run.
    """
    results: dict[tuple[str, str, str, Attempt], Outcome] = {}
    missing: list[str] = []
    for user in users:
        identity = user_named(user)
        ground = Ground(identity)
        try:
            programs = build(ground.programs, flavours)
            build_objects(ground)
            missing = [flavour for flavour in flavours if flavour not in programs]
            todo = {
                flavour: [
                    a
                    for a in attempts(program)
                    if a.kind in kinds.split() and (only is None or a.name in only.split(","))
                ]
                for flavour, program in programs.items()
            }
            for name in sets:
                tiers = None if name == "none" else TIER_SETS[name]
                if tiers and not set(tiers) <= set(available_tiers()):
                    continue
                with session(ground, identity, tiers, patience) as runner:
                    for flavour, program in programs.items():
                        for attempt in todo[flavour]:
                            if attempt.runs_as(flavour):
                                results[user, name, flavour, attempt] = runner.run(program, attempt)
        finally:
            ground.close()
    return results, missing


def run_beside(
    users: list[str], sets: list[str], flavours: list[str], only: str | None, kinds: str, jobs: int
) -> tuple[dict[tuple[str, str, str, Attempt], Outcome], list[str]]:
    """The same, `jobs` pairs of user and tier set at a time, each on a ground of its own."""
    results: dict[tuple[str, str, str, Attempt], Outcome] = {}
    missing: list[str] = []
    with ProcessPoolExecutor(jobs) as pool:
        pairs = [(user, name) for user in users for name in sets]
        started = [pool.submit(run_all, [user], [name], flavours, only, kinds) for user, name in pairs]
        for (user, name), part in zip(pairs, started, strict=True):
            found, missing = part.result()
            results.update(found)
            print(f"{user} {name}: {len(found)} runs", file=sys.stderr, flush=True)
    return results, missing


def unexpected(results: dict[tuple[str, str, str, Attempt], Outcome]) -> list[str]:
    """Escapes from the default and paranoid tiers that `EXCEPTIONS` does not declare."""
    found = []
    for (user, tiers, flavour, attempt), outcome in results.items():
        if tiers in ("default", "paranoid") and outcome.escaped:
            declared = EXCEPTIONS.get((attempt.kind, attempt.name), ("", ""))[0]
            if not (tiers == "default" and declared == flavour):
                found.append(f"{user} {tiers} {flavour} {attempt.kind} {attempt.name}: {outcome.note}")
    return found


def markdown(results: dict[tuple[str, str, str, Attempt], Outcome], missing: list[str]) -> str:
    users = list(dict.fromkeys(key[0] for key in results))
    sets = list(dict.fromkeys(key[1] for key in results))
    todo = list(dict.fromkeys(key[3] for key in results))
    flavours = list(dict.fromkeys(key[2] for key in results))
    lines = [
        "# What gets past which tier",
        "",
        "Made by `python tests/escape/runner.py --write docs/escape-matrix.md`; not edited by hand.",
        "",
        f"{len(todo)} attempts in C, Go, Rust and scripts, run in {len(flavours)} ways ({', '.join(flavours)}). A cell "
        "names the ways in which the attempt got through; `·`: held in all; `none` is the same without porttrace: what "
        "does not get through there either proves nothing. Each was run once; an attempt with `race` in its name wins "
        "by chance, so that its cells outside `default` and `paranoid` differ from run to run.",
        "",
    ]
    if missing:
        lines += [f"Not built on this machine, and so not checked: {', '.join(missing)}.", ""]
    for user in users:
        lines += [f"## {'As root' if user == 'root' else 'Unprivileged'}", ""]
        lines += ["| " + " | ".join(["kind", *sets]) + " |", "|" + "---|" * (len(sets) + 1)]
        for kind in ("read", "exist", "write"):
            cells = []
            for name in sets:
                runs = [o for k, o in results.items() if k[0] == user and k[1] == name and k[3].kind == kind]
                cells.append(f"{sum(o.escaped for o in runs)} of {len(runs)} got through")
            lines.append(f"| {kind} | " + " | ".join(cells) + " |")
        lines += ["", "| attempt | " + " | ".join(sets) + " |", "|" + "---|" * (len(sets) + 1)]
        for attempt in todo:
            cells = []
            for name in sets:
                through = [f for f in flavours if (o := results.get((user, name, f, attempt))) and o.escaped]
                ran = [f for f in flavours if (user, name, f, attempt) in results]
                cells.append("·" if not through else "all" if len(through) == len(ran) else ", ".join(through))
            lines.append(f"| {attempt.kind} {attempt.name} | " + " | ".join(cells) + " |")
        lines.append("")
    lines += ["## Known to get through the default tiers, and why", ""]
    lines += [f"- {kind} `{name}` ({flavour}): {why}" for (kind, name), (flavour, why) in EXCEPTIONS.items()]
    lines += [
        "- a descriptor handed over by a process outside the session: it was opened under no policy of ours, and "
        "passing it on is what its owner wanted.",
        "",
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--write", metavar="FILE", help="write the matrix to FILE")
    parser.add_argument("--tiers", default="none,default,paranoid,tracelib,fence")
    parser.add_argument("--flavour", default=",".join(FLAVOURS))
    parser.add_argument("--user", default="macports,root")
    parser.add_argument("--attempt", default=None, help="one attempt, or several separated by commas")
    parser.add_argument("--kinds", default="read exist write")
    parser.add_argument(
        "--jobs", type=int, default=1, help="so many tier sets at a time (a race is then won less often)"
    )
    options = parser.parse_args()
    users = options.user.split(",") if os.geteuid() == 0 else ["macports"]
    sets, flavours = options.tiers.split(","), options.flavour.split(",")
    results, missing = run_beside(users, sets, flavours, options.attempt, options.kinds, options.jobs)
    for (user, tiers, flavour, attempt), outcome in results.items():
        if outcome.escaped or options.attempt:
            verdict = "ESCAPED" if outcome.escaped else "held"
            print(f"{user:9} {tiers:9} {flavour:14} {attempt.kind} {attempt.name}: {verdict} {outcome.note}")
    if options.write:
        Path(options.write).write_text(markdown(results, missing), encoding="utf-8")
    bad = unexpected(results)
    print(f"{len(results)} runs, {len(bad)} unexpected escapes", *bad, sep="\n  ")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
