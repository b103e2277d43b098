"""Ground truth: the file accesses in a ``strace -f -y`` log, as (path, kind of access, succeeded).

Only calls that succeed or fail with an errno of the file system count; what a process did before the loader handed
over to the program (mapping libraries) is marked, because no library can see it.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# call -> (dirfd argument or None, path argument, access); two rows where a call takes two paths.
CALLS: dict[str, list[tuple[int | None, int, str]]] = {
    "access": [(None, 0, "stat")],
    "faccessat": [(0, 1, "stat")],
    "faccessat2": [(0, 1, "stat")],
    "stat": [(None, 0, "stat")],
    "lstat": [(None, 0, "stat")],
    "newfstatat": [(0, 1, "stat")],
    "statx": [(0, 1, "stat")],
    "statfs": [(None, 0, "stat")],
    "readlink": [(None, 0, "readlink")],
    "readlinkat": [(0, 1, "readlink")],
    "open": [(None, 0, "open")],
    "openat": [(0, 1, "open")],
    "creat": [(None, 0, "create")],
    "execve": [(None, 0, "exec")],
    "mkdir": [(None, 0, "create")],
    "mkdirat": [(0, 1, "create")],
    "mknod": [(None, 0, "create")],
    "mknodat": [(0, 1, "create")],
    "rmdir": [(None, 0, "delete")],
    "unlink": [(None, 0, "delete")],
    "unlinkat": [(0, 1, "delete")],
    "rename": [(None, 0, "rename"), (None, 1, "rename")],
    "renameat": [(0, 1, "rename"), (2, 3, "rename")],
    "renameat2": [(0, 1, "rename"), (2, 3, "rename")],
    "link": [(None, 0, "link"), (None, 1, "create")],
    "linkat": [(0, 1, "link"), (2, 3, "create")],
    "symlink": [(None, 1, "create")],
    "symlinkat": [(1, 2, "create")],
    "chmod": [(None, 0, "attributes")],
    "fchmodat": [(0, 1, "attributes")],
    "chown": [(None, 0, "attributes")],
    "lchown": [(None, 0, "attributes")],
    "fchownat": [(0, 1, "attributes")],
    "utimensat": [(0, 1, "attributes")],
    "truncate": [(None, 0, "write")],
    "chdir": [(None, 0, "stat")],
    "chroot": [(None, 0, "list")],
    "getxattr": [(None, 0, "stat")],
    "lgetxattr": [(None, 0, "stat")],
    "listxattr": [(None, 0, "stat")],
    "llistxattr": [(None, 0, "stat")],
    "setxattr": [(None, 0, "attributes")],
    "lsetxattr": [(None, 0, "attributes")],
    "removexattr": [(None, 0, "attributes")],
    "lremovexattr": [(None, 0, "attributes")],
    "utime": [(None, 0, "attributes")],
    "utimes": [(None, 0, "attributes")],
    "futimesat": [(0, 1, "attributes")],
    "execveat": [(0, 1, "exec")],
    "openat2": [(0, 1, "open")],
    "fchmodat2": [(0, 1, "attributes")],
    "inotify_add_watch": [(None, 1, "list")],
    "name_to_handle_at": [(0, 1, "stat")],
    "umount2": [(None, 0, "attributes")],
    "mount": [(None, 1, "attributes")],
    # by descriptor: its name is what -y says
    "fchmod": [(None, 0, "attributes")],
    "fchown": [(None, 0, "attributes")],
    "fsetxattr": [(None, 0, "attributes")],
    "fremovexattr": [(None, 0, "attributes")],
}

_LINE = re.compile(r"^(\d+)\s+(\w+)\((.*)$")
_RESULT = re.compile(r"\)\s*=\s*(-?\d+|\?)(?:<[^>]*>)?(?:\s+(E[A-Z0-9]+))?")


@dataclass(frozen=True)
class Seen:
    """One access: absolute path (lexically clean), kind as in the log, errno name or ""."""

    path: str
    access: str
    error: str
    program: str
    loader: bool
    static: bool = False
    place: bool = False  # opened as a place only (O_PATH), and no link followed


def _arguments(text: str) -> list[str]:
    """Split a strace argument list at top-level commas."""
    out, depth, quoted, start, i = [], 0, False, 0, 0
    while i < len(text):
        c = text[i]
        if quoted:
            if c == "\\":
                i += 1
            elif c == '"':
                quoted = False
        elif c == '"':
            quoted = True
        elif c in "([{<":
            depth += 1
        elif c in ")]}>":
            if c == ")" and depth == 0:
                break
            depth -= c != ">" or depth > 0
        elif c == "," and depth == 0:
            out.append(text[start:i].strip())
            start = i + 1
        i += 1
    out.append(text[start:i].strip())
    return out


def _string(argument: str) -> str | None:
    match = re.match(r'"((?:[^"\\]|\\.)*)"', argument)
    if not match:
        return None
    return match[1].encode("latin-1").decode("unicode_escape").encode("latin-1").decode("utf-8", "surrogateescape")


def _directory(argument: str, cwd: str) -> str | None:
    if argument.startswith("AT_FDCWD"):
        return cwd
    match = re.search(r"<([^>]*)>", argument)
    return match[1] if match and match[1].startswith("/") else None


def joined(log: Path) -> Iterator[str]:
    """The log's lines with ``<unfinished ...>`` and ``<... resumed>`` put together."""
    pending: dict[tuple[str, str], str] = {}
    for line in log.read_text(encoding="latin-1").splitlines():
        if line.endswith("<unfinished ...>"):
            head = _LINE.match(line)
            if head:
                pending[head[1], head[2]] = line[: -len("<unfinished ...>")].rstrip()
            continue
        resumed = re.match(r"^(\d+)\s+<\.\.\. (\w+) resumed>(.*)$", line)
        if resumed:
            head_text = pending.pop((resumed[1], resumed[2]), None)
            if head_text is not None:
                yield head_text + resumed[3]
            continue
        yield line


