"""A report that is not the whole truth says so: a full disk, a flood, an event file that the build has spoilt.

And with each tier the full log has what was not there, too.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tracelib_session import SOURCE, compile_c

from porttrace import readout

PORTTRACE = str(Path(sys.executable).with_name("porttrace"))
PRIVATE = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "-r"]
TOLD = "the report is not complete: "


@pytest.fixture
def work() -> Iterator[Path]:
    """Outside /tmp, which a run may write."""
    with tempfile.TemporaryDirectory(prefix="porttrace-work-", dir="/srv") as name:
        yield Path(name)


def run(work: Path, *words: str | Path, around: tuple[str, ...] = ()) -> tuple[int, str, dict[str, Any]]:
    """Status, standard error and report of a run."""
    report = work / "report.json"
    report.unlink(missing_ok=True)
    argv = [*around, PORTTRACE, "run", "--report", report, *words]
    done = subprocess.run(argv, cwd=work, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stderr, json.loads(report.read_text()) if report.exists() else {}


@pytest.fixture(scope="module")
def opener(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_c(SOURCE / "tests/calls/opener.c", tmp_path_factory.mktemp("opener") / "opener", "-static")


def python(code: str) -> list[str]:
    """A system's program that does this."""
    return ["/usr/bin/python3", "-I", "-S", "-c", "import os; events = 9\n" + code]


# --- what the build does to the file ---

SPOILT = {
    "cut short": ("os.truncate(events, 4096)", "the event file has 4096 bytes and not "),
    "emptied": ("os.truncate(events, 0)", "the event file has 0 bytes and not "),
    "its head overwritten": (
        "os.pwrite(events, b'x' * 16, 0)",
        "the head of the event file was overwritten",
    ),
    "its first records zeroed": (
        "os.pwrite(events, bytes(64), 256 << 20)",
        " records were not sound",
    ),
    "its starts cut off": ("os.truncate(events, 256 << 20)", "the head of the event file was changed"),
    "its starts cut off, and what would have told that": (
        "import subprocess\nos.truncate(events, 256 << 20)\n"
        "os.pwrite(events, bytes(24 * 64), 320)\nsubprocess.run('/bin/true')",
        "1 programs that somebody refers to are not there",
    ),
    "half a record appended": (
        "import struct\nos.lseek(events, 0, os.SEEK_END)\n"
        "os.write(events, struct.pack('<Q24x', 0xB7E5 << 48 | 120000 >> 4 << 2 | 2))\n",
        "1 records were not sound",
    ),
    "its end set back": (
        "os.pwrite(events, bytes(8), int.from_bytes(b'\\x80', 'little'))",
        "the head of the event file was changed",
    ),
}


@pytest.mark.parametrize("what", SPOILT)
def test_a_spoilt_event_file_is_noticed(work: Path, opener: Path, what: str) -> None:
    code, told = SPOILT[what]
    status, err, report = run(work, "--tiers", "tracelib", "--", opener, "open", *python(code))
    assert status in (0, 135), err  # cutting the file can cost the program that does it (SIGBUS)
    assert TOLD in err and told in err, err
    assert any(told in reason for reason in report["stats"]["incomplete"])


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("close", "the mode of the event file was changed"),
        ("remove", "the event file was taken away"),
        ("replace", "there is another event file in the place of the first"),
    ],
)
def test_an_event_file_that_programs_do_not_find_is_noticed(work: Path, opener: Path, how: str, told: str) -> None:
    """They hide what they hid before, and cannot tell."""
    status, err, report = run(work, "--tiers", "tracelib", "--", opener, how, *python("os.stat('/home')"))
    assert status == 1 and "FileNotFoundError" in err
    assert TOLD in err and told in report["stats"]["incomplete"]


@pytest.mark.parametrize("first", ["", "import ctypes\n"], ids=["", "supervised"])
@pytest.mark.parametrize("tiers", ["tracelib", "tracelib,supervisor,fence"])
def test_a_build_has_nothing_to_do_with_the_event_file(work: Path, tiers: str, first: str) -> None:
    code = (
        "import pathlib\nevents = os.path.dirname(os.environ['LD_PRELOAD']) + '/events'\n"
        "for act in (lambda: os.chmod(events, 0), lambda: os.unlink(events), lambda: os.rename(events, events + '2'),\n"
        "            lambda: os.link(events, 'e'), lambda: os.truncate(events, 0), lambda: os.utime(events),\n"
        "            lambda: os.setxattr(events, 'user.a', b''), lambda: os.rename('made', events)):\n"
        "    pathlib.Path('made').touch()\n"
        "    try: act()\n"
        "    except OSError as error: assert error.errno in (1, 13), error\n"
        "    else: raise SystemExit(9)\n"
    )
    status, err, report = run(work, "--tiers", tiers, "--write", work, "--", *python(first + code))
    assert status == 0, err
    assert report["stats"]["incomplete"] == []
    assert {Path(f["path"]).name for f in report["findings"]} >= {"events"}


