"""Interrupted, killed, side by side, as root and as an ordinary user: port leaves everything in order."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import site
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import BIN, Prefix, PrefixFactory, prefix_script, processes_of, sessions
from test_endings import beats

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: runs port as another user, or for the build user")

SLOW = """PortSystem          1.0

name                slow
version             1.0
categories          devel
license             public-domain
maintainers         nomaintainer
description         a build that waits
long_description    ${description}
homepage            https://porttrace.invalid/slow

distfiles
extract.mkdir       yes
use_configure       no

build {
    system -W ${workpath} "echo started > started; sleep 97.25 & sleep 97.25"
}

destroot {
    xinstall -d ${destroot}${prefix}/share/slow
}
"""


def wait_for(condition: object, what: str, seconds: float = 30) -> None:
    """Poll a function until it is true; fails the test after `seconds`."""
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"{what}: not within {seconds} s")
        time.sleep(0.02)


def sleepers(prefix: Prefix) -> list[int]:
    """The processes that work below the prefix."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (entry / "cwd").readlink().is_relative_to(prefix.path):
                found.append(int(entry.name))
    return found


class Started:
    """A port that builds the port slow, in a session and process group of its own."""

    def __init__(self, prefix: Prefix) -> None:
        self.prefix = prefix
        self.process = subprocess.Popen(
            prefix.argv("-t", "build", "slow"),
            env=dict(prefix.env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            wait_for(lambda: self.begun() or self.process.poll() is not None, "the build starts")
            assert self.process.poll() is None, self.process.communicate()[0]
        except BaseException:
            self.kill()
            raise

    def begun(self) -> bool:
        return any(self.prefix.path.glob("var/macports/build/*/slow/work/started"))

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()


@pytest.fixture
def slow(prefix: Prefix) -> Iterator[Prefix]:
    """A prefix with the port slow; what it leaves running is killed in the end."""
    prefix.add_port("devel", "slow", SLOW)
    yield prefix
    for pid in sleepers(prefix):
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("to_group", [True, False], ids=["group, as a terminal does", "port alone"])
def test_ctrl_c_leaves_nothing(slow: Prefix, to_group: bool) -> None:
    port = Started(slow)
    assert str(port.process.pid) in sessions()
    assert len(sleepers(slow)) >= 2
    (os.killpg if to_group else os.kill)(port.process.pid, signal.SIGINT)
    try:
        output, _ = port.process.communicate(timeout=15)
    except subprocess.TimeoutExpired:
        port.kill()
        pytest.fail("port does not end after Ctrl-C")
    assert port.process.returncode != 0
    assert "Traceback" not in output, output
    assert str(port.process.pid) not in sessions()
    wait_for(lambda: not sleepers(slow), "the build's processes end", 10)
    assert slow.installed() == set()
    slow.port("clean", "slow")


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP])
def test_being_told_to_end_leaves_nothing(slow: Prefix, signum: signal.Signals) -> None:
    port = Started(slow)
    port.process.send_signal(signum)
    try:
        port.process.communicate(timeout=15)
    except subprocess.TimeoutExpired:
        port.kill()
        pytest.fail(f"port does not end after {signum.name}")
    assert port.process.returncode != 0
    assert str(port.process.pid) not in sessions()
    wait_for(lambda: not sleepers(slow), "the build's processes end", 10)


def test_the_next_start_cleans_up_after_kill_9(slow: Prefix) -> None:
    port = Started(slow)
    port.process.kill()
    port.process.communicate() if not sleepers(slow) else port.process.wait()
    assert str(port.process.pid) in sessions(), "a killed port cannot clean up: nothing would be tested"
    result = slow.port("-t", "install", "libbar")
    assert str(port.process.pid) not in sessions(), result.text
    wait_for(lambda: not sleepers(slow), "the killed port's processes end", 10)
    assert slow.installed() == {"libbar"}


ENDLESS = SLOW.replace(
    '"echo started > started; sleep 97.25 & sleep 97.25"',
    '"cc -pthread -o forks ${filespath}/forks.c && head -c 8 /dev/zero > beat && ./forks beat @HOW@ > /dev/null 2>&1"',
)


