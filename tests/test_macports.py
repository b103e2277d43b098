"""The drop-in in an unmodified MacPorts: ``pytest --macports-prefix PREFIX`` (may be given several times), as root.

Without the option nothing here is checked, which the summary of the run says.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import signal
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import ROOT, processes_of, sessions
from macports_host import Macports, appended, scratch_macports
from test_endings import beats

from porttrace.owners import cache_places
from porttrace.procstat import running


@pytest.fixture(scope="module")
def macports(macports_prefix: Path) -> Iterator[Macports]:
    """A scratch prefix of the MacPorts that was named, with the drop-in and with stray installed."""
    with scratch_macports(macports_prefix) as host:
        done = host.porttrace("integrate", host.home)
        assert done.status == 0, done.text
        host.port("-s", "install", "stray")
        yield host


@pytest.fixture
def no_foo(macports: Macports) -> Macports:
    """Neither foo nor libbar are installed, and nothing of their work is left."""
    macports.forget("foo", "libbar")
    return macports


def foo_says(macports: Macports) -> list[str]:
    """What the installed foo was built with."""
    done = subprocess.run([macports.path / "bin/foo", "--version"], check=True, capture_output=True, text=True)
    return done.stdout.splitlines()


def nothing_left(macports: Macports, pid: int) -> None:
    """Neither a session's directory nor a process; the core ends with port, which takes it a moment."""
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        left = [line for line in processes_of("macports").values() if str(macports.path) in line]
        if str(pid) not in sessions() and not left:
            return
        time.sleep(0.02)
    pytest.fail(f"left behind: {sessions()}, {left}")


def eventually(so: Callable[[], bool], seconds: float) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not so():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.02)


