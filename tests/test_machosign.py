"""Ad hoc signatures: ours against the linker's, read by another reader, and refused where a byte is another one."""

from __future__ import annotations

import struct

import lief
import pytest
from test_macos_library import built
from test_sipcopy import compiled, fat

from porttrace import machosign
from porttrace.machosign import SignatureError, check, sign

AD_HOC = 0x2


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return {machine: compiled(machine, tmp_path_factory.mktemp(machine)) for machine in ("x86_64", "aarch64")}


def test_the_linkers_own_signature_is_right(programs: dict[str, bytes]) -> None:
    """Made by other hands: what we check is what a signature is. For x86_64 the linker makes none."""
    assert check(programs["aarch64"]) & AD_HOC
    with pytest.raises(SignatureError, match="not signed"):
        check(programs["x86_64"])


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_signed(programs: dict[str, bytes], machine: str) -> None:
    data = programs[machine]
    signed = sign(data, "prog")
    assert check(signed) & AD_HOC
    assert sign(signed, "prog") == signed, "an old signature is replaced"
    binary = lief.MachO.parse(list(signed))
    assert binary is not None
    one = binary.at(0)
    assert lief.MachO.check_layout(one) == (True, "")
    assert one.code_signature.data_offset + one.code_signature.data_size == len(signed)
    (linkedit,) = [s for s in one.segments if s.name == "__LINKEDIT"]
    assert linkedit.file_offset + linkedit.file_size == len(signed)
    assert linkedit.virtual_size >= linkedit.file_size and not linkedit.virtual_size % (1 << 14)
    (text,) = [s for s in one.segments if s.name == "__TEXT"]
    directory = signed[one.code_signature.data_offset + 20 :]
    assert struct.unpack_from(">QQQ", directory, 64) == (text.file_offset, text.file_size, 1)
    assert b"prog\0" in directory
    # but for commands and the end the program is as it was
    commands = machosign.Slice.read(signed).commands_end
    end = min(len(data), one.code_signature.data_offset)
    assert signed[commands:end] == data[commands:end]


def test_a_changed_byte_is_seen_anywhere(programs: dict[str, bytes]) -> None:
    signed = sign(programs["x86_64"], "prog")
    start = machosign.Slice.read(signed).signature
    assert start
    for at in (40, 4096, start[1] - 1):
        changed = bytearray(signed)
        changed[at] ^= 1
        with pytest.raises(SignatureError, match=rf"page {at // 4096} is|damaged"):
            check(bytes(changed))
    with pytest.raises(SignatureError, match="another one"):
        check(signed[:-1] + bytes([signed[-1] ^ 1]))


def test_a_signature_is_about_all_of_the_program(programs: dict[str, bytes]) -> None:
    """One page fewer: what is in it could be anything."""
    signed = bytearray(sign(programs["x86_64"], "prog"))
    start = machosign.Slice.read(bytes(signed)).signature
    assert start
    at = start[1] + 20 + 28
    count, limit = struct.unpack_from(">II", signed, at)
    struct.pack_into(">II", signed, at, count - 1, (count - 1) << 12)
    assert limit > (count - 1) << 12
    with pytest.raises(SignatureError, match="not about all"):
        check(bytes(signed))


def test_a_relabelled_slice_must_be_signed_anew(programs: dict[str, bytes]) -> None:
    """What sipcopy does to arm64e."""
    labelled = programs["aarch64"][:8] + struct.pack("<I", 0x80000002) + programs["aarch64"][12:]
    with pytest.raises(SignatureError, match="page 0"):
        check(labelled)
    assert check(sign(labelled, "prog")) & AD_HOC


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d[:20], "no program"),
        (lambda d: b"#!/bin/sh\n".ljust(64), "no program"),
        (lambda d: d[:20] + struct.pack("<I", 1 << 30) + d[24:], "commands are damaged"),
        (lambda d: d[:36] + struct.pack("<I", 4) + d[40:], "commands are damaged"),
        (lambda d: d.replace(b"__LINKEDIT", b"__linkedit"), "no segment"),
    ],
)
def test_what_cannot_be_signed_is_named_so(programs: dict[str, bytes], change: object, words: str) -> None:
    assert callable(change)
    with pytest.raises(SignatureError, match=words):
        sign(change(programs["x86_64"]), "prog")


def test_no_room_for_the_command(programs: dict[str, bytes]) -> None:
    program = machosign.Slice.read(programs["x86_64"])
    count, size = struct.unpack_from("<II", program.data, 16)
    room = program.first_section - program.commands_end
    padding = struct.pack("<II", 0x7F, room) + bytes(room - 8)
    head = program.data[:16] + struct.pack("<II", count + 1, size + room) + program.data[24 : program.commands_end]
    with pytest.raises(SignatureError, match="no room"):
        sign(head + padding + program.data[program.first_section :], "prog")


def test_slices(programs: dict[str, bytes]) -> None:
    data = fat((0x01000007, 3, programs["x86_64"]), (0x0100000C, 0, programs["aarch64"]))
    assert [(cpu, body) for cpu, _, body in machosign.slices(data)] == [
        (0x01000007, programs["x86_64"]),
        (0x0100000C, programs["aarch64"]),
    ]


def test_a_damaged_signature_is_no_traceback(programs: dict[str, bytes]) -> None:
    signed = sign(programs["x86_64"], "prog")
    start = machosign.Slice.read(signed).signature
    assert start
    for at in range(start[1], min(start[1] + 120, len(signed)), 4):
        for word in (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff"):
            try:
                check(signed[:at] + word + signed[at + 4 :])
            except SignatureError:
                continue


def test_the_library_itself_is_signed(tmp_path_factory: pytest.TempPathFactory) -> None:
    data = built(tmp_path_factory).read_bytes()
    for cpu, _, body in machosign.slices(data):
        if cpu == 0x0100000C:  # the kernel runs nothing else there; x86_64 needs none
            assert check(body) & AD_HOC
