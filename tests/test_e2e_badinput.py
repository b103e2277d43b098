"""Bad input: one clear line, a status that is not 0, prefix and registry as they were."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import PORT_HEAD, Prefix, Result, run_command

HEAD = """PortSystem          1.0

name                bad
version             1.0
categories          devel
license             public-domain
maintainers         nomaintainer
description         a port that cannot be built
long_description    ${description}
homepage            https://porttrace.invalid/bad
"""


def state(prefix: Prefix) -> dict[str, str]:
    """What must not change: every file of the prefix with its content, but what builds leave, and locks."""
    found = {}
    for path in sorted(prefix.path.rglob("*")):
        name = str(path.relative_to(prefix.path))
        if re.match(r"var/macports/(build|logs|distfiles|sources|porttrace)(/|$)", name) or name.endswith(
            (".lock", "-wal", "-shm", ".porttrace-owners")
        ):
            continue
        if path.is_file() and not path.is_symlink():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            found[name] = "link" if path.is_symlink() else "directory"
    return found


@pytest.fixture
def used(prefix: Prefix) -> Iterator[Prefix]:
    """A prefix with libbar installed; the test must leave it as it is."""
    prefix.port("install", "libbar")
    before, rows = state(prefix), registry(prefix)
    yield prefix
    assert registry(prefix) == rows
    assert state(prefix) == before


def registry(prefix: Prefix) -> list[object]:
    """The rows of the registry."""
    with sqlite3.connect(f"file:{prefix.registry}?mode=ro", uri=True) as database:
        return [
            *database.execute("select name, version, revision, state from ports order by 1"),
            *database.execute("select path, active from files order by 1"),
        ]


def last_line(result: Result) -> str:
    """The line that counts: MacPorts' users look for "Error:"."""
    lines = [line for line in result.err.splitlines() if line.startswith("Error:")]
    assert lines, result.text
    return lines[0]


@pytest.mark.parametrize(
    ("body", "line", "said"),
    [
        ('\nbuild {\n    system "true"\n', 12, "never closed"),
        ("\nno_such_keyword yes\n", 12, "no_such_keyword"),
        ("\nversion {1 2\n", 12, "never closed"),
        ("\nPortGroup nosuchgroup 1.0\n", 12, "nosuchgroup"),
        ("\nset x [expr {1 +}]\n", 12, None),
        ("\ntrace.read-append /\n", 12, "/"),
        ("\ntrace.read-append relative/path\n", 12, "relative/path"),
        ("\nzork.trace_read-append /srv\n", 12, 'zork.trace_read-append: no phase "zork" takes it: must be one'),
    ],
    ids=["brace", "keyword", "value", "group", "expression", "allowance for /", "relative allowance", "unknown phase"],
)
def test_malformed_portfile(used: Prefix, body: str, line: int, said: str | None) -> None:
    used.add_port("devel", "bad", HEAD + body)
    message = last_line(used.fails("-t", "install", "bad"))
    assert re.search(rf"devel/bad/Portfile\D{{1,10}}{line}\b", message), message
    assert said is None or said in message, message


def test_unknown_port(used: Prefix) -> None:
    message = last_line(used.fails("-t", "install", "nosuchport"))
    assert "nosuchport" in message


def test_unknown_dependency(used: Prefix) -> None:
    used.add_port("devel", "bad", HEAD + "distfiles\ndepends_lib port:nosuchport\n")
    message = last_line(used.fails("-t", "install", "bad"))
    assert "nosuchport" in message and "bad" in message


def test_a_variant_that_nobody_has(used: Prefix) -> None:
    """Another port would be built than was meant: one line, and nothing is done."""
    used.add_port("devel", "low", PORT_HEAD.format(name="low") + "variant slow description {of low} {}\n")
    used.add_port(
        "devel",
        "high",
        PORT_HEAD.format(name="high") + "depends_lib port:low\nvariant doc description {of high} {}\n",
    )
    for words in (["+dcc"], ["-dcc"], ["+doc+dcc"], ["+slow", "+dcc"]):
        for action in ("deptest", "install", "info", "clean"):
            result = used.fails(action, *["--"] * (action == "deptest"), "high", *words)
            assert last_line(result).endswith("neither high nor a port that it needs has a variant dcc: high has doc")
            assert result.out == ""
    assert not list(used.path.glob("var/macports/build/*/high/work"))
    done = used.port("info", "high", "+slow", "+doc")
    assert done.err == "Warning: high has no variant slow: +slow is left to its dependencies\n"
    assert "-slow is left to" in used.port("patch", "high", "-slow").err
    assert "slow" not in used.port("patch", "low", "+slow").text


@pytest.mark.parametrize("words", [["-Z", "install", "foo"], ["--nosuch", "install", "foo"], ["frobnicate", "foo"], []])
def test_unknown_option_or_action(used: Prefix, words: list[str]) -> None:
    result = used.fails(*words)
    bad = next((word for word in words if word in ("-Z", "--nosuch", "frobnicate")), "")
    assert bad in result.err
    assert len(result.err.splitlines()) <= 5, result.err


