"""`porttrace integrate` on prefixes that look like those of several versions of MacPorts."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_tcl_package import LIBRARY, command, scratch  # noqa: F401 - scratch is a fixture

from porttrace.cli.main import main
from porttrace.errors import PorttraceError
from porttrace.integrate import index_text, integrate, undo
from porttrace.owners import cache_places

FACTS = """package provide macports 1.0
namespace eval macports::autoconf {{
    variable macports_version "{version}"
    variable macportsuser "macports"
    variable tclsh_path "{prefix}/libexec/macports/bin/tclsh{tcl}"
}}
"""


def tree(top: Path) -> dict[str, tuple[int, str]]:
    return {
        str(path.relative_to(top)): (path.lstat().st_mode, path.read_text() if path.is_file() else "")
        for path in sorted(top.rglob("*"))
    }


def macports(top: Path, version: str = "2.10.5", tcl: str = "8.6") -> Path:
    library = top / "opt" / "local" / "libexec" / "macports" / "lib"
    (library / "macports1.0").mkdir(parents=True)
    prefix = top / "opt" / "local"
    (library / "macports1.0" / "macports_autoconf.tcl").write_text(
        FACTS.format(version=version, tcl=tcl, prefix=prefix), encoding="utf-8"
    )
    return prefix


@pytest.fixture(autouse=True)
def open_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where this Python lies in a closed directory, the guard for that is tested apart."""
    monkeypatch.setattr("porttrace.integrate._reachable", lambda path, user: None)


@pytest.mark.parametrize(("version", "tcl"), [("2.10.5", "8.6"), ("2.12.5", "8.6"), ("2.12.99", "9.0")])
def test_round_trip(scratch: Path, version: str, tcl: str) -> None:  # noqa: F811
    prefix = macports(scratch, version, tcl)
    before = tree(scratch)
    assert integrate(prefix, dry_run=True).changes
    assert tree(scratch) == before, "--dry-run changes nothing"
    plan = integrate(prefix)
    assert (plan.changes, plan.macports.version, plan.macports.tcl) == (True, version, tcl)
    after = tree(scratch)
    assert set(after) - set(before) == {
        "opt/local/libexec/macports/lib/porttrace1.1",
        "opt/local/libexec/macports/lib/porttrace1.1/pkgIndex.tcl",
    }
    assert not integrate(prefix).changes
    assert tree(scratch) == after, "a second time changes nothing"
    assert undo(prefix, dry_run=True).changes
    assert tree(scratch) == after
    assert undo(prefix).changes
    assert tree(scratch) == before, "--undo leaves no trace"
    assert not undo(prefix).changes


@pytest.mark.parametrize("database", ["opt/local/var/macports", "elsewhere"])
def test_undo_takes_what_builds_have_kept(scratch: Path, database: str) -> None:  # noqa: F811
    """The table of owners that traced builds keep beside the registry is ours too; the registry is not."""
    prefix = macports(scratch)
    registry = scratch / database / "registry"
    registry.mkdir(parents=True)
    (registry / "registry.db").write_text("registry")
    if database == "elsewhere":
        (prefix / "etc/macports").mkdir(parents=True)
        (prefix / "etc/macports/macports.conf").write_text(f"prefix /x\nportdbpath\t\t{scratch / database}\n")
    before = tree(scratch)
    integrate(prefix)
    (registry / ".porttrace-owners").write_text("kept")
    undo(prefix, dry_run=True)
    assert (registry / ".porttrace-owners").exists()
    undo(prefix)
    assert tree(scratch) == before
    (registry / ".porttrace-owners").write_text("kept")
    assert undo(prefix).changes, "also where the package is gone already"
    assert tree(scratch) == before


