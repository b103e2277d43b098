"""Who still runs, found without looking at all there are, and ended however quickly it starts others."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from porttrace import endings
from porttrace._core import lib
from porttrace.endings import Moment, Search
from porttrace.procstat import Running, all_pids, executable
from porttrace.records import replace

RLIMIT_LOCKS = 10  # setrlimit(2)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="NOT CHECKED here: /proc is Linux'")


@pytest.fixture
def numbers(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """What the system says of its counters, to be changed by a test."""
    said = {"ns_last_pid": 5000, "pid_max": 32768, "forks": 100_000}
    monkeypatch.setattr(endings, "_number", said.__getitem__)
    monkeypatch.setattr(endings, "_forks", lambda: said["forks"])
    return said


def born(since: Moment) -> list[int] | None:
    """Of some ids those that can have been given away since, or None where the numbers do not tell."""
    decide = endings._born_after(since)
    return None if decide is None else [pid for pid in (1, 400, 4999, 5000, 5001, 6000, 6001, 32000) if decide(pid)]


def test_the_window_of_a_short_phase(numbers: dict[str, int]) -> None:
    since = Moment(0, 5000, 100_000)
    assert born(since) == []
    numbers.update(ns_last_pid=6000, forks=101_500)  # others of another namespace count as forks too
    assert born(since) == [5001, 6000]


def test_the_counter_went_round(numbers: dict[str, int]) -> None:
    since = Moment(0, 6000, 100_000)
    numbers.update(ns_last_pid=4999, forks=100_000 + 31_000)
    assert born(since) == [1, 400, 4999, 6001, 32000]


@pytest.mark.parametrize(
    ("changed", "since"),
    [
        ({"forks": 100_000 + 32_000}, Moment(0, 5000, 100_000)),  # it may have gone round more than once
        ({"ns_last_pid": 6000}, Moment(0, 5000, 100_000)),  # more ids than forks: somebody has set it
        ({"ns_last_pid": 0}, Moment(0, 5000, 100_000)),  # a kernel that does not tell
        ({"forks": 0}, Moment(0, 5000, 0)),
        ({"pid_max": 0}, Moment(0, 5000, 100_000)),
    ],
)
def test_where_numbers_tell_nothing_all_are_looked_at(
    numbers: dict[str, int], changed: dict[str, int], since: Moment
) -> None:
    numbers.update(changed)
    assert born(since) is None


def found_by(search: Search) -> set[int]:
    """By a look that says it has missed nobody: who was just started may be amid its exec."""
    found = search.look()
    while search.missed:
        found = search.look()
    return set(found)


@pytest.mark.parametrize("blind", [False, True])
def test_members_are_found_either_way(blind: bool) -> None:
    since = Moment.now()
    if blind:
        since = replace(since, number=0)
    with tempfile.TemporaryDirectory() as name:
        child = subprocess.Popen(["sleep", "60"], env={"MARK": f"{name}/policy"})
        try:
            assert found_by(Search(Path(name), since=since)) == {child.pid}
            assert found_by(Search(Path(name))) == {child.pid}
        finally:
            child.kill()
            child.wait()


def test_a_phase_looks_at_few(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    real = Search._judge
    monkeypatch.setattr(Search, "_judge", lambda self, pid: looked.append(pid) or real(self, pid))
    before = subprocess.Popen(["sleep", "60"])
    since = Moment.now()
    child = subprocess.Popen(["sleep", "60"])
    try:
        Search(Path("/nowhere"), since=since).look()
        assert child.pid in looked
        assert before.pid not in looked, "what was there before is of no interest"
    finally:
        for process in (before, child):
            process.kill()
            process.wait()


# --- what is hard to end: each as the child of a session's host, and where orphans go to somebody else ---


def tagged(directory: Path) -> Callable[[], None]:
    """To be done in a process before its exec, as the launcher and the library do it."""
    tag = lib.pt_hunt_tag(os.fsencode(directory))
    assert tag
    return lambda: resource.setrlimit(RLIMIT_LOCKS, (tag, tag))


@pytest.fixture
def sleeper() -> Iterator[Callable[[dict[str, str]], int]]:
    """Start a process by posix_spawn, which comes back amid its exec: it has no environment yet."""
    program, started = shutil.which("sleep"), list[int]()
    assert program

    def start(env: dict[str, str]) -> int:
        started.append(os.posix_spawn(program, ["sleep", "60"], env))
        return started[-1]

    yield start
    for pid in started:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def test_nobody_is_judged_amid_an_exec(sleeper: Callable[[dict[str, str]], int]) -> None:
    with tempfile.TemporaryDirectory() as name:
        search, verdicts = Search(Path(name)), []
        for _ in range(40):
            child = sleeper({"MARK": f"{name}/policy"})
            verdicts.append(search._judge(child)[1])
            while verdicts[-1] == lib.PT_UNSURE and search._judge(child)[1] == lib.PT_UNSURE:
                time.sleep(0.001)
            assert search._judge(child)[1] == lib.PT_OURS
    assert set(verdicts) <= {lib.PT_UNSURE, lib.PT_OURS}
    assert lib.PT_UNSURE in verdicts, "else nothing was tried here"
    stranger = sleeper({})
    deadline = time.monotonic() + 10
    while search._judge(stranger)[1] != lib.PT_NOT_OURS:
        assert time.monotonic() < deadline, "an empty environment is not one that is still to come"


def test_who_ends_while_it_is_judged_is_not_a_stranger() -> None:
    """Of a chain of those, each of which starts the next one and ends, a look would say that nobody is there."""
    program, verdicts = shutil.which("true"), set[int]()
    assert program
    with tempfile.TemporaryDirectory() as name:
        search = Search(Path(name))
        for _ in range(400):
            child = os.posix_spawn(program, ["true"], {"MARK": f"{name}/policy"})
            with contextlib.suppress(OSError):  # until then its memory, and its environment, are ours
                while Path(f"/proc/{child}/exe").readlink() != Path(program).resolve():
                    pass
            while (verdict := search._judge(child)[1]) != lib.PT_ENDED:
                verdicts.add(verdict)
            os.waitpid(child, 0)
            search._belonged.clear()
    assert verdicts <= {lib.PT_UNSURE, lib.PT_OURS}


def test_who_cannot_be_judged_yet_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, sleeper: Callable[[dict[str, str]], int]
) -> None:
    real, left = Search._judge, 5

    def judge(self: Search, pid: int) -> tuple[Running | None, int]:
        nonlocal left
        process, verdict = real(self, pid)
        if pid == child and left:
            left -= 1
            return process, lib.PT_UNSURE
        return process, verdict

    with tempfile.TemporaryDirectory() as name:
        child = sleeper({"MARK": f"{name}/policy"})
        monkeypatch.setattr(Search, "_judge", judge)
        monkeypatch.setattr(Search, "hunt", lambda self, number, seconds: [])
        assert [one.pid for one in endings.end_processes(Search(Path(name)))] == [child]


def test_who_was_born_while_the_processes_were_listed_is_found(
    monkeypatch: pytest.MonkeyPatch, sleeper: Callable[[dict[str, str]], int]
) -> None:
    """Its parent may have ended before the list came to it, and its number lie where the list had been already."""
    born: list[int] = []

    def listed() -> list[int]:
        if born:
            return list(all_pids())
        born.append(sleeper({"MARK": f"{name}/policy"}))
        while Search(Path(name))._judge(born[0])[1] != lib.PT_OURS:
            time.sleep(0.001)
        return []  # nobody is on it who makes the look go on

    with tempfile.TemporaryDirectory() as name:
        monkeypatch.setattr(endings, "all_pids", listed)
        assert set(Search(Path(name)).look()) == set(born)


def test_one_list_is_enough_where_nobody_was_born(monkeypatch: pytest.MonkeyPatch) -> None:
    """And two, where the system does not tell whether somebody was."""
    lists: list[list[int]] = []

    def listed() -> list[int]:
        lists.append(list(all_pids()))
        return lists[0]

    monkeypatch.setattr(endings, "all_pids", listed)
    for last, expected in ((77, 1), (0, 2)):
        lists.clear()
        monkeypatch.setattr(endings, "_number", lambda name, last=last: last)
        search = Search(Path("/nowhere"))
        monkeypatch.setattr(search, "_judge", lambda pid: (Running(pid, 1, 1, 1, "S", 1, 0), lib.PT_NOT_OURS))
        assert search.look() == {} and not search.missed
        assert len(lists) == expected


def test_where_each_list_has_a_new_one_somebody_may_be_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    search, lists = Search(Path("/nowhere")), iter(range(10**6, 2 * 10**6))
    monkeypatch.setattr(endings, "all_pids", lambda: [next(lists)])  # gone when it is looked at
    assert search.look() == {} and search.missed
    monkeypatch.setattr(endings, "all_pids", lambda: [10**6])
    assert search.look() == {} and not search.missed


def test_a_long_look_gives_signs_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for the core takes it for hung after some seconds, and each of a crowd takes its time."""
    monkeypatch.setattr(endings, "all_pids", lambda: list(range(10**7, 10**7 + 2500)))  # above all that there can be
    signs: list[None] = []
    search = Search(Path("/nowhere"), alive=lambda: signs.append(None))
    search.look()
    assert len(signs) == 2
    monkeypatch.setattr(endings, "all_pids", list)
    endings.end_processes(search)
    assert len(signs) == 3, "in each round, too"


