"""porttrace agents: each process of the build user and why it runs."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
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
    assert "kill 60" in item.text[-1]


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


@pytest.mark.parametrize("place", ["/opt/local/var/macports/build/x/work", "/opt/local/bin", "/usr/local/bin", "/tmp"])
@pytest.mark.parametrize("command", ["dbus-daemon --session", "(sd-pam)"])
def test_only_the_systems_own_place_makes_an_agent(proc: Proc, place: str, command: str) -> None:
    """A name is free for everybody to take, the first word of a command line as well."""
    proc.add(70, 1, f"{place}/dbus-daemon", command)
    assert explained(proc)[70].relation == "unknown"


def test_a_program_that_cannot_be_seen_is_no_agent(proc: Proc) -> None:
    proc.add(70, 1, "dbus-daemon", "/usr/bin/dbus-daemon --session")
    item = explained(proc)[70]
    assert item.relation == "unknown"
    assert "as root more is known" in item.text[-1]


def test_a_port_that_does_not_trace_is_a_port(proc: Proc) -> None:
    proc.add(50, 1, "/usr/bin/tclsh8.6", "/usr/bin/tclsh8.6 /opt/local/bin/port install foo", uid=UID + 1)
    proc.add(51, 50, "/usr/bin/make")
    assert explained(proc)[51].relation == "build"


def test_a_number_that_was_given_away_again_is_no_port(proc: Proc) -> None:
    """The process that has the number of the port now is younger than what the port left."""
    proc.add(50, 1, "/usr/bin/vi", uid=UID + 1)
    proc.add(61, 1, "/usr/bin/sleep", environ=b"LD_PRELOAD=/tmp/macports/50/1/tracelib.so\0")
    for pid, started in ((50, 900), (61, 800)):
        (proc.root / str(pid) / "stat").write_text(f"{pid} (x) " + " ".join(["S", *"0" * 18, str(started), "0"]))
    assert explained(proc, {50})[61].relation == "leftover"


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


SESSION = """
import subprocess, sys, time
from pathlib import Path
from porttrace.filemap import Action, Filemap, Rule
from porttrace.policy import Policy
from porttrace.session import Session
allow = Filemap([Rule(b"/", Action.ALLOW)])
session = Session()
trace = session.start(Policy(allow, allow.copy(), phase="build", port="foo"), Path("/tmp"))
child = subprocess.Popen([*trace.launch_argv, "/bin/sleep", "60"], stdout=subprocess.DEVNULL)
proc = Path(f"/proc/{child.pid}")
while b"sleep" not in (proc / "cmdline").read_bytes()[:12] or b"/events" not in (proc / "maps").read_bytes():
    time.sleep(0.01)
print(child.pid, flush=True)
sys.stdin.readline()
session.spared.add(child.pid)  # what a port that ends in order cannot see is left over
session.close()
"""


@linux
@pytest.mark.parametrize("end", ["running", "clean", "killed"])
def test_real_processes_of_a_real_session(end: str) -> None:
    """Which phase of which port is told from what the process has in its memory, also when the session is gone."""
    port = subprocess.Popen(
        [sys.executable, "-c", SESSION], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/"
    )
    assert port.stdin is not None and port.stdout is not None
    pid = int(port.stdout.readline())
    try:
        if end == "clean":
            port.communicate("\n")
            assert not Path(f"/tmp/macports/{port.pid}").exists()
        elif end == "killed":
            port.kill()
            port.wait()
        (item,) = [item for item in agents.explain(ME) if item.process.pid == pid]
        if end == "running":
            assert item.relation == "build"
            assert item.text == (f"belongs to the running port with pid {port.pid}, phase build of port foo",)
        else:
            assert item.relation == "leftover"
            which = f"left over from the port with pid {port.pid}, which has ended"
            assert item.text[0] == f"{which} (phase build of port foo)"
            assert item.text[1] == "works in /"
            assert item.text[-1].endswith(f"kill {pid}")
    finally:
        os.kill(pid, signal.SIGKILL)
        port.kill()
        port.communicate()


@linux
def test_a_real_agent_and_one_that_only_has_its_name(tmp_path: Path) -> None:
    agent = Path("/usr/bin/ssh-agent")
    if not agent.exists():
        pytest.skip("NOT CHECKED: no ssh-agent here")
    copy = tmp_path / "ssh-agent"
    shutil.copy(agent, copy)
    started = [
        subprocess.Popen([program, "-D", "-a", tmp_path / f"s{number}"], stdout=subprocess.DEVNULL, cwd="/")
        for number, program in enumerate((agent, copy))
    ]
    try:
        found = {item.process.pid: item for item in agents.explain(ME)}
        assert found[started[0].pid].relation == "agent"
        assert found[started[0].pid].agent == agents.known_agents()["ssh-agent"]
        assert found[started[1].pid].relation == "unknown"
    finally:
        for one in started:
            one.kill()
            one.wait()


def test_a_command_line_cannot_write_to_the_terminal() -> None:
    assert command._one_line("a\x1b[31m\nb\t" + "c" * 500) == ("a [31m b " + "c" * 500)[:159] + "…"
