"""What a traced build used of its dependencies, and what follows: which are missing, which are superfluous.

The record of a port's last traced build is one file, ``${portdbpath}/porttrace/usage/NAME.json``. It grows phase by
phase and is begun anew by the next build from scratch, so that ``port deps`` can answer at any time. It belongs to the
build and not to an image: it stays when the port is uninstalled.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from porttrace.errors import PorttraceError
from porttrace.findings import Finding, FindingKind, unused
from porttrace.records import field, record
from porttrace.wholefile import whole

__all__ = ["BUILD_PHASES", "Dependency", "PhaseUsage", "Usage", "undeclared_message"]

BUILD_PHASES: Final = ("fetch", "checksum", "extract", "patch", "configure", "build", "destroot")
"""The phases that make a destroot; only when all were seen is it known what was not used."""

_JUDGED: Final = ("fetch", "extract", "patch", "build", "lib")
_VERSION: Final = 1
_THIS_PROCESS: Final = secrets.token_hex(8)


@record(frozen=True)
class Dependency:
    """One declared dependency: its type (``lib``, ``build`` …), how it was written, and the port that it means now
    (empty where a file that is no port's satisfies it)."""

    type: str
    spec: str
    provider: str

    @property
    def name(self) -> str:
        """The port that the Portfile names."""
        return self.spec.rpartition(":")[2]


@record
class PhaseUsage:
    """What one phase did. ``used``: port -> path -> accesses; ``undeclared``: line for the Portfile -> hidden paths;
    ``allowances``: (kind, path, origin) -> whether it decided anything; ``sure``: nothing can have escaped notice."""

    used: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    undeclared: dict[str, list[str]] = field(default_factory=dict)
    unowned: list[str] = field(default_factory=list)
    allowances: list[tuple[str, str, str, bool]] = field(default_factory=list)
    sure: bool = True

    @classmethod
    def from_json(cls, value: Any) -> PhaseUsage:
        """Raises ValueError for what :meth:`to_json` cannot have written."""
        try:
            return cls(
                {str(port): {str(p): [str(a) for a in access] for p, access in paths.items()}
                 for port, paths in value["used"].items()},
                {str(line): [str(p) for p in paths] for line, paths in value["undeclared"].items()},
                [str(path) for path in value["unowned"]],
                [(str(kind), str(path), str(origin), bool(hit)) for kind, path, origin, hit in value["allowances"]],
                bool(value["sure"]),
            )  # fmt: skip
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"no record of a phase ({type(error).__name__}: {error})") from None

    def to_json(self) -> dict[str, Any]:
        """Sorted, so that the same build gives the same text."""
        return {
            "used": {
                port: {path: sorted(access) for path, access in sorted(paths.items())}
                for port, paths in sorted(self.used.items())
            },
            "undeclared": {line: sorted(paths) for line, paths in sorted(self.undeclared.items())},
            "unowned": sorted(self.unowned),
            "allowances": [list(allowance) for allowance in self.allowances],
            "sure": self.sure,
        }