def test_who_takes_its_time_to_end_is_waited_for_without_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []

    def look(self: Search, strike: Callable[[Running], None] | None = None) -> dict[int, Running]:
        looks.append(1)
        return real(self, strike)

    real = Search.look
    monkeypatch.setattr(Search, "look", look)
    monkeypatch.setattr(Search, "hunt", lambda self, number, seconds: [])
    with tempfile.TemporaryDirectory() as name:
        since = Moment.now()
        script = "trap '' TERM; echo; while :; do sleep 60; done"
        env = {"PATH": os.environ["PATH"], "MARK": f"{name}/policy"}
        with subprocess.Popen(["bash", "-c", script], env=env, stdout=subprocess.PIPE) as deaf:
            assert deaf.stdout is not None and deaf.stdout.readline() == b"\n"
            ended = endings.end_processes(Search(Path(name), since=since), grace=0.6)
    assert {left.signal for left in ended} >= {"KILL"}
    assert len(looks) < 60, "one look every 20 ms, and a few more"


class Compiled:
    """The compiled core, of which a test changes something."""

    def __getattr__(self, name: str) -> object:
        return getattr(lib, name)


class AboutToEnd(Compiled):
    """No process has anything left to be told by."""

    def pt_hunt_look(self, *arguments: object) -> int:
        return lib.PT_ENDED if lib.pt_hunt_look(*arguments) else lib.PT_GONE


