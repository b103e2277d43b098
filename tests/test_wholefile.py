"""A full disk leaves what was there before, and no half of what was to be written: log, report, record."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Prefix
from test_incomplete import PORTTRACE, PRIVATE

from porttrace.cli.logfile import LogFile
from porttrace.errors import PorttraceError
from porttrace.porttool.ui import Ui
from porttrace.wholefile import whole


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """A directory, and words that let a command find a full disk there with a file `old` of 4 bytes."""
    script = f'mount -t tmpfs -o size=16k,mode=755 none {tmp_path} && cd {tmp_path} && echo old > log && "$@"'
    script += f"; status=$?; echo; ls -A {tmp_path}; cat {tmp_path}/log; exit $status"
    around = (*PRIVATE, "sh", "-c", script, "sh")
    if subprocess.run([*around, "true"], capture_output=True, check=False).returncode:
        pytest.skip("NOT CHECKED: a disk that is full needs a mount name space")
    yield tmp_path, around


@pytest.mark.parametrize("option", ["--log", "--report"])
def test_a_full_disk_leaves_the_former_file(disk: tuple[Path, tuple[str, ...]], option: str) -> None:
    place, around = disk
    asks = "i=0; while [ $i -lt 300 ]; do i=$((i + 1)); test -e /etc/hidden/$i; done"
    argv = [*around, PORTTRACE, "run", "-q", "--map=/etc/hidden=-", option, place / "log", "--", "/bin/sh", "-c", asks]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    what = option.removeprefix("--")
    assert done.stderr == f"porttrace: cannot write the {what} {place}/log: No space left on device\n"
    assert (done.returncode, done.stdout) == (125, "\nlog\nold\n")


def test_a_full_disk_leaves_the_former_record(prefix: Prefix) -> None:
    """What the last phase used does not fit any more: the build says so, and the record is that of the phase before."""
    places = prefix.path / "var/macports/porttrace/usage"
    places.mkdir(parents=True)
    script = f"mount -t tmpfs -o size=8k,mode=755 none {places} && head -c 4096 /dev/zero > {places}/fill && "
    script += f'{{ "$@"; status=$?; ls -A {places}; cat {places}/libbar.json; exit $status; }}'
    around = (*PRIVATE, "sh", "-c", script, "sh")
    if os.geteuid() != 0:
        pytest.skip("NOT CHECKED: needs root")
    argv = [*around, *prefix.argv("-q", "-t", "destroot", "libbar")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1, done
    assert f"{places}/libbar.json cannot be written: No space left on device" in done.stderr
    names, brace, record = done.stdout.partition("{")
    assert names.split() == ["fill", "libbar.json"]
    assert json.loads(brace + record)["phases"]


def test_what_is_replaced_keeps_its_mode(tmp_path: Path) -> None:
    file, link, fresh = tmp_path / "file", tmp_path / "link", tmp_path / "fresh"
    file.write_text("old")
    file.chmod(0o604)
    link.symlink_to(file)
    for path in file, link, fresh:
        with whole(path) as descriptor:
            os.write(descriptor, path.name.encode())
    assert stat.S_IMODE(file.stat().st_mode) == 0o604
    assert stat.S_IMODE(fresh.stat().st_mode) == 0o666 & ~_umask()
    assert [path.read_text() for path in (file, link, fresh)] == ["file", "link", "fresh"]
    assert not link.is_symlink() and sorted(path.name for path in tmp_path.iterdir()) == ["file", "fresh", "link"]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_log_goes_where_a_link_leads_and_halves_go_nowhere(tmp_path: Path) -> None:
    """Where no other file can be put in its place it is written as it is, and emptied where that fails."""
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_text("old")
    link.symlink_to(file)

    def some(descriptor: int) -> int:
        return os.write(descriptor, b"line\n")

    def half(descriptor: int) -> int:
        os.write(descriptor, b"li")
        raise OSError(28, "No space left on device")

    assert LogFile(str(link)).write(some) == 5
    assert link.is_symlink() and file.read_text() == "line\n"
    with pytest.raises(PorttraceError, match=r"cannot write the log .*/link: No space left on device"):
        LogFile(str(link)).write(half)
    assert file.read_text() == ""


def test_a_full_log_does_not_end_a_build(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is told once, with its name; what the build says goes on to be seen."""
    Path(tmp_path / "log").symlink_to("/dev/full")
    ui = Ui()
    ui.push_log(tmp_path / "log")
    for number in range(3):
        ui.say("msg", f"line {number}")
    ui.pop_log()
    said = capsys.readouterr()
    assert said.out == "line 0\nline 1\nline 2\n"
    assert said.err == f"Warning: the log {tmp_path}/log ends before the build does: No space left on device\n"