def test_strict_does_not_pass_what_is_not_complete(work: Path, opener: Path) -> None:
    code, _ = SPOILT["its head overwritten"]
    status, err, _ = run(work, "--strict", "--tiers", "tracelib", "--", opener, "open", *python(code))
    assert status == 3 and TOLD in err


def test_an_honest_run_is_complete(work: Path) -> None:
    status, err, report = run(work, "--tiers", "tracelib", "--", *python("print(os.stat('/usr/bin'))"))
    assert status == 0 and TOLD not in err and report["stats"]["incomplete"] == []


# --- a flood ---


def test_a_flood_is_cut_short_and_told(work: Path) -> None:
    most = readout._MOST_FINDINGS
    code = f"for n in range({most + 5000}): os.access('/opt/hidden/%d' % n, 0)"
    status, err, report = run(work, "--tiers", "tracelib", "--map=/opt/hidden=-", "--", *python(code))
    assert status == 0, err
    assert len(report["findings"]) <= most
    assert any("more findings are not listed" in reason for reason in report["stats"]["incomplete"])
    assert TOLD in err and len(err) < 100_000


# --- a disk that is full ---


def small_disk(megabytes: int) -> tuple[str, ...]:
    """Words that give a command a session directory on a disk of this size. Skips where that cannot be made."""
    Path("/tmp/macports").mkdir(mode=0o755, exist_ok=True)
    script = f'mount -t tmpfs -o size={megabytes}m,mode=755 none /tmp/macports && exec "$@"'
    around = (*PRIVATE, "sh", "-c", script, "sh")
    if subprocess.run([*around, "true"], capture_output=True, check=False).returncode:
        pytest.skip("NOT CHECKED: a disk that is full needs a mount name space")
    return around


@pytest.mark.parametrize("tier", ["tracelib", "supervisor"])
def test_a_full_disk_costs_the_log_and_not_the_build(work: Path, tier: str) -> None:
    code = "for n in range(30000): os.access('/usr/' + 'x' * 200, 0)\nprint('alive')"
    log = work / "log"
    argv = [*small_disk(5), PORTTRACE, "run", "--tiers", tier, "--log", log, "--", *python(code)]
    done = subprocess.run(argv, cwd=work, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stdout == "alive\n", done
    assert TOLD in done.stderr and "events found no room" in done.stderr
    assert 1000 < len(log.read_text().splitlines()) < 30000


def test_no_room_at_the_start_is_one_clear_line(work: Path) -> None:
    status, err, report = run(work, "--", "true", around=small_disk(1))
    assert status != 0 and report == {}
    assert err.count("\n") == 1 and "No space left on device" in err


# --- the log ---

LOOKS = """
import os
for path in "/usr/lib/os-release", "/usr/nothing", "/usr/nothing/below", "HIDDEN/file", "HIDDEN/nothing":
    for look in os.stat, open, os.listdir, lambda path: os.access(path, os.R_OK):
        try:
            look(path)
        except OSError:
            pass
"""


def test_each_tier_logs_what_was_not_there(work: Path) -> None:
    seen = {}
    with tempfile.TemporaryDirectory(prefix="porttrace-test-", dir="/opt") as hidden:
        Path(hidden).chmod(0o755)
        Path(hidden, "file").touch()
        for tier in "tracelib", "supervisor":
            log = work / f"{tier}.jsonl"
            options = ("--tiers", tier, f"--map={hidden}=-", "--log", log)
            status, err, _ = run(work, *options, "--", *python(LOOKS.replace("HIDDEN", hidden)))
            assert status == 0, err
            rows = map(json.loads, log.read_text().splitlines())
            seen[tier] = {
                (row["access"], row["path"], row["verdict"], row["errno"])
                for row in rows
                if row["path"].startswith(("/usr/nothing", hidden, "/usr/lib/os-release"))
            }
    assert ("stat", "/usr/nothing", "allow", errno.ENOENT) in seen["tracelib"]
    assert ("read", f"{hidden}/file", "hide", errno.ENOENT) in seen["tracelib"]
    assert seen["supervisor"] == seen["tracelib"]
