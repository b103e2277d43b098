"""The attempts of tests/escape made by a port: in its build phase under ``port -t``, with the policy that ports get.

What is hidden are the files of a port that is not declared; what is outside lies in the prefix and is nobody's, with
modes that would let the build user write. Races and what needs other programs beside it are left to test_escape.py.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import Prefix

sys.path.insert(0, str(Path(__file__).parent / "escape"))
import runner

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="system calls of Linux")

HEAD = """\
PortSystem 1.0
name @NAME@
version 1.0
categories devel
license public-domain
maintainers nomaintainer
description part of a test
long_description part of a test
homepage https://porttrace.invalid/
distfiles
extract.mkdir yes
use_configure no
"""

KEEPER = """\
build {}
destroot {
    set to ${destroot}${prefix}/escape/hidden
    xinstall -d ${to}
    foreach {name text} {secret "secret contents\\n" program "#!/bin/echo secret\\n"} {
        set file [open ${to}/${name} w]
        puts -nonewline ${file} ${text}
        close ${file}
    }
    file copy /bin/echo ${to}/echo
    system "chmod 755 ${to}/program ${to}/echo; ln -s secret-target ${to}/link"
}
"""

BURGLAR = """\
post-extract {
    foreach file [glob ${filespath}/*] {
        file copy ${file} ${worksrcpath}
    }
    system "chmod -R u+rwx ${worksrcpath}"
}
build {
    system -W ${worksrcpath} "/bin/sh ./all.sh ${prefix}/escape @FLAVOURS@"
}
destroot {}
"""

#: Each attempt begins with a fresh directory; the hidden place and the other are reached by links, which lead there.
ALL = r"""
from=$1; shift
export BASE=$PWD/base
one() {
    rm -rf "$BASE"; mkdir "$BASE" "$BASE/work"
    ln -s "$from/hidden" "$from/outside" "$BASE"
    cp "$OLDDIR/$1" "$BASE/work/attempt"; cd "$BASE/work"
    printf '\n== %s %s %s %s\n' "$1" "$2" "$3" "$4"
    timeout -k 1 20 ./attempt "$2" "$3" "$BASE/hidden/$4" </dev/null 2>/dev/null
    cd "$OLDDIR"
}
OLDDIR=$PWD
for flavour; do
    while read kind name; do
        one "$flavour" "$kind" "$name" secret
        [ "$kind" = exist ] && one "$flavour" "$kind" "$name" absent
    done < "$flavour.list"
done > said
true
"""

#: Too long for here, or with a second process that the runner has to start.
_LONG = re.compile(r"race|faults|sibling|^so-|oom")
#: What this place does not forbid: directories of the prefix are never hidden, a parent is in the same session. A core
#: is written by the kernel itself, which only its fence can keep from it; that is as wide as /tmp, where the prefix is.
_ALLOWED = {"listing", "sys-getdents", "glob", "sys-pidfd-getfd", "core"}


def outside(prefix: Prefix) -> Path:
    place = prefix.path / "escape/outside"
    (place / "empty").mkdir(parents=True)
    (place / "file").write_text("untouched\n")
    for path, mode in ((place, 0o777), (place / "empty", 0o777), (place / "file", 0o666)):
        path.chmod(mode)
        if os.geteuid() == 0:
            shutil.chown(path, "macports", "macports")
    return place


def sections(text: str) -> dict[tuple[str, runner.Attempt, str], str]:
    """(flavour, attempt, target) -> what it said."""
    found = {}
    for part in re.split(r"\n== ", text)[1:]:
        head, _, said = part.partition("\n")
        flavour, kind, name, target = head.split(" ")
        found[flavour, runner.Attempt(kind, name), target] = said
    return found


def test_nothing_gets_out_of_a_port(prefix: Prefix, tmp_path: Path) -> None:
    programs = runner.build(tmp_path, ["dynamic", "inline", "static"])
    prefix.add_port("devel", "keeper", HEAD.replace("@NAME@", "keeper") + KEEPER)
    burglar = BURGLAR.replace("@FLAVOURS@", " ".join(programs))
    directory = prefix.add_port("devel", "burglar", HEAD.replace("@NAME@", "burglar") + burglar, {"all.sh": ALL})
    todo = {}
    for flavour, program in programs.items():
        shutil.copy(program, directory / "files" / flavour)
        todo[flavour] = [
            attempt
            for attempt in runner.attempts(program)
            if attempt.runs_as(flavour) and attempt.name not in _ALLOWED and not _LONG.search(attempt.name)
        ]
        text = "".join(f"{attempt.kind} {attempt.name}\n" for attempt in todo[flavour])
        (directory / "files" / f"{flavour}.list").write_text(text)
    prefix.port("install", "keeper")
    outside(prefix)
    ground = SimpleNamespace(base=prefix.path / "escape")
    before = runner.Ground.state(ground)  # type: ignore[arg-type]
    assert (ground.base / "hidden/secret").read_text() == "secret contents\n"
    prefix.port("-t", "build", "burglar", timeout=500)
    assert runner.changes(before, runner.Ground.state(ground)) == ""  # type: ignore[arg-type]
    said = sections((prefix.work("burglar") / "burglar-1.0/said").read_text(errors="replace"))
    assert {key[:2] for key in said} == {(flavour, a) for flavour, found in todo.items() for a in found}
    assert sum("ERRNO" in text for text in said.values()) / len(said) > 0.97
    read = [f"{f} {a.name}: {text}" for (f, a, _), text in said.items() if a.kind == "read" and runner.tells(text)]
    assert read == []
    known = [
        f"{f} {a.name}: {runner._errno(text)}/{runner._errno(said[f, a, 'absent'])}"
        for (f, a, target), text in said.items()
        if a.kind == "exist" and target == "secret" and runner._errno(text) != runner._errno(said[f, a, "absent"])
    ]
    assert known == []
