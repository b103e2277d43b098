"""The verdict of a path, however it is written: the real library in a real program, against a slow oracle.

The same program runs without and with the library. A walk in Python, one component at a time, says what each path has
to give; without anything hidden it has to agree with what the kernel says to the program that runs without the library.
"""

from __future__ import annotations

import errno
import json
import os
import random
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest
from tracelib_session import Session

NAMES = (b"a", b"b", b"dd", b"\xfe\xff", b"caf\xe9 x")
"""Names of the made-up trees; some are no UTF-8."""

T = TypeVar("T")

PROGRAM = r"""
import json, os, sys

def call(function):
    try:
        return function()
    except OSError as e:
        return e.errno

def read(path, dirfd=None):
    fd = os.open(path, os.O_RDONLY, dir_fd=dirfd)
    try:
        return [os.fstat(fd).st_ino, os.fstat(fd).st_dev]
    finally:
        os.close(fd)

def look(path, dirfd=None):
    s = os.stat(path, dir_fd=dirfd)
    return [s.st_ino, s.st_dev]

def go(path):
    os.chdir("/")
    for part in path.split(b"/"):
        if part:
            os.chdir(part)

out = []
for line in sys.stdin:
    how, base, path = json.loads(line)
    base, path = bytes.fromhex(base), bytes.fromhex(path)
    dirfd = None
    if how != "absolute":
        go(base)
    if how not in ("absolute", "cwd", "proc-cwd"):
        dirfd = os.open(b".", os.O_RDONLY | os.O_DIRECTORY)
    if how == "fd":
        path, used = b"/proc/self/fd/%d/" % dirfd + path, None
    elif how == "proc-cwd":
        path, used = b"/proc/self/cwd/" + path, None
    elif how == "root":
        path, used = b"/proc/self/root" + base + b"/" + path, None
    else:
        used = dirfd
    there = os.access(path, os.F_OK, dir_fd=used)
    out.append([call(lambda: look(path, used)), call(lambda: read(path, used)), there])
    if dirfd is not None:
        os.close(dirfd)
print(json.dumps(out))
"""


@pytest.fixture(scope="module")
def ground() -> Iterator[Path]:
    top = Path(tempfile.mkdtemp(prefix="porttrace-paths-")).resolve()
    top.chmod(0o755)
    yield top
    subprocess.run(["rm", "-rf", top], check=True)  # deeper than a path may be long


def grow(rng: random.Random, top: bytes) -> list[bytes]:
    """A tree of directories, files and links (in any component, some loops); its directories."""
    directories = [top]
    for _ in range(rng.randint(8, 24)):
        path = rng.choice(directories) + b"/" + rng.choice(NAMES)
        if os.path.lexists(path):
            continue
        what = rng.random()
        if what < 0.45:
            os.mkdir(path)  # noqa: PTH102 - bytes
            directories.append(path)
        elif what < 0.65:
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
        else:
            absolute = rng.random() < 0.5
            os.symlink((top + b"/" if absolute else b"") + ways(rng), path)  # noqa: PTH211 - bytes
    return directories


def ways(rng: random.Random) -> bytes:
    """A relative path of names, dots, doubled and trailing slashes."""
    parts = [rng.choice((*NAMES, *NAMES, b"..", b".", b"")) for _ in range(rng.randint(1, 6))]
    return (b"/".join(parts) + rng.choice((b"", b"", b"", b"/", b"//", b"/.", b"/.."))).lstrip(b"/") or b"."


def run(questions: list[list[str]], session: Session | None) -> list[list[object]]:
    lines = "".join(json.dumps(q) + "\n" for q in questions)
    argv = [sys.executable, "-I", "-S", "-c", PROGRAM]
    if session is None:
        done = subprocess.run(argv, input=lines, capture_output=True, text=True, timeout=60)
    else:
        done = session.run(*argv, input=lines)
    assert done.returncode == 0, done.stderr
    answers: list[list[object]] = json.loads(done.stdout)
    return answers