def test_the_old_are_not_looked_at_one_by_one(
    monkeypatch: pytest.MonkeyPatch, sleeper: Callable[[dict[str, str]], int]
) -> None:
    """Also where process ids do not tell who is old: a machine has hundreds, and port waits for the look."""
    looked_at: list[int] = []

    class Watched(Compiled):
        def pt_hunt_look(self, hunt: object, pid: int, out: object) -> int:
            looked_at.append(pid)
            return int(lib.pt_hunt_look(hunt, pid, out))

    time.sleep(0.2)  # a moment is a tenth of a second early
    since = Moment(Moment.now().ticks, 0, 0)
    with tempfile.TemporaryDirectory() as name:
        child = sleeper({"MARK": f"{name}/policy"})
        monkeypatch.setattr(endings, "lib", Watched())
        search = Search(Path(name), since=since)
        while child not in search.look():
            time.sleep(0.001)
    assert child in looked_at
    assert not {1, os.getpid(), os.getppid()}.intersection(looked_at)


def test_who_was_found_once_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, sleeper: Callable[[dict[str, str]], int]
) -> None:
    """About to end, it has no environment any more, and is no zombie yet."""
    with tempfile.TemporaryDirectory() as name:
        search, child = Search(Path(name)), sleeper({"MARK": f"{name}/policy"})
        while child not in search.look():
            time.sleep(0.001)
        monkeypatch.setattr(endings, "lib", AboutToEnd())
        assert set(search.look()) == {child}
        os.kill(child, signal.SIGKILL)
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
        assert search.look() == {}


def test_a_tag_tells_also_amid_an_exec_and_after_the_end() -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name) / "1"
        directory.mkdir()
        search, other = Search(directory), Search(Path(name))
        for _ in range(20):
            child = subprocess.Popen(["sleep", "60"], env={}, preexec_fn=tagged(directory))
            assert search._judge(child.pid)[1] == other._judge(child.pid)[1] == lib.PT_OURS
            child.kill()
            os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
            process, verdict = search._judge(child.pid)
            assert process is not None
            assert (process.state, process.lives, verdict) == ("Z", False, lib.PT_OURS)
            child.wait()


