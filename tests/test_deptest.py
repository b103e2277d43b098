"""Dependencies judged by traced builds: a corpus of small ports whose truth is known, and edits of Portfiles."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import BIN, Prefix, prefix_script, run_command

from porttrace.portfile_edit import Change, PortfileEditError, change_dependencies

HEAD = """\
PortSystem          1.0
name                {name}
version             1.0
categories          devel
license             public-domain
maintainers         nomaintainer
description         a port of the corpus
long_description    {{*}}${{description}}
homepage            https://porttrace.invalid/
distfiles
extract.mkdir       yes
use_configure       no
"""


def port(name: str, depends: str = "", more: str = "", **phases: str) -> str:
    """A Portfile; phases are lines of shell, run in the workpath. @ is the prefix, DESTROOT the destroot."""

    def body(phase: str, commands: str) -> str:
        words = "".join("\\" + char if char in '\\"$[]' else char for char in commands)
        for name, value in (("DESTROOT", "${destroot}"), ("@", "${prefix}"), ("\\${portpath}", "${portpath}")):
            words = words.replace(name, value)
        rows = "".join(f'\tsystem "cd ${{workpath}} && {{ {row}; }}"\n' for row in words.splitlines())
        return f"{phase} {{\n{rows}}}\n"

    text = HEAD.format(name=name) + depends + ("\n" if depends else "") + body("build", phases.pop("build", ""))
    destroot = phases.pop("destroot", "")
    text += body("destroot", f"mkdir -p DESTROOT@/share/{name}; touch DESTROOT@/share/{name}/x\n{destroot}")
    test = phases.pop("test", "")
    text += "".join(body(f"post-{phase}", commands) for phase, commands in phases.items())
    return text + (f"test.run yes\n{body('test', test)}" if test else "") + more


def program(name: str) -> str:
    """Commands that stage a program."""
    return (
        f"mkdir -p DESTROOT@/bin; printf '#!/bin/sh\\nexit 0\\n' >DESTROOT@/bin/{name}; chmod 755 DESTROOT@/bin/{name}"
    )


PROVIDERS = {
    "one": port("one", destroot="mkdir -p DESTROOT@/include; echo 1 >DESTROOT@/include/one.h"),
    "tool": port("tool", destroot=program("tool")),
    "chain": port("chain", "depends_lib port:one"),
    "so": port(
        "so",
        destroot="mkdir -p DESTROOT@/lib; echo 'int so(void) { return 0; }' >so.c; "
        "cc -shared -fPIC -Wl,-soname,libso.so.1 -o DESTROOT@/lib/libso.so.1 so.c; "
        "ln -s libso.so.1 DESTROOT@/lib/libso.so",
    ),
    "toolchain": port("toolchain", "depends_run port:tool"),
    "sochain": port("sochain", "depends_lib port:so"),
    "pcone": port(
        "pcone",
        destroot="mkdir -p DESTROOT@/lib/pkgconfig; "
        "printf 'Name: pcone\\nDescription: x\\nVersion: 1\\nCflags: -DONE\\n' >DESTROOT@/lib/pkgconfig/pcone.pc",
    ),
    "cm": port(
        "cm",
        destroot="mkdir -p DESTROOT@/lib/cmake/cm; echo 'set(cm_FOUND 1)' >DESTROOT@/lib/cmake/cm/cmConfig.cmake",
    ),
    "py-mod": port(
        "py-mod",
        destroot="mkdir -p DESTROOT@/lib/python3/site-packages; touch DESTROOT@/lib/python3/site-packages/pymod.py",
    ),
    "py-pack": port(
        "py-pack",
        destroot="mkdir -p DESTROOT@/lib/python3/site-packages/pypack; "
        "touch DESTROOT@/lib/python3/site-packages/pypack/__init__.py",
    ),
    "p5-mod": port("p5-mod", destroot="mkdir -p DESTROOT@/lib/perl5/P5; echo '1;' >DESTROOT@/lib/perl5/P5/Mod.pm"),
    "plug": port("plug", destroot="mkdir -p DESTROOT@/lib/host/plugins; touch DESTROOT@/lib/host/plugins/a.so"),
    "host": port("host", destroot=program("host")),
    # What `port select` chooses among: the link itself belongs to nobody.
    "sel-1": port("sel-1", destroot=program("sel-1")),
    "sel-2": port("sel-2", destroot=program("sel-2")),
    # The link belongs to one port, what it leads to to another: bin/perl is perl5's, bin/perl5.38 perl5.38's.
    "back": port("back", destroot=program("back")),
    "front": port("front", "depends_run port:back", destroot="mkdir -p DESTROOT@/bin; ln -s back DESTROOT@/bin/front"),
    "both": port("both", destroot=program("both") + "; mkdir -p DESTROOT@/include; echo >DESTROOT@/include/both.h"),
}
LINK = (
    "mkdir -p DESTROOT@/bin; echo 'int so(void); int main(void) { return so(); }' >m.c; "
    "cc -o DESTROOT@/bin/linked m.c -L@/lib -lso -Wl,-rpath,@/lib"
)
TOOL_SCRIPT = "mkdir -p DESTROOT@/bin; echo '#!@/bin/tool' >DESTROOT@/bin/s"
USE = 'build {system "cat ${prefix}/include/one.h || true"}'
GUI = "variant gui description {with windows} {\n    GUI\n}\n"


def lines(kind: str, *specs: str) -> list[str]:
    """Lines of a fix: one for each of `specs`."""
    return [f"depends_{kind} {spec if ':' in spec else f'port:{spec}'}" for spec in specs]


# Name: the Portfile, what has to be said of it, and the ports that need no line of their own.
CORPUS: dict[str, tuple[str, list[str], set[str]]] = {
    # right as they are
    "right": (port("right", "depends_lib port:one", build="cat @/include/one.h"), [], set()),
    "rightbin": (port("rightbin", "depends_build bin:tool:tool", build="@/bin/tool"), [], set()),
    "rightlib": (port("rightlib", "depends_lib lib:libso.1:so", destroot=LINK), [], set()),
    "rightpath": (port("rightpath", "depends_lib path:include/one.h:other", build="cat @/include/one.h"), [], set()),
    "righttest": (port("righttest", "depends_test port:tool", test="@/bin/tool"), [], set()),
    "linkedright": (port("linkedright", "depends_lib port:so", destroot=LINK), [], set()),
    "runonly": (port("runonly", "depends_run port:tool"), [], set()),
    "buildandrun": (
        port("buildandrun", "depends_lib port:tool", build="@/bin/tool", destroot=TOOL_SCRIPT), [], set(),
    ),
    "imports": (
        port(
            "imports",
            "depends_lib port:py-mod port:p5-mod",
            destroot="mkdir -p DESTROOT@/bin; printf 'try:\\n import pymod\\nfinally:\\n pass\\n' >DESTROOT@/bin/i.py; "
            "printf '#!/usr/bin/perl\\nuse P5::Mod;\\n' >DESTROOT@/bin/i",
        ),
        lines("lib-delete", "py-mod", "p5-mod") + lines("run-append", "py-mod", "p5-mod"), set(),
    ),
    "through": (port("through", "depends_lib port:chain", build="cat @/include/one.h"), [], {"one"}),
    "linkthrough": (port("linkthrough", "depends_lib port:sochain", destroot=LINK), [], {"so"}),
    "needthrough": (port("needthrough", "depends_lib port:toolchain", destroot=TOOL_SCRIPT), [], {"tool"}),
    "noise": (
        port(
            "noise",
            build="ls /usr/local /opt @/bin @/include >/dev/null 2>&1; perl -e 1; python3 -c 1; awk 'BEGIN {}'; "
            "echo '#include <stdio.h>' | cc -I@/include -E - >/dev/null",
        ),
        [], set(),
    ),
    "nothing": (port("nothing", build="true"), [], set()),
    # missing, by phase
    "misslib": (port("misslib", build="cat @/include/one.h || true"), lines("lib-append", "one"), set()),
    "missbuild": (port("missbuild", build="@/bin/tool || true"), lines("build-append", "tool"), set()),
    "misstest": (port("misstest", test="@/bin/tool || true"), lines("test-append", "tool"), set()),
    "missextract": (port("missextract", extract="@/bin/tool || true"), lines("extract-append", "tool"), set()),
    "misspatch": (port("misspatch", patch="@/bin/tool || true"), lines("patch-append", "tool"), set()),
    "missstat": (port("missstat", build="test -e @/include/one.h || true"), lines("lib-append", "one"), set()),
    "missdestroot": (port("missdestroot", destroot="@/bin/tool || true"), lines("build-append", "tool"), set()),
    "missboth": (
        port("missboth", build="@/bin/both || true\ncat @/include/both.h || true"), lines("lib-append", "both"), set(),
    ),
    "missthrough": (
        port("missthrough", build="cat @/share/chain/x || true\ncat @/include/one.h || true"),
        lines("lib-append", "chain"), {"one"},
    ),
    # missing, by the way that leads to it
    "misslink": (
        port("misslink", build="ln -s @/include/one.h h; cat h || true"), lines("lib-append", "one"), set(),
    ),
    "misspc": (
        port("misspc", build="PKG_CONFIG_PATH=@/lib/pkgconfig pkg-config --cflags pcone || true"),
        lines("lib-append", "pcone"), set(),
    ),
    "misscmake": (
        port(
            "misscmake",
            build="printf 'cmake_minimum_required(VERSION 3.10)\\nproject(x NONE)\\nfind_package(cm PATHS @)\\n'"
            " >CMakeLists.txt; cmake . >/dev/null || true",
        ),
        lines("lib-append", "cm"), set(),
    ),
    "misspython": (
        port("misspython", build="PYTHONPATH=@/lib/python3/site-packages python3 -c 'import pypack' || true"),
        lines("lib-append", "py-pack"), set(),
    ),
    "misspymod": (
        port("misspymod", build="PYTHONPATH=@/lib/python3/site-packages python3 -c 'import pymod' || true"),
        lines("lib-append", "py-mod"), set(),
    ),
    "missperl": (
        port("missperl", build="perl -I@/lib/perl5 -MP5::Mod -e 1 || true"), lines("lib-append", "p5-mod"), set(),
    ),
    "misspath": (port("misspath", build="PATH=@/bin:$PATH; tool || true"), lines("build-append", "tool"), set()),
    "misscc": (
        port("misscc", build="echo '#include <one.h>' | cc -I@/include -E - || true"),
        lines("lib-append", "one"), set(),
    ),
    "missplug": (
        port(
            "missplug", "depends_build port:host",
            build="@/bin/host; for f in @/lib/host/plugins/*.so; do test -e $f || true; done",
        ),
        lines("lib-append", "plug"), set(),
    ),
    "missselect": (port("missselect", build="@/bin/sel || true"), lines("build-append", "sel-1"), set()),
    "missfront": (port("missfront", build="@/bin/front || true"), lines("build-append", "front"), set()),
    # superfluous
    "superfluous": (
        port("superfluous", "depends_lib port:one port:so"), lines("lib-delete", "one", "so"), set(),
    ),
    "superbin": (port("superbin", "depends_build bin:tool:tool"), lines("build-delete", "bin:tool:tool"), set()),
    "superpath": (
        port("superpath", "depends_lib path:include/one.h:other"),
        lines("lib-delete", "path:include/one.h:other"), set(),
    ),
    "supertest": (port("supertest", "depends_test port:tool port:one", test="@/bin/tool"),
                  lines("test-delete", "one"), set()),
    "superchain": (
        port("superchain", "depends_lib port:chain port:one", build="cat @/include/one.h"),
        lines("lib-delete", "chain"), set(),
    ),
    # of the wrong type
    "wrongtype": (
        port("wrongtype", "depends_lib port:tool", build="@/bin/tool"),
        lines("lib-delete", "tool") + lines("build-append", "tool"), set(),
    ),
    "wrongtest": (
        port("wrongtest", "depends_build bin:tool:tool", test="@/bin/tool"),
        lines("build-delete", "bin:tool:tool") + lines("test-append", "bin:tool:tool"), set(),
    ),
    "wrongrun": (
        port("wrongrun", "depends_lib port:tool", destroot=TOOL_SCRIPT),
        lines("lib-delete", "tool") + lines("run-append", "tool"), set(),
    ),
    "wrongruntime": (
        port("wrongruntime", "depends_run port:one", build="cat @/include/one.h || true"),
        lines("run-delete", "one") + lines("lib-append", "one"), set(),
    ),
    # what is installed needs ports that nothing declares for run time
    "script": (
        port("script", "depends_build port:tool", build="@/bin/tool", destroot=TOOL_SCRIPT),
        lines("run-append", "tool"), set(),
    ),
    "linked": (
        port("linked", "depends_build port:so", destroot=LINK),
        lines("build-delete", "so") + lines("lib-append", "so"), set(),
    ),
    "requires": (
        port(
            "requires",
            destroot="mkdir -p DESTROOT@/lib/pkgconfig; printf 'Name: r\\nRequires: pcone >= 1\\n' "
            ">DESTROOT@/lib/pkgconfig/r.pc",
        ),
        lines("lib-append", "pcone"), set(),
    ),
    # conditional by variant
    "variant": (
        port("variant", build="true", more=GUI.replace("GUI", "depends_lib-append port:one")), [], set(),
    ),
    "variant +gui": (
        port("variant", build="true", more=GUI.replace("GUI", "depends_lib-append port:one")),
        lines("lib-delete", "one"), set(),
    ),
    "conditional": (
        port("conditional", build="true", more=GUI.replace("GUI", USE)),
        [], set(),
    ),
    "conditional +gui": (
        port("conditional", build="true", more=GUI.replace("GUI", USE)),
        lines("lib-append", "one"), set(),
    ),
}  # fmt: skip
BY_HAND = {"variant +gui": "declared under a condition: change it by hand"}


@pytest.fixture(scope="module")
def corpus() -> Iterator[Prefix]:
    directory = Path(tempfile.mkdtemp(prefix="porttrace-corpus-"))
    directory.chmod(0o755)
    prefix = Prefix(prefix_script.make(directory / "prefix", settings={}))
    for name, text in {**PROVIDERS, **{name.split()[0]: text for name, (text, _, _) in CORPUS.items()}}.items():
        prefix.add_port("corpus", name, text)
    prefix.port("install", *PROVIDERS)
    (prefix.path / "bin/sel").symlink_to("sel-1")
    yield prefix
    shutil.rmtree(directory)


def said(verdict: dict[str, Any]) -> list[str]:
    return sorted({line for finding in verdict["findings"] for line in finding["fix"].split("\n")})


@pytest.mark.parametrize("name", CORPUS)
def test_the_corpus(corpus: Prefix, name: str) -> None:
    """Each port's truth; and where something is to be changed, a build with the change that leaves nothing to say."""
    _, truth, through = CORPUS[name]
    words = name.split()
    file = corpus.tree / "corpus" / words[0] / "Portfile"
    before = file.read_text()
    result = corpus.run("deptest", "--json", "--apply", "--verify", *words)
    verdict = json.loads(result.out)
    assert verdict["unsure"] is None, result.text
    assert said(verdict) == sorted(truth), result.text
    assert set(verdict["indirect"]) == through, result.text
    if name in BY_HAND:
        assert BY_HAND[name] in result.err and file.read_text() == before and result.status == 3
        return
    assert result.status == 0, result.text
    assert ("after" in verdict) == bool(truth), result.text
    if truth:
        assert said(verdict["after"]) == [] and verdict["after"]["unsure"] is None, result.text
    rest = [row for row in before.split("\n") if "port:" not in row and "depends_" not in row]
    after = [row for row in file.read_text().split("\n") if "port:" not in row and "depends_" not in row]
    assert [row for row in after if row] == [row for row in rest if row], "all else is as it was"


