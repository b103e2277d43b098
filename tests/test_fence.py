"""The fence: the list from a write map, the Seatbelt profile, and the kernel holding what it says."""

from __future__ import annotations

import os
import random
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import pytest

from porttrace import defaults, fence
from porttrace.filemap import Action, Filemap, Rule
from porttrace.identity import Identity
from porttrace.policy import Policy
from porttrace.session import Session
from porttrace.tiers import landlock_abi

LAUNCH = str(resources.files("porttrace") / "porttrace-launch")
kernel = pytest.mark.skipif(landlock_abi() < 1, reason="this kernel has no Landlock")


@dataclass
class R:
    path: bytes
    action: int = fence.ALLOW
    target: bytes | None = None
    literal: bool = False


@pytest.fixture
def ground() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        base = Path(name)
        for directory in ("in", "in/deep", "out"):
            (base / directory).mkdir()
        for file in ("in/a", "out/a", "one"):
            (base / file).write_text("x")
        yield base


def places(rules: list[R]) -> list[tuple[bytes, bool]]:
    return [(place.path, place.directory) for place in fence.build(rules).places]


def test_directories_and_files(ground: Path) -> None:
    base = os.fsencode(ground)
    assert places([R(base + b"/in"), R(base + b"/one")]) == [(base + b"/in", True), (base + b"/one", False)]


def test_first_match_wins(ground: Path) -> None:
    base = os.fsencode(ground)
    assert places([R(base, fence.DENY), R(base + b"/in")]) == []
    built = fence.build([R(base + b"/in/deep", fence.DENY), R(base + b"/in")])
    assert [place.path for place in built.places] == [base + b"/in"]
    assert built.gaps == [(base + b"/in/deep", base + b"/in")]


def test_what_is_not_there_yet_is_told(ground: Path) -> None:
    base = os.fsencode(ground)
    built = fence.build([R(base + b"/in/new"), R(base + b"/no/where"), R(b"/nonexistent-name")])
    assert built.widened == [(base + b"/in/new", base + b"/in")]
    assert built.missing == [base + b"/no/where", b"/nonexistent-name"]
    assert [place.path for place in built.places] == [base + b"/in"]


def test_literal_prefixes_take_what_starts_so(ground: Path) -> None:
    base = os.fsencode(ground)
    assert places([R(base + b"/o", literal=True)])[1:] == [(base + b"/one", False), (base + b"/out", True)]


def test_redirects_open_their_target(ground: Path) -> None:
    base = os.fsencode(ground)
    assert (base + b"/out", True) in places([R(base + b"/in", fence.REDIRECT, base + b"/out")])


def test_a_relative_place_is_refused() -> None:
    with pytest.raises(fence.FenceError, match="absolute"):
        fence.build([R(b"work")])


def fenced(ground: Path, script: str, *words: str) -> subprocess.CompletedProcess[str]:
    listed = ground / "list"
    listed.write_bytes(
        fence.build([R(os.fsencode(ground / "in")), R(b"/dev/null"), R(os.fsencode(ground / "one"))]).to_bytes()
    )
    return subprocess.run(
        [LAUNCH, f"--fence={listed}", *words, "sh", "-c", script],
        cwd=ground,
        capture_output=True,
        text=True,
        check=False,
    )


@kernel
@pytest.mark.parametrize(
    "script",
    [
        "echo x > out/a",
        "echo x >> out/a",
        "echo x > out/new",
        "rm out/a",
        "mv out/a in/b",
        "mv in/a out/b",
        "mkdir out/d",
        "rmdir out",
        "ln in/a out/l",
        "ln out/a in/l",
        "ln -s x out/l",
        "mkfifo out/f",
        "truncate -s 0 out/a",
        "cp in/a out/",
        "python3 -c \"import socket; socket.socket(socket.AF_UNIX).bind('out/s')\"",
        "echo x > new",
        "mknod in/disk b 254 0",
    ],
)
def test_outside_is_held(ground: Path, script: str) -> None:
    before = sorted((str(p), p.stat().st_size) for p in ground.rglob("*") if p.is_file() and p.name != "list")
    assert fenced(ground, script).returncode != 0
    assert sorted((str(p), p.stat().st_size) for p in ground.rglob("*") if p.is_file() and p.name != "list") == before