HARD = {
    "chain": "chain 500",
    "quick chain": "chain 0",
    "chain of sessions": "chain setsid 500",
    "deaf chain": "chain deaf 200",
    "deaf chain of sessions": "chain setsid deaf 200",
    "first thread has ended": "thread",
}


@pytest.fixture(scope="module")
def forks() -> Iterator[Path]:
    """The program of tests/endings, where every user can run it."""
    if shutil.which("cc") is None:
        pytest.skip("NOT CHECKED: no C compiler")
    program = Path(tempfile.mkdtemp(dir="/var/tmp")) / "porttrace-forks"
    program.parent.chmod(0o755)
    source = Path(__file__).parent / "endings/forks.c"
    subprocess.run(["cc", "-O1", "-pthread", "-o", program, source], check=True)
    yield program
    shutil.rmtree(program.parent)


def beats(beat: Path, seconds: float = 0.3) -> bool:
    """Whether anybody of a program goes on: many live for a moment only, so they are not looked for."""
    before, deadline = beat.read_bytes(), time.monotonic() + seconds
    while time.monotonic() < deadline:
        if beat.read_bytes() != before:
            return True
        time.sleep(0.01)
    return False


def subreaper(on: bool) -> None:
    assert ctypes.CDLL(None).prctl(36, int(on), 0, 0, 0) == 0


@pytest.mark.parametrize("adopts", [True, False], ids=["ours", "orphans"])
@pytest.mark.parametrize("tag", [True, False], ids=["tag", "environment"])
@pytest.mark.parametrize("how", HARD.values(), ids=HARD.keys())
def test_what_is_hard_to_end_is_ended(forks: Path, how: str, tag: bool, adopts: bool) -> None:
    if how == "thread" and not tag and not adopts:
        pytest.skip("nobody's child, without memory, and without a tag: what becomes of those is not promised")
    subreaper(adopts)
    since = Moment.now()
    with tempfile.TemporaryDirectory() as name:
        beat = Path(name) / "beat"
        beat.write_bytes(bytes(8))
        directory = Path(name) / "1"
        directory.mkdir()
        subprocess.Popen(
            [forks, beat, *how.split()],
            env={} if tag else {"LD_SOMETHING": f"{directory}/tracelib.so"},
            start_new_session=True,
            preexec_fn=tagged(directory) if tag else None,
        )
        assert beats(beat, 30)  # it has begun
        below = os.getpid() if adopts else None
        search = Search(directory, below=below, strangers=True, since=since)
        ended = endings.end_processes(search, grace=0.3)
        assert not beats(beat)
    assert ended
    assert all(left.signal in ("TERM", "KILL") for left in ended)
    assert "deaf" not in how or ended[-1].signal == "KILL"


