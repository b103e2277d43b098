"""porttrace as a peer: the phase policy of a port in a prefix with a large registry, in force for the whole run."""

from __future__ import annotations

import os
from pathlib import Path

from peers import Peer

from porttrace.defaults import phase_policy
from porttrace.filemap import Action, Rule
from porttrace.policy import Ownership, Policy
from porttrace.session import Session

FILES_PER_PORT = 200


def generated_ownership(prefix: Path, files: int) -> Ownership:
    """`files` files of made-up ports below `prefix`, laid out as ports lay theirs out."""
    kinds = ("include/{p}/h{i}.h", "lib/{p}/l{i}.so", "share/{p}/doc/d{i}.txt", "bin/{p}-{i}")
    rows = []
    for number in range(files):
        port, i = f"port{number // FILES_PER_PORT}", number % FILES_PER_PORT
        rows.append((os.fsencode(prefix / kinds[i % len(kinds)].format(p=port, i=i)), port))
    return Ownership(rows, resolve=False)


def policy(base: Path, native: Path, registry_files: int, *, log: bool = False, fence: bool = False) -> Policy:
    """The build phase of a port whose workpath is `base`, with ten ports to depend on; `native` may be read."""
    prefix = base / "prefix"
    made = phase_policy(
        phase="build",
        prefix=prefix,
        workpath=base,
        closure=frozenset(f"port{n}" for n in range(10)),
        owners=generated_ownership(prefix, registry_files),
        port="bench",
    )
    made.log, made.fence = log, fence
    made.read.prepend(Rule(os.fsencode(native), Action.ALLOW))
    return made


def porttrace_peers(base: Path, native: Path, registry_files: int) -> list[Peer]:
    """tracelib alone, with the full log, and with the fence; and the fence alone. One session holds all of them."""
    (base / "prefix").mkdir(exist_ok=True)
    session = Session()
    peers = []
    for name, log, fence in (
        ("porttrace: tracelib", False, False),
        ("porttrace: tracelib, full log", True, False),
        ("porttrace: tracelib and fence", False, True),
    ):
        trace = session.start(policy(base, native, registry_files, log=log, fence=fence), base)
        # The library alone needs no launcher: a preload is compared with a preload.
        prefix = trace.launch_argv if fence else []
        peers.append(Peer(name, prefix, {} if fence else trace.env, close=session.close))
        if fence:  # what launches where --tiers names the fence only
            words = [prefix[0], *(word for word in prefix if word.startswith("--fence=")), "--"]
            peers.append(Peer("porttrace: fence alone", words, close=session.close))
    return peers
