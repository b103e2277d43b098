"""The table against the C libraries of this machine: what sounds like files has a row, or a line that says why not."""

from __future__ import annotations

import fnmatch
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tracelib_session import SOURCE

sys.path.insert(0, str(SOURCE / "csrc"))
import gen_calls

ROWS = gen_calls.read(SOURCE / "csrc" / "calls.table")
LIBRARIES = [
    p
    for p in map(
        Path,
        ("/lib/x86_64-linux-gnu/libc.so.6", "/lib/aarch64-linux-gnu/libc.so.6", "/usr/lib/x86_64-linux-musl/libc.so"),
    )
    if p.exists()
]
# Verbs and nouns that names of calls with paths are made of.
FILES = re.compile(
    r"open|stat|access|link|dir|exec|spawn|chmod|chown|utime|xattr|trunc|mknod|mkfifo|mkst|mkost|mkdt|mkt|path|glob|ftw|fts"
    r"|rename|root|mount|swap|acct|inotify|fanotify|handle|tmp|temp|system|cwd|getwd|bind|connect|catalog|creat|remove|close"
    r"|dup|canon|wordexp|uselib|quota|daemon|getdents|syscall"
)
NOT_FILES = re.compile(
    r"pthread|setstate|initstate|xdr|svc|clnt|str|wcs|mem|locale|cond|mutex|signal|_dl_|err_|_stats|hash|getdate|argp|argz"
    r"|_create|__res_|_marker|timer|obstack|addmntent|sigaction"
)


def exported(library: Path) -> set[str]:
    listing = subprocess.run(
        ["readelf", "--dyn-syms", "-W", library], capture_output=True, text=True, check=True
    ).stdout
    names = set()
    for line in listing.splitlines():
        cells = line.split()
        if len(cells) > 7 and cells[3] in ("FUNC", "IFUNC") and cells[6] != "UND" and "GLIBC_PRIVATE" not in cells[7]:
            names.add(cells[7].split("@")[0])
    return names


@pytest.mark.parametrize("library", LIBRARIES, ids=str)
def test_every_call_that_sounds_like_files_is_listed(library: Path) -> None:
    rows = {row.name for row in ROWS if row.form != "not"}
    patterns = [pattern for row in ROWS if row.form == "not" for pattern in row.name.split()]
    open_questions = sorted(
        name
        for name in exported(library)
        if FILES.search(name)
        and not NOT_FILES.search(name)
        and name not in rows
        and not any(fnmatch.fnmatchcase(name, p) for p in patterns)
    )
    assert not open_questions


def test_a_library_was_found() -> None:
    assert LIBRARIES


def test_coverage_document_is_up_to_date() -> None:
    document = (SOURCE / "docs" / "coverage.md").read_text()
    assert gen_calls.coverage(ROWS) in document, "run csrc/gen_calls.py csrc/calls.table coverage"
