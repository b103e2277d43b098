"""What a Portfile does when its port is taken away, and allowances as they are shown and refused."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import PORT_HEAD, ROOT, Prefix, prefix_script

import porttrace

PORT = (
    PORT_HEAD
    + """\
build {{}}
destroot {{
    xinstall -d ${{destroot}}${{prefix}}/share/{name}
    system "echo {name} > ${{destroot}}${{prefix}}/share/{name}/data"
}}
variant loud description {{say more}} {{}}
"""
)

BLOCKS = """
proc say {what} {
    global prefix
    set there [file exists ${prefix}/share/leaver/data]
    set channel [open ${prefix}/var/said a]
    puts ${channel} "${what} ${there}"
    close ${channel}
}
pre-deactivate  {say pre-deactivate}
post-deactivate {say post-deactivate}
pre-uninstall   {say pre-uninstall}
post-uninstall  {say "post-uninstall [variant_isset loud]"}
"""


def said(prefix: Prefix) -> list[str]:
    file = prefix.path / "var/said"
    lines = file.read_text().splitlines() if file.exists() else []
    file.unlink(missing_ok=True)
    return lines


@pytest.fixture
def leaver(prefix: Prefix) -> Prefix:
    directory = prefix.add_port("devel", "leaver", PORT.format(name="leaver") + BLOCKS)
    prefix.port("install", "leaver", "+loud")
    # what counts is the Portfile that was installed, not the one that is in the tree now
    (directory / "Portfile").write_text("PortSystem 1.0\nname leaver\nversion 2.0\nbroken {\n")
    return prefix


@pytest.mark.parametrize("trace", [(), ("-t",)])
def test_blocks_of_the_installed_portfile_run_when_it_leaves(leaver: Prefix, trace: tuple[str, ...]) -> None:
    leaver.port(*trace, "deactivate", "leaver")
    assert said(leaver) == ["pre-deactivate 1", "post-deactivate 0"]
    leaver.port(*trace, "uninstall", "leaver")
    assert said(leaver) == ["pre-uninstall 0", "post-uninstall 1 0"]
    assert leaver.installed() == set()
    assert not [path for path in (leaver.path / "var/macports/build").glob("*/leaver/work") if "devel" not in str(path)]


def test_uninstalling_an_active_port_runs_both(leaver: Prefix) -> None:
    leaver.port("uninstall", "leaver")
    assert said(leaver) == ["pre-deactivate 1", "post-deactivate 0", "pre-uninstall 0", "post-uninstall 1 0"]


def test_defaults_that_were_not_taken_do_not_come_back_when_it_leaves(prefix: Prefix) -> None:
    text = PORT.format(name="leaver") + "variant quiet conflicts loud {}\ndefault_variants +quiet\n" + BLOCKS
    prefix.add_port("devel", "leaver", text)
    prefix.port("install", "leaver", "-quiet+loud")
    result = prefix.port("uninstall", "leaver")
    assert "cannot be done" not in result.text
    assert said(prefix)[-1] == "post-uninstall 1 0"


def test_nothing_runs_where_another_port_needs_it(leaver: Prefix) -> None:
    leaver.add_port("devel", "needer", PORT.format(name="needer") + "depends_run port:leaver\n")
    leaver.port("install", "needer")
    result = leaver.fails("uninstall", "leaver")
    assert "Please uninstall the ports that depend on leaver first" in result.text
    assert leaver.installed() == {"leaver", "needer"}
    assert "Please uninstall the ports" in leaver.fails("deactivate", "leaver").text
    assert said(leaver) == []
    leaver.port("deactivate", "needer")
    leaver.port("deactivate", "leaver")
    assert said(leaver) == ["pre-deactivate 1", "post-deactivate 0"]


def test_a_block_that_fails_stops_it(prefix: Prefix) -> None:
    prefix.add_port("devel", "leaver", PORT.format(name="leaver") + "pre-deactivate {error {not today}}\n")
    prefix.port("install", "leaver")
    for action in ("deactivate", "uninstall"):
        assert "not today" in prefix.fails(action, "leaver").err
        assert prefix.installed() == {"leaver"}


ALLOW = (
    "build.trace_read-append /srv/porttrace-a\ntrace.write-append /srv/porttrace-b\ntrace.hide-append /usr/bin/perl\n"
)


def test_v_shows_each_allowance_with_its_line(prefix: Prefix) -> None:
    text = PORT.format(name="allower")
    line = text.count("\n") + 1
    prefix.add_port("devel", "allower", text + ALLOW)
    out = prefix.port("-v", "-t", "destroot", "allower").text
    assert f"build may also read /srv/porttrace-a, from line {line} of the Portfile" in out
    assert f"build may also read and write /srv/porttrace-b, from line {line + 1} of the Portfile" in out
    assert f"destroot must not see /usr/bin/perl, from line {line + 2} of the Portfile" in out
    assert "destroot may also read /srv/porttrace-a" not in out
    prefix.port("clean", "allower")
    assert "may also" not in prefix.port("-t", "destroot", "allower").text


@pytest.mark.parametrize("path", ["/", "//", "/.", "/usr/..", "/=>/srv", "relative", "/./", "/../"])
@pytest.mark.parametrize("option", ["trace.read", "build.trace_write", "trace.hide"])
def test_an_allowance_for_everything_is_refused(prefix: Prefix, path: str, option: str) -> None:
    if "=>" in path and option == "trace.hide":
        return
    text = PORT.format(name="allower")
    prefix.add_port("devel", "allower", text + f"{option}-append {path}\n")
    result = prefix.fails("-t", "build", "allower")
    assert f"Portfile:{text.count(chr(10)) + 1}" in result.err and option in result.err
    assert "name the director" in result.err or "not an absolute path" in result.err


def macports(request: pytest.FixtureRequest) -> Path:
    place = request.config.getoption("--macports-prefix")
    if not place:
        pytest.skip("NOT CHECKED: no MacPorts on this machine was named (--macports-prefix DIR)")
    return Path(place[0])


def test_the_portgroup_loads_where_porttrace_is_not(request: pytest.FixtureRequest, open_tmp: Path) -> None:
    """In MacPorts' own interpreter of Portfiles: the options exist, take words, and mean nothing."""
    port = macports(request) / "bin/port"
    directory = open_tmp / "tree/devel/example"
    directory.mkdir(parents=True)
    (open_tmp / "tree/_resources/port1.0/group").mkdir(parents=True)
    group = "_resources/port1.0/group/porttrace-1.0.tcl"
    (open_tmp / "tree" / group).write_text((ROOT / "ports" / group).read_text())
    more = (
        "trace.read-append /a /b\ntrace.read-delete /a\ntrace.read-replace /b /c\ndestroot.trace_hide-prepend /z\n"
        "ui_msg [list [lrange ${trace.read} end end] ${build.trace_read} ${configure.trace_hide}"
        " ${destroot.trace_hide}]\n"
    )
    (directory / "Portfile").write_text((ROOT / "Portfile.example").read_text() + more)
    prefix_script.open_up(open_tmp)
    for words in (["info", "--name"], ["lint"]):
        done = subprocess.run([port, *words], cwd=directory, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "/c /srv/site/data /usr/bin/perl /z\n" in done.stdout
    assert re.search(r"0 errors and 0 warnings found", done.stdout)


@pytest.fixture
def site() -> Iterator[Path]:
    """A directory that no phase sees unless it is allowed."""
    directory = Path(tempfile.mkdtemp(prefix="porttrace-test-", dir="/srv" if os.geteuid() == 0 else Path.home()))
    (directory / "data").write_text("site data\n")
    prefix_script.open_up(directory)
    yield directory
    shutil.rmtree(directory)


def test_macports_obeys_the_allowances_with_our_package(
    request: pytest.FixtureRequest, open_tmp: Path, site: Path
) -> None:
    """An unmodified MacPorts that finds the Tcl package: allowed in the phase that says so, hidden in the next."""
    port = macports(request) / "bin/port"
    directory = open_tmp / "tree/devel/allower"
    directory.mkdir(parents=True)
    (open_tmp / "tree/_resources/port1.0/group").mkdir(parents=True)
    group = "_resources/port1.0/group/porttrace-1.0.tcl"
    (open_tmp / "tree" / group).write_text((ROOT / "ports" / group).read_text())
    (directory / "Portfile").write_text(
        PORT.format(name="allower")
        + f"""
PortGroup porttrace 1.0
build.trace_read-append {site}
trace.hide-append /etc/hostname
build {{
    system -W ${{workpath}} "echo build sees; cat {site}/data"
    system -W ${{workpath}} "cat /etc/hostname || echo build misses hostname"
}}
post-destroot {{
    system -W ${{workpath}} "cat {site}/data || echo destroot misses it"
}}
"""
    )
    prefix_script.open_up(open_tmp)
    package = Path(porttrace.__file__).parent / "tcl" / "porttrace"
    env = {**os.environ, "TCLLIBPATH": str(package)}
    try:
        done = subprocess.run(
            [port, "-v", "-t", "destroot"],
            cwd=directory,
            env=env,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
    finally:
        subprocess.run([port, "clean"], cwd=directory, capture_output=True, timeout=60, check=False)
    text = done.stdout + done.stderr
    assert done.returncode == 0, text
    assert "build sees\nsite data" in text
    assert "build misses hostname" in text
    assert "destroot misses it" in text
