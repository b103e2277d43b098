"""`porttrace run` and `porttrace filemap` as a user starts them, with real programs."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from porttrace import session
from porttrace.cli.rules import parse_rule
from porttrace.filemap import Action, Filemap, Rule
from porttrace.registry import Registry
from porttrace.registry.models import NewPort
from porttrace.runtime_dir import RuntimeDir

PORTTRACE = str(Path(sys.executable).with_name("porttrace"))


class Result:
    """What a run gave: status, texts, report."""

    def __init__(self, done: subprocess.CompletedProcess[str], report: Path) -> None:
        self.status, self.out, self.err = done.returncode, done.stdout, done.stderr
        self.report: dict[str, Any] = json.loads(report.read_text()) if report.exists() else {}

    def found(self, **wanted: str | None) -> list[dict[str, Any]]:
        return [f for f in self.report["findings"] if all(f[key] == value for key, value in wanted.items())]


def run(work: Path, *args: str | Path, env: dict[str, str] | None = None, **options: Any) -> Result:
    report = work / "report.json"
    report.unlink(missing_ok=True)
    done = subprocess.run(
        [PORTTRACE, "run", "--report", report, *args],
        cwd=work,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **(env or {})},
        **options,
    )
    return Result(done, report)


def own_directories() -> set[str]:
    base = Path("/tmp/macports")
    return {entry.name for entry in base.iterdir()} if base.exists() else set()


# --- sessions beside and in others ---


@pytest.mark.parametrize("outer", ["tracelib", "supervisor,fence", "tracelib,supervisor,fence"])
def test_a_build_sees_no_other_session_and_can_have_its_own(work: Path, outer: str) -> None:
    """Its sessions lie in a directory that its own has for that, one behind the other."""
    installation = [f"--read={path}" for path in (Path(sys.prefix), Path(session.__file__).parent, sys.base_prefix)]
    shows = "echo $LD_PRELOAD; ls /tmp/macports; ls /home"
    inner = [PORTTRACE, "run", "--tiers", "tracelib", "--", "/bin/sh", "-c", shows]
    script = " ".join(shlex.quote(word) for word in inner)
    other = RuntimeDir(pid=1)
    try:
        done = run(work, "--tiers", outer, *installation, "--write=/tmp", "--", "/bin/sh", "-c", f"{script}; {script}")
        assert (other.path / "lock").exists()
    finally:
        other.close()
    libraries = re.findall(r"^(/tmp/macports/(\d+)/1/nested/\d+/1/tracelib.so)", done.out, re.M)
    assert len(libraries) == 2, (done.out, done.err)
    assert re.findall(r"^\d+$", done.out, re.M) == [libraries[0][1]] * 2
    assert done.err.count("ls: cannot access '/home'") == 2
    assert not [
        f for f in done.report["findings"] if f["path"].startswith("/tmp/macports") and "/launch" not in f["path"]
    ]


# --- rules as people write them ---


def rule(path: str, action: Action, target: str | None = None) -> tuple[bytes, Action, bytes | None]:
    return os.fsencode(path), action, os.fsencode(target) if target else None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/a=+", rule("/a", Action.ALLOW)),
        ("/a=-", rule("/a", Action.DENY)),
        ("/a=?", rule("/a", Action.ASK)),
        ("/a=>/b", rule("/a", Action.REDIRECT, "/b")),
        ("/a/../b//c/=-", rule("/b/c", Action.DENY)),
        (r"/a\=b=-", rule("/a=b", Action.DENY)),
        (r"/a\:b=-", rule("/a:b", Action.DENY)),
        ("/a:b=-", rule("/a:b", Action.DENY)),
        (r"/a\\=-", rule("/a\\", Action.DENY)),
        (r"/a=>/b\=c", rule("/a", Action.REDIRECT, "/b=c")),
        ("/a", rule("/a", Action.ALLOW)),
    ],
)
def test_rule_texts(text: str, expected: tuple[bytes, Action, bytes | None]) -> None:
    (got,) = parse_rule(text, "--read", default=Action.ALLOW)
    assert (got.path, got.action, got.target) == expected
    assert got.origin == f"--read {text}"


def test_a_rule_through_a_link_counts_for_the_real_path_too(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    names = [os.fsdecode(one.path) for one in parse_rule(f"{tmp_path}/link/x=-", "--map")]
    assert names == [f"{tmp_path}/link/x", os.path.realpath(tmp_path / "real") + "/x"]


BAD_USE = [
    (["--map", "/a"], "an action is missing"),
    (["--map", "/a=x"], "unknown action 'x'"),
    (["--map", "=+"], "the path is empty"),
    (["--map", "/a=>"], "no target"),
    (["--map", "/a=>/b=c"], "written '\\='"),
    (["--map", "~/secret=-"], 'write "$HOME"'),
    (["--read", "~other"], "only a shell knows ~"),
    (["--map", "/a=>~/b"], "only a shell knows ~"),
    (["--tiers", "teleport"], "no tier 'teleport'"),
    (["--tiers", ""], "at least one"),
    (["--prefix", "/nowhere"], "no registry"),
    (["--deps", "zlib"], "needs --prefix"),
    (["--registry", "/x.db"], "--prefix DIR"),
    (["--registry", "/nowhere.db", "--prefix", "/usr"], "/nowhere.db"),
    (["--log", "/nowhere/log"], "cannot write the log /nowhere/log"),
    (["--report", "/nowhere/report"], "cannot write the report /nowhere/report"),
    (["--user", "nosuchuser"], "does not exist"),
    (["--frobnicate"], "unrecognized arguments"),
    (["--map"], "expected one argument"),
]


@pytest.mark.parametrize(("args", "said"), BAD_USE, ids=[" ".join(args) for args, _ in BAD_USE])
def test_bad_use_is_one_line_and_125(work: Path, args: list[str], said: str) -> None:
    done = subprocess.run([PORTTRACE, "run", *args, "--", "true"], cwd=work, capture_output=True, text=True)
    assert done.returncode == 125
    assert said in done.stderr
    assert done.stderr.startswith("porttrace: ") and done.stderr.count("\n") == 1


def test_a_relative_path_is_taken_from_the_current_directory(work: Path) -> None:
    (work / "there").write_text("secret\n")
    result = run(work, "--map", "there=-", "--", "cat", "there")
    assert result.status == 1 and "secret" not in result.out and "Warning: --map" not in result.err


@pytest.mark.parametrize(
    ("rule", "said"), [("--map=nosuch=-", "nosuch"), ("--read=nosuch", "nosuch"), ("--map=/a=>nosuch", "nosuch")]
)
def test_a_relative_path_at_which_nothing_is_gets_a_warning(work: Path, rule: str, said: str) -> None:
    result = run(work, rule, "--", "true")
    assert result.status == 0 and f"there is no {work}/{said} " in result.err
    assert run(work, rule.replace("nosuch", f"{work}/nosuch"), "--", "true").err == ""
    assert run(work, "--write=nosuch", "--", "touch", "nosuch").err == ""


@pytest.mark.parametrize("limit", ["ulimit -f 1000000;", "", "ulimit -S -f 1000; prlimit --fsize=unlimited"])
def test_a_limit_for_the_size_of_files_changes_nothing_in_who_started_whom(work: Path, limit: str) -> None:
    (work / "hidden").write_text("secret\n")
    result = run(work, "--map", "hidden=-", "--", "sh", "-c", f'{limit} sh -c "cat hidden; true"; true')
    [finding] = [f for f in result.report["findings"] if f["path"] == f"{work}/hidden"]
    between = ["prlimit"] if "prlimit" in limit else []
    assert finding["programs"][0]["chain"] == ["sh", *between, "sh", "cat"]


def test_only_the_first_double_dash_is_ours(work: Path) -> None:
    assert run(work, "--", "echo", "a", "--", "b").out == "a -- b\n"
    assert run(work, "echo", "a", "--", "b").out == "a -- b\n"
    assert run(work, "-q", "--", "--nosuch").status == 127


def test_a_report_and_a_log_can_go_to_standard_output(work: Path, place: Path) -> None:
    (place / "x").touch()
    command = [PORTTRACE, "run", "-q", "--report", "-", "--", "cat", place / "x"]
    done = subprocess.run(command, cwd=work, capture_output=True, text=True)
    assert done.returncode == 1
    assert [row["path"] for row in json.loads(done.stdout)["findings"]] == [str(place / "x")]
    command = [PORTTRACE, "run", "-q", "--log", "-", "--", "cat", place / "x"]
    done = subprocess.run(command, cwd=work, capture_output=True, text=True)
    assert str(place / "x") in [json.loads(line)["path"] for line in done.stdout.splitlines()]
    assert list(work.iterdir()) == []
    told = subprocess.run(
        [PORTTRACE, "report", "-"],
        input=subprocess.run([*command[:3], "--report", "-", *command[5:]], cwd=work, stdout=subprocess.PIPE).stdout,
        capture_output=True,
    )
    assert told.returncode == 0 and os.fsencode(place / "x") in told.stdout


def test_a_registry_that_is_none_is_one_line(work: Path, place: Path) -> None:
    (place / "registry.db").write_bytes(b"garbage" * 100)
    result = run(work, "--registry", place / "registry.db", "--prefix", place, "--", "true")
    assert result.status == 125 and result.err.count("\n") == 1 and "registry.db" in result.err


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (["sh", "-c", "exit 7"], 7),
        (["true"], 0),
        (["sh", "-c", "kill -9 $$"], 137),
        (["sh", "-c", "kill -TERM $$"], 143),
    ],
)
def test_the_exit_status_is_the_commands(work: Path, command: list[str], status: int) -> None:
    result = run(work, "--", *command)
    assert (result.status, result.err) == (status, "")


def test_a_command_that_cannot_be_started_is_told_as_a_shell_does(work: Path) -> None:
    result = run(work, "--", "no-such-command")
    assert (result.status, result.err) == (127, "porttrace: no-such-command: there is no such command\n")
    (work / "plain").touch()
    result = run(work, "--", "./plain")
    assert (result.status, result.err) == (126, "porttrace: ./plain: cannot be executed\n")
    assert run(work).status == 125


def test_each_command_has_examples() -> None:
    """And says what its exit status tells, where that is more than the others'."""
    text = subprocess.run([PORTTRACE, "--help"], capture_output=True, text=True, check=True).stdout
    commands = re.findall(r"^  (\w+) ", text, re.M)
    assert len(commands) >= 10
    for command in commands:
        text = subprocess.run([PORTTRACE, command, "--help"], capture_output=True, text=True, check=True).stdout
        assert f"\n  porttrace {command} " in text.partition("\nexamples:\n")[2], command


