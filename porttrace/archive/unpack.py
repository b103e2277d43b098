"""Reading and unpacking archives, which may be damaged or hostile."""

from __future__ import annotations

import bz2
import grp
import gzip
import lzma
import os
import pwd
import stat
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

import zstandard

from porttrace.archive.model import ArchiveError, Contents


@contextmanager
def _reader(archive: Path) -> Iterator[tarfile.TarFile]:
    try:
        with archive.open("rb") as raw:
            magic = raw.read(6)
            raw.seek(0)
            stream: IO[bytes]
            if magic.startswith(b"\x28\xb5\x2f\xfd"):
                stream = cast(IO[bytes], zstandard.ZstdDecompressor().stream_reader(raw))
            elif magic.startswith(b"BZh"):
                stream = cast(IO[bytes], bz2.BZ2File(raw))
            elif magic.startswith(b"\x1f\x8b"):
                stream = cast(IO[bytes], gzip.GzipFile(fileobj=raw))
            elif magic.startswith(b"\xfd7zXZ"):
                stream = cast(IO[bytes], lzma.LZMAFile(raw))  # noqa: SIM115 -- raw is what holds the file
            else:
                stream = raw
            with tarfile.open(fileobj=stream, mode="r|", errors="surrogateescape") as tar:
                yield tar
                while stream.read(1 << 16):  # the compressor's checksum comes after the tar's end
                    pass
    except FileNotFoundError as error:
        if error.filename in (str(archive), archive):
            raise ArchiveError(f"the archive {archive} does not exist; install the port again") from error
        raise
    except (tarfile.TarError, zstandard.ZstdError, EOFError, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise ArchiveError(f"the archive {archive} is damaged ({error}); remove it and build the port again") from error
    except OSError as error:
        if error.errno is None:  # bz2 says "Invalid data stream" this way
            raise ArchiveError(f"the archive {archive} is damaged ({error}); remove it and build again") from error
        raise


def read_control(archive: Path, only: str = "") -> dict[str, bytes]:
    """The archive's own files (``+CONTENTS`` and so on) by name; with `only` no further than to that one, which stands
    near the beginning. Raises ArchiveError."""
    found: dict[str, bytes] = {}
    try:
        with _reader(archive) as tar:
            for member in tar:
                name = _relative(member.name, archive)
                if "/" not in name and name.startswith("+") and member.isreg():
                    file = tar.extractfile(member)
                    found[name] = file.read() if file is not None else b""
                    if name == only:
                        break
    except OSError as error:
        raise ArchiveError(f"the archive {archive} cannot be read: {error.strerror}") from error
    if "+CONTENTS" not in found:
        raise ArchiveError(f"the archive {archive} has no +CONTENTS; it is not an archive of a port")
    return found


def read_contents(archive: Path) -> Contents:
    """What +CONTENTS says: the files, which of them are binaries, and its ``@key value`` lines. Raises ArchiveError."""
    files: list[bytes] = []
    binary: dict[bytes, bool] = {}
    keys: dict[str, str] = {}
    ignore = False
    for line in read_control(archive, "+CONTENTS")["+CONTENTS"].split(b"\n"):
        if ignore:
            ignore = False
        elif line == b"@ignore":
            ignore = True
        elif line.startswith(b"@comment binary:"):
            if files:
                binary[files[-1]] = line.endswith(b":1")
        elif line.startswith(b"@comment "):
            continue
        elif line.startswith(b"@"):
            key, _, value = line[1:].decode("utf-8", "surrogateescape").partition(" ")
            keys[key] = f"{keys[key]}\n{value}" if key in keys else value
        elif line:
            files.append(b"/" + line)
    return Contents(tuple(files), binary, keys)


def _relative(name: str, archive: Path) -> str:
    """A member's path below the directory of extraction. Raises ArchiveError where it would lead out of it."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts:
        raise ArchiveError(f"the archive {archive} holds {name!r}, which leads outside; it is not one of ours")
    return "/".join(parts)


def extract(archive: Path, directory: Path) -> None:
    """Unpack everything but the archive's own files below ``directory``, which exists and is empty.

    Nothing is written outside, whatever the archive holds: members never pass through links. Modes and times are set;
    owners too, where this is root. Raises ArchiveError.
    """
    root = os.geteuid() == 0
    made: set[str] = {""}
    late: list[tuple[str, tarfile.TarInfo]] = []

    def parents(relative: str) -> None:
        parent = relative.rpartition("/")[0]
        if parent not in made:
            parents(parent)
            (directory / parent).mkdir(mode=0o755)
            made.add(parent)

    try:
        with _reader(archive) as tar:
            for member in tar:
                relative = _relative(member.name, archive)
                if not relative or relative.startswith("+"):
                    continue
                parents(relative)
                target = directory / relative
                if member.isdir():
                    if relative not in made:
                        target.mkdir(mode=0o700)
                        made.add(relative)
                    late.append((relative, member))
                    continue
                if member.issym():
                    target.symlink_to(member.linkname)
                elif member.islnk():
                    # Only to something that this archive has put in place itself, and not through a link.
                    source = _relative(member.linkname, archive)
                    if source.rpartition("/")[0] not in made:
                        raise ArchiveError(f"the archive {archive} links {relative!r} to a file that it does not hold")
                    os.link(directory / source, target, follow_symlinks=False)
                    continue
                elif member.isreg():
                    source_file = tar.extractfile(member)
                    with target.open("xb") as out:
                        while source_file is not None and (block := source_file.read(1 << 20)):
                            out.write(block)
                else:
                    raise ArchiveError(f"the archive {archive} holds {relative!r}, neither file, directory nor link")
                _attributes(target, member, root)
        for relative, member in sorted(late, key=lambda item: item[0], reverse=True):
            _attributes(directory / relative, member, root)
    except OSError as error:
        name = f" ({error.filename})" if error.filename else ""
        raise ArchiveError(f"the archive {archive} cannot be unpacked: {error.strerror}{name}") from error


def _attributes(target: Path, member: tarfile.TarInfo, root: bool) -> None:
    if root:
        uid, gid = member.uid, member.gid
        if member.uname:
            try:
                uid = pwd.getpwnam(member.uname).pw_uid
            except KeyError:
                uid = member.uid
        if member.gname:
            try:
                gid = grp.getgrnam(member.gname).gr_gid
            except KeyError:
                gid = member.gid
        os.chown(target, uid, gid, follow_symlinks=False)
    if not member.issym():
        target.chmod(stat.S_IMODE(member.mode))
    os.utime(target, (member.mtime, member.mtime), follow_symlinks=False)
