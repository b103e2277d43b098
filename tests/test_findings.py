"""Records to findings, findings to messages: written by the library's own writer, read by the session's reader."""

from __future__ import annotations

import errno
import json
import mmap
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from porttrace import eventlog
from porttrace._core import ffi, lib
from porttrace.eventlog import ACCESSES, Kind, Outcome, Snapshot, create
from porttrace.findings import Finding, FindingKind, Program, collect, fix_line, merge, unused
from porttrace.messages import plain, render
from porttrace.processes import ProcessTree, untraced_reason
from porttrace.report import finding_json

NONE = 0xFFFFFFFF
CAPACITY = 8 << 20


class Writer:
    """Writes events as a traced process does."""

    def __init__(self, path: Path) -> None:
        create(path, CAPACITY)
        self.fd = os.open(path, os.O_RDWR)
        self.map = mmap.mmap(self.fd, CAPACITY)
        self.buffer = ffi.from_buffer(self.map)
        self.events = ffi.cast("struct pt_events *", self.buffer)
        self.time = 0

    def _event(self, kind: int, path: bytes, asked: bytes = b"", **fields: int) -> tuple[Any, Any]:
        self.time += 1
        event = ffi.new("struct pt_event *", {"kind": kind, "time": self.time, "rule": NONE, "port": NONE, **fields})
        keep = (ffi.from_buffer(path), ffi.from_buffer(asked))
        event.path, event.path_len = keep[0], len(path)
        event.asked, event.asked_len = keep[1], len(asked)
        return event, keep

    def process(self, pid: int, ppid: int, exe: bytes, parent: int = 0) -> int:
        event, _keep = self._event(Kind.PROCESS, exe, pid=pid, ppid=ppid, image=parent)
        return int(lib.pt_events_image(self.events, -1, event))

    def put(self, kind: int, path: bytes, asked: bytes = b"", **fields: int) -> None:
        event, _keep = self._event(kind, path, asked, **fields)
        lib.pt_events_put(self.events, event)

    def find(self, image: int, outcome: Outcome, access: str, path: bytes, pid: int = 1, **fields: int) -> None:
        self.put(Kind.FINDING, path, pid=pid, image=image, outcome=outcome, access=ACCESSES.index(access), **fields)

    def start(self, pid: int, ppid: int, exe: bytes, by: int, target: bytes = b"") -> int:
        self.put(Kind.EXEC, target or exe, pid=pid, image=by)
        return self.process(pid, ppid, exe)


@pytest.fixture
def writer(tmp_path: Path) -> Writer:
    return Writer(tmp_path / "events")


class Names:
    """Ports by number; rule 0 is loud, rule 1 silent."""

    PORTS = ("stray", "libbar")

    def rule_text(self, rule: int | None) -> str:
        return "not listed" if rule is None else f"/rule/{rule}=- (test)"

    def rule_silent(self, rule: int | None) -> bool:
        return rule == 1

    def port_name(self, port: int | None) -> str:
        return "" if port is None else self.PORTS[port]


def findings(writer: Writer, phase: str = "configure", built: str = "foo", audit: bool = False) -> list[Finding]:
    with Snapshot(writer.fd, CAPACITY) as snapshot:
        events = list(snapshot.events([Kind.PROCESS, Kind.EXEC, Kind.FINDING, Kind.UNTRACED]))
        assert snapshot.lost == snapshot.unsound == 0
    return collect(events, ProcessTree.build(events), Names(), phase=phase, built=built, audit=audit)


def chain(writer: Writer) -> int:
    """configure (a script) > cc (a link to gcc) > cc1"""
    shell = writer.start(10, 1, b"/usr/bin/dash", 0, b"/work/foo/configure")
    gcc = writer.start(11, 10, b"/usr/bin/gcc-12", shell, b"/usr/bin/cc")
    return writer.start(12, 11, b"/usr/lib/gcc/cc1", gcc)


