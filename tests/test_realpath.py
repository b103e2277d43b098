"""Where a path leads: as the standard library says, which asks the kernel about each directory on the way."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from porttrace.realpath import both_names, real_path


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A directory with links of every kind, in which the test is."""
    (tmp_path / "dir/sub").mkdir(parents=True)
    (tmp_path / "dir/file").write_text("")
    for name, target in (
        ("link", "dir"),
        ("far", "link/sub"),
        ("up", "dir/sub/.."),
        ("dangling", "nowhere/at/all"),
        ("loop", "loop"),
        ("caf\udce9", "dir"),
    ):
        (tmp_path / name).symlink_to(target)
    monkeypatch.chdir(tmp_path)
    return os.fsencode(tmp_path)


NAMES = [
    *(b"", b".", b"..", b"/", b"//", b"/usr/bin/awk", b"dir", b"dir/file", b"dir/", b"link/file", b"far/../file"),
    *(b"up/sub", b"dangling", b"dangling/x", b"loop", b"loop/x", b"absent", b"link/absent/../x", b"dir/file/x"),
    *(b"caf\xe9/sub", b"/proc/self/cwd", b"link/" + b"n" * 300, b"d/" * 3000),
]


@pytest.mark.parametrize("name", NAMES, ids=[str(n) for n in range(len(NAMES))])
@pytest.mark.parametrize("absolute", [False, True])
def test_it_is_what_the_standard_library_says(name: bytes, absolute: bool, place: bytes) -> None:
    path = os.path.join(place, name) if absolute else name  # noqa: PTH118 - bytes
    assert real_path(path) == os.path.realpath(path)


def test_what_no_path_can_be_is_refused_as_ever() -> None:
    for path in (b"a\0b", b"/usr\0"):
        with pytest.raises(ValueError, match="null"):
            os.path.realpath(path)
        with pytest.raises(ValueError, match="null"):
            real_path(path)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it is the standard library that answers")
def test_the_c_library_answers(place: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: bytes) -> bytes:
        raise AssertionError(path)

    monkeypatch.setattr(os.path, "realpath", refuse)
    assert real_path(b"far") == place + b"/dir/sub"


def test_a_place_has_one_name_or_two(place: bytes) -> None:
    assert both_names(place + b"/dir") == [place + b"/dir"]
    assert both_names(place + b"/far") == [place + b"/far", place + b"/dir/sub"]
