"""What strace sees and the log does not, and the reverse: recall on real builds.

usage: bench/recall.py [--programs] [--only NAME,…] [--after FILE.json] [--out FILE.md|FILE.json] [--show N]

Each build runs twice on a fresh copy of its source in the same directory: once under ``strace -f``, once under
``porttrace run --audit --log``. Compared are the sets of (real path, kind of access, success). What differs is sorted
into reasons by name; what has no reason is a bug.
"""

from __future__ import annotations

import argparse
import collections
import errno
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from builds import BUILDS, Build
from programs import PROGRAMS, Program
from strace_log import Seen, accesses

CLASS = {"stat": "look", "readlink": "look", "read": "read", "list": "read", "write": "write", "create": "write"}
TEMPORARY = [
    (re.compile(r"/(cc|cg|Gm|st)[A-Za-z0-9]{6}(?=$|\.|/)"), r"/\1*"),
    (re.compile(r"(tmp|cmTC_|sh-thd\.|pip-|CMakeScratch/TryCompile-)[-A-Za-z0-9_.]{5,}"), r"\1*"),
    (re.compile(r"/conf(\d+(?=$|[./*]|subs)|[A-Za-z0-9]{6}(?=$|/))"), "/conf*"),
    (re.compile(r"/proc/\d+"), "/proc/*"),
    (re.compile(r"/(\.[^/]+\.|t|tmp_obj_|Cu|perl-|s\.|tmp\.)(?!o[br]j)[A-Za-z0-9]{6,10}(?=$|/)"), r"/\1*"),
    (re.compile(r"\.pyc\.\d+$"), ".pyc.*"),
    (re.compile(r"/(hsperfdata_\w+/|\.java_pid)\d+$"), r"/\1*"),
    (re.compile(r"/(sed|zi|rmeta|rustc|dpkg-deb\.)[A-Za-z0-9]{6}(?=$|/)"), r"/\1*"),
    (re.compile(r"/(tcl_|refs_|packs_|am4t|am|[^/]*\.(?:mo\.|c\.o))[A-Za-z0-9_]{6,8}(?=$|/)"), r"/\1*"),
    (re.compile(r"(?<=[._-])\d{3,7}(?=$|[._/-])"), "*"),
    # File::Temp, whose names look like those above: last
    (re.compile(r"/(?=[^/]*\d|(?:[^/]*[A-Z]){3})(?=[^/]*[A-Z])(?=[^/]*[a-z])[A-Za-z0-9_]{10}(?=$|/)"), "/*"),
]
Key = tuple[str, str, bool]

# Why the library cannot see an access that the kernel saw: inside libc and the loader nothing passes a wrapper.
REASONS: list[tuple[str, re.Pattern[str]]] = [
    ("a name below /proc/self/fd, of which strace does not say where it leads", re.compile(r"^/proc/self/fd/\d+")),
    (
        "loader and dlopen search",
        re.compile(
            r"/ld\.so\.(cache|preload|nohwcap)$|\.so(\.[\d.]+)?(-rust[-\d.a-z]*)?$|/glibc-hwcaps|/lib/(tls|haswell|avx512_1|x86_64)(/|$)|\.cpython-[^/]*\.so$"
        ),
    ),
    (
        "libc's own data (locale, gconv, zone, nss, sysconf)",
        re.compile(
            r"/locale(/|$)|/gconv|/zoneinfo|/etc/(localtime|nsswitch\.conf|passwd|group|locale\.alias)|LC_|/nscd/"
            r"|/etc/(resolv|host)\.conf$|/etc/hosts$|^/ look|/sys/devices/system/cpu/|/proc/sys/kernel/ngroups_max"
            r"|/proc/sys/vm/overcommit_memory|^/proc/self/maps read|^/dev/ptmx write"
        ),
    ),
]


def normal(path: str) -> str:
    """A path in which names that differ from run to run are stars."""
    for pattern, star in TEMPORARY:
        path = pattern.sub(star, path)
    return path


def names(path: str) -> set[str]:
    """The real path, last link followed and not: which one a call means, strace does not tell for all."""
    directory, _, last = path.rstrip("/").rpartition("/")
    parent = os.path.realpath(directory or "/")
    own = parent if last in ("", ".") else os.path.realpath(path) if last == ".." else f"{parent.rstrip('/')}/{last}"
    return {normal(own), normal(os.path.realpath(path))}


# They look at each component of a path with readlink, inside the C library: one line in the log, many in strace.
WALKS = ("realpath", "__realpath_chk", "canonicalize_file_name")


# What some of their questions need no look at the file for: the C library knows the answer.
ANSWERED = ("pathconf",)


def above(path: str) -> Iterable[str]:
    """The path and the directories over it."""
    while path and path != "/":
        yield path
        path = path.rpartition("/")[0]
    yield "/"