def test_an_undeclared_dependency_names_port_program_phase_and_line(writer: Writer) -> None:
    image = chain(writer)
    for _ in range(3):
        writer.find(image, Outcome.HIDE, "read", b"/opt/local/include/stray.h", port=0)
    (finding,) = findings(writer)
    assert finding.to_json() == {
        "kind": "undeclared-dependency",
        "path": "/opt/local/include/stray.h",
        "access": "read",
        "port": "stray",
        "phase": "configure",
        "count": 3,
        "programs": [
            {
                "exe": "/usr/lib/gcc/cc1",
                "parents": ["/usr/bin/dash", "/usr/bin/gcc-12"],
                "chain": ["configure", "cc", "cc1"],
                "count": 3,
            }
        ],
        "rule": "not listed",
        "fix": "depends_lib-append port:stray",
    }
    assert plain(render([finding])) == (
        "Warning: The following existing file was hidden from the build system by trace mode:\n"
        "  /opt/local/include/stray.h\n"
        "    belongs to port stray, which foo does not declare\n"
        "    asked for by cc1 (configure > cc > cc1) in phase configure, 3 times\n"
        "    to allow it, add to the Portfile:  depends_lib-append port:stray\n"
    )
    assert ("info", "trace: access denied to /opt/local/include/stray.h (stray)") in render([finding])


KINDS = [
    (Outcome.HIDE, "read", 0, FindingKind.UNDECLARED),
    (Outcome.HIDE, "stat", NONE, FindingKind.HIDDEN),
    (Outcome.DENY, "create", NONE, FindingKind.WRITE_OUTSIDE),
    (Outcome.DENY, "write", 0, FindingKind.WRITE_OUTSIDE),
    (Outcome.UNOWNED, "read", NONE, FindingKind.UNOWNED),
    (Outcome.ABSENT, "stat", NONE, FindingKind.ABSENT),
    (Outcome.REDIRECTED_MISSING, "read", NONE, FindingKind.REDIRECTED_MISSING),
]


@pytest.mark.parametrize(("outcome", "access", "port", "kind"), KINDS)
def test_kinds(writer: Writer, outcome: Outcome, access: str, port: int, kind: FindingKind) -> None:
    writer.find(chain(writer), outcome, access, b"/some/where", port=port)
    (finding,) = findings(writer)
    assert (finding.kind, finding.access) == (kind, access)
    assert finding.port == ("stray" if port == 0 else "")


def test_a_silent_rule_leaves_no_finding(writer: Writer) -> None:
    image = chain(writer)
    writer.find(image, Outcome.HIDE, "read", b"/quiet", rule=1)
    writer.find(image, Outcome.HIDE, "read", b"/loud", rule=0)
    assert [(finding.path, finding.rule) for finding in findings(writer)] == [("/loud", "/rule/0=- (test)")]


def test_equal_findings_of_several_programs_are_one(writer: Writer) -> None:
    first = chain(writer)
    other = writer.process(50, 1, b"/usr/bin/perl")
    for image, pid in ((first, 12), (other, 50), (other, 50)):
        writer.find(image, Outcome.HIDE, "stat", b"/x", pid=pid)
    writer.find(other, Outcome.HIDE, "read", b"/x", pid=50)
    by_access = {finding.access: finding for finding in findings(writer)}
    assert by_access["stat"].count == 3
    assert [(p.chain[-1], p.count) for p in by_access["stat"].programs] == [("cc1", 1), ("perl", 2)]
    assert by_access["read"].count == 1
    both = merge([list(by_access.values()), list(by_access.values())])
    assert {finding.access: finding.count for finding in both} == {"stat": 6, "read": 2}
    programs = next(finding for finding in both if finding.access == "stat").programs
    assert [(p.chain[-1], p.count) for p in programs] == [("cc1", 2), ("perl", 4)]
    assert by_access["stat"].count == 3, "merging must not change what was merged"


FIXES = [
    ("fetch", "/opt/local/bin/curl", "depends_fetch-append port:p"),
    ("checksum", "/opt/local/bin/openssl", "depends_fetch-append port:p"),
    ("extract", "/opt/local/bin/xz", "depends_extract-append port:p"),
    ("patch", "/opt/local/bin/gpatch", "depends_patch-append port:p"),
    ("configure", "/opt/local/bin/pkg-config", "depends_build-append port:p"),
    ("configure", "/opt/local/libexec/llvm/bin/clang", "depends_build-append port:p"),
    ("configure", "/opt/local/lib/pkgconfig/x.pc", "depends_lib-append port:p"),
    ("build", "/opt/local/include/x.h", "depends_lib-append port:p"),
    ("build", "/opt/local/lib/libx.so", "depends_lib-append port:p"),
    ("test", "/opt/local/bin/py.test", "depends_test-append port:p"),
    ("destroot", "/opt/local/bin/ginstall", "depends_build-append port:p"),
    ("destroot", "/opt/local/share/x/y", "depends_run-append port:p"),
    ("", "/opt/local/include/x.h", "depends_lib-append port:p"),
]