@record
class Usage:
    """The record of one build of one port. ``resumed``: some of it was done by another process, unseen or in parts."""

    file: Path
    port: str = ""
    specifier: str = ""
    build: str = ""
    process: str = ""
    resumed: bool = False
    phases: dict[str, PhaseUsage] = field(default_factory=dict)

    @staticmethod
    def path(portdbpath: Path, port: str) -> Path:
        """Where the record of a port lies."""
        return portdbpath / "porttrace" / "usage" / f"{port.lower()}.json"

    @classmethod
    def load(cls, portdbpath: Path, port: str) -> Usage | None:
        """The record of a port's last traced build, or None. PorttraceError where it cannot be read."""
        file = cls.path(portdbpath, port)
        try:
            value = json.loads(file.read_bytes())
            if value["version"] != _VERSION:
                return None
            phases = {str(name): PhaseUsage.from_json(phase) for name, phase in value["phases"].items()}
            port, specifier, build, process = (str(value[key]) for key in ("port", "specifier", "build", "process"))
            return cls(file, port, specifier, build, process, bool(value["resumed"]), phases)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise PorttraceError(f"{file} cannot be read: {error.strerror}") from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise PorttraceError(f"{file} is damaged ({error}); remove it: the next traced build writes it") from None

    def save(self) -> None:
        """Write the record, whole or not at all. PorttraceError."""
        value = {
            "version": _VERSION,
            "port": self.port,
            "specifier": self.specifier,
            "build": self.build,
            "process": self.process,
            "resumed": self.resumed,
            "phases": {name: phase.to_json() for name, phase in self.phases.items()},
        }
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with whole(self.file) as descriptor, open(descriptor, "w", encoding="utf-8", closefd=False) as file:
                file.write(json.dumps(value, indent=1) + "\n")
        except OSError as error:
            raise PorttraceError(f"{self.file} cannot be written: {error.strerror}") from None

    @classmethod
    def note(
        cls, portdbpath: Path, port: str, specifier: str, build: str, fresh: bool, phase: str, what: PhaseUsage
    ) -> Usage:
        """Add a phase to the record of the build named ``build`` and write it.

        ``fresh``: no phase of this build was complete before. Raises PorttraceError.
        """
        try:
            record = cls.load(portdbpath, port)
        except PorttraceError:
            record = None  # damaged: what this build does is known all the same
            fresh = False
        if record is None or record.build != build or (fresh and record.process != _THIS_PROCESS):
            file = cls.path(portdbpath, port)
            record = cls(file, port, specifier, build, _THIS_PROCESS, not fresh)
        if record.process != _THIS_PROCESS:
            record.resumed, record.process = True, _THIS_PROCESS
        record.phases[phase] = what
        record.save()
        return record

    # -- what follows ----------------------------------------------------------------------------------------------

    @property
    def complete(self) -> bool:
        """Whether everything that this build did was seen: all phases, from scratch, by one process."""
        return (
            not self.resumed
            and all(phase in self.phases for phase in BUILD_PHASES)
            and all(phase.sure for phase in self.phases.values())
        )

    def used(self, phases: Iterable[str] | None = None) -> dict[str, dict[str, set[str]]]:
        """Port -> path -> phases in which it was used."""
        found: dict[str, dict[str, set[str]]] = {}
        for name in self.phases if phases is None else phases:
            for port, paths in self.phases[name].used.items() if name in self.phases else ():
                for path in paths:
                    found.setdefault(port, {}).setdefault(path, set()).add(name)
        return found

    def unused_dependencies(
        self, declared: Iterable[Dependency], has_files: Callable[[str], bool] = lambda port: True
    ) -> list[Finding]:
        """A finding for each direct dependency of which no phase used a file; empty where the build was not complete.

        What a port needs only to run is not judged by its build, nor is a port that owns no files (``has_files``).
        """
        if not self.complete:
            return []
        declared = list(declared)
        later = {d.provider.lower() for d in declared if d.type not in _JUDGED}
        found: dict[str, Finding] = {}
        for dependency in declared:
            port = dependency.provider
            if dependency.type not in _JUDGED or not port or port.lower() in later or not has_files(port):
                continue
            for finding in unused([port], self.used(), built=self.port):
                line = f"depends_{dependency.type}-delete {dependency.spec}"
                known = found.setdefault(port.lower(), finding)
                known.fix = line if known.fix is None else f"{known.fix}\n{line}"
        return list(found.values())

    def unused_allowances(self) -> list[Finding]:
        """A finding for each allowance that decided nothing in any phase; empty where the build was not complete."""
        if not self.complete:
            return []
        hits: dict[tuple[str, str, str], bool] = {}
        for phase in self.phases.values():
            for kind, path, origin, hit in phase.allowances:
                hits[kind, path, origin] = hits.get((kind, path, origin), False) or hit
        return [
            Finding(FindingKind.UNUSED_ALLOWANCE, path, "read", rule=origin, built=self.port)
            for (_, path, origin), hit in hits.items()
            if not hit
        ]

    def undeclared(self) -> dict[str, dict[str, list[str]]]:
        """Line for the Portfile -> phase -> files of that port which were asked for and hidden."""
        found: dict[str, dict[str, list[str]]] = {}
        for name, phase in self.phases.items():
            for line, paths in phase.undeclared.items():
                found.setdefault(line, {})[name] = paths
        return found

    def archive_member(self, specifier: Callable[[str], str]) -> bytes:
        """The text of an archive's ``+TRACE``: for each phase and port (with ``specifier``) the files that were read.

        Sorted and without times: the same build gives the same bytes.
        """
        phases = {
            name: {
                f"{port} @{specifier(port)}": sorted(paths) for port, paths in sorted(self.phases[name].used.items())
            }
            for name in BUILD_PHASES
            if name in self.phases
        }
        return (json.dumps({"version": _VERSION, "read": phases}, indent=1) + "\n").encode()


def undeclared_message(record: Usage) -> str | None:
    """One paragraph over all phases: which lines are missing in the Portfile, and for the sake of which files."""
    found = record.undeclared()
    if not found:
        return None
    lines = [
        f"{record.port} asked for files of ports that it does not declare. To let it see them, add to the Portfile:"
    ]
    for line, phases in sorted(found.items()):
        lines.append(f"  {line}")
        for phase, paths in phases.items():
            more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
            lines.append(f"    {phase}: {sorted(paths)[0]}{more}")
    return "\n".join(lines)