def test_undo_takes_what_builds_of_users_have_kept(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """Who may not write beside the registry has a table at home; another registry's stays, and what is nobody's own."""
    prefix = macports(scratch)
    registry = prefix / "var/macports/registry/registry.db"
    registry.parent.mkdir(parents=True)
    registry.write_text("registry")
    homes = {name: scratch / "home" / name for name in ("one", "two", "three")}
    for home in homes.values():
        (home / ".cache").mkdir(parents=True)
    before = tree(scratch)
    users = [
        pwd.struct_passwd((name, "x", os.getuid() + (name == "three"), 0, "", str(home), "/bin/sh"))
        for name, home in homes.items()
    ]
    monkeypatch.setattr(pwd, "getpwall", lambda: users)
    other = scratch / "other.db"
    for name, home in homes.items():
        monkeypatch.setattr("porttrace.owners._home", lambda home=home: home)
        for owned in (registry, *([other] if name == "two" else [])):
            place = cache_places(owned)[1]
            place.parent.mkdir(exist_ok=True)
            place.write_text("kept")
            place.with_name(f"{place.name}.0123456789abcdef").write_text("half")
            place.with_name(f"{place.name}.mine").write_text("not ours")
    removed = {line for line in undo(prefix).lines if "remove" in line}
    assert len(removed) == 4, removed
    left = {path for path in set(tree(scratch)) - set(before) if "owners-" in path}
    assert sum("/one/" in path for path in left) == 1, "a name that we do not give"
    assert sum("/two/" in path for path in left) == 4
    assert sum("/three/" in path for path in left) == 3, "another user's file in that home"
    (homes["one"] / ".cache/porttrace").joinpath(*[p.rpartition("/")[2] for p in left if "/one/" in p]).unlink()
    monkeypatch.setattr("porttrace.owners._home", lambda: homes["one"])
    cache_places(registry)[1].write_text("kept")
    undo(prefix)
    assert not (homes["one"] / ".cache/porttrace").exists()


def test_renewed_after_a_move(scratch: Path) -> None:  # noqa: F811
    prefix = macports(scratch)
    integrate(prefix)
    index = prefix / "libexec/macports/lib/porttrace1.1/pkgIndex.tcl"
    good = index.read_text()
    index.write_text(good.replace("porttrace.tcl", "elsewhere.tcl"))
    assert integrate(prefix).changes
    assert index.read_text() == good


@pytest.mark.parametrize(
    ("version", "tcl", "words"),
    [
        ("2.9.3", "8.6", "too old: 2.10 or newer"),
        ("2.10.5", "8.5", "made for Tcl 8.6"),
        ("", "8.6", "names no version"),
    ],
)
def test_unfit(scratch: Path, version: str, tcl: str, words: str) -> None:  # noqa: F811
    prefix = macports(scratch, version, tcl)
    before = tree(scratch)
    with pytest.raises(PorttraceError, match=words):
        integrate(prefix)
    assert tree(scratch) == before


def test_no_macports(scratch: Path, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    assert main(["integrate", str(scratch)]) == 1
    assert capsys.readouterr().err.startswith(f"porttrace: there is no MacPorts at {scratch}: ")


@pytest.mark.parametrize("kind", ["file", "directory", "index", "link"])
def test_foreign(scratch: Path, kind: str) -> None:  # noqa: F811
    """What is not ours is neither replaced nor removed."""
    prefix = macports(scratch)
    place = prefix / "libexec/macports/lib/porttrace1.1"
    if kind == "file":
        place.write_text("x")
    elif kind == "link":
        place.symlink_to(scratch)
    else:
        place.mkdir()
        (place / ("pkgIndex.tcl" if kind == "index" else "mine")).write_text("package ifneeded porttrace 1.1 {}\n")
    before = tree(scratch)
    for action in (integrate, undo):
        with pytest.raises(PorttraceError, match="not made by porttrace integrate"):
            action(prefix)
    assert tree(scratch) == before


def test_closed_directory(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.undo()
    closed = scratch / "closed" / "bin"
    closed.mkdir(parents=True)
    python = closed / "python3"
    python.symlink_to(sys.executable)
    closed.parent.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(python))
    prefix = macports(scratch)
    with pytest.raises(PorttraceError, match=f"out of reach for the user macports.*{closed.parent} is closed"):
        integrate(prefix)


@pytest.mark.parametrize(
    ("words", "early"),
    [
        (["-s", "-t", "install", "foo"], True),
        (["-vst", "install", "foo"], True),
        (["install", "-t", "foo"], True),
        (["-s", "install", "foo"], False),
        (["--test", "-D", "/t", "t-t", "-"], False),
    ],
)
def test_the_core_starts_with_port_where_it_is_asked_for(scratch: Path, words: list[str], early: bool) -> None:  # noqa: F811
    index, script = scratch / "pkgIndex.tcl", scratch / "script.tcl"
    argv: list[str | Path]
    index.write_text(index_text(Path(sys.executable), Path(LIBRARY) / "porttrace"))
    script.write_text(f"source {index}\nsource {index}\nputs [llength [info commands ::porttrace::*]]\n")
    log = scratch / "execs"
    argv = ["strace", "-f", "-qq", "-s", "200", "-e", "trace=execve,openat", "-o", log]
    argv += [command("tclsh8.6")[0], script, *words]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = log.read_text()
    assert said.count("tclbridge.coprocess") == early, "once, however often the index is read"
    assert "sitecustomize" not in said, "Python looks for nothing but our modules"
    assert ("transport.tcl" in said) == early, "nothing of ours is read beyond the index"


def test_index_loads_from_anywhere(scratch: Path) -> None:  # noqa: F811
    """The ifneeded script alone is enough, as MacPorts copies it into its workers; also with odd names."""
    odd = scratch / "a dir {with} $odd [names]"
    shutil.copytree(Path(LIBRARY) / "porttrace", odd / "porttrace")
    (odd / "pkgIndex.tcl").write_text(index_text(Path(sys.executable), odd / "porttrace"), encoding="utf-8")
    script = scratch / "s.tcl"
    script.write_text(
        "source [lindex $argv 0]\n"
        "interp create worker\n"
        "interp eval worker [list package ifneeded porttrace 1.1 [package ifneeded porttrace 1.1]]\n"
        "puts [interp eval worker {package require porttrace 1.0}]\n"
        "puts [interp eval worker {porttrace::call hello utf-8}]\n"
        "interp eval worker {porttrace::transport::stop}\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PORTTRACE_PYTHON"}
    done = subprocess.run(
        ["tclsh8.6", str(script), str(odd / "pkgIndex.tcl")],
        text=True,
        capture_output=True,
        timeout=20,
        check=False,
        env=environment,
    )
    assert (done.returncode, done.stdout) == (0, "1.1\n1.1\n"), done.stderr
