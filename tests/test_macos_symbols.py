"""The table against libSystem's own list of symbols: each has a row, or a line that says why not."""

from __future__ import annotations

import fnmatch
import re
import subprocess
import sys
from pathlib import Path

import ziglang
from tracelib_session import SOURCE

sys.path.insert(0, str(SOURCE / "csrc"))
import gen_calls

STUBS = Path(ziglang.__file__).parent / "lib" / "libc" / "darwin" / "libSystem.tbd"
MACHINES = {"x86_64": "x86_64-macos", "aarch64": "arm64e-macos"}  # as libSystem's list calls them
ROWS = gen_calls.read(SOURCE / "csrc" / "calls.table", "darwin")
WRAPPED = {row.name for row in ROWS if row.form != "not"}
NOT = [pattern for row in ROWS if row.form == "not" for pattern in row.name.split()]
#: Libraries that ask the kernel, or the loader, by themselves: what is called inside them comes past every wrapper.
THEMSELVES = ("libsystem_kernel", "libdyld")


def libraries() -> dict[str, dict[str, set[str]]]:
    """What each part of libSystem exports, for each machine, without the leading underscore of C."""
    found: dict[str, dict[str, set[str]]] = {}
    for document in STUBS.read_text(encoding="utf-8").split("--- !tapi-tbd"):
        named = re.search(r"install-name:\s*'?(\S+?)\.dylib'?\n", document)
        if not named:
            continue
        names: dict[str, set[str]] = {machine: set() for machine in MACHINES}
        for targets, body in re.findall(r"- targets:\s*\[([^\]]*)\]((?:(?!- targets:|\n[a-z]).)*)", document, re.S):
            for machine, target in MACHINES.items():
                if re.search(rf"\b{target}\b", targets):
                    for symbols in re.findall(r"symbols:\s*\[(.*?)\]", body, re.S):
                        names[machine] |= {name.strip().strip("'").removeprefix("_") for name in symbols.split(",")}
        found[Path(named[1]).name] = names
    return found


def reasons() -> tuple[dict[str, str], list[str]]:
    """Whole libraries with their reason, and patterns of names, from csrc/nopath_macos.txt."""
    whole: dict[str, str] = {}
    names: list[str] = []
    for line in (SOURCE / "csrc" / "nopath_macos.txt").read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        head, colon, rest = line.partition(": ")
        assert colon and rest.strip(), f"nopath_macos.txt: no reason in {line!r}"
        if head.startswith("library "):
            whole[head.removeprefix("library ")] = rest
        else:
            names += rest.split()
    return whole, names


LIBRARIES = libraries()
WHOLE, NO_PATH = reasons()


def matches(name: str, patterns: list[str]) -> bool:
    # [^x] of the shell is [!x] of fnmatch
    return any(fnmatch.fnmatchcase(name, pattern.replace("[^", "[!")) for pattern in patterns)


def unlisted(names: set[str]) -> list[str]:
    return sorted(n for n in names if n not in WRAPPED and not matches(n, NOT) and not matches(n, NO_PATH))


def exported(library: str) -> set[str]:
    return set().union(*LIBRARIES[library].values())


def test_every_library_is_known() -> None:
    assert len(LIBRARIES) > 30
    assert set(LIBRARIES) == {*WHOLE, *THEMSELVES}


def test_every_function_that_does_things_itself_is_listed() -> None:
    for library in THEMSELVES:
        names = exported(library)
        assert len(names) > 200
        missing = unlisted(names)
        assert not missing, f"{library}: a row in csrc/calls.table, or a reason there or in nopath_macos.txt: {missing}"


def test_a_function_that_nobody_knows_is_found() -> None:
    assert unlisted({"open", "getpid", "open_by_telepathy"}) == ["open_by_telepathy"]


