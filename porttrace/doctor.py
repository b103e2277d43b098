"""What this machine offers to trace mode: which tiers work, what each stops, and how to get what is missing."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from porttrace import fence
from porttrace.errors import PorttraceError
from porttrace.integrate import Macports
from porttrace.porttool import NO_TCL
from porttrace.runtime_dir import base_candidates
from porttrace.supervisor import Supervisor, supervisor_available
from porttrace.tiers import landlock_abi

__all__ = ["Diagnosis", "Tier", "diagnose"]

#: What each Landlock ABI added (landlock(7)), and the Linux that has it; ABI 1 is the fence itself.
_LANDLOCK = {
    2: ("rename and link across directories", "5.19"),
    3: ("truncate", "6.2"),
    5: ("ioctl on devices", "6.10"),
    6: ("abstract sockets and signals", "6.12"),
}


@dataclass(frozen=True)
class Tier:
    """One of the three tiers. `works`: a run uses it. `missing`: what to do about it, empty where nothing is."""

    name: str
    works: bool
    stops: str
    detail: str
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Prefix:
    """An installed MacPorts. `trouble`: why trace mode cannot be put into it, else empty."""

    path: str
    version: str = ""
    tcl: str = ""
    integrated: bool = False
    trouble: str = ""

    def __str__(self) -> str:
        if self.trouble:
            return f"{self.path} ({self.trouble})"
        state = "integrated" if self.integrated else f"not integrated: porttrace integrate {self.path}"
        return f"{self.path} (MacPorts {self.version}, Tcl {self.tcl}, {state})"


@dataclass
class Diagnosis:
    """Everything that `porttrace doctor` found. `notes`: things that are no tier (build user, session directory)."""

    system: dict[str, str]
    tiers: list[Tier]
    prefixes: list[Prefix]
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def used(self) -> tuple[str, ...]:
        """The tiers that a run would use."""
        return tuple(tier.name for tier in self.tiers if tier.works)

    @property
    def healthy(self) -> bool:
        """Whether all tiers work."""
        return all(tier.works for tier in self.tiers) and not self.problems

    def to_json(self) -> dict[str, Any]:
        """A JSON object with `healthy`, `system`, `used`, `tiers`, `prefixes`, `notes`, `problems`."""
        return {
            "healthy": self.healthy,
            "system": self.system,
            "used": list(self.used),
            "tiers": [
                {"name": t.name, "works": t.works, "stops": t.stops, "detail": t.detail, "missing": list(t.missing)}
                for t in self.tiers
            ],
            "prefixes": [asdict(prefix) for prefix in self.prefixes],
            "notes": self.notes,
            "problems": self.problems,
        }


def _output(words: list[str], text: str = "") -> str:
    try:
        done = subprocess.run(words, input=text, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def _tcl() -> str:
    versions = []
    try:
        import tkinter

        versions.append(f"{tkinter.Tcl().eval('info patchlevel')} (in Python)")
    except ImportError:
        pass
    for name in ("tclsh", "tclsh8.6", "tclsh9.0"):
        if (path := shutil.which(name)) and (version := _output([path], "puts [info patchlevel]")):
            versions.append(f"{version} ({name})")
    return ", ".join(versions) or "none"


def _candidates() -> list[Path]:
    """Where a MacPorts may be: the usual places, what lies in /opt, and where the command `port` comes from."""
    places = [Path("/opt/local"), *sorted(Path("/opt").glob("*")), Path("/usr/local"), Path("/Library/MacPorts")]
    if port := shutil.which("port"):
        places.append(Path(port).resolve().parent.parent)
    return list(dict.fromkeys(places))


def _prefixes() -> list[Prefix]:
    found = []
    for path in _candidates():
        if not (path / "libexec/macports/lib/macports1.0").is_dir():
            continue
        try:
            there = Macports.at(path)
        except PorttraceError as error:
            found.append(Prefix(str(path), trouble=str(error)))
        else:
            found.append(Prefix(str(path), there.version, there.tcl, there.integrated))
    return found


def _package(name: str) -> Path:
    return Path(str(resources.files("porttrace") / name))


def _tracelib() -> Tier:
    stops = "every access that a dynamic program makes through its C library: hides, redirects, reports"
    name = "libtracelib.dylib" if sys.platform == "darwin" else "libtracelib.so"
    if not _package(name).is_file():
        return Tier(
            "tracelib",
            False,
            stops,
            "the library is not there",
            (f"{_package(name)} is missing: install porttrace again",),
        )
    if sys.platform == "darwin":
        return Tier("tracelib", True, stops, "injected by DYLD_INSERT_LIBRARIES")
    # Seen working, not assumed: the loader says so itself.
    seen = _output(["/usr/bin/env", f"LD_PRELOAD={_package(name)}", "/bin/cat", "/proc/self/maps"])
    if name not in seen:
        return Tier(
            "tracelib",
            False,
            stops,
            "the loader did not take it in",
            ("is this a glibc system, and the library for its architecture?",),
        )
    return Tier("tracelib", True, stops, "injected by LD_PRELOAD; the loader takes it in")


def _supervisor() -> Tier:
    stops = "static programs (Go), other ABIs, system calls of a program's own: decided one by one, about 9 µs each"
    if sys.platform != "linux":
        return Tier(
            "supervisor", False, stops, "a Linux tier", ("macOS has nothing of the kind; the fence holds writes there",)
        )
    release = os.uname().release
    needs = "needs Linux 5.14 with CONFIG_SECCOMP_FILTER; in a container, a runtime that allows seccomp(2)"
    if not supervisor_available():
        return Tier(
            "supervisor",
            False,
            stops,
            f"Linux {release} without seccomp user notification",
            (needs,),
        )
    if trouble := _supervise_something():
        return Tier("supervisor", False, stops, trouble, (needs,))
    match = re.match(r"(\d+)\.(\d+)", release)
    quick = match is not None and (int(match[1]), int(match[2])) >= (6, 6)
    return Tier(
        "supervisor",
        True,
        stops,
        "seccomp user notification" + (", woken synchronously" if quick else "; Linux 6.6 makes it 6 times faster"),
    )


def _fence() -> Tier:
    stops = "every write outside the places of the phase, by whatever program and system call"
    if sys.platform == "darwin":
        there = Path("/usr/bin/sandbox-exec").exists()
        return Tier(
            "fence",
            there,
            stops,
            "Seatbelt" if there else "no sandbox-exec",
            () if there else ("sandbox-exec is part of macOS",),
        )
    abi = landlock_abi()
    if not abi:
        return Tier(
            "fence",
            False,
            stops,
            "no Landlock",
            ("needs Linux 5.13 with CONFIG_SECURITY_LANDLOCK, and landlock among the modules of the boot option lsm=",),
        )
    if trouble := _fence_something():
        return Tier(
            "fence", False, stops, trouble, ("in a container, a runtime that allows landlock_restrict_self(2)",)
        )
    lacking = [f"{what} (Linux {since})" for least, (what, since) in _LANDLOCK.items() if abi < least]
    return Tier(
        "fence", True, stops, f"Landlock ABI {abi}" + (f", which does not hold {', '.join(lacking)}" if lacking else "")
    )


def _run_launcher(*words: str) -> str:
    """What went wrong, or nothing."""
    try:
        done = subprocess.run(
            [_package("porttrace-launch"), *words], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return done.stderr.strip() or f"status {done.returncode}" if done.returncode else ""


def _fence_something() -> str:
    """Raise a fence and write on both sides of it: why that did not go as it should, or nothing."""
    with tempfile.TemporaryDirectory() as name:
        inside, outside, places = Path(name) / "inside", Path(name) / "outside", Path(name) / "fence"
        inside.mkdir()
        outside.mkdir()
        places.write_bytes(fence.Fence([fence.Place(os.fsencode(inside), directory=True)]).to_bytes())
        script = f"exec 2>&-; true > {outside}/file; true > {inside}/file"
        trouble = _run_launcher(f"--fence={places}", "--", "/bin/sh", "-c", script)
        if trouble or not (inside / "file").exists():
            return f"the kernel refused the fence: {trouble or 'nothing can be written inside of it'}"
        return "the kernel lets writes through the fence" if (outside / "file").exists() else ""


def _supervise_something() -> str:
    """Have a program supervised that asks for a file: why that did not go as it should, or nothing."""
    from porttrace import eventlog
    from porttrace.filemap import Action, Filemap, Rule
    from porttrace.policy import Policy

    with tempfile.TemporaryDirectory() as name:
        directory, secret = Path(name) / "session", Path(name) / "secret"
        directory.mkdir()
        secret.touch()
        (directory / "tracelib.so").touch()  # the launcher looks for it, also where it is not to be injected
        read = Filemap([Rule(os.fsencode(secret), Action.DENY), Rule(b"/", Action.ALLOW)])
        (directory / "policy").write_bytes(Policy(read, Filemap([Rule(b"/", Action.ALLOW)])).build())
        try:
            eventlog.create(directory / "events", 1 << 20)
            with Supervisor(directory, _package("porttrace-supervisor"), alone=True):
                words = ["--session", str(directory), "--no-preload", "--supervise", "--"]
                trouble = _run_launcher(
                    *words, "/bin/sh", "-c", f"! test -e {secret} || {{ echo a hidden file is seen >&2; exit 1; }}"
                )
        except (PorttraceError, OSError) as error:
            return f"the supervisor does not work: {error}"
        return f"a supervised program does not run as it should: {trouble}" if trouble else ""


def _system() -> dict[str, str]:
    name = os.uname()
    found = {
        "system": f"{name.sysname} {name.machine}",
        "kernel": name.release,
        "python": f"{sys.version.split()[0]} ({sys.executable})",
        "tcl": _tcl(),
    }
    if sys.platform == "darwin":
        found["macos"] = _output(["/usr/bin/sw_vers", "-productVersion"]) or "unknown"
        found["sip"] = _sip(_output(["/usr/bin/csrutil", "status"]))
    else:
        found["landlock"] = f"ABI {landlock_abi()}" if landlock_abi() else "none"
        found["seccomp notify"] = "yes" if supervisor_available() else "no"
    return found


def _sip(said: str) -> str:
    """System Integrity Protection, from what `csrutil status` says."""
    state = re.match(r"System Integrity Protection status:\s*(.+?)\.?$", said, re.M)
    return state[1] if state else "unknown"


def diagnose(user: str = "macports") -> Diagnosis:
    """Look at this machine. Starts a few short programs and changes nothing."""
    found = Diagnosis(_system(), [_tracelib(), _supervisor(), _fence()], _prefixes())
    if not _package("porttrace-launch").is_file():
        found.problems.append(f"{_package('porttrace-launch')} is missing: install porttrace again")
    try:
        pwd.getpwnam(user)
        found.notes.append(f"phases of a port that runs as root run as {user}")
    except KeyError:
        found.notes.append(
            f"user {user} does not exist; a port that runs as root needs it: "
            + (
                "MacPorts' installer makes it"
                if sys.platform == "darwin"
                else f"useradd --system --home-dir /var/empty --shell /usr/sbin/nologin {user}"
            )
        )
    for base in base_candidates():
        there = base if base.exists() else base.parent
        if os.statvfs(there).f_flag & getattr(os, "ST_NOEXEC", 8):
            found.notes.append(f"{base} cannot carry programs (noexec): the next place serves instead")
            continue
        found.notes.append(f"sessions lie in {base}")
        break
    else:
        found.problems.append("no place for session directories: all candidates are mounted noexec")
    if found.system["tcl"] == "none":
        found.problems.append("no Tcl: install python3-tk for the port command, or tcl for the package alone")
    elif "in Python" not in found.system["tcl"]:
        found.notes.append(NO_TCL)
    if sys.platform == "linux" and not _package("libtracelib-musl.so").is_file():
        found.notes.append(
            "no library for programs whose C library is musl: they are supervised; to have them traced, install "
            "musl-gcc (musl-tools) and porttrace again"
        )
    return found
