"""Dependencies judged by traced builds: a corpus of small ports whose truth is known, and edits of Portfiles."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Prefix, prefix_script

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


def port(name: str, depends: str = "", build: str = "", destroot: str = "", test: str = "") -> str:
    """A Portfile; the bodies are lines of shell, run in the workpath. @ is the prefix, DESTROOT the destroot."""

    def body(phase: str, commands: str) -> str:
        words = "".join("\\" + char if char in '\\"$[]' else char for char in commands)
        words = words.replace("DESTROOT", "${destroot}").replace("@", "${prefix}")
        rows = "".join(f'\tsystem "cd ${{workpath}} && {{ {row}; }}"\n' for row in words.splitlines())
        return f"{phase} {{\n{rows}}}\n"

    text = HEAD.format(name=name) + depends + ("\n" if depends else "") + body("build", build)
    text += body("destroot", f"mkdir -p DESTROOT@/share/{name}; touch DESTROOT@/share/{name}/x\n{destroot}")
    return text + (f"test.run yes\n{body('test', test)}" if test else "")


PROVIDERS = {
    "one": port("one", destroot="mkdir -p DESTROOT@/include; echo 1 >DESTROOT@/include/one.h"),
    "tool": port(
        "tool",
        destroot="mkdir -p DESTROOT@/bin; printf '#!/bin/sh\\nexit 0\\n' >DESTROOT@/bin/tool\n"
        "chmod 755 DESTROOT@/bin/tool",
    ),
    "chain": port("chain", "depends_lib port:one"),
    "so": port(
        "so",
        destroot="mkdir -p DESTROOT@/lib; echo 'int so(void) { return 0; }' >so.c; "
        "cc -shared -fPIC -Wl,-soname,libso.so.1 -o DESTROOT@/lib/libso.so.1 so.c; "
        "ln -s libso.so.1 DESTROOT@/lib/libso.so",
    ),
}
LINK = (
    "mkdir -p DESTROOT@/bin; echo 'int so(void); int main(void) { return so(); }' >m.c; "
    "cc -o DESTROOT@/bin/linked m.c -L@/lib -lso -Wl,-rpath,@/lib"
)
CORPUS = {
    "right": (port("right", "depends_lib port:one", build="cat @/include/one.h"), []),
    "misslib": (port("misslib", build="cat @/include/one.h || true"), ["depends_lib-append port:one"]),
    "missbuild": (port("missbuild", build="@/bin/tool || true"), ["depends_build-append port:tool"]),
    "misstest": (port("misstest", test="@/bin/tool || true"), ["depends_test-append port:tool"]),
    "misslink": (
        port("misslink", build="ln -s @/include/one.h h; cat h || true"),
        ["depends_lib-append port:one"],
    ),
    "superfluous": (
        port("superfluous", "depends_lib port:one port:so"),
        ["depends_lib-delete port:one", "depends_lib-delete port:so"],
    ),
    "through": (port("through", "depends_lib port:chain", build="cat @/include/one.h"), []),
    "wrongtype": (
        port("wrongtype", "depends_lib port:tool", build="@/bin/tool"),
        ["depends_lib-delete port:tool", "depends_build-append port:tool"],
    ),
    "script": (
        port(
            "script",
            "depends_build port:tool",
            build="@/bin/tool",
            destroot="mkdir -p DESTROOT@/bin; echo '#!@/bin/tool' >DESTROOT@/bin/s",
        ),
        ["depends_run-append port:tool"],
    ),
    "linked": (port("linked", "depends_build port:so", destroot=LINK), ["depends_lib-append port:so"]),
    "linkedright": (port("linkedright", "depends_lib port:so", destroot=LINK), []),
    "noise": (port("noise", build="ls /usr/local /opt >/dev/null 2>&1 || true"), []),
    "runonly": (port("runonly", "depends_run port:tool"), []),
}


@pytest.fixture(scope="module")
def corpus() -> Iterator[Prefix]:
    directory = Path(tempfile.mkdtemp(prefix="porttrace-corpus-"))
    directory.chmod(0o755)
    prefix = Prefix(prefix_script.make(directory / "prefix", settings={}))
    for name, text in {**PROVIDERS, **{name: text for name, (text, _) in CORPUS.items()}}.items():
        prefix.add_port("corpus", name, text)
    prefix.port("install", *PROVIDERS)
    yield prefix
    shutil.rmtree(directory)


@pytest.mark.parametrize("name", CORPUS)
def test_the_corpus(corpus: Prefix, name: str) -> None:
    truth = CORPUS[name][1]
    result = corpus.run("deptest", "--json", name)
    assert result.status == (3 if truth else 0), result.text
    found = [line for finding in json.loads(result.out)["findings"] for line in finding["fix"].split("\n")]
    assert sorted(found) == sorted(truth), result.text


@pytest.mark.parametrize("name", ["misslib", "superfluous", "wrongtype", "linked"])
def test_what_is_applied_leaves_nothing(corpus: Prefix, name: str) -> None:
    before = (corpus.tree / "corpus" / name / "Portfile").read_text()
    result = corpus.run("deptest", "--apply", "--verify", name)
    assert result.status == 0, result.text
    assert f"after the change:\n{name}: the dependencies are right\n" in result.out
    after = (corpus.tree / "corpus" / name / "Portfile").read_text()
    rest = [row for row in before.split("\n") if row and "port:" not in row]
    assert [row for row in after.split("\n") if row and "port:" not in row] == rest, "all else is as it was"


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
