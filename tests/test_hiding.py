"""What docs/hiding.md says of a hidden file, seen by one program that tries it in many ways."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from test_cli_run import PORTTRACE

from porttrace.registry import Registry
from porttrace.registry.models import NewPort

PROGRAM = r"""
import errno, glob, json, os, socket, subprocess, sys
here, out = sys.argv[1], {}
def error(call, *args):
    try:
        call(*args)
    except OSError as e:
        return errno.errorcode[e.errno]
    return "ok"
def start(*argv, **more):
    return error(lambda: subprocess.run(argv, check=False, capture_output=True, **more))
hidden = here + "/hidden"
for name in ("file", "tool", "socket"):
    out["lstat " + name] = error(os.lstat, f"{hidden}/{name}")
out["access"] = os.access(hidden + "/file", os.F_OK)
out["open"] = error(open, hidden + "/file")
out["realpath"] = error(lambda: os.path.realpath(hidden + "/file", strict=True))
out["through a link"] = error(open, here + "/link")
out["readlink"] = os.readlink(here + "/link")
out["listdir"] = sorted(os.listdir(here))
out["scandir"] = sorted(e.name for e in os.scandir(here))
out["glob"] = sorted(os.path.relpath(p, here) for p in glob.glob(here + "/*/*"))
out["walk"] = sorted(os.path.relpath(os.path.join(d, n), here) for d, _, names in os.walk(here) for n in names)
sh = ["sh", "-c", "cd \"$1\"; echo *; find . -type f | sort", "sh", here]
sh = subprocess.run(sh, capture_output=True, text=True)
out["sh"] = sh.stdout.split()
out["connect"] = error(socket.socket(socket.AF_UNIX).connect, hidden + "/socket")
out["connect visible"] = error(socket.socket(socket.AF_UNIX).connect, here + "/seen/socket")
out["exec"] = start(hidden + "/tool")
out["PATH"] = start("tool-of-hidden", env={"PATH": hidden + ":/usr/bin"})
out["shebang"] = start(here + "/seen/script")
out["shebang visible"] = start(here + "/seen/plain")
out["links of mixed"] = os.stat(here + "/mixed").st_nlink
out["mixed"] = os.listdir(here + "/mixed")
out["rmdir mixed"] = error(os.rmdir, here + "/mixed")
out["rm -r mixed"] = subprocess.run(["rm", "-r", here + "/mixed"], capture_output=True, text=True).returncode
out["rmdir hidden"] = error(os.rmdir, hidden)
print(json.dumps(out))
"""


@pytest.fixture
def tree(place: Path) -> Iterator[Path]:
    """`hidden` and `mixed/secret` are hidden, the rest is seen and may be written."""
    for name in ("hidden", "seen", "mixed/secret"):
        (place / name).mkdir(parents=True)
    for name in ("hidden/tool", "hidden/tool-of-hidden"):
        (place / name).write_text("#!/bin/sh\n")
        (place / name).chmod(0o755)
    for name in ("hidden/file", "seen/file", "mixed/secret/file"):
        (place / name).touch()
    for name, interpreter in (("script", place / "hidden/tool"), ("plain", "/bin/sh")):
        (place / "seen" / name).write_text(f"#!{interpreter}\n")
        (place / "seen" / name).chmod(0o755)
    (place / "link").symlink_to("hidden/file")
    with socket.socket(socket.AF_UNIX) as one, socket.socket(socket.AF_UNIX) as other:
        one.bind(os.fspath(place / "hidden/socket"))
        other.bind(os.fspath(place / "seen/socket"))
        for each in (one, other):
            each.listen()
        yield place


@pytest.mark.skipif(sys.platform != "linux", reason="the system's Python of a Debian-like Linux")
def test_a_hidden_file_does_not_exist(work: Path, tree: Path) -> None:
    program = work / "program.py"
    program.write_text(PROGRAM)
    maps = [f"--map={tree}/hidden=-", f"--map={tree}/mixed/secret=-", f"--map={tree}=+"]
    argv = [PORTTRACE, "run", "-q", *maps, "--", "/usr/bin/python3", "-I", program, tree]
    done = subprocess.run(argv, cwd=work, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    got: dict[str, Any] = json.loads(done.stdout)
    seen = ["seen/file", "seen/plain", "seen/script", "seen/socket"]
    assert got == {
        **{f"lstat {name}": "ENOENT" for name in ("file", "tool", "socket")},
        "access": False,
        "open": "ENOENT",
        "realpath": "ENOENT",
        "through a link": "ENOENT",
        "readlink": "hidden/file",
        "listdir": ["link", "mixed", "seen"],
        "scandir": ["link", "mixed", "seen"],
        "glob": seen,
        "walk": ["link", *seen],
        "sh": ["link", "mixed", "seen", "./seen/file", "./seen/plain", "./seen/script"],
        "connect": "ENOENT",
        "connect visible": "ok",
        "exec": "ENOENT",
        "PATH": "ENOENT",
        "shebang": "ENOENT",
        "shebang visible": "ok",
        "links of mixed": 3,
        "mixed": [],
        "rmdir mixed": "ENOTEMPTY",
        "rm -r mixed": 1,
        "rmdir hidden": "ENOENT",
    }
    assert (tree / "mixed/secret/file").exists()


ERRORS = r"""
import itertools, json, os, sys
here, work, out = sys.argv[1], sys.argv[2], {}
def note(name, call, *args):
    try:
        call(*args)
        out[name] = 0
    except OSError as e:
        out[name] = e.errno
