"""What the macOS library does: both its halves are run here, over a made-up macOS (darwin_machine.py)."""

from __future__ import annotations

import ctypes
import os
import platform
import socket
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import darwin_machine
import pytest
from darwin_machine import DT_DIR, DT_REG, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR, O_CREAT, O_SYMLINK, Image, Library, Mac
from test_macos_library import built
from test_sipcopy import ARM64E, compiled, fat, restricted
from tracelib_session import Session

from porttrace import machosign
from porttrace.askserver import Asked, AskServer
from porttrace.diskname import spelt
from porttrace.errors import PorttraceError
from porttrace.filemap import Filemap
from porttrace.policy import Image as PolicyImage
from porttrace.policy import Ownership, Policy
from porttrace.sipcopy import identity

if platform.machine() != "x86_64" or sys.platform != "linux":
    pytest.skip("NOT CHECKED: behaviour of the macOS library, which is run on x86_64 Linux", allow_module_level=True)

WORLD = {
    "/": "d", "/System": "d", "/System/Volumes": "d", "/System/Volumes/Data": "d", "/Users": "d", "/Users/old": "f",
    "/opt": "d", "/opt/seen": "f", "/opt/secret": "d", "/opt/secret/x": "f", "/opt/work": "d", "/opt/work/a": "f",
    "/opt/work/out": "l ../secret/x", "/opt/work/prog": "f",
    "/opt/work/dir": "l ../secret", "/opt/work/sub": "d", "/private": "d", "/private/tmp": "d",
    "/private/tmp/f": "f", "/tmp": "l private/tmp", "/Volumes": "d", "/Volumes/Case": "d",
    "/Volumes/Case/secret": "d", "/Volumes/Case/secret/x": "f",
    "/Volumes/Case/SECRET": "d", "/Volumes/Case/SECRET/x": "f",
}  # fmt: skip
RULES = ("rw:/opt/work=+", "r:/opt/secret=-", "r:/Volumes/Case/secret=-", "r:/private/tmp=-", "r:/=+")


KINDS = ("x86_64", "arm64")
#: Of tests. Programs for arm64 are tried on both: bench/mutants.py leaves out the half that runs slowly, not these.
ON = [f"on_{kind}" for kind in KINDS]


@cache
def image(kind: str, universal: Path) -> Image:
    return Image(universal.read_bytes(), kind)


@dataclass
class Machine:
    """A process with the library in it."""

    session: Session
    mac: Mac
    library: Library

    @property
    def kind(self) -> str:
        return "x86_64" if self.library.image.inode64 else "arm64"

    @property
    def stats(self) -> str:
        """What stat is called for inodes of 64 bits."""
        return f"stat{self.library.image.inode64}"

    def open(self, path: str, flags: int = 0) -> int:
        """0, or the errno with which it fails."""
        return self.library.call("open", path.encode(), flags, 0o644)[1]

    def stat(self, path: str) -> int:
        return self.library.call(self.stats, path.encode(), bytes(144))[1]

    def lstat(self, path: str) -> int:
        return self.library.call(f"l{self.stats}", path.encode(), bytes(144))[1]

    def found(self) -> set[str]:
        return {event.path for event in self.session.findings()}


@pytest.fixture(params=KINDS, ids=ON)
def machine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with Session(*RULES) as session:
        # The start-up volume ignores case, one of the others does not.
        mac = Mac(str(session.top), dict(WORLD), folding=("/opt", "/users", "/system", "/private", "/bin"))
        yield Machine(session, mac, Library(image(request.param, built(tmp_path_factory)), mac))
        assert mac.unknown == [], "the library called what this machine does not have"


HIDDEN = [
    "/opt/secret/x",
    "/opt/work/out",
    "/opt/work/../secret/x",
    "/opt/Secret/X",
    "/OPT/secret/x",
    "/.vol/1/{inode}",
    "/.vol/1/{directory}/x",
    "/System/Volumes/Data/opt/secret/x",
    "/system/volumes/data/opt/secret/X",
    "/opt/secret/x/..namedfork/rsrc",
]


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("path", HIDDEN)
def test_no_name_leads_past_a_rule(machine: Machine, path: str, warm: bool) -> None:
    """Whatever a hidden file is called, also when the directories on the way are known already."""
    path = path.format(inode=machine.mac.inode("/opt/secret/x"), directory=machine.mac.inode("/opt/secret"))
    if path.startswith(("/OPT", "/system")):
        machine.mac.folding += ("",)
    if warm:
        for near in ("/opt/seen", "/opt/work/a", "/System/Volumes/Data/opt/seen", "/.vol/1/999"):
            machine.stat(near)
    assert (machine.stat(path), machine.open(path), machine.stat(path)) == (ENOENT,) * 3
    assert machine.found() == {"/opt/secret/x"}, "it is told by the one name that counts"
    assert not [call for call in machine.mac.reached if call[1] == path], "the kernel has not done it"