def children_of(pid: int, word: bytes) -> list[int]:
    """The children of a process whose command line holds a word."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            if word in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(int(child))
    return found


def test_without_t_nothing_of_ours_is_read(no_foo: Macports) -> None:
    log = no_foo.path.parent / "opened"
    argv = ["strace", "-f", "-qq", "-e", "trace=open,openat", "-o", log, no_foo.home / "bin/port", "-s", "install"]
    done = subprocess.run([*argv, "libbar"], env=no_foo.env, cwd="/", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    opened = log.read_text()
    assert "porttrace1.1/pkgIndex.tcl" in opened
    assert "site-packages/porttrace" not in opened


def test_stray_is_hidden_and_explained(no_foo: Macports) -> None:
    result = no_foo.port("-v", "-s", "-t", "install", "foo")
    assert foo_says(no_foo)[1:] == ["libbar: 1.2", "stray.h: no", "stray-config: no", "stray: no"]
    assert "The following existing files were hidden from the build system by trace mode:" in result.text
    for path, program, fix in (("include/stray.h", "cc1", "lib"), ("bin/stray-config", "sh", "build")):
        block = result.text.partition(f"  {no_foo.path}/{path}\n")[2].partition("\n  /")[0]
        assert block.startswith("    belongs to port stray, which foo does not declare\n"), result.text
        asked = [line for line in block.splitlines() if "asked for by" in line]
        assert any(program in line and "in phase configure" in line for line in asked), block
        assert f"    to allow it, add to the Portfile:  depends_{fix}-append port:stray" in block
    nothing_left(no_foo, result.pid)


def test_declared_it_is_found(no_foo: Macports) -> None:
    portfile = no_foo.prefix.tree / "devel/foo/Portfile"
    try:
        with appended(portfile, "\ndepends_build port:stray\n"):
            no_foo.index()
            result = no_foo.port("-v", "-s", "-t", "install", "foo")
    finally:
        no_foo.index()
    assert "stray: 1.0" in foo_says(no_foo)
    assert "belongs to port stray" not in result.text
    assert "trace: access denied" not in result.text


def test_one_core(no_foo: Macports) -> None:
    log = no_foo.path.parent / "execs"
    argv = ["strace", "-f", "-qq", "-s", "200", "-e", "trace=execve,mkdir", "-o", log, no_foo.home / "bin/port"]
    no_foo.port("-s", "-t", "install", "libbar")
    done = subprocess.run(
        [*argv, "-s", "-t", "install", "foo"], env=no_foo.env, cwd="/", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line for line in log.read_text().splitlines() if line.endswith("= 0")]
    assert sum("tclbridge.coprocess" in line and "execve" in line for line in lines) == 1
    assert sum('mkdir("/tmp/macports/' in line and ".new-" in line for line in lines) == 1, "one session directory"


def test_the_core_starts_while_port_reads_its_configuration(no_foo: Macports) -> None:
    """Before any port is opened; and not at all without -t."""
    for words, cores in ((["-t"], 1), ([], 0)):
        log = no_foo.path.parent / "starts"
        argv: list[str | Path] = ["strace", "-f", "-qq", "-s", "200", "-e", "trace=execve", "-o", log]
        port = [no_foo.home / "bin/port", *words, "info", "there-is-no-such-port"]
        subprocess.run([*argv, *port], env=no_foo.env, cwd="/", capture_output=True, check=False)
        assert log.read_text().count("tclbridge.coprocess") == cores
    nothing_left(no_foo, 0)


def test_exec_and_pipes_of_a_portfile_are_held(no_foo: Macports) -> None:
    portfile = no_foo.prefix.tree / "devel/libbar/Portfile"
    with appended(
        portfile,
        "\npre-build {\n"
        "    set script {grep ^Uid: /proc/self/status; cat $0 2>&1 || true}\n"
        '    ui_msg "by exec: [exec sh -c $script ${prefix}/include/stray.h]"\n'
        '    set pipe [open "|[list sh -c $script ${prefix}/include/stray.h]"]\n'
        '    ui_msg "by pipe: [read $pipe]"\n'
        "    close $pipe\n"
        "}\n",
    ):
        result = no_foo.port("-s", "-t", "build", "libbar")
    uid = subprocess.run(["id", "-u", "macports"], capture_output=True, text=True, check=True).stdout.strip()
    for way in ("by exec: ", "by pipe: "):
        block = result.text.partition(way)[2].split()
        assert block[:5] == ["Uid:", uid, uid, uid, uid], result.text
    assert result.text.count("stray.h: No such file or directory") == 2, result.text


@pytest.mark.skipif(shutil.which("cc") is None, reason="NOT CHECKED: no C compiler")
def test_the_kernel_refuses_what_a_build_writes_outside(no_foo: Macports) -> None:
    """The fork is MacPorts' own: the library raises the fence in the first child, and all that follow are inside.

    The programs lie in the prefix, so that they count as tools that are there: the raw one, which no tier but the fence
    can stop, the static one, and the shell's own writing.
    """
    outside, tools = no_foo.path.parent / "outside", no_foo.path / "libexec"
    outside.mkdir()
    tools.mkdir()
    shutil.chown(outside, "macports", "macports")
    for name, options in (("raw", ["-DRAW"]), ("static", ["-static"])):
        source = ROOT / "tests/endings/outside.c"
        subprocess.run(["cc", *options, "-I", ROOT / "csrc", "-o", tools / name, source], check=True)
        bare = [tools / name, outside / "bare"]
        done = subprocess.run(bare, user="macports", group="macports", capture_output=True, text=True, check=True)
        assert done.stdout == "outside: 0\n", "the program works, or nothing is tried here"
        (outside / "bare").unlink()
    portfile = no_foo.prefix.tree / "devel/libbar/Portfile"
    try:
        with appended(
            portfile,
            "\npre-build {\n"
            f'    system "{tools}/raw {outside}/1; {tools}/static {outside}/2; echo x > {outside}/3 || :"\n'
            f'    system "env -i setsid {tools}/raw {outside}/4; {tools}/raw ${{workpath}}/inside"\n'
            '    system "grep NoNewPrivs /proc/self/status"\n'
            "}\n",
        ):
            result = no_foo.port("-v", "-s", "-t", "build", "libbar")
    finally:
        left = sorted(path.name for path in outside.iterdir())
        shutil.rmtree(outside)
        shutil.rmtree(tools)
    assert left == []
    said = [line.split()[-1] for line in result.text.splitlines() if "outside: " in line and "sandbox" not in line]
    refused = str(errno.EACCES)
    assert said == [refused, refused, refused, "0"], result.text
    assert "NoNewPrivs:\t1" in result.text


@pytest.mark.parametrize("how", ["chain deaf 200", "chain deaf setsid 200", "thread"])
def test_what_forks_without_end_ends_with_its_phase(no_foo: Macports, how: str) -> None:
    """The core is not above the build's processes here: orphans are init's."""
    portfile = no_foo.prefix.tree / "devel/libbar/Portfile"
    source = portfile.parent / "forks.c"
    shutil.copy(ROOT / "tests/endings/forks.c", source)
    try:
        with appended(
            portfile,
            "\npre-build {\n"
            f'    system -W ${{workpath}} "cc -pthread -o forks {source} && head -c 8 /dev/zero > beat"\n'
            f'    system -W ${{workpath}} "./forks beat {how} > /dev/null 2>&1 & sleep 0.3"\n'
            "}\n",
        ):
            result = no_foo.port("-v", "-s", "-t", "build", "libbar")
            (beat,) = (no_foo.path / "var/macports/build").rglob("beat")
            assert any(beat.read_bytes()), "it ran"
            assert not beats(beat)
    finally:
        source.unlink()
    assert "still running and w" in result.text


@pytest.mark.skipif(
    not Path("/bin/busybox").exists(), reason="NOT CHECKED: the package busybox-static is not installed"
)
@pytest.mark.parametrize("how", ["", "setsid "], ids=["", "session"])
def test_a_static_orphan_without_a_name_ends_with_its_phase(no_foo: Macports, how: str) -> None:
    """No library is in it, its environment is empty, its parents are static and gone, and orphans are init's here."""
    portfile = no_foo.prefix.tree / "devel/libbar/Portfile"
    with appended(
        portfile,
        "\npre-build {\n"
        # as daemons do: whoever waits for the end of a pipe shall not wait for them
        "    system -W ${workpath} {exec bash -c '"
        'for f in /proc/$$/fd/*; do [ ${f##*/} -lt 3 ] || eval "exec ${f##*/}>&-"; done; '
        f'/bin/busybox sh -c "{how}env -i /bin/busybox sleep 97.5 > /dev/null 2>&1 & echo \\$! > orphan"; '
        "sleep 0.3'}\n"
        "}\n",
    ):
        result = no_foo.port("-v", "-s", "-t", "build", "libbar")
        (orphan,) = (no_foo.path / "var/macports/build").rglob("orphan")
        pid = int(orphan.read_text())
        left = running(pid)
        if left is not None and left.lives:
            os.kill(pid, signal.SIGKILL)
    assert left is None or not left.lives, result.text
    assert f"process {pid} (/usr/bin/busybox) was still running and was ended (SIGTERM)" in result.text, result.text


