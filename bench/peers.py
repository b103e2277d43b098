"""Who is timed: comparable tools as command prefixes, our own yardsticks, and porttrace itself."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Peer:
    """A way to start a command. `prefix` and `env` are put before it; `close` ends what was set up for it."""

    name: str
    prefix: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    close: Callable[[], None] = lambda: None


def yardsticks(native: Path, writable: Path) -> list[Peer]:
    """The untouched command, the empty preload library (the limit) and the bare Landlock launcher (the fence)."""
    return [
        Peer("untraced"),
        Peer("empty library", env={"LD_PRELOAD": str(native / "empty.so")}),
        Peer("landlock launcher", [str(native / "landlock"), str(writable), "/dev", "/tmp", "--"]),
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


def packaged(base: Path, wanted: set[str] | None) -> tuple[list[Peer], list[str]]:
    """The packaged peers that this machine has, and the names of those that it lacks."""
    found, missing = [], []
    for name, argv in _PACKAGED.items():
        if wanted is not None and name not in wanted:
            continue
        if shutil.which(argv[0]):
            found.append(Peer(name, [part.format(base=base) for part in argv]))
        else:
            missing.append(name)
    return found, missing


def given(texts: list[str]) -> list[Peer]:
    """Peers from ``--peer NAME='COMMAND PREFIX'``. Raises ValueError for a text without '='."""
    import shlex

    peers = []
    for text in texts:
        name, equals, command = text.partition("=")
        if not equals or not name or not command:
            raise ValueError(f"--peer wants NAME='COMMAND PREFIX', not {text!r}")
        peers.append(Peer(name, shlex.split(command)))
    return peers