def far(path: bytes, function: Callable[[bytes, int | None], T]) -> T:
    """Call a function with a name and a descriptor of its directory, where the path may be longer than 4,095 bytes."""
    if len(path) < 4096:
        return function(path, None)
    at = os.open("/", os.O_PATH)
    *directories, name = [p for p in path.split(b"/") if p]
    try:
        for part in directories:
            below = os.open(part, os.O_PATH | os.O_NOFOLLOW, dir_fd=at)
            os.close(at)
            at = below
        return function(name, at)
    finally:
        os.close(at)


def oracle(path: bytes, hidden: bytes | None, links: int = 0) -> int:
    """0, or the errno that following an absolute path has to give where `hidden` and all below it is not there.

    `links` were followed before.
    """
    real = b""
    rest = [p for p in path.split(b"/") if p]
    slash = path.endswith(b"/")
    while rest:
        part = rest.pop(0)
        if part == b".":
            slash = slash or not rest
            continue
        if part == b"..":
            real = real.rpartition(b"/")[0]
            continue
        here, real = real, real + b"/" + part
        if hidden is not None and (real == hidden or real.startswith(hidden + b"/")):
            return errno.ENOENT
        try:
            mode = far(real, lambda name, at: os.lstat(name, dir_fd=at)).st_mode
        except OSError as e:
            return e.errno or 0
        if stat.S_ISLNK(mode):
            links += 1
            if links > 40:
                return errno.ELOOP
            text = far(real, lambda name, at: os.readlink(name, dir_fd=at))
            slash = slash or (not rest and text.endswith((b"/", b"/.")))
            rest = [p for p in text.split(b"/") if p] + rest
            real = b"" if text.startswith(b"/") else here
        elif not stat.S_ISDIR(mode) and (rest or slash):
            return errno.ENOTDIR
    return 0


@dataclass
class Case:
    """One question to the program, and the rule of the tree in which it is asked."""

    how: str
    base: bytes
    path: bytes
    hidden: bytes

    def oracle(self, hidden: bytes | None = None) -> int:
        """What following the path has to give."""
        # /proc/self is a link, and so is what follows it
        links = 2 if self.how in ("fd", "root", "proc-cwd") else 0
        return oracle(self.path if self.how == "absolute" else self.base + b"/" + self.path, hidden, links)


def check(cases: list[Case]) -> dict[int, int]:
    """Compare program, oracle and kernel; how often each errno came out with the library."""
    questions = [[c.how, c.base.hex(), c.path.hex()] for c in cases]
    with Session(*sorted({f"rw:{os.fsdecode(c.hidden)}=-" for c in cases}), "rw:/=+") as session:
        traced = run(questions, session)
    untraced = run(questions, None)
    outcomes: dict[int, int] = {}
    for case, got, plain in zip(cases, traced, untraced, strict=True):
        error = case.oracle()
        assert plain == ([error, error, False] if error else [plain[0], plain[0], True]), (case, "oracle and kernel")
        error = case.oracle(case.hidden)
        assert got == ([error, error, False] if error else plain), (case, plain)
        hidden = error and not case.oracle()
        outcomes[-1 if hidden else error] = outcomes.get(-1 if hidden else error, 0) + 1
    return outcomes


def test_any_way_to_a_file_has_the_verdict_of_the_file(ground: Path) -> None:
    """Through ``..``, links, slashes, working directories, descriptors and /proc; names that are no UTF-8."""
    rng = random.Random(40)
    cases = []
    for number in range(60):
        top = os.fsencode(ground) + b"/t%d" % number
        os.mkdir(top)  # noqa: PTH102 - bytes
        directories = grow(rng, top)
        names = sorted(os.listdir(top)) or [b"a"]  # noqa: PTH208 - bytes
        hidden = top + b"/" + rng.choice(names)
        bases = [d for d in directories if oracle(d, hidden) == 0]
        for _ in range(60):
            how, base, path = rng.choice(("absolute", "cwd", "dirfd", "fd", "root")), rng.choice(bases), ways(rng)
            cases.append(Case(how, base, base + b"/" + path if how == "absolute" else path, hidden))
    outcomes = check(cases)
    assert all(outcomes.get(e, 0) > 20 for e in (0, -1, errno.ENOENT, errno.ENOTDIR, errno.ELOOP)), outcomes