def test_the_corpus_is_big_enough() -> None:
    assert len(CORPUS) >= 25 and sum(bool(truth) for _, truth, _ in CORPUS.values()) >= 20


def test_what_is_said(corpus: Prefix) -> None:
    """The text, the patch and the page's report of one port, and `porttrace deps` over the same report."""
    corpus.add_port("corpus", "sayer", port("sayer", "depends_lib port:tool", build="cat @/include/one.h || true"))
    file = corpus.path / "sayer.json"
    result = corpus.run("deptest", "--report", file, "sayer")
    assert result.status == 3
    assert result.out == (
        "sayer: to be changed\n"
        f"  missing: one: {corpus.path}/include/one.h asked for in build\n"
        "      depends_lib-append port:one\n"
        "  superfluous: tool: no phase used a file of it\n"
        "      depends_lib-delete port:tool\n"
    )
    kinds = [finding["kind"] for finding in json.loads(file.read_text())["findings"]]
    assert "undeclared-dependency" in kinds and kinds.count("unused-dependency") == 1
    before = (corpus.tree / "corpus/sayer/Portfile").read_text()
    tool = [BIN / "porttrace", "deps"]
    assert run_command([*tool, file]).out == result.out
    patch = run_command([*tool, "--patch", file])
    assert patch.status == 3 and corpus.run("deptest", "--patch", "sayer").out == patch.out
    run_command([*tool, "--apply", file])
    after = (corpus.tree / "corpus/sayer/Portfile").read_text()
    assert after == before.replace("port:tool", "port:one") != before
    (corpus.tree / "corpus/sayer/Portfile").write_text(before)
    diff = corpus.path / "sayer.diff"
    diff.write_text(patch.out)
    done = run_command(["patch", "-p1", "-d", corpus.tree, "-i", diff])
    assert done.status == 0 and (corpus.tree / "corpus/sayer/Portfile").read_text() == after, done.text


