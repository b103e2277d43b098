"""A Portfile that tries everything: port's own Tcl is held while a phase runs, and has all back after it.

What a build left running keeps the map that it was started with, whatever a later phase allows.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Prefix

from porttrace.filemap import Action, Filemap, Rule
from porttrace.policy import Policy
from porttrace.session import Session

PORTFILE = """\
PortSystem 1.0
name trier
version 1.0
categories devel
license public-domain
maintainers nomaintainer
description tries all of it
long_description tries all of it
homepage https://porttrace.invalid/
distfiles
extract.mkdir yes
use_configure no

set site {@SITE@}
proc attempt {name script} {
    ui_msg "$name: [expr {[catch {uplevel #0 $script} why] ? [string map [list [format %c 10] { }] $why] : "works"}]"
}
proc all {when} {
    global workpath site
    attempt "$when open" {close [open ${site}/secret]}
    attempt "$when create" {close [open ${site}/made-by-open w]}
    attempt "$when copy" {file copy ${site}/secret ${workpath}/copied}
    attempt "$when exec" {exec cat ${site}/secret}
    attempt "$when xinstall" {xinstall -m 644 ${site}/secret ${workpath}/installed}
    attempt "$when xinstall out" {xinstall -m 644 ${workpath}/own ${site}/made-by-xinstall}
    attempt "$when reinplace" {reinplace s/secret/changed/ ${site}/secret}
    attempt "$when glob" {glob ${site}/*}
    attempt "$when exists" {if {![file exists ${site}/secret]} {error no}}
    file delete ${site}/doomed
}
build {
    close [open ${workpath}/own w]
    all during
    # what port has back, it has from the moment the phase's trace is over
    trace add execution ::porttrace::trace_stop leave {all after ;#}
}
destroot {
    trace remove execution ::porttrace::trace_stop leave {all after ;#}
    xinstall -d ${destroot}${prefix}/share/trier
    system "echo trier > ${destroot}${prefix}/share/trier/data"
}
"""


@pytest.fixture
def site() -> Iterator[Path]:
    """A directory that no phase sees, and that the build user could read and change without trace mode."""
    directory = Path(tempfile.mkdtemp(prefix="porttrace-test-", dir="/srv" if os.geteuid() == 0 else Path.home()))
    (directory / "secret").write_text("secret\n")
    (directory / "doomed").touch()
    directory.chmod(0o777)
    for file in directory.iterdir():
        file.chmod(0o666)
    yield directory
    shutil.rmtree(directory)


def test_port_itself_is_held_during_a_phase_and_free_after_it(prefix: Prefix, site: Path) -> None:
    prefix.add_port("devel", "trier", PORTFILE.replace("@SITE@", str(site)))
    result = prefix.port("-t", "build", "trier")
    said = dict(re.findall(r"^(?:--->\s*)?((?:during|after) [a-z ]+): (.*)$", result.out, re.MULTILINE))
    names = ("open", "create", "copy", "exec", "xinstall", "xinstall out", "reinplace", "glob", "exists")
    assert set(said) == {f"{when} {name}" for when in ("during", "after") for name in names}
    for name in names:
        assert said[f"during {name}"] != "works", name
        assert said[f"after {name}"] == "works", (name, said)
    for name in ("create", "xinstall out"):
        assert said[f"during {name}"].lower().endswith("permission denied"), said
    for name in ("open", "copy", "exec", "xinstall"):
        assert "no such file or directory" in said[f"during {name}"].lower(), said
    assert {file.name for file in site.iterdir()} == {"secret", "made-by-open", "made-by-xinstall"}
    assert (site / "secret").read_text() == "changed\n"


def test_what_a_build_left_running_cannot_use_what_install_allows(prefix: Prefix) -> None:
    """A process of `build` in a session of its own that waits for the image: it is ended with its phase."""
    portfile = PORTFILE.replace("@SITE@", "/nowhere").replace(
        "    all during\n",
        """
    system "setsid sh -c 'while :; do for d in ${portdbpath}/software ${prefix}/share; do
        echo x > \\$d/left-over; done; sleep 0.02; done' >/dev/null 2>&1 &"
    system "sleep 0.2"
    trace remove execution ::porttrace::trace_stop leave {all after ;#}
""",
    )
    prefix.add_port("devel", "trier", portfile.replace("    trace add", "    #"))
    for directory in ("share", "var/macports/software"):
        (prefix.path / directory).mkdir(parents=True, exist_ok=True)
    result = prefix.port("-t", "install", "trier")
    assert "was attempted outside sandbox" in result.err
    assert (prefix.path / "share/trier/data").exists()
    assert not (prefix.path / "share/left-over").exists()
    assert not (prefix.path / "var/macports/software/left-over").exists()


def test_a_process_keeps_the_map_that_it_was_started_with(open_tmp: Path) -> None:
    """Two phases' policies in force at once: the first one's process is refused what the second one's may do."""
    work, place = open_tmp / "work", open_tmp / "place"
    work.mkdir()
    place.mkdir()
    (place / "secret").write_text("secret\n")

    def policy(*more: Path) -> Policy:
        both = Filemap([Rule(os.fsencode(p), Action.ALLOW) for p in (work, *more)])
        read = both.copy()
        for directory in (b"/usr", b"/bin", b"/lib", b"/lib64", b"/etc", b"/dev", b"/proc"):
            read.append(Rule(directory, Action.ALLOW))
        return Policy(read, both)

    script = (
        f"while ! [ -e {work}/go ]; do sleep 0.02; done; cat {place}/secret; echo x > {place}/$0; "
        f'sh -c "cat {place}/secret"; echo end'
    )
    with Session() as session:
        build = session.start(policy(), work)
        argv = [*build.launch_argv, "sh", "-c", script, "build"]
        old = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=work)
        install = session.start(policy(place), work)
        (work / "go").touch()
        new = subprocess.run(
            [*install.launch_argv, *argv[len(build.launch_argv) : -1], "install"],
            cwd=work,
            capture_output=True,
            text=True,
            timeout=30,
        )
        said, _ = old.communicate(timeout=30)
        assert said == "end\n"
        assert new.stdout == "secret\nsecret\nend\n"
        assert {file.name for file in place.iterdir()} == {"secret", "install"}
        assert {f.kind for f in build.stop().findings if f.path.startswith(str(place))} >= {"hidden", "write-outside"}
        assert not [f for f in install.stop().findings if f.path.startswith(str(place))]