@pytest.mark.parametrize("how", ["sleep", "chain"])
def test_without_descriptors_of_processes(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """As on macOS, whose processes also have no tags, and where nobody hunts: one look after the other ends them."""
    monkeypatch.delattr(os, "pidfd_open")
    monkeypatch.delattr(signal, "pidfd_send_signal")
    monkeypatch.setattr(endings, "_HOLDS", False)
    monkeypatch.setattr(Search, "hunt", lambda self, number, seconds: [])
    with tempfile.TemporaryDirectory() as place:
        since = Moment.now()
        words = ["sleep", "98.5"] if how == "sleep" else ["sh", "-c", "sleep 98.5 & setsid sleep 98.5 & wait"]
        with subprocess.Popen(words, env={"PATH": os.environ["PATH"], "X": f"{place}/1/x"}, start_new_session=True):
            search = Search(Path(place), since=since)
            while sum(process.name == "sleep" for process in search.look().values()) < (1 if how == "sleep" else 2):
                time.sleep(0.01)  # until all of them are there
            ended = endings.end_processes(Search(Path(place), since=since))
    assert {left.signal for left in ended} == {"TERM"}
    names = [Path(left.exe).name for left in ended]
    assert names.count("sleep") == (1 if how == "sleep" else 2)
    assert len(names) - names.count("sleep") <= (how == "chain")  # the shell, unless it has ended with the last of them


PADDED = b"/opt/work/prog" + bytes(6)


@pytest.mark.parametrize(
    ("words", "environment"),
    [
        ([b"prog", b"-x"], b"HOME=/x\0DYLD_INSERT_LIBRARIES=/tmp/1/x\0"),
        ([b"prog", b"", b""], b"A=1\0"),  # empty words count
        ([b"prog"], b""),
        ([], b"A=1\0"),
    ],
)
def test_the_environment_behind_a_process_words(words: list[bytes], environment: bytes) -> None:
    """KERN_PROCARGS2 of macOS' sysctl(3): number, path, NULs up to a whole word, the words, the environment."""
    block = len(words).to_bytes(4, sys.byteorder) + PADDED + b"".join(word + b"\0" for word in words) + environment
    assert block[lib.pt_words_environment(block, len(block)) :] == environment


@pytest.mark.parametrize(
    "block", [b"", b"\1", b"\7\0\0\0", b"\7\0\0\0/prog", b"\xff\xff\xff\xff/prog\0\0", b"\7\0\0\0/p\0\0a\0b"]
)
def test_words_that_end_too_early(block: bytes) -> None:
    assert lib.pt_words_environment(block, len(block)) == len(block)


def test_every_process_is_listed() -> None:
    assert {os.getpid(), os.getppid()} <= set(all_pids())
    assert executable(os.getpid()) == os.fspath(Path("/proc/self/exe").readlink())
    assert executable(2**30) == ""


def test_a_zombie_is_nobody() -> None:
    """What has ended by itself was not ended by us, whoever has not yet looked at it."""
    with tempfile.TemporaryDirectory() as name:
        child = subprocess.Popen(["true"], env={"MARK": f"{name}/policy"})
        while Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
            time.sleep(0.01)
        assert endings.end_processes(Search(Path(name), below=os.getpid())) == []
        assert child.wait() == 0, "and its status is still there for who started it"


def test_what_cannot_be_ended_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endings, "_signal", lambda process, number: False)
    monkeypatch.setattr(Search, "hunt", lambda self, number, seconds: [])
    with tempfile.TemporaryDirectory() as name:
        child = subprocess.Popen(["sleep", "60"], env={"MARK": f"{name}/policy"})
        try:
            (left,) = endings.end_processes(Search(Path(name)), grace=0.1, patience=0.1)
        finally:
            child.kill()
            child.wait()
    assert str(left) == f"process {child.pid} ({shutil.which('sleep')}) still runs: it could not be ended"


def test_many_of_one_program_are_one_line() -> None:
    lefts = [endings.Leftover(pid, "/bin/x", "TERM") for pid in range(10, 20)]
    lefts += [endings.Leftover(30, "/bin/y", "KILL"), endings.Leftover(31, "/bin/z", "")]
    assert endings.told(lefts) == [
        "10 processes (10 to 19, /bin/x) were still running and were ended (SIGTERM)",
        "process 30 (/bin/y) was still running and was ended (SIGKILL)",
        "process 31 (/bin/z) still runs: it could not be ended",
    ]


def test_no_signal_goes_to_a_group_that_is_not_the_builds() -> None:
    """Seen from within a container a group may be 0, which for kill(2) is the caller's own."""
    search = Search(Path("/nowhere"))
    search._sessions.add(77)
    outside, builds, ours = (
        Running(5, 1, group, session, "S", 1, 0) for group, session in ((0, 77), (78, 77), (79, os.getsid(0)))
    )
    assert search.groups([outside, builds, ours]) == {78}
    assert {0, os.getsid(0), os.getsid(os.getppid())} <= search._own_sessions


def test_an_orphan_that_has_ended_leaves_the_table() -> None:
    """It is our child by adoption: nobody else takes note of its end."""
    subreaper(True)
    with tempfile.TemporaryDirectory() as name:
        since = Moment.now()
        script = "setsid sleep 0.2 & echo $!"
        env = {"PATH": os.environ["PATH"], "X": f"{name}/1/x"}
        done = subprocess.run(["sh", "-c", script], env=env, capture_output=True, check=True)
        orphan = Path(f"/proc/{int(done.stdout)}")
        deadline = time.monotonic() + 5
        while orphan.exists() and " Z " not in orphan.joinpath("stat").read_text() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert orphan.exists()
        tag = Path(name) / "1"
        tag.mkdir()
        endings.end_processes(Search(tag, below=os.getpid(), strangers=True, since=since))
        assert not orphan.exists()
