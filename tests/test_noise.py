"""Which probes are known to be harmless, and that nothing actionable is among them."""

from __future__ import annotations

import fnmatch
import itertools
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import pytest

import porttrace
from porttrace import noise
from porttrace.findings import Finding, FindingKind, Program
from porttrace.messages import plain, render
from porttrace.noise import classes, classify, classify_finding, files_in_searched
from porttrace.records import replace
from porttrace.tables import table


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
        ("/opt", "/usr/bin/cmake", False, "build-tool-directories"),
        ("/root/.cargo/bin", "/usr/bin/cmake", False, "command-search"),
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
        ("/home/me/.cargo/bin/cc", "/usr/bin/dash", False),
        ("/opt/local", "/usr/bin/cmake", False),
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


def test_a_path_is_matched_once_however_many_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A report of a long build has findings that hundreds of compilers share."""
    asked: list[str] = []

    class Counted:
        def __init__(self, globs: noise._Globs) -> None:
            self.globs = globs

        def fullmatch(self, path: str) -> bool:
            asked.append(path)
            return self.globs.fullmatch(path)

    counted = tuple(replace(c, paths=Counted(c.paths), absent=Counted(c.absent)) for c in classes())
    monkeypatch.setattr(noise, "classes", lambda: counted)
    assert classify_finding(finding(FindingKind.HIDDEN, "/usr/local/include", *["/usr/bin/cc1"] * 500))
    assert 0 < len(asked) <= len(counted)


def test_the_data_is_sound() -> None:
    data = tomllib.loads((Path(porttrace.__file__).parent / "data/noise.toml").read_text())
    names = [c["name"] for c in data["class"]]
    assert len(set(names)) == len(names) == len(classes())
    for c in data["class"]:
        assert set(c) <= {"name", "why", "paths", "absent", "programs"} and c["why"]
        for glob in [*c.get("paths", []), *c.get("absent", [])]:
            assert glob.startswith(("/", "~/", "**/")), glob
            assert glob not in ("**", "/**", "**/*", "~/**", "/usr/**", "/usr/local/**"), glob


def test_a_searched_directory_with_files_in_it_is_named(tmp_path: Path) -> None:
    """A compiler that was told that it is not there never asks for the headers: nothing else would tell of them."""
    include = tmp_path / "include"
    (include / "empty").mkdir(parents=True)
    probe = finding(FindingKind.HIDDEN, str(include), "/usr/lib/gcc/x86_64-linux-gnu/12/cc1")

    def told() -> str:
        short = plain(render([probe], noise=lambda f: "compiler-directories"))
        long = plain(render([probe], True, noise=lambda f: "compiler-directories"))
        assert ("2 files" in short) == ("2 files" in long)
        return short

    assert files_in_searched(probe) == 0 and told() == ""
    (include / "empty" / "zlib.h").touch()
    (include / "x.h").touch()
    assert files_in_searched(probe) == 2
    assert "include (2 files)" in told() and len(told().splitlines()) == 2
    for path, kind in (
        (include / "x.h", FindingKind.HIDDEN),
        (tmp_path, FindingKind.HIDDEN),
        (include, FindingKind.ABSENT),
    ):
        assert files_in_searched(finding(kind, str(path), "cc1")) == 0


def test_the_noise_of_a_real_build() -> None:
    """configure-like probing shows nothing by default; a planted program, file and header are named."""
    with tempfile.TemporaryDirectory(prefix="porttrace-noise-", dir="/srv") as name:
        work, other = Path(name) / "work", Path(name) / "other"
        for directory in (work, other / "include", other / "bin"):
            directory.mkdir(parents=True)
        (work / "a.c").write_text('#include <stdio.h>\nint main(void) { return puts("a") < 0; }\n')
        script = (
            "gcc -v -E a.c; cc a.c -o a; gawk 1 </dev/null; perl -MPOSIX -e 1; python3 -c 'import json'; git --version;"
            "locale; tput -T xterm cols; iconv -f latin1 -t utf8 a.c; date; bash -lc true; make -f /dev/null;"
            "m4 </dev/null; pkg-config --list-all; cmake --version; aclocal --version; id; TZ=UTC date"
        )
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

        def run(path: str, script: str) -> str:
            argv = [str(Path(sys.executable).with_name("porttrace")), "run", "--", "sh", "-c", script]
            env = {"PATH": path, "HOME": "/root", "LANG": "de_DE.UTF-8", "TERM": "xterm"}
            done = subprocess.run(argv, cwd=work, env=env, capture_output=True, text=True)
            return "\n".join(line for line in done.stderr.split("\n") if line.startswith(("Warning: ", "  ")))

        quiet = [line for line in run(path, script + " >/dev/null 2>&1").splitlines() if line]
        assert len(quiet) <= 5, quiet
        (other / "include/p.h").touch()
        (other / "bin/planted").write_text("#!/bin/sh\n")
        (other / "bin/planted").chmod(0o755)
        loud = run(f"{other}/bin:{path}", f"({script}; planted; cat {other}/include/p.h) >/dev/null 2>&1")
        assert f"  {other}/bin/planted" in loud and f"  {other}/include/p.h" in loud


@pytest.mark.parametrize("glob", ["a*a", "a*b*", "*", "**", "", "a", "ab*ab", "*ab*ab*", "ab", "*ba"])
def test_a_pattern_of_stars_is_that_of_the_shell(glob: str) -> None:
    for length in range(7):
        for text in map("".join, itertools.product("ab", repeat=length)):
            assert noise._stars(glob, text) == fnmatch.fnmatchcase(text, glob), (glob, text)


def test_paths_match_with_and_without_an_expression() -> None:
    """Patterns without ``**`` are told without one: the same is said of what lies at and around them."""
    globs = {glob for c in table("noise.toml")["class"] for glob in (*c.get("paths", ()), *c.get("absent", ()))}
    assert sum("**" not in glob for glob in globs) > 50
    for glob in globs:
        for filling in ("", "x", "x/y", "-", "x.y-linux-gnu"):
            path = glob.replace("**", filling).replace("*", filling)
            for tried in (path, path[:-1], path + "z", path + "/", "/" + path):
                assert noise._matches_path(glob, tried) == bool(noise._regex(glob).fullmatch(tried)), (glob, tried)
