"""What the events of one trace say: findings, used files, programs, and what makes them less than the whole truth.

The event file belongs to the build user, so nothing in it is believed, and what shows that it was spoilt is named.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from porttrace.calls import call_names
from porttrace.eventlog import Event, Kind, Outcome, Snapshot
from porttrace.findings import Finding, Program, collect
from porttrace.policy import Image, Policy
from porttrace.processes import ProcessTree
from porttrace.records import field, record

__all__ = ["Reader", "Readout", "Used", "merge_used"]

Used = dict[str, dict[str, set[str]]]

_MOST_FINDINGS = 100_000  # distinct ones of one phase: more than anybody reads, less than what fills our memory
_MOST_OTHERS = 1_000_000  # starts of programs, and files of ports that were used, each


def merge_used(records: Iterable[Used]) -> Used:
    """Several records of used files as one; the given ones are not changed."""
    merged: Used = {}
    for each in records:
        for port, paths in each.items():
            for path, accesses in paths.items():
                merged.setdefault(port, {}).setdefault(path, set()).update(accesses)
    return merged


@record
class Readout:
    """One look at the events."""

    findings: list[Finding]
    tree: ProcessTree
    used: Used
    """Files of ports that were used: port -> path -> accesses. Each is told once, whoever asked, however often."""
    rules_used: frozenset[tuple[bytes, str]]
    """Rules that decided something, as (path, origin)."""
    listed: dict[str, Program]
    """Directories whose listing left out files of undeclared ports, and who listed them (`porttrace.listings`)."""
    stats: dict[str, Any]
    incomplete: list[str]
    """Reasons why there may be more than this; empty where this is all."""
    accesses: list[Event] = field(default_factory=list)
    """All accesses, with `Policy.absent`, at the last look."""


class _Names:
    """What the numbers in the events of one policy mean."""

    def __init__(self, image: Image) -> None:
        self._image = image
        self._rules: dict[int | None, tuple[str, bool]] = {None: ("not listed: no rule allows it", False)}

    def _rule(self, number: int | None) -> tuple[str, bool]:
        known = self._rules.get(number)
        if known is None:
            rule = self._image.rule(number) if number is not None else None
            if rule is None:
                known = ("unknown rule", False)
            else:
                known = (f"{rule} ({rule.origin})" if rule.origin else str(rule), rule.silent)
            self._rules[number] = known
        return known

    def rule_text(self, rule: int | None) -> str:
        return self._rule(rule)[0]

    def rule_silent(self, rule: int | None) -> bool:
        return self._rule(rule)[1]

    def port_name(self, port: int | None) -> str:
        return (self._image.port(port) or "") if port is not None else ""

    def rules(self, numbers: Iterable[int]) -> frozenset[tuple[bytes, str]]:
        """Rules as (path, origin): numbers differ from policy to policy."""
        found = (self._image.rule(number) for number in numbers)
        return frozenset((rule.path, rule.origin) for rule in found if rule is not None)

    def ports(self) -> list[str]:
        """All names, by index."""
        names: list[str] = []
        while (name := self._image.port(len(names))) is not None:
            names.append(name)
        return names


def _unknown_programs(events: list[Event]) -> int:
    """How many programs others name as theirs and are not told: somebody has taken their records away."""
    known = {0} | {event.image for event in events if event.kind is Kind.PROCESS}
    named = {event.parent if event.kind is Kind.PROCESS else event.image for event in events}
    return len(named - known)


class Reader:
    """Reads the event file of one trace, as often as wanted. `capacity`: the file's size in bytes when it was made;
    `path`: where programs find it."""

    def __init__(self, image: Image, policy: Policy, capacity: int, path: Path) -> None:
        self._image = image
        self._policy = policy
        self._capacity = capacity
        self._path = path
        self._names = _Names(image)
        self._most = (0, 0, 0)  # of the numbers that only grow, as of the last look
        self.incomplete: list[str] = []
        """As of the last look."""

    def read(self, fd: int, started: Mapping[int, str], *, last: bool) -> Readout:
        """A look at the open event file; `started`: as of `ProcessTree.build`; `last`: nobody writes there any more.

        Raises OSError.
        """
        with Snapshot(fd, self._capacity) as snapshot:
            events, passed = self._events(snapshot, last)
            accesses = list(snapshot.events([Kind.ACCESS])) if last and self._policy.absent else []
            used_by_exec = {event.rule for event in events if event.kind is Kind.EXEC and event.rule is not None}
            rules = self._names.rules(snapshot.rules_used(self._image.rules) | used_by_exec)
            self.incomplete = [*self._moved(fd), *self._damage(snapshot), *passed]
            lost, unsound = snapshot.lost, snapshot.unsound
        used: Used = {}
        for event in events:
            port = self._names.port_name(event.port) if event.kind is Kind.USED else ""
            if port and event.outcome is not Outcome.HIDE:
                used.setdefault(port, {}).setdefault(os.fsdecode(event.path), set()).add(event.access)
        starts = (event for event in events if event.kind in (Kind.PROCESS, Kind.EXEC))
        tree = ProcessTree.build(starts, started)
        listed = {
            os.fsdecode(event.path): Program.of(tree.images.get(event.image), event.count)
            for event in events
            if event.kind is Kind.USED and event.outcome is Outcome.HIDE
        }
        policy = self._policy
        found = collect(events, tree, self._names, phase=policy.phase, built=policy.port, audit=policy.audit)
        stats = {
            "processes": len({image.pid for image in tree.images.values()}),
            "programs": len(tree.images),
            "events_lost": lost,
            "events_unsound": unsound,
        }
        return Readout(found, tree, used, rules, listed, stats, self.incomplete, accesses)

    def _moved(self, fd: int) -> list[str]:
        """Programs that did not find the file, or could not open it, told nothing."""
        here = os.fstat(fd)
        try:
            there = self._path.lstat()
        except OSError:
            return ["the event file was taken away"]
        if not os.path.samestat(here, there):
            return ["there is another event file in the place of the first"]
        return [] if here.st_mode & 0o777 == 0o600 else ["the mode of the event file was changed"]

    @staticmethod
    def _events(snapshot: Snapshot, last: bool) -> tuple[list[Event], list[str]]:
        """All but the accesses, and which limits cut them short."""
        kept: list[Event] = []
        findings, others = (Kind.FINDING, Kind.UNTRACED), (Kind.PROCESS, Kind.EXEC, Kind.USED)
        room = dict.fromkeys(findings, _MOST_FINDINGS) | dict.fromkeys(others, _MOST_OTHERS)
        for event in snapshot.events([*findings, *others], last=last):
            room[event.kind] -= 1
            if room[event.kind] >= 0:
                kept.append(event)
        told = [
            (-sum(min(room[kind], 0) for kind in findings), "findings"),
            (-room[Kind.USED], "uses of ports' files"),
            (-min(room[Kind.PROCESS], room[Kind.EXEC]), "starts of programs"),
        ]
        passed = [f"{number} more {what} are not listed" for number, what in told if number > 0]
        if last and room[Kind.PROCESS] >= 0 and (unknown := _unknown_programs(kept)):
            passed.append(f"{unknown} programs that somebody refers to are not there")
        return kept, passed

    def _damage(self, snapshot: Snapshot) -> list[str]:
        """Losses, and the marks that somebody leaves who writes to the file by himself."""
        told: list[str] = []
        if snapshot.found_size < self._capacity:
            told.append(f"the event file has {snapshot.found_size} bytes and not {self._capacity}")
        if not snapshot.sound:
            return [*told, "the head of the event file was overwritten"]
        grown = (snapshot.lost, *snapshot.ends)
        if not snapshot.ends_sound or any(now < before for now, before in zip(grown, self._most, strict=True)):
            told.append("the head of the event file was changed")
        self._most = grown
        if snapshot.lost:
            told.append(f"{snapshot.lost} events found no room")
        if snapshot.unsound:
            told.append(f"{snapshot.unsound} records were not sound")
        return told

    def write_log(self, events: int, fd: int) -> int:
        """Write every access in the open event file as a line of JSON to `fd`; returns their number. Raises OSError."""
        with Snapshot(events, self._capacity) as snapshot:
            return snapshot.write_log(fd, call_names(), self._names.ports())