def test_help_shows_examples() -> None:
    text = subprocess.run([PORTTRACE, "run", "--help"], capture_output=True, text=True, check=True).stdout
    assert "examples:" in text and "first that matches wins" in text and r"'\='" in text
    assert "filemap" in subprocess.run([PORTTRACE, "--help"], capture_output=True, text=True, check=True).stdout
    assert subprocess.run([PORTTRACE, "nonsense"], capture_output=True).returncode == 2


def test_nothing_is_left_and_streams_are_the_commands(work: Path) -> None:
    result = run(work, "--", "sh", "-c", "cat; echo oops >&2", input="hello\n")
    assert (result.out, result.err) == ("hello\n", "oops\n")
    shown = run(work, "--", "sh", "-c", "echo $LD_PRELOAD").out.strip()
    assert shown.startswith("/tmp/macports/") and not Path(shown).parents[1].exists()
    assert result.report["command"] == ["sh", "-c", "cat; echo oops >&2"]
    assert {"version", "command", "tiers", "findings", "stats", "context"} <= set(result.report)


# --- hiding, writing, redirecting ---


def test_a_file_that_is_not_allowed_does_not_exist(work: Path, place: Path) -> None:
    (place / "secret").write_text("x")
    result = run(work, "--", "cat", place / "secret")
    assert result.status == 1
    assert f"{place}/secret: No such file or directory" in result.err
    (finding,) = result.found(path=f"{place}/secret", access="read")
    assert finding["kind"] == "hidden" and finding["count"] == 1 and finding["port"] is None
    assert finding["fix"] == f"trace.read-append {place}/secret"
    assert finding["programs"][0]["exe"] == os.path.realpath(shutil.which("cat") or "")
    assert "Warning: The following existing file was hidden from the build system by trace mode:\n" in result.err
    assert f"  {place}/secret\n" in result.err and "asked for by cat" in result.err


