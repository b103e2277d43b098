"""Default rules: the base operating system, and what each phase of a port may see and change.

The facts are in ``porttrace/data/*.toml``; here they become rules in the order in which they are tried. First the
Portfile's allowances, then everything else with the more specific path first: the ``ask`` of a prefix below ``/tmp``
stands before the allow of ``/tmp``, the workpath inside the prefix before the prefix.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Literal

from porttrace.filemap import Action, Filemap, Rule, display
from porttrace.policy import MapName, Ownership, Policy
from porttrace.realpath import both_names
from porttrace.records import record, replace
from porttrace.tables import table

__all__ = [
    "Allowance",
    "AllowanceError",
    "AnyPath",
    "base_os",
    "base_os_places",
    "base_os_programs",
    "phase_policy",
    "run_defaults",
]

AnyPath = bytes | str | os.PathLike[str]


class AllowanceError(ValueError):
    """An allowance that is refused; the message says where it was written and what to write instead."""


@record(frozen=True)
class Allowance:
    """One path from ``trace.read``, ``trace.write``, ``trace.hide`` or ``${phase}.trace_*`` of a Portfile.

    ``write`` implies reading; ``hide`` and ``redirect`` hold for both maps. ``phase`` empty: all phases. ``silent``
    (with hide): refuse without a finding. ``origin`` as ``Portfile line 12``.
    """

    kind: Literal["read", "write", "hide", "redirect"]
    path: AnyPath
    origin: str
    phase: str = ""
    target: AnyPath | None = None
    silent: bool = False

    def rule(self) -> Rule:
        """The rule for this allowance. Raises ``AllowanceError``."""
        path = os.fsencode(self.path)
        option = f"{self.phase}.trace_{self.kind}" if self.phase else f"trace.{self.kind}"
        try:
            action = {"hide": Action.DENY, "redirect": Action.REDIRECT}.get(self.kind, Action.ALLOW)
            target = os.fsencode(self.target) if self.target is not None else None
            rule = Rule(path, action, target, self.origin, silent=self.silent)
        except ValueError as e:
            raise AllowanceError(f"{self.origin}: {option}: {e}") from None
        if rule.path == b"/" and self.kind != "redirect":
            what = "hide" if self.kind == "hide" else "allow"
            raise AllowanceError(
                f"{self.origin}: {option} {display(path)} would {what} everything; name the directory that is meant"
            )
        return rule

    def rules(self) -> list[Rule]:
        """The rules that it becomes: for its path as it was written and, where links lead elsewhere, the real one."""
        return _real_too(self.rule())


def _platform() -> str:
    return "macos" if sys.platform == "darwin" else "linux"


def base_os(map: MapName = "read", platform: str | None = None) -> list[Rule]:
    """Rules for the base operating system (``linux`` or ``macos``; default: this machine), more specific ones first.

    Source: ``porttrace/data/baseos-PLATFORM.toml``, where each has its reason.
    """
    return list(_base_os(map, platform))


def base_os_places(platform: str | None = None) -> list[str]:
    """Patterns of directories that programs name all the time, with their subdirectories (``places`` of the data)."""
    return list(table(f"baseos-{platform or _platform()}.toml").get("places", []))


def base_os_programs(platform: str | None = None) -> list[str]:
    """Patterns of programs that builds start all the time (``programs`` of the data)."""
    return list(table(f"baseos-{platform or _platform()}.toml").get("programs", []))


@cache
def _base_os(map: MapName, platform: str | None) -> list[Rule]:
    name = f"baseos-{platform or _platform()}.toml"
    rules = [
        Rule(
            os.fsencode(path),
            Action[group["action"].upper()],
            origin=f"base OS ({name})",
            literal=group.get("beginnings", False),
        )
        for group in table(name).get(map, [])
        for path in group["paths"]
    ]
    return _specific_first(rules)


def _depth(path: bytes) -> int:
    return path.count(b"/") if path != b"/" else 0


def _specific_first(rules: Iterable[Rule]) -> list[Rule]:
    return sorted(rules, key=lambda rule: -_depth(rule.path))


def _below(path: bytes, top: bytes) -> bool:
    """Is ``path`` strictly below ``top``?"""
    return path != top and path.startswith(top if top == b"/" else top + b"/")


def _names(path: AnyPath) -> list[bytes]:
    return both_names(os.path.abspath(os.fsencode(path)))  # noqa: PTH100 - bytes, and links must stay


def _rules(path: AnyPath | None, action: Action, origin: str) -> list[Rule]:
    return [Rule(name, action, origin=origin) for name in _names(path)] if path else []


def _real_too(rule: Rule) -> list[Rule]:
    """A rule that people wrote, and the same for the real place; a redirect's real place would shadow nothing."""
    if rule.action is Action.REDIRECT:
        return [rule]
    return [replace(rule, path=name) for name in _names(rule.path)]


