"""What the library cannot enter is built and run under ``port -t`` with the findings of its dynamic equivalent.

A static C program, one for musl (static and not), Go, Rust, and a static busybox ask for the same files; whatever each
asks beyond that (its own run-time's files) is visible to all. A compiler that is not here is said to be missing.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import Prefix

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="programs of Linux")

PORTFILE = """\
PortSystem 1.0
name prober
version 1.0
categories devel
license public-domain
maintainers nomaintainer
description asks for what it did not declare
long_description asks for what it did not declare
homepage https://porttrace.invalid/
distfiles
extract.mkdir yes
use_configure no

post-extract {
    foreach file [glob ${filespath}/*] {
        file copy ${file} ${worksrcpath}
    }
    system "chmod -R u+rwx ${worksrcpath}"
}
build {
    system -W ${worksrcpath} "@BUILD@"
    system -W ${worksrcpath} "@RUN@ ${prefix}/include/stray.h ${prefix}/share/outside"
}
destroot {
    xinstall -d ${destroot}${prefix}/share/prober
    system "echo prober > ${destroot}${prefix}/share/prober/data"
}
"""

C = r"""
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
int main(int argc, char **argv) {
    struct stat st;
    char dir[1000];
    strcpy(dir, argv[1]);
    *strrchr(dir, '/') = 0;
    DIR *d = opendir(dir);
    for (struct dirent *e; (e = readdir(d));)
        if (strstr(e->d_name, "stray")) return 1;
    if (stat(argv[1], &st) == 0 || open(argv[1], O_RDONLY) >= 0) return 2;
    if (open(argv[2], O_WRONLY | O_CREAT, 0644) >= 0) return 3;
    return 0;
}
"""

GO = """package main
import ("os"; "strings")
func main() {
    entries, _ := os.ReadDir(os.Args[1][:strings.LastIndex(os.Args[1], "/")])
    for _, e := range entries { if strings.Contains(e.Name(), "stray") { os.Exit(1) } }
    if _, e := os.Stat(os.Args[1]); e == nil { os.Exit(2) }
    if _, e := os.Open(os.Args[1]); e == nil { os.Exit(2) }
    if _, e := os.OpenFile(os.Args[2], os.O_WRONLY|os.O_CREATE, 0644); e == nil { os.Exit(3) }
}
"""

RUST = """use std::{env, fs, process::exit};
fn main() {
    let a: Vec<String> = env::args().collect();
    let dir = &a[1][..a[1].rfind('/').unwrap()];
    for e in fs::read_dir(dir).unwrap() { if e.unwrap().file_name().to_str().unwrap().contains("stray") { exit(1) } }
    if fs::metadata(&a[1]).is_ok() || fs::File::open(&a[1]).is_ok() { exit(2) }
    if fs::OpenOptions::new().write(true).create(true).open(&a[2]).is_ok() { exit(3) }
}
"""

SHELL = """#!/bin/sh
B=/bin/busybox
for f in $($B ls "${1%/*}"); do case $f in *stray*) exit 1;; esac; done
exec $B sh -c 'B=/bin/busybox
$B stat "$0" >/dev/null 2>&1 && exit 2
$B cat "$0" 2>/dev/null && exit 2
(: > "$1") 2>/dev/null && exit 3
exit 0' "$@"
"""

GO_BUILD = "env CGO_ENABLED=0 GO111MODULE=off GOCACHE=${worksrcpath}/cache GOFLAGS=-p=1 go build -o prober prober.go"

HEADERS = "-idirafter /usr/include/x86_64-linux-gnu"

#: name -> (source's name, source, command that builds it under trace, command that runs it, what must be here)
WAYS: dict[str, tuple[str, str, str, str, str]] = {
    "static": ("prober.c", C, "gcc -static -o prober prober.c", "./prober", "gcc"),
    "static-pie": ("prober.c", C, "gcc -static-pie -o prober prober.c", "./prober", "gcc"),
    "32-bit": ("prober.c", C, f"gcc -m32 {HEADERS} -o prober prober.c", "./prober", "/usr/lib32/libc.so.6"),
    "musl": ("prober.c", C, "musl-gcc -o prober prober.c", "./prober", "musl-gcc"),
    "musl-static": ("prober.c", C, "musl-gcc -static -o prober prober.c", "./prober", "musl-gcc"),
    "go": ("prober.go", GO, GO_BUILD, "./prober", "go"),
    "rust": ("prober.rs", RUST, "true", "./prober", "rustc"),
    "rust-static": ("prober.rs", RUST, "true", "./prober", "rustc"),
    "busybox": ("prober.sh", SHELL, "true", "/bin/sh ./prober.sh", "/bin/busybox"),
}  # fmt: skip


def findings(prefix: Prefix, report: Path, way: tuple[str, str, str, str, str], *extra: Path) -> set[tuple[str, str]]:
    name, source, build, command, _ = way
    portfile = PORTFILE.replace("@BUILD@", build).replace("@RUN@", command)
    directory = prefix.add_port("devel", "prober", portfile, {name: source})
    for path in extra:
        shutil.copy(path, directory / "files" / "prober")
        (directory / "files" / "prober").chmod(0o755)
    try:
        (prefix.path / "share").mkdir(exist_ok=True)
        (prefix.path / "share/outside").write_text("untouched")
        (prefix.path / "share").chmod(0o755)
        (prefix.path / "share/outside").chmod(0o666)
        prefix.port("-t", "--report", report, "build", "prober", timeout=280)
        assert (prefix.path / "share/outside").read_text() == "untouched"
        prefix.port("clean", "prober")
    finally:
        shutil.rmtree(directory)
    ours = (str(prefix.path / "include/stray.h"), str(prefix.path / "share/outside"))
    return {(f["kind"], f["path"]) for f in json.loads(report.read_text())["findings"] if f["path"] in ours}


@pytest.fixture
def ready(prefix: Prefix) -> Prefix:
    prefix.port("install", "stray")
    return prefix


def missing(need: str) -> bool:
    return not (Path(need).exists() if need.startswith("/") else shutil.which(need))


@pytest.mark.parametrize("kind", WAYS)
def test_the_same_findings(ready: Prefix, tmp_path: Path, kind: str) -> None:
    way = WAYS[kind]
    if missing(way[4]):
        pytest.skip(f"NOT CHECKED: {way[4]} is not on this machine")
    extra = []
    if kind.startswith("rust"):
        # rustup's compiler lies in a home directory, which no build sees: the program comes made
        (tmp_path / "prober.rs").write_text(RUST)
        flags = ["-C", "target-feature=+crt-static"] if kind == "rust-static" else []
        made = subprocess.run(
            ["rustc", *flags, "-o", tmp_path / "prober", "prober.rs"], cwd=tmp_path, capture_output=True, check=False
        )
        if made.returncode:
            pytest.skip(f"NOT CHECKED: rustc makes no program here: {made.stderr.decode()[-200:]}")
        extra = [tmp_path / "prober"]
    dynamic = ("prober.c", C, "gcc -o prober prober.c", "./prober", "gcc")
    expected = findings(ready, tmp_path / "dynamic.json", dynamic)
    assert {k for k, _ in expected} == {"undeclared-dependency", "write-outside"}, expected
    assert findings(ready, tmp_path / "other.json", way, *extra) == expected


def test_a_missing_supervisor_is_told(ready: Prefix, tmp_path: Path) -> None:
    """Where nothing can hold a static program, that it ran is a finding of its own."""
    source = tmp_path / "x.c"
    source.write_text("int main(void) { return 0; }")
    subprocess.run(["gcc", "-static", "-o", tmp_path / "x", source], check=True)
    report_file = tmp_path / "r.json"
    words: list[str | Path] = [Path(ready.launcher[0]).parent / "porttrace", "run", "--tiers", "tracelib"]
    words += ["--report", report_file, "--", "/bin/sh", "-c", "./x"]
    subprocess.run(words, cwd=tmp_path, check=True, capture_output=True, env={"PATH": os.environ["PATH"]})
    report = json.loads((tmp_path / "r.json").read_text())
    assert [f["path"] for f in report["findings"] if f["kind"] == "untraced-process"] == [str(tmp_path / "x")]
