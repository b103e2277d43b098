"""What is opened inside the C library or the kernel is what was judged, whatever is exchanged meanwhile."""

from __future__ import annotations

import errno
import os
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from ground import NEEDS, Ground
from test_tracelib_other import COMPILERS, MUSL
from tracelib_session import SOURCE, Session, compile_c

STREAMS = ["fopen", "fopen_plus", "fopen_w", "freopen", "ccs", "setmntent"]


_C = (SOURCE / "tests/calls/held.c").read_text()
CHANGES, LOOKS = (re.findall(rf"{kind}\((\w+)\),", _C) for kind in ("CHANGES", "LOOKS"))
FOLLOWING = [name for name in CHANGES if not name.startswith("l") and not name.endswith("nofollow")]


def built(name: str, place: Path, compiler: str) -> Path:
    compiler = MUSL if compiler == "musl" else compiler
    return compile_c(SOURCE / f"tests/calls/{name}.c", place / name, "-Wno-format-truncation", compiler=compiler)


@pytest.fixture
def top() -> Iterator[Path]:
    """``w/d/file`` may be seen and changed, ``hidden/file`` may not be seen."""
    place = Path(tempfile.mkdtemp(prefix="held-"))
    place.chmod(0o755)
    for name, text in (("w/d", "plain"), ("hidden", "secret")):
        (place / name).mkdir(parents=True)
        (place / name / "file").write_text(text)
    yield place
    shutil.rmtree(place)


def say(program: Path, call: str, top: Path, session: Session | None = None, *, restore: bool = True) -> list[str]:
    """What a call gives at first, once it is known, and after the exchange; and whether a descriptor is left."""
    words = ["/usr/bin/env", program, call, top / "w/d", top / "hidden"]
    if session:
        done = session.run(*words, env={**os.environ, "HELD_EVENTS": str(session.dir / "events")})
    else:
        done = subprocess.run(words, capture_output=True, text=True)
    if not session and restore:
        shutil.rmtree(top / "w")
        shutil.copytree(top / "hidden", top / "w/d")
        (top / "w/d/file").unlink()
        (top / "w/d/file").write_text("plain")
        (top / "w/d/other").unlink(missing_ok=True)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split("\n")[:-1]


