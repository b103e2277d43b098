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

from porttrace import procstat
from porttrace.errors import PorttraceError
from porttrace.records import replace

__all__ = ["Agent", "Explained", "Process", "agent_of", "explain", "known_agents", "processes", "sessions"]

_SESSION = re.compile(rb"(/[^\0:=\s]*/macports)/(\d+)/(\d+)/(?:tracelib(?:-musl)?\.(?:so|dylib)|events|policy)")
_SESSION_BASES = ("/tmp/macports", "/var/tmp/macports")
_LARGEST = 1 << 30  # bytes of a policy


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
    started: int = 0
    """When it was started, in the system's unit (proc(5)); 0 where that is not known."""
    directory: str = ""
    """Its working directory where that is known."""


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
def _data() -> dict[str, Any]:
    return tomllib.loads((resources.files("porttrace") / "data" / "agents.toml").read_text(encoding="utf-8"))


@functools.cache
def known_agents(system: str = sys.platform) -> dict[str, Agent]:
    """Agents of `system` ("linux", "darwin"), by program name."""
    agents = [Agent(**entry) for entry in _data()["agent"]]
    return {agent.name: agent for agent in agents if agent.system == system}


def agent_of(process: Process, system: str = sys.platform) -> Agent | None:
    """The agent that a process is: told by where its executable lies, which nobody but the system can choose."""
    places = _data()["places"].get(system, [])
    if not any(process.exe.startswith(f"{place}/") for place in places):
        return None
    known = known_agents(system)
    name = os.path.basename(process.exe)  # noqa: PTH119 (text of a foreign process)
    return known.get(process.command.split(" ", 1)[0]) or known.get(name)


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
        try:
            cwd = str((directory / "cwd").readlink())
        except OSError:
            cwd = ""
        at = procstat.parse(_read(directory / "stat"))
        pid = int(directory.name)
        found[pid] = Process(
            pid,
            int(parent[1]),
            int(uid[1]),
            exe,
            command or f"({name[1] if name else '?'})",
            started=at.started if at is not None else 0,
            directory=cwd,
        )
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


def _phase(process: Process, proc: Path) -> str:
    """What the policy that a process carries says of itself: "phase build of port foo"; "" where it cannot be read.

    The session's directory has it as long as there is one, and the process itself has it mapped for ever.
    """
    if process.session is None:
        return ""
    port, number = process.session
    image = next((bytes_ for base in _SESSION_BASES if (bytes_ := _read(Path(base) / f"{port}/{number}/policy"))), b"")
    image = _mapped(proc / str(process.pid), f"/{port}/{number}/".encode()) or image
    if not image:
        return ""
    from porttrace.policy import Image

    try:
        labels = Image(image, verify=True)  # the process could have written in its own memory
        phase, name = labels.label("phase") or "", labels.label("port") or ""
    except (ValueError, PorttraceError):
        return ""
    return " of port ".join(part for part in (f"phase {phase}" if phase else "", name) if part)


def _mapped(directory: Path, session: bytes) -> bytes:
    """The policy as a process has it in its memory, also when its files are long gone; without the files of ports."""
    from porttrace.inject import policy_in
    from porttrace.policy import image_size

    for line in _read(directory / "maps").splitlines():
        fields = line.split(None, 5)
        if len(fields) < 6 or int(fields[2], 16):
            continue
        name = fields[5].removesuffix(b" (deleted)")
        begin, end = (int(each, 16) for each in fields[0].split(b"-"))
        try:
            with (directory / "mem").open("rb", buffering=0) as memory:
                memory.seek(begin)
                if name.endswith((session + b"tracelib.so", session + b"tracelib-musl.so")):
                    image = policy_in(memory.read(min(end - begin, _LARGEST)))
                elif name.endswith(session + b"policy"):
                    image = memory.read(64)
                else:
                    continue
                size = image_size(image) if image else _LARGEST + 1
                if size > _LARGEST:
                    continue
                if len(image) > 64:  # free places for the owners that it lacks
                    return image[:size].ljust(size, b"\0")
                memory.seek(begin)
                return memory.read(size)
        except (OSError, ValueError, OverflowError):
            continue
    return b""


def _is_port(process: Process) -> bool:
    """Whether it is the port tool itself, also where it does not trace: an interpreter that runs a script `port`."""
    return any(word.endswith("/bin/port") for word in process.command.split(" ")[:4])


def _explain(process: Process, table: dict[int, Process], ports: set[int], system: str, proc: Path) -> Explained:
    ancestors, at = [], process.ppid
    while at in table and at not in ancestors and at > 1:
        ancestors.append(at)
        at = table[at].ppid
    session = process.session
    port = next((pid for pid in ancestors if pid in ports or _is_port(table[pid])), None)
    # Whoever is older than a process has not been started by it: the number was given away again.
    if session is not None and session[0] in table and table[session[0]].started <= process.started:
        port = session[0]
    if port is not None and port in table:
        what = _phase(process, proc)
        return Explained(
            process, "build", (f"belongs to the running port with pid {port}" + (f", {what}" if what else ""),)
        )
    agent = agent_of(process, system)
    if session is not None:
        return Explained(process, "leftover", _of_ended(process, session, agent, _phase(process, proc)))
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
    lines = [
        "no port that runs is above it, it carries no session, and it is in no list of the OS's agents",
        f"its parent is {above.exe} (pid {above.pid})" if above else "its parent is gone",
    ]
    if not process.exe.startswith("/"):
        lines.append("its program cannot be seen: as root more is known of it")
    return Explained(process, "unknown", tuple(lines))


def _of_ended(process: Process, session: tuple[int, int], agent: Agent | None, phase: str) -> tuple[str, ...]:
    lines = [f"left over from the port with pid {session[0]}, which has ended" + (f" ({phase})" if phase else "")]
    if not phase:
        lines.append("of which phase and port is not known: the session is gone, and its memory has nothing of it")
    if process.directory:
        lines.append(f"works in {process.directory}")
    if agent is not None:
        lines.append(f"{agent.name}: {agent.what}; this one was started by the build")
    if any((Path(base) / str(session[0])).exists() for base in _SESSION_BASES):
        lines.append(f"the next port -t ends it; to end it now: kill {process.pid}")
    else:
        lines.append(f"to end it: kill {process.pid}")
    return tuple(lines)


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
                table[pid] = replace(process, session=session)
    running = ports if ports is not None else sessions()
    mine = [process for _, process in sorted(table.items()) if process.uid == uid]
    return [_explain(process, table, running, system, proc) for process in mine]
