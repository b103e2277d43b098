"""What a Portfile may say, and what port makes of it: small ports, started as a user starts them."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Prefix

HEAD = """PortSystem 1.0
name {name}
version 2.10
categories devel
license public-domain
maintainers nomaintainer
description a port of the tests
distfiles
use_configure no
extract.mkdir yes
"""


def port(prefix: Prefix, body: str, name: str = "small", files: dict[str, str] | None = None) -> Path:
    """Put a port without distfiles into the prefix's tree: HEAD, then `body`. The body's first line is line 11."""
    return prefix.add_port("test", name, HEAD.format(name=name) + body, files)


def said(text: str) -> list[str]:
    """What the Portfile said with ``ui_msg "= ..."``."""
    return [line[2:] for line in text.splitlines() if line.startswith("= ")]


def test_options_change_as_lists(prefix: Prefix) -> None:
    port(
        prefix,
        """
options mine late
default late {<${version}>}
mine a {b c} d
mine-append e
mine-prepend z
mine-delete a nothing
mine-replace d D
ui_msg "= [join $mine ,]"
ui_msg "= $late"
version 2.20
ui_msg "= $late"
late fixed
ui_msg "= $late"
version 2.30
homepage http://x/path
homepage-strsed s/path/other/
ui_msg "= $homepage"
homepage-strsed g/o/0/
ui_msg "= $homepage"
ui_msg "= [strsed abcabc {s/b(c)/x/}] [strsed abcabc {s/\\(b\\)c/<\\1&>/}] [strsed a.a {g|a|/|}]"
build {}
destroot {}
""",
    )
    assert said(prefix.port("build", "small").out) == [
        "z,b c,D,e",
        "<2.10>",
        "<2.20>",
        "fixed",
        "http://x/other",
        "http://x/0ther",
        "abcabc a<bbc>abc /./",
    ]


def test_a_version_is_no_number(prefix: Prefix) -> None:
    port(prefix, "build {}\ndestroot {}\n")
    assert "@2.10 " in prefix.port("list", "small").out


def test_blocks_run_in_order_and_see_globals(prefix: Prefix) -> None:
    port(
        prefix,
        """
set outside 1
pre-build { ui_msg "= pre $outside $name"; set inside 2 }
build { ui_msg "= build [info exists inside]"; return; error never }
post-build { ui_msg "= post" }
post-build { ui_msg "= post again"; incr outside }
destroot { ui_msg "= destroot $outside" }
""",
    )
    assert said(prefix.port("destroot", "small").out) == [
        "pre 1 small",
        "build 0",
        "post",
        "post again",
        "destroot 2",
    ]


def test_variants(prefix: Prefix) -> None:
    port(
        prefix,
        """
variant a description {The a} { ui_msg "= a" }
variant b requires a { ui_msg "= b" }
variant c conflicts a { ui_msg "= c" }
default_variants +c
build { ui_msg "= [variant_isset a] [variant_isset b] [variant_isset c]" }
destroot {}
""",
    )
    assert said(prefix.port("build", "small").out) == ["c", "0 0 1"]
    prefix.port("clean", "small")
    assert said(prefix.port("build", "small", "+b-c").out) == ["a", "b", "1 1 0"]
    # the workpath belongs to other variants now
    assert "variants" in prefix.fails("destroot", "small").err
    prefix.port("clean", "small")
    assert "conflicts with" in prefix.fails("build", "small", "+a+c").err
    assert "requires +a" in prefix.fails("build", "small", "+b", "-a").err


def test_platform_and_subport(prefix: Prefix) -> None:
    port(
        prefix,
        """
platform linux { ui_msg "= linux" }
platform darwin { ui_msg "= darwin" }
platform linux >= 2 { ui_msg "= new" }
subport small-doc { version 3; revision 1 }
build { ui_msg "= $subport @${version}_$revision" }
destroot {}
""",
    )
    kernel = ["darwin"] if Path("/System/Library").is_dir() else ["linux", "new"]
    assert said(prefix.port("build", "small").out) == [*kernel, "small @2.10_0"]
    # found although no directory has that name
    assert said(prefix.port("-n", "build", "small-doc").out)[-1] == "small-doc @3_1"


def test_portgroup_of_the_tree(prefix: Prefix) -> None:
    group = prefix.tree / "_resources/port1.0/group/mine-1.0.tcl"
    group.write_text('options mine.word\ndefault mine.word {from-group}\npre-build { ui_msg "= ${mine.word}" }\n')
    port(prefix, "PortGroup mine 1.0\nbuild {}\ndestroot {}\n")
    assert said(prefix.port("build", "small").out) == ["from-group"]
    port(prefix, "PortGroup other 1.0\n", "second")
    assert "second/Portfile:11: PortGroup other 1.0: no other-1.0.tcl in" in prefix.fails("build", "second").err


def test_file_commands(prefix: Prefix) -> None:
    port(
        prefix,
        r"""
