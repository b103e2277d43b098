"""How port runs: dependencies, resuming, users, interruption, configuration, and what goes wrong."""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import Prefix, PrefixFactory, processes_of, sessions
from test_engine_portfile import HEAD, port, said

from porttrace.porttool import spawn

FILES = """build {}
destroot {
  xinstall -d ${destroot}${prefix}/share/${name}
  touch ${destroot}${prefix}/share/${name}/x
}
"""


def distfile(prefix: Prefix, name: str, checksums: str) -> Path:
    """A port with a distfile of its own beside the Portfile; `checksums` may use {sha256} and {size}."""
    head = HEAD.format(name=name).replace("distfiles\n", "").replace("extract.mkdir yes\n", "")
    directory = prefix.add_port("test", name, "")
    archive = directory / "files" / f"{name}-2.10.tar.gz"
    content = directory / "content"
    content.write_text("content\n")
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(content, f"{name}-2.10/content")
    archive.chmod(0o644)
    data = archive.read_bytes()
    text = checksums.format(sha256=hashlib.sha256(data).hexdigest(), size=len(data))
    (directory / "Portfile").write_text(f"{head}{text}\n{FILES}")
    return archive


def test_dependencies_come_first_and_only_once(prefix: Prefix) -> None:
    port(prefix, FILES, "low")
    port(prefix, "depends_lib port:low bin:sh:never path:share/low/x:never\n" + FILES, "middle")
    port(prefix, "depends_build port:middle\ndepends_run port:low\n" + FILES, "top")
    out = prefix.port("install", "top").out
    assert [line.split()[2] for line in out.splitlines() if "Activating" in line] == ["low", "middle", "top"]
    assert prefix.installed() == {"low", "middle", "top"}
    assert "Building" not in prefix.port("install", "top").out


def test_dependencies_get_the_variants_that_were_asked_for(prefix: Prefix) -> None:
    port(
        prefix,
        'variant x {}\nvariant y {}\npre-build {ui_msg "= [variant_isset x] [variant_isset y]"}\n' + FILES,
        "low",
    )
    port(prefix, "depends_lib port:low\nvariant x {}\ndefault_variants +y\nvariant y {}\n" + FILES, "top")
    assert said(prefix.port("install", "top", "+x").out) == ["1 0"]  # +y is but a default of top's own


def test_keepdirs_are_installed(prefix: Prefix) -> None:
    port(
        prefix,
        "build {}\ndestroot {\n  xinstall -d ${destroot}${prefix}/var/kept ${destroot}${prefix}/var/dropped\n}\n"
        "destroot.keepdirs ${destroot}${prefix}/var/kept\n",
    )
    prefix.port("install", "small")
    assert [file.name for file in (prefix.path / "var/kept").iterdir()] == [".turd_small"]
    assert not (prefix.path / "var/dropped").exists()
    prefix.port("uninstall", "small")
    assert not (prefix.path / "var/kept").exists()


def test_n_leaves_dependencies_alone(prefix: Prefix) -> None:
    port(prefix, "depends_lib port:absent\n" + FILES)
    assert "absent not found" in prefix.fails("build", "small").err
    prefix.port("-n", "build", "small")


def test_a_cycle_is_named(prefix: Prefix) -> None:
    port(prefix, "depends_lib port:two\n" + FILES, "one")
    port(prefix, "depends_lib port:one\n" + FILES, "two")
    assert "one -> two -> one depend on each other" in prefix.fails("install", "one").err
    assert prefix.installed() == set()


def test_a_stopped_build_goes_on_where_it_stopped(prefix: Prefix) -> None:
    portfile = (
        port(prefix, 'post-extract { ui_msg "= extracted" }\nbuild { system "test -e ${workpath}/go" }\n') / "Portfile"
    )
    assert said((failed := prefix.fails("build", "small")).out) == ["extracted"]
    assert "See " in failed.err and Path(failed.err.split("See ")[1].split(" for")[0]).is_file()
    work = prefix.work("small")
    state = (work / ".macports.small.state").read_text().splitlines()
    assert state[0] == "version: 2"
    assert f"checksum: {hashlib.sha256(portfile.read_bytes()).hexdigest()}" in state
    assert "target: org.macports.extract" in state and "target: org.macports.build" not in state
    (work / "go").touch()
    assert said(prefix.port("build", "small").out) == []
    portfile.write_text(portfile.read_text() + "# changed\n")
    again = prefix.fails("build", "small")
    assert said(again.out) == ["extracted"] and "changed since last build" in again.out


def test_k_keeps_the_workpath(prefix: Prefix) -> None:
    port(prefix, FILES)
    prefix.port("-k", "install", "small")
    assert prefix.work("small").is_dir()
    prefix.port("clean", "small")
    assert not list(prefix.path.glob("var/macports/build/*/small/work"))


