"""Every row of ``csrc/calls.table``: the call is made on an allowed, a hidden, a read-only and a redirected path."""

from __future__ import annotations

import errno
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tracelib_session import SOURCE, Event, Session, compile_c

sys.path.insert(0, str(SOURCE / "csrc"))
import gen_calls

ROWS = gen_calls.read(SOURCE / "csrc" / "calls.table")
BY_NAME = {row.name: row for row in ROWS if row.form != "not"}
TESTED = [row for row in ROWS if row.test]
SCENES = ("allowed", "hidden", "readonly", "redirected")
WRITES = gen_calls.ACCESS[5:]


def base(row: gen_calls.Row) -> gen_calls.Row:
    return BY_NAME[row.target] if row.target else row


def access_of(row: gen_calls.Row) -> str:
    """The kind of access that the test expression makes to P."""
    accesses: str = base(row).paths.split("=")[1].split()[0]
    name = base(row).name
    return "create" if name == "creat" else accesses.split(",")[0]


def needs(row: gen_calls.Row) -> str:
    name, access = base(row).name, access_of(row)
    if access == "create" and name != "creat":
        return "nothing"
    if access == "list" or name in ("rmdir", "chdir"):
        return "directory"
    if access == "readlink":
        return "link"
    if access == "exec":
        return "program"
    if name == "dlopen":
        return "library"
    return "file"


def prepare(row: gen_calls.Row, p: Path) -> None:
    kind = needs(row)
    if kind == "directory":
        p.mkdir()
    elif kind == "link":
        p.symlink_to("nowhere")
    elif kind == "program":
        shutil.copy("/bin/true", p)
    elif kind == "library":
        shutil.copy(next(Path("/lib").glob("*/libm.so.6")), p)
    elif kind == "file":
        p.write_text("content")


@dataclass
class Outcome:
    """What a scene gave: result of each call and the events."""

    dir: Path
    results: dict[str, int]
    events: list[Event]
    left: set[str]


@pytest.fixture(scope="module")
def helper() -> Iterator[Path]:
    top = Path(tempfile.mkdtemp(prefix="tracelib-calls-"))
    top.chmod(0o755)
    (top / "calls_tests.inc").write_text(gen_calls.tests(ROWS))
    yield compile_c(SOURCE / "tests" / "calls" / "main.c", top / "calls", f"-I{top}", "-Wno-nonnull")
    shutil.rmtree(top)


@pytest.fixture(scope="module")
def outcomes(helper: Path) -> Iterator[dict[str, Outcome]]:
    top = Path(tempfile.mkdtemp(prefix="tracelib-scenes-"))
    top.chmod(0o755)
    found = {}
    for scene in (*SCENES, "untraced"):
        place = top / ("target" if scene == "redirected" else scene)
        place.mkdir()
        for row in TESTED:
            prepare(row, place / row.name)
        asked = top / scene
        lines = "".join(f"{row.name} {asked / row.name} {asked / row.name}.q\n" for row in TESTED)
        with Session(
            f"rw:{top}/hidden=-",
            f"w:{top}/readonly=-",
            f"rw:{top}/redirected=>{top}/target",
            "rw:/=+",
        ) as session:
            if scene != "redirected":  # redirects change how everything is resolved: keep them out of the other scenes
                session.__exit__()
                session = Session(f"rw:{top}/hidden=-", f"w:{top}/readonly=-", "rw:/=+")
            if scene == "untraced":
                done = subprocess.run([helper], input=lines, capture_output=True, text=True, timeout=60)
            else:
                done = session.run(helper, input=lines)
            assert done.returncode == 0, done.stderr
            results = {name: int(error) for name, error in (line.split() for line in done.stdout.splitlines())}
            left = {str(p.relative_to(place)) for p in place.rglob("*")}
            found[scene] = Outcome(asked, results, session.findings(), left)
            session.__exit__()
    yield found
    shutil.rmtree(top)


def about(event: Event, row: gen_calls.Row) -> bool:
    return Path(event.path).name in (row.name, f"{row.name}.q", f"{row.name}XXXXXX")


def expected_refusal(row: gen_calls.Row, scene: str) -> int:
    access = access_of(row)
    if scene == "hidden":
        return errno.EACCES if access == "create" else errno.ENOENT
    return errno.EACCES if access in WRITES else 0


@pytest.mark.parametrize("row", TESTED, ids=lambda r: r.name)
def test_allowed_call_does_what_it_does_untraced(row: gen_calls.Row, outcomes: dict[str, Outcome]) -> None:
    assert outcomes["allowed"].results[row.name] == outcomes["untraced"].results[row.name]
    assert not [e for e in outcomes["allowed"].events if Path(e.path).stem == row.name]


@pytest.mark.parametrize("row", TESTED, ids=lambda r: r.name)
def test_hidden_path_does_not_exist(row: gen_calls.Row, outcomes: dict[str, Outcome]) -> None:
    hidden = outcomes["hidden"]
    error = hidden.results[row.name]
    assert error == expected_refusal(row, "hidden") or (base(row).name == "dlopen" and error)
    events = [e for e in hidden.events if about(e, row) and e.op == base(row).name]
    if base(row).name not in ("glob", "scandir", "scandirat", "ftw", "nftw", "fts_open"):  # made of other calls
        assert [e.access for e in events] == [access_of(row)], events
        assert events[0].outcome == ("deny" if access_of(row) == "create" else "hide")
        assert events[0].error == expected_refusal(row, "hidden")


@pytest.mark.parametrize("row", TESTED, ids=lambda r: r.name)
def test_readonly_path_is_read_and_not_changed(row: gen_calls.Row, outcomes: dict[str, Outcome]) -> None:
    readonly, refused = outcomes["readonly"], expected_refusal(row, "readonly")
    assert readonly.results[row.name] == (refused or outcomes["untraced"].results[row.name])
    events = [e for e in readonly.events if about(e, row) and e.op == base(row).name]
    assert bool(events) == bool(refused)
    assert all(e.outcome == "deny" for e in events)


def test_nothing_was_changed_where_writing_is_refused(outcomes: dict[str, Outcome]) -> None:
    there = {row.name for row in TESTED if needs(row) != "nothing"}
    assert outcomes["readonly"].left == there
    assert outcomes["hidden"].left == there


@pytest.mark.parametrize("row", TESTED, ids=lambda r: r.name)
def test_redirected_path_is_the_target(row: gen_calls.Row, outcomes: dict[str, Outcome]) -> None:
    assert outcomes["redirected"].results[row.name] == outcomes["untraced"].results[row.name]


def test_redirected_changes_happen_at_the_target(outcomes: dict[str, Outcome]) -> None:
    def made_up(names: set[str]) -> set[str]:
        return {n for n in names if not n.startswith(("mkstemp", "mkostemp", "mkdtemp"))}

    assert made_up(outcomes["redirected"].left) == made_up(outcomes["untraced"].left)
    assert not outcomes["redirected"].dir.exists()
