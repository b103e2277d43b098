"""A place with a work directory, a hidden one and one outside, and a session that holds programs to it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from porttrace.filemap import Action, Filemap, Rule
from porttrace.findings import Finding
from porttrace.identity import Identity
from porttrace.policy import Policy
from porttrace.session import Session
from porttrace.supervisor import supervisor_available
from porttrace.trace import Trace

BUSYBOX = "/bin/busybox"
NEEDS = [
    pytest.mark.skipif(not supervisor_available(), reason="this kernel has no seccomp user notification"),
    pytest.mark.skipif(not Path(BUSYBOX).exists(), reason="the package busybox-static is not installed"),
]


class Ground:
    def __init__(self, base: Path, trace: Trace, session: Session) -> None:
        self.base, self.trace, self.session = base, trace, session

    def run(self, *words: str, **more: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # type: ignore[call-overload,no-any-return]
            [*self.trace.launch_argv, *words],
            cwd=self.base / "work",
            capture_output=True,
            text=True,
            check=False,
            **more,
        )

    def sh(self, script: str) -> subprocess.CompletedProcess[str]:
        return self.run(BUSYBOX, "sh", "-c", script)

    def findings(self) -> list[Finding]:
        return self.trace.stop().findings


@contextmanager
def a_ground(user: str, more_rules: int = 0) -> Iterator[Ground]:
    if os.geteuid() == 0:
        who = Identity(0, 0, (0,), "root") if user == "root" else Identity.named("macports")
    elif user == "root":
        pytest.skip("needs root")
    else:
        who = Identity.current()
    base = Path(tempfile.mkdtemp(dir="/var/tmp"))
    base.chmod(0o755)
    for name in ("work", "hidden", "outside"):
        (base / name).mkdir()
        (base / name / "file").write_text(f"{name} text\n")
        for path in (base / name, base / name / "file"):
            os.chown(path, who.uid, who.gid)
    read, write = Filemap(), Filemap()
    read.append(Rule(os.fsencode(base / "hidden"), Action.DENY))
    for number in range(more_rules):
        read.append(Rule(b"/nowhere/%d" % number, Action.DENY))
    read.append(Rule(b"/", Action.ALLOW))
    write.append(Rule(os.fsencode(base / "work"), Action.ALLOW))
    write.append(Rule(b"/dev/null", Action.ALLOW))
    policy = Policy(read=read, write=write, prefix=None, owners=None, closure=frozenset())
    with Session(who) as session:
        yield Ground(base, session.start(policy, base / "work"), session)
    shutil.rmtree(base)
