"""What may be written and not read gets no name by which it could be read: by the library, and by the supervisor."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tracelib_session import SOURCE, compile_c
from tracelib_session import Session as Held

from porttrace.filemap import Action, Filemap, Rule
from porttrace.identity import Identity
from porttrace.policy import Policy
from porttrace.session import Session
from porttrace.supervisor import supervisor_available

C = SOURCE / "tests/calls/unread.c"
WAYS = re.findall(r"WAY\((\w+_\w+)\)", C.read_text())
#: What was made without a name was never hidden.
REFUSED = [way for way in WAYS if way[0] == "o" and way != "o_made"]
Told = tuple[str, str]
Run = Callable[[str, Path, bool], tuple[int, list[Told]]]


@pytest.fixture
def top() -> Iterator[Path]:
    place = Path(tempfile.mkdtemp(prefix="unread-", dir="/var/tmp"))
    place.chmod(0o755)
    for name, file in (("writeonly", "secret"), ("seen", "plain")):
        (place / name).mkdir()
        (place / name / file).write_text(file)
        if os.geteuid() == 0:
            shutil.chown(place / name, "macports")
            shutil.chown(place / name / file, "macports")
    yield place
    shutil.rmtree(place)


@pytest.fixture(scope="module")
def programs() -> Iterator[dict[str, Path]]:
    place = Path(tempfile.mkdtemp(dir="/var/tmp"))
    place.chmod(0o755)
    flags = {"library": [], "supervisor": ["-static"]}
    yield {name: compile_c(C, place / name, "-Wno-format-truncation", *more) for name, more in flags.items()}
    shutil.rmtree(place)


@pytest.fixture(params=["library", "supervisor"])
def run(request: pytest.FixtureRequest, programs: dict[str, Path]) -> Run:
    program = programs[request.param]

    def under_the_library(way: str, top: Path, audit: bool) -> tuple[int, list[Told]]:
        with Held(f"r:{top}/writeonly=-", "rw:/=+", audit=audit) as session:
            done = session.run(program, way, top)
            told = [(event.access, event.path) for event in session.findings() if event.outcome == "hide"]
        return int(done.stdout), told

    def under_the_supervisor(way: str, top: Path, audit: bool) -> tuple[int, list[Told]]:
        read = Filemap([Rule(os.fsencode(top / "writeonly"), Action.DENY), Rule(b"/", Action.ALLOW)])
        policy = Policy(read=read, write=Filemap([Rule(os.fsencode(top), Action.ALLOW)]), audit=audit)
        who = Identity.named("macports") if os.geteuid() == 0 else Identity.current()
        with Session(who) as session:
            trace = session.start(policy, top)
            words = [*trace.launch_argv, str(program), way, str(top)]
            done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
            found = trace.stop().findings
        for finding in found:
            assert finding.fix and finding.fix.endswith(f"trace.read-append {finding.path}")
        return int(done.stdout), [(finding.access, finding.path) for finding in found]

    if request.param == "library":
        return under_the_library
    if not supervisor_available():
        pytest.skip("NOT CHECKED: no seccomp user notification in this kernel")
    return under_the_supervisor


def state(top: Path) -> dict[str, tuple[int, int]]:
    return {str(p.relative_to(top)): (p.lstat().st_ino, p.lstat().st_nlink) for p in top.rglob("*") if not p.is_dir()}


@pytest.mark.parametrize("way", REFUSED)
def test_it_gets_no_name_by_which_it_could_be_read(way: str, run: Run, top: Path) -> None:
    before = state(top)
    error, told = run(way, top, False)
    assert error == errno.ENOENT
    hidden = top / "writeonly" / ("inside.d" if way == "o_directory" else "secret")
    assert told == [("read", str(hidden))]
    after = state(top)
    after.pop("seen/outside.link", None)
    assert after == before


@pytest.mark.parametrize("way", [way for way in WAYS if way not in REFUSED])
def test_what_shows_nothing_goes_on(way: str, run: Run, top: Path) -> None:
    before = state(top)
    assert run(way, top, False) == (0, [])
    assert state(top) != before


@pytest.mark.parametrize("way", [way for way in REFUSED if way != "o_linkat_empty"])  # which not everybody may
def test_an_audit_tells_it_and_lets_it_be(way: str, run: Run, top: Path) -> None:
    before = state(top)
    error, told = run(way, top, True)
    assert (error, [access for access, _ in told]) == (0, ["read"])
    assert state(top) != before or way == "o_directory"


@pytest.mark.parametrize("way", WAYS)
def test_without_porttrace_it_goes(way: str, programs: dict[str, Path], top: Path) -> None:
    done = subprocess.run([programs["library"], way, top], capture_output=True, text=True, check=False)
    assert done.stdout == "0\n" or way == "o_linkat_empty"