@pytest.mark.parametrize(("phase", "path", "line"), FIXES)
def test_the_type_of_dependency_follows_phase_and_path(phase: str, path: str, line: str) -> None:
    assert fix_line(FindingKind.UNDECLARED, path, "read", "p", phase) == line


def test_lines_for_paths_that_no_port_owns() -> None:
    assert fix_line(FindingKind.HIDDEN, "/usr/local/x", "read", "", "build") == "build.trace_read-append /usr/local/x"
    assert fix_line(FindingKind.WRITE_OUTSIDE, "/etc/x", "create", "", "") == "trace.write-append /etc/x"
    assert fix_line(FindingKind.WRITE_OUTSIDE, "/a b", "create", "", "") == "trace.write-append {/a b}"
    assert fix_line(FindingKind.UNOWNED, "/a", "read", "", "build") is None


@pytest.mark.parametrize(
    ("rule", "on_purpose"),
    [
        ("/x=- (trace.hide, line 13 of /tree/foo/Portfile)", True),
        ("/x=- (build.trace_hide, line 13 of /tree/foo/Portfile)", True),
        ("/x=- (--map /x=-)", True),
        ("/x=- (filemap command)", True),
        ("/usr/local=- (base OS (baseos-linux.toml))", False),
        ("/p=? (prefix, line 1 of /p/etc/macports/macports.conf)", False),
        ("/p=? (--prefix)", False),
        ("not listed: no rule allows it", False),
    ],
)
def test_no_line_is_advised_against_a_rule_that_comes_first(rule: str, on_purpose: bool) -> None:
    """Hiding decides before allowing: an allowance beside it would change nothing."""
    for kind in (FindingKind.HIDDEN, FindingKind.WRITE_OUTSIDE):
        line = fix_line(kind, "/x", "write", "", "build", rule)
        one = Finding(kind, "/x", "write", "", "build", 1, [], rule, line, "foo")
        text = plain(render([one]))
        assert (line is None) == on_purpose
        assert ("to allow it, take this rule away" in text) == on_purpose
        assert ("add to the Portfile" in text) == (not on_purpose)


@pytest.mark.parametrize(
    "path",
    [
        "/a b",
        "/$x[exit]",
        '/q"q',
        "/br{ace",
        "/back\\slash",
        "/new\nline {",
        "/se;mi",
        "/#x",
        "/bell\x07f {",
        "/tab\t",
        "/\x1b[31mred",
    ],
)
def test_a_pasted_path_is_one_word_of_tcl(path: str) -> None:
    tkinter = pytest.importorskip("tkinter")
    line = fix_line(FindingKind.HIDDEN, path, "read", "", "build")
    tcl = tkinter.Tcl()
    tcl.eval("proc build.trace_read-append {args} {set ::got $args}")
    tcl.eval(line)
    assert tcl.splitlist(tcl.getvar("got")) == (path,)
    assert line.isprintable(), "it is shown on a terminal"


def test_an_exec_that_nothing_answers_is_an_untraced_process(writer: Writer, tmp_path: Path) -> None:
    static = tmp_path / "static"
    static.write_bytes(bytes(elf(static=True)))
    static.chmod(0o755)
    image = chain(writer)
    writer.put(Kind.EXEC, os.fsencode(static), pid=60, image=image)
    writer.put(Kind.EXEC, b"/does/not/exist", pid=61, image=image)
    (finding,) = findings(writer)
    assert (finding.kind, finding.path, finding.reason) == (FindingKind.UNTRACED, str(static), "statically linked")
    assert finding.programs[0].chain == ("configure", "cc", "cc1")
    assert "ran without being traced:\n  " in plain(render([finding]))
    assert "statically linked" in plain(render([finding]))


def test_an_exec_that_came_back_started_nothing(writer: Writer) -> None:
    image = chain(writer)
    writer.put(Kind.EXEC, b"/bin/true", pid=60, image=image)
    writer.put(Kind.EXEC, b"/bin/true", pid=60, image=image, error=13)
    assert findings(writer) == []