def test_what_would_be_found(corpus: Prefix) -> None:
    """Files that are not there and that other ports install: one known by its image, one by its archive."""
    corpus.add_port("corpus", "imaged", PROVIDERS["pcone"].replace("pcone", "imaged"))
    corpus.add_port("corpus", "archived", PROVIDERS["tool"].replace("tool", "archived"))
    corpus.add_port(
        "corpus", "looked-for", port("looked-for", destroot="mkdir -p DESTROOT@/bin; touch DESTROOT@/bin/cc")
    )
    corpus.port("install", "imaged")
    corpus.port("deactivate", "imaged")
    corpus.port("archive", "archived", "looked-for")
    build = (
        "PKG_CONFIG_PATH=@/lib/pkgconfig pkg-config --exists imaged || true\n"
        "archived || true\ncc --version >/dev/null; cat @/include/nobodys.h || true"
    )
    corpus.add_port("corpus", "seeker", port("seeker", build=build))
    file = corpus.path / "seeker.json"
    result = corpus.run("deptest", "--absent", "--report", file, "seeker")
    found = [line for line in result.out.splitlines() if "would be found" in line]
    assert found[0].startswith("  would be found: build looked for bin/archived, which archived installs (")
    assert found[1].startswith(
        "  would be found: build looked for lib/pkgconfig/imaged.pc, which imaged installs ("
    ) and found[1].endswith(f": {corpus.path}/lib/pkgconfig/imaged.pc)")
    assert len(found) == 2 and result.status == 0 and "looked-for" not in result.out, result.text
    rows = [row for row in json.loads(file.read_text())["findings"] if row["kind"] == "absent" and row["port"]]
    assert {row["port"] for row in rows} == {"archived", "imaged"}
    again = run_command([BIN / "porttrace", "deps", "--absent", file])
    assert again.out == result.out and again.status == 0
    assert "would be found" not in corpus.run("deptest", "seeker").out, "off by default"
    corpus.port("clean", "seeker")
    corpus.port("-t", "--report", file, "destroot", "seeker")
    refused = run_command([BIN / "porttrace", "deps", "--absent", file])
    assert refused.status == 1 and "write it with port --absent" in refused.err