@pytest.mark.parametrize(
    "command",
    [
        ["sh", "-c", "test -e {0} && echo seen; exit 0"],
        ["sh", "-c", "exec < {0} && echo seen; exit 0"],
        ["python3", "-S", "-c", "import os; print('seen' if os.path.exists('{0}') else '')"],
        ["perl", "-e", "print 'seen' if -e '{0}' or open(F, '{0}')"],
        ["sh", "-c", "ls {1} | grep secret && echo seen; exit 0"],
        ["find", "{1}", "-name", "secret", "-printf", "seen"],
        ["sh", "-c", "cd {1} && cat ./secret && echo seen; exit 0"],
        ["sh", "-c", "ln -s {0} link; cat link && echo seen; exit 0"],
        ["env", "-i", "/bin/sh", "-c", "cat {0} && echo seen; exit 0"],
    ],
    ids=["test", "redirection", "python", "perl", "ls", "find", "relative", "symlink", "env -i"],
)
def test_no_program_sees_it(work: Path, place: Path, command: list[str]) -> None:
    (place / "secret").write_text("secret text")
    (place / "public").write_text("public text")
    words = [word.format(place / "secret", place) for word in command]
    plain = subprocess.run(words, cwd=work, capture_output=True, text=True)
    assert "seen" in plain.stdout, "without porttrace the program must see it, else this test shows nothing"
    (work / "link").unlink(missing_ok=True)
    result = run(work, "--map", f"{place}/secret=-", "--read", place, "--", *words)
    assert "seen" not in result.out and "secret" not in result.out


