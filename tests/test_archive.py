"""Archives: the same bytes from the same files, and nothing that leads out of them."""

from __future__ import annotations

import io
import os
import shutil
import stat
import subprocess
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from porttrace.archive import (
    TYPES,
    ArchiveError,
    Metadata,
    create,
    extract,
    outside_prefix,
    read_contents,
    read_control,
    scan,
)
from porttrace.identity import Identity

EPOCH = 1_600_000_000
META = Metadata(
    "foo",
    "1.0",
    2,
    "+x+a",
    description="d",
    long_description="long",
    homepage="https://example.invalid/",
    portfile=b"PortSystem 1.0\n",
    state=b"version: 2\n",
    depends=("bar-2_0",),
    extra={"source_date_epoch": str(EPOCH)},
)


def make_destroot(top: Path, order: int = 1) -> Path:
    prefix = top / "opt/local"
    names = ["bin/foo", "lib/libfoo.so", "share/doc/foo/a b", "share/doc/foo/ä", "share/" + "n" * 200]
    for name in names[::order]:
        file = prefix / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"\x7fELF..." if name.startswith(("bin", "lib/")) else name.encode())
        file.chmod(0o755 if name.startswith("bin") else 0o644)
    raw = os.fsencode(prefix) + b"/share/\xff"
    with open(raw, "wb") as out:  # noqa: PTH123
        out.write(b"not UTF-8")
    os.link(prefix / "bin/foo", prefix / "bin/hard")
    (prefix / "lib/libfoo.so.1").symlink_to("libfoo.so")
    (prefix / "lib/dangling").symlink_to("/nowhere/./at//all")
    os.utime(prefix / "share/doc/foo/a b", (1000, 1000))
    (prefix / "bin/foo").chmod(0o4755)
    return top


