"""The library is a guest: whatever its host does, the host goes on as if it were alone, and stays traced."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tracelib_session import SOURCE, Session, compile_c

GUEST = SOURCE / "tests" / "guest"
CASES = re.findall(r"CASE\((\w\w+)\)", (GUEST / "guest.c").read_text().split("cases[] = {")[1])


@pytest.fixture(scope="module")
def top() -> Iterator[Path]:
    place = Path(tempfile.mkdtemp(prefix="tracelib-guest-"))
    place.chmod(0o755)
    compile_c(GUEST / "guest.c", place / "guest", "-pthread", "-lrt", "-Wno-format-truncation", "-Wno-nonnull")
    compile_c(GUEST / "guest.c", place / "guest-asan", "-pthread", "-fsanitize=address,undefined", "-Wno-nonnull",
              "-Wno-format-truncation")  # fmt: skip
    compile_c(GUEST / "early.c", place / "early.so", "-shared", "-fPIC", "-fno-builtin")
    yield place
    shutil.rmtree(place)


@pytest.fixture
def tree(top: Path) -> Iterator[Path]:
    place = Path(tempfile.mkdtemp(dir=top))
    place.chmod(0o755)
    for name in ("seen", "hidden"):
        (place / name).mkdir()
        (place / name / "file").touch()
    yield place


@pytest.fixture
def session(tree: Path) -> Iterator[Session]:
    with Session(f"rw:{tree}/hidden=-", "rw:/=+") as session:
        yield session


@pytest.mark.parametrize("case", CASES)
def test_host_goes_on_and_stays_traced(case: str, top: Path, tree: Path, session: Session) -> None:
    done = session.run(top / "guest", case, tree)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ok\n", "")


@pytest.mark.parametrize("case", [c for c in CASES if c not in ("bad_pointers", "close_all")])
def test_sanitizer_built_host(case: str, top: Path, tree: Path, session: Session) -> None:
    env = {**os.environ, "ASAN_OPTIONS": "verify_asan_link_order=0:detect_leaks=0"}
    done = session.run(top / "guest-asan", case, tree, env=env)
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr


def test_constructor_and_allocator_that_come_first(top: Path, tree: Path, session: Session) -> None:
    env = {**session.env, "LD_PRELOAD": f"{session.library}:{top / 'early.so'}", "EARLY_HIDDEN": f"{tree}/hidden/file"}
    done = session.run("env", f"LD_PRELOAD={env['LD_PRELOAD']}", f"EARLY_HIDDEN={env['EARLY_HIDDEN']}", "/bin/ls", tree)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "seen\n"


def test_other_preload_entries_are_kept(top: Path, session: Session) -> None:
    other = str(top / "early.so")
    done = session.run("env", f"LD_PRELOAD={other}", "sh", "-c", "env -i LD_PRELOAD=$LD_PRELOAD env")
    assert done.stdout.strip() == f"LD_PRELOAD={session.library}:{other}"


def test_exec_chain_names_each_program(session: Session) -> None:
    session.run("sh", "-c", "env true; :")
    executed = [e.path for e in session.events("process")]
    assert [Path(p).name for p in executed] == ["dash", "env", "true"]


def test_a_static_program_is_named(top: Path, session: Session) -> None:
    source = top / "static.c"
    source.write_text("int main(void) { return 0; }\n")
    static = compile_c(source, top / "static", "-static")
    assert session.run("env", static).returncode == 0
    assert [(e.path, e.asked) for e in session.events("untraced")] == [(str(static), "static")]


def test_script_interpreter_that_is_hidden_is_missing(tree: Path, session: Session) -> None:
    shutil.copy("/bin/sh", tree / "hidden" / "sh")
    script = tree / "script"
    script.write_text(f"#!{tree}/hidden/sh\necho ran\n")
    script.chmod(0o755)
    done = session.run("env", script)
    assert done.returncode == 127
    assert "ran" not in done.stdout
    assert [e.path for e in session.findings()] == [f"{tree}/hidden/sh"]


def test_path_lookup_skips_what_is_hidden(tree: Path, session: Session) -> None:
    for name, text in (("hidden", "wrong"), ("seen", "right")):
        program = tree / name / "tool"
        program.write_text(f"echo {text}\n")  # without "#!": the C library gives it to the shell
        program.chmod(0o755)
    env = {**os.environ, "PATH": f"{tree}/hidden:{tree}/seen:/usr/bin:/bin"}
    assert session.run("/usr/bin/env", "tool", env=env).stdout == "right\n"


def test_library_without_session_does_nothing(top: Path, session: Session) -> None:
    shutil.copy(session.library, top / "alone.so")
    done = session.run("/usr/bin/env", f"LD_PRELOAD={top}/alone.so", "cat", "/etc/hostname", env=dict(os.environ))
    assert done.returncode == 0


def test_audit_refuses_nothing_and_remembers(tree: Path) -> None:
    with Session(f"rw:{tree}/hidden=-", "rw:/=+", audit=True) as session:
        done = session.run("cat", tree / "hidden" / "file", tree / "seen" / "file")
        assert done.returncode == 0
        assert {(e.path, e.outcome) for e in session.findings()} == {(f"{tree}/hidden/file", "hide")}


def test_log_has_every_access(tree: Path) -> None:
    with Session(f"rw:{tree}/hidden=-", "rw:/=+", log=True) as session:
        session.run("sh", "-c", f"cat {tree}/seen/file; cat {tree}/hidden/file; mkdir {tree}/new")
        log = {(e.access, e.path, e.outcome, e.error) for e in session.events("access")}
    assert ("read", f"{tree}/seen/file", "allow", 0) in log
    assert ("read", f"{tree}/hidden/file", "hide", 2) in log
    assert ("create", f"{tree}/new", "allow", 0) in log
