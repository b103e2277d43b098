"""What is timed: whole commands on real input, each with what must be put back before a run."""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sources import apt_source

TREE_ENTRIES = 27_000


@dataclass(frozen=True)
class Workload:
    """`argv` runs in `cwd`; `reset` is called before each run and is not timed."""

    name: str
    argv: list[str]
    cwd: Path
    reset: Callable[[], None]


def _nothing() -> None:
    return


def make_tree(root: Path, entries: int = TREE_ENTRIES) -> None:
    """A tree of about `entries` files and directories, small text files, the same on each machine."""
    rng = random.Random(27)
    made = 0
    for top in range(30):
        for sub in range(30):
            directory = root / f"dir{top:02}" / f"sub{sub:02}"
            directory.mkdir(parents=True)
            made += 1
            for name in range((entries - 930) // 900):
                (directory / f"file{name:03}.c").write_text("int x;\n" * rng.randint(1, 60), encoding="ascii")
                made += 1


def prepare(base: Path, cache: Path, only: set[str]) -> list[Workload]:
    """
    Lay out the inputs below `base` (a directory on tmpfs gives the highest ratios) and return the workloads; `only`
    those whose first words are named, where any are.
    """
    hello, lua, shells = base / "hello", base / "lua", base / "shells"
    tree, out = base / "tree", base / "out"

    def wanted(name: str) -> bool:
        return not only or name in only

    def fresh_hello() -> None:
        shutil.rmtree(base / "hello.build", ignore_errors=True)
        (base / "hello.build").mkdir()

    def clean(source: Path) -> Callable[[], None]:
        def run() -> None:
            subprocess.run(["make", "-s", "clean"], cwd=source, check=True, capture_output=True)

        return run

    def fresh_out() -> None:
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()

    if wanted("W1"):
        shutil.copytree(apt_source("hello", cache), hello, symlinks=True)
    if wanted("W2"):
        shutil.copytree(apt_source("lua5.4", cache, patched=False), lua, symlinks=True)
    if wanted("W3"):  # Debian's patches put a shell, libtool and dpkg-buildflags around each compiler run
        shutil.copytree(apt_source("lua5.4", cache), shells, symlinks=True)
    if any(map(wanted, ("tar", "cp", "find", "grep"))):
        make_tree(tree)
        subprocess.run(["tar", "cf", str(base / "tree.tar"), "-C", str(base), "tree"], check=True)
    configure = ["sh", str(hello / "configure"), "--quiet", "--disable-nls"]
    works = [
        Workload("W1 configure", configure, base / "hello.build", fresh_hello),
        Workload("W2 make", ["make", "-s", "-j2", "linux"], lua / "src", clean(lua / "src")),
        Workload("W3 libtool", ["make", "-s", "-j2", "linux"], shells / "src", clean(shells / "src")),
        Workload("tar", ["tar", "xf", str(base / "tree.tar"), "-C", str(out)], base, fresh_out),
        Workload("cp", ["cp", "-a", str(tree), str(out)], base, fresh_out),
        Workload("find", ["find", str(tree), "-type", "f", "-size", "+100k"], base, _nothing),
        Workload("grep -r", ["grep", "-r", "nothing of the kind", str(tree)], base, _nothing),
    ]
    return [work for work in works if wanted(work.name.split()[0])]