def test_a_posix_spawned_process_hangs_below_its_parent_process(writer: Writer) -> None:
    image = chain(writer)
    spawned = writer.process(70, 12, b"/usr/bin/as")
    writer.find(spawned, Outcome.HIDE, "read", b"/x", pid=70)
    (finding,) = findings(writer)
    assert finding.programs[0].chain == ("configure", "cc", "cc1", "as")
    assert image


def test_a_posix_spawn_may_be_recorded_after_its_child_went_on(writer: Writer) -> None:
    """make starts a shell, which is another program before make writes down that it started the shell."""
    make = writer.process(10, 1, b"/usr/bin/make")
    shell = writer.process(20, 10, b"/bin/bash")
    writer.put(Kind.EXEC, b"/usr/bin/cc", pid=20, image=shell)
    writer.process(20, 10, b"/usr/bin/cc")
    writer.put(Kind.EXEC, b"/bin/bash", pid=20, image=make)
    assert findings(writer) == []


def test_a_posix_spawn_may_be_recorded_after_its_child_spoke(writer: Writer) -> None:
    image = chain(writer)
    spawned = writer.process(70, 12, b"/usr/bin/x86_64-linux-gnu-as")
    writer.put(Kind.EXEC, b"/usr/bin/as", pid=70, image=image)
    writer.find(spawned, Outcome.HIDE, "read", b"/x", pid=70)
    writer.put(Kind.EXEC, b"/bin/true", pid=70, image=spawned)  # and then it becomes another program, which is silent
    found = {finding.kind: finding for finding in findings(writer)}
    assert found[FindingKind.HIDDEN].programs[0].chain == ("configure", "cc", "cc1", "as")
    assert found[FindingKind.UNTRACED].path == "/bin/true"


def elf(static: bool, machine: int | None = None) -> bytearray:
    """The head of an executable: one program header, PT_INTERP or PT_LOAD."""
    with Path("/proc/self/exe").open("rb") as file:
        own = file.read(64)
    head = bytearray(own)
    if machine is not None:
        head[18:20] = machine.to_bytes(2, "little")
    head[32:40] = (64).to_bytes(8, "little")
    head[54:58] = (56).to_bytes(2, "little") + (1).to_bytes(2, "little")
    return head + (1 if static else 3).to_bytes(4, "little") + bytes(52)


def test_reasons(tmp_path: Path) -> None:
    def program(name: str, content: bytes, mode: int = 0o755) -> bytes:
        path = tmp_path / name
        path.write_bytes(content)
        path.chmod(mode)
        return os.fsencode(path)

    assert untraced_reason(program("static", elf(True))) == "statically linked"
    assert "did not announce" in (untraced_reason(program("dynamic", elf(False))) or "")
    assert untraced_reason(program("arm", elf(False, 40))) == "built for another architecture"
    assert "set-uid" in (untraced_reason(program("suid", elf(False), 0o755 | stat.S_ISUID)) or "")
    assert untraced_reason(program("plain", elf(True), 0o644)) is None
    assert untraced_reason(program("text", b"hello")) is None
    script = program("script", b"#!" + os.fsencode(tmp_path / "static") + b" -x\n")
    assert untraced_reason(script) == "statically linked"
    assert untraced_reason(program("short", b"\x7fELF")) is None
    assert untraced_reason(b"/nowhere") is None


def test_unused_dependencies_compare_without_case() -> None:
    (finding,) = unused(["Zlib", "py-six"], {"zlib"}, phase="build", built="foo")
    assert (finding.kind, finding.port) == (FindingKind.UNUSED, "py-six")
    assert "was not used: py-six" in plain(render([finding]))


# --- messages ---


def finding(kind: FindingKind, path: str = "/x", access: str = "read", **more: Any) -> Finding:
    return Finding(kind, path, access, programs=[Program("/bin/sh", (), ("sh",))], **more)


def test_write_outside_says_which_kind() -> None:
    texts = {
        access: render([finding(FindingKind.WRITE_OUTSIDE, "/etc/group", access)])[0][1].splitlines()[0]
        for access in ("create", "delete", "write", "rename", "attributes")
    }
    assert texts == {
        "create": "A creation was attempted outside sandbox: /etc/group",
        "delete": "A deletion was attempted outside sandbox: /etc/group",
        "write": "A modification was attempted outside sandbox: /etc/group",
        "rename": "A renaming was attempted outside sandbox: /etc/group",
        "attributes": "A change of attributes was attempted outside sandbox: /etc/group",
    }
    assert plain(render([finding(FindingKind.WRITE_OUTSIDE)])).startswith("Warning: A read was attempted outside")