@pytest.fixture(scope="module", params=COMPILERS)
def held(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built("held", tmp_path_factory.mktemp("held"), request.param)


@pytest.mark.parametrize("call", STREAMS)
def test_a_stream_is_of_what_was_judged(call: str, held: Path, top: Path) -> None:
    plain = "plain"
    assert say(held, call, top) == [plain, plain, "secret", "none left"], "without the library the exchange works"
    with Session(f"r:{top}/hidden=-", "rw:/=+") as session:
        assert say(held, call, top, session) == [plain, plain, str(errno.ELOOP), "none left"]
    assert (top / "hidden/file").read_text() in ("secret", ""), "by the first, without the library"


@pytest.mark.parametrize("call", ["link", "linkat", "rename"])
def test_a_second_name_is_for_what_was_judged(call: str, held: Path, top: Path) -> None:
    """Also where the hidden place may be written; what is hidden keeps its one name."""
    assert say(held, call, top)[:3] == ["plain", "plain", "secret"], "without the library the exchange works"
    with Session(f"rw:{top}/hidden=-", "rw:/=+") as session:
        assert say(held, call, top, session) == ["plain", "plain", str(errno.ELOOP), "none left"]
    assert (top / "hidden/file").stat().st_nlink == 1


@contextmanager
def unwritten(top: Path, *, log: bool = False) -> Iterator[Session]:
    """``hidden`` may be read; its files must be what they are."""
    file = top / "hidden/file"
    before = (file.stat(), os.listxattr(file))
    with Session(f"w:{top}/hidden=-", "rw:/=+", log=log) as session:
        yield session
    assert (file.stat(), os.listxattr(file)) == before


def marked(top: Path) -> None:
    """What removexattr takes away; and time passes, or nothing would show by it."""
    os.setxattr(top / "hidden/file", "user.h", b"v")
    time.sleep(0.02)


@pytest.mark.parametrize("log", [False, True])  # with a log nothing goes the quick way
@pytest.mark.parametrize("call", [call for call in CHANGES if call != "chmod_near"])
def test_what_is_changed_is_what_was_judged(call: str, log: bool, held: Path, top: Path) -> None:
    marked(top)
    assert say(held, call, top) == ["plain", "plain", "secret", "none left"], "without the library the exchange works"
    marked(top)
    with unwritten(top, log=log) as session:
        assert say(held, call, top, session) == ["plain", "plain", str(errno.ELOOP), "none left"]


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("call", FOLLOWING)
def test_what_is_changed_has_not_become_a_link(call: str, log: bool, held: Path, top: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip # noqa: E501
    monkeypatch.setenv("HELD_NAME", "1")
    marked(top)
    assert say(held, call, top) == ["plain", "plain", "secret", "none left"], "without the library the exchange works"
    marked(top)
    with unwritten(top, log=log) as session:
        assert say(held, call, top, session) == ["plain", "plain", str(errno.ELOOP), "none left"]


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("call", LOOKS)
def test_what_is_seen_is_what_was_judged(call: str, log: bool, held: Path, top: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:  # fmt: skip # noqa: E501
    """While names are moving. The walks of the C library are made of calls that are held whatever moves."""
    monkeypatch.setenv("HELD_MOVING", "1")
    marked(top)
    (top / "hidden/other").symlink_to("file")
    if (call, request.node.callspec.params["held"]) == ("pathconf", "musl"):
        pytest.skip("musl's looks at no file")
    assert say(held, call, top) == ["plain", "plain", "secret", "none left"], "without the library the exchange works"
    with Session(f"r:{top}/hidden=-", "rw:/=+", log=log) as session:
        assert say(held, call, top, session) == ["plain", "plain", "plain", "none left"]


def test_a_listing_is_of_what_was_judged(held: Path, top: Path) -> None:
    (top / "hidden/other").write_text("")
    with Session(f"r:{top}/hidden=-", "rw:/=+") as session:
        assert say(held, "opendir", top, session) == ["plain", "plain", str(errno.ELOOP), "none left"]


@contextmanager
def served(top: Path, kind: int) -> Iterator[dict[str, list[bytes]]]:
    """In both places a socket; by connections it says where it is, and what messages it got is told."""
    got: dict[str, list[bytes]] = {"w/d": [], "hidden": []}
    for name in got:
        (top / name / "file").unlink()
    sockets = {name: socket.socket(socket.AF_UNIX, kind) for name in got}

    def serve(name: str) -> None:
        with suppress(OSError):
            while kind == socket.SOCK_STREAM:
                with sockets[name].accept()[0] as peer:
                    peer.sendall({"w/d": b"plain"}.get(name, b"secret"))
            while message := sockets[name].recv(9):
                got[name].append(message)

    for name, s in sockets.items():
        s.bind(str(top / name / "file"))
        if kind == socket.SOCK_STREAM:
            s.listen(9)
        threading.Thread(target=serve, args=[name], daemon=True).start()
    yield got
    for s in sockets.values():
        s.shutdown(socket.SHUT_RDWR)
        s.close()


@pytest.mark.parametrize("with_library", [True, False])
@pytest.mark.parametrize("call", ["connect", "sendto", "sendmsg"])
def test_a_socket_is_the_one_that_was_judged(call: str, with_library: bool, held: Path, top: Path) -> None:
    kind = socket.SOCK_STREAM if call == "connect" else socket.SOCK_DGRAM
    with Session(f"r:{top}/hidden=-", "rw:/=+") as session, served(top, kind) as got:
        said = say(held, call, top, session if with_library else None, restore=False)
        time.sleep(0.05)
    fine = "plain" if call == "connect" else "sent"
    if with_library:
        assert said == [fine, fine, str(errno.ELOOP), "none left"]
        assert not got["hidden"]
    else:
        assert said == [fine, fine, "secret" if call == "connect" else "sent", "none left"]


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("umask", ["", "none may do anything"])
def test_a_stream_is_what_the_library_makes_of_it(compiler: str, umask: str, tmp_path: Path) -> None:
    """In each mode, of each kind of file: errno, flags, position, what comes of reading and of writing."""
    program = built("streams", tmp_path, compiler)
    (tmp_path / "place").mkdir()
    words = ["/usr/bin/env", program, tmp_path / "place", *([umask] if umask else [])]
    plain = subprocess.run(words, capture_output=True, text=True).stdout.splitlines()
    assert len(plain) > 600
    for log in (False, True):
        with Session("rw:/=+", log=log) as session:
            assert session.run(*words).stdout.splitlines() == plain


#: A directory that was looked at becomes a link to a hidden one, and nobody is told. A script of the system's python,
#: which the library alone holds.
EXCHANGE = """
import os, sys
here = os.getcwd()
os.mkdir("d")
open("d/file", "w").write("plain\\n")
def exchange():
    events = int(os.environ["EVENTS"])
    word = os.pread(events, 8, 64)
    os.rename("d", "was")
    os.symlink(here + "/../hidden", "d")
    os.pwrite(events, word, 64)
def seccomp():
    print([line.split()[1] for line in open("/proc/self/status") if line.startswith("Seccomp:")][0], flush=True)
def spawn(name, flags=0):
    try:
        actions = [(os.POSIX_SPAWN_OPEN, 0, name, flags, 0o600)]
        os.waitpid(os.posix_spawn("/bin/cat", ["cat"], os.environ, file_actions=actions), 0)
    except OSError as error:
        print(error.strerror, flush=True)
"""


def script(ground: Ground, text: str) -> list[str]:
    with (ground.trace.directory / "events").open("r+b") as events:  # which the script may not open itself
        number = events.fileno()
        env = {**os.environ, "EVENTS": str(number)}
        done = ground.run("/usr/bin/python3", "-S", "-c", EXCHANGE + text, env=env, pass_fds=(number,))
    assert done.stderr == ""
    return done.stdout.splitlines()


@NEEDS[0]
def test_what_a_child_is_to_have_open_is_what_was_judged(ground: Ground) -> None:
    """It is opened by the child, inside the C library: only the supervisor can see that."""
    said = script(
        ground, "spawn(here + '/d/file'); spawn(here + '/d/file'); exchange(); spawn(here + '/d/file'); seccomp()"
    )
    assert said == ["plain", "plain", "No such file or directory", "2"]


@NEEDS[0]
@pytest.mark.parametrize("name", ["/dev/null", "/etc/passwd"])
def test_what_a_child_is_to_have_open_and_nobody_can_exchange(name: str, ground: Ground) -> None:
    """Nobody needs the supervisor for that."""
    assert script(ground, f"spawn('{name}'); seccomp()")[-1] == "0"


LOADS = "DynaLoader::dl_load_file($ARGV[0], 0) or die; exec qw(grep Seccomp: /proc/self/status)"


@NEEDS[0]
@pytest.mark.parametrize("way", ["its own name", "a link", "a directory"])
def test_a_library_is_the_one_that_was_judged(way: str, ground: Ground) -> None:
    """The loader opens it by its name. Where that could be exchanged, only the supervisor can see what it opens."""
    own = [*Path("/usr/lib").glob("*-linux-gnu/libm.so.6"), Path("/usr/lib64/libm.so.6")][0]
    work = ground.base / "work"
    (work / "lib.so").symlink_to(own)
    (work / "lib").symlink_to(own.parent)
    name = {"its own name": own, "a link": work / "lib.so", "a directory": work / "lib" / own.name}[way]
    done = ground.run("/usr/bin/perl", "-MDynaLoader", "-e", LOADS, str(name))
    assert (done.stdout.split(), done.stderr) == (["Seccomp:", "0" if name == own else "2"], "")


@NEEDS[0]
def test_a_relative_name_for_a_child_means_what_it_means_there(ground: Ground) -> None:
    assert script(ground, "os.chdir('d'); spawn('file'); seccomp()") == ["plain", "2"]


def test_the_last_name_alone_is_no_link_for_a_child(top: Path) -> None:
    """Its directory nobody can exchange, and so no supervisor is asked."""
    text = EXCHANGE.replace('os.mkdir("d")', "").replace('open("d/file", "w")', 'open("d/file", "r+")')
    text = text.replace('os.rename("d", "was")', 'os.unlink("d/file")').replace(
        '/../hidden", "d"', '/../hidden/file", "d/file"'
    )
    once = "spawn(here + '/d/file'); "
    rules = (f"r:{top}/hidden=-", f"w:{top}/w/d/file=+", "r:/=+", "w:/=-")
    with Session(*rules) as session, (session.dir / "events").open("r+b") as events:
        number = events.fileno()
        done = session.run(
            *("/usr/bin/python3", "-S", "-c", text + once + once + "exchange(); " + once),
            env={**os.environ, "EVENTS": str(number)},
            pass_fds=(number,),
            cwd=top / "w",
        )
    assert done.stdout.splitlines() == ["plain", "plain", "Too many levels of symbolic links"], done.stderr


@pytest.mark.parametrize("more", [[], ["threads"]])
@pytest.mark.parametrize("compiler", COMPILERS)
def test_what_is_held_is_changed_as_ever(compiler: str, more: list[str], tmp_path: Path) -> None:
    """Of each kind of path: errno, and what comes of it."""
    program = built("changes", tmp_path, compiler)
    said = []
    for way in ("plain", "log", "quick"):
        place = tmp_path / "place"
        place.mkdir()
        words = ["/usr/bin/env", str(program), str(place), *more]
        with Session("rw:/=+", log=way == "log") as session:
            done = subprocess.run(words, capture_output=True, text=True) if way == "plain" else session.run(*words)
            assert (done.returncode, done.stderr) == (0, "")
            assert not session.findings()
        said.append(done.stdout.splitlines())
        (place / "closed").chmod(0o755)
        shutil.rmtree(place)
    assert len(said[0]) > 1000 and said[0][-1] == "none left"
    for other in said[1:]:
        assert [pair for pair in zip(other, said[0], strict=True) if pair[0] != pair[1]] == []


def test_what_cannot_be_held_is_not_changed(top: Path) -> None:
    """For want of a descriptor."""
    text = (
        "import os, resource, sys\nresource.setrlimit(resource.RLIMIT_NOFILE, (9, 9))\n"
        "while True:\n    try: os.dup(0)\n    except OSError: break\n"
        "for change in os.chmod, os.truncate:\n    try: change(sys.argv[1], 1)\n"
        "    except OSError as error: print(error.errno)\n"
    )
    with Session(f"w:{top}/hidden=-", "rw:/=+") as session:
        done = session.run("/usr/bin/python3", "-S", "-c", text, top / "w/d/file")
    assert (done.stdout.split(), done.stderr) == ([str(errno.EMFILE)] * 2, "")
    assert (top / "w/d/file").read_text() == "plain"


@pytest.mark.parametrize("more", [[], ["threads"], ["cwd"], ["dirs"]])
@pytest.mark.parametrize("call", ["open", "link", "chmod"])
def test_a_descriptor_by_its_name_is_the_one_that_was_judged(
    call: str, more: list[str], tmp_path: Path, top: Path
) -> None:
    """Of what may be written only there is a descriptor, and of what may be read only; that is not what is refused."""
    program = built("flip", tmp_path, "cc")
    which = "w" if call == "chmod" else "r"
    with Session(f"{which}:{top}/hidden/file=-", "w:/proc=-", "rw:/=+") as session:
        words = ["/usr/bin/env", program, call, top / "w/d/file", top / "hidden/file", *more]
        assert (session.run(*words).stdout, session.run(*words).stdout) == ("ours\n", "ours\n")


@pytest.mark.parametrize("rule", ["w:/proc=-", "rw:/=+"])  # the second: nothing of /proc stays what it is
def test_a_descriptor_by_its_name_is_opened_as_ever(rule: str, tmp_path: Path) -> None:
    """By a program of several threads, which is held: pipes, files without a name, and in memory."""
    (tmp_path / "gone").write_text("gone")
    text = (
        "import os, sys, threading, time\nthreading.Thread(target=time.sleep, args=[9], daemon=True).start()\n"
        "gone = os.open(sys.argv[1], os.O_RDWR)\nos.unlink(sys.argv[1])\nmemory = os.memfd_create('memory')\n"
        "os.write(memory, b'memory')\n"
        "for path in '/dev/stdin', f'/dev/fd/{gone}', f'/proc/{os.getpid()}/fd/{gone}', f'/proc/self/fd/{memory}':\n"
        "    with open(path) as file: print(file.read(), flush=True)\n"
    )
    if rule == "rw:/=+":
        text += "with open('/dev/stdout', 'w') as out: print('out', file=out)\n"
    said = ["in", "gone", "gone", "memory", *(["out"] if rule == "rw:/=+" else [])]
    with Session(rule, "rw:/=+") as session:
        done = session.run("/usr/bin/python3", "-S", "-c", text, tmp_path / "gone", input="in")
    assert (done.stdout.splitlines(), done.stderr) == (said, "")


def test_what_is_reached_by_where_another_process_is_is_made_as_ever(tmp_path: Path) -> None:
    text = """
import os, subprocess, sys
child = subprocess.Popen(["/bin/sleep", "60"], cwd=sys.argv[1])
at = f"/proc/{child.pid}/cwd/"
def no(call, *args):
    try: call(*args)
    except OSError as error: print(error.strerror)
with open(at + "there") as f: print(f.read())
with open(at + "new", "x") as f: f.write("new")
with open(at + "new", "a") as f: f.write("er")
no(open, at + "new", "x")
no(os.open, at + "none", os.O_RDONLY)
no(os.open, at + "none/file", os.O_RDWR | os.O_CREAT)
os.close(os.open(at, os.O_RDWR | os.O_TMPFILE))
os.link(at + "new", at + "second")
os.rename(at + "there", at + "moved")
os.mkdir(at + "dir")
os.rename(at + "dir", at + "dir2/")
os.symlink("moved", at + "link")
no(os.open, at + "link", os.O_RDONLY | os.O_NOFOLLOW)
os.chmod(at + "moved", 0o600)
os.truncate(at + "link", 2)
print(sorted(os.listdir(at)), os.stat(at + "link").st_size, os.lstat(at + "link").st_size)
print(os.path.samefile(at, sys.argv[1]))
os.unlink(at + "second")
os.rmdir(at + "dir2")
no(os.rename, at + "none", at + "new")
os.chdir(at)
print(os.getcwd() == sys.argv[1], open("new").read())
child.kill()
"""
    done = {}
    for name in ("free", "held"):
        place = Path(os.path.realpath(tmp_path)) / name
        place.mkdir()
        (place / "there").write_text("there")
        words = ["/usr/bin/python3", "-S", "-c", text, place]
        with Session(f"rw:{tmp_path}/hidden=-", "w:/proc=-", "rw:/=+") as session:
            done[name] = (
                session.run(*words) if name == "held" else subprocess.run(words, capture_output=True, text=True)
            )
    assert done["free"].stderr == ""
    assert (done["held"].stdout, done["held"].stderr) == (done["free"].stdout, "")