def test_a_hidden_link_is_none_in_other_letters(machine: Machine) -> None:
    """On the way, and as the last: rules speak of its name on the disk. Where it leads may be seen."""
    machine.mac.files |= {"/opt/secret/link": "l /opt/seen", "/opt/hidden": "l /opt/work"}
    with Session("r:/opt/hidden=-", *RULES) as session:
        machine.mac.session = str(session.top)
        library = Library(machine.library.image, machine.mac)
        for path in (b"/opt/hidden/a", b"/opt/HIDDEN/a", b"/opt/Hidden", b"/opt/SECRET/link"):
            assert library.call(machine.stats, path, bytes(144)) == (-1, ENOENT), path
        assert {event.path for event in session.findings()} == {"/opt/hidden", "/opt/secret/link"}


ONE, TWO = "caf\u00e9", "cafe\u0301"  # composed, and of letter and accent


@pytest.mark.parametrize("typed", [ONE, TWO, TWO.upper()])
@pytest.mark.parametrize("stands", [ONE, TWO])
def test_no_normal_form_leads_past_a_rule(machine: Machine, stands: str, typed: str) -> None:
    """However a rule was typed and however a program asks: what counts is how the name stands on the disk."""
    mac = machine.mac
    mac.files |= {f"/opt/{stands}": "d", f"/opt/{stands}/x": "f", "/opt/straße": "f"}

    def ask(path: bytes) -> bytes | None:
        try:
            return os.fsencode(mac.walk(os.fsdecode(path), False).rpartition("/")[2])
        except darwin_machine.Failure:
            return None

    known: dict[bytes, bytes] = {}
    mac.folding += ("",)
    rules = [os.fsdecode(spelt(os.fsencode(f"/OPT/{name}"), known, ask)) for name in (f"{typed}/x", "STRASSE")]
    assert rules == [f"/opt/{stands}/x", "/opt/straße"]
    with Session(*(f"r:{rule}=-" for rule in rules), *RULES) as session:
        mac.session = str(session.top)
        library = Library(machine.library.image, mac)
        for name in (f"{ONE}/x", f"{TWO}/x", f"{ONE.upper()}/X", f"{TWO.title()}/x", "straße", "STRASSE"):
            for _ in range(2):
                assert library.call(machine.stats, f"/opt/{name}".encode(), bytes(144)) == (-1, ENOENT), name
        assert {event.path for event in session.findings()} == {f"/opt/{stands}/x", "/opt/straße"}
        assert library.call(machine.stats, f"/opt/{TWO}".encode(), bytes(144)) == (0, 0)


@pytest.mark.parametrize("program", ["/opt/work/" + "d" * length for length in (1, 255, 700)])
def test_a_process_is_told_with_its_program(machine: Machine, program: str) -> None:
    """For less room than any path may need, libproc gives no name at all."""
    machine.mac.program = program
    machine.library.start()
    assert [event.path for event in machine.session.events("process")] == [program]


def test_firmlinks_are_read_where_the_system_has_a_list(machine: Machine) -> None:
    """Of a release that joins other places than those that we know; also one that has another name on the volume."""
    mac = machine.mac
    mac.files |= {"/usr": "d", "/usr/share": "d", "/usr/share/firmlinks": "f", "/secret": "d", "/secret/x": "f"}
    mac.content["/usr/share/firmlinks"] = b"/Users\tUsers\n/opt\topt\n/opt/secret\tmoved/secret\n"
    mac.firmlinks = ("/Users", "/opt")
    assert machine.stat("/System/Volumes/Data/opt/secret/x") == ENOENT
    assert machine.found() == {"/opt/secret/x"}
    mac.files |= {"/System/Volumes/Data/moved": "d", "/System/Volumes/Data/moved/secret": "d"}
    assert machine.stat("/System/Volumes/Data/moved/secret") == ENOENT
    assert machine.found() == {"/opt/secret/x", "/opt/secret"}
    mac.files |= {"/System/Volumes/Data/private": "d", "/System/Volumes/Data/private/tmp": "d"}
    assert machine.stat("/System/Volumes/Data/private/tmp") == 0, "which is not on this list"


@pytest.mark.parametrize("damage", [b"", b"\n\n\t\n", b"x" * 9000, b"/opt", b"/opt\t", b"/opt\topt"])
def test_a_list_of_firmlinks_that_is_none(machine: Machine, damage: bytes) -> None:
    """Empty or too long for us: the one that we know. Else what stands in it, however it ends."""
    machine.mac.files |= {"/usr": "d", "/usr/share": "d", "/usr/share/firmlinks": "f"}
    machine.mac.content["/usr/share/firmlinks"] = damage
    hidden = damage in (b"", b"/opt", b"/opt\topt") or len(damage) > 8192
    assert (machine.stat("/System/Volumes/Data/opt/secret/x") == ENOENT) is hidden


@pytest.mark.parametrize(
    "path",
    ["/opt/seen", "/OPT/Seen", "/.vol/1/{inode}", "/System/Volumes/Data/opt/seen", "/opt/seen/..namedfork/rsrc"],
)
def test_what_may_be_seen_is_seen_by_every_name(machine: Machine, path: str) -> None:
    machine.mac.folding += ("",)
    path = path.format(inode=machine.mac.inode("/opt/seen"))
    assert (machine.stat(path), machine.open(path)) == (0, 0)
    assert machine.found() == set()