def _in_order(allowances: Sequence[Rule], own: Sequence[Rule], base: Sequence[Rule]) -> Filemap:
    """Allowances first, in their order; but before one that lies above places of the phase, those places' rules."""
    guards = _specific_first(own)
    waiting = list(allowances)
    ordered: list[Rule] = []
    while waiting:
        first = waiting[0]
        held = [rule for rule in guards if _below(rule.path, first.path)]
        if held:
            # further allowances of the same kind inside those places are no less meant than this one
            inside = [
                rule
                for rule in waiting
                if rule.action is first.action and any(rule.path == g.path or _below(rule.path, g.path) for g in held)
            ]
            ordered += inside
            ordered += held
            guards = [rule for rule in guards if rule not in held]
            waiting = [rule for rule in waiting if rule not in inside]
        ordered.append(first)
        waiting.remove(first)
    return Filemap(ordered + _specific_first([*guards, *base]))


def _links_on_the_way(place: AnyPath | None, below: Path) -> list[Path]:
    """The symbolic links by which a path leads out of a directory that is closed: people keep distfiles elsewhere."""
    if place is None:
        return []
    path = Path(os.fsdecode(place))
    return [
        each for each in (*path.parents, path) if each.is_relative_to(below) and each != below and each.is_symlink()
    ]


def _developer_dir() -> list[Rule]:
    """The chosen Xcode, where it is not at its usual place. None is chosen: no rule (never an empty path)."""
    try:
        chosen = os.readlink("/var/db/xcode_select_link")  # noqa: PTH115 - only its text
    except OSError:
        return []
    top = chosen.split("/Contents/Developer", 1)[0]
    return _rules(top, Action.ALLOW, "Xcode (xcode-select)") if top.startswith("/") and top != "/" else []


def _base_read(sdk: Path | None, platform: str | None) -> list[Rule]:
    rules = base_os("read", platform) + (_developer_dir() if (platform or _platform()) == "macos" else [])
    if sdk is None:
        return rules
    from porttrace.sdk import sdk_rules

    return sdk_rules(rules, sdk, platform)


