"""Each reason for which the library is not in a program: a finding with just that reason where nothing else holds."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from porttrace import processes
from porttrace.codes import CODES
from porttrace.filemap import Action, Filemap, Rule
from porttrace.findings import Finding, FindingKind
from porttrace.policy import Policy
from porttrace.processes import REASONS, UNANNOUNCED
from porttrace.session import Session
from porttrace.trace import Trace

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="NOT CHECKED: only root can give a program such rights")
SOURCE = "int main(void) { return 0; }\n"


@pytest.fixture
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def trace(place: Path) -> Iterator[Trace]:
    everything = Filemap([Rule(b"/", Action.ALLOW)])
    with Session(tiers=["tracelib"]) as session:
        yield session.start(Policy(everything, everything.copy()), place)


def compiled(place: Path, *options: str, compiler: str = "cc") -> Path:
    if shutil.which(compiler) is None:
        pytest.skip(f"NOT CHECKED: there is no {compiler}")
    (place / "x.c").write_text(SOURCE)
    done = subprocess.run([compiler, *options, "-o", place / "x", place / "x.c"], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"NOT CHECKED: {compiler} {' '.join(options)}: {done.stderr[-100:]}")
    return place / "x"


def untraced(trace: Trace, script: str) -> list[Finding]:
    subprocess.run([*trace.launch_argv, "/bin/sh", "-c", script], check=False, capture_output=True)
    return [finding for finding in trace.stop().findings if finding.kind is FindingKind.UNTRACED]


@pytest.fixture(params=["by a shell", "first"])
def first(request: pytest.FixtureRequest) -> bool:
    """Who starts it: a program that has the library inside, or port itself, through the launcher."""
    return bool(request.param == "first")


def only(trace: Trace, program: Path, script: str = "", first: bool = False) -> str:
    """The reason of the one finding there is."""
    if first:
        subprocess.run([*trace.launch_argv, program], check=False, capture_output=True)
        (finding,) = [finding for finding in trace.stop().findings if finding.kind is FindingKind.UNTRACED]
    else:
        (finding,) = untraced(trace, script or f"{program}; true")
    assert (finding.path, finding.access) == (str(program), "exec")
    return finding.reason


def test_static(trace: Trace, place: Path, first: bool) -> None:
    assert only(trace, compiled(place, "-static"), first=first) == REASONS["static"]


def test_other_abi(trace: Trace, place: Path, first: bool) -> None:
    program = compiled(place, "-m32", "-nostdlib", "-static", "-e", "main")
    assert only(trace, program, first=first) == REASONS["other ABI"]


def test_other_c_library(trace: Trace, place: Path, first: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where porttrace was built without a compiler for it."""
    program = compiled(place, compiler="musl-gcc")
    (trace.directory / "tracelib-musl.so").unlink(missing_ok=True)
    monkeypatch.setattr(processes, "installed", lambda name: Path("/nowhere") / name)
    assert only(trace, program, first=first) == REASONS["other C library"]


@as_root
@pytest.mark.parametrize("mode", [0o4755, 0o2755])
def test_set_user_id(trace: Trace, place: Path, mode: int, first: bool) -> None:
    program = compiled(place)
    os.chown(program, 65534, 65534)
    program.chmod(mode)
    assert only(trace, program, first=first) == REASONS["set-user-ID"]


@as_root
def test_file_capabilities(trace: Trace, place: Path) -> None:
    """The library says so at once, whoever runs it. (Root gains nothing by it, and is traced where port starts it.)"""
    program = compiled(place)
    # version 2 of capability.h: permitted CAP_NET_RAW, effective
    data = bytes.fromhex("01000002 00200000 00000000 00000000 00000000")
    os.setxattr(program, "security.capability", data)
    assert only(trace, program) == REASONS["file capabilities"]


def test_unannounced_its_loader_finds_nothing(trace: Trace, place: Path) -> None:
    """Without a descriptor to spare the loader can open no library, neither ours nor any other."""
    program = compiled(place)
    assert only(trace, program, f"(ulimit -n 3; {program}); true") == UNANNOUNCED


@as_root
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="NOT CHECKED: there is no setpriv")
def test_unannounced_another_user(trace: Trace, place: Path) -> None:
    program = compiled(place)
    script = f"setpriv --reuid 65534 --regid 65534 --clear-groups {program}; true"
    assert only(trace, program, script) == UNANNOUNCED


def test_a_program_that_is_entered_is_none(trace: Trace, place: Path) -> None:
    assert untraced(trace, f"{compiled(place)}; true") == []


def test_the_document_has_each_reason() -> None:
    rows = [line.split(" | ")[0].removeprefix("| ") for line in CODES[FindingKind.UNTRACED].details.splitlines()[4:]]
    assert rows == [*REASONS.values(), UNANNOUNCED]


def test_a_first_program_that_cannot_be_started_is_none(trace: Trace, place: Path) -> None:
    program = compiled(place, "-static")
    program.chmod(0o644)
    assert subprocess.run([*trace.launch_argv, program], check=False, capture_output=True).returncode == 126
    assert trace.stop().findings == []


def test_a_supervised_first_program_is_none(place: Path) -> None:
    everything = Filemap([Rule(b"/", Action.ALLOW)])
    with Session() as session:
        trace = session.start(Policy(everything, everything.copy()), place)
        assert subprocess.run([*trace.launch_argv, compiled(place, "-static")], check=False).returncode == 0
        assert trace.stop().findings == []