def test_a_change_that_breaks_the_build_is_taken_back(corpus: Prefix) -> None:
    """A build that reads its own Portfile: nothing that a trace could foresee."""
    breaks = port("breaks", "depends_lib port:one", build="grep -q 'port:on[e]' ${portpath}/Portfile")
    file = corpus.add_port("corpus", "breaks", breaks) / "Portfile"
    result = corpus.run("deptest", "--apply", "--verify", "breaks")
    assert result.status == 1 and "as it was before" in result.err, result.text
    assert file.read_text() == breaks


def test_a_build_that_fails_for_want_of_a_dependency(corpus: Prefix) -> None:
    """What is missing is told, and applied until the port builds: the second comes to light only after the first."""
    fails = port("fails", build="cat @/include/one.h\n@/bin/tool")
    file = corpus.add_port("corpus", "fails", fails) / "Portfile"
    result = corpus.run("deptest", "fails")
    assert result.status == 1 and "missing: one: " in result.out and "tool" not in result.out, result.text
    assert "not judged: the build failed\n" in result.out and "Error: Failed to build fails" in result.err, result.text
    result = corpus.run("deptest", "--apply", "--verify", "fails")
    assert result.status == 0 and result.out.endswith("fails: the dependencies are right\n"), result.text
    assert {"port:one", "port:tool"} <= set(file.read_text().split())
    # Not one that fails: what is found first stops it from looking for the second.
    looks = port("looks", build="test ! -e @/include/one.h || cat @/include/both.h || true")
    file = corpus.add_port("corpus", "looks", looks) / "Portfile"
    result = corpus.run("deptest", "--apply", "--verify", "looks")
    assert result.status == 0 and {"port:one", "port:both"} <= set(file.read_text().split()), result.text
    hopeless = corpus.add_port("corpus", "hopeless", port("hopeless", build="cat @/include/one.h\nfalse")) / "Portfile"
    before = hopeless.read_text()
    result = corpus.run("deptest", "--apply", "--verify", "hopeless")
    assert result.status == 1 and "no missing dependency explains it" in result.err and "was before" in result.err
    assert hopeless.read_text() == before


