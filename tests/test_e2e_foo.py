"""The way of the mission: foo probes for stray, which it does not declare."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, Prefix, processes_of, run_command, sessions


def foo_says(prefix: Prefix) -> list[str]:
    """What the installed foo was built with."""
    return subprocess.run(
        [prefix.path / "bin/foo", "--version"], check=True, capture_output=True, text=True
    ).stdout.splitlines()


def config_log(prefix: Prefix) -> str:
    return (prefix.work("foo") / "foo-1.0" / "config.log").read_text()


@pytest.fixture
def with_stray(prefix: Prefix) -> Prefix:
    """A prefix in which stray is installed."""
    prefix.port("install", "stray")
    assert prefix.installed() == {"stray"}
    return prefix


def test_without_trace_mode_stray_is_picked_up(with_stray: Prefix) -> None:
    with_stray.port("install", "foo")
    assert "stray: 1.0" in foo_says(with_stray)
    assert f"stray-config: {with_stray.path}/bin/stray-config" in foo_says(with_stray)


def test_with_trace_mode_stray_is_hidden_and_explained(with_stray: Prefix) -> None:
    result = with_stray.port("-k", "-t", "install", "foo")
    assert foo_says(with_stray)[2:] == ["stray.h: no", "stray-config: no", "stray: no"]
    assert with_stray.installed() == {"stray", "libbar", "foo"}
    assert "The following existing files were hidden from the build system by trace mode:" in result.text
    for path, program in (("include/stray.h", "cc1"), ("bin/stray-config", "sh")):
        block = result.text.partition(f"  {with_stray.path}/{path}\n")[2]
        lines = [line.strip() for line in block.partition("\n  /")[0].splitlines()]
        assert lines[0] == "belongs to port stray, which foo does not declare", result.text
        asked = [line for line in lines if line.startswith("asked for by")]
        assert any(program in line for line in asked), lines
        assert all("in phase configure" in line for line in asked), lines
        fixes = [line.partition(":  ")[2] for line in lines if line.startswith("to allow it, add to the Portfile:")]
        assert fixes in (["depends_lib-append port:stray"], ["depends_build-append port:stray"]), lines


def test_libbar_is_seen_because_it_is_declared(with_stray: Prefix) -> None:
    result = with_stray.port("-t", "install", "foo")
    assert "libbar: 1.2" in foo_says(with_stray)
    assert "bar.h" not in result.text and "libbar.so" not in result.text


def test_a_declared_dependency_is_found(with_stray: Prefix) -> None:
    portfile = with_stray.tree / "devel/foo/Portfile"
    portfile.write_text(portfile.read_text() + "\ndepends_lib-append port:stray\n")
    result = with_stray.port("-t", "install", "foo")
    assert "stray: 1.0" in foo_says(with_stray)
    assert "hidden from the build system" not in result.text


def test_nothing_is_left_behind(with_stray: Prefix) -> None:
    result = with_stray.port("-t", "install", "foo")
    assert str(result.pid) not in sessions()
    assert not [line for line in processes_of("macports").values() if str(with_stray.path) in line]


def test_absent_files_are_told_only_with_v(with_stray: Prefix) -> None:
    heading = "would have been hidden from the build system by trace mode if"
    assert heading not in with_stray.port("-t", "configure", "foo").text
    with_stray.port("clean", "foo")
    result = with_stray.port("-v", "-t", "configure", "foo")
    assert heading in result.text
    assert "not shown" not in result.text


def test_the_demo() -> None:
    result = run_command([sys.executable, ROOT / "scripts/demo.py"])
    assert result.status == 0, result.text
    assert "port -t install foo" in result.out
    assert result.out.count("\n  ok  ") >= 10
    assert not Path("/tmp").joinpath("porttrace-demo").exists()
