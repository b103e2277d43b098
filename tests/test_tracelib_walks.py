"""ftw, nftw and fts walk by themselves: the same as the C library's where nothing is hidden, and past what is."""

from __future__ import annotations

import difflib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tracelib_session import SOURCE, Session, compile_c

NOBODY = 65534


@pytest.fixture(scope="module")
def walks() -> Iterator[Path]:
    top = Path(tempfile.mkdtemp(prefix="tracelib-walks-"))
    top.chmod(0o755)
    yield compile_c(SOURCE / "tests" / "walks" / "walks.c", top / "walks")
    shutil.rmtree(top)


@pytest.fixture
def top() -> Iterator[Path]:
    place = Path(tempfile.mkdtemp(prefix="tracelib-tree-"))
    place.chmod(0o755)
    yield place
    shutil.rmtree(place)


def grow(top: Path) -> Path:
    """A tree with one of each kind of thing that a walk treats in its own way."""
    tree = top / "tree"
    for name in (
        "skip/below",
        "empty",
        "kids/a/b",
        "kidsnames/a",
        "siblings",
        "deep/" + "d/" * 12,
        "locked",
        "readonly/d",
    ):
        (tree / name).mkdir(parents=True)
    files = "file skip/below/x kids/one kids/a/b/two kidsnames/three again deep/stop deep/end siblings/s locked/l"
    for name in (*files.split(), "readonly/r", ".dot"):
        (tree / name).write_text(name)
    for name, target in {"todir": "kids", "tofile": "file", "dangling": "nowhere", "loop": ".", "self": "self",
                         "kids/up": "../deep"}.items():  # fmt: skip
        (tree / name).symlink_to(target)
    os.mkfifo(tree / "fifo")
    (tree / "locked").chmod(0)
    (tree / "readonly").chmod(0o444)
    (top / "link").symlink_to("tree")
    return tree


def test_walks_see_what_they_see_untraced(walks: Path, top: Path) -> None:
    grow(top)
    names = [
        "tree/",
        str(top / "link"),
        "tree/kids",
        "tree/file",
        "missing",
        "tree/dangling",
        "./tree//kids/.",
        ".."[:1],
    ]
    with Session("rw:/=+") as session:
        (session.dir / "events").chmod(0o666)
        options: dict[str, object] = {"cwd": top, "user": NOBODY, "group": NOBODY, "extra_groups": []}
        traced = session.run(walks, "all", *names, **options)
        plain = subprocess.run([walks, "all", *names], capture_output=True, text=True, timeout=60, **options)  # type: ignore[call-overload]
    assert (plain.returncode, plain.stderr) == (0, "")
    assert (traced.returncode, traced.stderr) == (0, "")
    seen, seen_untraced = lines(traced.stdout), lines(plain.stdout)
    assert len(seen_untraced) > 10_000
    if seen != seen_untraced:
        difference = difflib.unified_diff(seen_untraced[:40_000], seen[:40_000], lineterm="", n=4)
        pytest.fail("\n".join(line for line, _ in zip(difference, range(60), strict=False)))


def lines(output: str) -> list[str]:
    """Without the parent of a directory that may not be searched: stat itself answers for it by its path."""
    return [line for line in output.splitlines() if "/readonly/.. " not in line]


@pytest.fixture
def hiding(top: Path) -> Path:
    tree = top / "tree"
    for name in ("seen", "hidden", "part", "only/hidden", "part/hidden"):
        (tree / name).mkdir(parents=True)
        (tree / name / "file").touch()
    (tree / "only" / "file").unlink(missing_ok=True)
    (tree / "hiddenfile").touch()
    (tree / "tohidden").symlink_to("hidden")
    (tree / "tofile").symlink_to("hiddenfile")
    return tree


def hide(tree: Path) -> list[str]:
    """Rules under which all that has "hidden" in its name is hidden."""
    return [f"rw:{tree / name}=-" for name in ("hidden", "part/hidden", "only/hidden", "hiddenfile")] + ["rw:/=+"]


def test_walks_pass_over_what_is_hidden(walks: Path, hiding: Path) -> None:
    untraced = subprocess.run([walks, "plain", hiding], capture_output=True, text=True, check=True).stdout
    assert "/hidden/file" in untraced and "/hiddenfile" in untraced
    with Session(*hide(hiding)) as session:
        done = session.run(walks, "plain", hiding)
    assert (done.returncode, done.stderr) == (0, "")
    assert "hidden " not in done.stdout.replace("tohidden ", "") and "hiddenfile" not in done.stdout
    assert "hidden/" not in done.stdout
    for name in ("seen/file", "part/file", "only", "tohidden", "tofile"):
        assert done.stdout.count(f"{hiding}/{name} ") >= 6, name
    dangling = [
        line for line in done.stdout.splitlines() if line.startswith((f"{hiding}/tohidden ", f"{hiding}/tofile "))
    ]
    # ftw's own word for a link to nowhere is FTW_NS (3), nftw's FTW_SLN (6), that of a logical fts FTS_SLNONE (13)
    assert sum("what=6" in line for line in dangling) == 2
    assert sum("what=3" in line for line in dangling) == 2
    assert sum("info=13" in line for line in dangling) == 2