def test_the_compiler_does_not_find_a_hidden_header(work: Path, place: Path) -> None:
    if shutil.which("gcc") is None:
        pytest.fail("this test needs gcc")
    (place / "stray.h").write_text("#define STRAY 1\n")
    (work / "probe.c").write_text("#if __has_include(<stray.h>)\n#error found\n#endif\nint main(void) { return 0; }\n")
    compile_it = ["gcc", f"-I{place}", "-o", "probe", "probe.c"]
    assert subprocess.run(compile_it, cwd=work, capture_output=True).returncode == 1
    result = run(work, "--map", f"{place}/stray.h=-", "--read", place, "--", *compile_it)
    assert result.status == 0, result.err
    assert (work / "probe").exists()
    findings = result.found(path=f"{place}/stray.h")
    assert findings and findings[0]["programs"][0]["chain"] == ["gcc", "cc1"]
    assert "asked for by cc1 (gcc > cc1)" in result.err
    assert os.path.realpath(shutil.which("gcc") or "") in findings[0]["programs"][0]["parents"]


def test_writing_outside_is_refused_and_named(work: Path, place: Path) -> None:
    (place / "there").write_text("old")
    script = (
        f"echo x > {place}/new; echo x > {place}/there; rm -f {place}/there; mkdir {place}/dir; echo x > inside; true"
    )
    result = run(work, "--read", place, "--", "sh", "-c", script)
    assert result.status == 0
    assert [entry.name for entry in place.iterdir()] == ["there"] and (place / "there").read_text() == "old"
    assert (work / "inside").read_text() == "x\n"
    kinds = {(f["path"].rpartition("/")[2], f["access"]) for f in result.found(kind="write-outside")}
    assert {("new", "create"), ("there", "write"), ("there", "delete"), ("dir", "create")} <= kinds
    assert f"Warning: A creation was attempted outside sandbox: {place}/new\n" in result.err
    assert f"Warning: A deletion was attempted outside sandbox: {place}/there\n" in result.err
    assert f"to allow it:  --write {place}/new" in result.err


