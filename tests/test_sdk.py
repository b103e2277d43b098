"""An SDK in the place of /: real compilers, a real sysroot made of packages, a library of another version in it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Prefix, PrefixFactory

from porttrace.defaults import base_os, phase_policy
from porttrace.errors import PorttraceError
from porttrace.filemap import Action
from porttrace.policy import Image
from porttrace.sdk import find_sdk, kept_places, sdk_rules

PORTTRACE = str(Path(sys.executable).with_name("porttrace"))
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
LIB = "usr/lib/x86_64-linux-gnu"
VERSION = "1.2.99"
"""Of the zlib in the sysroot; no release has it, so what says it can only have been built with the sysroot."""

PROGRAM = """
#include <stdio.h>
#include <zlib.h>
int main(void)
{
	printf("header %s library %s\\n", ZLIB_VERSION, zlibVersion());
	return zlib_only_in_the_sdk() != 42;
}
"""


def _call(*argv: str | Path, cwd: Path) -> None:
    done = subprocess.run(list(map(str, argv)), cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        pytest.fail(f"the sysroot cannot be made: {' '.join(map(str, argv))}: {done.stdout}{done.stderr}")


@pytest.fixture(scope="session")
def sysroot() -> Iterator[Path]:
    """Debian's libc and kernel headers, and zlib built from Debian's source under a version of its own."""
    sys.path.insert(0, str(ROOT / "bench"))
    try:
        from sources import SourceError, apt_source
    finally:
        sys.path.pop(0)
    top = Path(tempfile.mkdtemp(prefix="porttrace-sdk-", dir="/srv"))
    try:
        top.chmod(0o755)
        sdk = top / "Debian.sdk"
        sdk.mkdir()
        _call("apt-get", "download", "-q", "libc6-dev", "linux-libc-dev", "zlib1g-dev", cwd=top)
        for package in top.glob("*.deb"):
            _call("dpkg", "-x", package, sdk, cwd=top)
        try:
            zlib = apt_source("zlib", top)
        except SourceError as error:
            pytest.fail(f"the sysroot cannot be made: {error}")
        for name in ("zlib.h", "zlib.pc.in", "configure"):
            text = (zlib / name).read_text(encoding="latin-1")
            text = re.sub(r"1\.2\.1[0-9](?:\.1)?|1\.3\.[0-9]", VERSION, text)
            text = text.replace("#define ZLIB_VER_MAJOR", "int zlib_only_in_the_sdk(void);\n#define ZLIB_VER_MAJOR")
            (zlib / name).write_text(text, encoding="latin-1")
        with (zlib / "zutil.c").open("a") as source:
            source.write("\nint ZEXPORT zlib_only_in_the_sdk(void) { return 42; }\n")
        script = f"CFLAGS=-O0 ./configure --prefix=/usr --libdir=/{LIB} && make -s -j2 libz.so.{VERSION} libz.a zlib.pc"
        _call("sh", "-ec", script + f" && make -s install-libs DESTDIR={sdk}", cwd=zlib)
        for header in ("zlib.h", "zconf.h"):
            shutil.copy(zlib / header, sdk / "usr/include" / header)
        yield sdk
    finally:
        shutil.rmtree(top)


@pytest.fixture
def work() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="porttrace-work-", dir="/srv") as name:
        (Path(name) / "t.c").write_text(PROGRAM)
        yield Path(name)


class Run:
    def __init__(self, work: Path, *words: str | Path) -> None:
        report = work / "report.json"
        report.unlink(missing_ok=True)
        done = subprocess.run(
            [PORTTRACE, "run", "--report", report, *words],
            cwd=work,
            capture_output=True,
            text=True,
            env={"PATH": PATH, "HOME": "/nonexistent"},
        )
        self.status, self.out, self.err = done.returncode, done.stdout, done.stderr
        self.findings: list[dict[str, Any]] = json.loads(report.read_text())["findings"] if report.exists() else []

    def paths(self, kind: str) -> set[str]:
        return {f["path"] for f in self.findings if f["kind"] == kind}


def versions(binary: Path, sdk: Path) -> str:
    """What a program says when it runs outside of any trace with the sysroot's library."""
    env = {"LD_LIBRARY_PATH": str(sdk / LIB)}
    return subprocess.run([binary], env=env, capture_output=True, text=True, check=True).stdout.strip()


# --- with compilers -------------------------------------------------------------------------------------------------


