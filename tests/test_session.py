"""Sessions: one directory, numbered policies, nothing and nobody left behind."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import three_places

from porttrace.errors import PorttraceError
from porttrace.filemap import Action, Filemap, Rule
from porttrace.findings import FindingKind
from porttrace.identity import Identity
from porttrace.inject import InjectedLibrary
from porttrace.policy import Image, Policy
from porttrace.session import Session

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: to become another user")


def policy(phase: str = "build") -> Policy:
    everything = Rule(b"/", Action.ALLOW)
    return Policy(
        Filemap([everything]), Filemap([Rule(b"/tmp", Action.ALLOW), Rule(b"/dev", Action.ALLOW)]), phase=phase
    )


@pytest.fixture
def work() -> Iterator[Path]:
    """A workpath that every user can reach and write."""
    with tempfile.TemporaryDirectory(prefix="porttrace-test-", dir="/tmp") as name:
        Path(name).chmod(0o777)
        yield Path(name)


def wait_for(condition: object, seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():  # type: ignore[operator]
            return True
        time.sleep(0.02)
    return False


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_layout(work: Path) -> None:
    with Session() as session:
        directory = session.directory
        assert directory == Path(f"/tmp/macports/{os.getpid()}")
        assert stat.S_ISSOCK((directory / "socket").stat().st_mode)
        assert os.access(directory / "launch", os.X_OK)
        first, second = session.start(policy(), work), session.start(policy("destroot"), work)
        assert [first.directory.name, second.directory.name] == ["1", "2"]
        for trace in (first, second):
            assert trace.env == {"LD_PRELOAD": f"{directory}/{trace.number}/tracelib.so"}
            assert stat.S_IMODE((trace.directory / "policy").stat().st_mode) == 0o444
            assert Image((trace.directory / "policy").read_bytes(), verify=True).label("phase") == trace.policy.phase
        assert not first.library.samefile(second.library), "each has the beginning of its policy in it"
        # The tables and a first piece of the rest have their room on the disk; the rest of the file is sparse.
        events = (first.directory / "events").stat()
        assert events.st_blocks * 512 < 4 << 20 < events.st_size
    assert not directory.exists()


def test_the_next_directory_made_ahead(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is that of the next trace, whole, and none is left half made."""

    def fails(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    with Session() as session:
        session.get_ahead()
        ahead = session.directory / "1"
        made = ahead.stat().st_ino
        assert {entry.name for entry in ahead.iterdir()} & {"policy", "events"} == set()
        first = session.start(policy(), work)
        assert first.directory.stat().st_ino == made
        assert stat.S_IMODE(ahead.stat().st_mode) == 0o755
        second = session.start(policy(), work)
        names = [{entry.name for entry in trace.directory.iterdir()} for trace in (first, second)]
        assert names[0] == names[1]
        with monkeypatch.context() as no_space:
            no_space.setattr(InjectedLibrary, "write", fails)
            session.get_ahead()
        assert not (session.directory / "3").exists(), "what could not be made is no obstacle"
        assert session.start(policy(), work).directory.name == "3"


def test_the_sessions_own_files_cannot_be_written(work: Path) -> None:
    with Session() as session:
        trace = session.start(policy(), work)
        own = os.fsencode(trace.directory / "policy")
        assert trace.image.decide(own, "write").action is Action.DENY
        assert trace.image.decide(b"/tmp/x", "write").action is Action.ALLOW
        assert len(trace.policy.write) == 2, "the caller's policy is not changed"


def test_a_forked_child_leaves_the_session_to_its_parent(work: Path) -> None:
    """Tcl's fork, or a library's: what the copy closes at its end is not its own."""
    with Session() as session:
        trace = session.start(policy(), work)
        child = os.fork()
        if child == 0:
            with contextlib.suppress(BaseException):
                session.close()
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert trace.directory.is_dir()
        assert subprocess.run([*trace.launch_argv, "true"], check=False).returncode == 0
    assert not trace.directory.exists()


def test_one_session_at_a_time_and_again_after_it(work: Path) -> None:
    with Session() as session:
        with pytest.raises(PorttraceError, match="a session already"):
            Session()
        session.close()
        session.close()
        with pytest.raises(PorttraceError, match="closed"):
            session.start(policy(), work)
    with Session():
        pass


def test_a_policy_that_cannot_be_compiled_is_one_line(work: Path) -> None:
    bad = policy()
    bad.read.append(Rule(b"/a\0b", Action.ALLOW))
    with Session() as session, pytest.raises(PorttraceError) as error:
        session.start(bad, work)
    assert "\n" not in str(error.value)


def test_unknown_tier_is_refused() -> None:
    with pytest.raises(PorttraceError, match="does not have the tier teleport"):
        Session(tiers=["teleport"])
    with Session(tiers=["tracelib"]) as session:
        assert session.tiers == ("tracelib",)


def test_a_command_runs_under_it(work: Path) -> None:
    with Session() as session:
        trace = session.start(policy(), work)
        out = subprocess.run([*trace.launch_argv, "sh", "-c", "echo $LD_PRELOAD"], capture_output=True, text=True)
        assert (out.returncode, out.stdout.strip()) == (0, str(trace.library))
        assert (
            "1/tracelib.so"
            in subprocess.run(
                [*trace.launch_argv, "cat", "/proc/self/maps"], capture_output=True, text=True, check=True
            ).stdout
        )
        result = trace.stop()
        assert result.processes == [] and result.incomplete == []
        assert trace.stop() is result


@as_root
def test_the_build_user_gets_all_ids_and_cannot_change_the_session(work: Path) -> None:
    with Session(Identity.named("nobody")) as session:
        trace = session.start(policy(), work)
        show = "id -u; id -g; id -G; grep ^Uid /proc/self/status; echo x > {0}/policy; rm {0}/events; touch {0}/x"
        out = subprocess.run(
            [*trace.launch_argv, "sh", "-c", show.format(trace.directory)], capture_output=True, text=True
        )
        nobody = Identity.named("nobody")
        ids = [str(nobody.uid), str(nobody.gid), " ".join(map(str, nobody.groups))]
        assert out.stdout.splitlines()[:3] == ids
        assert out.stdout.split("Uid:")[1].split() == [str(nobody.uid)] * 4
        names = {entry.name for entry in trace.directory.iterdir()}
        assert {"tracelib.so", "policy", "events"} <= names and "x" not in names
        Image((trace.directory / "policy").read_bytes(), verify=True)
        assert (trace.directory / "events").stat().st_uid == nobody.uid


@as_root
@pytest.mark.parametrize("tiers", [None, ["tracelib"], ["tracelib", "supervisor"], ["supervisor"]])
def test_no_set_uid_program_gives_root_back(work: Path, tiers: list[str] | None) -> None:
    """Whatever tiers there are, also those that do not need it."""
    helper = work / "helper"
    shutil.copy("/bin/cat", helper)
    helper.chmod(0o4755)
    with Session(Identity.named("nobody"), tiers) as session:
        trace = session.start(policy(), work)
        words = [*trace.launch_argv, "sh", "-c", f"{helper} /proc/self/status"]
        out = subprocess.run(words, capture_output=True, text=True, check=True)
    assert out.stdout.split("Uid:")[1].split()[:4] == [str(Identity.named("nobody").uid)] * 4


@pytest.fixture
def ground(work: Path) -> Path:
    return three_places(work)


def held(ground: Path) -> Policy:
    read = Filemap([Rule(os.fsencode(ground / "hidden"), Action.DENY), Rule(b"/", Action.ALLOW)])
    return Policy(read, Filemap([Rule(os.fsencode(ground / "in"), Action.ALLOW), Rule(b"/dev/null", Action.ALLOW)]))


@as_root
def test_a_program_of_root_that_becomes_somebody_else(ground: Path) -> None:
    """Neither the session's files nor anything outside are within its reach, and that it reported nothing is told."""
    root = Identity(0, 0, (0,), "root")
    with Session(root) as session:
        trace = session.start(held(ground), ground)
        names = sorted(path for path in session.directory.rglob("*") if not path.is_symlink())
        before = {path: (path.stat().st_mode, path.stat().st_size) for path in names if path.name != "events"}
        attack = (
            "import os, subprocess, sys\n"
            "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
            f"names = {[str(path) for path in names]!r}\n"
            "for name in names:\n"
            "    for act in (lambda: open(name, 'r+b').write(b'x'), lambda: os.unlink(name),\n"
            "                lambda: os.chmod(name, 0o777), lambda: os.rename(name, name + '.x'),\n"
            "                lambda: open(name + '/new', 'w')):\n"
            "        try: act()\n"
            "        except OSError: continue\n"
            "        print('reached', name)\n"
            "sys.stdout.flush()\n"
            "script = 'id -u; cat {0}/hidden/file; echo x > {0}/outside/1; busybox cat {0}/hidden/file; '\n"
            "script += 'busybox touch {0}/outside/2; chmod 600 {0}/outside/file; echo x > {0}/in/made'\n"
            f"subprocess.run(['/bin/sh', '-c', script.format({str(ground)!r})])\n"
        )
        done = subprocess.run([*trace.launch_argv, "/usr/bin/python3", "-c", attack], capture_output=True, text=True)
        after = {path: (path.stat().st_mode, path.stat().st_size) for path in names if path.name != "events"}
        result = trace.stop()
    assert done.stdout.split() == ["65534"], done.stdout + done.stderr
    assert after == before
    assert [path.name for path in (ground / "outside").iterdir()] == ["file"]
    assert stat.S_IMODE((ground / "outside/file").stat().st_mode) == 0o666
    assert (ground / "in/made").exists()
    untraced = [finding for finding in result.findings if finding.kind is FindingKind.UNTRACED]
    assert any("ran as another user" in finding.reason for finding in untraced), "it could not write into the report"


@as_root
def test_another_users_session_cannot_be_joined(ground: Path) -> None:
    """Two users: what the other one starts with the session's own files is not in its report, and not answered for."""
    with Session(Identity.named("macports")) as session:
        trace = session.start(held(ground), ground)
        launch, directory, asked = str(session.directory / "launch"), str(trace.directory), str(ground / "hidden/file")

        def other(*words: str, uid: int = 65534, **more: object) -> subprocess.CompletedProcess[str]:
            return subprocess.run(  # type: ignore[call-overload,no-any-return]
                words, user=uid, group=uid, extra_groups=[], cwd="/", capture_output=True, text=True, **more
            )

        supervised = other(launch, "--session", directory, "--supervise", "--", "cat", asked)
        assert supervised.returncode == 125, supervised.stdout + supervised.stderr
        assert "cannot be supervised" in supervised.stderr
        other(launch, "--session", directory, "--", "cat", asked)
        other("cat", asked, env={"LD_PRELOAD": f"{directory}/tracelib.so"})
        for command in (f"head -c 1 {directory}/events", f"echo x >> {directory}/events", f"rm -f {directory}/policy"):
            assert other("sh", "-c", command).returncode != 0, command
        own = Identity.named("macports").uid
        assert other(launch, "--session", directory, "--supervise", "--", "true", uid=own).returncode == 0
        result = trace.stop()
    assert [finding.path for finding in result.findings if finding.path == asked] == []
    assert result.stats["processes"] == 1, "the one of its own user"


@contextlib.contextmanager
def effective(user: Identity) -> Iterator[None]:
    """As port does for a phase: this process works with a user's effective ids, and can take its own again."""
    groups = os.getgroups()
    os.setgroups(user.groups)
    os.setegid(user.gid)
    os.seteuid(user.uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


@as_root
def test_a_port_that_lowered_its_effective_ids_still_has_a_session(work: Path) -> None:
    nobody = Identity.named("nobody")
    with effective(nobody), Session() as session:
        assert session.directory.stat().st_uid == 0
        trace = session.start(policy(), work)
        out = subprocess.run(
            [*trace.launch_argv, "sh", "-c", "id -ru; echo $LD_PRELOAD"], capture_output=True, text=True
        )
        assert out.stdout.split() == [str(nobody.uid), str(trace.library)]
        assert os.geteuid() == nobody.uid
        directory = session.directory
    assert os.geteuid() == 0
    assert not directory.exists()


LEFTOVERS = {
    "background": "sleep 300 & echo $!",
    "daemon": "setsid sh -c 'sleep 300 & echo $!; wait' & sleep 0.3",
    "double fork": "(sleep 300 >/dev/null 2>&1 & echo $!)",
    "deaf": "sh -c 'trap \"\" TERM INT HUP; echo $$; while :; do sleep 0.1; done' & sleep 0.3",
    "stopped": "sleep 300 & echo $!; kill -STOP $!",
    "clean environment": "env -i sh -c 'sleep 300 & echo $!'",
    "static orphan without a name": "B=/bin/busybox; (exec >/dev/null 2>&1; $B sh -c '"
    "exec setsid env -i $0 sleep 300' $B & echo $! >&3) 3>&1; sleep 0.3",
}


@pytest.mark.parametrize("script", LEFTOVERS.values(), ids=LEFTOVERS.keys())
def test_what_still_runs_is_ended_and_told(work: Path, script: str) -> None:
    with Session() as session:
        trace = session.start(policy(), work)
        out = work / "out"
        with out.open("wb") as file:
            subprocess.run([*trace.launch_argv, "sh", "-c", script], stdout=file, check=True)
        pid = int(out.read_text().split()[0])
        assert alive(pid)
        bystander = subprocess.Popen(["sleep", "300"])
        try:
            result = trace.stop()
            assert not alive(pid)
            assert pid in {left.pid for left in result.processes}
            if "trap" in script:
                assert {left.pid: left.signal for left in result.processes}[pid] == "KILL"
            assert bystander.poll() is None, "a child of port that is no part of the build must live"
        finally:
            bystander.kill()
            bystander.wait()


def test_another_phases_processes_live_until_their_own_end(work: Path) -> None:
    with Session() as session:
        build, install = session.start(policy(), work), session.start(policy("install"), work)
        children = [
            subprocess.Popen([*trace.launch_argv, "sleep", "300"], stdout=subprocess.DEVNULL)
            for trace in (build, install)
        ]
        assert wait_for(lambda: all(b"sleep" in Path(f"/proc/{c.pid}/cmdline").read_bytes()[:8] for c in children))
        install.stop()
        assert alive(children[0].pid) and not alive(children[1].pid)
    assert not alive(children[0].pid)


def test_a_changed_policy_lets_running_processes_be(work: Path) -> None:
    with Session() as session:
        first = session.start(policy(), work)
        child = subprocess.Popen([*first.launch_argv, "sleep", "300"])
        assert wait_for(lambda: b"sleep" in Path(f"/proc/{child.pid}/cmdline").read_bytes()[:8])
        second = session.start(policy(), work, replaces=first)
        assert alive(child.pid)
        assert second.findings() == []
        assert child.pid in {left.pid for left in second.stop().processes}


# --- ends that nobody planned: a script that starts a session and says so, to be killed ---

SCRIPT = """
import subprocess, sys, time
from pathlib import Path
from porttrace.filemap import Action, Filemap, Rule
from porttrace.policy import Policy
from porttrace.session import Session
allow = Filemap([Rule(b"/", Action.ALLOW)])
session = Session()
trace = session.start(Policy(allow, allow.copy()), Path("/tmp"))
argv = [*trace.launch_argv, "sh", "-c", "trap '' INT; sleep 300 & sleep 300"]
child = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
time.sleep(0.3)
print(session.directory, child.pid, flush=True)
{end}
"""


def script(end: str, **options: object) -> tuple[subprocess.Popen[str], Path, int]:
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(end=textwrap.dedent(end))],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        cwd="/",  # not where the source would hide the installed package
        **options,  # type: ignore[call-overload]
    )
    assert process.stdout is not None
    directory, pid = process.stdout.readline().split()
    return process, Path(directory), int(pid)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_signals_leave_nothing(number: signal.Signals) -> None:
    process, directory, child = script("time.sleep(60)")
    assert directory.exists() and alive(child)
    os.killpg(process.pid, number)
    status = process.wait(20)
    assert status in (-number, 1 if number == signal.SIGINT else -number)
    assert not directory.exists()
    assert not alive(child)