def test_chains_of_up_to_forty_links(ground: Path) -> None:
    """Each link leads to the next one, the last to a file that is shown or hidden; one more than 40 is a loop."""
    top = ground / "chains"
    (top / "hidden").mkdir(parents=True)
    (top / "shown").mkdir()
    cases = []
    for place in ("hidden", "shown"):
        (top / place / "file").touch()
        (top / f"{place}0").symlink_to(f"{place}/file")
        (top / f"{place}-dir0").symlink_to(place)
        for n in range(1, 42):
            (top / f"{place}{n}").symlink_to(f"{place}{n - 1}" if n % 2 else f"shown/../{place}{n - 1}")
            (top / f"{place}-dir{n}").symlink_to(f"./{place}-dir{n - 1}/")
        for n in range(42):
            for how in ("absolute", "cwd", "dirfd", "fd"):
                for name in (f"{place}{n}", f"{place}-dir{n}/file"):
                    path = os.fsencode(top / name if how == "absolute" else name)
                    cases.append(Case(how, os.fsencode(top), path, os.fsencode(top / "hidden")))
    outcomes = check(cases)
    # links 0..39 make chains of 1..40; 40 and 41 are too long, in either place; by /proc two more are
    long_ones = 2 * (3 * 2 * 2 + 2 * 4)
    assert outcomes == {0: 168 * 2 - long_ones // 2, -1: 168 * 2 - long_ones // 2, errno.ELOOP: long_ones}, outcomes


def test_from_directories_deeper_than_the_kernel_tells(ground: Path) -> None:
    """Their own path is longer than 4,095 bytes; files, links and ``..`` are judged there as anywhere."""
    rng = random.Random(4096)
    top = os.fsencode(ground) + b"/deep"
    os.makedirs(top + b"/hidden/dd")  # noqa: PTH103 - bytes
    for name in (b"/hidden/a", b"/hidden/dd/a", b"/b"):
        os.close(os.open(top + name, os.O_CREAT | os.O_WRONLY))
    home = os.open(".", os.O_PATH)
    directories, cases = [top], []
    try:
        os.chdir(top)
        for depth in range(64):  # to more than 12,000 bytes
            part = b"%02d" % depth + b"\xfe" * 190
            os.mkdir(part)  # noqa: PTH102 - bytes
            os.chdir(part)
            directories.append(directories[-1] + b"/" + part)
            os.close(os.open(b"a", os.O_CREAT | os.O_WRONLY))
            os.symlink(top + b"/hidden/a", b"link")  # noqa: PTH211 - bytes
            os.symlink(b"../" * (depth + 1) + b"hidden", b"out")  # noqa: PTH211 - bytes
            os.symlink(b"../" * 3 + b"a", b"up")  # noqa: PTH211 - bytes
            os.symlink(b"./../" + part + b"/a", b"round")  # noqa: PTH211 - bytes
    finally:
        os.fchdir(home)
        os.close(home)
    for depth, base in enumerate(directories):
        if len(base) < 3900 or depth % 16:
            continue
        up = b"../" * depth
        paths = [up + end for end in (b"hidden/a", b"hidden/../b", b"b")]
        paths += b"a link out/a out/dd/../a up round ./a a/ none ../none/a ../../a out out/../b".split()
        paths.append(b"../" * (depth + 9))
        if depth + 2 < len(directories):
            paths.append(
                b"/".join(directories[depth + 2].split(b"/")[-2:]) + rng.choice((b"/a", b"/out/a", b"/../../a"))
            )
        hows = ("cwd", "dirfd", "fd", "proc-cwd")
        cases += [Case(how, base, path, top + b"/hidden") for how in hows for path in paths]
    outcomes = check(cases)
    assert all(outcomes.get(e, 0) > 10 for e in (0, -1, errno.ENOENT, errno.ENOTDIR)), outcomes
