"""What of the library's memory is a process's own after real work: the most that one process of each program had.

usage: memory.py [--quick]     (the installed package's Python; prints a Markdown table; fails above 256 KiB)

Each process tells it when it ends (native/memory.c). Work is a configure, a tree packed, unpacked, copied and
searched, and a compiler; --quick leaves out the configure, which needs sources, and takes a small tree.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from ours import policy
from sources import apt_source
from workloads import TREE_ENTRIES, make_tree

from porttrace.session import Session

LIMIT = 256  # KiB a process
HERE = Path(__file__).resolve().parent


#: Many directories open at a time, each looked into.
OPEN = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (2048, 4096))
places = [place for place, _, _ in os.walk(sys.argv[1])]
opened = [os.open(places[n % len(places)], os.O_RDONLY | os.O_DIRECTORY) for n in range(1000)]
print(sum(len(os.listdir(fd)) + os.access("none", os.F_OK, dir_fd=fd) for fd in opened))
"""


def jobs(base: Path, quick: bool) -> list[tuple[str, list[str], Path]]:
    """Name, command and directory of each piece of work; lays out what it needs below `base`."""
    tree, out = base / "tree", base / "out"
    make_tree(tree, 2 * 930 if quick else TREE_ENTRIES)
    out.mkdir()
    source = base / "many.c"
    headers = ("stdio", "stdlib", "string", "pthread", "sys/socket", "netdb", "dirent", "fcntl", "math", "signal")
    source.write_text("".join(f"#include <{name}.h>\n" for name in headers) + "int main(void) { return 0; }\n")
    found = [
        ("pack", ["tar", "cf", str(base / "tree.tar"), "-C", str(base), "tree"], base),
        ("unpack", ["tar", "xf", str(base / "tree.tar"), "-C", str(out)], base),
        ("copy", ["cp", "-a", str(tree), str(base / "copy")], base),
        ("search", ["sh", "-c", f"find {tree} -size +9k; grep -r no.such.thing {tree}; ls -R {tree} | wc -l"], base),
        ("look", ["sh", "-c", f"for d in {tree}/*/*; do for f in $d/*; do test -x $f; done; done"], base),
        ("open", [sys.executable, "-I", "-S", "-c", OPEN, str(tree)], base),
        ("compile", ["cc", "-o", str(base / "many"), str(source)], base),
    ]  # fmt: skip
    if not quick:
        cache = Path(tempfile.gettempdir()) / "porttrace-bench-sources"
        cache.mkdir(exist_ok=True)
        shutil.copytree(apt_source("hello", cache), base / "hello", symlinks=True)
        (base / "build").mkdir()
        found.append(("configure", ["sh", str(base / "hello/configure"), "--quiet"], base / "build"))
    return found


def measure(quick: bool, log: bool) -> dict[tuple[str, str], int]:
    """KiB by (work, program)."""
    found: dict[tuple[str, str], int] = {}
    with tempfile.TemporaryDirectory(prefix="memory.", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as n:
        base, aside = Path(n), Path(n) / "aside"
        base.chmod(0o755)
        aside.mkdir()
        (base / "prefix").mkdir()
        helper = aside / "memory.so"
        cc = ["cc", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
        subprocess.run([*cc, "-o", helper, HERE / "native/memory.c"], check=True)
        work = jobs(base, quick)
        with Session(tiers=("tracelib",)) as session:
            trace = session.start(policy(base, aside, 1_000, log=log), base)
            for name, argv, directory in work:
                out = aside / "out"
                out.write_text("")
                env = {
                    **os.environ,
                    "LC_ALL": "C",
                    "MEMORY_OUT": str(out),
                    "MEMORY_OF": str(trace.library),
                    "LD_PRELOAD": f"{trace.library}:{helper}",
                }
                subprocess.run(argv, cwd=directory, env=env, check=False, stdout=subprocess.DEVNULL)
                for line in out.read_text().splitlines():
                    kib, program = line.split(maxsplit=1)
                    found[name, program] = max(int(kib), found.get((name, program), 0))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    plain, logged = measure(args.quick, False), measure(args.quick, True)
    print("| work | program | KiB of its own | with the full log |\n|---|---|---|---|")
    for work, program in sorted(plain, key=lambda key: -plain[key]):
        print(f"| {work} | {program} | {plain[work, program]} | {logged.get((work, program), '')} |")
    most = max(*plain.values(), *logged.values())
    if most > LIMIT:
        print(f"{most} KiB in one process, {LIMIT} are allowed", file=sys.stderr)
    return 1 if most > LIMIT else 0


if __name__ == "__main__":
    sys.exit(main())