def test_numbers_in_headings() -> None:
    two = [finding(FindingKind.HIDDEN, "/a"), finding(FindingKind.HIDDEN, "/b")]
    assert "Warning: The following existing files were hidden from the build system by trace mode:" in plain(
        render(two)
    )
    absent = [finding(FindingKind.ABSENT, "/a")]
    assert render(absent) == [
        (
            "info",
            "The following file would have been hidden from the build system by trace mode if it existed:\n  /a",
        )
    ]
    assert plain(render(absent)) == ""
    assert "/a" in plain(render(absent, verbose=True), verbose=True)
    absent.append(finding(FindingKind.ABSENT, "/b"))
    assert "following files would have been hidden from the build system by trace mode if they existed:" in plain(
        render(absent), True
    )
    unowned = plain(render([finding(FindingKind.UNOWNED, "/opt/local/x")]))
    assert (
        "The following file inside the MacPorts prefix not installed by a port was accessed:\n  /opt/local/x" in unowned
    )


def test_noise_is_folded_until_verbose() -> None:
    found = [finding(FindingKind.HIDDEN, f"/usr/share/locale/{n}") for n in range(5)] + [
        finding(FindingKind.HIDDEN, "/real")
    ]

    def noise(one: Finding) -> str | None:
        return "locale" if "locale" in one.path else None

    folded = plain(render(found, noise=noise))
    assert "/usr/share/locale" not in folded
    assert "5 known harmless probes not shown (locale); -v shows them" in folded
    assert "  /real\n" in folded
    assert plain(render(found, verbose=True, noise=noise)).count("/usr/share/locale/") == 5


def test_nothing_is_advised_for_a_harmless_probe() -> None:
    """To allow it would make the build depend on the machine: neither in the text of -v nor in a report."""
    path = "/usr/local/share/awk"
    probe, mixed = (finding(FindingKind.HIDDEN, path) for _ in range(2))
    for one in (probe, mixed):
        one.fix = f"build.trace_read-append {path}"
        one.programs = [Program("/usr/bin/gawk")]
    mixed.programs = [*mixed.programs, Program("/work/conftest")]
    text = plain(render([probe], verbose=True), True)
    assert "    a known harmless probe (awk)\n" in text and "trace_read" not in text and "--read" not in text
    assert finding_json(probe)["fix"] is None
    for found in ([mixed], [probe, mixed]):
        text = plain(render(found, verbose=True), True)
        assert "harmless" not in text and text.count("to allow it") == 1
    assert finding_json(mixed)["fix"] == mixed.fix


def test_colour_only_where_asked_for_and_no_path_can_bring_its_own() -> None:
    found = [finding(FindingKind.HIDDEN, "/evil\033[31m\n/x\udcff")]
    assert "\033" not in plain(render(found))
    assert "  /evil\\x1b[31m\\n/x\\xff\n" in plain(render(found))
    assert "\033[" in plain(render(found, color=True))


def test_many_programs_are_cut_short() -> None:
    one = finding(FindingKind.HIDDEN)
    one.programs = [Program(f"/bin/p{n}", (), (f"p{n}",)) for n in range(6)]
    assert "and by 3 other programs" in plain(render([one]))
    assert "asked for by p5" in plain(render([one], verbose=True))


# --- the log ---


def test_the_log_is_json_lines_in_order_of_time(writer: Writer, tmp_path: Path) -> None:
    image = chain(writer)
    odd = b'/q"\\\x01\xff\xc3\xa9\xed\xa0\x80'
    writer.put(Kind.ACCESS, odd, b"../q", pid=12, image=image, access=1, op=1, error=2, outcome=Outcome.HIDE, port=1)
    writer.put(Kind.ACCESS, b"/plain", b"/plain", pid=99, ppid=7, image=12345, time=1)
    out = tmp_path / "log"
    with Snapshot(writer.fd, CAPACITY) as snapshot, out.open("wb") as file:
        assert snapshot.write_log(file.fileno(), ["open", "stat"], ["stray", "libbar"]) == 2
    first, second = (json.loads(line) for line in out.read_text().splitlines())
    assert first == {
        "pid": 99, "ppid": 7, "exe": None, "op": "open", "access": "read", "path": "/plain",
        "verdict": "allow", "port": None, "errno": 0,
    }  # fmt: skip
    assert os.fsencode(second.pop("path")) == odd
    assert second == {
        "pid": 12, "ppid": 11, "exe": "/usr/lib/gcc/cc1", "op": "stat", "access": "stat", "asked": "../q",
        "verdict": "hide", "port": "libbar", "errno": 2,
    }  # fmt: skip