@pytest.mark.parametrize("words", [["build", "foo", "-t"], ["-t", "install", "-v", "foo"], ["installed", "-q"]])
def test_an_option_after_the_action_is_not_a_variant(used: Prefix, words: list[str]) -> None:
    """`port build foo -t` would build foo without trace mode, and say so nowhere."""
    failed = used.run(*words)
    late = next(word for word in words[1:] if word.startswith("-"))
    assert failed.status == 2 and failed.err.startswith(f"Error: {late} stands after the action")
    assert failed.err.count("\n") == 1 and not failed.out


def change_checksums(prefix: Prefix, new: str) -> None:
    portfile = prefix.tree / "devel/stray/Portfile"
    text, count = re.subn(r"^checksums +(?:.*\\\n)*.*$", new, portfile.read_text(), flags=re.MULTILINE)
    assert count == 1
    portfile.write_text(text)


def test_missing_checksum(used: Prefix) -> None:
    change_checksums(used, "")
    message = last_line(used.fails("-t", "install", "stray"))
    assert "checksum" in message.lower() and "stray-1.0.tar.gz" in message


@pytest.mark.parametrize("kind", ["sha256", "rmd160", "size"])
def test_wrong_checksum(used: Prefix, kind: str) -> None:
    change_checksums(used, f"checksums {kind} {'1' * (64 if kind == 'sha256' else 40 if kind == 'rmd160' else 3)}")
    result = used.fails("-t", "install", "stray")
    assert "checksum" in last_line(result).lower() or "checksum" in result.err.lower()
    assert kind in result.text and "stray-1.0.tar.gz" in result.text


def test_workpath_that_is_not_writable(used: Prefix) -> None:
    build = used.path / "var/macports/build"
    if build.exists():
        build.rename(used.path / "var/macports/build.away")
    build.write_text("a file in the place of the directory\n")
    try:
        message = last_line(used.fails("-t", "install", "stray"))
    finally:
        build.unlink()
        if (away := used.path / "var/macports/build.away").exists():
            away.rename(build)
    assert str(build) in message, message


def test_corrupt_registry(prefix: Prefix) -> None:
    prefix.port("install", "libbar")
    prefix.registry.write_bytes(b"this is not a database\n" * 300)
    before = state(prefix)
    message = last_line(prefix.fails("-t", "install", "stray"))
    assert str(prefix.registry) in message
    assert state(prefix) == before


def test_locked_registry(used: Prefix) -> None:
    database = sqlite3.connect(used.registry, isolation_level=None)
    database.execute("begin exclusive")
    try:
        message = last_line(used.fails("-t", "install", "stray"))
    finally:
        database.rollback()
        database.close()
    assert "lock" in message.lower() and str(used.registry) in message


def test_missing_compiler(used: Prefix) -> None:
    portfile = used.tree / "devel/stray/Portfile"
    portfile.write_text(portfile.read_text() + "\nconfigure.cc /nonexistent/cc\n")
    result = used.fails("-t", "install", "stray")
    assert "/nonexistent/cc" in result.text
    assert "stray" in last_line(result)


def test_failed_build_says_which_phase_and_where_the_log_is(used: Prefix) -> None:
    used.add_port("devel", "bad", HEAD + 'distfiles\nextract.mkdir yes\nuse_configure no\nbuild { system "exit 7" }\n')
    result = used.fails("-t", "install", "bad")
    assert "build" in last_line(result) and "bad" in last_line(result)


def test_no_such_prefix(used: Prefix, open_tmp: Path) -> None:
    missing = Prefix(open_tmp / "nowhere" / "at-all", used.launcher)
    message = last_line(missing.fails("installed"))
    assert str(missing.path) in message
    assert not missing.path.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: makes a directory of somebody else's")
@pytest.mark.parametrize("make", ["ln -s {victim} $d", "mkdir $d; echo theirs > $d/file", "ln -s {victim}/nothing $d"])
def test_session_directory_that_somebody_else_made(used: Prefix, open_tmp: Path, make: str) -> None:
    """Refused, and not followed. The shell knows the pid that port will have: its own."""
    victim = open_tmp / "victim"
    victim.mkdir()
    victim.chmod(0o777)
    script = open_tmp / "script"
    script.write_text(
        "mkdir -p /tmp/macports\nd=/tmp/macports/$$\n"
        f'{make.format(victim=victim)}\nchown -h 65534:65534 $d\necho $d > {open_tmp}/taken\nexec "$@"\n'
    )
    foreign = Prefix(used.path, ("sh", script, *used.launcher))
    result = foreign.fails("-t", "install", "stray")
    taken = Path((open_tmp / "taken").read_text().strip())
    try:
        assert str(taken) in result.err, result.text
        assert list(victim.iterdir()) == []
        assert os.lstat(taken).st_uid == 65534, "what somebody else made is left alone"
    finally:
        taken.unlink() if taken.is_symlink() else shutil.rmtree(taken)


WITHOUT_TCL = "import sys; sys.modules['_tkinter'] = None; from porttrace.porttool.main import main; sys.exit(main())"


def test_a_python_without_tkinter(prefix: Prefix) -> None:
    """As in containers, and where it is a package of its own: what needs no Tcl works, the rest says why not."""
    port = [sys.executable, "-I", "-c", WITHOUT_TCL]
    assert run_command([*port, "--help"]).out.startswith("usage: port ")
    result = run_command([*port, "--prefix", prefix.path, "installed"])
    assert (result.status, result.err.count("\n")) == (1, 1), result.text
    assert result.err.startswith("Error: this Python has no tkinter, which the port command needs: install ")