@kernel
@pytest.mark.parametrize(
    "script",
    [
        "echo x > in/a",
        "rm in/a",
        "mkdir in/d && rmdir in/d",
        "mv in/a in/deep/",
        "ln in/a in/deep/l",
        "ln -s a in/l",
        "echo x > /dev/null",
        "cat out/a",
        "echo x > one",
        "mkfifo in/f",
        "echo x > /dev/stdout",
        "ls /",
    ],
)
def test_inside_and_reading_go_on(ground: Path, script: str) -> None:
    done = fenced(ground, script)
    assert (done.returncode, done.stderr) == (0, "")


@kernel
def test_descendants_cannot_leave(ground: Path) -> None:
    done = fenced(ground, "env -i setsid /bin/busybox sh -c 'echo x > out/a'; (echo x > out/new) & wait; true")
    assert done.returncode == 0
    assert (ground / "out/a").read_text() == "x"
    assert not (ground / "out/new").exists()


@kernel
def test_open_descriptors_stay_usable(ground: Path) -> None:
    with (ground / "out/a").open("w") as log:
        listed = ground / "list"
        listed.write_bytes(fence.build([R(b"/dev/null")]).to_bytes())
        subprocess.run(
            [LAUNCH, f"--fence={listed}", "sh", "-c", "echo one; echo two > /dev/stdout"], stdout=log, check=True
        )
    assert "two" in (ground / "out/a").read_text()