def test_a_file_that_the_build_cut_off_is_told_and_hurts_nobody(writer: Writer) -> None:
    writer.find(chain(writer), Outcome.HIDE, "read", b"/x")
    with Snapshot(writer.fd, CAPACITY) as snapshot:
        assert len(list(snapshot.events([Kind.FINDING]))) == 1
        os.ftruncate(writer.fd, 100)
        assert len(list(snapshot.events([Kind.FINDING]))) == 1, "a snapshot is a copy"
    with Snapshot(writer.fd, CAPACITY) as snapshot:
        assert list(snapshot.events([Kind.FINDING])) == []
    os.ftruncate(writer.fd, 0)
    with Snapshot(writer.fd, CAPACITY) as snapshot:
        assert list(snapshot.events([Kind.FINDING])) == []
        assert snapshot.unsound


def test_a_start_told_while_the_file_is_copied_is_no_damage(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    class Lib:
        """The core, with a program that starts between two steps."""

        def __getattr__(self, name: str) -> Any:
            return getattr(lib, name)

        def pt_events_copy(self, fd: int, copy: int, size: int) -> int:
            event, _keep = writer._event(Kind.PROCESS, b"/bin/late", pid=9)
            appending = os.open(f"/proc/self/fd/{writer.fd}", os.O_RDWR | os.O_APPEND)
            lib.pt_events_image(writer.events, appending, event)
            os.close(appending)
            return int(lib.pt_events_copy(fd, copy, size))

    with monkeypatch.context() as patched:
        patched.setattr(eventlog, "lib", Lib())
        with Snapshot(writer.fd, CAPACITY) as snapshot:
            assert snapshot.sound and snapshot.ends_sound
            assert list(snapshot.events([Kind.PROCESS])) == []
    with Snapshot(writer.fd, CAPACITY) as snapshot:
        assert [event.path for event in snapshot.events([Kind.PROCESS])] == [b"/bin/late"]
    os.ftruncate(writer.fd, CAPACITY)
    with Snapshot(writer.fd, CAPACITY) as snapshot:
        assert snapshot.sound and not snapshot.ends_sound


def test_a_copy_is_the_file_byte_for_byte_and_leaves_out_pages_of_zeros(tmp_path: Path) -> None:
    path, size = tmp_path / "written", (1 << 20) + 12345
    holes = [0, 4095, 4096, 3 * 4096 - 1, (64 << 10) - 1, 64 << 10, (64 << 10) + 4096 * 3, 512 << 10, size - 1]
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size)
        for number, at in enumerate(holes):
            os.pwrite(file.fileno(), bytes([number + 1]), at)
        os.pwrite(file.fileno(), b"x" * 9000, 700_001)
        os.pwrite(file.fileno(), bytes(200_000), 800_000)
    copy = os.memfd_create("copy")
    with path.open("rb") as file:
        assert lib.pt_events_copy(file.fileno(), copy, size) == 0
    assert os.pread(copy, size + 1, 0) == path.read_bytes()
    assert os.fstat(copy).st_blocks * 512 <= (len(holes) + 4) * 4096
    with path.open("rb") as file:
        assert lib.pt_events_copy(copy, file.fileno(), size) == -errno.EINVAL, "not open for writing"
    os.close(copy)


def test_the_line_about_folded_noise_is_no_warning_of_its_own() -> None:
    found = [finding(FindingKind.HIDDEN, "/usr/share/locale/x"), finding(FindingKind.ABSENT, "/a")]
    messages = render(found, noise=lambda one: "locale" if "locale" in one.path else None)
    assert [level for level, _ in messages] == ["info", "info"]
    assert plain(messages) == ""
    beside = render(
        [*found, finding(FindingKind.HIDDEN, "/real")], noise=lambda one: "x" if "loc" in one.path else None
    )
    assert beside[-1][0] == "warn" and "1 known harmless probe not shown" in beside[-1][1]
