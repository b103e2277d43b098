"""What a traced installation says about dependencies: missing, superfluous, unowned; and what is kept of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import PORT_HEAD, Prefix

from porttrace import archive

HEAD = (
    PORT_HEAD
    + """\
build {{}}
destroot {{
    xinstall -d ${{destroot}}${{prefix}}/share/{name}
    system "echo {name} > ${{destroot}}${{prefix}}/share/{name}/data"
}}
"""
)


def simple(prefix: Prefix, name: str, more: str = "") -> Path:
    return prefix.add_port("devel", name, HEAD.format(name=name) + more)


TAKER = """
depends_lib     port:used path:share/other/data:named
depends_build   port:idle
depends_run     port:late
build.trace_read-append /etc/hostname
trace.read-append /srv/porttrace-never
build {
    system -W ${worksrcpath} "cat ${prefix}/share/used/data ${prefix}/share/other/data > out"
    system -W ${worksrcpath} "cat ${prefix}/share/undeclared/data > out || :"
    system -W ${worksrcpath} "cat ${prefix}/share/nobody > out"
    system -W ${worksrcpath} "cat /etc/hostname > out"
    system -W ${worksrcpath} "test -e ${prefix}/share/undeclared/data && echo seen > out || :"
}
"""


@pytest.fixture
def taker(prefix: Prefix) -> Prefix:
    """A port with one dependency of each sort; all of them are installed already."""
    for name in ("used", "other", "idle", "late", "undeclared"):
        simple(prefix, name)
    prefix.port("install", "used", "other", "idle", "late", "undeclared")
    (prefix.path / "share/nobody").write_text("nobody's\n")
    simple(prefix, "taker", TAKER)
    return prefix


def paragraph(text: str, start: str) -> str:
    """A message and its indented lines."""
    assert start in text, text
    lines = (start + text.partition(start)[2]).splitlines()
    more = next((n for n, line in enumerate(lines[1:], 1) if not line.startswith(" ")), len(lines))
    return "\n".join(lines[:more])


def test_the_end_of_an_installation_tells_what_is_missing_and_what_is_too_much(taker: Prefix) -> None:
    report = taker.path / "report.json"
    result = taker.port("-t", "--report", report, "install", "taker")
    missing = paragraph(result.text, "taker asked for files of ports that it does not declare")
    assert "depends_lib-append port:undeclared" in missing
    assert f"build: {taker.path}/share/undeclared/data" in missing
    idle = paragraph(result.text, "The following declared dependency was not used: idle")
    assert "depends_build-delete port:idle" in idle
    allowance = paragraph(result.text, "The following allowance of the Portfile allowed nothing:")
    assert "/srv/porttrace-never" in allowance and "trace.read, line " in allowance
    assert "/etc/hostname" not in allowance
    assert f"taker used files in the prefix that no port owns: {taker.path}/share/nobody" in result.text
    findings = {(f["kind"], f["port"] or f["path"], f["fix"]) for f in json.loads(report.read_text())["findings"]}
    assert ("unused-dependency", "idle", "depends_build-delete port:idle") in findings
    assert ("unused-allowance", "/srv/porttrace-never", None) in findings
    assert not {port for kind, port, _ in findings if kind == "unused-dependency"} - {"idle"}


def test_what_brings_in_what_was_used_or_is_needed_is_not_called_unused(taker: Prefix) -> None:
    """Without `chain` the build would not see `used`; `tool` is named by an installed script and nothing else."""
    simple(taker, "chain", "depends_lib port:used\n")
    simple(taker, "tool")
    taker.port("install", "chain", "tool")
    more = """
depends_lib port:chain port:tool port:idle
build {system -W ${worksrcpath} "cat ${prefix}/share/used/data > out"}
post-destroot {
    xinstall -d ${destroot}${prefix}/bin
    system "echo '#!${prefix}/share/tool/data' > ${destroot}${prefix}/bin/script"
}
"""
    simple(taker, "careful", more)
    text = taker.port("-t", "install", "careful").text
    assert "The following declared dependency was not used: idle\n" in text


def test_deps_sets_declared_against_used(taker: Prefix) -> None:
    assert "no traced build of taker is on record" in taker.fails("-t", "deps", "taker").err
    taker.port("-t", "install", "taker")
    lines = [line.strip() for line in taker.port("-t", "deps", "taker").out.splitlines()]

    def row(start: str) -> str:
        return next(line for line in lines if " ".join(line.split()).startswith(start))

    assert "1 file used in build, as share/used/data" in row("lib port:used")
    assert "(now other)" in row("lib path:share/other/data:named") and "used in build" in row("lib path:")
    assert row("build port:idle").endswith(": not used")
    assert row("run port:late").endswith(": not judged by a build")
    assert "depends_lib-append port:undeclared" in row("missing")
    assert row("unowned").endswith("share/nobody")
    # the plain action is what it was
    assert "Library Dependencies" in taker.port("deps", "taker").out
    # the record outlives the work directory and the port
    taker.port("uninstall", "taker")
    assert taker.port("-t", "deps", "taker").out.splitlines()[0] == lines[0]


@pytest.mark.parametrize("before", [("-t", "configure"), ("build",)])
def test_a_resumed_build_is_not_judged(taker: Prefix, before: tuple[str, ...]) -> None:
    taker.port(*before, "taker")
    result = taker.port("-t", "install", "taker")
    assert "not used" not in result.text and "allowed nothing" not in result.text
    shown = taker.port("-t", "deps", "taker").out
    assert "what is unused is not known" in shown and ": not used" not in shown


def test_what_a_run_type_dependency_needs_is_not_judged_by_the_build(taker: Prefix) -> None:
    portfile = taker.tree / "devel/taker/Portfile"
    portfile.write_text(portfile.read_text() + "depends_run-append port:idle\n")
    assert "was not used" not in taker.port("-t", "install", "taker").text


def test_a_dependency_that_owns_no_file_is_not_judged(taker: Prefix) -> None:
    simple(taker, "meta", "destroot {}\ndestroot.violate_mtree yes\n")
    portfile = taker.tree / "devel/taker/Portfile"
    portfile.write_text(portfile.read_text() + "depends_lib-append port:meta\n")
    text = taker.port("-t", "install", "taker").text
    assert "The following declared dependency was not used: idle\n" in text


def test_a_damaged_record_is_named_and_replaced(taker: Prefix) -> None:
    record = taker.path / "var/macports/porttrace/usage/taker.json"
    record.parent.mkdir(parents=True)
    record.write_text('{"version": 1}')
    assert f"{record} is damaged" in taker.fails("-t", "deps", "taker").err
    assert "remove it" in taker.fails("-t", "deps", "taker").err
    taker.port("-t", "install", "taker")
    taker.port("-t", "deps", "taker")


def test_the_archive_says_what_its_build_read(taker: Prefix) -> None:
    taker.port("-t", "archive", "taker")
    (file,) = (taker.path / "var/macports/packages").glob("taker-*")
    said = json.loads(archive.read_control(file)["+TRACE"])
    assert said["read"]["build"] == {
        "other @1.0_0": [f"{taker.path}/share/other/data"],
        "used @1.0_0": [f"{taker.path}/share/used/data"],
    }
    assert list(said["read"]) == ["fetch", "checksum", "extract", "patch", "configure", "build", "destroot"]
    assert b"@ignore\n+TRACE\n" in archive.read_control(file)["+CONTENTS"]
    # untraced: it says nothing, rather than what an earlier build read
    taker.port("clean", "--archive", "taker")
    taker.port("archive", "taker")
    assert "+TRACE" not in archive.read_control(file)
