"""`port -t --report FILE`: one report over all phases, which the other commands understand."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from conftest import Prefix, run_command

PORTTRACE = Path(sys.executable).with_name("porttrace")


def test_a_report_over_all_phases(prefix: Prefix, tmp_path: Path) -> None:
    prefix.port("install", "stray")
    prefix.port("-t", "install", "libbar")
    file = tmp_path / "foo.json"
    prefix.port("-t", "--report", file, "install", "foo")
    report = json.loads(file.read_text())
    assert report["command"] == ["port", "install", "foo"] and report["stats"]["exit_status"] == 0
    phases = [phase["phase"] for phase in report["context"]["phases"]]
    assert phases == ["fetch", "checksum", "extract", "patch", "configure", "build", "destroot", "install", "activate"]
    missing = {f["path"]: f for f in report["findings"] if f["code"] == "PT001"}
    assert set(missing) == {f"{prefix.path}/include/stray.h", f"{prefix.path}/bin/stray-config"}
    assert all((f["built"], f["phase"]) == ("foo", "configure") for f in missing.values())
    configure = report["context"]["phases"][4]
    assert configure["chains"] == {"libbar": ["libbar"]} and "libbar" in configure["used"]
    assert configure["seconds"] > 0 and any(node[1] == "configure" for node in configure["programs"])
    starts = [phase["start"] for phase in report["context"]["phases"]]
    assert starts == sorted(starts) and starts[0] == 0

    text = run_command([PORTTRACE, "explain", prefix.path / "include/stray.h", file]).out
    assert "belongs to port stray" in text and "asked for by cc1" in text and "in phase configure" in text
    assert "add to the Portfile:  depends_lib-append port:stray" in text
    assert "trace_write" not in text, "nobody wanted to write there"
    sarif = json.loads(run_command([PORTTRACE, "report", "--format", "sarif", "--root", prefix.tree, file]).out)
    where = sarif["runs"][0]["results"][0]["locations"][0]["physicalLocation"]
    line = (prefix.tree / "devel/foo/Portfile").read_text().splitlines()[where["region"]["startLine"] - 1]
    assert where["artifactLocation"]["uri"] == "devel/foo/Portfile" and line.startswith("depends_lib")


def test_a_failed_phase_is_reported_too(prefix: Prefix, tmp_path: Path) -> None:
    portfile = prefix.tree / "devel/libbar/Portfile"
    portfile.write_text(portfile.read_text() + "\npre-build {\n\terror {it breaks}\n}\n")
    file = tmp_path / "r.json"
    assert prefix.run("-t", "--report", file, "install", "libbar").status == 1
    report = json.loads(file.read_text())
    assert report["stats"]["exit_status"] == 1
    assert [phase["phase"] for phase in report["context"]["phases"]][-1] == "build"


def test_a_report_that_cannot_be_written_is_told_first(prefix: Prefix) -> None:
    result = prefix.run("-t", "--report", "/nowhere/r.json", "install", "libbar")
    assert result.status == 1 and "cannot write the report /nowhere/r.json" in result.err
    assert not prefix.installed()


def test_a_report_on_standard_output_is_alone_there(prefix: Prefix) -> None:
    done = prefix.run("-t", "--report", "-", "build", "libbar")
    assert done.status == 0 and "Building libbar" in done.err
    assert json.loads(done.out)["stats"]["exit_status"] == 0
    assert not list(prefix.path.rglob("-"))


def test_an_empty_report_says_why(prefix: Prefix, tmp_path: Path) -> None:
    file = tmp_path / "r.json"
    prefix.port("build", "libbar")
    done = prefix.run("-t", "--report", file, "build", "libbar")
    assert "nothing ran in trace mode" in done.err and "port clean" in done.err
    done = prefix.run("--report", file, "build", "libbar")
    assert "-t switches trace mode on" in done.err


def test_an_empty_report_of_what_failed_does_not_advise_to_clean(prefix: Prefix, tmp_path: Path) -> None:
    done = prefix.run("-t", "--report", tmp_path / "r.json", "build", "nosuchport")
    assert done.status == 1 and "nothing ran in trace mode" in done.err
    assert "failed before anything was to be traced" in done.err and "port clean" not in done.err