@kernel
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x",
        b"porttrace-fence 2\n",
        b"porttrace-fence 1\nd/tmp",
        b"porttrace-fence 1\nq/tmp\0",
        b"porttrace-fence 1\ndtmp\0",
        b"porttrace-fence 1\n\0",
    ],
)
def test_a_malformed_list_starts_nothing(ground: Path, data: bytes) -> None:
    (ground / "list").write_bytes(data)
    done = subprocess.run(
        [LAUNCH, f"--fence={ground / 'list'}", "echo", "ran"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (125, "")
    assert "malformed" in done.stderr


def test_writing_a_session_directory(ground: Path) -> None:
    (ground / "events").touch()
    fence.write(ground, [R(os.fsencode(ground / "in"))])
    assert (ground / "fence").read_bytes() == b"porttrace-fence 1\nd%b/in\0f%b/events\0" % ((os.fsencode(ground),) * 2)
    assert (ground / "fence").stat().st_mode & 0o777 == 0o444
    assert stat.S_IMODE((ground / "unfenced").stat().st_mode) == 0o1777


def test_seatbelt_profile() -> None:
    """The last matching rule of a profile wins, the first of a map: the order is turned round."""
    rules = [
        R(b"/nonexistent/work/secret", fence.DENY),
        R(b"/nonexistent/work"),
        R(b'/nonexistent/a "b" \\c'),
        R(b"/nonexistent/lit.", literal=True),
        R(b"/nonexistent/sdk", fence.REDIRECT, b"/nonexistent/real"),
    ]
    assert fence.seatbelt_profile(rules, ["/nonexistent/events"]) == (
        "(version 1)\n"
        "(allow default)\n"
        "(deny file-write*)\n"
        '(allow file-write* (subpath "/nonexistent/sdk") (subpath "/nonexistent/real"))\n'
        '(allow file-write* (regex #"^/nonexistent/lit\\."))\n'
        '(allow file-write* (subpath "/nonexistent/a \\"b\\" \\\\c"))\n'
        '(allow file-write* (subpath "/nonexistent/work"))\n'
        '(deny file-write* (subpath "/nonexistent/work/secret"))\n'
        '(allow file-write* (subpath "/nonexistent/events"))\n'
        "(if (defined? 'file-link) (begin\n"
        "(deny file-link)\n"
        '(allow file-link (subpath "/nonexistent/sdk") (subpath "/nonexistent/real"))\n'
        '(allow file-link (regex #"^/nonexistent/lit\\."))\n'
        '(allow file-link (subpath "/nonexistent/a \\"b\\" \\\\c"))\n'
        '(allow file-link (subpath "/nonexistent/work"))\n'
        '(deny file-link (subpath "/nonexistent/work/secret"))\n'
        '(allow file-link (subpath "/nonexistent/events"))\n'
        "))\n"
    )


def s_expressions(text: str) -> list[list[object]]:
    """A profile read as what it is: lists, words, strings, and regular expressions (#"…")."""
    tokens = re.findall(r'#"(?:[^"])*"|"(?:\\.|[^"\\])*"|[()]|[^\s()"]+', text)
    assert "".join(tokens).replace(" ", "") == re.sub(r"\s", "", text), "something in it is no token"
    stack: list[list[object]] = [[]]
    for token in tokens:
        if token == "(":
            stack.append([])
        elif token == ")":
            done = stack.pop()
            stack[-1].append(done)
        else:
            stack[-1].append(re.sub(r"\\(.)", r"\1", token[1:-1]) if token[0] == '"' else token)
    (top,) = stack
    return top  # type: ignore[return-value]


def rules_of(profile: str, *, unknown: str = "") -> Iterator[list[object]]:
    """The rules in force, on a system that does not know the operation `unknown`, and would refuse a rule of it."""
    for verb, *words in s_expressions(profile):
        if verb != "if":
            assert unknown not in words
            yield [verb, *words]
            continue
        (question, name), (begin, *body) = words
        assert (question, begin) == ("defined?", "begin")
        if name != f"'{unknown}":
            yield from body


def sandbox_allows(profile: str, operation: str, path: str) -> bool:
    """The verdict of a profile: its last matching rule's."""
    verdict = False
    for verb, *words in rules_of(profile):
        if verb == "version":
            continue
        operations = [word for word in words if isinstance(word, str)]
        filters = [word for word in words if isinstance(word, list)]
        assert verb in ("allow", "deny") and operations
        if not any(op == "default" or operation.startswith(op.rstrip("*")) for op in operations):
            continue
        hit = not filters
        for kind, value in filters:
            if kind == "subpath":
                hit |= path == value or path.startswith(str(value).rstrip("/") + "/")
            else:
                assert kind == "regex"
                hit |= re.search(str(value)[2:-1], path) is not None
        if hit:
            verdict = verb == "allow"
    return verdict


def covers(rule: R, path: bytes) -> bool:
    """Whether a rule matches a path, which is matched as a whole."""
    base = rule.path.rstrip(b"/")
    return path.startswith(rule.path) if rule.literal else path == base or path.startswith(base + b"/")


def test_only_what_no_earlier_rule_matches_is_opened(ground: Path) -> None:
    """For many maps: the places are the allowed rules that are the first to match their own path."""
    root = os.fsencode(ground)
    names = [root + name for name in (b"/a", b"/a/b", b"/a/b/c", b"/ab", b"/b")]
    for name in names:
        Path(os.fsdecode(name)).mkdir(parents=True, exist_ok=True)
    chance = random.Random(2)
    for _ in range(300):
        rules = [
            R(chance.choice(names), chance.choice([fence.ALLOW, fence.DENY]), literal=chance.random() < 0.2)
            for _ in range(chance.randrange(1, 6))
        ]
        opened = {
            rule.path
            for index, rule in enumerate(rules)
            if rule.action == fence.ALLOW and not any(covers(earlier, rule.path) for earlier in rules[:index])
        }
        literal = tuple(rule.path for rule in rules if rule.path in opened and rule.literal)
        found = {path for path, _ in places(rules)}
        assert found >= opened, rules
        assert all(path in opened or path.startswith(literal) for path in found), rules


def test_seatbelt_decides_as_the_map_does() -> None:
    """For many maps and paths: the profile's last match is the map's first. Reading and sockets stay free."""
    names = ["/nx", "/nx/a", "/nx/a/b", "/nx/a/b/c", "/nx/ab", "/nx/b", "/ny"]
    chance = random.Random(1)
    for _ in range(300):
        rules = [
            R(chance.choice(names).encode(), chance.choice([fence.ALLOW, fence.DENY]), literal=chance.random() < 0.3)
            for _ in range(chance.randrange(1, 6))
        ]
        profile = fence.seatbelt_profile(rules)
        for path in names:
            first = next((rule for rule in rules if covers(rule, path.encode())), None)
            wanted = first is not None and first.action == fence.ALLOW
            assert sandbox_allows(profile, "file-write-data", path) is wanted, (rules, path)
            assert sandbox_allows(profile, "file-link", path) is wanted, (rules, path)
            assert sandbox_allows(profile, "file-read-data", path)
            assert sandbox_allows(profile, "network-outbound", path)


def test_old_systems_get_no_word_that_they_do_not_know() -> None:
    profile = fence.seatbelt_profile([R(b"/nonexistent/work")])
    assert "file-link" not in str(list(rules_of(profile, unknown="file-link")))
    assert "file-link" in str(list(rules_of(profile)))


def test_seatbelt_and_landlock_hold_the_same_map(ground: Path) -> None:
    """What the profile lets be written Landlock does too; where Landlock lets more be written it has said so."""
    root = os.fsencode(ground)
    tree = [root + name for name in (b"/a", b"/a/b", b"/a/b/c", b"/ab", b"/b", b"/b/d")]
    for name in tree:
        Path(os.fsdecode(name)).mkdir(parents=True, exist_ok=True)
    paths = [base + name for base in [root, *tree] for name in (b"", b"/new", b"/new/below", b"b")]
    actions = [fence.ALLOW, fence.ALLOW, fence.DENY, fence.ASK, fence.REDIRECT]
    chance = random.Random(3)
    wider = 0
    for n in range(300):
        rules = []
        for _ in range(chance.randrange(1, 6)):
            action = chance.choice(actions if n % 3 == 0 else actions[:4])
            target = chance.choice(tree) if action == fence.REDIRECT else None
            rules.append(R(chance.choice(tree), action, target))
        list_, profile = fence.build(rules), fence.seatbelt_profile(rules)
        # A redirect's target is opened for the sake of the name that leads there, whatever the map says of it itself.
        targets = [rule.target for rule in rules if rule.target]
        for path in paths:
            landlock = any(path == p.path or path.startswith(p.path + b"/") for p in list_.places)
            seatbelt = sandbox_allows(profile, "file-write-data", os.fsdecode(path))
            if any(path == target or path.startswith(target + b"/") for target in targets):
                continue
            assert landlock or not seatbelt, (rules, path)
            if landlock and not seatbelt:
                wider += 1
                assert any(path == gap or path.startswith(gap + b"/") for gap, _ in list_.gaps), (rules, path)
    assert wider > 30, "the other kind came up, too"


def test_seatbelt_profile_of_macos_leaves_devices_and_no_session(ground: Path) -> None:
    """The defaults of macOS as a profile: what every process opens at its start, and the port tool's own places."""
    profile = fence.seatbelt_profile(defaults.base_os("write", "macos"))
    for path in ("/dev/null", "/dev/tty", "/dev/ttys004", "/dev/dtracehelper", "/dev/fd/3", "/private/tmp/x"):
        assert sandbox_allows(profile, "file-write-data", path), path
    assert sandbox_allows(profile, "file-write-create", "/private/var/folders/zz/x/T/y")
    # Only writing is denied: programs are started, asked for, and speak with the system's services as ever.
    assert set(re.findall(r"\(deny ([^ )]+)", profile)) == {"file-write*", "file-link"}
    for operation in ("network-outbound", "mach-lookup", "process-exec", "file-ioctl", "file-read-data", "signal"):
        assert sandbox_allows(profile, operation, "/dev/dtracehelper"), operation
    for path in ("/private/tmp/macports/1/policy", "/Users/x", "/dev/disk0", "/private/etc/hosts"):
        assert not sandbox_allows(profile, "file-write-data", path), path
        assert not sandbox_allows(profile, "file-link", path), path


def test_seatbelt_speaks_of_real_paths(ground: Path) -> None:
    (ground / "link").symlink_to(ground / "in")
    profile = fence.seatbelt_profile([R(os.fsencode(ground / "link"))])
    assert f'(subpath "{ground}/link") (subpath "{ground}/in")' in profile


@pytest.mark.parametrize("path", [b"/x\ny", b"/x\xff", b"/x\x7f"])
def test_seatbelt_refuses_what_it_cannot_carry(path: bytes) -> None:
    with pytest.raises(fence.FenceError, match="Seatbelt"):
        fence.seatbelt_profile([R(path)])


@pytest.mark.skipif(not Path("/usr/bin/sandbox-exec").exists(), reason="sandbox-exec is a program of macOS")
def test_seatbelt_holds(ground: Path) -> None:
    profile = fence.seatbelt_profile([R(os.fsencode(ground / "in"))])
    run = ["/usr/bin/sandbox-exec", "-p", profile, "/usr/bin/touch"]
    assert subprocess.run([*run, ground / "in/new"], check=False).returncode == 0
    assert subprocess.run([*run, ground / "out/new"], check=False).returncode != 0


def test_where_the_kernel_differs_is_told(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    base = os.fsencode(tmp_path)
    rules = [R(base + b"/in/deep", fence.DENY), R(base + b"/in"), R(base + b"/new")]
    remarks = fence.build(rules).remarks()
    assert f"the kernel cannot refuse writing {tmp_path}/in/deep below" in remarks[0]
    assert remarks[1] == f"{tmp_path}/new does not exist yet: the kernel lets all of {tmp_path} be written for it"
    assert fence.build([R(base + b"/in")]).remarks() == []


CHAIN = "for i in 1 2 3; do /bin/true; sh -c 'sh -c /bin/true; /bin/true; :'; done"


@kernel
@pytest.mark.parametrize("way", ["launcher", "preload", "preload, privileges given up before"])
@pytest.mark.parametrize("user", ["own", "other"])
def test_the_fence_is_raised_once(tmp_path: Path, way: str, user: str) -> None:
    """By the launcher, or by the first program that has the library: also where /tmp, and so the session, is opened."""
    if shutil.which("strace") is None:
        pytest.skip("NOT CHECKED: strace, which counts how often, is not on this machine")
    if user == "other" and os.geteuid():
        pytest.skip("NOT CHECKED: needs root, to become another user")
    identity = Identity.named("nobody") if user == "other" else None
    rules = Filemap([Rule(path, Action.ALLOW) for path in (b"/tmp", b"/dev", b"/proc")])
    policy = Policy(Filemap([Rule(b"/", Action.ALLOW)]), rules, fence=True)
    out = tmp_path / "calls"
    with Session(identity=identity, tiers=("tracelib", "fence")) as session:
        trace = session.start(policy, Path("/tmp"))
        assert trace.directory.is_relative_to("/tmp"), "else this tries nothing"
        become = ["setpriv", f"--reuid={identity.uid}", f"--regid={identity.gid}", "--clear-groups"] if identity else []
        given_up = ["setpriv", "--no-new-privs"] if "given up" in way else []
        preload = [*become, *given_up, "env", *(f"{name}={value}" for name, value in trace.env.items())]
        argv = [*(trace.launch_argv if way == "launcher" else preload), "sh", "-c", CHAIN]
        calls = "trace=landlock_restrict_self,execve,mknodat"
        done = subprocess.run(["strace", "-f", "-qq", "-e", calls, "-o", out, *argv])
        assert done.returncode == 0
        assert not list(trace.directory.glob("unfenced/*"))
    lines = out.read_text().splitlines()
    assert sum("execve(" in line and line.endswith("= 0") for line in lines) >= 13
    assert sum("landlock_restrict_self(" in line and line.endswith("= 0") for line in lines) == 1
    # The kernel is asked only by who raises it, and only where that may have been done before: each look costs a start.
    assert sum("mknodat(" in line for line in lines) == ("given up" in way)
