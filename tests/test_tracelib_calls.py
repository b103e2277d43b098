"""Every row of ``csrc/calls.table``: the call is made on an allowed, a hidden, a read-only and a redirected path;
through a link, relative to a directory, with and without the flag that follows links, on a descriptor alone.

What a row says is held against what strace knows of the system call of that name, and against what the call changes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
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
SCENES = ("allowed", "hidden", "readonly", "writeonly", "redirected")
TWO = [row for row in TESTED if len(re.findall(r"\b[PQ]\b", row.test)) == 2]
WRITES = gen_calls.ACCESS[5:]
OF_THE_LOADER = ("dlopen", "dlmopen")  # which has no errno
MADE_OF_OTHERS = ("glob", "scandir", "scandirat", "ftw", "nftw", "fts_open")


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
    if name in OF_THE_LOADER:
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
        if base(row).name == "removexattr":  # of links there are none of the user's
            with contextlib.suppress(OSError):
                os.setxattr(p, "user.t", b"v")


def state(place: Path) -> dict[str, tuple[int, ...]]:
    """What a call could change, of each name below: content and attributes show in the time of the last change."""
    return {
        str(p.relative_to(place)): (st.st_mode, st.st_size, st.st_nlink, st.st_mtime_ns, st.st_ctime_ns)
        for p in place.rglob("*")
        for st in [p.lstat()]
        if not p.is_dir() or p.is_symlink()  # a directory's own times are its entries'
    } | {str(p.relative_to(place)): (p.stat().st_mode,) for p in place.rglob("*") if p.is_dir() and not p.is_symlink()}


@dataclass
class Outcome:
    """What a scene gave: result of each call and the events."""

    dir: Path
    results: dict[str, int]
    events: list[Event]
    before: dict[str, tuple[int, ...]]
    left: dict[str, tuple[int, ...]]


@pytest.fixture(scope="module")
def helper() -> Iterator[Path]:
    top = Path(tempfile.mkdtemp(prefix="tracelib-calls-"))
    top.chmod(0o755)
    (top / "calls_tests.inc").write_text(gen_calls.tests(ROWS))
    yield compile_c(SOURCE / "tests" / "calls" / "main.c", top / "calls", f"-I{top}", "-Wno-nonnull")
    shutil.rmtree(top)


@pytest.fixture(scope="module", params=["first", "known"])
def outcomes(request: pytest.FixtureRequest, helper: Path) -> Iterator[dict[str, Outcome]]:
    """Each call is a process's first, or one in a directory that it knows."""
    known = request.param == "known"
    top = Path(tempfile.mkdtemp(prefix="tracelib-scenes-"))
    top.chmod(0o755)
    found = {}
    for scene in (*SCENES, "untraced"):
        place = top / ("target" if scene == "redirected" else scene)
        place.mkdir()
        for row in TESTED:
            prepare(row, place / row.name)
        before = state(place)
        asked = top / scene
        mode = {"hidden": "known", "writeonly": "changed"}.get(scene, "met") if known else "-"
        lines = "".join(f"{row.name} {mode} {asked / row.name} {asked / row.name}.q\n" for row in TESTED)
        with Session(
            f"rw:{top}/hidden=-",
            f"w:{top}/readonly=-",
            f"rw:{top}/redirected=>{top}/target",
            "rw:/=+",
        ) as session:
            if scene != "redirected":  # redirects change how everything is resolved: keep them out of the other scenes
                session.__exit__()
                session = Session(f"rw:{top}/hidden=-", f"w:{top}/readonly=-", f"r:{top}/writeonly=-", "rw:/=+")
            if scene == "untraced":
                done = subprocess.run([helper], input=lines, capture_output=True, text=True, timeout=60)
            else:
                done = session.run(helper, input=lines)
            assert done.returncode == 0, done.stderr
            results = {name: int(error) for name, error in (line.split() for line in done.stdout.splitlines())}
            left = state(place)
            found[scene] = Outcome(asked, results, session.findings(), before, left)
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


def answered(row: gen_calls.Row, untraced: int) -> int:
    """What is answered where nothing about the paths is refused."""
    return errno.EPERM if base(row).refused == "1" else untraced


@pytest.mark.parametrize("row", TESTED, ids=lambda r: r.name)
def test_allowed_call_does_what_it_does_untraced(row: gen_calls.Row, outcomes: dict[str, Outcome]) -> None:
    assert outcomes["allowed"].results[row.name] == answered(row, outcomes["untraced"].results[row.name])
    assert not [e for e in outcomes["allowed"].events if Path(e.path).stem == row.name]