def test_a_hidden_root_is_not_there(walks: Path, hiding: Path) -> None:
    with Session(*hide(hiding)) as session:
        done = session.run(walks, "plain", hiding / "hidden")
        findings = {(e.path, e.outcome, e.error) for e in session.findings()}
    with Session("rw:/=+") as session:
        missing = session.run(walks, "plain", hiding / "absent")
    assert done.stdout.replace("hidden", "absent") == missing.stdout
    assert "info=10 errno=2" in done.stdout
    assert findings == {(str(hiding / "hidden"), "hide", 2)}


def test_a_redirected_tree_is_walked_under_the_name_that_was_asked_for(walks: Path, hiding: Path) -> None:
    place = hiding.parent / "place"
    with Session(f"rw:{place}=>{hiding}", "rw:/=+") as session:
        done = session.run(walks, "plain", place)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{place}/part/hidden/file " in done.stdout
    assert str(hiding) not in done.stdout


def test_raw_listings_and_a_spawned_child_pass_over_what_is_hidden(walks: Path, hiding: Path) -> None:
    for n in range(20):
        (hiding / f"x{n}").touch()
    with Session(*hide(hiding)) as session:
        raw = session.run(walks, "raw", hiding)
        hidden = session.run(walks, "spawn", hiding / "hidden")
        seen = session.run(walks, "spawn", hiding / "seen")
    rest = sorted(n.name for n in hiding.iterdir() if not n.name.startswith("hidden"))
    listings = [line.split() for line in raw.stdout.splitlines()]
    assert {name for name, *_ in listings} >= {"getdents64", "syscall"}
    for name, *entries in listings:  # read entry by entry: one that is hidden is not the end
        assert sorted(entries) == [".", "..", *rest], name
    assert (hidden.stdout, seen.stdout) == ("2\n", f"{hiding}/seen\n0\n")


LINKS = """
import os, sys
top = sys.argv[1]
print(os.stat(top).st_nlink, os.stat(top + "/only").st_nlink, sorted(os.listdir(top + "/only")))
for name in sys.argv[2:]:
    try:
        os.rmdir(f"{top}/{name}")
        print("gone")
    except OSError as e:
        print(e.errno)
"""


def test_link_counts_are_the_kernels_and_rmdir_says_not_empty(hiding: Path) -> None:
    """What docs/hiding.md says of both."""
    real = hiding.stat().st_nlink, (hiding / "only").stat().st_nlink
    (hiding / "bare").mkdir()
    with Session(*hide(hiding)) as session:
        done = session.run("python3", "-c", LINKS, hiding, "only", "hidden", "absent", "bare")
        findings = [(e.path, e.outcome) for e in session.findings() if e.access == "delete"]
    assert done.stdout.split("\n")[0] == f"{real[0] + 1} {real[1]} []"
    assert done.stdout.split("\n")[1:5] == ["39", "2", "2", "gone"]  # ENOTEMPTY, ENOENT, ENOENT
    assert findings == [(str(hiding / "hidden"), "hide")]
    assert (hiding / "only" / "hidden" / "file").exists() and not (hiding / "bare").exists()


LISTER = r"""
import ctypes, os, resource, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.fdopendir.restype = ctypes.c_void_p
libc.readdir.restype = ctypes.POINTER(ctypes.c_char * 280)
libc.readdir.argtypes = [ctypes.c_void_p]
where, number = sys.argv[1], int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
fd = os.open(where, os.O_RDONLY | os.O_DIRECTORY)
if number:
    fd = os.dup2(fd, number)
d = libc.fdopendir(fd)
while entry := libc.readdir(d):
    print(bytes(entry.contents)[19:].split(b"\0")[0].decode())
"""


@pytest.mark.parametrize("number", [0, 500, 2000])
@pytest.mark.parametrize("long", [False, True])
def test_listing_of_any_directory_by_any_descriptor(tmp_path: Path, number: int, long: bool) -> None:
    """Also where the path is longer, or the descriptor's number larger, than what the library remembers."""
    top = tmp_path / ("d" * 200) / ("e" * 200) if long else tmp_path
    (top / "dir" / "hidden").mkdir(parents=True)
    (top / "dir" / "shown").touch()
    (top / "dir" / "hidden-file").touch()
    with Session(f"r:{top}/dir/hidden=-", f"r:{top}/dir/hidden-file=-", "rw:/=+") as session:
        done = session.run(sys.executable, "-I", "-S", "-c", LISTER, top / "dir", number)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split()) == [".", "..", "shown"]
