"""Every way to open a file says the same, in places that may be read, written, both and neither."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tracelib_session import SOURCE, Session, compile_c

PLACES = ("seen", "readonly", "writeonly", "hidden")
#: In each place: a file that is there, one that is not, a link to the one, a link to the other.
EXPECTED = {
    "R": "- ENOENT - ENOENT  - ENOENT - ENOENT  ENOENT ENOENT ENOENT ENOENT  ENOENT ENOENT ENOENT ENOENT",
    "W": "- ENOENT - ENOENT  EACCES ENOENT EACCES ENOENT  - ENOENT ENOENT ENOENT  ENOENT ENOENT ENOENT ENOENT",
    "RW": "- ENOENT - ENOENT  EACCES ENOENT EACCES ENOENT  ENOENT ENOENT ENOENT ENOENT  ENOENT ENOENT ENOENT ENOENT",
    "R,trunc": "- ENOENT - ENOENT  EACCES ENOENT EACCES ENOENT  - ENOENT ENOENT ENOENT  ENOENT ENOENT ENOENT ENOENT",
    "R,create": "- - - -  - EACCES - EACCES  ENOENT - ENOENT ENOENT  EACCES EACCES ENOENT ENOENT",
    "W,create": "- - - -  EACCES EACCES EACCES EACCES  - - ENOENT ENOENT  EACCES EACCES ENOENT ENOENT",
    "W,create,trunc": "- - - -  EACCES EACCES EACCES EACCES  - - ENOENT ENOENT  EACCES EACCES ENOENT ENOENT",
    "RW,create": "- - - -  EACCES EACCES EACCES EACCES  ENOENT ENOENT ENOENT ENOENT  EACCES EACCES ENOENT ENOENT",
    "RW,create,trunc": "- - - -  EACCES EACCES EACCES EACCES  ENOENT ENOENT ENOENT ENOENT  EACCES EACCES ENOENT ENOENT",
    "W,create,new": "EEXIST - EEXIST EEXIST  EEXIST EACCES EEXIST EEXIST  EEXIST - EEXIST EEXIST  "
    "EACCES EACCES EACCES EACCES",
    "RW,create,new": "EEXIST - EEXIST EEXIST  EEXIST EACCES EEXIST EEXIST  ENOENT ENOENT ENOENT ENOENT  "
    "EACCES EACCES EACCES EACCES",
    "path": "- ENOENT - ENOENT  - ENOENT - ENOENT  ENOENT ENOENT ENOENT ENOENT  ENOENT ENOENT ENOENT ENOENT",
}
#: What is there is changed, what is not is made: by these kinds of access the findings are known.
FOUND = {"file": {"write"}, "new": {"create"}, "missing": {"create"}}
WAYS = ("open", "openat", "openat2", "fopen", "freopen", "setmntent", "spawn")


@pytest.fixture(scope="module", params=["", "log"])
def answers(request: pytest.FixtureRequest) -> Iterator[list[tuple[str, str, list[str]]]]:
    """Way, access, what it said."""
    top = Path(tempfile.mkdtemp(prefix="opening-"))
    for place in PLACES:
        (top / place).mkdir()
        (top / place / "file").write_text("text")
        (top / place / "link").symlink_to("file")
        (top / place / "dangling").symlink_to("missing")
    program = compile_c(SOURCE / "tests/calls/opening.c", top / "opening")
    rules = (f"rw:{top}/hidden=-", f"w:{top}/readonly=-", f"r:{top}/writeonly=-", "rw:/=+")
    with Session(*rules, log=bool(request.param)) as session:
        done = session.run(program, top)
        kinds = {name: {e.access for e in session.findings() if e.path == f"{top}/readonly/{name}"} for name in FOUND}
    assert (done.returncode, done.stderr) == (0, "")
    assert kinds == FOUND
    for place in ("readonly", "hidden"):
        assert {p.name for p in (top / place).iterdir()} == {"file", "link", "dangling"}
        assert (top / place / "file").read_text() == "text"
    yield [(words[0], words[1], words[2:]) for words in map(str.split, done.stdout.splitlines())]
    shutil.rmtree(top)


@pytest.mark.parametrize("way", WAYS)
def test_each_way_says_what_open_says(way: str, answers: list[tuple[str, str, list[str]]]) -> None:
    """A child that cannot open what it is to have is not started: the spawn says ENOENT, whatever was refused."""
    mine = [(access, said) for name, access, said in answers if name == way]
    assert {access for access, _ in mine} >= set(EXPECTED) - {"W", "R,trunc", "R,create", "path"}
    for access, said in mine:
        expected = EXPECTED[access].split()
        if way == "spawn":
            expected = [e if n < 4 or e == "-" else "ENOENT" for n, e in enumerate(expected)]
            said = [e if n < 4 or e == "-" else "ENOENT" for n, e in enumerate(said)]
        assert said == expected, access
