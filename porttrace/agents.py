"""The processes of the build user, explained: part of a running port, left over from one, or started by the OS.

What the OS starts *for* a user is no part of any build, and port can neither start nor prevent it; the knowledge of
such agents is data (``data/agents.toml``).
"""

from __future__ import annotations

import functools
import os
import pwd
import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from porttrace.errors import PorttraceError

__all__ = ["Agent", "Explained", "Process", "explain", "known_agents", "processes", "sessions"]

_SESSION = re.compile(rb"(/[^\0:=\s]*/macports)/(\d+)/(\d+)/(?:tracelib(?:-musl)?\.(?:so|dylib)|events|policy)")
_SESSION_BASES = ("/tmp/macports", "/var/tmp/macports")


@dataclass(frozen=True)
class Agent:
    """A program that the OS runs for a user. `connects`: what it may talk to, empty for nothing outside."""

    name: str
    system: str
    what: str
    origin: str
    started_by: str
    connects: str


@dataclass(frozen=True)
class Process:
    """A running process. `session`: (process id of port, number of the policy) that it carries, None for none."""

    pid: int
    ppid: int
    uid: int
    exe: str
    command: str
    session: tuple[int, int] | None = None


@dataclass(frozen=True)
class Explained:
    """A process of the user and why it runs.

    `relation`: ``build`` (descendant of a running port), ``leftover`` (of a port that has ended), ``agent`` (started by
    the OS) or ``unknown``.
    """

    process: Process
    relation: str
    text: tuple[str, ...]
    agent: Agent | None = None

    def to_json(self) -> dict[str, Any]:
        """A JSON object: pid, ppid, exe, command, relation, explanation, connects."""
        return {
            "pid": self.process.pid,
            "ppid": self.process.ppid,
            "exe": self.process.exe,
            "command": self.process.command,
            "relation": self.relation,
            "explanation": list(self.text),
            "connects": self.agent.connects if self.agent else None,
        }


@functools.cache
def known_agents(system: str = sys.platform) -> dict[str, Agent]:
    """Agents of `system` ("linux", "darwin"), by program name."""
    data = tomllib.loads((resources.files("porttrace") / "data" / "agents.toml").read_text(encoding="utf-8"))
    agents = [Agent(**entry) for entry in data["agent"]]
    return {agent.name: agent for agent in agents if agent.system in (system, "any")}


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _session_of(directory: Path) -> tuple[int, int] | None:
    for name in ("environ", "maps"):
        if match := _SESSION.search(_read(directory / name)):
            return int(match[2]), int(match[3])
    return None


def _linux(root: Path) -> dict[int, Process]:
    found = {}
    for directory in root.iterdir():
        if not directory.name.isdecimal():
            continue
        status = _read(directory / "status").decode("utf-8", "replace")
        parent, uid = re.search(r"^PPid:\s+(\d+)", status, re.M), re.search(r"^Uid:\s+(\d+)", status, re.M)
        state = re.search(r"^State:\s+(\w)", status, re.M)
        if not parent or not uid or (state and state[1] in "ZX"):
            continue
        name = re.search(r"^Name:\s+(.*)", status, re.M)
        command = _read(directory / "cmdline").replace(b"\0", b" ").decode("utf-8", "replace").strip()
        try:
            exe = str((directory / "exe").readlink()).removesuffix(" (deleted)")
        except OSError:
            exe = name[1] if name else "?"
        pid = int(directory.name)
        found[pid] = Process(pid, int(parent[1]), int(uid[1]), exe, command or f"({name[1] if name else '?'})")
    return found


def _from_ps(text: str) -> dict[int, Process]:
    """The lines of ``ps -axo pid=,ppid=,uid=,comm=``: what every macOS has."""
    found = {}
    for line in text.splitlines():
        fields = line.split(None, 3)
        if len(fields) == 4 and all(field.lstrip("-").isdecimal() for field in fields[:3]):
            pid, parent, uid = map(int, fields[:3])
            found[pid] = Process(pid, parent, uid, fields[3], fields[3])
    return found


