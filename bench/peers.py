"""Who is timed: comparable tools as command prefixes, our own yardsticks, and porttrace itself."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable, Set
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Peer:
    """A way to start a command. `prefix` and `env` are put before it; `close` ends what was set up for it."""

    name: str
    prefix: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    close: Callable[[], None] = lambda: None

    def environment(self) -> dict[str, str]:
        """In which a command is timed: a build's.

        MacPorts gives a build these directories and its prefix's (``binpath``). What a person has put into their own
        PATH is hidden from it, and each look there would be timed as a finding.
        """
        return {**os.environ, "PATH": "/bin:/sbin:/usr/bin:/usr/sbin", "LC_ALL": "C", **self.env}


def yardsticks(native: Path, writable: Path) -> list[Peer]:
    """
    The untouched command, the empty preload library (the limit), the bare Landlock launcher (the fence), and both: what
    any preloaded library costs behind a fence.
    """
    launcher = [str(native / "landlock"), str(writable), "/dev", "/tmp", "--"]
    preload = {"LD_PRELOAD": str(native / "empty.so")}
    return [
        Peer("untraced"),
        Peer("empty library", env=preload),
        Peer("landlock launcher", launcher),
        Peer("launcher and empty library", launcher, preload),
    ]


# What Debian packages. Each is started so that it decides or records something about every file, as it is meant to.
_PACKAGED: dict[str, list[str]] = {
    "fakeroot": ["fakeroot", "--"],
    "fakechroot": ["fakechroot", "--"],
    "bubblewrap": [
        *("bwrap", "--ro-bind", "/", "/", "--dev-bind", "/dev", "/dev", "--bind", "/tmp", "/tmp"),
        *("--bind", "{base}", "{base}", "--"),
    ],
    "strace": ["strace", "-f", "--seccomp-bpf", "-e", "trace=%file", "-o", "{base}/strace.out", "--"],
    "proot": ["proot", "-r", "/"],
}


PACKAGED = frozenset(_PACKAGED)
_TAKEN = PACKAGED | {peer.name for peer in yardsticks(Path(), Path())}


def packaged(base: Path, wanted: Set[str]) -> tuple[list[Peer], list[str]]:
    """The packaged peers that this machine has, and the names of those that it lacks."""
    found, missing = [], []
    for name, argv in _PACKAGED.items():
        if name not in wanted:
            continue
        if program := shutil.which(argv[0]):
            found.append(Peer(name, [program, *(part.format(base=base) for part in argv[1:])]))
        else:
            missing.append(name)
    return found, missing


def given(texts: list[str]) -> list[Peer]:
    """Peers from ``--peer NAME='COMMAND PREFIX'``. Raises ValueError with what is wrong with a text."""
    peers: list[Peer] = []
    for text in texts:
        name, _, command = text.partition("=")
        try:
            words = shlex.split(command)
        except ValueError as error:
            raise ValueError(f"--peer {name}: {str(error).lower()} in {command!r}") from None
        if not name or not words:
            raise ValueError(f"--peer wants NAME='COMMAND PREFIX', not {text!r}")
        if name in _TAKEN or name.startswith("porttrace:") or name in (peer.name for peer in peers):
            raise ValueError(f"--peer {name}: the name is taken")
        program = shutil.which(words[0])
        if not program:
            raise ValueError(f"--peer {name}: there is no program {words[0]!r}")
        peers.append(Peer(name, [program, *words[1:]]))
    return peers