def test_rules_are_tried_in_the_order_given(work: Path, place: Path) -> None:
    (place / "a").write_text("A")
    first = run(work, "--map", f"{place}/a=-", "--map", f"{place}=+", "--", "cat", place / "a")
    second = run(work, "--map", f"{place}=+", "--map", f"{place}/a=-", "--", "cat", place / "a")
    assert (first.status, second.status) == (1, 0)
    assert run(work, "--map", f"{work}/b=-", "--", "touch", "b").status == 1, "rules come before the defaults"


def test_a_rule_matches_whole_components(work: Path, place: Path) -> None:
    for name in ("dir", "dir-evil"):
        (place / name).mkdir()
        (place / name / "f").write_text(name)
    result = run(work, "--read", place / "dir", "--", "cat", place / "dir/f", place / "dir-evil/f")
    assert result.out == "dir" and result.status == 1


def test_what_an_option_hides_is_not_advised_to_be_allowed_by_a_later_one(work: Path, place: Path) -> None:
    (place / "x").touch()
    result = run(work, "--map", f"{place}/x=-", "--", "cat", place / "x")
    assert "to allow it, take this rule away" in result.err and "to allow it:" not in result.err
    assert [row["fix"] for row in result.found(path=str(place / "x"))] == [None]


def test_read_and_write_are_two_maps(work: Path, place: Path) -> None:
    assert run(work, "--read", place, "--", "touch", place / "x").status == 1
    assert run(work, "--read", place, "--write", place, "--", "touch", place / "x").status == 0
    assert (place / "x").exists()


def test_redirect(work: Path, place: Path) -> None:
    (place / "sdk").mkdir()
    (place / "sdk" / "version").write_text("from the SDK")
    (place / "system").mkdir()
    (place / "system" / "version").write_text("from the system")
    (place / "system" / "only").write_text("x")
    to = ["--map", f"{place}/system=>{place}/sdk", "--"]
    assert run(work, *to, "cat", place / "system/version").out == "from the SDK"
    assert run(work, *to, "ls", place / "system").out == "version\n"
    assert run(work, *to, "cat", place / "system/only").status == 1


def test_no_defaults(work: Path) -> None:
    (work / "f").write_text("f")
    hidden = run(work, "--no-defaults", "--read", "/usr", "--read", "/lib", "--read", "/etc", "--", "cat", work / "f")
    shown = run(work, "--no-defaults", "--read", "/", "--", "cat", work / "f")
    assert (hidden.status, shown.status, shown.out) == (1, 0, "f")


def test_audit_refuses_nothing_and_records_everything(work: Path, place: Path) -> None:
    (place / "secret").write_text("secret text")
    result = run(work, "--audit", "--", "sh", "-c", f"cat {place}/secret; echo x > {place}/new")
    assert (result.status, result.out) == (0, "secret text")
    assert (place / "new").exists()
    assert result.found(kind="hidden", path=f"{place}/secret") and result.found(
        kind="write-outside", path=f"{place}/new"
    )
    assert "would have been hidden from the build system" in result.err


def test_strict_exits_with_3_only_where_there_were_violations(work: Path, place: Path) -> None:
    (place / "secret").touch()
    assert run(work, "--strict", "--", "sh", "-c", f"test -e {place}/secret; true").status == 3
    assert run(work, "--strict", "--", "sh", "-c", f"test -e {place}/absent; exit 4").status == 4


