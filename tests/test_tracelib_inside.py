"""Files that the C library opens inside itself, or that are reached by no path: what names them is judged before."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tracelib_session import MUSL_LIBRARY, SOURCE, Session, compile_c

MUSL = (shutil.which("musl-gcc") or "") if MUSL_LIBRARY.exists() else ""
NO_MUSL = pytest.mark.skipif(not MUSL, reason="NOT CHECKED: programs of musl (Debian: musl-tools)")


@pytest.fixture
def tree() -> Iterator[Path]:
    """On tmpfs where there is one: not every file system has handles."""
    place = Path(tempfile.mkdtemp(prefix="pt", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
    place.chmod(0o755)
    for name in ("seen", "hidden", "readonly", "writeonly"):
        (place / name).mkdir()
        (place / name / "file").write_text("text")
    yield place
    shutil.rmtree(place)
    for left in Path("/dev/shm").glob(f"*{place.name}-*"):
        left.unlink()


def inside(where: Path, host: str) -> Path:
    after = ("-idirafter", "/usr/include", f"-idirafter/usr/include/{os.uname().machine}-linux-gnu")
    more = {"glibc": (), "musl": after, "asan": ("-fsanitize=address,undefined",)}[host]
    flags = ("-pthread", "-Wno-format-truncation", *more)
    compiler = MUSL if host == "musl" else "cc"
    return compile_c(SOURCE / "tests" / "guest" / "inside.c", where / "inside", *flags, compiler=compiler)


# not valgrind: it does not know openat2 and what else is new here
@pytest.mark.parametrize("host", ["glibc", "asan", pytest.param("musl", marks=NO_MUSL)])
def test_what_has_another_name_than_its_path_is_judged(host: str, tree: Path, tmp_path: Path) -> None:
    program, name = inside(tmp_path, host), tree.name
    unseen = {"rw": ("hidden", "hidden2"), "w": ("fixed", "fixed2"), "r": ("blind",)}
    rules = [
        f"{maps}:/dev/shm/{kind}{name}-{n}=-" for maps, names in unseen.items() for n in names for kind in ("", "sem.")
    ]
    places = [f"rw:{tree}/hidden=-", f"w:{tree}/readonly=-", f"r:{tree}/writeonly=-"]
    with Session(*places, *rules, "rw:/=+") as session:
        env = {**os.environ, "ASAN_OPTIONS": "verify_asan_link_order=0:detect_leaks=0"}
        done = session.run("/usr/bin/env", program, tree, name, env=env)
        found = {e.op for e in session.findings()}
        sem = "" if host == "musl" else "sem."
        kept = {(e.access, e.path.rpartition("/")[2]) for e in session.findings() if "-fixed" in e.path}
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert kept == {("delete", f"{name}-fixed"), ("write", f"{sem}{name}-fixed"), ("write", f"{sem}{name}-fixed2")}
    if done.stdout != "ok\n" and os.geteuid() == 0:
        pytest.skip(f"NOT CHECKED: open_by_handle_at: {done.stdout.splitlines()[0]}")
    assert {"shm_open", "shm_unlink", "sem_open", "sem_unlink", "openat2", "sendto", "sendmsg"} <= found


@pytest.mark.parametrize("call", ["tmpfile", "tmpfile64"])
def test_temporary_file_where_nothing_may_be_written(tmp_path: Path, call: str) -> None:
    source = tmp_path / "temporary.c"
    source.write_text(f"#include <stdio.h>\nint main(void) {{ return {call}() ? 0 : 7; }}\n")
    program = compile_c(source, tmp_path / "temporary")
    with Session("r:/=+") as session:
        assert session.run(program).returncode == 7
        assert [(e.op, e.access, e.path) for e in session.findings()] == [("tmpfile", "create", "/tmp")]