@pytest.mark.parametrize("how", ["chain deaf 200", "chain deaf setsid 200"])
def test_what_forks_without_end_ends_with_its_phase(prefix: Prefix, how: str) -> None:
    """Each generation lives for less than a millisecond and ignores SIGTERM."""
    source = (Path(__file__).parent / "endings/forks.c").read_text()
    prefix.add_port("devel", "slow", ENDLESS.replace("@HOW@", how), {"forks.c": source})
    result = prefix.port("-t", "build", "slow")
    beat = prefix.work("slow") / "beat"
    assert any(beat.read_bytes()), "it ran"
    assert not beats(beat)
    assert "forks) were still running and were ended (SIGKILL)" in result.text or "forks) was still" in result.text


def test_two_at_a_time_in_two_prefixes(make_prefix: PrefixFactory) -> None:
    one, two = make_prefix("one"), make_prefix("two")
    for prefix in (one, two):
        prefix.port("install", "stray")
    jobs = [
        subprocess.Popen(
            prefix.argv("-t", "install", name),
            env=dict(prefix.env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for prefix, name in ((one, "foo"), (two, "primes"))
    ]
    outputs = [job.communicate(timeout=120)[0] for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0], "\n".join(outputs)
    assert one.installed() == {"stray", "libbar", "foo"}
    assert two.installed() == {"stray", "libbar", "primes"}
    assert str(one.path / "include/stray.h") in outputs[0]
    assert str(one.path) not in outputs[1] and str(two.path) not in outputs[0]
    assert not sessions() & {str(job.pid) for job in jobs}


WHO = """PortSystem          1.0

name                who
version             1.0
categories          devel
license             public-domain
maintainers         nomaintainer
description         writes down as whom its phases run
long_description    ${description}
homepage            https://porttrace.invalid/who

distfiles
extract.mkdir       yes
use_configure       no

proc who_am_i {phase} {
    global workpath
    set script {grep -E '^(Uid|Gid|Groups|NoNewPrivs):' /proc/self/status
        printf 'HOME:\\t%s\\nTMPDIR:\\t%s\\nUmask:\\t%s\\n' "$HOME" "$TMPDIR" `umask`}
    if {$phase ni {fetch checksum}} {
        system -W ${workpath} "($script) > ${phase}.system"
    }
    ui_msg "<$phase>\n[exec sh -c $script]\n</$phase>"
}

pre-fetch       { who_am_i fetch }
pre-checksum    { who_am_i checksum }
post-extract    { who_am_i extract }
pre-patch       { who_am_i patch }
build           { who_am_i build }
destroot {
    who_am_i destroot
    xinstall -d ${destroot}${prefix}/share/who
    xinstall -m 644 ${workpath}/build.system ${destroot}${prefix}/share/who/build.ids
}
"""


PHASES = ("fetch", "checksum", "extract", "patch", "build", "destroot")


@as_root
def test_phases_run_as_the_build_user(prefix: Prefix) -> None:
    prefix.add_port("devel", "who", WHO)
    former = os.umask(0o077)
    try:
        said = prefix.port("-t", "-k", "install", "who").text
    finally:
        os.umask(former)
    import pwd

    user = pwd.getpwnam("macports")
    own = {user.pw_gid, *os.getgrouplist(user.pw_name, user.pw_gid)}
    work = prefix.work("who")
    texts = {f"exec in {phase}": said.partition(f"<{phase}>\n")[2].partition(f"\n</{phase}>")[0] for phase in PHASES}
    texts |= {f"system in {phase}": (work / f"{phase}.system").read_text() for phase in PHASES[2:]}
    for where, text in texts.items():
        lines = dict(line.split(":\t", 1) for line in text.splitlines())
        assert lines["Uid"].split() == [str(user.pw_uid)] * 4, f"{where}: real, effective, saved and file system uid"
        assert lines["Gid"].split() == [str(user.pw_gid)] * 4, where
        assert {int(group) for group in lines["Groups"].split()} == own, where
        assert lines["NoNewPrivs"] == "1", where
        assert Path(lines["HOME"]).is_relative_to(work.parent), where
        assert Path(lines["TMPDIR"]).is_relative_to(work.parent), where
        assert lines["Umask"] == "0022", where
    installed = prefix.path / "share/who/build.ids"
    assert installed.stat().st_uid == 0, "what is installed belongs to root, not to the build user"
    assert not [line for line in processes_of("macports").values() if str(prefix.path) in line]


@as_root
def test_a_missing_build_user_is_a_clear_message(make_prefix: PrefixFactory) -> None:
    prefix = make_prefix(macportsuser="nosuchuser")
    result = prefix.fails("-t", "build", "libbar")
    assert "nosuchuser" in result.err
    assert prefix.installed() == set()


@pytest.fixture(scope="module")
def public_copy() -> Iterator[tuple[Path, Path]]:
    """The installed porttrace where everybody can read it: a directory of packages, and a program port."""
    directory = Path(tempfile.mkdtemp(prefix="porttrace-test-"))
    directory.chmod(0o755)
    packages = directory / "packages"
    packages.mkdir()
    wanted = ("porttrace", "cffi", "_cffi_backend", "pycparser", "zstandard")
    for entry in Path(site.getsitepackages()[0]).iterdir():
        if entry.name.startswith(wanted):
            (shutil.copytree if entry.is_dir() else shutil.copy2)(entry, packages / entry.name)
    program = directory / "port"
    base = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"
    program.write_text(
        f"#!{base}\nimport sys\nsys.path.insert(0, {str(packages)!r})\n"
        "from porttrace.porttool.main import main\nsys.exit(main())\n"
    )
    program.chmod(0o755)
    prefix_script.open_up(packages)
    for helper in packages.glob("porttrace/porttrace-launch"):
        helper.chmod(0o755)
    yield directory, program
    shutil.rmtree(directory)


@as_root
def test_an_ordinary_user_with_a_prefix_of_ones_own(public_copy: tuple[Path, Path], open_tmp: Path) -> None:
    nobody = 65534
    home = open_tmp / "home"
    home.mkdir()
    path = prefix_script.make(home / "prefix", settings={"macportsuser": "nobody"})
    for entry in [home, *home.rglob("*")]:
        os.chown(entry, nobody, nobody)
    launcher = ("setpriv", "--reuid", str(nobody), "--regid", str(nobody), "--clear-groups", public_copy[1])
    prefix = Prefix(path, launcher, {"PATH": "/usr/bin:/bin", "HOME": str(home)})
    prefix.port("install", "stray")
    result = prefix.port("-t", "install", "foo")
    assert prefix.installed() == {"stray", "libbar", "foo"}
    assert "belongs to port stray, which foo does not declare" in result.text
    assert (path / "bin/foo").stat().st_uid == nobody
    prefix.port("uninstall", "foo")
    assert not (path / "bin/foo").exists()


@as_root
def test_installed_where_the_build_user_cannot_look(public_copy: tuple[Path, Path], prefix: Prefix) -> None:
    """A checkout in root's home, which has mode 0700: port changes to the build user and still works."""
    public_copy[0].chmod(0o700)
    try:
        closed = Prefix(prefix.path, (public_copy[1],))
        closed.port("install", "stray")
        result = closed.port("-t", "install", "foo")
    finally:
        public_copy[0].chmod(0o755)
    assert "belongs to port stray, which foo does not declare" in result.text
    assert prefix.installed() == {"stray", "libbar", "foo"}


def test_in_a_bare_environment(prefix: Prefix) -> None:
    bare = Prefix(prefix.path, (BIN / "port",), {"PATH": "/usr/bin:/bin"})
    bare.port("-t", "install", "libbar")
    assert prefix.installed() == {"libbar"}


def test_distfiles_may_be_kept_elsewhere(prefix: Prefix, open_tmp: Path) -> None:
    """A link that leads out of the prefix's own database is visible, and so is what it leads to."""
    (open_tmp / "elsewhere").mkdir()
    (prefix.path / "var/macports/distfiles").symlink_to(open_tmp / "elsewhere")
    assert "hidden" not in prefix.port("-t", "extract", "stray").text
    assert list((open_tmp / "elsewhere").rglob("stray-1.0*"))
