"""syscall(2) as a function: each call by its number that takes a path is judged as its function is, or is not there."""

from __future__ import annotations

import errno
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tracelib_session import SOURCE, Session, compile_c

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="system calls of Linux")

#: Newer than programs rely on: they go on without.
NOT_THERE = {
    *("setxattrat", "getxattrat", "listxattrat", "removexattrat", "file_getattr", "file_setattr", "open_tree_attr"),
    "io_uring_setup",
}
MAKES = {"creat", "mkdir", "mkdirat", "mknod", "mknodat", "symlink", "symlinkat", "bind"}


def answers(text: str) -> dict[str, int]:
    return {name: int(error) for name, error in (line.split() for line in text.splitlines())}


@pytest.fixture(scope="module")
def said() -> Iterator[tuple[dict[str, int], dict[str, int]]]:
    """By name, the errno of each call on a hidden file: traced and not."""
    with tempfile.TemporaryDirectory(prefix="numbers-") as name:
        top = Path(name)
        for place in (top, top / "hidden", top / "seen"):
            place.mkdir(exist_ok=True)
            place.chmod(0o777)
        program = compile_c(
            SOURCE / "tests/calls/by_number.c", top / "by_number", f"-I{SOURCE / 'csrc'}", "-Wno-format-truncation"
        )
        program.chmod(0o755)
        plain = subprocess.run([program, top], capture_output=True, text=True, check=True)
        with Session(f"rw:{top}/hidden=-", "rw:/=+") as session:
            (session.dir / "events").chmod(0o666)
            traced = session.run(program, top)
            found = {e.path for e in session.findings()}
        assert found == {f"{top}/hidden/file"}
        yield answers(traced.stdout), answers(plain.stdout)


def test_each_call_by_its_number_is_judged(said: tuple[dict[str, int], dict[str, int]]) -> None:
    traced, plain = said
    assert len(traced) > 70
    assert set(traced) == set(plain)
    for name, error in traced.items():
        if name in NOT_THERE:
            assert error == errno.ENOSYS, name
        else:
            assert error == (errno.EACCES if name in MAKES else errno.ENOENT), name


def test_without_the_library_each_reaches_the_file(said: tuple[dict[str, int], dict[str, int]]) -> None:
    """A call that says the same in either case shows nothing."""
    _, plain = said
    assert {name for name, error in plain.items() if error == errno.ENOENT} <= {"readlink"}
    assert not {name for name in MAKES if plain[name] == errno.EACCES}