build {
    xinstall -d -m 750 ${workpath}/d
    xinstall -m 644 ${filespath}/one ${filespath}/two ${workpath}/d
    xinstall -m 0600 -W ${filespath} one ${workpath}/renamed
    set mode [string range [file attributes ${workpath}/d -permissions] end-3 end]
    ui_msg "= $mode [file attributes ${workpath}/renamed -permissions]"
    reinplace {s/one/1/} ${workpath}/d/one
    reinplace -E {s/(t)(w)/\2\1/} ${workpath}/d/two
    reinplace -W ${workpath}/d -q s/absent/x/ one
    reinplace -W ${workpath}/d s/absent/x/ one
    system -W ${workpath}/d "cat one two > both"
    set f [open ${workpath}/d/both]; ui_msg "= [string map {\n |} [read $f]]"; close $f
    ui_msg "= [file attributes ${workpath}/d/one -permissions]"
    ln -s nowhere ${workpath}/link
    ui_msg "= [file readlink ${workpath}/link] [catch {ln -s other ${workpath}/link}]"
    ln -sf other ${workpath}/link
    copy ${workpath}/d/one ${workpath}/copied
    move ${workpath}/copied ${workpath}/moved
    touch -t 200102030405.06 ${workpath}/moved
    set time [clock format [file mtime ${workpath}/moved] -format %Y%m%d%H%M%S]
    ui_msg "= [file readlink ${workpath}/link] [file exists ${workpath}/copied] $time"
    delete ${workpath}/d ${workpath}/never
    ui_msg "= [file exists ${workpath}/d] [catch {xinstall ${workpath}/never ${workpath}/x} why] $why"
}
destroot {}
""",
        files={"one": "one\n", "two": "two\n"},
    )
    result = prefix.port("build", "small")
    work = prefix.work("small")
    assert said(result.out) == [
        "0750 00600",
        "1|wto|",
        "00644",
        "nowhere 1",
        "other 0 20010203040506",
        f"0 1 xinstall: {work}/never: No such file or directory",
    ]
    assert result.err.count("didn't change anything") == 1


def test_allowances_are_told_with_their_line(prefix: Prefix) -> None:
    port(
        prefix,
        """
trace.read-append /srv/first /srv/second
build.trace_write-append /srv/cache
trace.read-delete /srv/first
trace.read-replace /srv/second /srv/third
build.trace_hide-append /usr/bin/perl
build { system "test ! -e /usr/bin/perl" }
destroot {}
""",
    )
    out = prefix.port("-v", "-t", "build", "small").out
    assert "build must not see /usr/bin/perl, from line 16 of the Portfile (build.trace_hide)" in out
    assert "build may also read /srv/third, from line 15 of the Portfile (trace.read)" in out
    assert "build may also read and write /srv/cache, from line 13 of the Portfile (build.trace_write)" in out
    assert "/srv/first" not in out and "/srv/second" not in out
    assert "extract may also read /srv/third, from line 15 of the Portfile (trace.read)" in out


@pytest.mark.parametrize(
    ("body", "line", "message"),
    [
        ("\npre-build {\n  never closed\n", 12, "never closed"),
        ("\ngithub.setup someone something\n", 12, 'unsupported keyword or command "github.setup"'),
        ("variant x {\n  unheard.of yes\n}\ndefault_variants +x\n", 12, 'unsupported keyword or command "unheard.of"'),
        ("depends_lib libfoo\n", 11, 'depends_lib: cannot read "libfoo"'),
        ("trace.read /\n", 11, "would switch trace mode off"),
        ("build.trace_write relative/path\n", 11, "is not an absolute path"),
        ("revision one\n", 11, 'revision is "one"'),
        ("set x [expr {1 +}]\n", 11, "missing operand"),
    ],
)
def test_a_malformed_portfile_is_one_line_with_its_place(prefix: Prefix, body: str, line: int, message: str) -> None:
    portfile = port(prefix, body) / "Portfile"
    err = prefix.fails("build", "small").err
    assert len(err.splitlines()) == 1, err
    assert err.startswith(f"Error: {portfile}:{line}: "), err
    assert message in err


def test_an_error_in_a_block_names_its_line(prefix: Prefix) -> None:
    portfile = port(prefix, "post-extract {\n  set x 1\n  nonsense $x\n}\n") / "Portfile"
    assert f'"nonsense" ({portfile}:13)' in prefix.fails("build", "small").err


def test_a_portfile_without_a_version(prefix: Prefix) -> None:
    prefix.add_port("test", "bare", "PortSystem 1.0\nname bare\n")
    assert "version is not set" in prefix.fails("build", "bare").err
    prefix.add_port("test", "older", "name older\nversion 1\n")
    assert "PortSystem 1.0" in prefix.fails("build", "older").err
