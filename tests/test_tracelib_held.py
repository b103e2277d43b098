"""What is opened inside the C library or the kernel is what was judged, whatever is exchanged meanwhile."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_tracelib_other import COMPILERS, MUSL
from tracelib_session import SOURCE, Session, compile_c

STREAMS = ["fopen", "fopen_plus", "fopen_w", "freopen", "ccs", "setmntent"]


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


def say(program: Path, call: str, top: Path, session: Session | None = None) -> list[str]:
    """What a call gives at first, once it is known, and after the exchange; and whether a descriptor is left."""
    words = ["/usr/bin/env", program, call, top / "w/d", top / "hidden"]
    if session:
        done = session.run(*words, env={**os.environ, "HELD_EVENTS": str(session.dir / "events")})
    else:
        done = subprocess.run(words, capture_output=True, text=True)
        shutil.rmtree(top / "w")
        shutil.copytree(top / "hidden", top / "w/d")
        (top / "w/d/file").write_text("plain")
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