def test_variants_behind_no_port(corpus: Prefix) -> None:
    assert "behind a port's name" in corpus.fails("deptest", "+gui").err
    assert "one port" in corpus.fails("deptest", "--report", "/tmp/x", "right", "noise").err


# --- editing ---

TEXT = """\
name                foo
# depends_lib       port:zlib
depends_build       port:pkgconfig \\
                    bin:gmake:gmake

depends_lib         port:zlib \\
                    port:expat \\
                    port:bzip2

depends_run port:perl5
if {$x} {
    depends_lib-append port:gtk
}
checksums           rmd160  0
"""


def edited(*changes: Change, text: str = TEXT) -> str:
    return change_dependencies(text, changes)


def test_words_are_taken_out_wherever_they_stand() -> None:
    assert edited(Change("lib", "port:bzip2", False)) == TEXT.replace(" \\\n                    port:bzip2", "")
    assert edited(Change("lib", "port:expat", False)) == TEXT.replace("                    port:expat \\\n", "")
    assert edited(Change("lib", "port:zlib", False)) == TEXT.replace(
        "port:zlib \\\n                    port:expat", "port:expat"
    )
    assert edited(Change("build", "bin:gmake:gmake", False)) == TEXT.replace(
        " \\\n                    bin:gmake:gmake", ""
    )
    assert edited(Change("run", "port:perl5", False)) == TEXT.replace("depends_run port:perl5\n", "")
    line = "depends_lib port:a port:b port:c\n"
    for name, left in (("a", "port:b port:c"), ("b", "port:a port:c"), ("c", "port:a port:b")):
        assert edited(Change("lib", f"port:{name}", False), text=line) == f"depends_lib {left}\n"