def test_other_letters_in_a_known_directory(machine: Machine) -> None:
    """The quick way must not take a name by its letters where a rule speaks of one of the directory's entries.

    By lstat: what follows links asks first whether the name is one, and comes to its letters on the disk by that.
    """
    assert machine.lstat("/opt/seen") == 0
    assert machine.lstat("/opt/SECRET") == ENOENT
    assert machine.library.call("access", b"/opt/Secret", 0) == (-1, ENOENT)
    assert machine.stat("/opt/SECRET") == ENOENT
    assert machine.found() == {"/opt/secret"}


def test_case_counts_where_the_volume_says_so(machine: Machine) -> None:
    assert machine.open("/Volumes/Case/secret/x") == ENOENT
    assert machine.open("/Volumes/Case/SECRET/x") == 0
    assert machine.found() == {"/Volumes/Case/secret/x"}


def test_links_into_private(machine: Machine) -> None:
    assert machine.open("/tmp/f") == ENOENT
    assert machine.found() == {"/private/tmp/f"}


def test_the_link_itself(machine: Machine) -> None:
    assert machine.open("/opt/work/out", O_SYMLINK) == 0
    assert machine.library.call(f"l{machine.stats}", b"/opt/work/out", bytes(144)) == (0, 0)


@pytest.mark.parametrize("twin", ["open", "open$NOCANCEL", "__open", "__open_nocancel"])
def test_twins_of_open_judge(machine: Machine, twin: str) -> None:
    assert machine.library.call(twin, b"/opt/secret/x", 0) == (-1, ENOENT)
    assert machine.library.call(twin, b"/opt/work/new", O_CREAT | 1, 0o644)[1] == 0
    assert machine.library.call(twin, b"/Users/new", O_CREAT | 1, 0o644) == (-1, 13)


TWO_PATHS = ["rename", "renamex_np", "clonefile", "exchangedata", "link"]


@pytest.mark.parametrize("name", TWO_PATHS)
def test_both_paths_are_judged(machine: Machine, name: str) -> None:
    call = machine.library.call
    assert call(name, b"/opt/secret/x", b"/opt/work/new", 0)[1] == ENOENT
    assert call(name, b"/opt/work/a", b"/Users/old" if name == "exchangedata" else b"/Users/new", 0)[1] == 13
    assert machine.found() >= {"/opt/secret/x"}
    assert not machine.mac.reached
    assert call(name, b"/opt/work/a", b"/opt/work/a" if name == "exchangedata" else b"/opt/work/new", 0) == (0, 0)


@pytest.mark.parametrize("name", ["renameatx_np", "clonefileat"])
def test_both_paths_are_judged_from_descriptors(machine: Machine, name: str) -> None:
    call = machine.library.call
    assert call(name, -2, b"/opt/secret/x", -2, b"/opt/work/new", 0)[1] == ENOENT
    assert call(name, -2, b"/opt/work/a", -2, b"/opt/work/new", 0) == (0, 0)


def test_a_hard_link_is_made_to_where_a_link_leads(machine: Machine) -> None:
    """macOS' link follows the last link too, unlike Linux'; its linkat does so where it is told to."""
    machine.mac.files |= {"/opt/work/away": "l /Users/old", "/opt/work/inside": "l a"}
    call, follow = machine.library.call, 0x40
    for link, errno in (("out", ENOENT), ("away", 13)):
        old = f"/opt/work/{link}".encode()
        assert call("link", old, b"/opt/work/new") == (-1, errno)
        assert call("linkat", -2, old, -2, b"/opt/work/new", follow) == (-1, errno)
        assert not machine.mac.reached, "the system was not asked"
        assert call("linkat", -2, old, -2, b"/opt/work/new", 0) == (0, 0), "of the link itself"
        machine.mac.reached.clear()
    assert call("link", b"/opt/work/inside", b"/opt/work/new") == (0, 0)
    assert machine.mac.passed[-1] == ("link", ["/opt/work/a", "/opt/work/new"])


def test_getattrlist_judges(machine: Machine) -> None:
    want = struct.pack("<HHIIIII", 5, 0, 1, 0, 0, 0, 0)
    assert machine.library.call("getattrlist", b"/opt/secret/x", want, bytes(64), 64, 0) == (-1, ENOENT)
    assert machine.library.call("getattrlist", b"/opt/seen", want, bytes(512), 512, 0)[1] == 0


def dirent(name: str, kind: int) -> bytes:
    """struct dirent of <sys/dirent.h> with 64-bit inodes."""
    size = (21 + len(name) + 1 + 7) // 8 * 8
    return (struct.pack("<QQHHB", 7, 0, size, len(name), kind) + name.encode()).ljust(size, b"\0")


