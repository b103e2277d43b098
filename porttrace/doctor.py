"""What this machine offers to trace mode: which tiers work, what each stops, and how to get what is missing."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from porttrace.runtime_dir import base_candidates
from porttrace.supervisor import supervisor_available
from porttrace.tiers import landlock_abi

__all__ = ["Diagnosis", "Tier", "diagnose"]

#: What each Landlock ABI added (landlock(7)); ABI 1 is the fence itself.
_LANDLOCK = {
    2: "rename and link across directories",
    3: "truncate",
    5: "ioctl on devices",
    6: "abstract sockets and signals",
}


@dataclass(frozen=True)
class Tier:
    """One of the three tiers. `works`: a run uses it. `missing`: what to do about it, empty where nothing is."""

    name: str
    works: bool
    stops: str
    detail: str
    missing: tuple[str, ...] = ()


@dataclass
class Diagnosis:
    """Everything that `porttrace doctor` found. `notes`: things that are no tier (build user, session directory)."""

    system: dict[str, str]
    tiers: list[Tier]
    prefixes: list[str]
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def healthy(self) -> bool:
        """Whether all tiers work."""
        return all(tier.works for tier in self.tiers) and not self.problems

    def to_json(self) -> dict[str, Any]:
        """A JSON object with `healthy`, `system`, `tiers`, `prefixes`, `notes`, `problems`."""
        return {
            "healthy": self.healthy,
            "system": self.system,
            "tiers": [
                {"name": t.name, "works": t.works, "stops": t.stops, "detail": t.detail, "missing": list(t.missing)}
                for t in self.tiers
            ],
            "prefixes": self.prefixes,
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


def _prefixes() -> list[str]:
    candidates = ["/opt/local", "/opt/macports"]
    if port := shutil.which("port"):
        candidates.append(str(Path(port).resolve().parent.parent))
    found = []
    for prefix in dict.fromkeys(candidates):
        if (Path(prefix) / "etc/macports/macports.conf").is_file():
            hooked = any((Path(prefix) / "libexec/macports/lib").glob("*porttrace*/pkgIndex.tcl"))
            found.append(f"{prefix}{' (porttrace is built in or integrated)' if hooked else ''}")
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
    if not supervisor_available():
        return Tier(
            "supervisor",
            False,
            stops,
            f"Linux {release} without seccomp user notification",
            ("needs Linux 5.14 with CONFIG_SECCOMP_FILTER; in a container, a runtime that allows seccomp(2)",),
        )
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
    lacking = [what for since, what in _LANDLOCK.items() if abi < since]
    return Tier(
        "fence", True, stops, f"Landlock ABI {abi}" + (f", which does not hold {', '.join(lacking)}" if lacking else "")
    )


def _system() -> dict[str, str]:
    name = os.uname()
    found = {
        "system": f"{name.sysname} {name.release} {name.machine}",
        "python": f"{sys.version.split()[0]} ({sys.executable})",
        "tcl": _tcl(),
    }
    if sys.platform == "darwin":
        found["macos"] = _output(["/usr/bin/sw_vers", "-productVersion"])
        found["sip"] = _output(["/usr/bin/csrutil", "status"]).removeprefix("System Integrity Protection status: ")
    return found


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
            f"useradd --system --home-dir /var/empty --shell /usr/sbin/nologin {user}"
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
    return found
