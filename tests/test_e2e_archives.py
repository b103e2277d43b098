"""Installing from archives, and archives that do not depend on when and how often they were made."""

from __future__ import annotations

import hashlib
import io
import shutil
import tarfile
from pathlib import Path

import pytest
from conftest import Prefix, PrefixFactory, prefix_script


def packages(prefix: Prefix) -> dict[str, bytes]:
    """The archives by name."""
    directory = prefix.path / "var/macports/packages"
    return {file.name: file.read_bytes() for file in directory.glob("*")} if directory.is_dir() else {}


def test_two_builds_in_prefixes_of_one_name_are_byte_identical(make_prefix: PrefixFactory, open_tmp: Path) -> None:
    made = []
    for number in range(2):
        prefix = make_prefix("prefix")
        # what the clock says must not matter: neither in the tree nor where the build looks
        for port in ("libbar", "foo"):
            prefix.port("-t", "install", port)
        prefix.port("-t", "archive", "foo")
        prefix.port("-t", "archive", "libbar")
        made.append(packages(prefix))
        prefix.path.rename(open_tmp / f"away{number}")
    assert len(made[0]) == 2
    assert {name: hashlib.sha256(data).hexdigest() for name, data in made[0].items()} == {
        name: hashlib.sha256(data).hexdigest() for name, data in made[1].items()
    }


@pytest.fixture
def archived(prefix: Prefix) -> Prefix:
    """A prefix with archives of foo and libbar, and nothing installed."""
    prefix.port("-t", "install", "libbar")
    prefix.port("-t", "archive", "foo")
    prefix.port("-t", "archive", "libbar")
    prefix.port("uninstall", "libbar")
    prefix.port("clean", "foo", "libbar")
    assert prefix.installed() == set() and len(packages(prefix)) == 2
    return prefix


def test_b_installs_from_archives_and_builds_nothing(archived: Prefix) -> None:
    files = archived.path / "var/macports/packages"
    # no compiler, no distfiles: what is installed can only come from the archives
    shutil.rmtree(archived.path / "var/macports/distfiles", ignore_errors=True)
    result = archived.port("-d", "-t", "-b", "install", "foo")
    assert archived.installed() == {"foo", "libbar"}
    for phase in ("Fetching", "Extracting", "Configuring", "Building", "Staging"):
        assert phase not in result.text, result.text
    (image,) = (archived.path / "var/macports/software/foo").glob("foo-*")
    assert image.read_bytes() == (files / image.name).read_bytes()
    assert (archived.path / "bin/foo").is_file()
    assert f"{archived.path}/bin/foo" in archived.port("contents", "foo").out
    archived.port("uninstall", "foo")
    assert not (archived.path / "bin/foo").exists()


def test_an_archive_at_hand_is_taken_and_s_forces_source(archived: Prefix) -> None:
    assert "Building libbar" not in archived.port("-t", "install", "libbar").text
    archived.port("uninstall", "libbar")
    assert "Building libbar" in archived.port("-t", "-s", "install", "libbar").text


def test_an_archive_of_another_portfile_is_taken_only_with_b(archived: Prefix) -> None:
    portfile = archived.tree / "devel/libbar/Portfile"
    portfile.write_text(portfile.read_text() + "\n# changed\n")
    assert "Building libbar" in archived.port("install", "libbar").text
    archived.port("uninstall", "libbar")
    result = archived.port("-b", "install", "libbar")
    assert "Building libbar" not in result.text
    assert "was made from another Portfile" in result.text


def test_trace_mode_wants_a_traced_archive(archived: Prefix) -> None:
    archived.port("clean", "--archive", "libbar")
    archived.port("archive", "libbar")
    archived.port("clean", "libbar")
    result = archived.port("-v", "-t", "install", "libbar")
    assert "its build was not traced" in result.text and "Building libbar" in result.text


def test_b_without_an_archive_is_an_error(archived: Prefix) -> None:
    archived.port("clean", "--archive", "libbar")
    result = archived.fails("-t", "-b", "install", "foo")
    assert "there is no archive of libbar @1.2_0" in result.err and "leave -b out" in result.err
    assert archived.installed() == set()
    assert "Building" not in result.text


@pytest.mark.parametrize("words", [("-b", "-s", "install", "foo"), ("-b", "build", "foo")])
def test_b_where_it_makes_no_sense(prefix: Prefix, words: tuple[str, ...]) -> None:
    assert "-b" in prefix.fails(*words).err


def damage(file: Path, how: str) -> None:
    """Write an archive again, with something wrong in it."""
    import bz2

    out = io.BytesIO()
    with tarfile.open(file) as old, tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as new:
        for member in old:
            data = old.extractfile(member).read() if member.isreg() else b""  # type: ignore[union-attr]
            if member.name == "./+CONTENTS" and how == "version":
                data = data.replace(b"@portversion 1.2", b"@portversion 1.3")
            if member.name == "./+CONTENTS" and how == "outside":
                data += b"etc/shadow\n"
            if member.name == "./+CONTENTS" and how == "dots":
                data += str(file.parents[3]).encode()[1:] + b"/../../etc/shadow\n"
            member.size = len(data) if member.isreg() else 0
            new.addfile(member, io.BytesIO(data))
    file.write_bytes(b"nonsense" if how == "bytes" else bz2.compress(out.getvalue()))


@pytest.mark.parametrize("how", ["version", "outside", "dots", "bytes"])
def test_a_wrong_archive_is_refused_and_nothing_is_changed(archived: Prefix, how: str) -> None:
    (file,) = (archived.path / "var/macports/packages").glob("libbar-*")
    damage(file, how)
    result = archived.fails("-b", "install", "libbar")
    assert str(file) in result.err
    assert archived.installed() == set()
    assert not list((archived.path / "var/macports/software/libbar").glob("*"))


def test_clean_takes_its_options_after_the_action(archived: Prefix) -> None:
    archived.port("-k", "install", "foo")
    distfiles = archived.path / "var/macports/distfiles"
    kept = {file.name for file in distfiles.rglob("*") if file.is_file()}
    archived.port("clean", "--archive", "foo")
    assert [name.partition("-")[0] for name in packages(archived)] == ["libbar"]
    assert {file.name for file in distfiles.rglob("*") if file.is_file()} == kept
    archived.port("clean", "--dist", "foo")
    assert {file.name for file in distfiles.rglob("*") if file.is_file()} == kept - {"foo-1.0.tar.gz"}
    archived.port("clean", "--all", "libbar")
    assert packages(archived) == {}
    assert "unknown option --every" in archived.fails("clean", "--every", "foo").err


def test_prefixes_of_tests_are_alike(open_tmp: Path) -> None:
    """What the reproducibility test stands on: the tree's times differ from copy to copy unless they are kept."""
    first = prefix_script.make(open_tmp / "one") / "var/macports/sources/ports/devel/foo/Portfile"
    second = prefix_script.make(open_tmp / "two") / "var/macports/sources/ports/devel/foo/Portfile"
    assert first.stat().st_mtime == second.stat().st_mtime


def test_macports_conf_chooses_the_type_of_archives(make_prefix: PrefixFactory) -> None:
    prefix = make_prefix(portarchivetype="tar.zst")
    prefix.port("-t", "install", "tally")
    (image,) = (prefix.path / "var/macports/software/tally").iterdir()
    assert image.name.endswith(".tar.zst") and image.read_bytes()[:4] == b"\x28\xb5\x2f\xfd"
    assert (prefix.path / "bin/tally").is_file()
