"""What a build can reach of its session, fed with hostile input: C parts under the sanitizers, Python's in the process.

Each run of the suite puts more than a million cases to them; ``make fuzz`` puts ten times as many, with other seeds.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tracelib_build import policy_sources

from porttrace.askserver import Answer, Asked, AskServer, ask
from porttrace.eventlog import Kind, Snapshot, create
from porttrace.filemap import Action, Filemap, Rule
from porttrace.policy import Image, Ownership, Policy
from porttrace.session import Session
from porttrace.tclbridge import tcllist

ROOT = Path(__file__).parent.parent
CSRC = ROOT / "csrc"
#: How many times the usual number of cases, and which ones; set by ``make fuzz``.
TIMES = int(os.environ.get("PORTTRACE_FUZZ", "1"))
SEED = int(os.environ.get("PORTTRACE_FUZZ_SEED", "1"))
linux = pytest.mark.skipif(sys.platform != "linux", reason="the supervisor and the launcher's fence are Linux's")


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """Where the fuzzer's questions lead: some of it hidden, some writable, links that loop, a fifo."""
    base = Path(tempfile.mkdtemp(prefix="porttrace-fuzz-", dir="/var/tmp"))
    for name in ("work/dir", "hidden"):
        (base / name).mkdir(parents=True)
    for name in ("work/file", "hidden/file"):
        (base / name).write_text("text")
    (base / "work/link").symlink_to("../hidden")
    (base / "work/loop").symlink_to("loop")
    os.mkfifo(base / "work/x")
    at = os.fsencode(base)
    read = [
        Rule(at + b"/hidden", Action.DENY),
        Rule(at + b"/work/dir/file", Action.REDIRECT, at + b"/work/file"),
        Rule(b"/", Action.ALLOW),
    ]
    policy = Policy(read=Filemap(read), write=Filemap([Rule(at + b"/work", Action.ALLOW)]))
    (base / "policy").write_bytes(policy.compile())
    for path in [base, *base.rglob("*")]:
        if not path.is_symlink():
            path.chmod(0o777)
    yield base
    subprocess.run(["chmod", "-R", "u+rwX", base], check=False)
    shutil.rmtree(base, ignore_errors=True)