def steps(path: str) -> set[str]:
    """Every directory and link that a walk along the path looks at."""
    seen: set[str] = set()
    pending, at = [part for part in path.split("/") if part], ""
    for _ in range(200):
        if not pending:
            break
        part = pending.pop(0)
        at = at.rpartition("/")[0] if part == ".." else at if part == "." else f"{at}/{part}"
        seen.add(at or "/")
        if Path(at).is_symlink():
            target = str(Path(at).readlink())
            pending[:0] = [part for part in target.split("/") if part]
            at = "" if target.startswith("/") else at.rpartition("/")[0]
    return {normal(name) for name in seen}


def succeeded(access: str, error: str | int) -> bool:
    # readlink of what is no link has seen that it is there
    return not error or (access == "readlink" and error in ("EINVAL", errno.EINVAL))


def from_strace(seen: Iterable[Seen]) -> dict[frozenset[str], dict[tuple[str, bool], Seen]]:
    out: dict[frozenset[str], dict[tuple[str, bool], Seen]] = collections.defaultdict(dict)
    for one in seen:
        # A loader's mapping of libraries is no access of the program.
        if one.loader and one.access in ("read", "stat"):
            continue
        out[frozenset(names(one.path))].setdefault(
            (CLASS.get(one.access, one.access), succeeded(one.access, one.error)), one
        )
    return out


