"""`porttrace explain`: by options, and from a report; the verdicts are compared with what a traced program sees."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from porttrace.context import PhaseContext
from porttrace.defaults import Allowance, phase_policy
from porttrace.explain import explain, walk
from porttrace.registry import Registry
from porttrace.registry.models import NewPort

PORTTRACE = str(Path(sys.executable).with_name("porttrace"))


@pytest.fixture
def place() -> Iterator[Path]:
    """A prefix outside of all default places: foo needs libbar, stray is needed by nobody."""
    with tempfile.TemporaryDirectory(prefix="porttrace-explain-", dir="/opt") as name:
        top = Path(name)
        top.chmod(0o755)
        (top / "include").mkdir()
        for file in ("foo.h", "bar.h", "stray.h", "loose.h"):
            (top / "include" / file).write_text("x")
        database = top / "var/macports/registry/registry.db"
        database.parent.mkdir(parents=True)
        with Registry.open(database, write=True) as registry:
            for port, file, needs in (("libbar", "bar.h", ()), ("foo", "foo.h", ("libbar",)), ("stray", "stray.h", ())):
                path = os.fsencode(top / "include" / file)
                registry.activate(registry.add(NewPort(port, "1.0", files=(path,), depends=needs)))
        yield top


@pytest.fixture
def work() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="porttrace-work-", dir="/srv") as name:
        yield Path(name)


def tool(cwd: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([PORTTRACE, *words], cwd=cwd, capture_output=True, text=True, timeout=60)


def explained(cwd: Path, *words: str | Path) -> dict[str, Any]:
    done = tool(cwd, "explain", "--json", *words)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_a_visible_dependency_names_its_chain(place: Path, work: Path) -> None:
    found = explained(work, "--prefix", place, "--deps", "foo", place / "include/bar.h")
    assert found["owner"] == "libbar" and found["is"] == "file"
    (view,) = found["views"]
    assert view["read"]["verdict"] == "visible" and view["chain"] == ["foo", "libbar"]
    assert "it would be hidden without the dependency on foo" in view["changes"]
    assert (
        "libbar is a dependency: foo > libbar"
        in tool(work, "explain", "--prefix", place, "--deps", "foo", place / "include/bar.h").stdout
    )


def test_a_hidden_port_has_no_chain_and_a_way_out(place: Path, work: Path) -> None:
    stray = place / "include/stray.h"
    (view,) = explained(work, "--prefix", place, "--deps", "foo", stray)["views"]
    assert view["read"]["verdict"] == "hidden" and view["chain"] == [] and view["sees"] == ["foo", "libbar"]
    assert "no chain of dependencies" in view["read"]["why"]
    assert "to see it:  --deps foo,stray" in view["changes"]
    # what it proposes is true
    assert tool(work, "run", "-q", "--prefix", place, "--deps", "foo", "--", "cat", stray).returncode == 1
    assert tool(work, "run", "-q", "--prefix", place, "--deps", "foo,stray", "--", "cat", stray).returncode == 0


def test_a_link_is_told_step_by_step_and_judged_by_its_end(place: Path, work: Path) -> None:
    (work / "one").symlink_to("two")
    (work / "two").symlink_to(place / "include")
    found = explained(work, "--prefix", place, "--deps", "foo", "one/stray.h")
    assert found["real"] == f"{place}/include/stray.h" and found["owner"] == "stray"
    assert found["links"] == [
        {"link": f"{work}/one", "text": "two"},
        {"link": f"{work}/two", "text": f"{place}/include"},
    ]
    assert found["views"][0]["read"]["verdict"] == "hidden"


def test_a_file_of_no_port_and_a_directory(place: Path, work: Path) -> None:
    loose = ["--prefix", place, place / "include/loose.h"]
    assert "no port installed it" in explained(work, *loose)["views"][0]["read"]["why"]
    assert explained(work, *loose)["views"][0]["read"]["verdict"] == "visible"
    assert explained(work, "--strict", *loose)["views"][0]["read"]["verdict"] == "hidden"
    (view,) = explained(work, "--prefix", place, place / "include")["views"]
    assert view["read"]["verdict"].startswith("visible")


def test_rules_of_the_command_line_win_and_are_named(work: Path) -> None:
    (view,) = explained(work, "--map", "/usr/include=-", "/usr/include/stdio.h")["views"]
    assert (view["read"]["verdict"], view["read"]["origin"]) == ("hidden", "--map /usr/include=-")
    assert view["changes"] == [
        f"to {do} it, take the rule /usr/include=- away (--map /usr/include=-)" for do in ("see", "change")
    ]
    (view,) = explained(work, "--map", "/usr/include=>/srv/sdk", "/usr/include/stdio.h")["views"]
    assert (view["read"]["verdict"], view["read"]["target"]) == ("redirected", "/srv/sdk/stdio.h")
    (view,) = explained(work, "--write", "/opt/x", "/opt/x/y")["views"]
    assert (view["read"]["verdict"], view["write"]["verdict"]) == ("hidden", "allowed")
    (view,) = explained(work, "/etc/passwd")["views"]
    assert view["read"]["verdict"] == "visible"
    assert "baseos-" in view["read"]["origin"] and ", line " in view["read"]["origin"]


def test_rules_of_a_phase_are_named_with_their_place(place: Path, work: Path) -> None:
    conf = place / "etc/macports/macports.conf"
    conf.parent.mkdir(parents=True)
    conf.write_text(f"# mine\nprefix {place}\n")
    allowance = Allowance("hide", os.fsencode(work / "no"), "trace.hide, line 7 of /tree/foo/Portfile")
    policies = [
        phase_policy(phase=name, prefix=place, workpath=work, distpath=place / "dist", allowances=[allowance])
        for name in ("fetch", "build")
    ]
    phases = [PhaseContext(policy) for policy in policies]

    def origins(path: Path) -> list[tuple[str, str]]:
        return [(view.read.origin, view.write.origin) for view in explain(str(path), phases).views]

    assert origins(place / "include/loose.h") == [(f"prefix, line 2 of {conf}",) * 2]
    assert origins(place / "var/macports/x") == [("portdbpath, by default",) * 2]
    fetch, build = origins(place / "dist/x")
    assert fetch[0].startswith("phases.toml of porttrace, line ") and fetch[0].endswith(": distpath in phase fetch")
    line = int(fetch[0].split("line ")[1].split(":")[0])
    text = (Path(str(files("porttrace") / "data" / "phases.toml"))).read_text()
    assert text.splitlines()[line - 1] == "[fetch]"
    assert build[1] == "distpath, by default"
    assert origins(work / "x") == [("workpath: the port's work directory, open in every phase",) * 2]
    assert origins(work / "no")[0][0] == "trace.hide, line 7 of /tree/foo/Portfile"
    (view,) = explain(str(work / "no"), phases).views
    taken_away = f"to see it, take the rule {work}/no=- away (trace.hide, line 7 of /tree/foo/Portfile)"
    assert taken_away in view.changes
    (view,) = explain(str(place / "include/nothing.h"), phases).views
    assert view.read.why == "nothing is there, so nothing is found"


def test_from_a_report(place: Path, work: Path) -> None:
    stray = place / "include/stray.h"
    options = ["--prefix", place, "--deps", "foo", "--report", "r.json"]
    tool(work, "run", "-q", *options, "--", "sh", "-c", f"cat {stray}; cat {stray}; cat {place}/include/bar.h")
    report = json.loads((work / "r.json").read_text())
    (phase,) = report["context"]["phases"]
    assert phase["chains"] == {"foo": ["foo"], "libbar": ["foo", "libbar"]}
    assert list(phase["used"]) == ["libbar"]
    names = [(node[1], node[3]) for node in phase["programs"]]
    assert names == [("sh", 1), ("cat", 3)] and phase["programs"][1][0] == 0
    (view,) = explained(Path("/"), stray, work / "r.json")["views"]
    asked = {(one["program"].rpartition("/")[2], one["access"]): one["count"] for one in view["asked"]}
    assert asked[("cat", "read")] == 2 and view["asked"][0]["chain"] == ["sh", "cat"]
    assert view["asked"][0]["code"] == "PT001"
    text = tool(Path("/"), "explain", stray, work / "r.json").stdout
    assert "asked for by cat (sh > cat): read, twice (PT001)" in text
    (view,) = explained(Path("/"), place / "include/bar.h", work / "r.json")["views"]
    assert "read" in view["used"][""] and view["read"]["verdict"] == "visible"
    # The registry may be gone by then: the report knows the owner.
    (place / "var/macports/registry/registry.db").unlink()
    assert explained(Path("/"), stray, work / "r.json")["owner"] == "stray"


def test_the_report_tells_when_programs_ran(work: Path) -> None:
    """No traced process looks at a clock: times come from looking at how far the events are written."""
    tool(work, "run", "-q", "--report", "r.json", "--", "sh", "-c", "true; /bin/true; sleep 1; /bin/ls; sleep 0.5")
    (phase,) = json.loads((work / "r.json").read_text())["context"]["phases"]
    at = {name: (first, last) for _, name, _, _, first, last in phase["programs"]}
    assert at["true"][0] < 0.9 < at["ls"][0] - at["true"][0] < 1.6, at
    assert at["sh"][0] < 0.9 and at["sleep"][1] - at["sleep"][0] > 0.9, at
    assert 1.4 < phase["seconds"] < 10


def test_an_audit_says_that_it_hid_nothing(work: Path) -> None:
    (work / "r.json").unlink(missing_ok=True)
    tool(work, "run", "-q", "--audit", "--report", "r.json", "--", "ls", "/opt")
    (view,) = explained(work, "/opt", "r.json")["views"]
    assert "recorded, not hidden" in view["read"]["why"]


BAD = [
    (["/x", "/nowhere.json"], "cannot read the report /nowhere.json"),
    (["/x", "text"], "text is not a report"),
    (["/x", "empty"], "it has no findings"),
    (["/x", "old"], "older version"),
    (["/x", "broken"], "context.phases[0].read[0] is not a list of 5"),
    (["/x", "later"], "context is broken (KeyError: 'NOSUCH')"),
    (["--map", "/a=-", "/x", "old"], "brings its own policy"),
    (["--phase", "build", "/x"], "--phase needs a report"),
    (["--frobnicate", "/x"], "unrecognized"),
    ([], "required: PATH"),
    ([""], "the path is empty"),
    (["~/x"], "~/x: only a shell knows ~"),
    (["~nobody", "old"], "(or ./~nobody, the name)"),
    (["--prefix", "/nowhere", "/x"], "no registry"),
]


@pytest.mark.parametrize(("words", "said"), BAD, ids=[" ".join(words) for words, _ in BAD])
def test_bad_use_is_one_line(work: Path, words: list[str], said: str) -> None:
    (work / "text").write_text("hello")
    (work / "empty").write_text("{}")
    (work / "old").write_text('{"findings": []}')
    (work / "broken").write_text('{"findings": [], "context": {"phases": [{"read": [1]}]}}')
    rule = ["/x", "nosuch", None, "", []]
    (work / "later").write_text(json.dumps({"findings": [], "context": {"phases": [{"read": [rule], "write": []}]}}))
    done = tool(work, "explain", *words)
    assert done.returncode in (1, 2) and said in done.stderr, done.stderr  # which: tests/test_exit_status.py
    assert done.stderr.startswith("porttrace: ") and done.stderr.count("\n") == 1 and not done.stdout


def test_help_has_examples(work: Path) -> None:
    assert "examples:" in tool(work, "explain", "--help").stdout
    assert "explain" in tool(work, "--help").stdout


def test_walk_agrees_with_the_kernel(tmp_path: Path) -> None:
    (tmp_path / "d/e").mkdir(parents=True)
    (tmp_path / "up").symlink_to("d/e/..")
    (tmp_path / "circle").symlink_to("circle")
    for name in ("up/e", "d/../up", "nothing/there", "/bin/sh", "up/./e/../e/"):
        path = os.fsencode(tmp_path / name)
        assert walk(path)[0] == os.path.realpath(path)
    assert len(walk(os.fsencode(tmp_path / "circle"))[1]) == 40
