"""Known directories of the base system: right, never of the prefix, and believed only where nobody can change them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from tracelib_session import Session, compile_c

from porttrace._core import ffi, lib
from porttrace.filemap import Action, Filemap, Rule
from porttrace.places import known
from porttrace.policy import Image, Policy

ROOT = Rule(b"/", Action.ALLOW)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="on macOS the names of directories vary: none is known")


def place(image: Image, path: bytes) -> bytes | None:
    size = ffi.new("size_t *")
    real = lib.pt_image_place(image.pointer, path, len(path), size)
    return bytes(ffi.buffer(real, size[0])) if real else None


def test_each_is_its_real_path() -> None:
    found = known()
    assert found[b"/usr/include"] == b"/usr/include"
    assert len(found) > 50
    for path, real in found.items():
        assert os.path.realpath(path) == real
        assert Path(os.fsdecode(real)).is_dir()
        above = path.rpartition(b"/")[0] or b"/"
        assert os.path.realpath(above) == above, f"{path!r}: a link on the way, which nobody looks at"


def test_none_of_the_prefix() -> None:
    assert known(Path("/usr/lib"))
    assert not [path for path in known(Path("/usr/lib")) if path == b"/usr/lib" or path.startswith(b"/usr/lib/")]


def test_the_image_gives_back_what_was_put_in() -> None:
    places = {b"/d%d" % i: b"/somewhere/d%d" % i for i in range(1000)} | {b"/bin": b"/usr/bin"}
    image = Image(Policy(Filemap([ROOT]), Filemap(), places=places).compile(), verify=True)
    assert {path: place(image, path) for path in places} == places
    assert place(image, b"/d1000") is None
    assert place(image, b"/d") is None
    assert place(Image(Policy(Filemap([ROOT]), Filemap()).compile()), b"/bin") is None


PROGRAM = """
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>
int main(int argc, char **argv)
{
	if (argc > 2) {                  /* what the place leads to is another one now */
		if (unlink(argv[2]) || symlink(argv[3], argv[2]))
			return 2;
	}
	return open(argv[1], O_RDONLY) < 0;
}
"""


def test_a_place_is_believed_only_where_nobody_can_change_it(tmp_path: Path) -> None:
    top = Path(os.path.realpath(tmp_path))
    for name in ("seen", "hidden"):
        (top / name).mkdir()
        (top / name / "file").touch()
    (top / "link").symlink_to("seen")
    program = compile_c(_source(top), top / "program")
    lie = {os.fsencode(top / "link"): os.fsencode(top / "hidden")}

    def opens(*write: str, more: tuple[Path, ...] = ()) -> bool:
        with Session(f"r:{top}/hidden=-", "r:/=+", *write, places=lie) as session:
            done = session.run(program, top / "link/file", *more)
            assert done.returncode in (0, 1)
            return done.returncode == 0

    assert not opens(), "nobody can write: the image's word is taken"
    assert opens(f"w:{top}=+"), "the kernel is asked"
    assert opens(f"w:{top}/link=+"), "whoever can exchange the link can change what it means"
    assert not opens(f"w:{top}=+", more=(top / "link", top / "hidden"))


def _source(top: Path) -> Path:
    source = top / "program.c"
    source.write_text(PROGRAM)
    return source
