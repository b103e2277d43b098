"""Messages that the supervisor sends in a program's place go as those that the program sends itself."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from porttrace.filemap import Action, Filemap, Rule
from porttrace.identity import Identity
from porttrace.policy import Policy
from porttrace.session import Session
from porttrace.supervisor import supervisor_available

pytestmark = pytest.mark.skipif(
    not supervisor_available(), reason="NOT CHECKED: no seccomp user notification in this kernel"
)
SOURCE = Path(__file__).parent / "supervised_messages.c"
WHO = Identity.named("macports") if os.geteuid() == 0 else Identity.current()


@pytest.fixture
def work() -> Iterator[Path]:
    base = Path(tempfile.mkdtemp(dir="/var/tmp"))
    base.chmod(0o755)
    yield base
    shutil.rmtree(base)


def fresh(work: Path) -> Path:
    place = work / "work"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    (place / "text").write_text("text")
    if os.geteuid() == 0:
        shutil.chown(place, WHO.uid, WHO.gid)
    return place


def supervised(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    write = Filemap([Rule(os.fsencode(place), Action.ALLOW)])
    with Session(WHO) as session:
        trace = session.start(Policy(read=Filemap([Rule(b"/", Action.ALLOW)]), write=write), place)
        done = subprocess.run(
            [*trace.launch_argv, *words], cwd=place, capture_output=True, text=True, check=False, timeout=60
        )
        trace.stop()
    return done


def compiled(work: Path, *flags: str) -> str:
    program = work / "x"
    words = ["gcc", "-O1", "-Wall", "-static", "-pthread", *flags, "-o", str(program), str(SOURCE)]
    if "-m32" in flags:
        words += ["-idirafter", "/usr/include/x86_64-linux-gnu"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode and "-m32" in flags:
        pytest.skip("NOT CHECKED: no compiler for 32 bits here")
    assert done.returncode == 0, done.stderr
    return str(program)


@pytest.mark.parametrize("flags", [[], ["-m32"]], ids=["native", "32bit"])
def test_messages_go_as_without_it(work: Path, flags: list[str]) -> None:
    program = compiled(work, *flags)
    as_user = ["setpriv", f"--reuid={WHO.uid}", f"--regid={WHO.gid}", "--clear-groups"] if os.geteuid() == 0 else []
    bare = subprocess.run(
        [*as_user, program], cwd=fresh(work), capture_output=True, text=True, check=True, timeout=60
    ).stdout
    assert "stream 3145728 1\n" in bare
    assert supervised(fresh(work), program).stdout == bare


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM], ids=["stream", "datagram"])
def test_the_fence_around_nameless_sockets_holds(work: Path, kind: int) -> None:
    """What Landlock refuses the program, the supervisor does not do for it."""
    place = fresh(work)
    source = work / "y.c"
    source.write_text(
        "#include <errno.h>\n#include <stdio.h>\n#include <string.h>\n#include <sys/socket.h>\n#include <sys/un.h>\n"
        'int main(void) { struct sockaddr_un a = { AF_UNIX, "\\0pt-outside" };\n'
        f"int s = socket(AF_UNIX, {int(kind)}, 0);\n"
        'long r = connect(s, (void *)&a, 13); printf("%s ", r ? strerror(errno) : "connected");\n'
        'r = sendto(s, "x", 1, 0, (void *)&a, 13); puts(r < 0 ? strerror(errno) : "sent"); return 0; }\n'
    )
    subprocess.run(["gcc", "-w", "-static", "-o", work / "y", source], check=True)
    with socket.socket(socket.AF_UNIX, kind) as outside:
        outside.bind("\0pt-outside")
        if kind == socket.SOCK_STREAM:
            outside.listen()
        outside.settimeout(0.2)
        said = supervised(place, str(work / "y")).stdout
        assert said == "Operation not permitted Operation not permitted\n"
        with pytest.raises(TimeoutError):
            outside.recv(1) if kind == socket.SOCK_DGRAM else outside.accept()