def test_a_program_is_built_with_the_sysroots_headers_and_library(sysroot: Path, work: Path) -> None:
    plain = subprocess.run(["cc", "t.c", "-lz"], cwd=work, capture_output=True, text=True)
    assert plain.returncode, "this machine's own zlib builds the program: the test would prove nothing"
    run = Run(work, "--sdk", sysroot, "--", "cc", "-Wall", "-Werror", "-MD", "t.c", "-lz", "-o", "t")
    assert run.status == 0, run.err
    assert versions(work / "t", sysroot) == f"header {VERSION} library {VERSION}"
    depends = (work / "t.d").read_text().replace("\\\n", " ").split()
    assert "/usr/include/zlib.h" in depends and "/usr/include/stdio.h" in depends
    assert not [name for name in depends if str(sysroot) in name]
    rules = Run(work, "--sdk", sysroot, "--", "cc", "-M", "t.c").out.replace("\\\n", " ").split()
    assert rules[1:] == depends[1:], "gcc -M says the same"


def test_a_static_program(sysroot: Path, work: Path) -> None:
    run = Run(work, "--sdk", sysroot, "--", "cc", "-static", "t.c", "-lz", "-o", "t")
    assert run.status == 0, run.err
    assert subprocess.check_output([work / "t"], text=True).strip() == f"header {VERSION} library {VERSION}"
    assert not run.paths("redirected-missing") - {f"/{LIB}/libc.so.6"}, run.err


def test_pkg_config_and_cmake_agree(sysroot: Path, work: Path) -> None:
    (work / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.10)\nproject(t C)\nfind_package(ZLIB REQUIRED)\n"
        "message(STATUS found ${ZLIB_VERSION_STRING} ${ZLIB_INCLUDE_DIRS} ${ZLIB_LIBRARIES})\n"
        "add_executable(t t.c)\ntarget_link_libraries(t ZLIB::ZLIB)\n"
    )
    script = (
        "pkg-config --modversion zlib && pkg-config --variable=libdir zlib && cmake -S . -B out && cmake --build out"
    )
    run = Run(work, "--sdk", sysroot, "--", "sh", "-ec", script)
    assert run.status == 0, run.err + run.out
    assert run.out.splitlines()[:2] == [VERSION, f"/{LIB}"]
    assert f"found{VERSION}/usr/include/{LIB}/libz.so" in run.out
    assert versions(work / "out/t", sysroot) == f"header {VERSION} library {VERSION}"
    depends = (work / "out/CMakeFiles/t.dir/t.c.o.d").read_text()
    assert " /usr/include/zlib.h" in depends and str(sysroot) not in depends


def test_cxx_and_the_preprocessor(sysroot: Path, work: Path) -> None:
    """libstdc++ belongs to the compiler, what it includes to the sysroot."""
    (work / "t.cc").write_text("#include <iostream>\n#include <zlib.h>\nint main() { std::cout << ZLIB_VERSION; }\n")
    run = Run(work, "--sdk", sysroot, "--", "sh", "-ec", "c++ t.cc -o t && ./t && echo && c++ -E t.cc | grep ^#")
    assert run.status == 0, run.err
    assert run.out.splitlines()[0] == VERSION
    assert '"/usr/include/zlib.h"' in run.out and str(sysroot) not in run.out


# --- names ----------------------------------------------------------------------------------------------------------


def test_names_are_those_that_the_program_asked_for(sysroot: Path, work: Path) -> None:
    script = f"""
        realpath /{LIB}/libz.so
        readlink -f /{LIB}/libz.so
        cd /usr/include/linux; /bin/pwd; env -u PWD /bin/pwd
        readlink /proc/self/cwd
        python3 -c 'import os
print(os.getcwd()); os.chdir("../asm-generic"); print(os.getcwd(), os.path.exists("../zlib.h"))'
        cd ..; grep -c 'define ZLIB_VERSION "{VERSION}"' zlib.h
        python3 -c 'import os
d = os.open("/usr/include", os.O_RDONLY | os.O_DIRECTORY)
print(os.readlink(f"/proc/self/fd/{{d}}"), "{VERSION}" in open(os.open("zlib.h", os.O_RDONLY, dir_fd=d)).read())
os.fchdir(d); print(os.getcwd(), "{VERSION}" in open("zlib.h").read())'
    """
    run = Run(work, "--sdk", sysroot, "--", "sh", "-ec", script)
    assert run.status == 0, run.err
    assert run.out.splitlines() == [
        f"/{LIB}/libz.so.{VERSION}",
        f"/{LIB}/libz.so.{VERSION}",
        *["/usr/include/linux"] * 4,
        "/usr/include/asm-generic True",
        "1",
        "/usr/include True",
        "/usr/include True",
    ]