def test_absent_files_are_told_only_with_v(work: Path, place: Path) -> None:
    quiet = run(work, "--", "sh", "-c", f"test -e {place}/nothing; true")
    told = run(work, "-v", "--", "sh", "-c", f"test -e {place}/nothing; true")
    assert quiet.found(kind="absent", path=f"{place}/nothing")
    assert "nothing" not in quiet.err
    assert "would have been hidden from the build system by trace mode if it existed" in told.err
    assert run(work, "-q", "--", "cat", "/root/.x").err.count("\n") == 1, "-q leaves cat's own line only"


def test_noise_is_folded(work: Path) -> None:
    home = Path("/root") if os.geteuid() == 0 else Path.home()
    script = f"test -e {home}/.terminfo; ls {home}/.terminfo >/dev/null 2>&1; test -e /usr/local/share/locale; true"
    folded, shown = (run(work, *v, "--", "sh", "-c", script) for v in ([], ["-v"]))
    assert folded.found(path="/usr/local/share/locale"), "noise stays in the report"
    assert "/usr/local/share/locale" not in folded.err
    assert "/usr/local/share/locale" in shown.err


# --- ports ---


@pytest.fixture
def prefix(place: Path) -> Path:
    """Ports libbar (needs zlib), zlib and stray with a file each, and a file that is no port's."""
    file = place / "var/macports/registry/registry.db"
    file.parent.mkdir(parents=True)
    (place / "include").mkdir()
    with Registry.open(file, write=True) as registry:
        for name in ("libbar", "zlib", "stray"):
            header = place / "include" / f"{name}.h"
            header.write_text(f"{name} text")
            needs = ("zlib",) if name == "libbar" else ()
            registry.activate(registry.add(NewPort(name, "1", files=(os.fsencode(header),), depends=needs)))
    (place / "include/nobodys.h").write_text("nobody text")
    return place


@pytest.mark.parametrize("ask", ["image", "socket"])
def test_ports_in_the_closure_are_visible_others_are_not(work: Path, prefix: Path, ask: str) -> None:
    include = prefix / "include"
    files = [include / f"{name}.h" for name in ("libbar", "zlib", "stray", "nobodys")]
    result = run(work, "--prefix", prefix, "--deps", "libbar", "--ask", ask, "-v", "--", "cat", *files)
    assert result.out == "libbar textzlib textnobody text"
    (finding,) = result.found(kind="undeclared-dependency", access="read")
    assert (finding["port"], finding["path"]) == ("stray", str(include / "stray.h"))
    assert finding["fix"] == "depends_lib-append port:stray"
    assert f"trace: access denied to {include}/stray.h (stray)\n" in result.err
    assert "belongs to port stray, which is not a declared dependency" in result.err
    assert result.found(kind="unowned", path=str(include / "nobodys.h"))
    assert "inside the MacPorts prefix not installed by a port was accessed:" in result.err
    listing = run(work, "--prefix", prefix, "--deps", "libbar", "--ask", ask, "--", "ls", include)
    assert listing.out.split() == ["libbar.h", "nobodys.h", "zlib.h"]
    strict = run(work, "--prefix", prefix, "--deps", "libbar", "--ask", ask, "--strict", "--", "cat", files[3])
    assert strict.status == 3 and strict.out == ""


def test_the_prefix_is_found_from_the_registry(work: Path, prefix: Path) -> None:
    registry = prefix / "var/macports/registry/registry.db"
    result = run(work, "--registry", registry, "--deps", "STRAY,unknown", "--", "cat", prefix / "include/stray.h")
    assert result.out == "stray text"
    assert f"Warning: --deps: no active port unknown in {registry}" in result.err