def from_log(path: Path) -> tuple[dict[str, dict[tuple[str, bool], dict[str, object]]], set[str], set[str]]:
    """What the log tells of each path; what a realpath in it has looked at; what fchmodat has changed."""
    walked: set[str] = set()
    changed: set[str] = set()
    out: dict[str, dict[tuple[str, bool], dict[str, object]]] = collections.defaultdict(dict)
    with path.open(encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            entry = json.loads(line)
            key = CLASS.get(entry["access"], entry["access"]), succeeded(entry["access"], entry["errno"])
            if entry["op"] in WALKS:
                for given in (entry["path"], entry.get("asked", "/")):
                    walked |= steps(given)
            if entry["op"] == "fchmodat":
                changed |= names(entry["path"])
            for name in names(entry["path"]):
                out[name].setdefault(key, entry)
    return out, walked, changed


def emulated(entry: dict[str, object]) -> bool:
    """The C library makes fchmodat without following links of other calls, and says itself that a link has no mode."""
    return entry["op"] == "fchmodat" and entry["errno"] == errno.EOPNOTSUPP


def interpreters(path: str) -> Iterable[str]:
    """What the kernel starts for a script: it opens them itself, and strace shows no call for it."""
    for _ in range(4):
        try:
            with Path(path).open("rb") as file:
                head = file.readline(256)
        except OSError:
            return
        words = head[2:].split() if head.startswith(b"#!") else []
        if not words:
            return
        path = os.fsdecode(words[0])
        yield path


def searched(libraries: Iterable[str]) -> set[str]:
    """Directories that the loader looks into for what these libraries need (RUNPATH): it asks for each of them once."""
    found = set()
    for library in libraries:
        listing = subprocess.run(["readelf", "-d", "-W", library], capture_output=True, text=True).stdout
        for paths in re.findall(r"\((?:RUNPATH|RPATH)\).*\[(.*)\]", listing):
            found |= {path.replace("$ORIGIN", os.path.dirname(library)) for path in paths.split(":")}  # noqa: PTH120
    return found


def reason(path: str) -> str:
    for why, pattern in REASONS:
        if pattern.search(path):
            return why
    return ""


def measure(build: Build | Program, cache: Path, show: int) -> dict[str, object]:
    """Run one build under both and compare."""
    top = Path(tempfile.mkdtemp(prefix="porttrace-recall."))
    work, tree = top / "work", build.tree(cache)
    home = top / "home"
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C", "TMPDIR": str(top / "tmp")}
    env["CCACHE_DISABLE"] = "1"  # which keeps statistics under a number drawn anew
    env |= {f"GIT_{who}_DATE": "2020-01-01T00:00:00" for who in ("AUTHOR", "COMMITTER")}  # objects are named by content
    for variable in ("PYENV_ROOT", "PYENV_VERSION", "RUSTUP_HOME"):
        if variable in os.environ:
            env[variable] = os.environ[variable]
    if Path("~/.rustup").expanduser().is_dir():
        env.setdefault("RUSTUP_HOME", os.path.expanduser("~/.rustup"))  # noqa: PTH111

    def fresh() -> None:
        for path in (work, top / "tmp", home):
            shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(tree, work, symlinks=True)
        (top / "tmp").mkdir()
        home.mkdir()

    def run(prefix: list[str]) -> None:
        fresh()
        done = subprocess.run([*prefix, "sh", "-c", build.script], cwd=work, env=env, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{build.name}: {prefix[0]}: exit {done.returncode}: {done.stderr[-800:]}")

    try:
        run(["strace", "-f", "-y", "-s", "8192", "-o", str(top / "strace.out"), "--"])
        run(
            [
                os.environ.get("PORTTRACE", str(Path(sys.executable).with_name("porttrace"))),
                "run",
                "-q",
                "--tiers",
                "tracelib",
                "--audit",
                "--log",
                str(top / "log"),
                "--",
            ]
        )
        truth = from_strace(accesses(top / "strace.out", str(work)))
        started = [one.path for kinds in truth.values() for one in kinds.values() if one.access == "exec"]
        scripts = {name for path in started for name in interpreters(path)}
        seen = [
            one.path for kinds in truth.values() for one in kinds.values() if one.access == "read" and not one.error
        ]
        libraries = {path for path in seen if re.search(r"\.so(\.[\d.]+)?$", path)}
        directories = searched([*libraries, *filter(os.path.isfile, started)])
        log, walked, changed = from_log(top / "log")
    finally:
        if not os.environ.get("KEEP"):
            shutil.rmtree(top, ignore_errors=True)
    missed: dict[str, list[str]] = collections.defaultdict(list)
    hit = total = 0
    for paths, kinds in truth.items():
        for key, one in kinds.items():
            total += 1
            if any(key in log.get(path, {}) for path in paths):
                hit += 1
            elif one.access == "readlink" and not paths.isdisjoint(walked):
                missed["a step of realpath, which is in the log as one look"].append(one.path)
            elif one.place and not paths.isdisjoint(changed):
                missed["a step of fchmodat for links, which is in the log as one change"].append(one.path)
            elif one.static:
                missed["a static program, which is for the supervisor"].append(one.path)
            elif one.path in directories:
                missed["loader and dlopen search"].append(one.path)
            elif one.access == "exec" and not one.program:
                missed["the command itself, which the launcher starts"].append(one.path)
            else:
                why = reason(one.path) or reason(f"{one.path} {key[0]}")  # nss looks at "/" itself
                missed[why].append(f"{one.path} {key[0]} {'ok' if key[1] else one.error} ({one.program})")
    known = {(path, key) for paths, kinds in truth.items() for path in paths for key in kinds}
    known |= {(name, ("exec", True)) for path in scripts for name in names(path)}
    invented = [
        f"{path} {key[0]} {'ok' if key[1] else entry['errno']} {entry['op']} ({entry['exe']})"
        for path, kinds in log.items()
        for key, entry in kinds.items()
        if (path, key) not in known
        and not emulated(entry)
        and entry["op"] not in ANSWERED
        and not path.startswith("/proc/*/fd")
        and not (entry["op"] in WALKS and any((name, key) in known for name in above(path)))
        and not any((name, key) in known for name in names(str(entry["path"])))
    ]
    for what, listed in (("missed", missed.get("", [])), ("invented", invented)):
        for text in listed[:show]:
            print(f"  {what}: {text}", file=sys.stderr)
    explained = {why: len(texts) for why, texts in missed.items() if why}
    return {
        "build": build.name,
        "source": build.source,
        "accesses": total,
        "seen": hit,
        "explained": explained,
        "missed": len(missed.get("", [])),
        "invented": len(invented),
    }


def markdown(rows: list[dict[str, Any]]) -> str:
    """The table of results, and what explains the accesses that the library cannot see."""
    out = [
        "# Recall against strace",
        "",
        "Made by `bench/recall.py --out builds.json` and `bench/recall.py --programs --after builds.json --out",
        "bench/results/recall.md`: each build, and each job of everyday programs, once under `strace -f`, once with",
        "the full log of tracelib alone. An access is a real path, a kind of access and whether it succeeded. What is",
        "explained happens inside the C library, its loader or the launcher, past all functions that can be replaced.",
        "",
        "| build or job | source | accesses | in the log | explained | missed | invented |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        why = "; ".join(f"{count} {reason}" for reason, count in row["explained"].items())
        out.append(
            f"| {row['build']} | {row['source']} | {row['accesses']} | {row['seen']} | {why} | {row['missed']} "
            f"| {row['invented']} |"
        )
    return "\n".join(out) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", action="store_true", help="small jobs of everyday programs instead of the builds")
    parser.add_argument("--after", type=Path, help="put the rows of an earlier run (its --out FILE.json) first")
    parser.add_argument("--only", default="")
    parser.add_argument("--show", type=int, default=10)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "porttrace-bench-sources")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    args.cache.mkdir(parents=True, exist_ok=True)
    rows = json.loads(args.after.read_text(encoding="utf-8")) if args.after else []
    for build in PROGRAMS if args.programs else BUILDS:
        if args.only and build.name not in args.only.split(","):
            continue
        if shutil.which(build.needs) is None:
            print(f"not measured: {build.name} needs {build.needs}", file=sys.stderr)
            continue
        row = measure(build, args.cache, args.show)
        rows.append(row)
        print(json.dumps(row), flush=True)
    if args.out:
        text = markdown(rows) if args.out.suffix == ".md" else json.dumps(rows, indent=1) + "\n"
        args.out.write_text(text, encoding="utf-8")
    return 1 if any(row["missed"] or row["invented"] for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