def test_words_are_added_in_the_files_own_style() -> None:
    assert edited(Change("lib", "port:new", True)) == TEXT.replace(
        "port:bzip2", "port:bzip2 \\\n" + " " * 20 + "port:new"
    )
    assert "depends_run port:perl5\ndepends_test        port:new\nif" in edited(Change("test", "port:new", True))
    plain = "name                foo\nversion             1\n\nuse_configure no\n"
    assert edited(Change("lib", "port:new", True), text=plain) == (
        "name                foo\nversion             1\n\ndepends_lib         port:new\n\nuse_configure no\n"
    )
    moved = edited(Change("lib", "port:zlib", False), Change("build", "port:zlib", True))
    assert moved.count("port:zlib") == 2 and "gmake \\\n                    port:zlib" in moved


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (Change("lib", "port:gtk", False), "line 12: port:gtk is declared under a condition"),
        (Change("lib", "port:nothing", False), "not written out"),
        (Change("build", "port:zlib", False), "not written out"),
    ],
)
def test_what_cannot_be_done_safely_is_left_to_people(change: Change, said: str) -> None:
    with pytest.raises(PortfileEditError, match=said):
        edited(change)


def test_a_prefix_in_which_nothing_was_ever_installed(prefix: Prefix) -> None:
    """The first thing that somebody does there: the report names a registry all the same."""
    result = prefix.run("-q", "deptest", "stray")
    assert (result.status, result.text) == (0, "stray: the dependencies are right\n")
