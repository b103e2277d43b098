"""Programs that need no look: as the list says, and believed only where nobody can make the name mean another file."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tracelib_session import LIBRARY, MUSL_LIBRARY, Session, compile_c

from porttrace._core import ffi, lib
from porttrace.filemap import Action, Filemap, Rule
from porttrace.places import known
from porttrace.policy import Image, Policy
from porttrace.programs import usual

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="on macOS a program is looked at for its protection: none is known"
)

ROOT = Rule(b"/", Action.ALLOW)


def program(image: Image, path: bytes) -> bytes | None:
    size = ffi.new("size_t *")
    to = lib.pt_image_program(image.pointer, path, len(path), size)
    return bytes(ffi.buffer(to, size[0])) if to else None


def parent(path: bytes) -> bytes:
    return path.rpartition(b"/")[0]


def ends(path: bytes) -> Iterator[bytes]:
    while True:
        yield path
        if usual()[path] == path:
            return
        path = usual()[path]


def test_each_leads_to_its_program() -> None:
    found = usual()
    for shell in (b"/usr/bin/sh", b"/bin/sh"):
        if os.path.realpath(parent(shell)) == parent(shell):
            assert shell in found
    for path in found:
        *_, last = ends(path)
        assert os.path.realpath(path) == last
        assert parent(path) == os.path.realpath(parent(path)), f"{path!r}: a link on the way"
        assert len(list(ends(path))) <= 5, "more links than the library follows"
        assert not Path(os.fsdecode(last)).stat().st_mode & (stat.S_ISUID | stat.S_ISGID)
        headers = subprocess.run(["readelf", "-lW", last], capture_output=True, check=True).stdout
        assert b"/ld-linux" in headers, f"{last!r} is no program of glibc's"


def test_what_the_library_cannot_enter_is_in_no_list(tmp_path: Path) -> None:
    def enters(file: Path) -> bool:
        return bool(lib.pt_library_enters(os.fsencode(file)))

    dynamic = compile_c(_source(tmp_path), tmp_path / "dynamic")
    assert enters(dynamic)
    dynamic.chmod(0o4755)
    assert not enters(dynamic), "set-user-ID"
    dynamic.chmod(0o755)
    (tmp_path / "link").symlink_to(dynamic)
    assert not enters(tmp_path / "link"), "where it leads is judged by itself"
    assert not enters(compile_c(_source(tmp_path), tmp_path / "static", "-static"))
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    assert not enters(script)
    assert not enters(tmp_path)
    assert not enters(tmp_path / "absent")


def test_the_image_gives_back_what_was_put_in() -> None:
    programs = {b"/usr/bin/p%d" % i: b"/usr/bin/p%d" % (i + i % 2) for i in range(1000)}
    places = {b"/usr/bin": b"/usr/bin"}
    image = Image(Policy(Filemap([ROOT]), Filemap(), places=places, programs=programs).compile(), verify=True)
    assert {path: program(image, path) for path in programs} == programs
    assert program(image, b"/usr/bin") is None, "a place is no program"
    assert program(image, b"/usr/bin/p1000") is None


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """A static program, which the library cannot enter, a link to it, and a link to its directory."""
    top = Path(os.path.realpath(tmp_path))
    (top / "bin").mkdir()
    (top / "usr").symlink_to("bin")
    compile_c(_source(top), top / "bin/static", "-static")
    (top / "bin/link").symlink_to("static")
    return top


@pytest.fixture
def looked_at(top: Path) -> Callable[..., bool]:
    """Is the program looked at, though the image says that it need not be? What is looked at is told."""
    told = {top / "bin/static": top / "bin/static", top / "bin/link": top / "bin/static"}
    places = {top / "bin": top / "bin", top / "usr": top / "bin"}

    def run(
        name: str, *entries: str, told: dict[Path, Path] = told, places: dict[Path, Path] = places, **more: bool
    ) -> bool:
        with Session(*entries, "r:/=+", places=_bytes(places), programs=_bytes(told), **more) as session:  # type: ignore[arg-type]
            done = session.run("sh", "-c", f"{top}/{name}")
            assert done.returncode == 0, done
            assert session.events("process", "exec")
            return bool(session.events("untraced"))

    return run


def test_the_image_is_believed_where_nobody_can_change_the_name(top: Path, looked_at: Callable[..., bool]) -> None:
    assert looked_at("bin/static", told={}), "what no list has is looked at"
    assert looked_at("bin/static", places={}), "so is what lies in a directory that is not known"
    for name in ("bin/static", "bin/link", "usr/static", "usr/link"):
        assert not looked_at(name), name


@pytest.mark.parametrize("writable", ["", "/bin", "/bin/static", "/bin/link", "/usr"])
def test_what_somebody_could_exchange_is_looked_at(top: Path, looked_at: Callable[..., bool], writable: str) -> None:
    name = "usr/link"
    assert not looked_at(name)
    assert looked_at(name, f"w:{top}{writable}=+")


def test_what_stands_on_the_way_of_links_is_asked_too(top: Path, looked_at: Callable[..., bool]) -> None:
    (top / "etc").mkdir()
    (top / "etc/hop").symlink_to(top / "bin/static")
    (top / "bin/far").symlink_to(top / "etc/hop")
    steps = [top / "bin/far", top / "etc/hop", top / "bin/static"]
    told = dict(zip(steps, [*steps[1:], steps[-1]], strict=True))
    places = {top / "bin": top / "bin", top / "etc": top / "etc"}
    assert not looked_at("bin/far", told=told, places=places)
    assert looked_at("bin/far", f"w:{top}/etc/hop=+", told=told, places=places)


def test_a_ring_of_links_ends(top: Path, looked_at: Callable[..., bool]) -> None:
    ring = {top / "bin/static": top / "bin/link", top / "bin/link": top / "bin/static"}
    assert looked_at("bin/static", told=ring)


@pytest.mark.parametrize("mode", ["log", "audit"])
def test_a_log_and_an_audit_look_at_everything(looked_at: Callable[..., bool], mode: str) -> None:
    assert looked_at("bin/static", **{mode: True})


def test_what_is_hidden_stays_hidden(top: Path) -> None:
    told = _bytes({top / "bin/static": top / "bin/static"})
    with Session(f"r:{top}/bin/static=-", "r:/=+", places=_bytes({top / "bin": top / "bin"}), programs=told) as session:
        done = session.run("sh", "-c", f"{top}/bin/static")
        assert done.returncode == 127
        assert [event.outcome for event in session.events("finding")] == ["hide"]


def test_a_thread_of_its_own_could_write_another_name(tmp_path: Path) -> None:
    """Between our look and the kernel's: what the kernel is given is looked at where there is one."""
    top = Path(os.path.realpath(tmp_path))
    static = compile_c(_source(top), top / "static", "-static")
    threads = top / "threads.c"
    threads.write_text(THREADS)
    starter = compile_c(threads, top / "threads", "-pthread")
    known_here = _bytes({top: top})
    with Session("r:/=+", places=known_here, programs=_bytes({static: static})) as session:
        assert session.run(starter, static).returncode == 0
        assert session.events("untraced"), "with threads it is looked at"


