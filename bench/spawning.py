"""What one process costs: fork, exec and wait of a program that does nothing, a few at a time under each peer in turn.

One spawner under each peer lives as long as the measurement. A run of a command of its own for each figure would bring
the start of the peer along, and runs that are long enough to hide that lie so far apart that the machine has changed.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

from interleave import Effort, Rounds, interleave
from peers import Peer

WORK = "fork+exec"
A_FEW = 20


class Spawner:
    """`native/spawn` under a peer, in the directory `cwd`. Raises SystemExit where it does not work."""

    def __init__(self, peer: Peer, native: Path, cwd: Path) -> None:
        self._name = peer.name
        try:
            self._process = subprocess.Popen(
                [*peer.prefix, str(native / "spawn"), "/bin/true"],
                env=peer.environment(),
                cwd=cwd,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                bufsize=1,
            )
        except OSError as error:
            raise SystemExit(f"{peer.name}: {error.strerror}") from None

    def time(self) -> float:
        """Seconds for one process, of a few."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(f"{A_FEW}\n")
            told = self._process.stdout.readline()
        except BrokenPipeError:
            told = ""
        if not told:
            raise SystemExit(f"{self._name}: spawn /bin/true: it ended")
        return int(told) / A_FEW / 1e9

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


def spawning(peers: list[Peer], guests: list[str], native: Path, cwd: Path, effort: Effort) -> Rounds:
    """Seconds of wall time for one process: [peer][round]."""
    spawners: dict[str, Spawner] = {}
    try:
        for peer in peers:
            try:
                spawners[peer.name] = Spawner(peer, native, cwd)
                spawners[peer.name].time()
            except SystemExit as error:
                if peer.name not in guests:
                    raise
                print(f"not measured: {error}", file=sys.stderr)  # what others' tools cannot do ends nothing
                if peer.name in spawners:
                    spawners.pop(peer.name).close()
        names = list(spawners)
        return interleave(
            names, lambda name: spawners[name].time(), effort, WORK, [name for name in guests if name in names]
        )
    finally:
        for spawner in spawners.values():
            spawner.close()
