"""Break the injected library, one place at a time, and see that a test goes red.

usage: bench/mutants.py rows|intents|hand|manners|macos [--part K/N] [NAME …]

``rows``     each wrapper is left out
``intents``  each plain row of the table with another access, another letter, without a descriptor, a path or an `after`
``hand``     each place in the hand-written wrappers that says an access, a follow flag or a descriptor
``manners``  what a guest may not do to its host (manners.py); NAME: a part of what it says
``macos``    as ``hand``, and conditions besides, in what is macOS' alone: its x86_64 half over the made-up macOS

The library is built in a directory of its own (the sources stay as they are) and given to the suites in
PORTTRACE_TEST_TRACELIB; the programs of the tests are compiled once. The tests that noticed the last mutants are asked
first about the next. What nothing notices is printed: write its test, or know why it is the same thing.
Exit status 1 where something survives. ``--part 2/5``: the second of five parts, each of which takes minutes.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

TOP = Path(__file__).parent.parent
sys.path += [str(TOP / "csrc"), str(TOP / "tests")]
import gen_calls  # noqa: E402
import tracelib_build  # noqa: E402
from manners import MANNERS  # noqa: E402

sys.path.insert(0, str(TOP / "scripts"))
import macos_library  # noqa: E402

CSRC = TOP / "csrc"
T = TypeVar("T")
ROWS = gen_calls.read(CSRC / "calls.table")
#: The suites, the quick ones first: a mutant that one of them notices is done.
SUITES = [
    f"tests/test_tracelib_{name}.py"
    for name in (
        "calls",
        "opening",
        "numbers",
        "other",
        "inside",
        "paths",
        "walks",
        "fds",
        "log",
        "used",
        "events",
        "guest",
    )
]


_SUPERVISOR = "changes nothing where there is no supervisor; with one: tests/test_supervisor_answers.py -k reaches"
#: What no suite here can notice, and why it is none the less right, or who does notice it.
KNOWN = {
    **{
        f"{name}: its wrapper is left out": _SUPERVISOR
        for name in ("mmap", "mmap64", "mprotect", "pkey_mprotect", "ptrace", "process_vm_writev")
    },
    "fdopendir: its wrapper is left out": "it asks early what the first readdir would ask",
    "rmdir: after unlink: nothing": "what was a directory was no link that something leads through",
    "what the C library lacks has nothing behind it": "glibc lacks none of it; the cases of musl's hosts notice",
    **{
        f"{name}: after root: nothing": "it takes a privileged process that really moves a mount"
        for name in ("umount", "umount2")
    },
    "getdents: its wrapper is left out": "only musl has it; the case of musl's hosts notices",
}


class Build:
    """Objects of the library for Linux; a mutant compiles one of them again, or only links."""

    def __init__(self, place: Path) -> None:
        self.place = place
        tracelib_build.generate(place)
        self.objects = {source: self.compile(source) for source in tracelib_build.sources()}

    def compile(self, source: Path, text: str | None = None, place: Path | None = None) -> Path:
        return tracelib_build.compile_object(source, place or self.place, text=text)

    def link(self, other: dict[Path, Path] | None = None, without: list[str] | None = None) -> Path:
        more = []
        if without:
            script = self.place / "without.map"
            script.write_text("{ local: " + " ".join(f"{name};" for name in without) + " };\n")
            more = [f"-Wl,--version-script={script}"]
        objects = {**self.objects, **(other or {})}.values()
        return tracelib_build.link(objects, self.place / "libtracelib.so", *more)


class MacBuild:
    """The same of the x86_64 half for macOS, in a fat file of its own."""

    def __init__(self, place: Path) -> None:
        self.place = place
        macos_library.generate(place)
        self.objects = {CSRC / name: self.compile(CSRC / name) for name in macos_library.sources()}

    def _run(self, *words: str | Path) -> None:
        where = [f"-I{at}" for at in (self.place, CSRC, CSRC / "tracelib")]
        command = [sys.executable, "-m", "ziglang", "cc", "-target", f"x86_64-macos.{macos_library.MINIMUM}"]
        done = subprocess.run(
            [*command, *macos_library.FLAGS, "-Wno-error", *where, *words], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise ValueError(done.stderr[:500])

    def compile(self, source: Path, text: str | None = None) -> Path:
        """Raises ValueError where it does not compile."""
        out = Path(tempfile.mkstemp(".o", f"{source.stem}-", self.place)[1])
        at = source
        if text is not None:
            at = out.with_suffix(".c")
            at.write_text(text)
        self._run(f"-I{source.parent}", "-c", "-o", out, at)
        return out

    def link(self, other: dict[Path, Path] | None = None) -> Path:
        half, library = self.place / "half.dylib", self.place / "libtracelib.dylib"
        objects = {**self.objects, **(other or {})}.values()
        self._run(*macos_library.LINK, "-o", half, *objects)
        library.write_bytes(macos_library.join({"x86_64": half.read_bytes()}))
        return library


#: Tests that noticed a mutant, the last one first: neighbours are mostly noticed by the same.
noticed: list[str] = []


def red(library: Path, suites: list[str], *more: str) -> set[str]:
    """Tests that fail with this library; with ``-x`` the first one."""
    first = noticed[:6] if "-x" in more else []
    done = subprocess.run(
        [
            *(str(Path(sys.executable).parent / "pytest"), "-q", "-p", "no:cacheprovider", *more),
            *("-k", "not musl and not valgrind and not on_arm64", *first, *suites),
        ],
        env={
            **os.environ,
            "PORTTRACE_TEST_TRACELIB": str(library),
            "PORTTRACE_TEST_MACOS_LIBRARY": str(library),
            "PORTTRACE_TEST_TIMEOUT": "15",
            "PORTTRACE_TEST_COMPILED": str(library.parent),
        },
        cwd=TOP, capture_output=True, text=True, check=False,
    )  # fmt: skip
    failed = set(re.findall(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.M))
    if done.returncode not in (0, 1, 5):
        failed.add(f"{suites[0]}: pytest ended with {done.returncode}")
    elif "-x" in more:
        noticed[:] = [*failed, *(n for n in noticed if n not in failed)]
    return failed


@dataclasses.dataclass(frozen=True)
class Part:
    """One of several parts of a list."""

    which: int
    of: int

    def take(self, items: Iterable[T]) -> list[T]:
        return list(items)[self.which - 1 :: self.of]


def of_row(name: str, failed: set[str]) -> bool:
    """Is there a test of its own among those that failed?"""
    return any(name in re.split(r"[\[\]-]", test) for test in failed)


def rows(build: Build, names: list[str], part: Part) -> Iterator[str]:
    """All rows that have a test of their own at once, the others one by one."""
    asked = [row for row in ROWS if row.form != "not" and (not names or row.name in names)]
    own = [row.name for row in asked if row.test]
    failed = red(build.link(without=own), SUITES[:1])
    missed = [name for name in own if not of_row(name, failed)]
    for name in part.take(missed + [row.name for row in asked if not row.test]):
        if not red(build.link(without=[name]), SUITES, "-x"):
            yield f"{name}: its wrapper is left out"


def changed(row: gen_calls.Row) -> Iterator[tuple[str, gen_calls.Row]]:
    """The row with one thing else."""
    parts = [m[0] for m in re.finditer(r"\w+(?:@\w+)?(?::[a-z0]*)?(?:\?\(.*?\))?=\w+(?=\s|$)", row.paths)]

    def put(n: int, text: str) -> gen_calls.Row:
        return dataclasses.replace(row, paths=" ".join([*parts[:n], text, *parts[n + 1 :]]))

    for n, part in enumerate(parts):
        m = re.match(r"(\w+)(@\w+)?(?::([a-z0]*))?(\?\(.*\))?=(\w+)$", part)
        assert m, part
        name, dirfd, letters, follow, access = (cell or "" for cell in m.groups())
        yield (
            f"{part}: other kind",
            put(n, f"{name}{dirfd}:{letters}{follow}={'write' if access in gen_calls.READS else 'stat'}"),
        )
        if dirfd:
            yield f"{part}: no descriptor", put(n, f"{name}:{letters}{follow}={access}")
        for letter in letters:
            if letter == "n" and "x" in letters:
                continue  # what is to be new is no link that could be followed
            less = letters.replace(letter, {"f": "n", "n": "f"}.get(letter, ""))
            yield f"{part}: without {letter}", put(n, f"{name}{dirfd}:{less}{follow}={access}")
        if follow:
            yield f"{part}: always followed", put(n, f"{name}{dirfd}:{letters}f={access}")
            yield f"{part}: never followed", put(n, f"{name}{dirfd}:{letters}n={access}")
        if len(parts) == 2:
            yield f"{part}: not judged", dataclasses.replace(row, paths=parts[1 - n])
    if row.after:
        yield f"after {row.after}: nothing", dataclasses.replace(row, after="")


def intents(build: Build, names: list[str], part: Part) -> Iterator[str]:
    """In each round one change of every plain row; what its own test does not notice is tried alone with all suites."""
    source = CSRC / "tracelib" / "calls.c"
    rows = part.take(row for row in ROWS if row.form == "plain" and (not names or row.name in names))
    plain = {row.name: list(changed(row)) for row in rows}
    place = build.place / "mutant"
    place.mkdir(exist_ok=True)

    def library(mutants: dict[str, gen_calls.Row]) -> Path:
        (place / "calls.inc").write_text(gen_calls.wrappers([mutants.get(row.name, row) for row in ROWS]))
        return build.link({source: build.compile(source, place=place)})

    for n in range(max(map(len, plain.values()))):
        now = {name: changes[n] for name, changes in plain.items() if n < len(changes)}
        failed = red(library({name: row for name, (_, row) in now.items()}), SUITES[:1])
        for name, (what, row) in now.items():
            if not of_row(name, failed) and not red(library({name: row}), SUITES, "-x"):
                yield f"{name}: {what}"


#: Places where the hand-written wrappers say what they mean, and what else they might say.
PLACES = (
    (r"PT_ACC_(?:READ|STAT|LIST|EXEC|READLINK)\b", "PT_ACC_WRITE"),
    (r"PT_ACC_(?:WRITE|CREATE|DELETE|RENAME|LINK|ATTRIBUTES)\b", "PT_ACC_STAT"),
    (r"\bPT_(?:FOLLOW|EXCL|EMPTY|MAY_CREATE|ALSO_READ|NO_WRITE)\b", "0"),
    (r"\.dirfd = (?!AT_FDCWD)\w+", ".dirfd = AT_FDCWD"),
    (r"\bpt_\w*forget\w*\(\w*\)", "(void)0"),
)
HAND = (
    *("files", "names", "stdio", "inside", "sock", "exec", "spawn", "mounts", "dirlist", "ftw", "fts"),
    *("fds", "fdmeta", "text", "syscalls"),
)


#: Conditions of what is macOS' alone, the other way round.
CONDITIONS = (
    (r"(?<= )&&(?= )", "||"),
    (r"(?<= )\|\|(?= )", "&&"),
    (r"(?<= )==(?= )", "!="),
    (r"(?<= )!=(?= )", "=="),
    (r"(?<=[( ])!(?=[\w*(])", ""),
    (r"(?<=return )true", "false"),
    (r"(?<=return )false", "true"),
)
MACOS = ("calls", "listings", "load", "spawn", "program", "slice")
MACOS_SUITES = ["tests/test_macos_rows.py", "tests/test_macos_behaviour.py"]


def macos_places(files: list[str]) -> Iterator[tuple[Path, re.Match[str], str]]:
    """As places(), with conditions."""
    for name in files or (*(f"{name}_darwin" for name in MACOS), "sip"):
        yield from _places(CSRC / "tracelib" / f"{name}.c", (*PLACES, *CONDITIONS), set())


def places(files: list[str]) -> Iterator[tuple[Path, re.Match[str], str]]:
    """Each place, and what it might say."""
    for name in files or HAND:
        source = CSRC / "tracelib" / f"{name}.c"
        yield from _places(source, PLACES, macos_only(source.read_text()))


def _places(
    source: Path, patterns: Iterable[tuple[str, str]], elsewhere: set[int]
) -> Iterator[tuple[Path, re.Match[str], str]]:
    text = source.read_text()
    for pattern, other in patterns:
        for m in re.finditer(pattern, text):
            if m.string.count("\n", 0, m.start()) not in elsewhere and not line_of(m).startswith(
                ("/*", "*", "//", "#")
            ):
                yield source, m, other


def macos_only(text: str) -> set[int]:
    """Numbers of lines, from 0, that only a compiler for macOS sees."""
    mac, others = "#ifdef __APPLE__", "#ifndef __APPLE__"
    found: set[int] = set()
    asked: list[str] = []
    for number, line in enumerate(text.splitlines()):
        words = line.split("/*")[0].split()
        if words[:1] in (["#if"], ["#ifdef"], ["#ifndef"]):
            asked.append(" ".join(words))
        elif words == ["#else"]:
            asked[-1] = {mac: others, others: mac}.get(asked[-1], "")
        elif words == ["#endif"]:
            asked.pop()
        if mac in asked:
            found.add(number)
    return found


def line_of(m: re.Match[str]) -> str:
    return m.string.splitlines()[m.string.count("\n", 0, m.start())].strip()


def hand(build: Build, files: list[str], part: Part) -> Iterator[str]:
    yield from _each(build, part.take(places(files)), SUITES)


def macos(build: MacBuild, files: list[str], part: Part) -> Iterator[str]:
    yield from _each(build, part.take(macos_places(files)), MACOS_SUITES)


def _each(
    build: Build | MacBuild, places: Iterable[tuple[Path, re.Match[str], str]], suites: list[str]
) -> Iterator[str]:
    for source, m, other in places:
        try:
            made = build.compile(source, text=m.string[: m.start()] + other + m.string[m.end() :])
        except ValueError:
            continue  # not C: the compiler notices
        if not red(build.link({source: made}), suites, "-x"):
            yield f"{source.name}:{m.string.count(chr(10), 0, m.start()) + 1}: {m[0]} is {other}: {line_of(m)}"


def manners(build: Build, names: list[str], part: Part) -> Iterator[str]:
    """The suite of guests first."""
    suites = [*SUITES[-1:], *SUITES[:-1]]
    for manner in part.take(m for m in MANNERS if not names or any(name in m.name for name in names)):
        texts: dict[Path, str] = {}
        for name, there, instead in manner.edits:
            source = CSRC / "tracelib" / f"{name}.c"
            texts[source] = texts.get(source, source.read_text()).replace(there, instead)
        library = build.link({source: build.compile(source, text) for source, text in texts.items()})
        failed = red(library, suites, "-x")
        print(f"  {manner.name}: {min(failed, default='nothing')}", file=sys.stderr, flush=True)
        if not failed:
            yield manner.name


def a_part(text: str) -> Part:
    m = re.fullmatch(r"([1-9]\d*)/([1-9]\d*)", text)
    if not m or int(m[1]) > int(m[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is no part like 2/5")
    return Part(int(m[1]), int(m[2]))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("rows", "intents", "hand", "manners", "macos"))
    parser.add_argument(
        "names", nargs="*", help="only these rows; with hand and macos: only these files of csrc/tracelib, without .c"
    )
    parser.add_argument("--part", metavar="K/N", type=a_part, default=Part(1, 1), help="the K-th of N parts")
    args = parser.parse_intermixed_args()
    with tempfile.TemporaryDirectory(prefix="mutants-") as top:
        build: Build | MacBuild = MacBuild(Path(top)) if args.what == "macos" else Build(Path(top))
        if failed := red(build.link(), MACOS_SUITES if args.what == "macos" else SUITES):
            raise SystemExit(f"mutants.py: these fail without a change: {sorted(failed)}")
        makers: dict[str, Callable[[Any, list[str], Part], Iterator[str]]] = {
            "rows": rows,
            "intents": intents,
            "hand": hand,
            "manners": manners,
            "macos": macos,
        }
        found = 0
        for text in makers[args.what](build, args.names, args.part):
            if text in KNOWN:
                print(f"survives, and may: {text}: {KNOWN[text]}", flush=True)
                continue
            found += 1
            print(f"survives: {text}", flush=True)
    print(f"{found} survive")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