@linux
def test_event_file_programs_lists_arguments_and_questions(place: Path, tmp_path: Path) -> None:
    for kind, name in (("ops.h", "ops.h"), ("ops.c", "ops.c")):
        words = [sys.executable, str(CSRC / "gen_calls.py"), str(CSRC / "calls.table"), kind, str(tmp_path / name)]
        subprocess.run(words, check=True)
    parts = [
        "launch/ids",
        "launch/program",
        "launch/word",
        "supervise_linux",
        "procstat",
        "tag_linux",
        "elf_linux",
        "longpath_linux",
        "eventlog",
    ]
    sources = [ROOT / "tests/fuzz/session_fuzz.c", *policy_sources(), *(CSRC / f"{part}.c" for part in parts)]
    sources += [tmp_path / "ops.c", *sorted(CSRC.glob("supervisor_*.c"))]
    sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    flags = ["-std=gnu11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-g", "-O1", f"-I{CSRC}", f"-I{tmp_path}"]
    fuzzer = place / "fuzzer"
    subprocess.run(["gcc", *flags, *sanitizers, "-o", fuzzer, *sources, "-lpthread"], check=True)
    rounds = 600_000 * TIMES
    done = subprocess.run(
        [fuzzer, place, str(SEED), str(rounds)], capture_output=True, text=True, timeout=290, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    counts = [int(n) for n in re.findall(r"\d+", done.stdout)]
    assert len(counts) == 5
    assert all(count > rounds / 2000 for count in counts), (
        done.stdout
    )  # else nothing gets past the first check any more


def _bytes(rng: random.Random, most: int, pieces: list[bytes]) -> bytes:
    return b"".join(rng.choice(pieces) if rng.random() < 0.8 else rng.randbytes(3) for _ in range(rng.randrange(most)))


@pytest.fixture
def server() -> Iterator[tuple[AskServer, Path]]:
    with tempfile.TemporaryDirectory(prefix="porttrace-test-", dir="/tmp") as name:
        path = Path(name) / "socket"
        server = AskServer(path, {os.geteuid()})
        policy = Policy(
            Filemap([Rule(b"/opt", Action.ASK, live=True)]), Filemap(), owners=Ownership([(b"/opt/a", "one")])
        )
        server.policies[1] = Asked(Image(policy.compile()), {b"/opt/a": "one"}.get, False)
        yield server, path
        server.close()


def test_questions_at_the_socket(server: tuple[AskServer, Path]) -> None:
    asked, path = server
    rng = random.Random(SEED)
    pieces = [b"1", b"2", b"\0", b"\1", b"\2", b"/opt/a", b"/", b"/opt/" + b"x" * 300, b"9" * 12, b"-1", b"\xff"]
    for _ in range(40_000 * TIMES):
        reply = asked._reply(_bytes(rng, 8, pieces))
        assert reply is None or isinstance(reply, Answer)
    for _ in range(300):
        with socket.socket(
            socket.AF_UNIX, socket.SOCK_SEQPACKET if sys.platform == "linux" else socket.SOCK_STREAM
        ) as one:
            one.connect(str(path))
            one.settimeout(5)
            packet = _bytes(rng, 8, pieces) * rng.choice((1, 1, 40))
            if packet:
                one.send(packet)
            if rng.random() < 0.5:
                one.close()
    assert ask(path, 1, b"/opt/a").port == "one"  # it lives, and still knows its answers
    assert any(thread.name == "porttrace-ask" for thread in threading.enumerate())


def test_requests_of_the_coprocess() -> None:
    """Bytes on the pipe are a list or no list; nothing else comes of them, however they nest."""
    rng = random.Random(SEED)
    pieces = ["{", "}", '"', "\\", "\n", " ", "a", "$x", "[", "]", "\\{", "\\x41", "\\u00e9", "é", "\udcff", ";", "\t"]
    lists = 0
    for _ in range(60_000 * TIMES):
        text = "".join(rng.choice(pieces) for _ in range(rng.randrange(14)))
        try:
            words = tcllist.split(text)
        except ValueError:
            continue
        lists += 1
        assert tcllist.split(tcllist.join(words)) == words
    assert lists > 10_000
    with pytest.raises(ValueError):
        tcllist.split("{" * 200_000)  # no stack is spent on it


def test_event_files_are_read_whatever_is_in_them(tmp_path: Path) -> None:
    rng = random.Random(SEED)
    path = tmp_path / "events"
    create(path, 4 << 20)
    fd = os.open(path, os.O_RDWR)
    try:
        for _ in range(150 * TIMES):
            for _ in range(20):
                where = rng.choice((rng.randrange(8192), rng.randrange(1 << 20), rng.randrange(4 << 20)))
                os.pwrite(fd, rng.randbytes(8), where)
            if rng.random() < 0.2:
                os.ftruncate(fd, rng.choice((0, 100, 1 << 20, 4 << 20)))
            with Snapshot(fd, 4 << 20) as snapshot:
                for event in snapshot.events(list(Kind)):
                    assert isinstance(event.path, bytes)
                assert snapshot.lost >= 0 and snapshot.unsound >= 0
    finally:
        os.close(fd)


def _packet(rng: random.Random) -> tuple[bytes, list[int]]:
    """An announcement that is none, or nearly one: a text, a descriptor's number, and which descriptors come along."""
    number = rng.choice((-1, 0, 1, 2, 3, 4, 5, 99, 1 << 30, rng.randrange(1 << 31)))
    hello = b"porttrace-supervise 2\0\0\0" + number.to_bytes(4, sys.byteorder, signed=True)
    text = rng.choice((hello, hello[:-1], hello + b"x", b"\0" * len(hello), rng.randbytes(8), b"x" * 5000, b"\0"))
    return text, [rng.randrange(3) for _ in range(rng.choice((0, 1, 1, 2, 3, 200)))]


@linux
def test_announcements_to_the_supervisor(place: Path) -> None:
    """It loses nothing to them: no descriptor, no tree of programs, no answer."""
    rng = random.Random(SEED)
    policy = Policy(read=Filemap([Rule(b"/", Action.ALLOW)]), write=Filemap([Rule(os.fsencode(place), Action.ALLOW)]))
    with Session(tiers=("supervisor",)) as session:
        trace = session.start(policy, place)
        supervisor = trace._supervisor
        assert supervisor is not None and supervisor.pid is not None
        own = Path(f"/proc/{supervisor.pid}/fd")
        before = len(list(own.iterdir()))
        kinds = [os.memfd_create("x"), os.open("/", os.O_RDONLY), os.open("/dev/null", os.O_RDWR)]
        for _ in range(1500 * TIMES):
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as one:
                one.connect(str(trace.directory / "supervise"))
                one.settimeout(5)
                text, which = _packet(rng)
                if rng.random() < 0.1:
                    continue  # says nothing
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    socket.send_fds(one, [text], [kinds[n] for n in which])
                    assert one.recv(16) == b"", "nobody who is no program's launcher is welcome"
        for fd in kinds:
            os.close(fd)
        (place / "still").write_text("text")
        done = subprocess.run([*trace.launch_argv, "cat", place / "still"], capture_output=True, text=True)
        assert done.stdout == "text", done
        # The tree that has ended, and connections of which nothing was heard for two seconds.
        deadline = time.monotonic() + 20  # on a machine that is busy, too
        while len(list(own.iterdir())) > before and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(list(own.iterdir())) == before
        assert trace.stop().findings == []
