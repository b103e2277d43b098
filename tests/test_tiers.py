"""A run says which tiers held it, and that one is missing: port, the Tcl package, MacPorts' low-level command."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Prefix

from porttrace import session, tiers, trace
from porttrace.cli import run
from porttrace.errors import PorttraceError
from porttrace.eventlog import Snapshot
from porttrace.tclbridge.commands import Core
from porttrace.tclbridge.tcllist import split

pytestmark = pytest.mark.skipif(
    set(tiers.available_tiers()) != set(tiers.TIERS), reason="this machine lacks a tier that the tests take away"
)

NO_FENCE = "trace mode: this machine has no Landlock: the kernel does not stop writes that go around the library"
NO_SUPERVISOR = "trace mode: this machine has no seccomp user notification: static programs run untraced"
HELD = "tiers used: tracelib, supervisor, fence"
BARE = "tiers used: tracelib; not used: supervisor, fence"
#: Port as on a machine that has the library only.
POOR_PORT = (
    "import sys; from porttrace import session; session.available_tiers = lambda: ('tracelib',); "
    "from porttrace.porttool.main import main; sys.exit(main())"
)


@pytest.fixture
def core() -> Iterator[Core]:
    core = Core()
    yield core
    core.close()


@pytest.fixture
def work() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="porttrace-tiers-") as name:
        path = Path(name)
        path.chmod(0o755)
        (path / "work").mkdir()
        yield path / "work"


def ask(core: Core, command: str, *words: str) -> str:
    status, value, _, _ = core.invoke("test", command, *words)
    assert status == "ok", value
    return str(value)


def told(core: Core, *options: str) -> list[tuple[str, ...]]:
    return [tuple(split(pair)) for pair in split(ask(core, "trace_check_violations", *options))]


def phase(core: Core, work: Path, name: str, *, fence: bool = True) -> list[tuple[str, ...]]:
    """What is said of a phase, asked for before its end and again after it."""
    ask(core, "context", "phase", name)
    ask(core, "trace_start", str(work))
    if fence:
        ask(core, "trace_enable_fence")
    subprocess.run([*split(ask(core, "launcher")), "true"], check=True, cwd=work)
    before = told(core)
    ask(core, "trace_stop")
    return [*before, *told(core)]


def test_each_phase_names_its_tiers(core: Core, work: Path) -> None:
    said = phase(core, work, "build")
    assert said.count(("info", f"phase build: {HELD}")) == 2
    assert not [text for level, text in said if level == "warn"]
    said = phase(core, work, "activate", fence=False)
    assert ("info", "phase activate: tiers used: tracelib, supervisor; not used: fence") in said


def test_the_end_of_a_phase_says_the_same_with_one_look(
    core: Core, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []
    real = Snapshot.__init__

    def count(self: Snapshot, fd: int, size: int) -> None:
        looks.append(fd)
        real(self, fd, size)

    ask(core, "trace_start", str(work))
    subprocess.run([*split(ask(core, "launcher")), "cat", "/usr/local/include/x.h"], check=False, cwd=work)
    before = told(core, "-verbose")
    monkeypatch.setattr(Snapshot, "__init__", count)
    said, ended = split(ask(core, "finish", "-verbose"))
    assert [tuple(split(pair)) for pair in split(said)] == before
    assert any("/usr/local/include" in text for _, text in before)
    assert ended == "" and ask(core, "trace_active") == "0"
    assert len(looks) == 1


def test_what_is_asked_beforehand(core: Core, work: Path) -> None:
    """Where everything may be read in each phase, and the tiers, for a prefix; nothing is in force after it."""
    software, temporary = work / "prefix/var/macports/software", work.parent / "temporary"
    ask(core, "context", "prefix", str(work / "prefix"), "phase", "install", "tmpdir", str(temporary))
    places, tiers_line = split(ask(core, "warm", str(work)))
    found = {split(place)[0]: split(split(place)[1]) for place in split(places)}
    assert found["/usr"] == ["/usr/local"] and str(work) in found
    assert not {str(place) for place in (work / "prefix", software, temporary)} & set(found)
    assert tiers_line == f"trace mode: {HELD}"
    assert ask(core, "trace_active") == "0"
    ask(core, "trace_start", str(work))
    reading, _ = split(ask(core, "open_places"))
    assert set(found) < {split(place)[0] for place in split(reading)} >= {str(software), str(temporary)}


def test_a_missing_tier_is_a_warning_once(core: Core, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "available_tiers", lambda: ("tracelib",))
    said = phase(core, work, "configure")
    assert said.count(("warn", NO_FENCE)) == said.count(("warn", NO_SUPERVISOR)) == 1
    assert said.count(("info", f"phase configure: {BARE}")) == 2
    said = phase(core, work, "build")
    assert said == [("info", f"phase build: {BARE}")] * 2


def test_a_supervisor_that_cannot_listen_is_told(core: Core, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: trace.Supervisor, *args: object) -> None:
        raise PorttraceError("it is broken")

    monkeypatch.setattr(trace.Supervisor, "start_on_demand", refuse)
    said = phase(core, work, "build") + phase(core, work, "destroot")
    assert said.count(("warn", "trace mode: static programs run untraced: it is broken")) == 1
    assert ("info", "phase build: tiers used: tracelib, fence; not used: supervisor") in said


def test_where_the_kernels_fence_differs_is_told_once(core: Core, work: Path) -> None:
    denied = work / "keep"
    denied.mkdir()
    ask(core, "filemap", "prepend", "-write", str(denied), "deny")
    said = phase(core, work, "build") + phase(core, work, "destroot")
    remarks = [text for level, text in said if level == "info" and text.startswith("fence: ")]
    for path in (denied, "/tmp/macports"):
        assert len([text for text in remarks if f"cannot refuse writing {path} below" in text]) == 1
    assert len(remarks) == len(set(remarks))


def test_lost_events_are_told(core: Core, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Snapshot, "lost", property(lambda self: 3))
    said = phase(core, work, "build")
    wanted = "trace mode: the report is not complete: 3 events found no room"
    assert said.count(("warn", wanted)) == 1


def test_nothing_is_said_where_nothing_was_in_force(core: Core, work: Path) -> None:
    ask(core, "context", "enforce", "0")
    ask(core, "trace_start", str(work))
    ask(core, "trace_stop")
    assert told(core) == []


def test_macports_low_level_command(core: Core, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "available_tiers", lambda: ("tracelib",))
    ask(core, "tracelib", "setname", str(work / "socket"))
    ask(core, "tracelib", "opensocket")
    ask(core, "tracelib", "setsandbox", "/=+")
    ask(core, "tracelib", "enablefence")
    ask(core, "tracelib", "closesocket")
    said = [tuple(split(pair)) for pair in split(ask(core, "tracelib", "account"))]
    assert said == [("warn", NO_FENCE), ("warn", NO_SUPERVISOR), ("info", BARE)]
    ask(core, "tracelib", "clean")


PORTFILE = """PortSystem 1.0
name speaker
version 1
categories devel
maintainers nomaintainer
platforms any
description says its tiers
long_description ${description}
homepage https://example.invalid
license MIT
distfiles
use_configure no
extract {}
build { system true }
destroot { xinstall -d ${destroot}${prefix}/share/speaker }
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="a prefix is made by root")
@pytest.mark.parametrize("options", [["-t"], ["-v", "-t"], ["-d", "-t"]], ids=" ".join)
def test_port_says_its_tiers(prefix: Prefix, options: list[str]) -> None:
    prefix.add_port("devel", "speaker", PORTFILE)
    text = prefix.port(*options, "destroot", "speaker").text
    assert (f"phase build: {HELD}" in text) == (options != ["-t"])
    assert "not used: supervisor" not in text and "no Landlock" not in text
    log = (prefix.work("speaker").parent / "logs" / "main.log").read_text()
    assert f":info:build phase build: {HELD}" in log


@pytest.mark.skipif(os.geteuid() != 0, reason="a prefix is made by root")
def test_port_warns_of_a_missing_tier_once(prefix: Prefix) -> None:
    prefix.add_port("devel", "speaker", PORTFILE)
    poor = dataclasses.replace(prefix, launcher=(sys.executable, "-I", "-c", POOR_PORT))
    result = poor.port("-t", "destroot", "speaker")
    assert result.err.count(f"Warning: {NO_FENCE}\n") == 1
    assert result.err.count(f"Warning: {NO_SUPERVISOR}\n") == 1
    assert "tiers used" not in result.text
    quiet = poor.port("destroot", "speaker").text
    assert "no Landlock" not in quiet, "without trace mode there is nothing to say"


def test_a_tier_that_the_machine_lacks_cannot_be_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(run, "available_tiers", lambda: ("tracelib",))
    with pytest.raises(PorttraceError, match="this machine does not have the tier fence"):
        run.main(["--tiers", "tracelib,fence", "--", "touch", str(tmp_path / "ran")])
    assert not (tmp_path / "ran").exists()