@pytest.mark.parametrize("end", ["", "sys.exit(3)", "raise RuntimeError"])
def test_any_end_of_the_program_leaves_nothing(end: str) -> None:
    process, directory, child = script(end)
    process.wait(20)
    assert not directory.exists()
    assert not alive(child)


def test_a_killed_session_is_cleaned_up_by_the_next(work: Path) -> None:
    process, directory, child = script("time.sleep(60)")
    process.kill()
    process.wait()
    assert directory.exists() and alive(child)
    with Session():
        assert not directory.exists()
        assert not alive(child)


def test_what_is_told_to_ignore_signals_passes_it_on_to_no_test() -> None:
    """The suite under nohup, or as a job in the background: what it starts has the usual dispositions."""
    run = "import conftest, subprocess; subprocess.run(['grep', 'SigIgn', '/proc/self/status'])"
    shell = f'trap "" HUP INT QUIT TERM; exec "{sys.executable}" -c "{run}"'
    done = subprocess.run(["sh", "-c", shell], cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    ignored = int(done.stdout.split()[1], 16)
    assert [n for n in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM) if ignored >> n - 1 & 1] == []


def test_two_sessions_side_by_side_do_not_disturb_each_other() -> None:
    first, first_directory, first_child = script("time.sleep(60)")
    second, second_directory, second_child = script("time.sleep(60)")
    first.terminate()
    first.wait(20)
    assert not first_directory.exists() and not alive(first_child)
    assert second_directory.exists() and alive(second_child)
    second.terminate()
    second.wait(20)
    assert not second_directory.exists() and not alive(second_child)
