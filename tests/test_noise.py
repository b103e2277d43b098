"""Which probes are known to be harmless, and that nothing actionable is among them."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

import porttrace
from porttrace.findings import Finding, FindingKind, Program
from porttrace.noise import classes, classify, classify_finding


@pytest.mark.parametrize(
    ("path", "program", "absent", "name"),
    [
        ("/usr/local/share/locale/de/LC_MESSAGES/gcc-12.mo", "/usr/bin/gcc", False, "locale"),
        ("/usr/share/locale/C.utf8/LC_MESSAGES/libc.mo", "/usr/bin/bash", True, "locale"),
        ("/usr/lib/x86_64-linux-gnu/gconv/gconv-modules.cache", "/usr/bin/iconv", False, "gconv"),
        ("/home/me/.terminfo/x/xterm", "/usr/bin/tput", False, "terminfo"),
        ("/etc/ld.so.preload", "/bin/true", True, "loader"),
        ("/usr/lib/x86_64-linux-gnu/glibc-hwcaps/x86-64-v3/libz.so.1", "/bin/ls", True, "loader"),
        ("/usr/local/include", "/usr/lib/gcc/x86_64-linux-gnu/12/cc1", False, "compiler-directories"),
        ("/usr/local/share/awk", "/usr/bin/gawk", False, "awk"),
        ("/usr/local/share/perl/5.36.0", "/usr/bin/perl", False, "perl"),
        ("/usr/local/share/perl/5.36.0/POSIX.pm", "/usr/bin/perl", True, "perl"),
        ("/usr/share/perl5/POSIX.pmc", "/usr/bin/perl", True, "perl"),
        ("/usr/local/lib/python3.11/dist-packages", "/usr/bin/python3.11", False, "python"),
        ("/usr/bin/pyvenv.cfg", "/usr/bin/python3.11", True, "python"),
        ("/root/.gitconfig", "/usr/bin/git", False, "git"),
        ("/trees/.git", "/usr/bin/git", True, "git"),
        ("/home/me/.ccache/ccache.conf", "/usr/bin/ccache", False, "ccache"),
        ("/opt/local/share/zoneinfo/Europe/Berlin", "/usr/bin/date", False, "zoneinfo"),
        ("/var/run/nscd/socket", "/usr/bin/id", True, "name-service"),
        ("/usr/local/bin/gcc", "/usr/bin/dash", True, "command-search"),
        ("/usr/local/share/config.site", "/usr/bin/dash", True, "build-tool-directories"),
    ],
)
def test_known_probes(path: str, program: str, absent: bool, name: str) -> None:
    assert classify(path, program, absent) == name


@pytest.mark.parametrize(
    ("path", "program", "absent"),
    [
        ("/usr/local/include/zlib.h", "/usr/lib/gcc/x86_64-linux-gnu/12/cc1", False),
        ("/usr/local/lib/libz.so", "/usr/bin/ld", False),
        ("/usr/local/bin/gcc", "/usr/bin/dash", False),  # it is there: the build would have taken it
        ("/usr/local/share/perl/5.36.0/Foo.pm", "/usr/bin/perl", False),
        ("/usr/local/lib/python3.11/dist-packages/numpy/__init__.py", "/usr/bin/python3.11", False),
        ("/usr/local/share/awk", "/usr/bin/configure", False),  # another program's matter
        ("/opt/local/include/stray.h", "/usr/bin/cc", False),
        ("/home/me/src/secret", "/usr/bin/cat", False),
        ("/usr/local/lib/pkgconfig/foo.pc", "/usr/bin/pkg-config", False),
        ("/home/me/x/.gitconfig", "/usr/bin/git", False),  # `~` is a home, not any directory
        ("/usr/local/include/deep/er", "/usr/bin/cc", False),
    ],
)
def test_what_has_to_be_shown(path: str, program: str, absent: bool) -> None:
    assert classify(path, program, absent) is None


def finding(kind: FindingKind, path: str, *programs: str) -> Finding:
    return Finding(kind=kind, path=path, access="stat", programs=[Program(p) for p in programs])


def test_files_of_ports_and_writes_never_are_noise() -> None:
    path = "/opt/local/share/zoneinfo/UTC"
    for kind in FindingKind:
        name = classify_finding(finding(kind, path, "/usr/bin/date"))
        quiet = kind in (FindingKind.HIDDEN, FindingKind.ABSENT, FindingKind.UNOWNED)
        assert name == ("zoneinfo" if quiet else None), kind


def test_every_program_must_be_a_known_one() -> None:
    awk, other = "/usr/bin/gawk", "/work/x/conftest"
    assert classify_finding(finding(FindingKind.HIDDEN, "/usr/local/share/awk", awk)) == "awk"
    assert classify_finding(finding(FindingKind.HIDDEN, "/usr/local/share/awk", awk, other)) is None


def test_the_data_is_sound() -> None:
    data = tomllib.loads((Path(porttrace.__file__).parent / "data/noise.toml").read_text())
    names = [c["name"] for c in data["class"]]
    assert len(set(names)) == len(names) == len(classes())
    for c in data["class"]:
        assert set(c) <= {"name", "why", "paths", "absent", "programs"} and c["why"]
        for glob in [*c.get("paths", []), *c.get("absent", [])]:
            assert glob.startswith(("/", "~/", "**/")), glob
            assert glob not in ("**", "/**", "**/*", "~/**", "/usr/**", "/usr/local/**"), glob