def phase_policy(
    *,
    phase: str,
    prefix: AnyPath,
    workpath: AnyPath,
    portpath: AnyPath | None = None,
    distpath: AnyPath | None = None,
    closure: Iterable[str] = (),
    owners: Ownership | None = None,
    allowances: Iterable[Allowance] = (),
    extra_read: Iterable[AnyPath] = (),
    extra_write: Iterable[AnyPath] = (),
    port: str = "",
    portdbpath: AnyPath | None = None,
    tmpdir: AnyPath | None = None,
    ccache_dir: AnyPath | None = None,
    strict: bool = False,
    sdk: Path | None = None,
    platform: str | None = None,
) -> Policy:
    """The policy of one phase of one port.

    ``closure`` names the ports whose files the phase sees; ``owners`` knows whose the files are. ``extra_read`` and
    ``extra_write`` come from the user's configuration. ``portdbpath`` defaults to ``${prefix}/var/macports``: what
    lies there (other ports' builds, images) is hidden except for the places that are named. ``sdk``: a directory that
    stands in the place of ``/`` (see ``porttrace.sdk``).

    Raises ``AllowanceError`` for an allowance that is refused, ``ValueError`` for a place that cannot be one (the
    root directory, an empty path).
    """
    prefix_path = Path(os.fsdecode(prefix))
    database = Path(os.fsdecode(portdbpath)) if portdbpath else prefix_path / "var/macports"
    for name, place in (("prefix", prefix), ("workpath", workpath)):
        if not os.fsencode(place).startswith(b"/") or b"/" in _names(place):
            raise ValueError(f"{name} '{os.fsdecode(place)}': an absolute path other than / is needed")
    places: dict[str, list[AnyPath | None]] = {
        "distpath": [distpath],
        "software": [database / "software", database / "incoming"],
        "prefix": [prefix],
    }
    own: dict[str, list[str]] = table("phases.toml").get(phase, {})
    allow, deny = Action.ALLOW, Action.DENY

    writable = _rules(workpath, allow, "workpath")
    writable += _rules(tmpdir, allow, "TMPDIR") + _rules(ccache_dir, allow, "compiler cache")
    for extra in extra_write:
        writable += _rules(extra, allow, "configuration (extra writable)")
    for name in own.get("write", ()):
        for where in places[name]:
            writable += _rules(where, allow, f"{name} in phase {phase}")

    readable = [rule for rule in writable if not rule.origin.startswith("prefix in ")]
    readable += _rules(distpath, allow, "distpath") + _rules(portpath, allow, "portpath")
    for link in _links_on_the_way(distpath, database):
        readable += _rules(link, allow, "link to distpath")
    if portpath:
        readable += _rules(Path(os.fsdecode(portpath)).parent.parent / "_resources", allow, "ports tree")
    for extra in extra_read:
        readable += _rules(extra, allow, "configuration (extra readable)")
    for name in own.get("read", ()):
        for where in places[name]:
            readable += _rules(where, allow, f"{name} in phase {phase}")

    read = readable + _rules(prefix, Action.ASK, "prefix") + _rules(database, deny, "portdbpath")
    # below a broader allow (/tmp) these stay closed all the same
    write = writable + _rules(prefix, deny, "prefix") + _rules(portpath, deny, "portpath")
    write += _rules(distpath, deny, "distpath")
    if "prefix" not in own.get("write", ()):
        write += _rules(database, deny, "portdbpath")

    said: dict[str, list[Rule]] = {"read": [], "write": []}
    for allowance in allowances:
        rules = allowance.rules()
        if allowance.phase not in ("", phase):
            continue
        said["read"] += rules
        if allowance.kind != "read":
            said["write"] += rules
    base = _base_read(sdk, platform)
    return Policy(
        read=_in_order(said["read"], read, base),
        write=_in_order(said["write"], write, base_os("write", platform)),
        prefix=prefix_path,
        owners=owners,
        closure=frozenset(closure),
        port=port,
        phase=phase,
        strict=strict,
    )


def run_defaults(
    cwd: AnyPath,
    tmpdir: AnyPath | None = None,
    prefix: AnyPath | None = None,
    platform: str | None = None,
    sdk: Path | None = None,
) -> tuple[list[Rule], list[Rule]]:
    """The rules of ``porttrace run`` behind those of the command line: (read map, write map).

    Base OS readable; the current directory, ``$TMPDIR``, ``/tmp``, ``/var/tmp`` and harmless devices writable. With
    ``prefix`` its files are asked about; ``sdk`` stands in the place of ``/``. A current directory of ``/`` adds
    nothing: it would allow everything.
    """
    own = _rules(cwd, Action.ALLOW, "current directory") + _rules(tmpdir, Action.ALLOW, "TMPDIR")
    own = [rule for rule in own if rule.path != b"/"]
    read = own + _rules(prefix, Action.ASK, "prefix")
    write = own + _rules(prefix, Action.DENY, "prefix")
    base = _base_read(sdk, platform)
    return list(_in_order([], read, base)), list(_in_order([], write, base_os("write", platform)))