@pytest.mark.parametrize("row", TESTED, ids=lambda r: r.name)
def test_hidden_path_does_not_exist(row: gen_calls.Row, outcomes: dict[str, Outcome]) -> None:
    hidden = outcomes["hidden"]
    error = hidden.results[row.name]
    assert error == expected_refusal(row, "hidden") or (base(row).name in OF_THE_LOADER and error)
    events = [e for e in hidden.events if about(e, row) and e.op == base(row).name]
    if base(row).name not in MADE_OF_OTHERS:
        assert [e.access for e in events] == [access_of(row)], events
        assert events[0].outcome == ("deny" if access_of(row) == "create" else "hide")
        assert events[0].error == expected_refusal(row, "hidden")


@pytest.mark.parametrize("row", TESTED, ids=lambda r: r.name)
def test_readonly_path_is_read_and_not_changed(row: gen_calls.Row, outcomes: dict[str, Outcome]) -> None:
    readonly, refused = outcomes["readonly"], expected_refusal(row, "readonly")
    assert readonly.results[row.name] == (refused or answered(row, outcomes["untraced"].results[row.name]))
    events = [e for e in readonly.events if about(e, row) and e.op == base(row).name]
    assert bool(events) == bool(refused)
    assert all(e.outcome == "deny" for e in events)


@pytest.mark.parametrize("row", [r for r in TESTED if access_of(r) not in WRITES], ids=lambda r: r.name)
def test_what_may_be_written_only_is_not_read(row: gen_calls.Row, outcomes: dict[str, Outcome]) -> None:
    error = outcomes["writeonly"].results[row.name]
    assert error == errno.ENOENT or (base(row).name in OF_THE_LOADER and error)


def test_nothing_was_changed_where_writing_is_refused(outcomes: dict[str, Outcome]) -> None:
    there = {row.name for row in TESTED if needs(row) != "nothing"}
    for scene in ("readonly", "hidden"):
        assert set(outcomes[scene].left) == there
        changed = {n for n, was in outcomes[scene].before.items() if outcomes[scene].left[n] != was}
        assert not changed


@pytest.mark.parametrize("row", TESTED, ids=lambda r: r.name)
def test_redirected_path_is_the_target(row: gen_calls.Row, outcomes: dict[str, Outcome]) -> None:
    assert outcomes["redirected"].results[row.name] == answered(row, outcomes["untraced"].results[row.name])


def test_redirected_changes_happen_at_the_target(outcomes: dict[str, Outcome]) -> None:
    def made_up(names: set[str]) -> set[str]:
        return {n for n in names if not n.startswith(("mkstemp", "mkostemp", "mkdtemp"))}

    assert made_up(set(outcomes["redirected"].left)) == made_up(set(outcomes["untraced"].left))
    assert not outcomes["redirected"].dir.exists()


@dataclass
class Around:
    """The calls made in other ways: results by row."""

    at: dict[str, int]
    links: dict[str, int]
    links_untraced: dict[str, int]
    flagged: dict[str, int]
    flagged_untraced: dict[str, int]
    second: dict[str, int]
    second_events: list[Event]
    links_events: list[Event]
    at_events: list[Event]
    second_at_events: list[Event]
    second_at: dict[str, int]
    second_links: dict[str, int]
    second_links_untraced: dict[str, int]
    exists: dict[str, int]
    second_exists: dict[str, int]
    empty: dict[str, int]
    null: dict[str, int]
    null_untraced: dict[str, int]
    empty_log: dict[str, int]
    empty_log_untraced: dict[str, int]
    log: list[Event]
    shown: dict[str, int]
    shown_events: list[Event]


def linked(place: Path, hidden: Path, rows: list[gen_calls.Row]) -> None:
    """Links in `place` to what the rows need in `hidden`."""
    place.mkdir()
    hidden.mkdir(exist_ok=True)
    for row in rows:
        prepare(row, hidden / row.name)
        (place / row.name).symlink_to(hidden / row.name)


LIKE_PLAIN = ("readlink", "__readlink", "link", "rename")
"""Written by hand, and what the table says of their paths is all that there is to say."""


def path_args(row: gen_calls.Row) -> list[gen_calls.PathArg]:
    row = base(row)
    return row.path_args() if row.form == "plain" or row.name.startswith(LIKE_PLAIN) else []


def follows(row: gen_calls.Row, flagged: bool = False) -> bool:
    """Whether the row's call follows a link at the end of P, with its flag or without."""
    name, switched = base(row).name, gen_calls.switch(base(row))
    if switched[0] != "0":
        return switched[1] == flagged
    letters = re.findall(r"(?:^|\s)\w+(?:@\w+)?(?::(\w+))?[?=]", base(row).paths)[0]
    return "f" in letters or name.startswith(("glob", "execv", "execl", "execveat"))