def test_what_a_quiet_phase_does_is_held(no_foo: Macports) -> None:
    """In phases where MacPorts itself starts nothing: a question, and programs, whatever becomes of the environment."""
    portfile = no_foo.prefix.tree / "devel/libbar/Portfile"
    with appended(
        portfile,
        "\npost-fetch {\n"
        '    ui_msg "asked: [file exists ${prefix}/include/stray.h]"\n'
        "}\n"
        "pre-checksum {\n"
        "    set saved [array get ::env]\n"
        "    catch {system {cat /nonexistent-1 /usr/include/stdio.h >/dev/null}}\n"
        "    # as command_exec does\n"
        "    array unset ::env *\n"
        "    array set ::env $saved\n"
        "    catch {system -W ${workpath} [list cat ${prefix}/include/stray.h]}\n"
        "    set ::env(LD_PRELOAD) {}\n"
        "    catch {system -W ${workpath} [list cat ${prefix}/bin/stray-config]}\n"
        "}\n",
    ):
        result = no_foo.port("-v", "-s", "-t", "checksum", "libbar")
    assert "asked: 0" in result.text, result.text
    for name in ("include/stray.h", "bin/stray-config"):
        assert f"cat: {no_foo.path}/{name}: No such file or directory" in result.text, result.text
    for program, phase in (("tclsh", "fetch"), ("cat", "checksum")):
        told = [line for line in result.text.splitlines() if "asked for by" in line and f"in phase {phase}" in line]
        assert any(program in line for line in told), result.text


