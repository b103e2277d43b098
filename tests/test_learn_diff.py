"""Baselines, `porttrace diff` and `porttrace learn`: with made reports, and the whole way with real programs."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import Prefix
from test_e2e_usage import HEAD

from porttrace.baseline import compare, fresh
from porttrace.learn import learn

PORTTRACE = str(Path(sys.executable).with_name("porttrace"))


def tool(cwd: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([PORTTRACE, *words], cwd=cwd, capture_output=True, text=True, timeout=200)


def finding(path: str, kind: str = "hidden", access: str = "read", **more: Any) -> dict[str, Any]:
    return {"kind": kind, "path": path, "access": access, "port": None, "phase": "build", "built": "foo"} | more


def report(*findings: dict[str, Any], workpath: str = "/w", prefix: str = "/p") -> dict[str, Any]:
    phase = {"workpath": workpath, "prefix": prefix, "audit": True}
    return {"findings": list(findings), "context": {"phases": [phase]}}


# --- baseline and diff ---


def test_what_makes_two_findings_the_same() -> None:
    old = report(finding("/a"), finding("/w/x", access="stat"), finding("/p/include/h", port="zlib"))
    moved = report(
        finding("/a", count=9, programs=[{"exe": "/bin/other"}]),
        finding("/other/x", access="stat"),
        finding("/q/include/h", port="zlib"),
        workpath="/other",
        prefix="/q",
    )
    assert fresh(moved, old) == []
    for different in (
        finding("/b"),
        finding("/a", access="stat"),
        finding("/a", phase="test"),
        finding("/a", port="x"),
    ):
        assert fresh(report(different), old) == [different]
    assert fresh(report(finding("/proc/77/maps")), report(finding("/proc/5/maps"))) == []
    assert fresh(report(finding("/wx")), report(finding("/w/x"))) != [], "whole components"


def test_compare() -> None:
    found = compare(report(finding("/a"), finding("/b")), report(finding("/b"), finding("/c")))
    assert [[f["path"] for f in part] for part in (found.gone, found.new, found.same)] == [["/a"], ["/c"], ["/b"]]


def test_diff_and_baseline_of_real_runs(place: Path, work: Path) -> None:
    for name in ("one", "two", "three"):
        (place / name).write_text("x")
    tool(work, "run", "-q", "--report", "a.json", "--", "cat", place / "one", place / "two")
    tool(work, "run", "-q", "--report", "b.json", "--", "cat", place / "two", place / "three")
    done = tool(work, "diff", "a.json", "b.json")
    assert done.returncode == 0
    assert (
        f"- PT002 hidden  read {place}/one\n" in done.stdout and f"+ PT002 hidden  read {place}/three\n" in done.stdout
    )
    assert f"{place}/two" not in done.stdout and "1 gone, 1 new, 1 the same" in done.stdout.splitlines()[-1]
    assert tool(work, "diff", "--strict", "a.json", "b.json").returncode == 3
    assert tool(work, "diff", "--strict", "a.json", "a.json").returncode == 0
    assert {k: len(v) for k, v in json.loads(tool(work, "diff", "--json", "a.json", "b.json").stdout).items()} == {
        "gone": 1, "new": 1, "same": 1,
    }  # fmt: skip
    known = ["run", "--strict", "--baseline", "a.json", "--report", "c.json", "--"]
    done = tool(work, *known, "sh", "-c", f"cat {place}/two {place}/one 2>/dev/null; exit 0")
    assert (done.returncode, done.stderr) == (0, ""), "what is known is neither told nor counted"
    assert len(json.loads((work / "c.json").read_text())["findings"]) >= 2, "but it stays in the report"
    done = tool(work, *known, "sh", "-c", f"cat {place}/two {place}/three 2>/dev/null; exit 0")
    assert done.returncode == 3 and f"{place}/three" in done.stderr and f"{place}/two" not in done.stderr
    done = tool(work, "run", "--baseline", "/nowhere", "--", "touch", "ran")
    assert done.returncode == 125 and not (work / "ran").exists() and done.stderr.count("\n") == 1


# --- learn ---


def lines(*findings: dict[str, Any], **options: Any) -> list[str]:
    text = learn(findings, is_directory=lambda path: path.endswith("/dir"), **options).portfile()
    return [line for line in text.splitlines() if not line.startswith("# foo")]


def test_what_is_hidden_on_purpose_is_left_out(work: Path) -> None:
    """No allowance comes before such a rule: lines for it would change nothing, and should not be wanted."""
    rule = "/h=- (trace.hide, line 5 of Portfile)"
    option = {"rule": "/i=- (--map /i=-)"}
    findings = [
        finding("/h/a", rule=rule),
        finding("/h/b", "undeclared-dependency", port="zlib", rule=rule),
        finding("/h/c", "write-outside", "delete", rule=rule),
        finding("/i", **option),
        finding("/o", rule="/o=- (base OS (baseos-linux.toml))"),
    ]
    assert lines(*findings) == ["build.trace_read-append /o"]
    assert learn(findings).on_purpose == [rule, option["rule"]]
    (work / "r.json").write_text(json.dumps(report(*findings)))
    done = tool(work, "learn", "r.json")
    assert done.stderr == f"Note: left out what is hidden on purpose: {rule}; {option['rule']}\n"
    assert done.stdout == "# foo, build\nbuild.trace_read-append /o\n"
    (work / "r.json").write_text(json.dumps(report(*findings[:4])))
    done = tool(work, "learn", "r.json")
    assert "hidden on purpose" in done.stderr and done.stdout == "# nothing is needed\n"


def test_the_smallest_lines() -> None:
    assert lines() == []
    assert lines(finding("/opt", access="stat"), finding("/opt/a"), finding("/opt/a/b")) == [
        "build.trace_read-append /opt/a"
    ], "what lies below is covered, a directory on the way is visible by itself"
    assert lines(finding("/opt/ab"), finding("/opt/a")) == [
        "build.trace_read-append /opt/a",
        "build.trace_read-append /opt/ab",
    ], "whole components"
    assert lines(finding("/x/dir", "write-outside", "create"), finding("/x/dir/f", "write-outside", "create")) == [
        "# a directory: this opens all that lies below it",
        "build.trace_write-append /x/dir",
    ]
    removed = finding("/x/dir/f", "write-outside", "delete")
    assert lines(removed)[-1] == "build.trace_write-append /x/dir", "the kernel's fence opens directories"
    assert lines(finding("/x/dir/f", "write-outside", "create"), removed) == ["build.trace_write-append /x/dir/f"]
    assert lines(finding("/x", "write-outside", "write"), finding("/x")) == ["build.trace_write-append /x"]
    assert lines(finding("/a b"), finding("/a b", phase="test")) == [
        "build.trace_read-append {/a b}",
        "test.trace_read-append {/a b}",
    ]
    assert lines(finding("/n", "absent"), finding("/u", "unowned"), finding("", "unused-dependency", port="x")) == []
    assert lines(finding("/usr/local/include", programs=[{"exe": "/usr/bin/cc1"}])) == [], "noise"
    assert lines(finding("/usr/local/include", programs=[{"exe": "/usr/bin/cc1"}]), noise=True) != []


@pytest.mark.parametrize(
    ("uses", "line"),
    [
        ([("/p/bin/m4", "build")], "depends_build-append port:x"),
        ([("/p/include/h", "build"), ("/p/bin/m4", "configure")], "depends_lib-append port:x"),
        ([("/p/bin/m4", "build"), ("/p/share/d", "destroot")], "depends_lib-append port:x"),
        ([("/p/bin/m4", "test")], "depends_test-append port:x"),
        ([("/p/bin/m4", "test"), ("/p/bin/m4", "build")], "depends_build-append port:x"),
    ],
)
def test_one_type_for_each_port(uses: list[tuple[str, str]], line: str) -> None:
    assert lines(*(finding(p, "undeclared-dependency", port="x", phase=phase) for p, phase in uses)) == [line]


def test_what_was_learned_makes_the_run_pass_and_is_needed(place: Path, work: Path) -> None:
    (place / "in put").mkdir()
    (place / "in put/a=b").write_text("x")
    (place / "other").write_text("x")
    script = (
        f"cat '{place}/in put/a=b' {place}/other && mkdir {place}/new && echo x >{place}/new/file && rm -r {place}/new"
    )
    assert tool(work, "run", "--strict", "-q", "--", "sh", "-c", script).returncode != 0
    done = tool(work, "run", "-q", "--audit", "--report", "audit.json", "--", "sh", "-c", script)
    assert done.returncode == 0, done.stderr
    options = shlex.split(tool(work, "learn", "--options", "audit.json").stdout)
    done = tool(work, "run", "--strict", *options, "--", "sh", "-c", script)
    assert (done.returncode, done.stderr) == (0, ""), options
    pairs = list(zip(options[::2], options[1::2], strict=True))
    assert 2 < len(pairs) < 6
    for left_out in (
        pair for pair in pairs if pair[0] == "--write" or pair[1].startswith((f"{place}/in", f"{place}/o"))
    ):
        fewer = [word for pair in pairs if pair != left_out for word in pair]
        assert tool(work, "run", "--strict", "-q", *fewer, "--", "sh", "-c", script).returncode != 0, left_out


def test_learn_says_what_it_leaves_out(work: Path) -> None:
    tool(work, "run", "-q", "--report", "r.json", "--", "ls", "/opt")
    done = tool(work, "learn", "--noise", "r.json")
    assert "trace.read-append /opt\n" in done.stdout and "this was no audit" in done.stderr
    assert "# a directory: this opens all" in done.stdout
    tool(work, "run", "-q", "--report", "r.json", "--", "true")
    assert tool(work, "learn", "r.json").stdout == "# nothing is needed\n"


@pytest.mark.parametrize("command", ["learn", "diff"])
def test_bad_use_is_one_line(work: Path, command: str) -> None:
    (work / "bad").write_text("[]")
    for words in (["/nowhere", "/nowhere"][: 1 + (command == "diff")], ["bad", "bad"][: 1 + (command == "diff")], []):
        done = tool(work, command, *words)
        assert done.returncode == (1 if words else 2)
        assert done.stderr.startswith("porttrace: ") and done.stderr.count("\n") == 1
    assert "examples:" in tool(work, command, "--help").stdout


def test_what_an_audit_of_a_port_teaches_makes_it_build(prefix: Prefix, place: Path) -> None:
    """`port --audit` refuses nothing; the lines learned from it are what `port -t` needs, phase by phase."""
    (place / "input").write_text("x")
    (place / "input").chmod(0o644)
    place.chmod(0o777)
    head = HEAD.replace("build {}\n", "")
    prefix.add_port("devel", "given", HEAD.format(name="given"))
    prefix.port("install", "given")
    text = head.format(name="audited") + (
        f'build {{system "cat {place}/input ${{prefix}}/share/given/data && touch {place}/made"}}\n'
        f'post-destroot {{system "cat {place}/input && rm {place}/made"}}\n'
    )
    portfile = prefix.add_port("devel", "audited", text) / "Portfile"
    assert prefix.run("-t", "destroot", "audited").status == 1
    prefix.port("clean", "audited")
    report = prefix.path / "audit.json"
    prefix.port("--audit", "--report", report, "destroot", "audited")
    assert (
        not (prefix.path / "var/macports/porttrace/usage/audited.json").exists()
        or "post-destroot" not in (prefix.path / "var/macports/porttrace/usage/audited.json").read_text()
    )
    learned = tool(prefix.path, "learn", report).stdout
    assert {
        "depends_lib-append port:given",
        f"build.trace_read-append {place}/input",
        f"build.trace_write-append {place}/made",
        f"destroot.trace_write-append {place}",
    } == {line for line in learned.splitlines() if not line.startswith("#")}, learned
    portfile.write_text(text + learned)
    prefix.port("clean", "audited")
    prefix.port("-t", "--report", report, "destroot", "audited")
    violations = [f for f in json.loads(report.read_text())["findings"] if f["kind"] in ("hidden", "write-outside")]
    assert [f["path"] for f in violations if not f["path"].startswith("/usr/local")] == []
