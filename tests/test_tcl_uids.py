"""port as root works with another effective user: what Tcl starts then has to be traced all the same.

A program started with real user root and another effective user runs in secure-execution mode: the loader ignores
LD_PRELOAD. So the launcher stands before each program of `exec` and `open |` and gives up all three ids.
"""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest
from test_tcl_package import scratch  # noqa: F401 - a fixture

HOST = """
import os, pwd, sys, tkinter
from porttrace.tclbridge import embed
interp = tkinter.Tcl()
core = embed.install(interp)
interp.eval("package require porttrace")
user = pwd.getpwnam("macports")
os.setgroups([]); os.setegid(user.pw_gid); os.seteuid(user.pw_uid)
interp.eval("set scratch {%s}" % sys.argv[1])
try:
    print(interp.eval(sys.argv[2]))
finally:
    os.seteuid(0); os.setegid(0)
    core.close()
"""


def build_user() -> pwd.struct_passwd:
    """The user that phases run as; skips where this cannot be tried, and says so."""
    if os.geteuid() != 0:
        pytest.skip("NOT CHECKED: only root can lower its effective user")
    try:
        return pwd.getpwnam("macports")
    except KeyError:
        pytest.skip("NOT CHECKED: there is no user macports")


def as_port(scratch: Path, script: str) -> list[str]:  # noqa: F811
    """What a script prints in a process with real user root and effective user macports."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", HOST, str(scratch), script],
        text=True,
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(
    "start",
    [
        "exec {*}$command",
        "exec true | {*}$command",
        "exec {*}$command | cat",
        'set c [open "|$command" r]; set r [read $c]; close $c; set r',
        'set c [open "|true | $command" r]; set r [read $c]; close $c; set r',
    ],
)
def test_every_program_is_dropped_and_traced(scratch: Path, start: str) -> None:  # noqa: F811
    user = build_user()
    work, secret = scratch / "work", scratch / "secret"
    work.mkdir()
    os.chown(work, user.pw_uid, user.pw_gid)
    secret.write_text("secret\n")
    words = as_port(
        scratch,
        "porttrace::trace_start $scratch/work\n"
        "porttrace::filemap prepend $scratch/secret deny\n"
        'set command [list sh -c "grep ^Uid: /proc/self/status; cat $scratch/secret 2>&1 || true"]\n'
        f"set out [{start}]\n"
        "porttrace::trace_stop\n"
        "set out\n",
    )
    uid = str(user.pw_uid)
    assert words[:5] == ["Uid:", uid, uid, uid, uid], "real, effective and saved user are given up"
    assert " ".join(words[5:]).endswith("No such file or directory"), words


def test_port_has_its_ids_back(scratch: Path) -> None:  # noqa: F811
    """The process that traces keeps its own ids: real root, effective build user."""
    user = build_user()
    (scratch / "work").mkdir()
    words = as_port(
        scratch,
        "porttrace::trace_start $scratch/work\nexec true\nporttrace::trace_stop\n"
        "set c [open /proc/self/status]; regexp {Uid:\\s+(\\d+)\\s+(\\d+)} [read $c] -> real effective; close $c\n"
        "list $real $effective\n",
    )
    assert words == ["0", str(user.pw_uid)]