def test_a_run_names_the_tiers_though_nothing_had_to_be_held(no_foo: Macports) -> None:
    said = no_foo.port("-v", "-s", "-t", "fetch", "libbar").text
    assert said.count("tiers used: tracelib, supervisor, fence") == 1, said


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["crash", "hang"])
def test_a_core_that_is_lost_in_a_phase(no_foo: Macports, number: signal.Signals) -> None:
    """The phase fails within five seconds and says why, the phase's processes end, nothing is left."""
    portfile = no_foo.prefix.tree / "devel/libbar/Portfile"
    waits = f"sleep 300.{os.getpid()}"  # not that of another MacPorts that is tested meanwhile
    argv = [no_foo.home / "bin/port", "-s", "-t", "build", "libbar"]
    with (
        appended(portfile, f'\npre-build {{\n    system "touch ${{workpath}}/here; {waits}"\n}}\n'),
        subprocess.Popen(
            argv, env=no_foo.env, cwd="/", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as port,
    ):
        try:
            eventually(lambda: any((no_foo.path / "var/macports/build").rglob("here")), 60)
            (core,) = children_of(port.pid, b"tclbridge.coprocess")
            os.kill(core, number)
            began = time.monotonic()
            said, _ = port.communicate(timeout=30)
            took = time.monotonic() - began
        finally:
            port.kill()
    assert port.returncode == 1, said
    assert took <= 5, f"{took} s\n{said}"
    error = "has ended unexpectedly" if number == signal.SIGKILL else "has not answered for 4.0 seconds and was ended"
    assert f"porttrace: the core {error}; its trace is lost" in said, said
    assert not [line for line in processes_of("macports").values() if waits in line]
    eventually(lambda: not Path(f"/proc/{core}").exists(), 3)
    nothing_left(no_foo, port.pid)


def test_the_registry_is_not_written(no_foo: Macports) -> None:
    no_foo.port("-s", "-t", "install", "libbar")
    database = no_foo.prefix.registry
    before = hashlib.sha256(database.read_bytes()).digest(), database.stat().st_mtime_ns
    result = no_foo.port("-s", "-t", "configure", "foo")
    assert "belongs to port stray" in result.text, "it was read"
    assert (hashlib.sha256(database.read_bytes()).digest(), database.stat().st_mtime_ns) == before


def test_a_traced_install_is_the_same_and_only_port_writes_the_registry(no_foo: Macports) -> None:
    """Fourteen sessions and one core; what is installed equals a build where stray is not; no writer but port."""
    no_foo.port("-s", "install", "libbar")
    no_foo.port("-f", "uninstall", "stray")
    try:
        no_foo.port("-s", "install", "foo")
        untraced = contents(no_foo, "foo")
    finally:
        no_foo.forget("foo")
        no_foo.port("-s", "install", "stray")
    log = no_foo.path.parent / "writes"
    argv: list[str | Path] = ["strace", "-f", "-qq", "-y", "-s", "300", "-e", "trace=execve,pwrite64,write", "-o", log]
    done = subprocess.run(
        [*argv, no_foo.home / "bin/port", "-d", "-s", "-t", "install", "foo"],
        env=no_foo.env,
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert contents(no_foo, "foo") == untraced
    assert (done.stdout + done.stderr).count("Tracemode will respect recursively collected port dependencies") == 14
    lines = log.read_text(errors="replace").splitlines()
    cores = {line.split()[0] for line in lines if "tclbridge.coprocess" in line and "execve(" in line}
    assert len(cores) == 1
    writers = {line.split()[0] for line in lines if "registry.db" in line and "write" in line}
    assert writers, "port itself writes it"
    assert not writers & cores, "the core does not"


def contents(macports: Macports, name: str) -> dict[str, bytes]:
    """What a port has installed: the hash of each file, without the times that archives and bytecode carry."""
    (image,) = (macports.path / "var/macports/software" / name).glob("*.tbz2")
    with tarfile.open(image) as archive:
        members = [member for member in archive if member.isfile() and not member.name.startswith("./+")]
        return {each.name: hashlib.sha256(archive.extractfile(each).read()).digest() for each in members}  # type: ignore[union-attr]


def test_targets_that_need_no_work_directory(macports: Macports) -> None:
    """MacPorts traces them too; none of its other targets has made the directory yet."""
    macports.forget("foo", "libbar")
    plain = macports.run("livecheck", "libbar")
    traced = macports.run("-t", "livecheck", "libbar")
    assert (traced.status, traced.text) == (plain.status, plain.text)


def test_tcls_own_library_is_there(no_foo: Macports) -> None:
    """Tcl 9 has it within its program, and loads some of it when it is needed."""
    portfile = no_foo.prefix.tree / "devel/libbar/Portfile"
    with appended(
        portfile,
        "\npre-build {\n"
        '    ui_msg "the clock: [clock format 86400 -gmt 1 -format {%Y in %B}]"\n'
        '    ui_msg "its files: [expr {[llength [glob -directory [info library] *.tcl]] > 3}]"\n'
        '    ui_msg "one: [file readable [info library]/clock.tcl]"\n'
        "}\n",
    ):
        said = no_foo.port("-s", "-t", "build", "libbar").text
    for line in ("the clock: 1970 in January", "its files: 1", "one: 1"):
        assert line in said, said


def test_a_portfile_allows_what_it_names(no_foo: Macports) -> None:
    portfile = no_foo.prefix.tree / "devel/foo/Portfile"
    with appended(
        portfile,
        "\nPortGroup porttrace 1.0\nconfigure.trace_read-append ${prefix}/include/stray.h\n"
        "trace.hide-append ${prefix}/include/bar.h\n",
    ):
        result = no_foo.run("-s", "-t", "configure", "foo")
    assert f"denied to {no_foo.path}/include/stray.h" not in result.text, result.text
    assert f"{no_foo.path}/include/bar.h" in result.text, "hidden although libbar is declared"


def names(top: Path) -> dict[str, tuple[int, int]]:
    """Everything below a directory, with its size and when it was written."""
    return {
        str(path): (path.lstat().st_size, path.lstat().st_mtime_ns) for path in sorted(top.rglob("*")) if path.is_file()
    }


def test_integrate_changes_what_it_says_and_undo_leaves_nothing(macports: Macports) -> None:
    assert macports.porttrace("integrate", "--undo", macports.home).status == 0
    bare = names(macports.home)
    said = macports.porttrace("integrate", "--dry-run", macports.home)
    assert (said.status, names(macports.home)) == (0, bare), said.text
    assert f"MacPorts {macports_version(macports)}" in said.text
    assert f"make {macports.package}/pkgIndex.tcl" in said.text
    assert macports.porttrace("integrate", macports.home).status == 0
    integrated = names(macports.home)
    assert set(integrated) - set(bare) == {f"{macports.package}/pkgIndex.tcl"}
    again = macports.porttrace("integrate", macports.home)
    assert (again.status, names(macports.home)) == (0, integrated), again.text
    assert "is there already" in again.text
    # where this MacPorts keeps its own registry, and where somebody else's port would keep a table
    kept = [macports.home / "var/macports/registry/.porttrace-owners"]
    kept += [place for place in cache_places(kept[0].with_name("registry.db"))[1:] if not place.exists()]
    for place in kept:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("kept")
    assert macports.porttrace("integrate", "--undo", "--dry-run", macports.home).status == 0
    assert all(place.exists() for place in kept)
    assert macports.porttrace("integrate", "--undo", macports.home).status == 0
    assert names(macports.home) == bare
    assert not any(place.exists() for place in kept)
    assert "is not there" in macports.porttrace("integrate", "--undo", macports.home).text
    assert macports.porttrace("integrate", macports.home).status == 0


def macports_version(macports: Macports) -> str:
    """What the MacPorts says of itself."""
    return macports.run("version").text.split()[1]


def test_without_the_package_it_is_macports_own(macports: Macports) -> None:
    """Undone, the same MacPorts has the trace mode that it came with, which this machine has not."""
    assert macports.porttrace("integrate", "--undo", macports.home).status == 0
    try:
        result = macports.run("-s", "-t", "patch", "libbar")
    finally:
        assert macports.porttrace("integrate", macports.home).status == 0
    assert result.status != 0
    assert "not supported on this platform" in result.text