def test_checksums(prefix: Prefix) -> None:
    distfile(prefix, "good", "checksums sha256 {sha256} size {size}")
    prefix.port("extract", "good")
    assert (prefix.work("good") / "good-2.10" / "content").read_text() == "content\n"
    for name, text, message in (
        ("none", "", "no checksum set for none-2.10.tar.gz"),
        ("wrong", "checksums sha256 00 size {size}", "checksum (sha256) mismatch for wrong-2.10.tar.gz"),
        ("long", "checksums sha256 {sha256} size 1", "checksum (size) mismatch for long-2.10.tar.gz"),
    ):
        distfile(prefix, name, text)
        err = prefix.fails("install", name).err
        assert message in err.splitlines()[0], err
    assert prefix.installed() == set()


def test_what_cannot_be_fetched_says_where_it_was_sought(prefix: Prefix) -> None:
    archive = distfile(prefix, "gone", "master_sites file:///nowhere")
    archive.unlink()
    assert (
        "cannot fetch gone-2.10.tar.gz: /nowhere/gone-2.10.tar.gz does not exist" in prefix.fails("fetch", "gone").err
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: the site lies where trace mode hides it, in /srv")
def test_a_site_on_this_machine_is_declared_by_naming_it(prefix: Prefix) -> None:
    """Trace mode hides it no more than a site on a network; files in the prefix stay those of their ports."""
    with tempfile.TemporaryDirectory(prefix="porttrace-site-", dir="/srv") as site:
        Path(site).chmod(0o755)
        archive = distfile(prefix, "near", f"checksums sha256 {{sha256}} size {{size}}\nmaster_sites file://{site}/")
        shutil.move(archive, site)
        done = prefix.port("-t", "extract", "near")
    assert "hidden" not in done.err and (prefix.work("near") / "near-2.10" / "content").is_file()

    owned = prefix.path / "include"
    archive = distfile(prefix, "inside", f"master_sites file://{owned}/")
    archive.unlink()
    body = 'build {}\ndestroot {\n\txinstall -d ${destroot}${prefix}/include\n\tsystem "echo > %s"\n}\n'
    port(prefix, body % "${destroot}${prefix}/include/inside-2.10.tar.gz", "owner")
    prefix.port("install", "owner")
    assert "belongs to port owner" in prefix.fails("-t", "fetch", "inside").err


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it is about giving up root's ids")
@pytest.mark.parametrize("trace", [(), ("-t",)], ids=["plain", "traced"])
def test_every_child_of_a_phase_is_the_build_user_for_good(prefix: Prefix, trace: tuple[str, ...]) -> None:
    port(
        prefix,
        r"""
build {
    ui_msg "= [lrange [exec grep ^Uid: /proc/self/status] 1 end]"
    ui_msg "= [lrange [exec cat /proc/self/status | grep ^Uid:] 1 end]"
    set f [open "|grep ^Uid: /proc/self/status"]; ui_msg "= [lrange [read $f] 1 end]"; close $f
    system "grep -E '^(Uid|Groups):' /proc/self/status > ${workpath}/ids; echo \$HOME \$TMPDIR >> ${workpath}/ids"
    set f [open ${workpath}/ids]; ui_msg "= [regsub -all {\s+} [string trim [read $f]] { }]"; close $f
    ui_msg "= [file attributes ${workpath}/ids -owner]"
    close [open ${workpath}/own w]
    ui_msg "= [file attributes ${workpath}/own -owner]"
}
destroot {}
""",
    )
    user = pwd.getpwnam("macports")
    ids = " ".join([str(user.pw_uid)] * 4)
    lines = said(prefix.port(*trace, "build", "small").out)
    work = prefix.work("small")
    assert lines[:3] == [ids] * 3
    assert lines[3] == f"Uid: {ids} Groups: {user.pw_gid} {work}/.home {work}/.tmp"
    assert lines[4:] == ["macports", "macports"]


@pytest.mark.parametrize("trace", [(), ("-t",)], ids=["plain", "traced"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_port_leaves_nothing(prefix: Prefix, trace: tuple[str, ...], number: signal.Signals) -> None:
    # a number of its own, because the same test runs at the same time with other parameters
    nap = f"sleep {700 + number + 50 * len(trace)}"
    command = f"touch ${{workpath}}/started; {nap} & trap '' TERM; {nap}"
    port(prefix, f'build {{ system "{command}" }}\ndestroot {{}}\n')
    process = subprocess.Popen(
        prefix.argv(*trace, "build", "small"), env=prefix.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 20
    while not list(prefix.path.glob("var/macports/build/*/small/work/started")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    _, err = process.communicate(timeout=20)
    assert process.returncode == -number
    assert "Stopped while running build of small" in err and "Traceback" not in err
    assert str(process.pid) not in sessions()
    assert not [line for line in processes_of("macports").values() if nap in line]


def test_a_signal_while_a_command_is_being_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has started, and port does not know its number yet."""
    started: list[subprocess.Popen[bytes]] = []

    class Slow(subprocess.Popen[bytes]):
        def __init__(self, *arguments: Any, **more: Any) -> None:
            super().__init__(*arguments, **more)
            started.append(self)
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.05)

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "Popen", Slow)
    former = signal.signal(signal.SIGHUP, stop)
    try:
        with pytest.raises(KeyboardInterrupt):
            spawn.run(["sleep", "60"], directory="/", env=dict(os.environ), line=print)
        assert signal.getsignal(signal.SIGHUP) is stop
    finally:
        signal.signal(signal.SIGHUP, former)
    assert started[0].poll() == -signal.SIGTERM


def test_a_workpath_that_cannot_be_made(prefix: Prefix) -> None:
    port(prefix, FILES)
    (prefix.path / "var/macports/build").write_text("in the way\n")
    err = prefix.fails("install", "small").err
    assert "cannot make the work directory" in err or "cannot write the log" in err, err
    assert prefix.installed() == set()


def test_a_missing_compiler_is_named(make_prefix: PrefixFactory, open_tmp: Path) -> None:
    tools = open_tmp / "bin"
    tools.mkdir()
    for tool in ("sh", "tar", "gzip", "make", "sed", "cat"):
        (tools / tool).symlink_to(f"/bin/{tool}")
    prefix = make_prefix(binpath=str(tools))
    err = prefix.fails("install", "libbar").err
    assert f"the C compiler cc was not found in {tools}" in err
    (tools / "make").unlink()
    port(prefix, "supported_archs noarch\ndestroot {}\n")
    assert "make was not found" in prefix.fails("build", "small").err


def test_configuration(make_prefix: PrefixFactory) -> None:
    prefix = make_prefix(porttrace="maybe", nonsense_key="1")
    port(prefix, FILES)
    result = prefix.fails("build", "small")
    assert "unknown key 'nonsense_key' is ignored" in result.err
    assert "porttrace is 'maybe'; it must be yes or no" in result.err
    other = make_prefix("other", macportsuser="nobody-of-this-name")
    if os.geteuid() == 0:
        err = other.fails("installed").err
        assert "'nobody-of-this-name' does not exist" in err and "useradd" in err


def test_the_first_tree_wins(prefix: Prefix, open_tmp: Path) -> None:
    port(prefix, 'build { ui_msg "= second" }\ndestroot {}\n')
    first = Prefix(prefix.path)
    directory = open_tmp / "tree" / "test" / "small"
    directory.mkdir(parents=True)
    (directory / "Portfile").write_text(HEAD.format(name="small") + 'build { ui_msg "= first" }\ndestroot {}\n')
    conf = prefix.path / "etc/macports/sources.conf"
    conf.write_text(f"file://{open_tmp}/tree\n{conf.read_text()}")
    assert said(first.port("build", "small").out) == ["first"]


def test_options_on_the_command_line_win(prefix: Prefix) -> None:
    port(prefix, 'build.target all\nbuild { ui_msg "= ${build.target}" }\ndestroot {}\n')
    assert said(prefix.port("build", "small", "build.target=other").out) == ["other"]
    assert 'unknown option "no.such"' in prefix.fails("build", "small", "no.such=1").err


def test_levels(prefix: Prefix) -> None:
    port(prefix, 'build { system "echo from the build" }\ndestroot {}\n')
    quiet = prefix.port("-q", "build", "small")
    assert quiet.text == ""
    log = next(prefix.path.glob("var/macports/build/*/small/logs/main.log")).read_text()
    assert ":info:build from the build" in log
    prefix.port("clean", "small")
    normal = prefix.port("build", "small")
    assert "--->  Building small" not in normal.err and "from the build" not in normal.text
    prefix.port("clean", "small")
    assert "from the build\n" in prefix.port("-v", "build", "small").out
    prefix.port("clean", "small")
    assert "DEBUG: Executing build (small)" in prefix.port("-d", "build", "small").err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("install", "no-such-port"), "no-such-port not found"),
        (("frobnicate", "foo"), 'unknown action "frobnicate"'),
        (("-Z", "install", "foo"), "option -Z not recognized"),
        ((), "no action given"),
        (("install", "foo", "+a+-b"), "is not a list of variants"),
        (("install", "--frob", "foo"), "unknown option --frob"),
        (("-D", "/nonexistent", "build"), "/nonexistent: there is no Portfile"),
        (("install", "foo", "@9"), "foo @9 is not in the tree"),
        (("deactivate", "foo"), "foo is not"),
        (("-t", "--with-trace-sdk=none", "build", "foo"), "there is no SDK none"),
    ],
)
def test_a_wrong_command_line_is_one_line(prefix: Prefix, words: tuple[str, ...], message: str) -> None:
    err = prefix.fails(*words).err
    assert len(err.splitlines()) == 1 and message in err, err


def test_help_shows_examples(prefix: Prefix) -> None:
    out = prefix.port("--help").out
    assert "Examples" in out and "port -t install foo" in out