# --- the log ---


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="only Linux tells what Python was given")
@pytest.mark.parametrize("given", [{"LANG": "C"}, {}, {"LANG": "C", "LC_CTYPE": "C.UTF-8"}, {"LC_CTYPE": "POSIX"}])
def test_the_environment_is_the_one_given(work: Path, given: dict[str, str]) -> None:
    """In the locale C, Python gives what it starts another one: groff would read other fonts than without us."""
    given = {"PATH": os.environ["PATH"], **given}
    done = subprocess.run([PORTTRACE, "run", "-q", "--", "env"], cwd=work, env=given, capture_output=True, text=True)
    found = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert Path(found.pop("LD_PRELOAD")).name == "tracelib.so"
    assert found == given


def test_the_log_has_each_access_with_its_verdict(work: Path, place: Path) -> None:
    (place / "secret").write_text("x")
    (work / "mine").write_text("mine")
    log = work / "log.jsonl"
    run(work, "--log", log, "--", "sh", "-c", f"cat mine {place}/secret; rm mine")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert {"pid", "ppid", "exe", "op", "access", "path", "verdict", "port", "errno"} <= set(lines[0])
    cat = [
        line for line in lines if line["exe"].endswith("/cat") and line["path"] in (f"{work}/mine", f"{place}/secret")
    ]
    read = {line["path"]: line for line in cat if line["access"] == "read"}
    assert (read[f"{work}/mine"]["verdict"], read[f"{work}/mine"]["errno"]) == ("allow", 0)
    assert read[f"{work}/mine"]["asked"] == "mine"
    assert read[f"{work}/mine"]["op"] in ("open", "openat", "open64", "openat64")
    assert (read[f"{place}/secret"]["verdict"], read[f"{place}/secret"]["errno"]) == ("hide", 2)
    assert any(line["access"] == "delete" and line["path"] == f"{work}/mine" for line in lines)
    assert any(line["access"] == "exec" and line["path"].endswith("/cat") for line in lines)


# --- ends ---


def start(work: Path, *args: str, **options: Any) -> tuple[subprocess.Popen[bytes], list[int]]:
    """A run whose command prints its pids, and those pids."""
    process = subprocess.Popen(
        [PORTTRACE, "run", *args], cwd=work, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options
    )
    assert process.stdout is not None
    return process, [int(word) for word in process.stdout.readline().split()]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


TREE = "sleep 300 & a=$!; setsid sleep 300 & echo $$ $a $!; wait"


@pytest.mark.parametrize(
    ("number", "group"),
    [(signal.SIGINT, True), (signal.SIGINT, False), (signal.SIGTERM, False), (signal.SIGHUP, False)],
)
def test_signals_end_everything(work: Path, number: signal.Signals, group: bool) -> None:
    process, pids = start(work, "--", "sh", "-c", TREE, start_new_session=True)
    assert len(pids) == 3 and all(map(alive, pids))
    (os.killpg if group else os.kill)(process.pid, number)
    process.communicate(timeout=20)
    assert process.returncode == 128 + number
    assert not any(map(alive, pids))
    assert str(process.pid) not in own_directories()


def test_ctrl_c_on_a_terminal(work: Path) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(work)
        os.execv(PORTTRACE, [PORTTRACE, "run", "--", "sh", "-c", TREE])
    text = b""
    while b"\n" not in text:
        text += os.read(terminal, 100)
    pids = [int(word) for word in text.split()]
    os.write(terminal, b"\x03")
    deadline = time.monotonic() + 20
    status = 0
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            break
        time.sleep(0.02)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 130
    assert not any(map(alive, pids))
    assert str(pid) not in own_directories()


def test_after_kill_9_the_next_run_cleans_up(work: Path) -> None:
    process, pids = start(work, "--", "sh", "-c", TREE, start_new_session=True)
    process.kill()
    process.wait(timeout=20)  # not for the end of its output: what it left behind holds that open
    assert str(process.pid) in own_directories()
    run(work, "--", "true")
    process.communicate(timeout=20)
    assert str(process.pid) not in own_directories()
    assert not any(map(alive, pids))