#: Not those that make their last name, nor walks and searches: what they do with a link is in test_tracelib_walks.py.
LINKED = [
    r for r in TESTED if not base(r).name.startswith(("mk", "glob", "fts_open", "nftw", "ftw")) or r.name[:3] == "mkd"
]
LINKED = [r for r in LINKED if access_of(r) != "create" or base(r).name == "creat"]
NEW = [r for r in TESTED if any("x" in a.letters for a in path_args(r))]
TWO_NEW = [r for r in NEW if r in TWO]
EMPTY = [r for r in TESTED if any("e" in a.letters for a in path_args(r))]
NULL = [r for r in TESTED if any("0" in a.letters for a in path_args(r))]
SHOWN = [r for r in TESTED if any("r" in a.letters for a in path_args(r)[:1])]
FLAGGED = [r for r in TESTED if gen_calls.switch(base(r))[0] != "0"]


@pytest.fixture(scope="module")
def around(helper: Path) -> Iterator[Around]:
    top = Path(tempfile.mkdtemp(prefix="tracelib-around-"))
    top.chmod(0o755)
    events: dict[str, list[Event]] = {}

    def run(scene: str, rows: list[gen_calls.Row], mode: str, p: Path, q: Path, traced: bool = True) -> dict[str, int]:
        lines = "".join(f"{row.name} {mode} {p / row.name} {q / row.name}.q\n" for row in rows)
        if not traced:
            done = subprocess.run([helper], input=lines, capture_output=True, text=True, timeout=60, cwd="/")
        else:
            hidden = [f"rw:{top}/{name}hidden=-" for name in ("", "links-", "flagged-")]
            with Session(
                *hidden,
                f"r:{top}/writeonly=-",
                f"w:{top}/readonly=-",
                f"w:{top}/fixed=-",
                "rw:/=+",
                log=scene == "empty-log",
            ) as session:
                done = session.run(helper, input=lines, cwd="/")
                events[scene] = session.events("access") if scene == "empty-log" else session.findings()
        assert done.returncode == 0, (scene, done.stderr)
        return {name: int(error) for name, error in (line.split() for line in done.stdout.splitlines())}

    (top / "hidden").mkdir()
    (top / "seen").mkdir()
    for row in TESTED:
        prepare(row, top / "hidden" / row.name)
        prepare(row, top / "seen" / row.name)
    (top / "readonly").mkdir()
    (top / "fixed").mkdir()
    for row in NEW:
        (top / "readonly" / row.name).touch()
        (top / "readonly" / f"{row.name}.q").touch()
    for row in EMPTY:
        prepare(row, top / "fixed" / row.name)
    (top / "writeonly").mkdir()
    for row in SHOWN:
        prepare(row, top / "writeonly" / row.name)
    for name in ("olds", "olds-untraced", "links-q", "links-q-untraced"):
        (top / name).mkdir()
        for row in TWO:
            if name.startswith("olds"):
                prepare(row, top / name / row.name)
            else:
                target = "aim" if name.endswith("untraced") else "links-hidden"
                (top / name / f"{row.name}.q").symlink_to(f"../{target}/{row.name}")
    (top / "aim").mkdir()
    for row in TWO:
        (top / "aim" / row.name).touch()
    (top / "made").mkdir()
    (top / "untraced").mkdir()
    for scene, rows in (("links", LINKED), ("flagged", FLAGGED)):
        linked(top / scene, top / f"{scene}-hidden", rows)
        linked(top / f"{scene}-untraced", top / f"{scene}-target", rows)
    yield Around(
        at=run("at", TESTED, "at", top / "hidden", top / "hidden"),
        links=run("links", LINKED, "-", top / "links", top / "links"),
        links_events=events["links"],
        links_untraced=run("", LINKED, "-", top / "links-untraced", top / "links-untraced", traced=False),
        flagged=run("flagged", FLAGGED, "flag", top / "flagged", top / "flagged"),
        flagged_untraced=run("", FLAGGED, "flag", top / "flagged-untraced", top / "flagged-untraced", traced=False),
        second=run("second", TWO, "-", top / "seen", top / "hidden"),
        second_events=events["second"],
        at_events=events["at"],
        second_at=run("second-at", TWO, "at", top / "seen", top / "hidden"),
        second_at_events=events["second-at"],
        second_links=run("second-links", TWO, "-", top / "olds", top / "links-q"),
        second_links_untraced=run("", TWO, "-", top / "olds-untraced", top / "links-q-untraced", traced=False),
        second_exists=run("exists", TWO_NEW, "-", top / "seen", top / "readonly"),
        exists=run("exists", NEW, "-", top / "readonly", top / "readonly"),
        empty=run("empty", EMPTY, "empty", top / "fixed", top / "made"),
        null=run("null", NULL, "null", top / "seen", top / "seen"),
        null_untraced=run("", NULL, "null", top / "seen", top / "seen", traced=False),
        empty_log=run("empty-log", EMPTY, "empty", top / "seen", top / "made"),
        empty_log_untraced=run("", EMPTY, "empty", top / "seen", top / "untraced", traced=False),
        log=events["empty-log"],
        shown=run("shown", SHOWN, "-", top / "writeonly", top / "seen"),
        shown_events=events["shown"],
    )
    shutil.rmtree(top)