def test_the_c_librarys_ways_to_ask_for_the_directory(sysroot: Path, work: Path) -> None:
    (work / "cwd.c").write_text("""
        #define _GNU_SOURCE
        #include <errno.h>
        #include <stdio.h>
        #include <stdlib.h>
        #include <string.h>
        #include <unistd.h>
        int main(void)
        {
            char wide[4096], exact[15], narrow[14];
            if (chdir("/usr/include/"))
                return 1;
            printf("%s %s %s ", getcwd(wide, sizeof wide), getcwd(NULL, 0), getcwd(NULL, 4096));
            char *p = getcwd(narrow, 12);
            printf("%s ", p ? p : strerror(errno));
            unsetenv("PWD");
            printf("%s ", get_current_dir_name());
            ssize_t n = readlink("/proc/self/cwd", exact, sizeof exact);
            printf("%.*s ", (int)n, exact);
            n = readlink("/proc/self/cwd", narrow, 4);
            printf("%.*s\\n", (int)n, narrow);
            return 0;
        }
    """)
    subprocess.run(["cc", "-O2", "-o", "cwd", "cwd.c"], cwd=work, check=True)
    run = Run(work, "--sdk", sysroot, "--", "./cwd")
    here = "/usr/include"
    range_error = os.strerror(34)
    assert run.out == f"{here} {here} {here} {range_error} {here} {here} /usr\n", run.err


# --- what is not in the SDK, and what is nobody's business ----------------------------------------------------------


def test_what_the_sdk_lacks_is_the_systems_and_reported(sysroot: Path, work: Path) -> None:
    there = Path("/usr/share/pkgconfig")
    lacking = next(p for p in Path("/usr/include").glob("*.h") if not (sysroot / str(p)[1:]).exists())
    run = Run(work, "--sdk", sysroot, "--", "sh", "-c", f"cat {lacking} > copy; ls {there} > list")
    assert run.status == 0 and (work / "copy").read_bytes() == lacking.read_bytes()
    assert run.paths("redirected-missing") == {str(lacking)}
    assert f"{lacking}, which the SDK lacks, was taken from the system" in run.err
    (finding,) = [f for f in run.findings if f["kind"] == "redirected-missing" and f["access"] == "read"]
    assert finding["reason"] and str(sysroot) in finding["rule"] and finding["programs"][0]["exe"] == "/usr/bin/cat"
    # neither has it: nothing to say
    run = Run(work, "--sdk", sysroot, "--", "cat", "/usr/include/no/such/file.h")
    assert run.status == 1 and not run.findings


def test_many_fallbacks_are_one_line(sysroot: Path, work: Path) -> None:
    lacking = [p for p in sorted(Path("/usr/include").glob("*.h")) if not (sysroot / str(p)[1:]).exists()][:3]
    run = Run(work, "--sdk", sysroot, "--", "cat", *lacking)
    assert len(lacking) == 3 and len(run.paths("redirected-missing")) == 3
    assert len(run.err.splitlines()) == 1 and "3 files that the SDK lacks" in run.err
    assert all(str(p) in Run(work, "-v", "--sdk", sysroot, "--", "cat", *lacking).err for p in lacking)


def test_programs_and_what_they_load_are_this_systems(sysroot: Path, work: Path) -> None:
    """A sysroot may hold programs and libraries for another machine: they would not run here."""
    bad = sysroot / "usr/lib/only-here-too"
    bad.mkdir()
    own = Path("/usr/lib/only-here-too")
    own.mkdir()
    try:
        for name in ("usr/bin/true", "usr/lib/only-here-too/tool"):
            (sysroot / name).parent.mkdir(parents=True, exist_ok=True)
            (sysroot / name).write_bytes(b"\x7fELF no program of this machine")
            (sysroot / name).chmod(0o755)
        shutil.copy("/bin/echo", own / "tool")
        run = Run(work, "--sdk", sysroot, "--", "sh", "-ec", "/usr/bin/true; true; /usr/lib/only-here-too/tool ran")
        assert (run.status, run.out) == (0, "ran\n"), run.err
        loaded = (
            f"import ctypes; f = ctypes.CDLL('/{LIB}/libz.so.1').zlibVersion; f.restype = ctypes.c_char_p; print(f())"
        )
        run = Run(work, "--sdk", sysroot, "--", "python3", "-c", loaded)
        assert run.status == 0 and VERSION not in run.out, run.out + run.err
    finally:
        shutil.rmtree(own)
        shutil.rmtree(bad)
        shutil.rmtree(sysroot / "usr/bin")