def test_no_reason_is_about_nothing() -> None:
    """A name that no library has any more, or that was written wrongly."""
    everything = set().union(*(exported(library) for library in LIBRARIES))
    assert not [p for p in NO_PATH if not any(matches(n, [p]) for n in everything)]


def test_nothing_has_a_row_and_a_reason_against_it() -> None:
    assert not sorted(n for n in WRAPPED if matches(n, NO_PATH))


#: Words of a header's `const char *` that are no path: names of symbols, text, kinds of file systems.
TEXT = """
NSGetSectionDataInObjectFileImage NSIsSymbolDefinedInObjectFileImage NSIsSymbolNameDefined NSIsSymbolNameDefinedInImage
NSIsSymbolNameDefinedWithHint NSLinkEditError NSLinkModule NSLookupAndBindSymbol NSLookupAndBindSymbolWithHint
NSLookupSymbolInImage NSLookupSymbolInModule NSVersionOfLinkTimeLibrary NSVersionOfRunTimeLibrary _dyld_lookup_and_bind
_dyld_lookup_and_bind_fully _dyld_lookup_and_bind_with_hint _dyld_shared_cache_contains_path dlsym fmount mach_error
macho_cpu_type_for_arch_name mig_strncpy mig_strncpy_zerofill panic
"""
#: The kernel takes these from root alone.
ROOTS = {"auditctl", "swapon"}


def prototypes() -> dict[str, str]:
    """Parameters of each function that macOS' headers declare, by its name."""
    include = STUBS.parent.parent / "include" / "any-darwin-any"
    headers = sorted(str(p.relative_to(include)) for p in include.rglob("*.h"))
    text = subprocess.run(
        [sys.executable, "-m", "ziglang", "cc", "-target", "x86_64-macos.15.0", "-E", "-P", "-x", "c", "-"],
        # some say that they want to be included by another one, which they are
        input="#include <sys/types.h>\n" + "".join(f"#include <{h}>\n" for h in headers if "CommonCrypto" not in h),
        capture_output=True,
        text=True,
    ).stdout
    found: dict[str, str] = {}
    for m in re.finditer(r"\b(\w+) ?\(((?:[^();]|\([^()]*\))*)\)[^;(]*(?:\([^;]*)?;", " ".join(text.split())):
        found.setdefault(m[1], m[2])
    return found


def test_what_a_header_gives_a_text_to_is_looked_at_one_by_one() -> None:
    """A pattern above must not have swallowed a function with a path."""
    themselves = set().union(*(exported(library) for library in THEMSELVES))
    takes = {n for n, text in prototypes().items() if n in themselves and re.search(r"const char ?\*(?! ?const)", text)}
    assert {"open", "renamex_np", "clonefileat", "posix_spawn", "dlopen_preflight", "getfh"} <= takes
    wrong = {n for n in takes if n not in WRAPPED and not matches(n, NOT)}
    assert wrong == {*TEXT.split(), *ROOTS}


def test_a_system_call_has_no_dots() -> None:
    """For arm64 what "..." stands for is passed on the stack: `open` and `__open` find a mode in different places."""
    by_name = {row.name: row for row in ROWS if row.form != "not"}
    dotted = {name for name, row in by_name.items() if "..." in by_name[row.target or name].signature}
    assert {"open", "open$NOCANCEL", "openat", "guarded_open_np"} <= dotted
    assert not sorted(name for name in dotted if name.startswith("__"))


def test_twins_of_what_is_exchanged_are_exchanged() -> None:
    """$INODE64, $NOCANCEL, and the kernel's names below them: `__open`, `__open_nocancel`, `__mkdir_extended`."""
    kernel = exported("libsystem_kernel")
    missing = set()
    for name in kernel - WRAPPED:
        plain = re.sub(r"\$(INODE64|NOCANCEL|DARWIN_EXTSN)|_nocancel$|_extended$|^__", "", name)
        if plain in WRAPPED and not matches(name, NOT):
            missing.add(name)
    assert not missing