names = ("O_CREAT", "O_EXCL", "O_RDWR", "O_WRONLY", "O_TRUNC", "O_DIRECTORY", "O_NOFOLLOW", "O_PATH", "O_TMPFILE")
calls = (os.stat, os.lstat, os.readlink, os.listdir, os.rmdir, os.unlink, os.mkdir, os.mkfifo, os.listxattr, os.statvfs)
rests = ("", "/", "/.", "/..", "/x", "/x/y", "/../seen", "/x/../../seen")
for start, rest in itertools.product(sys.argv[3:], rests):
    path = f"{here}/{start}{rest}"
    for n in (0, 1, 2):
        for flags in itertools.combinations(names, n):
            value = sum({getattr(os, f) for f in flags})
            note(f"open {start}{rest} {flags}", lambda: os.close(os.open(path, value)))
    for call in calls:
        note(f"{call.__name__} {start}{rest}", call, path)
    open(work + "/own", "w").close()
    for call in (os.rename, os.link, os.symlink):
        note(f"{call.__name__} to {start}{rest}", call, work + "/own", path)
        note(f"{call.__name__} from {start}{rest}", call, path, work + "/none/x")
    note(f"chmod {start}{rest}", os.chmod, path, 0o600)
    note(f"utime {start}{rest}", os.utime, path)
    note(f"truncate {start}{rest}", os.truncate, path, 0)
print(json.dumps(out))
"""


def errors(work: Path, where: Path, *names: str, options: Sequence[str]) -> dict[str, int]:
    """What each call answers about names in a directory, under `porttrace run` with the options."""
    script = work / "errors.py"
    script.write_text(ERRORS)
    words = [*options, "-q", "--", "/usr/bin/python3", "-I", script, where, work, *names]
    done = subprocess.run([PORTTRACE, "run", *words], cwd=work, capture_output=True, text=True, timeout=60, check=True)
    answers: dict[str, int] = json.loads(done.stdout)
    return answers


@pytest.mark.parametrize("tiers", ["tracelib,supervisor,fence", "supervisor,fence", "tracelib"])
def test_no_errno_shows_that_a_hidden_file_is_there(place: Path, work: Path, tiers: str) -> None:
    """Files and directories hidden by rules of their own, in a directory that may be read."""
    rules = [word for name in ("file", "dir") for word in ("--map", f"{place / name}=-")]
    ask = partial(
        errors, work, place, "file", "dir", "dir/in", options=[*rules, "--read", str(place), "--tiers", tiers]
    )
    (place / "seen").write_text("")
    absent = ask()
    (place / "file").write_text("")
    (place / "dir").mkdir()
    (place / "dir/in").write_text("")
    assert {name: (error, absent[name]) for name, error in ask().items() if error != absent[name]} == {}


@pytest.mark.parametrize("tiers", ["tracelib,supervisor,fence", "supervisor,fence"])
def test_no_errno_shows_that_a_file_of_another_port_is_there(place: Path, work: Path, tiers: str) -> None:
    """Directories are never refused in the ask area: such a file must not show by being none."""
    file = place / "include/file"
    (place / "var/macports/registry").mkdir(parents=True)
    (place / "include").mkdir()
    with Registry.open(place / "var/macports/registry/registry.db", write=True) as registry:
        for name in ("file", "seen"):
            (place / "include" / name).write_text("")
            registry.activate(registry.add(NewPort(name, "1", files=(os.fsencode(place / "include" / name),))))

    options = ["--prefix", str(place), "--deps", "seen", "--tiers", tiers]
    ask = partial(errors, work, file.parent, "file", options=options)
    there = ask()
    file.unlink()
    # a directory without a name cannot be opened for reading: the kernel says so before it looks for the place
    differ = {name: (error, absent) for name, absent in ask().items() if (error := there[name]) != absent}
    assert {name: pair for name, pair in differ.items() if pair != (errno.ENOENT, errno.EINVAL)} == {}