def test_a_background_process_is_ended_and_named(work: Path) -> None:
    result = run(work, "--", "sh", "-c", "sleep 300 >/dev/null 2>&1 & echo $!")
    pid = int(result.out)
    assert result.status == 0 and not alive(pid)
    assert f"Warning: process {pid} (" in result.err and "was still running and was ended (SIGTERM)" in result.err


def test_two_runs_at_the_same_time(work: Path, place: Path) -> None:
    (place / "a").write_text("A")
    (place / "b").write_text("B")
    script = f"echo $$; sleep 0.5; cat {place}/a {place}/b; true"
    runs = [start(work, "-q", "--map", f"{place}/{name}=+", "--", "sh", "-c", script)[0] for name in "ab"]
    assert [process.communicate(timeout=30)[0] for process in runs] == [b"A", b"B"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: to run as another user")
def test_another_user(work: Path, place: Path) -> None:
    (place / "f").write_text("f")
    work.chmod(0o777)
    result = run(work, "--user", "nobody", "--", "sh", "-c", f"id -un; cat {place}/f; touch mine")
    assert result.out == "nobody\n"
    assert (work / "mine").owner() == "nobody"
    assert result.found(kind="hidden", path=f"{place}/f", access="read")


# --- filemap ---

MAP = Filemap(
    [
        Rule(b"/usr", Action.ALLOW, literal=True),
        Rule(b"/sdk\xff", Action.REDIRECT, b"/target", literal=True),
        Rule(b"/opt", Action.ASK, literal=True),
        Rule(b"/secret", Action.DENY, literal=True),
    ]
)


def filemap(*args: str | Path, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([PORTTRACE, "filemap", *args], input=data, capture_output=True, timeout=30)


def test_filemap_dump_and_check(tmp_path: Path) -> None:
    file = tmp_path / "map"
    file.write_bytes(MAP.to_bytes())
    dumped = filemap("dump", file)
    assert dumped.stdout.decode().splitlines() == [
        "0 allow\t/usr",
        "1 redirect\t/sdk\\xff\t/target",
        "2 ask\t/opt",
        "3 deny\t/secret",
    ]
    assert filemap("dump", "-", data=MAP.to_bytes()).stdout == dumped.stdout
    checked = filemap("check", file)
    assert (checked.returncode, checked.stdout.decode()) == (0, f"{file}: 4 entries, sound\n")


@pytest.mark.parametrize(
    ("data", "offset"), [(b"/usr", 4), (b"/usr\0\x07\0\0", 5), (MAP.to_bytes()[:-1], None), (b"", 0)]
)
def test_a_broken_filemap_is_told_with_its_offset(tmp_path: Path, data: bytes, offset: int | None) -> None:
    file = tmp_path / "map"
    file.write_bytes(data)
    done = filemap("check", file)
    assert done.returncode == 1
    assert done.stderr.startswith(b"porttrace: ") and done.stderr.count(b"\n") == 1
    assert b"at byte" in done.stderr
    if offset is not None:
        assert f"at byte {offset}".encode() in done.stderr


def test_a_filemap_that_is_not_there(tmp_path: Path) -> None:
    done = filemap("dump", tmp_path / "none")
    assert done.returncode == 1 and b"No such file" in done.stderr


def test_a_missing_tier_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "available_tiers", lambda: ("tracelib",))
    with session.Session() as started:
        told = "\n".join(started.notices)
    assert "no Landlock" in told
    assert "static programs run untraced" in told


def test_a_limit_of_memory_that_the_report_does_not_fit_in_is_named(tmp_path: Path) -> None:
    script = 'ulimit -v 250000 && exec "$0" run -- true'
    done = subprocess.run(["sh", "-c", script, PORTTRACE], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 125
    assert "MiB of address space" in done.stderr and "ulimit -v" in done.stderr
    assert len(done.stderr.splitlines()) == 1