def accesses(log: Path, cwd: str) -> Iterator[Seen]:
    """Every file access in the log of a command that was started in directory `cwd`."""
    where: dict[str, str] = {}
    program: dict[str, str] = {}
    loading: dict[str, bool] = {}
    dynamic: dict[str, bool] = {}
    lines = list(joined(log))
    # A vfork child is in the log before the call that made it: it stands where its parent stood.
    # A number comes again when all have been used: its makers are kept in the order of the log.
    parents: dict[str, deque[str]] = defaultdict(deque)
    for line in lines:
        made = re.match(r"^(\d+)\s+(?:clone3?|v?fork)\(.*\)\s*=\s*(\d+)", line)
        if made:
            parents[made[2]].append(made[1])
    for line in lines:
        gone = re.match(r"^(\d+)\s+\+\+\+ (?:exited|killed)", line)
        if gone:
            for known in (where, program, loading, dynamic):
                known.pop(gone[1], None)
        match = _LINE.match(line)
        if not match:
            continue
        pid, call, rest = match.groups()
        if pid not in where:
            parent = parents[pid][0] if parents[pid] else ""
            where[pid] = where.get(parent, cwd)
            program.setdefault(pid, program.get(parent, ""))
            dynamic.setdefault(pid, dynamic.get(parent, True))
        result = list(_RESULT.finditer(rest))
        value, error = (result[-1][1], result[-1][2] or "") if result else ("?", "")
        if call in ("clone", "clone3", "fork", "vfork") and value.isdigit() and value != "0":
            if parents[value]:
                parents[value].popleft()
            where.setdefault(value, where[pid])
            program.setdefault(value, program.get(pid, ""))
            dynamic.setdefault(value, dynamic.get(pid, True))
            loading.setdefault(value, False)
            continue
        args = _arguments(rest)
        if call == "fchdir" and value == "0":
            where[pid] = _directory(args[0], where[pid]) or where[pid]
        # The loader's last act before the program's own code is setting up the thread's identity and limits.
        if call == "prlimit64" or call == "munmap":
            loading[pid] = False
        for dirfd, position, access in CALLS.get(call, []):
            if position >= len(args):
                continue
            name = _string(args[position])
            if name is None and (call == "utimensat" or call.startswith("f")):  # futimens, fchmod and their like
                name = _directory(args[0], where[pid])
            if name is None or value == "?":
                continue
            base = where[pid] if dirfd is None else _directory(args[dirfd], where[pid])
            if base is None and not name.startswith("/"):
                continue
            if name == "":
                continue
            # ".." stays: what it means depends on links, which the reader resolves.
            path = name if name.startswith("/") else f"{(base or '').rstrip('/')}/{name}"
            if ".." not in name:
                path = os.path.normpath(path)
            kind, place = access, False
            if access == "open":
                flags = args[position + 1]
                if "O_PATH" in flags:
                    kind, place = "stat", "O_NOFOLLOW" in flags
                elif "O_CREAT" in flags:
                    kind = "create"
                elif "O_WRONLY" in flags or "O_RDWR" in flags:
                    kind = "write"
                elif "O_DIRECTORY" in flags:
                    kind = "list"
                else:
                    kind = "read"
            if path.startswith("/etc/ld.so."):
                dynamic[pid] = True
            who, static = program.get(pid, ""), not dynamic.get(pid, True)
            yield Seen(path, kind, error, who, loading.get(pid, False), static, place)
            if call == "chdir" and value == "0":
                where[pid] = path
        if call == "execve" and value == "0":
            program[pid] = _string(args[0]) or ""
            loading[pid] = True
            dynamic[pid] = False  # until its loader shows