def test_falling_back_shows_nothing_that_is_hidden(sysroot: Path, work: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="porttrace-secret-", dir="/opt") as name:
        secret = Path(name) / "secret"
        secret.write_text("secret")
        run = Run(work, "--sdk", sysroot, "--", "cat", secret)
        assert run.status == 1 and "secret" not in run.out
        assert str(secret) in run.paths("hidden")
        # by a link in the SDK, and by one out of it
        for link, target in (("usr/include/way", name), ("usr/include/up", "../../../../.." + name)):
            (sysroot / link).symlink_to(target)
        try:
            for link in ("way", "up"):
                run = Run(work, "--sdk", sysroot, "--", "cat", f"/usr/include/{link}/secret")
                assert run.status == 1 and "secret" not in run.out, link
                assert str(secret) in run.paths("hidden"), (link, run.findings)
        finally:
            (sysroot / "usr/include/way").unlink()
            (sysroot / "usr/include/up").unlink()
    assert Run(work, "--sdk", sysroot, "--", "sh", "-c", "echo > /usr/include/zlib.h").status
    assert VERSION in (sysroot / "usr/include/zlib.h").read_text()


# --- the rules ------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_sdk(open_tmp: Path) -> Path:
    for name in ("usr/include", "usr/lib", "lib", "usr/local/include", "opt/vendor", "etc", "usr/bin"):
        (open_tmp / "My.sdk" / name).mkdir(parents=True)
    return open_tmp / "My.sdk"


def test_each_place_goes_where_it_belongs(small_sdk: Path) -> None:
    policy = phase_policy(phase="build", prefix="/opt/local", workpath="/opt/local/w", sdk=small_sdk, platform="linux")
    image = Image(policy.compile())

    def where(path: str) -> tuple[Action, str | None, bool]:
        d = image.decide(path.encode())
        return d.action, d.physical.decode() if d.physical else None, d.fallback

    sdk = str(small_sdk)
    assert where("/usr/include/a.h") == (Action.REDIRECT, sdk + "/usr/include/a.h", True)
    assert where("/usr/lib/pkgconfig/a.pc") == (Action.REDIRECT, sdk + "/usr/lib/pkgconfig/a.pc", True)
    assert where("/usr/share/aclocal/a.m4") == (Action.REDIRECT, sdk + "/usr/share/aclocal/a.m4", True)
    for own in (
        "/usr/bin/cc",
        "/bin/sh",
        "/etc/passwd",
        "/dev/null",
        "/proc/self/exe",
        "/tmp/x",
        "/usr/libexec/gcc/cc1",
    ):
        assert where(own) == (Action.ALLOW, None, False), own
    assert where("/usr/lib/gcc/x86_64-linux-gnu/12/crtbegin.o") == (Action.ALLOW, None, False)
    # a place of this machine that is hidden is the SDK's where it has one, and stays hidden where not
    assert where("/usr/local/include/x.h") == (Action.REDIRECT, sdk + "/usr/local/include/x.h", False)
    assert where("/opt/vendor/x") == (Action.REDIRECT, sdk + "/opt/vendor/x", False)
    assert where("/home/u/.profile")[0] is Action.DENY
    # workpath and prefix as ever
    assert where("/opt/local/w/a.c") == (Action.ALLOW, None, False)
    rule = image.decide(b"/opt/local/lib/liba.so").rule
    assert rule is not None and rule.action is Action.ASK
    assert where(sdk + "/usr/include/a.h") == (Action.ALLOW, None, False)
    # /lib is a link to /usr/lib here and a directory there: the one real name of a file is looked for
    if os.path.islink("/lib"):  # noqa: PTH114
        assert where("/lib/libz.so") == (Action.REDIRECT, sdk + "/lib/libz.so", False)
    shutil.rmtree(small_sdk / "lib")
    again = {rule.path: rule for rule in sdk_rules(base_os("read", "linux"), small_sdk, "linux")}
    assert again[b"/lib"].fallback


