"""Standard streams that are closed, full or of a poor encoding: one line and a status, and nothing is lost."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from conftest import BIN, PATIENCE, Prefix

PATH = "/usr/local/bin:/usr/bin:/bin"
REPORT = {"findings": [{"kind": "hidden", "path": "/a\udcff\u20ac", "access": "read"}]}
needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="NOT CHECKED: no /dev/full")


def shell(line: str, where: Path, **env: str) -> subprocess.CompletedProcess[bytes]:
    """A line of a shell; $B is where the commands are."""
    words = {"PATH": PATH, "HOME": "/nonexistent", "B": str(BIN), **env}
    return subprocess.run(["sh", "-c", line], cwd=where, env=words, capture_output=True, timeout=PATIENCE, check=False)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "r.json").write_text(json.dumps(REPORT))
    return tmp_path


TALKERS = [
    "$B/porttrace --help",
    "$B/porttrace --version",
    "$B/porttrace run --help",
    "$B/porttrace doctor",
    "$B/porttrace report r.json",
    "$B/porttrace diff r.json r.json",
    "$B/port --help",
    "$B/port --version",
    "$B/port deptest --help",
]


# argparse writes the help of these itself, and passes over what it cannot write where nothing is buffered.
ARGPARSE = ["$B/porttrace run --help", "$B/port deptest --help"]
FULL = [*((line, "") for line in TALKERS), *((line, "1") for line in TALKERS if line not in ARGPARSE)]


@needs_full
@pytest.mark.parametrize(("line", "unbuffered"), FULL)
def test_a_full_disk_is_one_line_and_a_status(work: Path, line: str, unbuffered: str) -> None:
    done = shell(f"{line} >/dev/full", work, PYTHONUNBUFFERED=unbuffered)
    assert done.returncode == 1 and b"cannot write" in done.stderr
    assert b"No space left on device" in done.stderr and done.stderr.count(b"\n") == 1, done.stderr
    assert shell(f"{line} >/dev/full 2>/dev/full", work).returncode == 1


@pytest.mark.parametrize("line", TALKERS)
def test_a_closed_output_is_one_line_and_a_status(work: Path, line: str) -> None:
    done = shell(f"{line} >&-", work)
    assert done.returncode == 1
    assert b"Bad file descriptor" in done.stderr and done.stderr.count(b"\n") == 1, done.stderr
    assert shell(f"{line} >&- 2>&- <&-", work).returncode == 1


@pytest.mark.parametrize("line", TALKERS)
def test_a_reader_that_has_gone_hears_nothing(work: Path, line: str) -> None:
    """The shell's status is the reader's; what the command says would stand on standard error."""
    done = shell(f"{line} | true", work)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_reader_of_ports_answers_that_has_gone_hears_nothing(prefix: Prefix, tmp_path: Path) -> None:
    done = shell(f"$B/port --prefix {prefix.path} list | true", tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_command_runs_whatever_is_closed(work: Path, closed: str) -> None:
    """And no file that porttrace opens comes to stand where a program writes."""
    done = shell(
        f"$B/porttrace run --report made.json --log made.log -- sh -c 'echo x >ran; echo y; exit 7' {closed}", work
    )
    assert done.returncode == 7, done.stderr
    assert (work / "ran").read_text() == "x\n"
    assert json.loads((work / "made.json").read_text())["stats"]["exit_status"] == 7
    assert all(json.loads(row) for row in (work / "made.log").read_text().splitlines())


@needs_full
def test_what_cannot_be_told_does_not_change_the_status(work: Path) -> None:
    """There is something to tell: the path is hidden."""
    line = "$B/porttrace run --map '/etc/passwd=-' -- sh -c 'cat /etc/passwd 2>/dev/null; exit 7'"
    assert b"/etc/passwd" in shell(line, work).stderr
    assert shell(f"{line} 2>/dev/full", work).returncode == 7


@needs_full
@pytest.mark.parametrize("option", ["--log", "--report"])
def test_findings_are_told_where_they_cannot_be_written(work: Path, option: str) -> None:
    line = f"$B/porttrace run {option} /dev/full --map '/etc/passwd=-' -- cat /etc/passwd"
    done = shell(line, work)
    assert done.returncode == 125
    assert b"hidden" in done.stderr and b"No space left on device" in done.stderr.splitlines()[-1]
    both = shell(line.replace(option, "--report ok.json --log") if option == "--log" else line, work)
    assert option == "--report" or json.loads((work / "ok.json").read_text())["findings"], both.stderr


def test_a_report_that_cannot_be_written_is_said_before_the_work(work: Path, prefix: Prefix) -> None:
    for where, said in (("/", b"it is a directory"), ("/nowhere/r.json", b"does not exist")):
        for line in (
            f"$B/porttrace run --report {where} -- touch ran",
            f"$B/port --prefix {prefix.path} -t --report {where} build libbar",
            f"$B/port --prefix {prefix.path} deptest --report {where} libbar",
        ):
            done = shell(line, work)
            assert done.returncode in (1, 125) and said in done.stderr and done.stderr.count(b"\n") == 1, done.stderr
    assert not (work / "ran").exists()
    assert not list((prefix.path / "var/macports").glob("build/*/libbar"))


@pytest.mark.parametrize("encoding", ["ascii", "utf-8", "latin-1"])
def test_a_path_is_written_as_the_bytes_that_it_has(work: Path, encoding: str) -> None:
    """Also where the locale has no such character, or the bytes are none in it."""
    done = shell("$B/porttrace learn --options r.json", work, PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"--read '/a\xff"), done.stdout
    assert done.stdout.endswith({"utf-8": "\u20ac'\n".encode()}.get(encoding, b"\\u20ac'\n"))
    for line in ("explain /\u00e9\u20ac r.json", "report -v r.json", "diff r.json r.json", "\u20ac", "explain /\udcff"):
        done = shell(f"$B/porttrace {line}", work, PYTHONIOENCODING=encoding)
        assert b"Traceback" not in done.stderr and (done.stdout or done.stderr), line


@needs_full
def test_a_build_goes_on_where_its_messages_cannot_be_written(prefix: Prefix, tmp_path: Path) -> None:
    for where in (">/dev/full", ">&-", ">&- 2>&-", ">/dev/full 2>/dev/full"):
        done = shell(f"$B/port --prefix {prefix.path} -t install libbar {where}", tmp_path)
        assert done.returncode == 1 and b"Traceback" not in done.stderr, done.stderr
        assert prefix.installed() == {"libbar"}
        prefix.port("uninstall", "libbar")


@needs_full
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", ["installed", "-q installed", "list", "contents libbar", "info libbar"])
def test_an_answer_of_port_that_cannot_be_written_is_one_line(prefix: Prefix, words: str, unbuffered: str) -> None:
    prefix.port("install", "libbar")
    line = f"$B/port --prefix {prefix.path} {words}"
    for where, why in ((">&-", b"Bad file descriptor"), (">/dev/full", b"No space left on device")):
        done = shell(f"{line} {where}", prefix.path, PYTHONUNBUFFERED=unbuffered)
        assert done.returncode == 1
        assert done.stderr == b"port: cannot write to standard output: " + why + b"\n"
    done = shell(f"{line} | true", prefix.path, PYTHONUNBUFFERED=unbuffered)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("$B/porttrace filemap", b"required: what, file"),
        ("$B/porttrace filemap frob x", b"invalid choice: 'frob'"),
        ("$B/porttrace doctor x", b"unrecognized arguments: x"),
        ("$B/porttrace agents x", b"unrecognized arguments: x"),
        ("$B/porttrace integrate", b"required: PREFIX"),
        ("$B/porttrace run -- ''", b"porttrace: '': there is no such command"),
        ("$B/port --prefix '' installed", b"--prefix requires a directory"),
    ],
)
def test_a_wrong_command_line_is_one_line(tmp_path: Path, line: str, said: bytes) -> None:
    done = shell(line, tmp_path)
    assert done.returncode in (1, 2, 125, 127)
    assert said in done.stderr and done.stderr.count(b"\n") == 1, done.stderr


def test_port_knows_its_version_without_a_prefix(tmp_path: Path) -> None:
    for words in ("--version", "version"):
        assert shell(f"$B/port {words}", tmp_path).stdout.startswith(b"Version: porttrace ")
    assert b"usage: port " in shell("$B/port help", tmp_path).stdout


def test_too_low_a_limit_of_descriptors_is_named_with_what_to_do(work: Path) -> None:
    """Whichever of its files is one too many: the limit is what is wrong."""
    tried = [shell(f"ulimit -n {limit}; exec $B/porttrace run -- true", work) for limit in range(7, 13)]
    failed = [done for done in tried if done.returncode]
    assert len(failed) > 2
    for done in failed:
        assert done.returncode == 125 and done.stderr.count(b"\n") == 1, done.stderr
        assert done.stderr.endswith(b": Too many open files; raise the limit (ulimit -n)\n"), done.stderr