@pytest.mark.parametrize("row", TESTED, ids=lambda r: r.name)
def test_hidden_path_relative_to_a_directory_does_not_exist(row: gen_calls.Row, around: Around) -> None:
    error = around.at[row.name]
    assert error == expected_refusal(row, "hidden") or (base(row).name in OF_THE_LOADER and error)
    if base(row).name not in MADE_OF_OTHERS:
        found = [(e.access, Path(e.path).name) for e in around.at_events if about(e, row) and e.op == base(row).name]
        assert [access for access, _ in found] == [access_of(row)]
        assert not found[0][1].endswith(".q")  # the first path, not the second in its place


@pytest.mark.parametrize("row", LINKED, ids=lambda r: r.name)
def test_link_to_what_is_hidden(row: gen_calls.Row, around: Around) -> None:
    """Where the call follows it, the target does not exist; where it does not, the link is like any other."""
    error = around.links[row.name]
    if follows(row):
        assert error == expected_refusal(row, "hidden") or (base(row).name in OF_THE_LOADER and error)
    else:
        assert error == answered(row, around.links_untraced[row.name])
        assert not [e for e in around.links_events if about(e, row) and e.op == base(row).name]


@pytest.mark.parametrize("row", FLAGGED, ids=lambda r: r.name)
def test_flag_that_says_whether_a_link_is_followed(row: gen_calls.Row, around: Around) -> None:
    untraced = around.flagged_untraced[row.name]
    expected = expected_refusal(row, "hidden") if follows(row, True) else answered(row, untraced)
    assert around.flagged[row.name] == expected


@pytest.mark.parametrize("row", TWO, ids=lambda r: r.name)
def test_second_path_is_judged_too(row: gen_calls.Row, around: Around) -> None:
    second = base(row).path_args()[1]
    made = second.access == "create" or "m" in second.letters
    assert around.second[row.name] == (errno.EACCES if made else errno.ENOENT)
    assert around.second_at[row.name] == around.second[row.name]
    about_second = [e for e in around.second_at_events if about(e, row) and e.op == base(row).name]
    assert [Path(e.path).name for e in about_second] == [f"{row.name}.q"]
    links = around.second_links[row.name]  # to what is hidden; pivot_root follows it
    untraced = around.second_links_untraced[row.name]
    assert links == (errno.ENOENT if row.name == "pivot_root" else answered(row, untraced))
    assert [(e.access, e.outcome) for e in around.second_events if about(e, row) and e.op == base(row).name] == [
        (second.access, "deny" if made else "absent")  # there is no Q to be hidden
    ]


@pytest.mark.parametrize("row", NEW, ids=lambda r: r.name)
def test_what_is_there_is_said_to_be_there_before_it_is_said_to_be_readonly(row: gen_calls.Row, around: Around) -> None:
    judged_first = base(row).path_args()[0].access == "link"  # of what may not be changed there is no second name
    assert around.exists[row.name] == (errno.EACCES if judged_first else errno.EEXIST)


@pytest.mark.parametrize("row", TWO_NEW, ids=lambda r: r.name)
def test_the_second_that_is_there_is_said_to_be_there(row: gen_calls.Row, around: Around) -> None:
    assert around.second_exists[row.name] == errno.EEXIST


@pytest.mark.parametrize("row", SHOWN, ids=lambda r: r.name)
def test_what_may_be_written_only_gets_no_name_that_may_be_read(row: gen_calls.Row, around: Around) -> None:
    """Within its place it does; see test_unread.py."""
    assert around.shown[row.name] == errno.ENOENT
    found = [(e.access, e.outcome, e.path) for e in around.shown_events if e.op == base(row).name]
    assert [(*what, Path(path).parent.name) for *what, path in found] == [("read", "hide", "writeonly")]


@pytest.mark.parametrize("row", EMPTY, ids=lambda r: r.name)
def test_empty_path_is_the_descriptor(row: gen_calls.Row, around: Around) -> None:
    """What may not be changed is not changed so either; what may be looked at is in the log by its path."""
    if access_of(row) in WRITES:
        assert around.empty[row.name] == errno.EACCES
    assert around.empty_log[row.name] == around.empty_log_untraced[row.name]
    paths = {Path(e.path).name for e in around.log if e.op == base(row).name and e.access == access_of(row)}
    assert paths >= {row.name}


@pytest.mark.parametrize("row", NULL, ids=lambda r: r.name)
def test_null_path_is_the_callers_business(row: gen_calls.Row, around: Around) -> None:
    assert around.null[row.name] == answered(row, around.null_untraced[row.name])
