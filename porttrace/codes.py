"""The findings' stable codes: what each means, how grave it is, an example, and how it is mended.

``docs/findings.md`` is made from this table (``scripts/findings_doc.py``). A code is never given a new meaning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from porttrace.findings import FindingKind
from porttrace.processes import REASONS, UNANNOUNCED

__all__ = ["CODES", "Code", "code_of"]

Level = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Code:
    """One kind of finding. `level` is that of SARIF and of GitHub (where "note" is written "notice")."""

    code: str
    kind: str
    level: Level
    title: str
    meaning: str
    example: str
    fix: str
    details: str = ""
    """Markdown."""


def _reasons(when: dict[str, str]) -> str:
    rows = [f"| {text} | {when[word]} |" for word, text in REASONS.items()]
    rows.append(f"| {UNANNOUNCED} | a program that was started, and of which nothing more is known |")
    return "\n".join(["The reason that is given:", "", "| reason | when |", "|---|---|", *rows])


_TABLE = (
    Code(
        "PT001",
        FindingKind.UNDECLARED,
        "error",
        "A file of an undeclared port was asked for",
        "The phase looked for a file that exists, inside the prefix, and belongs to a port that is not among the "
        "phase's dependencies nor needed by one of them. It was hidden. Without trace mode the build would have picked "
        "it up on this machine, and would be different on another. Access `list`: a directory that only undeclared "
        "ports fill was listed, and the file was left out of the listing.",
        "  /opt/local/include/stray.h\n"
        "    belongs to port stray, which foo does not declare\n"
        "    asked for by cc1 (configure > cc > cc1) in phase configure, 3 times",
        "Declare the dependency where the port wants it (`depends_lib-append port:stray`; the finding's own `fix` "
        "names "
        "the type that fits the phase), or switch the feature off so that the build does not look "
        "(`configure.args-append --without-stray`).",
    ),
    Code(
        "PT002",
        FindingKind.HIDDEN,
        "warning",
        "A file outside of everything that is allowed was asked for",
        "A file or directory that exists, that no port owns and no rule allows: below /usr/local, in a home directory, "
        "in /opt. It was hidden.",
        "  /usr/local/lib/libz.so\n    rule: /usr/local=- (base OS (baseos-linux.toml))\n"
        "    asked for by ld (configure > cc > ld) in phase configure, twice",
        "Most often nothing is to be done: the build works without it, which is the purpose. Where it is really needed "
        "and the same on every machine: `trace.read-append PATH`, or for one phase `configure.trace_read-append PATH`.",
    ),
    Code(
        "PT003",
        FindingKind.WRITE_OUTSIDE,
        "error",
        "A change outside of the workpath was attempted",
        "Something was to be created, changed, renamed, linked or deleted where this phase may not write. It was "
        "refused "
        "with EACCES.",
        "Warning: A creation was attempted outside sandbox: /opt/local/lib/libfoo.so\n"
        "    asked for by install (make > install) in phase build, once",
        "Let the build write into its workpath, in destroot into `${destroot}` (often `DESTDIR` was forgotten). "
        "Where the "
        "place is meant: `build.trace_write-append PATH`.",
    ),
    Code(
        "PT004",
        FindingKind.UNOWNED,
        "warning",
        "A file in the prefix that no port installed was used",
        "The file lies inside the prefix, but the registry knows no port for it: it was made by hand or by a "
        "program. It "
        "was allowed, with --strict hidden.",
        "  /opt/local/etc/foo.conf\n    asked for by foo in phase test, once",
        "Remove the file, or let the port that makes it own it (`destroot.keepdirs`, files in `${destroot}`).",
    ),
    Code(
        "PT005",
        FindingKind.ABSENT,
        "note",
        "A file that is not there was looked for where it would have been hidden",
        "Nothing exists at the path, so nothing was lost; if a port or the user put a file there, trace mode would "
        "hide it. Shown with -v. With --absent, and a `port`: a port that is not installed here would install it.",
        "  /usr/local/include/zlib.h\n\n"
        "  would be found: configure looked for lib/pkgconfig/libfoo.pc, which foo installs (pkg-config: "
        "/opt/local/lib/pkgconfig/libfoo.pc)",
        "Nothing. It tells what a build would react to on another machine; with a port, whether an option should "
        "switch the feature on (and depend on it) or off.",
    ),
    Code(
        "PT006",
        FindingKind.REDIRECTED_MISSING,
        "warning",
        "A file is missing from the place redirected to",
        "A redirect shows another directory (an SDK) in place of this path, and the file exists only in the original.",
        "  /usr/lib/perl5/CPAN.pm\n    rule: /=>/Developer/SDKs/MacOSX14.sdk",
        "Complete the SDK, or give the redirect a fallback to the original for this path.",
    ),
    Code(
        "PT007",
        FindingKind.UNUSED,
        "warning",
        "A declared dependency was not used",
        "No file of the port that the dependency means now was used in any traced phase, the destroot does not need "
        "it at run time (libraries, interpreters, .pc files, imports), and it brings in nothing that was used or is "
        "needed.",
        "  superfluous: intltool: no phase used a file of it\n      depends_build-delete port:intltool",
        "Take it out of the Portfile, after a look at variants and platforms that were not built here.",
    ),
    Code(
        "PT008",
        FindingKind.UNTRACED,
        "warning",
        "A program ran without being traced",
        "The library could not enter the program (static, of another architecture, set-uid) and no other tier of this "
        "machine followed it: what it read is unknown.",
        "  /opt/local/bin/go-tool\n    statically linked",
        "Use a machine on which `porttrace doctor` finds the supervisor, or take the result with care.",
        _reasons(
            {
                "static": "it has no loader: Go, busybox, `-static`",
                "other ABI": "a 32-bit program, or one that runs in an emulator",
                "other C library": "its loader is musl's, and porttrace was built without a compiler for it",
                "set-user-ID": "and it would change the user: the loader then takes no library from the environment",
                "file capabilities": "the same for what setcap(8) gave to the file",
                "own calls": "the library is in it, and sees only what C code in it does",
                "protected by the system": "macOS, System Integrity Protection: a copy is entered if one can be made",
                "restricted": "macOS, code that was signed so",
                "hardened": "macOS, the same for programs without the entitlements that would allow it",
            }
        ),
    ),
    Code(
        "PT009",
        FindingKind.WRONG_TYPE,
        "warning",
        "A dependency is declared with another type than its use",
        "depends_lib for a port of which only programs were run to build, or that only an installed script needs: "
        "every user of the binary then installs it for nothing, or builds wait for it. Or depends_build for what only "
        "the tests use.",
        "  wrong type: pkgconfig: only its programs were run, as /opt/local/bin/pkg-config, and nothing installed "
        "needs it\n      depends_lib-delete port:pkgconfig\n      depends_build-append port:pkgconfig",
        "Declare it with the type that the finding names.",
    ),
    Code(
        "PT010",
        FindingKind.LINKAGE,
        "error",
        "An installed file needs a port that is not declared for run time",
        "A program, library or script in the destroot names a file of a port (a shared library, the interpreter after "
        "`#!`, `Requires` of a .pc file) that neither depends_lib nor depends_run brings in.",
        "  missing at run time: stray: /opt/local/bin/foo needs /opt/local/lib/libstray.so.1 (linked)\n"
        "      depends_build-delete port:stray\n      depends_lib-append port:stray",
        "`depends_lib-append port:stray` (for a script's interpreter: `depends_run-append`).",
    ),
    Code(
        "PT011",
        FindingKind.UNUSED_ALLOWANCE,
        "warning",
        "An allowance of the Portfile decided nothing",
        "A whole traced build never came to the path that a trace.read, trace.write or trace.hide speaks of.",
        "trace.read, line 12 of Portfile: /etc/foo.conf",
        "Take the line out: an allowance that is not needed only hides what will go wrong later.",
    ),
)

CODES: dict[str, Code] = {str(code.kind): code for code in _TABLE}
"""By kind."""


def code_of(kind: str) -> Code:
    """The code of a finding's kind. A kind that a newer version wrote is PT000."""
    unknown = Code("PT000", kind, "warning", f"A finding of kind {kind}", "", "", "")
    return CODES.get(str(kind), unknown)
