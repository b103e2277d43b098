"""make setup: at rest when nothing changed, and clear where it cannot go on."""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, Result, prefix_script, run_command

SETUP = ROOT / "scripts" / "setup"
#: What the script itself needs to find out what is missing.
TOOLS = ("sh", "dirname", "id", "uname", "cat", "find", "sha256sum", "sort", "mkdir", "flock", "tclsh", "gcc", "perl")


def test_nothing_to_do_is_quick_and_silent() -> None:
    # As if from a shell with another Python first in PATH and an empty environment.
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}
    run_command([SETUP], env=env)  # the checkout may have changed since it was set up
    stamp = (ROOT / ".venv/.setup-stamp").stat().st_mtime_ns
    start = time.monotonic()
    result = run_command([SETUP], env=env)
    assert result.status == 0, result.text
    assert result.text == ""
    assert time.monotonic() - start < 5
    assert (ROOT / ".venv/.setup-stamp").stat().st_mtime_ns == stamp


def test_unknown_option_is_refused() -> None:
    result = run_command([SETUP, "--nosuch"])
    assert result.status == 1
    assert result.err == "setup: unknown option --nosuch (there are --system-only, --tests)\n"


needs_root = pytest.mark.skipif(
    not sys.platform.startswith("linux") or os.geteuid() != 0, reason="needs root: becomes another user"
)


def setup_as_nobody(open_tmp: Path, *, tclsh: str | None = None) -> Result:
    """What `scripts/setup` says to an ordinary user with only `TOOLS`; `tclsh`: a script in place of the real one."""
    checkout = open_tmp / "checkout"
    (checkout / "scripts").mkdir(parents=True)
    shutil.copy2(SETUP, checkout / "scripts" / "setup")
    programs = open_tmp / "bin"
    programs.mkdir()
    for name in [*TOOLS, "apt-get"]:
        if found := shutil.which(name):
            (programs / name).symlink_to(found)
    if tclsh is not None:
        (programs / "tclsh").unlink()
        (programs / "tclsh").write_text(tclsh)
        (programs / "tclsh").chmod(0o755)
    prefix_script.open_up(checkout)
    os.chown(checkout, 65534, 65534)
    result = run_command(
        [
            shutil.which("setpriv") or "setpriv",
            "--reuid",
            "65534",
            "--regid",
            "65534",
            "--clear-groups",
            checkout / "scripts/setup",
        ],
        env={"PATH": str(programs), "HOME": "/nonexistent"},
    )
    assert result.status == 1
    assert result.err.startswith("setup: system packages are missing; run: sudo apt-get install ")
    assert not (checkout / ".venv").exists()
    return result


@needs_root
def test_missing_programs_are_named_with_the_command_that_installs_them(open_tmp: Path) -> None:
    words = setup_as_nobody(open_tmp).err.split()
    assert {"cmake", "strace", "valgrind"} <= set(words)
    assert "gcc" not in words, "what is there is not asked for again"
    assert "tcllib" not in words, "what is there is not asked for again"


@needs_root
def test_a_tclsh_without_tcllib_is_noticed(open_tmp: Path) -> None:
    without = f"#!/bin/sh\n{{ echo 'set auto_path {{}}'; cat; }} | {shutil.which('tclsh')}\n"
    assert "tcllib" in setup_as_nobody(open_tmp, tclsh=without).err.split()
