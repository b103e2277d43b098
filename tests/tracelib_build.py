"""The injected library, compiled otherwise than the build does it: with traps, or with a mistake planted in it."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

CSRC = Path(__file__).parent.parent / "csrc"


def listed(pattern: str) -> list[str]:
    """The words of a list in the build's description."""
    found = re.search(pattern, (CSRC / "meson.build").read_text(), re.S | re.M)
    assert found, f"csrc/meson.build has nothing like {pattern}"
    return re.findall(r"'([^']+)'", found[1])


#: What the build gives the compiler, and the linker.
FLAGS = ["-fPIC", "-std=gnu11", *listed(r"tracelib_c_args = \[(.*?)\]")]
LINK = ["-shared", *listed(r"tracelib_link_args = \[(.*?)\]")]


def policy_sources() -> list[Path]:
    """The files of the policy code, which other programs have too, as the build lists them."""
    return [CSRC / name for name in listed(r"^policy_sources = files\((.*?)^\)")]


def sources() -> list[Path]:
    """The library's files, as the build lists them."""
    names = [n for what in ("linux_first", "common", "linux") for n in listed(rf"^tracelib_{what} = files\((.*?)^\)")]
    return [CSRC / name for name in (*names, "policy.c", "redirect.c", "path.c", "events.c") if name.endswith(".c")]


def generate(place: Path) -> None:
    """The files that are made from the table, into `place`."""
    for what, name in (("wrappers", "calls.inc"), ("ops.h", "ops.h")):
        subprocess.run([sys.executable, CSRC / "gen_calls.py", CSRC / "calls.table", what, place / name], check=True)


def compile_object(source: Path, place: Path, flags: Iterable[str] = (), *, text: str | None = None) -> Path:
    """
    One object below `place`, which holds what is generated, or a directory in it does; `text` in place of the source's
    own. Raises ValueError where it does not compile.
    """
    out = Path(tempfile.mkstemp(".o", f"{source.stem}-", place)[1])
    made = [place] if (place / "ops.h").exists() else [place, place.parent]
    where = [f"-I{at}" for at in (*made, source.parent, CSRC, CSRC / "tracelib")]
    done = subprocess.run(
        ["gcc", *FLAGS, *flags, *where, "-x", "c", "-c", "-", "-o", str(out)],
        input=source.read_text() if text is None else text, text=True, capture_output=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise ValueError(done.stderr[:500])
    return out


def link(objects: Iterable[Path], out: Path, *flags: str) -> Path:
    """The library."""
    out.unlink(missing_ok=True)
    subprocess.run(["gcc", *LINK, *flags, *objects, "-o", out], check=True)
    return out
