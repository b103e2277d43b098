"""porttrace agents: each process of the build user and why it runs."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from porttrace import agents
from porttrace.cli import agents as command
from porttrace.errors import PorttraceError

ME = pwd.getpwuid(os.geteuid()).pw_name
UID = os.geteuid()
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


class Proc:
    """A made-up /proc."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def add(
        self, pid: int, ppid: int, exe: str, command: str = "", uid: int = UID, environ: bytes = b"", state: str = "S"
    ) -> None:
        directory = self.root / str(pid)
        directory.mkdir()
        name = exe.rpartition("/")[2]
        (directory / "status").write_text(
            f"Name:\t{name}\nState:\t{state} (x)\nPPid:\t{ppid}\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\n"
        )
        (directory / "cmdline").write_bytes((command or exe).replace(" ", "\0").encode())
        (directory / "environ").write_bytes(environ)
        (directory / "exe").symlink_to(exe)


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    made = Proc(tmp_path)
    made.add(1, 0, "/sbin/init", uid=UID + 1)
    return made


def explained(proc: Proc, ports: set[int] | None = None, system: str = "linux") -> dict[int, agents.Explained]:
    return {item.process.pid: item for item in agents.explain(ME, proc=proc.root, ports=ports or set(), system=system)}


def test_descendants_of_a_running_port(proc: Proc) -> None:
    proc.add(50, 1, "/usr/bin/python3", uid=UID + 1)
    proc.add(51, 50, "/bin/sh")
    proc.add(52, 51, "/usr/bin/make")
    found = explained(proc, {50})
    assert [found[pid].relation for pid in (51, 52)] == ["build", "build"]
    assert 50 not in found
    assert "pid 50" in found[52].text[0]


def test_left_over_from_a_port_that_has_ended(proc: Proc) -> None:
    proc.add(60, 1, "/usr/bin/sleep", environ=b"A=b\0LD_PRELOAD=/tmp/macports/12345/3/tracelib.so\0")
    (item,) = explained(proc).values()
    assert item.relation == "leftover"
    assert "12345" in item.text[0]
    assert "kill 60" in item.text[1]


def test_a_double_fork_of_a_running_port_is_no_leftover(proc: Proc) -> None:
    proc.add(50, 1, "/usr/bin/python3", uid=UID + 1)
    proc.add(61, 1, "/usr/bin/sleep", environ=b"LD_PRELOAD=/tmp/macports/50/1/tracelib.so\0")
    assert explained(proc, {50})[61].relation == "build"


@pytest.mark.parametrize(
    ("system", "exe", "said"),
    [
        ("darwin", "/usr/libexec/trustd", "ocsp.apple.com"),
        ("darwin", "/usr/libexec/secd", "keychain"),
        ("darwin", "/usr/libexec/lsd", "Launch Services"),
        ("darwin", "/usr/sbin/distnoted", "notifications"),
        ("linux", "/usr/lib/systemd/systemd", "service manager"),
        ("linux", "/usr/bin/dirmngr", "key servers"),
        ("linux", "/usr/bin/gpg-agent", "secret keys"),
        ("linux", "/usr/bin/dbus-daemon", "message bus"),
    ],
)
def test_agents_of_the_operating_system(proc: Proc, system: str, exe: str, said: str) -> None:
    proc.add(70, 1, exe)
    item = explained(proc, system=system)[70]
    assert item.relation == "agent"
    assert said in "\n".join(item.text)
    assert "port did not start it and cannot prevent it" in item.text[-1]


def test_the_other_systems_agents_are_none_here(proc: Proc) -> None:
    proc.add(70, 1, "/usr/libexec/trustd")
    assert explained(proc)[70].relation == "unknown"


def test_zombies_and_other_users_are_left_out(proc: Proc) -> None:
    proc.add(80, 1, "/bin/x", state="Z")
    proc.add(81, 1, "/bin/x", uid=UID + 1)
    assert explained(proc) == {}


def test_the_ones_of_2020_are_all_known() -> None:
    assert {"trustd", "secd", "lsd", "cprefsd", "distnoted"} <= set(agents.known_agents("darwin"))
    assert {"systemd", "dbus-daemon", "gpg-agent", "dirmngr", "dconf-service"} <= set(agents.known_agents("linux"))
    for agent in agents.known_agents("darwin").values():
        assert agent.what
        assert agent.origin
        assert agent.started_by


def test_lines_of_ps() -> None:
    found = agents._from_ps(
        "    1     0     0 /sbin/launchd\n  412     1   502 /usr/libexec/trustd --agent\nnonsense\n"
    )
    assert found[412] == agents.Process(412, 1, 502, "/usr/libexec/trustd --agent", "/usr/libexec/trustd --agent")
    assert len(found) == 2


def test_an_unknown_user_is_told() -> None:
    with pytest.raises(PorttraceError, match="no-such-user-here"):
        agents.explain("no-such-user-here")


@linux
def test_a_real_leftover(capsys: pytest.CaptureFixture[str]) -> None:
    with tempfile.TemporaryDirectory() as name:
        marker = f"{name}/macports/4194399/1/tracelib.so"  # beyond every process id
        child = subprocess.Popen(["/bin/sleep", "30"], env={"NOT_PRELOADED": marker})
        try:
            time.sleep(0.1)
            assert command.main(["--user", ME]) == 1
            assert (
                f"  {child.pid}  /bin/sleep 30\n      left over from the port with pid 4194399"
                in capsys.readouterr().out
            )
            assert command.main(["--user", ME, "--json"]) == 1
            said = {item["pid"]: item for item in json.loads(capsys.readouterr().out)}
            assert said[child.pid]["relation"] == "leftover"
        finally:
            child.kill()
            child.wait()


def test_a_command_line_cannot_write_to_the_terminal() -> None:
    assert command._one_line("a\x1b[31m\nb\t" + "c" * 500) == ("a [31m b " + "c" * 500)[:159] + "…"
