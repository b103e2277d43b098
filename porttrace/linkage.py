"""What installed files need at run time: shared libraries (ELF, Mach-O), interpreters of scripts, pkg-config files;
and what Python and Perl code seems to import."""

from __future__ import annotations

import ast
import os
import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from porttrace.errors import PorttraceError

__all__ = ["Need", "needs_of", "needs_of_tree"]

_MAGIC = (b"\x7fELF", b"\xcf\xfa\xed\xfe", b"\xce\xfa\xed\xfe", b"\xca\xfe\xba\xbe", b"\xfe\xed\xfa\xcf")


@dataclass(frozen=True)
class Need:
    """`file` (as installed) needs the file `path` of the prefix; `how`: linked, interpreter, pkg-config, or imported,
    which is only a hint: an import may be tried, or never be come to."""

    file: str
    path: str
    how: str


def _lief() -> Any:
    try:
        import lief
    except ImportError:
        raise PorttraceError("reading executables needs the package lief: pip install 'porttrace[deps]'") from None
    lief.logging.disable()
    return lief


def _libraries(file: Path, installed: str, prefix: str) -> Iterator[str]:
    """Paths in the prefix that the loader would try first for each library. ld.so(8), dyld(1)."""
    lief = _lief()
    parsed = lief.parse(str(file))
    binaries = list(parsed) if isinstance(parsed, lief.MachO.FatBinary) else [parsed]
    origin = installed.rpartition("/")[0]
    for binary in binaries:
        if isinstance(binary, lief.ELF.Binary):
            names = [str(name) for name in binary.libraries]
            tags = (lief.ELF.DynamicEntryRpath, lief.ELF.DynamicEntryRunPath)
            runs = [str(path) for entry in binary.dynamic_entries if isinstance(entry, tags) for path in entry.paths]
        elif isinstance(binary, lief.MachO.Binary):
            names = [str(library.name) for library in binary.libraries]
            runs = [str(entry.path) for entry in getattr(binary, "rpaths", ())]
        else:
            continue
        places = [re.sub(r"\$\{?ORIGIN\}?|@loader_path|@executable_path", origin, run) for run in runs]
        for name in names:
            name = re.sub(r"^@loader_path|^@executable_path", origin, name)
            bare = name.removeprefix("@rpath/")
            tried = [name] if name.startswith("/") else [f"{place}/{bare}" for place in [*places, f"{prefix}/lib"]]
            for path in tried:
                path = os.path.normpath(path)
                if path.startswith(prefix + "/") and os.path.lexists(path):
                    yield path
                    break


_PYTHON = (
    "lib/python*/site-packages",
    "Library/Frameworks/Python.framework/Versions/*/lib/python*/site-packages",
)
_PERL = ("lib/perl5", "lib/perl5/*", "lib/perl5/*/*", "lib/perl5/*/*/*")
_USE = re.compile(r"^\s*(?:use|require)\s+([A-Za-z]\w*(?:::\w+)*)(?=[\s;(])", re.MULTILINE)


def _imported(text: str, python: bool, prefix: str) -> Iterator[str]:
    """Files in the prefix of the modules that a program's text names."""
    if not python:
        for name in dict.fromkeys(_USE.findall(text)):
            yield from _first(prefix, _PERL, [name.replace("::", "/") + ".pm"])
        return
    try:
        with warnings.catch_warnings(action="ignore"):
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return
    names: dict[str, None] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= dict.fromkeys(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            names[node.module.partition(".")[0]] = None
    for name in names:
        yield from _first(prefix, _PYTHON, [f"{name}/__init__.py", f"{name}.py", f"{name}.*.so", f"{name}.so"])


def _first(prefix: str, places: Iterable[str], names: list[str]) -> Iterator[str]:
    """The first of `names` (patterns) that lies in one of `places` (patterns) of the prefix."""
    for place in places:
        for name in names:
            for found in sorted(Path(prefix).glob(f"{place}/{name}")):
                yield str(found)
                return


def _language(name: str, head: bytes) -> str:
    """python, perl, or nothing: by the name, else by the interpreter."""
    first = head.split(b"\n")[0] if head[:2] == b"#!" else b""
    if name.endswith(".py") or b"python" in first:
        return "python"
    return "perl" if name.endswith((".pm", ".pl")) or b"perl" in first else ""


def needs_of(file: Path, installed: str, prefix: str, *, binaries: bool = True) -> list[Need]:
    """What one file needs of the prefix; `installed`: its path once installed. Unreadable files need nothing. Without
    `binaries` programs and libraries are not looked at."""
    try:
        if file.is_symlink() or not file.is_file():
            return []
        with file.open("rb") as stream:
            head = stream.read(512)
    except OSError:
        return []
    found: list[Need] = []
    if head[:2] == b"#!":
        words = head[2:].split(b"\n")[0].split()
        program = os.fsdecode(words[0]) if words else ""
        if program.startswith(prefix + "/"):
            found.append(Need(installed, os.path.normpath(program), "interpreter"))
    elif binaries and head[:4] in _MAGIC:
        found += [Need(installed, path, "linked") for path in _libraries(file, installed, prefix)]
    elif installed.endswith(".pc"):
        text = file.read_text(encoding="utf-8", errors="replace")
        for line in re.findall(r"^Requires(?:\.private)?:(.*)$", text, re.MULTILINE):
            for name in re.findall(r"([\w.+-]+)(?:\s*[<>=!]+\s*\S+)?", line):
                for place in ("lib/pkgconfig", "share/pkgconfig"):
                    path = f"{prefix}/{place}/{name}.pc"
                    if Path(path).exists():
                        found.append(Need(installed, path, "pkg-config"))
                        break
    language = _language(installed, head)
    if language:
        text = file.read_text(encoding="utf-8", errors="replace")
        found += [Need(installed, path, "imported") for path in _imported(text, language == "python", prefix)]
    return list(dict.fromkeys(found))


def needs_of_tree(destroot: Path, prefix: str) -> list[Need]:
    """What all files of a destroot need of the prefix."""
    found: list[Need] = []
    for directory, _, names in os.walk(destroot):
        for name in sorted(names):
            file = Path(directory) / name
            found += needs_of(file, "/" + os.path.relpath(file, destroot), prefix)
    return found
