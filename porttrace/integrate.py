"""Putting the Tcl package where an unmodified MacPorts finds it, and taking it away again.

MacPorts asks for the package ``porttrace 1.0`` and Tcl takes the highest 1.x that it knows; so a directory with one
index line in ``${prefix}/libexec/macports/lib`` is all that is needed. Nothing of MacPorts is changed.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import stat
import sys
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Final

from porttrace.errors import PorttraceError
from porttrace.owners import all_kept
from porttrace.tclbridge import tcllist
from porttrace.wholefile import whole

__all__ = ["Macports", "Plan", "integrate", "undo"]

PACKAGE_VERSION: Final = "1.1"
_DIRECTORY: Final = f"porttrace{PACKAGE_VERSION}"
_INDEX: Final = "pkgIndex.tcl"
_MARK: Final = "# Put here by `porttrace integrate`; `porttrace integrate --undo` takes it away."
#: The commands of the package as long as it is not loaded: each loads it, which puts the real ones in their places.
_LAZY: Final = (
    "foreach n {trace_start trace_stop trace_enable_fence trace_check_violations setdeps filemap violations context"
    ' check call} {proc $n args "variable source; uplevel #0 \\[list source -encoding utf-8 \\$source\\]; '
    'tailcall ::porttrace::$n {*}\\$args"}; unset n; '
    "if {[info exists ::ports_trace] && [string is true -strict $::ports_trace]} "
    "{uplevel #0 [list source -encoding utf-8 $source]}"
)
#: Whether port's command line has -t among its letters: as well known as can be before port has read it.
_ASKED: Final = "[info exists ::argv] && [lsearch -regexp $::argv {^-[A-Za-z]*t[A-Za-z]*$}] >= 0"
_OLDEST: Final = (2, 10)
_TCLS: Final = ("8.6", "9.0", "9.1")


@dataclass(frozen=True)
class Macports:
    """An installed MacPorts: its prefix, version, Tcl version, and the user that its phases run as."""

    prefix: Path
    version: str
    tcl: str
    user: str

    @property
    def library(self) -> Path:
        """Where its Tcl packages lie."""
        return self.prefix / "libexec" / "macports" / "lib"

    @property
    def place(self) -> Path:
        """The directory that is ours there."""
        return self.library / _DIRECTORY

    @property
    def integrated(self) -> bool:
        """Whether the package is there."""
        try:
            return _ours(self.place) is not None
        except PorttraceError:
            return False

    @property
    def registry(self) -> Path:
        """Its registry, wherever its configuration has put it."""
        try:
            text = (self.prefix / "etc" / "macports" / "macports.conf").read_text(encoding="utf-8", errors="replace")
        except OSError:
            text = ""
        named = re.search(r"^portdbpath\s+(/\S*)", text, re.MULTILINE)
        database = Path(named[1]) if named else self.prefix / "var" / "macports"
        return database / "registry" / "registry.db"

    @classmethod
    def at(cls, prefix: Path) -> Macports:
        """The MacPorts installed at `prefix`.

        Raises PorttraceError where there is none, or one whose trace mode is called in another way.
        """
        library = prefix / "libexec" / "macports" / "lib"
        facts = library / "macports1.0" / "macports_autoconf.tcl"
        try:
            text = facts.read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError):
            raise PorttraceError(
                f"there is no MacPorts at {prefix}: {facts} is missing; give the prefix that it was installed to"
            ) from None
        except OSError as error:
            raise PorttraceError(f"cannot read {facts}: {error.strerror}") from None
        version, tclsh, user = (_variable(text, name) for name in ("macports_version", "tclsh_path", "macportsuser"))
        match = re.match(r"(\d+)\.(\d+)", version)
        if match is None:
            raise PorttraceError(f"{facts} names no version of MacPorts")
        if (int(match[1]), int(match[2])) < _OLDEST:
            oldest = ".".join(map(str, _OLDEST))
            raise PorttraceError(
                f"MacPorts {version} at {prefix} is too old: {oldest} or newer is needed; update it first"
            )
        found = re.search(r"tclsh(\d+\.\d+)$", tclsh)
        tcl = found[1] if found else ""
        if tcl not in _TCLS:
            raise PorttraceError(
                f"MacPorts at {prefix} uses {tclsh or 'an unknown Tcl'}: "
                f"this package is made for Tcl {' and '.join(_TCLS[:2])}"
            )
        return cls(prefix, version, tcl, user or "macports")


def _variable(text: str, name: str) -> str:
    match = re.search(rf'^\s*variable\s+{name}\s+"?([^"\n]*?)"?\s*$', text, re.MULTILINE)
    return match[1] if match else ""


@dataclass(frozen=True)
class Plan:
    """What is to be done at a MacPorts: lines for people, and whether anything is to be changed."""

    macports: Macports
    lines: tuple[str, ...]
    changes: bool


def _modules() -> list[str]:
    """The directories in which this Python has what the core imports; none where it finds that by other means."""
    import _cffi_backend

    found = {str(Path(str(place)).parent): None for place in (files("porttrace"), _cffi_backend.__file__)}
    return list(found) if set(found) <= set(sys.path) else []


def index_text(python: Path, package: Path) -> str:
    """The contents of the index: one `package ifneeded` that names the interpreter and the package by absolute paths.

    The script is copied into interpreters that know neither this directory nor its variables. MacPorts requires the
    package for every port, traced or not: so without ``-t`` the script reads no file, and the package proper comes
    with the first use of one of its commands. With ``-t`` on the command line the core starts right away.
    """
    modules = _modules()
    found = tcllist.join(["variable", "python", str(python), *(["modules", tcllist.join(modules)] if modules else [])])
    load = "; ".join(
        (
            tcllist.join(["package", "provide", "porttrace", PACKAGE_VERSION]),
            tcllist.join(
                [
                    "namespace",
                    "eval",
                    "::porttrace",
                    "; ".join(
                        (
                            found,
                            tcllist.join(["variable", "source", str(package / "porttrace.tcl")]),
                            "variable fifo_mktemp_template /tmp/macports/sock-XXXXXX",
                            _LAZY,
                        )
                    ),
                ]
            ),
        )
    )
    early = tcllist.join(
        [
            "namespace",
            "eval",
            "::porttrace",
            "; ".join(
                (
                    found,
                    "variable early 1",
                    tcllist.join(["uplevel", "#0", ["source", "-encoding", "utf-8", str(package / "early.tcl")]]),
                )
            ),
        ]
    )
    lines = (
        _MARK,
        tcllist.join(["package", "ifneeded", "porttrace", PACKAGE_VERSION, load]),
        # what fails here fails again, and is said, where the core is needed
        f"if {{{_ASKED} && ![info exists ::porttrace::early]}} {{catch {tcllist.quote(early)}}}",
    )
    return "\n".join(lines) + "\n"


def integrate(prefix: Path, *, dry_run: bool = False) -> Plan:
    """Make `port -t` of the MacPorts at `prefix` use this installation. Does nothing where that is so already.

    Raises PorttraceError where there is no fitting MacPorts, where its build user could not run this installation, or
    where something that is not ours stands in the place.
    """
    macports = Macports.at(prefix)
    package = Path(str(files("porttrace") / "tcl" / "porttrace")).resolve()
    python = Path(sys.executable)
    if not python.is_absolute() or not python.exists():
        raise PorttraceError("this Python does not know its own path: call porttrace by its absolute path")
    for path in (python, python.resolve(), package / "porttrace.tcl"):
        _reachable(path, macports.user)
    wanted = index_text(python, package)
    place, index = macports.place, macports.place / _INDEX
    present = _ours(place)
    if present == wanted:
        return Plan(macports, (f"{place}: is there already",), False)
    lines = [f"{'make' if present is None else 'renew'} {index} (loads {package} with {python})"]
    if not dry_run:
        try:
            place.mkdir(mode=0o755, exist_ok=True)
            place.chmod(0o755)
            with whole(index, 0o644) as descriptor, open(descriptor, "w", encoding="utf-8", closefd=False) as file:
                file.write(wanted)
        except OSError as error:
            raise PorttraceError(f"cannot write {index}: {error.strerror}") from None
    return Plan(macports, tuple(lines), True)


def undo(prefix: Path, *, dry_run: bool = False) -> Plan:
    """Take our directory away; what was there before is untouched. Does nothing where there is none.

    Raises PorttraceError where the directory is not ours, or cannot be removed.
    """
    macports = Macports.at(prefix)
    place = macports.place
    there: list[Path] = [place] if _ours(place) is not None else []
    # What traced builds keep to save time, beside the registry or in the home of who may not write there.
    there += all_kept(macports.registry)
    if not there:
        return Plan(macports, (f"{place}: is not there",), False)
    for path in () if dry_run else there:
        try:
            shutil.rmtree(path) if path == place else path.unlink()
        except OSError as error:
            raise PorttraceError(f"cannot remove {path}: {error.strerror}") from None
        if path.parent.name == "porttrace":
            with contextlib.suppress(OSError):  # tables of other registries may lie there
                path.parent.rmdir()
    return Plan(macports, tuple(f"remove {path}" for path in there), True)


def _ours(place: Path) -> str | None:
    """Our index at `place`, None where there is none; PorttraceError where the place is taken by something else."""
    foreign = PorttraceError(
        f"{place} is there and was not made by porttrace integrate: look at it and remove it first"
    )
    if place.is_symlink() or (place.exists() and not place.is_dir()):
        raise foreign
    if not place.exists():
        return None
    names = {entry.name for entry in place.iterdir()}
    if names - {_INDEX} - {name for name in names if name.startswith(f".{_INDEX}.")}:
        raise foreign
    try:
        text = (place / _INDEX).read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    if not text.startswith(_MARK):
        raise foreign
    return text


def _reachable(path: Path, user: str) -> None:
    """Raises PorttraceError where another user than the owner cannot get at `path`: the core is started as such."""
    for directory in path.parents:
        if not directory.stat().st_mode & stat.S_IXOTH:
            raise PorttraceError(
                f"{path} is out of reach for the user {user}, whom MacPorts builds as: {directory} is closed to "
                "others; install porttrace into a directory that is open to all (for instance a venv below /opt)"
            )
    if not path.stat().st_mode & stat.S_IROTH:
        raise PorttraceError(f"{path} is not readable for the user {user}, whom MacPorts builds as: chmod o+r it")