@pytest.mark.parametrize("kind", TYPES)
def test_the_same_files_give_the_same_bytes(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Made in another order, at another time, at another place, read in another order: one archive."""
    one = create(make_destroot(tmp_path / "one"), tmp_path / f"a.{kind}", META, epoch=EPOCH)
    time.sleep(1.1)
    scandir = os.scandir

    @contextmanager
    def backwards(path: Path) -> Iterator[list[os.DirEntry[str]]]:
        with scandir(path) as entries:
            yield sorted(entries, key=lambda entry: os.fsencode(entry.name), reverse=True)

    monkeypatch.setattr(os, "scandir", backwards)
    two = create(make_destroot(tmp_path / "elsewhere/two", -1), tmp_path / f"b.{kind}", META, epoch=EPOCH)
    assert one == two
    assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()


def test_one_byte_more_is_another_archive(tmp_path: Path) -> None:
    top = make_destroot(tmp_path / "one")
    create(top, tmp_path / "a.tbz2", META, epoch=EPOCH)
    (top / "opt/local/share/doc/foo/a b").write_text("changed")
    create(top, tmp_path / "b.tbz2", META, epoch=EPOCH)
    assert (tmp_path / "a.tbz2").read_bytes() != (tmp_path / "b.tbz2").read_bytes()


@pytest.mark.parametrize("kind", TYPES)
def test_what_goes_in_comes_out(tmp_path: Path, kind: str) -> None:
    top, out = make_destroot(tmp_path / "root"), tmp_path / "out"
    out.mkdir()
    contents = create(top, tmp_path / f"a.{kind}", META, epoch=EPOCH)
    extract(tmp_path / f"a.{kind}", out)
    assert scan(out) == scan(top) == contents
    for path in contents.files:
        before, after = (os.fsencode(base) + path for base in (top, out))
        a, b = os.lstat(before), os.lstat(after)
        assert (a.st_mode, a.st_size) == (b.st_mode, b.st_size)
        assert b.st_mtime == min(int(a.st_mtime), EPOCH)
        if stat.S_ISLNK(a.st_mode):
            assert os.readlink(before) == os.readlink(after)  # noqa: PTH115
        else:
            assert Path(os.fsdecode(before)).read_bytes() == Path(os.fsdecode(after)).read_bytes()
    assert (out / "opt/local/bin/foo").samefile(out / "opt/local/bin/hard")
    assert not list(out.glob("+*"))
    read = read_contents(tmp_path / f"a.{kind}")
    assert read.files == contents.files and dict(read.binary) == dict(contents.binary)
    assert read.binary[b"/opt/local/bin/foo"] and not read.binary[b"/opt/local/share/\xff"]
    assert read.keys["name"] == "foo-1.0_2+x+a" and read.keys["portvariant"] == "+a\n+x"
    assert read.keys["pkgdep"] == "bar-2_0" and read.keys["source_date_epoch"] == str(EPOCH)
    control = read_control(tmp_path / f"a.{kind}")
    assert set(control) == {"+COMMENT", "+CONTENTS", "+DESC", "+PORTFILE", "+STATE"}
    assert control["+PORTFILE"] == META.portfile and control["+DESC"] == b"long\n\nWWW: https://example.invalid/\n"


def test_tar_reads_it_as_macports_does(tmp_path: Path) -> None:
    create(make_destroot(tmp_path / "root"), tmp_path / "a.tbz2", META, epoch=EPOCH)
    done = subprocess.run(
        ["tar", "-xjOf", tmp_path / "a.tbz2", "./+CONTENTS"], capture_output=True, text=False, check=True
    )
    lines = done.stdout.split(b"\n")
    assert lines[0] == b"@name foo-1.0_2+x+a" and b"opt/local/bin/foo" in lines
    assert lines[lines.index(b"opt/local/share/\xff") + 1].startswith(b"@comment MD5:")
    assert lines[-3:-1] == [b"@ignore", b"+STATE"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_the_build_users_files_become_roots_and_others_stay(tmp_path: Path) -> None:
    top = make_destroot(tmp_path / "root")
    builder = Identity(12345, 23456, (), "builder")
    os.chown(top / "opt/local/share/doc/foo/a b", 12345, 23456)
    os.chown(top / "opt/local/lib/libfoo.so", 34567, 23456)
    create(top, tmp_path / "a.tbz2", META, epoch=EPOCH, build_user=builder)
    with tarfile.open(tmp_path / "a.tbz2") as tar:
        a_b = tar.getmember("./opt/local/share/doc/foo/a b")
        lib = tar.getmember("./opt/local/lib/libfoo.so")
    assert (a_b.uid, a_b.gid, a_b.uname) == (0, 0, "root")
    assert (lib.uid, lib.gid) == (34567, 0)


def test_destroots_that_cannot_be_packed(tmp_path: Path) -> None:
    for name, make, text in (
        ("fifo", lambda p: os.mkfifo(p / "pipe"), "neither file, directory nor link"),
        ("newline", lambda p: (p / "a\nb").write_text(""), "line break"),
        ("plus", lambda p: (p / "+x").write_text(""), "in the way"),
    ):
        top = tmp_path / name
        top.mkdir()
        make(top)
        with pytest.raises(ArchiveError, match=text) as caught:
            create(top, tmp_path / f"{name}.tbz2", META, epoch=EPOCH)
        assert "\n" not in str(caught.value)
    with pytest.raises(ArchiveError, match=r"destroot .* cannot be read"):
        create(tmp_path / "absent", tmp_path / "x.tbz2", META, epoch=EPOCH)
    with pytest.raises(ArchiveError, match="no known type of archive"):
        create(tmp_path, tmp_path / "x.rar", META, epoch=EPOCH)
    assert not list(tmp_path.glob("*.tbz2")) and not list(tmp_path.glob(".*tbz2*")), "nothing half done is left"


def test_an_archive_that_cannot_be_finished_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    top = make_destroot(tmp_path / "root")
    archive = tmp_path / "packages" / "a.tbz2"
    create(top, archive, META, epoch=EPOCH)
    before = archive.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tarfile.TarFile, "addfile", full)
    with pytest.raises(ArchiveError, match="cannot be written: No space left on device"):
        create(top, archive, META, epoch=EPOCH)
    assert [entry.name for entry in archive.parent.iterdir()] == ["a.tbz2"]
    assert archive.read_bytes() == before


def test_files_outside_the_prefix_are_found(tmp_path: Path) -> None:
    contents = scan(make_destroot(tmp_path / "root"))
    assert outside_prefix(contents, Path("/opt/local")) == []
    assert outside_prefix(contents, Path("/opt/loc")) == list(contents.files), "a prefix is whole components"
    assert outside_prefix(contents, Path("/opt/local/bin"), (Path("/opt/local/lib"), Path("/opt/local/share"))) == []


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("damage", ["cut", "flip", "end", "empty", "text"])
def test_damaged_archives_are_one_clear_line(tmp_path: Path, kind: str, damage: str) -> None:
    archive = tmp_path / f"a.{kind}"
    create(make_destroot(tmp_path / "root"), archive, META, epoch=EPOCH)
    data = bytearray(archive.read_bytes())
    if damage == "cut":
        del data[len(data) // 2 :]
    elif damage == "flip":
        middle = len(data) // 2
        data[middle : middle + 8] = bytes(255 - b for b in data[middle : middle + 8])
    elif damage == "end":  # the compressor's checksum over everything
        data[-2] ^= 0xFF
    elif damage == "empty":
        data.clear()
    else:
        data[:] = b"hello, I am not an archive at all\n" * 100
    archive.write_bytes(data)
    out = tmp_path / "out"
    out.mkdir()
    for read in (lambda: extract(archive, out), lambda: read_control(archive)):
        with pytest.raises(ArchiveError) as caught:
            read()
        assert str(archive) in str(caught.value) and "\n" not in str(caught.value)


def test_hostile_archives_stay_inside(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()

    def member(
        name: str, kind: bytes = tarfile.REGTYPE, link: str = "", data: bytes = b"evil"
    ) -> tuple[tarfile.TarInfo, bytes]:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, link
        info.size = len(data) if kind == tarfile.REGTYPE else 0
        return info, data

    hostile = {
        "dotdot": [member("./a/../../outside/x")],
        "absolute": [member(f"{outside}/x")],
        "through a link": [member("./l", tarfile.SYMTYPE, str(outside)), member("./l/x")],
        "directory over a link": [member("./l", tarfile.SYMTYPE, str(outside)), member("./l", tarfile.DIRTYPE)],
        "hard link out": [member("./h", tarfile.LNKTYPE, f"{outside}/secret")],
        "hard link through a link": [
            member("./l", tarfile.SYMTYPE, str(outside)),
            member("./h", tarfile.LNKTYPE, "./l/secret"),
        ],
        "device": [member("./dev", tarfile.CHRTYPE)],
        "twice": [member("./x"), member("./x")],
    }
    (outside / "secret").write_text("secret")
    mode = outside.stat().st_mode
    for number, (name, members) in enumerate(hostile.items()):
        archive, out = tmp_path / f"{number}.tar", tmp_path / f"out{number}"
        out.mkdir()
        with tarfile.open(archive, "w") as tar:
            for info, data in members:
                tar.addfile(info, io.BytesIO(data))
        with pytest.raises(ArchiveError, match="leads outside" if name in ("dotdot", "absolute") else None):
            extract(archive, out)
        assert [entry.name for entry in outside.iterdir()] == ["secret"], name
        assert outside.stat().st_mode == mode, name
        shutil.rmtree(out)
