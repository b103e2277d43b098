"""porttrace-launch: ids given up for good, the library set, and one clear line where it cannot start."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest

LAUNCH = str(resources.files("porttrace") / "porttrace-launch")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="giving up root needs root")


def launch(*words: str, env: dict[str, str] | None = None, **more: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([LAUNCH, *words], capture_output=True, text=True, env=env, check=False, **more)  # type: ignore[call-overload,no-any-return]


@pytest.fixture
def session() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        (directory / "tracelib.so").write_bytes(b"")
        yield directory


def ids(text: str) -> dict[str, list[int]]:
    return {
        line.split(":")[0]: [int(n) for n in line.split()[1:]]
        for line in text.splitlines()
        if line.startswith(("Uid:", "Gid:", "Groups:"))
    }


def test_exit_status_of_the_command() -> None:
    assert launch("sh", "-c", "exit 7").returncode == 7


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["/nonexistent/x"], 127, "/nonexistent/x: No such file"),
        (["no-such-command-here"], 127, "no-such-command-here: No such file"),
        (["/"], 126, "/: Permission denied"),
        ([], 125, "no command given"),
        (["--what", "true"], 125, "unknown option --what"),
        (["--uid", "x", "true"], 125, "--uid wants a number, not 'x'"),
        (["--uid", "-1", "true"], 125, "--uid wants a number"),
        (["--uid", "4294967295", "true"], 125, "--uid wants a number"),
        (["--groups", "1,,2", "true"], 125, "--groups wants a number"),
        (["--session", "relative", "true"], 125, "absolute path"),
        (["--session", "/nonexistent", "true"], 125, "the session is over or not yet started"),
        (["--fence", "true"], 125, "needs --session"),
        (["--supervise", "true"], 125, "needs --session"),
        (["--chdir", "/no/such/dir", "true"], 125, "cannot change to /no/such/dir"),
        (["--fence=/etc/hostname", "true"], 125, "the list is malformed"),
    ],
)
def test_what_goes_wrong_is_one_line(words: list[str], status: int, said: str) -> None:
    done = launch(*words)
    assert (done.returncode, done.stdout) == (status, "")
    assert said in done.stderr
    assert done.stderr.startswith("porttrace-launch: ")
    assert done.stderr.count("\n") == 1


@as_root
def test_all_ids_and_groups_are_given_up() -> None:
    done = launch("--uid", "12345", "--gid", "54321", "--groups", "54321,7", "cat", "/proc/self/status")
    assert ids(done.stdout) == {"Uid": [12345] * 4, "Gid": [54321] * 4, "Groups": [7, 54321]}
    assert "CapEff:\t0000000000000000" in done.stdout


@as_root
def test_roots_groups_go_with_root() -> None:
    done = launch("--uid", "12345", "--gid", "54321", "cat", "/proc/self/status", extra_groups=[0, 4])
    assert ids(done.stdout)["Groups"] == [54321]


@as_root
def test_effective_uid_alone_becomes_all(session: Path) -> None:
    """What port as root is while a phase runs: the loader would ignore LD_PRELOAD, and sh would go back to root."""
    nobody = pwd.getpwnam("nobody")
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(write, 1)
        os.setresgid(-1, nobody.pw_gid, -1)
        os.setresuid(-1, nobody.pw_uid, -1)
        os.execv(LAUNCH, ["launch", "--session", str(session), "sh", "-c", "cat /proc/self/status; echo P=$LD_PRELOAD"])
    os.close(write)
    text = os.fdopen(read).read()
    os.waitpid(child, 0)
    assert ids(text) == {"Uid": [nobody.pw_uid] * 4, "Gid": [nobody.pw_gid] * 4, "Groups": [nobody.pw_gid]}
    assert f"P={session}/tracelib.so" in text


@as_root
def test_unprivileged_it_takes_no_other_user() -> None:
    done = launch("--uid", "0", "id", user=12345, group=12345, extra_groups=[])
    assert done.returncode == 125
    assert "Operation not permitted" in done.stderr


@as_root
def test_unprivileged_groups_that_cannot_be_left_are_refused() -> None:
    done = launch("--groups", "12345", "id", user=12345, group=12345, extra_groups=[7])
    assert done.returncode == 125
    assert "supplementary groups" in done.stderr
    assert launch("--groups", "7,12345", "id", user=12345, group=12345, extra_groups=[7]).returncode == 0


def test_the_library_comes_first_and_only_once(session: Path) -> None:
    """Only the text is looked at: the shell runs with a loader that finds an empty library and says so on stderr."""
    old = f"/x/one.so:{session}/other/tracelib.so:/x/two.so"
    done = launch("--session", str(session), "/usr/bin/env", env={"LD_PRELOAD": old})
    assert f"LD_PRELOAD={session}/tracelib.so:/x/one.so:/x/two.so\n" in done.stdout


def test_without_preload(session: Path) -> None:
    done = launch(
        "--session", str(session), "--no-preload", "/usr/bin/env", env={"LD_PRELOAD": f"{session}/tracelib.so"}
    )
    assert "LD_PRELOAD" not in done.stdout


@as_root
@pytest.mark.parametrize("how", ["uid", "effective"])
def test_root_that_was_given_up_is_not_regained(how: str) -> None:
    """A set-uid helper that lies where the build user can run it: with the launcher it stays that user's program."""
    nobody = pwd.getpwnam("nobody")
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        Path(name).chmod(0o755)
        helper = Path(name) / "helper"
        shutil.copy("/bin/cat", helper)
        helper.chmod(0o4755)
        show = [str(helper), "/proc/self/status"]

        def become() -> None:
            os.setgroups([])
            os.setresgid(-1, nobody.pw_gid, -1)
            os.setresuid(-1, nobody.pw_uid, -1)

        bare = subprocess.run(show, capture_output=True, text=True, user=nobody.pw_uid, group=nobody.pw_gid, check=True)
        assert ids(bare.stdout)["Uid"][1:3] == [0, 0], "the helper works, or nothing is tried here"
        if how == "uid":
            words = ["--uid", str(nobody.pw_uid), "--gid", str(nobody.pw_gid), "--", *show]
            done = launch(*words)
        else:
            done = launch(*show, preexec_fn=become)
    assert ids(done.stdout)["Uid"] == [nobody.pw_uid] * 4, done.stdout + done.stderr
    assert "NoNewPrivs:\t1" in done.stdout


@as_root
def test_root_that_stays_root_keeps_its_privileges() -> None:
    assert "NoNewPrivs:\t0" in launch("--uid", "0", "--gid", "0", "cat", "/proc/self/status").stdout


def test_no_new_privs() -> None:
    assert "NoNewPrivs:\t1" in launch("--no-new-privs", "cat", "/proc/self/status").stdout
    assert "NoNewPrivs:\t0" in launch("cat", "/proc/self/status").stdout


def test_file_and_name_can_differ() -> None:
    done = launch("--exec", "/bin/sh", "--", "another", "-c", "echo $0", "zero")
    assert done.stdout == "zero\n"
    assert Path(LAUNCH).is_file()


def test_it_costs_little() -> None:
    """The bound is wide, for busy machines; the figure itself belongs to the benchmark."""

    def quickest(words: list[str]) -> float:
        best = 9.0
        for _ in range(60):
            start = time.perf_counter()
            os.waitpid(os.posix_spawn(words[0], words, os.environ), 0)
            best = min(best, time.perf_counter() - start)
        return best

    assert quickest([LAUNCH, "/bin/true"]) - quickest(["/bin/true"]) < 0.001