def processes(proc: Path = Path("/proc")) -> dict[int, Process]:
    """All running processes by id. Raises PorttraceError where the system does not tell."""
    if (proc / "self" / "status").exists() or proc != Path("/proc"):
        return _linux(proc)
    try:
        done = subprocess.run(
            ["/bin/ps", "-axo", "pid=,ppid=,uid=,comm="],
            capture_output=True,
            text=True,
            check=True,
            env={"LC_ALL": "C"},
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise PorttraceError(f"cannot list processes: {error}") from None
    return _from_ps(done.stdout)


def sessions(bases: tuple[str, ...] = _SESSION_BASES) -> set[int]:
    """Process ids of the ports that have a session directory."""
    found = set()
    for base in bases:
        path = Path(base)
        if path.is_dir() and not path.is_symlink():
            found |= {int(entry.name) for entry in path.iterdir() if entry.name.isdecimal()}
    return found


def _phase(port: int, number: int) -> str:
    """What the policy of a session's directory says of itself: "build of foo"."""
    for base in _SESSION_BASES:
        image = _read(Path(base) / str(port) / str(number) / "policy")
        if image:
            from porttrace.policy import Image

            try:
                labels = Image(image)
                phase, name = labels.label("phase") or "", labels.label("port") or ""
            except (ValueError, PorttraceError):
                return ""
            return " of port ".join(part for part in (f"phase {phase}" if phase else "", name) if part)
    return ""


def _explain(process: Process, table: dict[int, Process], ports: set[int], system: str) -> Explained:
    ancestors, at = [], process.ppid
    while at in table and at not in ancestors and at > 1:
        ancestors.append(at)
        at = table[at].ppid
    session = process.session
    port = next((pid for pid in ancestors if pid in ports), None)
    if session is not None and session[0] in table:
        port = session[0]
    if port is not None and port in table:
        what = _phase(*session) if session else ""
        return Explained(
            process, "build", (f"belongs to the running port with pid {port}" + (f", {what}" if what else ""),)
        )
    if session is not None:
        what = _phase(*session)
        return Explained(
            process,
            "leftover",
            (
                f"left over from the port with pid {session[0]}, which has ended" + (f" ({what})" if what else ""),
                f"the next port -t ends it; to end it now: kill {process.pid}",
            ),
        )
    name = os.path.basename(process.exe)  # noqa: PTH119 (text of a foreign process)
    agent = known_agents(system).get(name) or known_agents(system).get(process.command.split(" ", 1)[0])
    if agent is not None:
        return Explained(
            process,
            "agent",
            (
                f"{agent.name}: {agent.what}",
                f"comes from: {agent.origin}",
                f"started by: {agent.started_by}",
                f"connects to: {agent.connects or 'nothing outside this machine'}",
                "port did not start it and cannot prevent it; it is no part of a build",
            ),
            agent,
        )
    above = table.get(process.ppid)
    return Explained(
        process,
        "unknown",
        (
            "no port that runs is above it, it carries no session, and it is in no list of the OS's agents",
            f"its parent is {above.exe} (pid {above.pid})" if above else "its parent is gone",
        ),
    )


def explain(
    user: str, *, proc: Path = Path("/proc"), ports: set[int] | None = None, system: str = sys.platform
) -> list[Explained]:
    """Every process of `user` by process id, with the reason why it runs. Raises PorttraceError: no such user."""
    try:
        uid = pwd.getpwnam(user).pw_uid
    except KeyError:
        raise PorttraceError(f"user {user!r} does not exist; --user names another one") from None
    table = processes(proc)
    if proc.is_dir():
        for pid, process in table.items():
            if process.uid == uid and (session := _session_of(proc / str(pid))):
                table[pid] = Process(pid, process.ppid, uid, process.exe, process.command, session)
    running = ports if ports is not None else sessions()
    return [_explain(process, table, running, system) for _, process in sorted(table.items()) if process.uid == uid]