def test_the_lists_of_both_systems_are_sound() -> None:
    for platform in ("linux", "macos"):
        assert all(place.startswith(b"/") for place in kept_places(platform))
        rules = sdk_rules(base_os("read", platform), Path("/usr/share"), platform)
        actions = {rule.path: rule.action for rule in rules}
        assert actions[b"/usr"] is Action.REDIRECT and actions[b"/usr/bin"] is Action.ALLOW
        assert len(actions) == len(rules), "two rules for one place"
    mac = {rule.path: rule.action for rule in sdk_rules(base_os("read", "macos"), Path("/usr/share"), "macos")}
    assert mac[b"/System"] is Action.REDIRECT and mac[b"/Library/Developer/CommandLineTools"] is Action.ALLOW


def test_every_compilers_own_directory_is_kept() -> None:
    """What the compiler of this machine names as its own, whatever its version and place."""
    kept = kept_places("linux")
    names = subprocess.check_output(["cc", "-print-search-dirs"], text=True)
    install = re.search(r"^install: (.*)$", names, re.MULTILINE)
    assert install is not None
    own = [install[1], subprocess.check_output(["cc", "-print-prog-name=cc1"], text=True).strip()]
    for name in own:
        real = os.path.realpath(name).encode()
        assert any(real == place or real.startswith(place + b"/") for place in kept), name


# --- names of SDKs, port --------------------------------------------------------------------------------------------


def test_names(open_tmp: Path) -> None:
    (open_tmp / "sdks/Old.sdk").mkdir(parents=True)
    assert find_sdk("Old", open_tmp) == find_sdk("Old.sdk", open_tmp) == find_sdk(str(open_tmp / "sdks/Old.sdk"))
    for bad in ("", "none", "../sdks/Old.sdk", "..", "/no/such", "/", "a\0b", "/usr/.."):
        with pytest.raises(PorttraceError) as error:
            find_sdk(bad, open_tmp)
        assert len(str(error.value).splitlines()) == 1
    with pytest.raises(PorttraceError, match=r"/Developer/SDKs.*CommandLineTools.*sdks"):
        find_sdk("none", open_tmp, "macos")


def test_an_unknown_sdk_is_one_line(work: Path, make_prefix: PrefixFactory) -> None:
    run = Run(work, "--sdk", "NoSuch", "--", "true")
    assert run.status == 125 and len(run.err.splitlines()) == 1 and "NoSuch" in run.err and "/Developer/SDKs" in run.err
    run = Run(work, "--sdk", "/no/such", "--no-defaults", "--", "true")
    assert run.status == 125 and len(run.err.splitlines()) == 1
    result = make_prefix().fails("-t", "--with-trace-sdk=NoSuch", "install", "tally")
    assert result.err.count("\n") == 1 and "NoSuch" in result.err, result.err


PORTFILE = """PortSystem 1.0
name usesz
version 1
categories devel
maintainers nomaintainer
license BSD
description x
long_description x
homepage https://example.org
distfiles
extract.mkdir yes
use_configure no
build {
    system -W ${worksrcpath} "cc -MD ${filespath}/t.c -lz -o usesz"
}
destroot {
    xinstall -d ${destroot}${prefix}/bin
    xinstall -m 755 ${worksrcpath}/usesz ${destroot}${prefix}/bin/usesz
}
"""


@pytest.mark.parametrize("how", ["option", "name", "macports.conf"])
def test_port_builds_with_the_sdk(sysroot: Path, make_prefix: PrefixFactory, how: str) -> None:
    prefix: Prefix = make_prefix(**({"trace_sdk": str(sysroot)} if how == "macports.conf" else {}))
    prefix.add_port("devel", "usesz", PORTFILE, {"t.c": PROGRAM})
    words = [] if how == "macports.conf" else [f"--with-trace-sdk={sysroot}"]
    if how == "name":
        shutil.copytree(sysroot, prefix.path / "var/macports/sdks/Debian.sdk", symlinks=True)
        words = ["--with-trace-sdk=Debian"]
    result = prefix.port("-t", "-k", *words, "install", "usesz")
    assert versions(prefix.path / "bin/usesz", sysroot) == f"header {VERSION} library {VERSION}"
    assert "which the SDK lacks" in result.err or "files that the SDK lacks" in result.err, result.err
    # untraced, the machine's own is used, and cannot build it
    prefix.port("uninstall", "usesz")
    prefix.port("clean", "usesz")
    shutil.rmtree(prefix.path / "var/macports/software", ignore_errors=True)
    assert "zlib_only_in_the_sdk" in prefix.fails("-v", "install", "usesz").text