def bulk(name: str, error: bool = False) -> bytes:
    """An entry of getattrlistbulk with ATTR_CMN_RETURNED_ATTRS and ATTR_CMN_NAME."""
    head = struct.pack("<5I", 0x80000001 | (0x20000000 if error else 0), 0, 0, 0, 0) + (bytes(4) if error else b"")
    text = name.encode() + b"\0"
    body = head + struct.pack("<iI", 8, len(text)) + text
    return struct.pack("<I", 4 + (len(body) + 3) // 4 * 4) + body.ljust((len(body) + 3) // 4 * 4, b"\0")


def listed(machine: Machine) -> int:
    fd = machine.library.call("open", b"/opt", 0x100000)[0]
    assert fd > 0
    return fd


def test_getdirentries64_leaves_out(machine: Machine) -> None:
    fd, buffer = listed(machine), ctypes.create_string_buffer(4096)
    machine.mac.listings = [
        dirent("secret", DT_DIR),  # nothing is left of it: the next part is asked for
        dirent("seen", DT_REG) + dirent("secret", DT_DIR) + dirent("SECRET", DT_DIR) + dirent("work", DT_DIR),
    ]
    position = ctypes.create_string_buffer(8)
    left = machine.library.call("__getdirentries64", fd, buffer, 4096, position)[0]
    want = dirent("seen", DT_REG) + dirent("SECRET", DT_DIR) + dirent("work", DT_DIR)
    assert buffer.raw[:left] == want
    assert machine.library.call("__getdirentries64", fd, buffer, 4096, position)[0] == 0


def test_getattrlistbulk_leaves_out(machine: Machine) -> None:
    fd, buffer = listed(machine), ctypes.create_string_buffer(4096)
    want = struct.pack("<HHIIIII", 5, 0, 0x80000001, 0, 0, 0, 0)
    machine.mac.listings = [bulk("secret"), bulk("seen") + bulk("secret", error=True) + bulk("work")]
    assert machine.library.call("getattrlistbulk", fd, want, buffer, 4096, 0)[0] == 2
    assert buffer.raw.startswith(bulk("seen") + bulk("work"))


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Real programs, with slices as Apple's have them; and one with a segment that forbids libraries."""
    directory = tmp_path_factory.mktemp("programs")
    intel, arm = compiled("x86_64", directory), compiled("aarch64", directory)
    apple = arm[:8] + struct.pack("<I", ARM64E) + arm[12:]
    slices = {"x86_64": (0x01000007, 3, intel), "arm64": (0x0100000C, 0, arm), "arm64e": (0x0100000C, ARM64E, apple)}
    made = {name: data for name, (_, _, data) in slices.items()}
    for names in ("x86_64+arm64", "x86_64+arm64e", "arm64+arm64e"):
        made[names] = fat(*(slices[name] for name in names.split("+")))
    made["i386"] = struct.pack("<II", 0xFEEDFACE, 7).ljust(64, b"\0")
    made["ppc"] = struct.pack(">II", 0xFEEDFACE, 18).ljust(64, b"\0")
    made["ppc64"] = struct.pack(">II", 0xFEEDFACF, 0x01000012).ljust(64, b"\0")
    made["fat of 64 bits"] = fat_64(intel, 0x01000007)
    made["arm64e, fat of 64 bits"] = fat_64(apple, 0x0100000C, ARM64E)
    return made


def fat_64(data: bytes, cpu: int, subtype: int = 3) -> bytes:
    return struct.pack(">IIIIQQII", 0xCAFEBABF, 1, cpu, subtype, 16384, len(data), 14, 0).ljust(16384, b"\0") + data


BOTH, INTEL, NONE = ("x86_64", "arm64"), ("x86_64",), ()
#: Programs, and what a process runs as that is to give them the library: a native one goes on to native ones, a
#: translated one is x86_64 as what it starts.
ENTERED = {
    "x86_64": BOTH, "arm64": BOTH, "x86_64+arm64": BOTH, "x86_64+arm64e": INTEL, "arm64e": NONE, "arm64+arm64e": NONE,
    "i386": NONE, "ppc": NONE, "ppc64": NONE, "fat of 64 bits": BOTH, "arm64e, fat of 64 bits": NONE,
}  # fmt: skip


@pytest.mark.parametrize("kind", ENTERED)
def test_no_variable_for_a_program_that_would_be_killed(
    machine: Machine, programs: dict[str, bytes], kind: str
) -> None:
    """An inserted library without the slice that the program runs as is fatal to it."""
    entered = machine.kind in ENTERED[kind]
    untold = started(machine, programs[kind], entered)
    assert untold == ([] if entered else ["other ABI"]), "what is not entered is told"


SET_ID = [(0o4755, True), (0o2755, True), (0o2745, False), (0o755, False)]  # without x the group's bit means locks


@pytest.mark.parametrize(("mode", "other"), SET_ID)
def test_a_program_with_anothers_rights_is_told(
    machine: Machine, programs: dict[str, bytes], mode: int, other: bool
) -> None:
    """The loader drops the variable by itself."""
    machine.mac.bits["/opt/work/prog"] = mode, 0
    assert started(machine, programs["x86_64"], True) == (["set-user-ID"] if other else [])


@pytest.mark.parametrize("mode", [0o4711, 0o711])
def test_a_program_that_cannot_be_read(machine: Machine, programs: dict[str, bytes], mode: int) -> None:
    machine.mac.unreadable.add("/opt/work/prog")
    machine.mac.bits["/opt/work/prog"] = mode, 0
    assert started(machine, programs["x86_64"], True) == (["set-user-ID"] if mode & 0o4000 else [])


def test_a_program_is_protected_by_its_flag_too(machine: Machine, programs: dict[str, bytes]) -> None:
    machine.mac.bits["/opt/work/prog"] = 0o755, 0x80000  # SF_RESTRICTED
    assert started(machine, programs["x86_64"], False) == ["protected by the system"]


@pytest.mark.parametrize("count", [2, 0x7FFFFFFF])
def test_slices_that_a_fat_file_only_says_to_have(machine: Machine, programs: dict[str, bytes], count: int) -> None:
    """What lies behind the end of a file, or of its first part, is not looked at."""
    cpu, subtype = 0x01000007, 3
    file = struct.pack(">IIIIIII", 0xCAFEBABE, count, cpu, subtype, 28, 4, 0) + b"\0" * 4
    assert started(machine, file, True) == []


@pytest.mark.parametrize(
    ("path", "error"),
    [("missing", ENOENT), ("a/x", ENOTDIR), ("loop", ELOOP), ("n" * 300, ENAMETOOLONG)],
)
def test_a_program_that_is_not_there_is_not_announced(machine: Machine, path: str, error: int) -> None:
    """Along PATH most are not."""
    machine.mac.files["/opt/work/loop"] = "l loop"
    argv = (ctypes.c_void_p * 1)(None)
    where = ctypes.addressof(argv)
    before = machine.session.events("exec")
    assert machine.library.call("execve", f"/opt/work/{path}".encode(), where, where) == (-1, error)
    assert machine.session.events("exec") == before
    assert not machine.mac.started, "the kernel would look once more"


PLACES = [
    "/System/x",
    "/bin/x",
    "/sbin/x",
    "/usr/x",
    "/usr/bin/x",
    "/usr/local/x",
    "/usr/local/bin/x",
    "/usrs/x",
    "/opt/bin/x",
]


@pytest.mark.parametrize("path", PLACES)
def test_programs_are_protected_by_where_they_lie(machine: Machine, programs: dict[str, bytes], path: str) -> None:
    """What the system guards, but for what its owner puts below /usr/local."""
    parents = [str(parent) for parent in Path(path).parents]
    machine.mac.files |= {**dict.fromkeys(parents, "d"), path: "f"}
    machine.mac.content[path] = programs["x86_64"]
    guarded = path.startswith(("/System/", "/bin/", "/sbin/", "/usr/")) and not path.startswith("/usr/local/")
    execve(machine, path, ["x"])
    assert [event.asked for event in machine.session.events("untraced")] == ["protected by the system"] * guarded


def test_only_files_are_read_to_see_what_they_are(machine: Machine, programs: dict[str, bytes]) -> None:
    """A device that is read may do something."""
    machine.mac.files["/opt/work/prog"] = "d"
    assert started(machine, programs["i386"], True) == []


@pytest.mark.parametrize(
    "text",
    [
        b"echo a script without a first line\n" * 40,
        b"\x7fELF" + bytes(range(256)) * 8,
        b"x",
        b"# /opt/secret/x\n",
        b"x! /opt/secret/x\n",
        struct.pack("<II", 0xFEEDFACF, 7),  # for i386, if there were more of it
    ],
    ids=["script", "elf", "short", "comment", "exclamation", "cut off"],
)
def test_what_is_no_program_is_not_told(machine: Machine, text: bytes) -> None:
    """The kernel refuses it, and whoever gives it to a shell then starts that."""
    assert started(machine, text, True) == []


def started(machine: Machine, program: bytes, entered: bool) -> list[str]:
    """Start a program from one that is traced: has it the library? Why not, as the session is told."""
    machine.mac.content["/opt/work/prog"] = program
    variable = f"DYLD_INSERT_LIBRARIES={machine.session.dir}/tracelib.dylib".encode()
    keep = [ctypes.create_string_buffer(word) for word in (variable, b"HOME=/x", b"prog")]
    envp = (ctypes.c_void_p * 3)(*(ctypes.addressof(word) for word in keep[:2]), None)
    argv = (ctypes.c_void_p * 2)(ctypes.addressof(keep[2]), None)
    assert machine.library.call("execve", b"/opt/work/prog", ctypes.addressof(argv), ctypes.addressof(envp))[0] == -1
    ((path, environment),) = machine.mac.started
    assert path == "/opt/work/prog" and "HOME=/x" in environment
    assert any(word.startswith("DYLD_INSERT_LIBRARIES=") for word in environment) is entered
    return [event.asked for event in machine.session.events("untraced") if event.path == "/opt/work/prog"]


def protected(machine: Machine, program: bytes, copied: bool) -> str:
    """/bin/sh, which the system protects; the path of its copy, which lies in the session where `copied`."""
    mac = machine.mac
    mac.files |= {"/bin": "d", "/bin/sh": "f", "/opt/work/script": "f", "/opt/work/linked": "f", "/opt/sh": "l /bin/sh"}
    mac.files["/opt/work/split"] = "f"
    mac.content["/opt/work/split"] = b"#!/bin/sh -S x -e\n"
    mac.content |= {"/bin/sh": program, "/opt/work/script": b"#! /bin/sh -e\n", "/opt/work/linked": b"#!/opt/sh\n"}
    info = SimpleNamespace(st_dev=1, st_ino=mac.inode("/bin/sh"), st_size=len(program), st_mtime_ns=10**9 + 1)
    copy = machine.session.top / "sip" / identity(b"/bin/sh", info) / "sh"  # type: ignore[arg-type]
    if copied:
        copy.parent.mkdir(parents=True)
        copy.touch()
    return str(copy)


STARTS = [
    ("/bin/sh", ["sh", "-c", "x"], ["sh", "-c", "x"]),
    ("/opt/sh", ["sh"], ["sh"]),
    ("/opt/work/script", ["script", "1", "2"], ["/bin/sh", "-e", "/opt/work/script", "1", "2"]),
    ("/opt/work/linked", ["linked"], ["/opt/sh", "/opt/work/linked"]),
    # as env -S has it: this kernel makes a word of each, and the program sees to the rest
    ("/opt/work/split", ["split"], ["/bin/sh", "-S", "x", "-e", "/opt/work/split"]),
]


def execve(machine: Machine, path: str, words: list[str]) -> tuple[str, list[str], bool]:
    """What the kernel is then told to start, with which words, and whether the library is to be in it."""
    keep = [ctypes.create_string_buffer(word.encode()) for word in words]
    argv = (ctypes.c_void_p * (len(keep) + 1))(*(ctypes.addressof(word) for word in keep), None)
    envp = (ctypes.c_void_p * 1)(None)
    machine.library.call("execve", path.encode(), ctypes.addressof(argv), ctypes.addressof(envp))
    ((started_as, environment),) = machine.mac.started
    return started_as, machine.mac.arguments, any(word.startswith("DYLD_INSERT_LIBRARIES=") for word in environment)


@pytest.mark.parametrize(("path", "words", "given"), STARTS)
def test_a_protected_program_is_started_from_its_copy(
    machine: Machine, programs: dict[str, bytes], path: str, words: list[str], given: list[str]
) -> None:
    """Also as a script's interpreter, with the words that the kernel would have made."""
    copy = protected(machine, programs["x86_64+arm64e"], True)
    assert execve(machine, path, words) == (copy, given, True)
    assert machine.session.events("untraced") == []


@pytest.mark.parametrize(("path", "words", "given"), STARTS)
def test_a_protected_program_without_a_copy_is_told(
    machine: Machine, programs: dict[str, bytes], path: str, words: list[str], given: list[str]
) -> None:
    protected(machine, programs["x86_64+arm64e"], False)
    started_as, arguments, entered = execve(machine, path, words)
    assert (started_as, arguments, entered) == (path, words, False), "the kernel does as it was asked"
    told = [(event.path, event.asked) for event in machine.session.events("untraced")]
    assert told == [("/bin/sh", "protected by the system")]


@pytest.mark.parametrize("kind", ["made", "made, interrupted", "refused", "lost", "a directory"])
def test_a_copy_is_asked_for(machine: Machine, programs: dict[str, bytes], kind: str) -> None:
    """Once, over the session's own socket, which the core answers: with the copy, or not; believed is what is there."""
    made = kind.startswith("made")
    if kind == "made, interrupted":
        machine.mac.interruptions = {"send": 3, "poll": 3, "recv": 3}
    copy = Path(protected(machine, programs["x86_64+arm64e"], False))
    machine.mac.sockets = {}
    asked: list[bytes] = []

    def copier(path: bytes) -> None:
        asked.append(path)
        if kind == "refused":
            raise PorttraceError("it cannot be copied")
        if made:
            copy.parent.mkdir(parents=True)
            copy.touch()
        elif kind == "a directory":
            copy.mkdir(parents=True, exist_ok=True)

    server = AskServer(machine.session.top / "socket", {os.getuid()}, socket.SOCK_STREAM)
    server.copier = copier
    server.policies[1] = Asked(PolicyImage(Policy(Filemap(), Filemap()).compile()), lambda path: None, False)
    try:
        for _ in range(2):
            machine.mac.started.clear()
            started_as = str(copy) if made else "/bin/sh"
            assert execve(machine, "/bin/sh", ["sh", "-c", "x"]) == (started_as, ["sh", "-c", "x"], made)
    finally:
        server.close()
    assert asked == [b"/bin/sh"] * (1 if made else 2), "a copy that is there is not asked for"
    told = [event.asked for event in machine.session.events("untraced")]
    assert set(told) == (set() if made else {"protected by the system"})
    assert machine.mac.sockets == {}, "no descriptor is left open"


BANGS = [
    (b"#!/bin/sh\n", ["/bin/sh"]),
    (b"#!\t/bin/sh\t-e  -u \nexit", ["/bin/sh", "-e", "-u"]),
    (b"#! /bin/sh -e # with care\n", ["/bin/sh", "-e"]),
    (b"#!/bin/sh#\n", ["/bin/sh"]),
    (b"#!/bin/sh\0x -e\n", ["/bin/sh"]),
    (b"#!/bin/sh " + b"x " * 250 + b"\n", ["/bin/sh", *["x"] * 250]),
    (b"#!/bin/sh " + b"x" * 501 + b"\n", ["/bin/sh", "x" * 501]),
    # no scripts for the kernel
    (b"#!/bin/sh", None),
    (b"#!/bin/sh " + b"x" * 502 + b"\n", None),
    (b"#! \n/bin/sh\n", None),
    (b"#!# /bin/sh\n", None),
    (b"#!", None),
]


@pytest.mark.parametrize(("text", "words"), BANGS, ids=lambda value: repr(value)[:24])
def test_first_lines_of_scripts(
    machine: Machine, programs: dict[str, bytes], text: bytes, words: list[str] | None
) -> None:
    """What the kernel makes words of, in the first 512 bytes, before the end of the line or a "#"."""
    copy = protected(machine, programs["x86_64+arm64e"], True)
    machine.mac.content["/opt/work/script"] = text
    script = "/opt/work/script"
    if words is None:
        assert execve(machine, script, ["script", "1"]) == (script, ["script", "1"], True)
    else:
        assert execve(machine, script, ["script", "1"]) == (copy, [*words, script, "1"], True)


def test_a_long_name_of_an_interpreter_is_judged(machine: Machine) -> None:
    name = "/opt/" + "work/../" * 60 + "secret/x"
    machine.mac.content["/opt/work/script"] = f"#!{name}\n".encode()
    machine.mac.files["/opt/work/script"] = "f"
    assert len(name) > 256
    kept = (ctypes.c_void_p * 1)(None)
    nothing = ctypes.addressof(kept)
    assert machine.library.call("execve", b"/opt/work/script", nothing, nothing) == (-1, ENOENT)
    assert machine.found() == {"/opt/secret/x"}
    assert not machine.mac.started


RUNTIME, REQUIRE_LV, RESTRICT = 0x10000, 0x2000, 0x800  # of a signature's flags
VARIABLES, LIBRARIES = "allow-dyld-environment-variables", "disable-library-validation"


def entitlements(*keys: str, value: str = "true") -> bytes:
    """As codesign writes them, with others around."""
    head = '<?xml version="1.0" encoding="UTF-8"?>\n<plist version="1.0">\n<dict>\n'
    filler = "".join(f"\t<key>com.example.{n}</key>\n\t<true/>\n" for n in range(80))
    said = "".join(f"\t<key>com.apple.security.cs.{key}</key>\n\t<{value}/>\n" for key in keys)
    return f"{head}{filler}{said}</dict>\n</plist>\n".encode()


def signed_with(data: bytes, flags: int, rights: bytes = b"", slot: int = 5) -> bytes:
    """A program with these flags in its signature, and entitlements behind its list of pages."""
    signed = machosign.sign(data, "prog")
    where = machosign.Slice.read(signed).signature
    assert where
    start = where[1]
    directory = bytearray(signed[start + 20 :])
    struct.pack_into(">I", directory, 12, struct.unpack_from(">I", directory, 12)[0] | flags)
    head = struct.pack(">III", 0xFADE0CC0, 28 + len(directory) + 8 + len(rights), 2)
    head += struct.pack(">IIII", 0, 28, slot, 28 + len(directory))
    return signed[:start] + head + bytes(directory) + struct.pack(">II", 0xFADE7171, 8 + len(rights)) + rights


HARDENED = [
    (0, b"", True),
    (RUNTIME, b"", False),
    (REQUIRE_LV, b"", False),
    (RUNTIME, entitlements(), False),
    (RUNTIME, entitlements(VARIABLES), False),  # the variable is read, and our library refused: fatal
    (RUNTIME, entitlements(LIBRARIES), False),
    (RUNTIME, entitlements(VARIABLES, LIBRARIES), True),
    (RUNTIME, entitlements(LIBRARIES, VARIABLES), True),
    (RUNTIME, entitlements(VARIABLES, LIBRARIES, value="false"), False),
    (REQUIRE_LV, entitlements(LIBRARIES), True),
]


@pytest.mark.parametrize("in_fat", ["", "first", "last"])
@pytest.mark.parametrize(("flags", "rights", "entered"), HARDENED)
def test_a_hardened_program_is_left_alone(
    machine: Machine, programs: dict[str, bytes], flags: int, rights: bytes, entered: bool, in_fat: str
) -> None:
    program = signed_with(programs["x86_64"], flags, rights)
    if in_fat:
        slices = [(0x0100000C, 0, programs["arm64"]), (0x01000007, 3, program)]
        program = fat(*(slices if in_fat == "last" else slices[::-1]))
    assert started(machine, program, entered) == ([] if entered else ["hardened"])


@pytest.mark.parametrize("slot", [2, 7])
def test_what_only_reads_like_entitlements_is_none(machine: Machine, programs: dict[str, bytes], slot: int) -> None:
    """The same text in another place of the signature: the kernel does not look there."""
    program = signed_with(programs["x86_64"], RUNTIME, entitlements(VARIABLES, LIBRARIES), slot)
    assert started(machine, program, False) == ["hardened"]


def test_what_is_no_signature_is_not_read_as_one(machine: Machine, programs: dict[str, bytes]) -> None:
    """Another load command, of the same shape, that leads there."""
    program = bytearray(signed_with(programs["x86_64"], RUNTIME))
    signature = machosign.Slice.read(bytes(program)).signature
    assert signature
    assert struct.unpack_from("<I", program, signature[0])[0] == 0x1D  # LC_CODE_SIGNATURE
    struct.pack_into("<I", program, signature[0], 0x26)  # LC_FUNCTION_STARTS
    assert started(machine, bytes(program), True) == []


@pytest.mark.parametrize("in_fat", [False, True])
def test_a_program_that_forbids_libraries_is_left_alone(
    machine: Machine, programs: dict[str, bytes], tmp_path: Path, in_fat: bool
) -> None:
    """By a segment, which may stand far behind in its commands, or by its signature."""
    segment = restricted(tmp_path)
    if in_fat:
        segment = fat((0x0100000C, 0, programs["arm64"]), (0x01000007, 3, segment))
    assert started(machine, segment, False) == ["restricted"]
    machine.mac.started.clear()
    assert started(machine, signed_with(programs["x86_64"], RESTRICT), False)[-1:] == ["restricted"]


def test_a_damaged_program_is_no_trouble(machine: Machine, programs: dict[str, bytes]) -> None:
    """Whatever lengths and places it tells: the loader's affair, and not the end of the process that starts it."""
    program = signed_with(programs["x86_64"], RUNTIME, entitlements(VARIABLES, LIBRARIES))
    where = machosign.Slice.read(program).signature
    assert where
    for at in (*range(16, 120, 4), *range(where[0], where[0] + 16, 4), *range(where[1], where[1] + 40, 4)):
        for word in (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x07\0\0\0"):
            machine.mac.content["/opt/work/prog"] = program[:at] + word + program[at + 4 :]
            nothing = (ctypes.c_void_p * 1)(None)
            where_ = ctypes.addressof(nothing)
            assert machine.library.call("execve", b"/opt/work/prog", where_, where_) == (-1, darwin_machine.ENOEXEC)


def test_the_library_finds_itself_and_tells_the_process(machine: Machine) -> None:
    machine.stat("/opt/seen")
    assert [event.path for event in machine.session.events("process")] == ["/bin/x"]


@pytest.mark.parametrize("kind", KINDS, ids=ON)
def test_what_the_loader_has_opened_before_is_used(kind: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Libraries of declared ports; and the library knows itself among them, by its address."""
    owners = Ownership(
        [(b"/opt/lib/liba.dylib", "mine"), (b"/opt/lib/libb.dylib", "another"), (b"/opt/secret/x", "mine")]
    )
    with Session("r:/opt=?", "r:/=+", owners=owners, closure=["mine"], prefix=Path("/opt")) as session:
        files = {**WORLD, "/opt/lib": "d", "/opt/lib/liba.dylib": "f", "/opt/lib/libb.dylib": "f"}
        mac = Mac(str(session.top), files)
        mac.images = ["/opt/lib/liba.dylib", None, "/usr/lib/libSystem.B.dylib", "/opt/lib/libb.dylib"]
        machine = Machine(session, mac, Library(image(kind, built(tmp_path_factory)), mac))
        assert machine.stat("/Users/old") == 0
        assert mac.unknown == []
        assert [event.path for event in session.events("used")] == ["/opt/lib/liba.dylib"]
        assert [event.path for event in session.events("process")] == ["/bin/x"]


PROFILE = "(version 1)\n(allow default)\n(deny file-write*)\n"


@pytest.mark.parametrize(
    ("text", "raised"),
    [
        (PROFILE, [PROFILE]),
        ("!" + PROFILE, ["!" + PROFILE]),
        ("", []),
        (PROFILE.ljust(8192), []),  # nothing would end it in memory: the core writes none like that
        (PROFILE.ljust(8193), [PROFILE.ljust(8193)]),
        (None, []),
    ],
    ids=["profile", "refused", "empty", "whole pages", "long", "none"],
)
@pytest.mark.parametrize("inside", [False, True])
def test_the_first_process_raises_the_fence(
    machine: Machine, text: str | None, raised: list[str], inside: bool
) -> None:
    """Whoever is in a sandbox already stays in it: there is but one for each process."""
    machine.mac.sandboxed = inside
    if text is not None:
        (machine.session.dir / "fence").write_text(text)
    # One of libSystem's own initialisers may call a wrapper first, when libSystem cannot load and allocate yet.
    assert machine.stat("/opt/secret/x") == ENOENT
    assert not machine.mac.profiles
    before = machine.library.errno
    machine.library.start()
    assert machine.library.errno == before
    assert machine.stat("/opt/secret/x") == ENOENT
    assert machine.mac.profiles == ([] if inside else raised)
    assert machine.mac.freed == ([4242] if machine.mac.profiles and raised[0][0] == "!" else [])


def test_the_machine_is_a_machine(tmp_path: Path) -> None:
    """What the tests above rest on: links, second names and case are found as a kernel would."""
    mac = Mac(str(tmp_path), dict(WORLD), folding=("/opt",))
    assert mac.walk("/opt/work/out", True) == "/opt/secret/x"
    assert mac.walk("/opt/SECRET/x", True) == "/opt/secret/x"
    assert mac.walk("/System/Volumes/Data/opt/seen", True) == "/opt/seen"
    assert mac.walk(f"/.vol/1/{mac.inode('/opt/secret')}/x", True) == "/opt/secret/x"
    with pytest.raises(darwin_machine.Failure):
        mac.walk("/Volumes/Case/Secret/x", True)
