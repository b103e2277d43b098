"""Copies of protected programs (macOS), with programs made by the cross compiler and signed as they would be there."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import lief
import pytest
from tracelib_session import SOURCE

from porttrace import machosign, sipcopy
from porttrace.filemap import Filemap
from porttrace.policy import Image, Policy
from porttrace.sipcopy import SipCache, SipError, identity, thin

ARM64E = 0x80000002  # with the bit that says "ABI version in the high byte", as Apple's have it


def compiled(machine: str, directory: Path) -> bytes:
    source = directory / "true.c"
    source.write_text("int main(void) { return 0; }\n")
    output = directory / machine
    command = [sys.executable, "-m", "ziglang", "cc", "-target", f"{machine}-macos.11.0", "-o", output, source]
    subprocess.run(command, check=True)
    return output.read_bytes()


def fat(*slices: tuple[int, int, bytes]) -> bytes:
    header, body = struct.pack(">II", 0xCAFEBABE, len(slices)), b""
    for cpu, subtype, data in slices:
        header += struct.pack(">IIIII", cpu, subtype, 16384 + len(body), len(data), 14)
        body += data + b"\0" * (-len(data) % 16384)
    return header.ljust(16384, b"\0") + body


@pytest.fixture(scope="module")
def x86_64(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return compiled("x86_64", tmp_path_factory.mktemp("x86_64"))


@pytest.fixture(scope="module")
def arm64(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return compiled("aarch64", tmp_path_factory.mktemp("arm64"))


@pytest.fixture(scope="module")
def apples(x86_64: bytes, arm64: bytes) -> bytes:
    """A program as Apple ships them: x86_64 and arm64e."""
    arm64e = arm64[:8] + struct.pack("<I", ARM64E) + arm64[12:]
    return fat((0x01000007, 3, x86_64), (0x0100000C, ARM64E, arm64e))


def machines(data: bytes) -> list[tuple[str, int]]:
    """Told by another reader of the format."""
    binary = lief.MachO.parse(list(data))
    assert binary is not None
    return [(b.header.cpu_type.name, b.header.cpu_subtype & 0xFFFFFF) for b in binary]


def test_arm64e_becomes_arm64(apples: bytes) -> None:
    assert machines(thin(apples, ("arm64", "x86_64"))) == [("X86_64", 3), ("ARM64", 0)]
    assert machines(thin(apples, ("arm64",))) == [("ARM64", 0)]
    assert machines(thin(apples, ("x86_64",))) == [("X86_64", 3)]


def test_a_slice_for_plain_arm64_is_preferred(arm64: bytes) -> None:
    marked = arm64[:-4] + b"mark"
    for order in (
        [(0x0100000C, ARM64E, arm64), (0x0100000C, 0, marked)],
        [(0x0100000C, 0, marked), (0x0100000C, ARM64E, arm64)],
    ):
        assert thin(fat(*order), ("arm64",)) == marked


def test_a_thin_program_stays_as_it_is(x86_64: bytes) -> None:
    assert thin(x86_64, ("arm64", "x86_64")) == x86_64


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"#!/bin/sh\n", "64-bit"),
        (b"", "64-bit"),
        (struct.pack(">II", 0xCAFEBABE, 3), "damaged"),
        (fat((0x0100000C, 0, b"x" * 64)), "damaged"),
        (struct.pack(">IIIIIII", 0xCAFEBABE, 1, 0x0100000C, 0, 16384, 1 << 30, 14).ljust(40, b"\0"), "damaged"),
    ],
)
def test_what_is_no_program_is_named_so(data: bytes, words: str) -> None:
    with pytest.raises(SipError, match=words):
        thin(data, ("arm64", "x86_64"))


def test_no_slice_is_left(x86_64: bytes) -> None:
    with pytest.raises(SipError, match="no slice for arm64"):
        thin(x86_64, ("arm64",))


class Signer:
    """Signs, and remembers what."""

    def __init__(self) -> None:
        self.signed: list[str] = []

    def __call__(self, path: Path) -> None:
        self.signed.append(path.name)
        sipcopy.sign_ourselves(path)


def well_signed(program: Path) -> bool:
    """Each slice ad hoc, each page as it was signed."""
    return all(machosign.check(body) & 2 for _, _, body in machosign.slices(program.read_bytes()))


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, apples: bytes) -> Path:
    """A directory that stands for /usr/bin, with the program `sh`."""
    directory = tmp_path / "usr" / "bin"
    directory.mkdir(parents=True)
    monkeypatch.setattr(sipcopy, "_PROTECTED", (os.fsencode(tmp_path / "usr") + b"/",))
    (directory / "sh").write_bytes(apples)
    (directory / "sh").chmod(0o755)
    return directory


def cache(tmp_path: Path, signer: Signer) -> SipCache:
    return SipCache(tmp_path / "cache", ("arm64", "x86_64"), signer)


def test_a_program_is_copied_once(tmp_path: Path, system: Path) -> None:
    signer = Signer()
    first = cache(tmp_path, signer).copy(bytes(system / "sh"))
    assert machines(first.read_bytes()) == [("X86_64", 3), ("ARM64", 0)]
    assert well_signed(first)
    assert first.name == "sh"
    assert first.stat().st_mode & 0o777 == 0o755
    assert cache(tmp_path, signer).copy(bytes(system / "sh")) == first
    assert cache(tmp_path, signer).lookup(bytes(system / "sh")) == first
    assert signer.signed == ["sh"]


def test_another_state_of_the_program_is_another_copy(tmp_path: Path, system: Path, x86_64: bytes) -> None:
    signer = Signer()
    one = cache(tmp_path, signer)
    first = one.copy(bytes(system / "sh"))
    (system / "sh").write_bytes(x86_64)
    assert one.lookup(bytes(system / "sh")) is None
    second = one.copy(bytes(system / "sh"))
    assert second != first
    assert second.read_bytes() == machosign.sign(x86_64, "sh")
    assert one.made == 2


def test_the_same_content_is_signed_once(tmp_path: Path, system: Path, apples: bytes) -> None:
    signer = Signer()
    (system / "bash").write_bytes(apples)
    one = cache(tmp_path, signer)
    assert one.copy(bytes(system / "bash")).samefile(one.copy(bytes(system / "sh")))
    os.utime(system / "sh", ns=(1, 1))
    assert one.lookup(bytes(system / "sh")) is None
    one.copy(bytes(system / "sh"))
    assert signer.signed == ["bash"]


def test_two_at_once_sign_once(tmp_path: Path, system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signer = Signer()
    found: list[Path] = []
    links: list[object] = []
    link = os.link
    monkeypatch.setattr(sipcopy.os, "link", lambda *names: (links.append(names), link(*names)))
    barrier = threading.Barrier(4)

    def work() -> None:
        mine = cache(tmp_path, signer)
        barrier.wait()
        found.append(mine.copy(bytes(system / "sh")))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1 and len(found) == 4
    assert signer.signed == ["sh"]
    assert len(links) == 1, "a copy that may be starting is not put in its own place again"


def test_a_failed_signature_leaves_nothing(tmp_path: Path, system: Path) -> None:
    def refuse(path: Path) -> None:
        raise SipError("codesign: no")

    with pytest.raises(SipError, match=r"cannot copy .*/sh: codesign: no"):
        SipCache(tmp_path / "cache", ("arm64",), refuse).copy(bytes(system / "sh"))
    assert {p.name for p in (tmp_path / "cache").iterdir()} == {"lock", "objects"}
    signer = Signer()
    assert cache(tmp_path, signer).copy(bytes(system / "sh")).exists()


def test_a_signature_that_does_not_fit_is_no_copy(tmp_path: Path, system: Path) -> None:
    """The system would kill what is started from it."""

    def badly(path: Path) -> None:
        sipcopy.sign_ourselves(path)
        data = bytearray(path.read_bytes())
        data[machosign.slices(bytes(data))[0][2].index(b"__text") + (1 << 14)] ^= 1  # first slice's first page
        path.write_bytes(data)

    with pytest.raises(SipError, match="page 0 is another one"):
        SipCache(tmp_path / "cache", ("arm64", "x86_64"), badly).copy(bytes(system / "sh"))
    assert {p.name for p in (tmp_path / "cache").iterdir()} == {"lock", "objects"}
    with pytest.raises(SipError, match="not signed"):
        SipCache(tmp_path / "cache", ("x86_64",), lambda path: None).copy(bytes(system / "sh"))


def test_codesign_is_asked_where_our_own_signature_starts_nothing(
    tmp_path: Path, system: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def signer(name: str) -> Callable[[Path], None]:
        def sign(path: Path) -> None:
            tried.append(name)
            sipcopy.sign_ourselves(path)

        return sign

    def slices(directory: Path, sign: Callable[[Path], None], *_: object) -> tuple[str, ...]:
        sample = tmp_path / "sample"
        sample.write_bytes((system / "sh").read_bytes())
        sign(sample)
        return ("x86_64",) if tried == ["own", "codesign"] else ()

    monkeypatch.setattr(sipcopy, "SIGNERS", (signer("own"), signer("codesign")))
    monkeypatch.setattr(sipcopy, "runnable_slices", slices)
    assert well_signed(SipCache(tmp_path / "cache").copy(bytes(system / "sh")))
    assert tried == ["own", "codesign", "codesign"]


def restricted(directory: Path) -> bytes:
    """A program with a segment that makes the loader drop DYLD_*."""
    source = directory / "restricted.c"
    source.write_text(
        'int main(void) { return 0; }\n__attribute__((used, section("__RESTRICT,__restrict"))) static char none[1];\n'
    )
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "x86_64-macos.11.0", "-o", directory / "out", source]
    subprocess.run(command, check=True)
    return (directory / "out").read_bytes()


def test_a_segment_that_forbids_libraries_does_not_come_along(tmp_path: Path, x86_64: bytes) -> None:
    data = restricted(tmp_path)

    def segments(program: bytes) -> set[str]:
        binary = lief.MachO.parse(list(program))
        assert binary is not None
        return {segment.name for segment in binary.at(0).segments}

    assert "__RESTRICT" in segments(data)
    assert segments(thin(data, ("x86_64",))) == segments(data) - {"__RESTRICT"} | {"__UNRESTRICTED"}
    assert thin(x86_64, ("x86_64",)) == x86_64


def test_a_copy_is_not_made_again_by_another_process(tmp_path: Path, system: Path) -> None:
    """Nor written, nor looked into: what is there by name is taken."""
    first = cache(tmp_path, Signer()).copy(bytes(system / "sh"))
    before = first.stat()
    words = "import sys; from pathlib import Path; from porttrace import sipcopy; "
    words += "sipcopy._PROTECTED = (sys.argv[1].encode(),); "
    words += "c = sipcopy.SipCache(Path(sys.argv[2])); print(c.copy(sys.argv[3].encode()), c.made)"
    arguments = [tmp_path / "usr", tmp_path / "cache", system / "sh"]
    asked = [sys.executable, "-P", "-c", words, *map(os.fspath, arguments)]
    said = subprocess.run(asked, capture_output=True, text=True, check=True, cwd=tmp_path).stdout.split()
    assert said == [os.fspath(first), "0"]
    after = first.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_only_protected_programs_are_copied(tmp_path: Path, system: Path, apples: bytes) -> None:
    one = cache(tmp_path, Signer())
    (tmp_path / "mine").write_bytes(apples)
    with pytest.raises(SipError, match="not a program that the system protects"):
        one.copy(bytes(tmp_path / "mine"))
    (system / "sudo").write_bytes(apples)
    (system / "sudo").chmod(0o4755)
    with pytest.raises(SipError, match="changes its user"):
        one.copy(bytes(system / "sudo"))
    (system / "link").symlink_to("sh")
    with pytest.raises(SipError, match="not a program"):
        one.copy(bytes(system / "link"))
    with pytest.raises(SipError, match="No such file"):
        one.copy(bytes(system / "none"))


def test_a_cache_that_others_can_write_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(0o777)
    with pytest.raises(SipError, match="changed by others"):
        SipCache(tmp_path / "cache")


def test_slices_that_start_are_found_by_trying(tmp_path: Path, system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sipcopy.platform, "machine", lambda: "arm64")

    def only_x86_64(program: Path) -> bool:
        return well_signed(program) and machines(program.read_bytes()) == [("X86_64", 3)]

    signer = Signer()
    assert sipcopy.runnable_slices(tmp_path, signer, only_x86_64, system / "sh") == ("x86_64",)
    assert sipcopy.runnable_slices(tmp_path, signer, lambda p: True, system / "sh") == ("arm64", "x86_64")
    monkeypatch.setattr(sipcopy.platform, "machine", lambda: "x86_64")
    assert sipcopy.runnable_slices(tmp_path, signer, lambda p: True, system / "sh") == ("x86_64",)
    assert not [p for p in tmp_path.iterdir() if p.name.startswith("tmp")]


# The C half makes the name by itself: compiled here against a made-up system header, so that both can be compared.
_HARNESS = r"""
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "exec.h"
#include "../ask.h"
struct pt_state pt;
static char room[20480];
static struct pt_slab slab = { .cap = sizeof room, .extra = room };
bool pt_sip_copy(const char *path, size_t len, char *out, size_t size);
struct pt_slab *pt_slab_take(size_t least) { return least <= sizeof room ? &slab : NULL; }
void pt_slab_give(struct pt_slab *s) { (void)s; }
int sys_long_lstat(const char *path, struct stat *st) { return lstat(path, st) ? -1 : 0; }
ssize_t sys_ask(const struct sockaddr_un *to, const void *question, size_t size, void *answer, size_t room,
		int timeout_ms)
{
	(void)room, (void)timeout_ms;
	const char *q = question;
	printf("%s|%s|%d|%.*s\n", to->sun_path, q, q[strlen(q) + 1], (int)(size - strlen(q) - 2), q + strlen(q) + 2);
	memcpy(answer, "\0\0", 2);
	return 2;
}
int main(int argc, char **argv)
{
	char out[4096];
	(void)argc;
	strcpy(pt.path, argv[1]);
	pt.path_len = (uint32_t)strlen(pt.path);
	bool there = pt_sip_copy(argv[2], strlen(argv[2]), out, sizeof out);
	printf("%s|%d\n", out, there);
	return 0;
}
"""


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("sip")
    csrc = SOURCE / "csrc"
    (directory / "harness.c").write_text(_HARNESS)
    subprocess.run(
        [sys.executable, csrc / "gen_calls.py", csrc / "calls.table", "ops.h", directory / "ops.h"], check=True
    )
    words = ["cc", "-std=gnu11", "-D_GNU_SOURCE", "-Dst_mtimespec=st_mtim", f"-I{directory}", f"-I{csrc}"]
    words += [f"-I{csrc / 'tracelib'}", "-o", directory / "harness", directory / "harness.c"]
    subprocess.run([*words, csrc / "tracelib" / "sip.c"], check=True)
    return directory / "harness"


def test_both_halves_make_the_same_name(tmp_path: Path, system: Path, harness: Path) -> None:
    session = tmp_path / "s"
    session.mkdir()
    one = cache(tmp_path, Signer())
    (session / "sip").symlink_to(one.directory)
    os.utime(system / "sh", ns=(5, 1234567890_000000007))
    asked = [harness, session / "12" / "tracelib.dylib", system / "sh"]
    question, answer = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.splitlines()
    assert question == f"{session}/socket|12|2|{system}/sh"
    name = identity(bytes(system / "sh"), (system / "sh").stat())
    assert answer == f"{session}/sip/{name}/sh|0"
    copy = one.copy(bytes(system / "sh"))
    answers = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.splitlines()
    assert answers == [f"{session}/sip/{name}/sh|1"], "nothing is asked where the copy is there"
    assert Path(answers[0].removesuffix("|1")).samefile(copy)


def test_the_session_is_asked_over_a_stream(tmp_path: Path) -> None:
    import socket

    from porttrace.askserver import Asked, AskServer, ask
    from porttrace.filemap import Action

    made: list[bytes] = []

    def copier(path: bytes) -> None:
        if path == b"/bin/none":
            raise SipError("no")
        made.append(path)

    server = AskServer(tmp_path / "socket", {os.getuid()}, socket.SOCK_STREAM)
    try:
        server.policies[1] = Asked(Image(Policy(Filemap(), Filemap()).compile()), lambda path: None, False)
        assert ask(tmp_path / "socket", 1, b"/x", kind=socket.SOCK_STREAM).action is Action.DENY

        def copied(path: bytes) -> bytes:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
                client.connect(os.fspath(tmp_path / "socket"))
                for byte in b"1\0\2" + path:  # as slowly as a stream may come
                    client.send(bytes((byte,)))
                client.shutdown(socket.SHUT_WR)
                answer = b""
                while part := client.recv(100):
                    answer += part
                return answer

        assert copied(b"/bin/sh") == b"", "without a copier there is no copy"
        server.copier = copier
        assert copied(b"/bin/sh") == b"\0\0"
        assert copied(b"/bin/none") == b""
        assert made == [b"/bin/sh"]
    finally:
        server.close()
