"""What a trace remembers of files that were rightly used, and of rules that decided something."""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path

import pytest
from tracelib_session import Session, compile_c

from porttrace._core import ffi, lib
from porttrace.policy import Ownership


@pytest.fixture
def top(open_tmp: Path) -> Path:
    for name in ("bin", "lib", "include", "work"):
        (open_tmp / name).mkdir()
    for name in ("include/mine.h", "include/also.h", "include/other.h", "include/nobody.h"):
        (open_tmp / name).write_text("x\n")
    return open_tmp


def session(top: Path, *entries: str, **more: str) -> Session:
    owned = {"include/mine.h": "mine", "include/also.h": "mine", "include/other.h": "other", **more}
    owners = Ownership([(os.fsencode(top / path), port) for path, port in owned.items()])
    return Session(
        f"rw:{top}/work=+", *entries, f"rw:{top}=?", "r:/=+", "w:/dev=+",
        owners=owners, closure=["mine", "link", "lib"], prefix=top,
    )  # fmt: skip


def used(session: Session, top: Path) -> list[tuple[str, str]]:
    return sorted((os.path.relpath(e.path, top), e.access) for e in session.events("used"))


def test_each_file_and_access_is_told_once_whoever_asks(top: Path) -> None:
    with session(top) as s:
        script = 'for i in 1 2 3; do cat "$1/mine.h"; test -e "$1/also.h"; grep -c x "$1/mine.h"; done'
        s.run("/bin/sh", "-c", script, "sh", top / "include")
        found = used(s, top)
        reads = [e for e in s.events("used") if e.path.endswith("mine.h") and e.access == "read"]
    assert found.count(("include/mine.h", "read")) == 1
    assert found.count(("include/also.h", "stat")) == 1
    # one of six programs told it first; the others only counted
    assert reads[0].count == 6


def test_what_is_hidden_unowned_or_missing_is_no_use(top: Path) -> None:
    (top / "include/gone.h").touch()
    with session(top, **{"include/gone.h": "mine"}) as s:
        (top / "include/gone.h").unlink()
        s.run("/bin/cat", top / "include/other.h", top / "include/nobody.h", top / "include/gone.h", top / "include")
        assert used(s, top) == []


def test_the_owner_of_a_link_is_used_with_what_it_leads_to(top: Path) -> None:
    (top / "include/link.h").symlink_to("mine.h")
    (top / "lib/dir").symlink_to("../include")
    with session(top, **{"include/link.h": "link", "lib/dir": "link"}) as s:
        s.run("/bin/cat", top / "include/link.h")
        first = used(s, top)
        s.run("/bin/cat", top / "lib/dir/also.h")
        second = used(s, top)
    assert ("include/link.h", "readlink") in first and ("include/mine.h", "read") in first
    assert ("lib/dir", "readlink") not in first
    assert ("lib/dir", "readlink") in second and ("include/also.h", "read") in second


def test_programs_and_the_libraries_that_their_loader_opened(top: Path) -> None:
    (top / "answer.c").write_text("int answer(void) { return 42; }\n")
    (top / "main.c").write_text("int answer(void); int main(void) { return answer() != 42; }\n")
    compile_c(top / "answer.c", top / "lib/libanswer.so.1", "-shared", "-fPIC", "-Wl,-soname,libanswer.so.1")
    program = compile_c(top / "main.c", top / "bin/main", str(top / "lib/libanswer.so.1"), "-Wl,-rpath,$ORIGIN/../lib")
    with session(top, **{"lib/libanswer.so.1": "lib", "bin/main": "mine"}) as s:
        assert s.run("/bin/sh", "-c", f"{program}; exit $?").returncode == 0
        found = used(s, top)
    assert ("bin/main", "exec") in found
    assert ("lib/libanswer.so.1", "read") in found


def test_static_programs_are_told_by_the_supervisor(top: Path) -> None:
    """Through the command line tool, which has all tiers."""
    (top / "cat.c").write_text(
        "#include <fcntl.h>\n#include <unistd.h>\n"
        "int main(int n, char **v)\n{ char c[9]; int fd = open(v[n - 1], O_RDONLY); "
        "return fd < 0 || read(fd, c, 9) < 1; }\n"
    )
    from porttrace.filemap import Action, Filemap, Rule
    from porttrace.policy import Policy
    from porttrace.session import Session as Real

    program = compile_c(top / "cat.c", top / "work/cat", "-static")
    owners = Ownership([(os.fsencode(top / "include/mine.h"), "mine")])
    read = Filemap(
        [Rule(os.fsencode(top / "work"), Action.ALLOW), Rule(os.fsencode(top), Action.ASK), Rule(b"/", Action.ALLOW)]
    )
    with Real() as real:
        if "supervisor" not in real.tiers:
            pytest.skip("this machine has no supervisor tier")
        trace = real.start(
            Policy(read=read, write=read, owners=owners, closure=frozenset({"mine"}), phase="build"), top
        )
        argv = [*trace.launch_argv, "/bin/sh", "-c", f"{program} {top}/include/mine.h"]
        subprocess.run(argv, check=True, timeout=30)
        result = trace.stop()
    assert result.phase == "build"
    assert result.used == {"mine": {str(top / "include/mine.h"): {"read"}}}
    assert os.fsencode(top / "work") in {path for path, _ in result.rules_used}


def rule_bits(s: Session, count: int) -> list[int]:
    import mmap

    with (s.dir / "events").open("r+b") as f:
        m = mmap.mmap(f.fileno(), 0)
    ev = ffi.cast("struct pt_events *", ffi.from_buffer(m))
    return [n for n in range(count) if lib.pt_events_rule_was_used(ev, n)]


def test_rules_that_decided_are_remembered(top: Path) -> None:
    (top / "include/mine.h").chmod(0o644)
    (top / "one").touch()
    (top / "two").touch()
    with session(top, f"r:{top}/one=+", f"r:{top}/two=+", f"r:{top}/hidden=-", f"r:{top}/listed=-") as s:
        # read map: 0 work, 1 one, 2 two, 3 hidden, 4 listed, 5 the ask of the prefix, 6 /
        s.run("/bin/true")
        assert not {1, 2, 3, 4, 5} & set(rule_bits(s, 7))
        s.run("/bin/cat", top / "one")
        assert {1, 2, 3, 4, 5} & set(rule_bits(s, 7)) == {1}
        s.run("/bin/cat", top / "hidden")
        assert {1, 2, 3, 4, 5} & set(rule_bits(s, 7)) == {1, 3}
        (top / "listed").touch()
        s.run("/bin/ls", top)
        assert {2, 4} & set(rule_bits(s, 7)) == {4}
        assert s.findings()


def test_a_rule_number_beyond_the_bits_counts_as_used(tmp_path: Path) -> None:
    assert lib.pt_events_create(os.fsencode(tmp_path / "events"), 0) == 0
    with (tmp_path / "events").open("r+b") as f:
        import mmap

        m = mmap.mmap(f.fileno(), 0)
    ev = ffi.cast("struct pt_events *", ffi.from_buffer(m))
    assert not lib.pt_events_rule_was_used(ev, 65535)
    assert lib.pt_events_rule_was_used(ev, 65536)
    threads = [threading.Thread(target=lib.pt_events_rule_used, args=(ev, n)) for n in (0, 63, 64, 65535, 70000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [n for n in range(65536) if lib.pt_events_rule_was_used(ev, n)] == [0, 63, 64, 65535]