def test_a_start_marks_the_rule_that_allows_it() -> None:
    """A child that has just been forked marks nothing in memory: the start's own record says it."""
    shell = os.path.realpath("/bin/true")
    with Session(f"r:{shell}=+", "r:/=+", places=known(), programs=usual()) as session:
        assert session.run("sh", "-c", "/bin/true; :").returncode == 0
        assert 0 in {event.rule for event in session.events("exec")}
    with Session(f"r:{shell}=+", "r:/=+", places=known(), programs=usual()) as session:
        assert session.run("sh", "-c", "/bin/false; :").returncode == 0
        assert 0 not in {event.rule for event in session.events("exec")}


def test_a_rule_that_a_start_has_used_is_no_unused_one() -> None:
    from porttrace.session import Session as Real

    read = Filemap([Rule(os.fsencode(os.path.realpath("/bin/true")), Action.ALLOW, origin="mine"), ROOT])
    with Real() as real:
        trace = real.start(Policy(read=read, write=Filemap(), phase="build"), Path("/"))
        subprocess.run([*trace.launch_argv, "/bin/sh", "-c", "/bin/true; :"], check=True, timeout=30)
        result = trace.stop()
    assert "mine" in {origin for _, origin in result.rules_used}


@pytest.mark.parametrize("library", [LIBRARY, MUSL_LIBRARY], ids=lambda path: path.name)
def test_the_loader_maps_the_library_without_a_hole(library: Path) -> None:
    """Which would cost each start one call more: the loader closes it."""
    if not library.exists():
        pytest.skip(f"NOT CHECKED: {library.name} was not built")
    headers = subprocess.run(["readelf", "-lW", library], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in headers.splitlines() if line.strip().startswith("LOAD")]
    (start, size), (second, _) = ((int(row[2], 16), int(row[5], 16)) for row in rows)
    assert (start + size + 4095) // 4096 * 4096 == second // 4096 * 4096


THREADS = """
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>
static void *wait_for_ever(void *none) { for (;;) pause(); return none; }
int main(int argc, char **argv)
{
	pthread_t thread;
	if (argc != 2 || pthread_create(&thread, NULL, wait_for_ever, NULL))
		return 2;
	pid_t child = vfork();
	if (!child) {
		execv(argv[1], argv + 1);
		_exit(3);
	}
	int status;
	return waitpid(child, &status, 0) != child || status;
}
"""


def _bytes(paths: dict[Path, Path]) -> dict[bytes, bytes]:
    return {os.fsencode(path): os.fsencode(to) for path, to in paths.items()}


def _source(top: Path) -> Path:
    source = top / "program.c"
    source.write_text("int main(void) { return 0; }\n")
    return source
