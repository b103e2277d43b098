"""The record of what traced builds used, as Tcl commands of the port tool."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from porttrace import closure
from porttrace.errors import PorttraceError
from porttrace.findings import Finding
from porttrace.identity import privileged
from porttrace.images import Say
from porttrace.messages import render
from porttrace.registry import Registry
from porttrace.tclbridge import tcllist
from porttrace.tclbridge.tcllist import TclValue
from porttrace.usage import Dependency, PhaseUsage, Usage, undeclared_message

__all__ = ["UsageCommands"]


class UsageCommands:
    """Commands over the records below one ``portdbpath``; ``found`` gets the findings of whole builds."""

    def __init__(
        self, portdbpath: Path, prefix: Path, say: Say, found: Callable[[list[Finding]], None] | None = None
    ) -> None:
        self.portdbpath, self.prefix, self._say, self._found = portdbpath, prefix, say, found
        self._made: set[tuple[str, str]] = set()

    def table(self) -> dict[str, Callable[..., TclValue]]:
        """Tcl name -> function of the command's words."""
        return {
            "usage_note": self.note,
            "usage_report": self.report,
            "usage_archive": self.archive,
            "usage_show": self.show,
        }

    @contextmanager
    def _registry(self) -> Iterator[Registry | None]:
        file = self.portdbpath / "registry" / "registry.db"
        if not file.exists():
            yield None
            return
        with Registry.open(file) as registry:
            yield registry

    def note(self, port: str, specifier: str, build: str, fresh: str, phase: str, usage: str) -> TclValue:
        """Add a phase's usage (JSON) to the record of the build."""
        try:
            what = PhaseUsage.from_json(json.loads(usage))
        except ValueError as error:
            raise PorttraceError(f"what {phase} used cannot be kept: {error}") from None
        if phase == "destroot":
            self._made.add((port, build))
        with privileged():
            Usage.note(self.portdbpath, port, specifier, build, fresh == "1", phase, what)
        return ""

    def _dependencies(self, declared: str, path: str, registry: Registry | None) -> list[Dependency]:
        """From a Tcl list of type and spec by turns."""
        words, directories = tcllist.split(declared), tcllist.split(path) or None
        found = []
        for kind, spec in zip(words[::2], words[1::2], strict=True):
            try:
                provider = closure.provider(registry, spec, self.prefix, directories) if registry else None
            except ValueError as error:
                raise PorttraceError(str(error)) from None
            found.append(Dependency(kind.removeprefix("depends_"), spec, provider or ""))
        return found

    def report(self, port: str, build: str, declared: str, path: str) -> TclValue:
        """Say at the end of an installation what the whole build tells about the port's dependencies."""
        record = Usage.load(self.portdbpath, port) if (port, build) in self._made else None
        if record is None or record.build != build:
            return ""  # nothing was built just now
        with self._registry() as registry:
            dependencies = self._dependencies(declared, path, registry)

            def has_files(name: str) -> bool:
                entry = registry.active(name) if registry else None
                return entry is not None and bool(registry and registry.files(entry))

            findings: list[Finding] = record.unused_dependencies(dependencies, has_files)
            if findings and registry is not None:
                sure = self._superfluous(record, dependencies, registry)
                findings = [finding for finding in findings if finding.port.lower() in sure]
        findings += record.unused_allowances()
        if self._found is not None:
            self._found(findings)
        missing = undeclared_message(record)
        if missing:
            self._say("warn", missing)
        unowned = sorted({path for phase in record.phases.values() for path in phase.unowned})
        if unowned:
            more = f" and {len(unowned) - 1} more" if len(unowned) > 1 else ""
            self._say("warn", f"{port} used files in the prefix that no port owns: {unowned[0]}{more}")
        for level, text in render(findings, noise=None):
            self._say(level, text)
        if not record.complete and dependencies:
            self._say(
                "debug",
                f"whether {port} needs all that it declares is not judged: only a whole build from scratch tells",
            )
        return ""

    def _superfluous(self, record: Usage, dependencies: Sequence[Dependency], registry: Registry) -> frozenset[str]:
        """The ports without which each phase still sees what it used, and what is installed has what it needs."""
        from porttrace.context import PhaseContext
        from porttrace.deptest import RegistryPorts, deptest
        from porttrace.linkage import needs_of
        from porttrace.policy import Policy

        declared = tuple((dependency.type, dependency.spec) for dependency in dependencies)
        phases = [
            PhaseContext(Policy(port=record.port, phase=name), declared=declared, used=phase.used)
            for name, phase in record.phases.items()
        ]
        entry = registry.active(record.port)
        files = [os.fsdecode(file) for file in registry.files(entry)] if entry is not None else []
        # What a program is linked to was read by the linker: it is used already.
        needs = [need for file in files for need in needs_of(Path(file), file, str(self.prefix), binaries=False)]
        ports = RegistryPorts(registry, self.prefix)
        result = deptest(record.port, {"findings": []}, phases, ports, needs)
        return frozenset(finding.port.lower() for finding in result.superfluous)

    def archive(self, port: str, build: str) -> TclValue:
        """The text of the archive's +TRACE; empty where this build was not traced."""
        record = Usage.load(self.portdbpath, port)
        if record is None or not build or record.build != build:
            return ""
        with self._registry() as registry:

            def specifier(name: str) -> str:
                entry = registry.active(name) if registry else None
                return entry.specifier if entry else "?"

            return record.archive_member(specifier).decode("utf-8")

    def show(self, port: str, declared: str, path: str) -> TclValue:
        """The lines of ``port -t deps``: what is declared against what the last traced build used."""
        record = Usage.load(self.portdbpath, port)
        if record is None:
            raise PorttraceError(f"no traced build of {port} is on record; build it with: port -t install {port}")
        with self._registry() as registry:
            dependencies = self._dependencies(declared, path, registry)
        used = {name.lower(): (name, paths) for name, paths in record.used().items()}
        lines = [f"{port}: declared against used, by the traced build of @{record.specifier}"]
        direct = set()
        for dependency in dependencies:
            provider = dependency.provider
            direct.add(provider.lower())
            label = f"  {dependency.type:8} {dependency.spec}"
            if provider and provider.lower() != dependency.name.lower():
                label += f" (now {provider})"
            if not provider:
                label += ": satisfied by a file that is no port's"
            elif provider.lower() in used:
                label += f": {_files(used[provider.lower()][1], self.prefix)}"
            elif dependency.type in ("run", "test"):
                label += ": not judged by a build"
            else:
                label += ": not used" if record.complete else ": not seen in use"
            lines.append(label)
        for key, (name, paths) in sorted(used.items()):
            if key not in direct:
                lines.append(f"  indirect {name}: {_files(paths, self.prefix)}")
        for fix, phases in sorted(record.undeclared().items()):
            hidden = sorted({path for paths in phases.values() for path in paths})
            lines.append(f"  missing  {fix}: {len(hidden)} hidden in {', '.join(phases)}, as {hidden[0]}")
        for path in sorted({path for phase in record.phases.values() for path in phase.unowned}):
            lines.append(f"  unowned  {path}")
        if not dependencies and len(lines) == 1:
            lines.append("  nothing declared, nothing used")
        if not record.complete:
            lines.append("  (that build was resumed, partly untraced or is not finished: what is unused is not known)")
        return lines


def _files(paths: dict[str, set[str]], prefix: Path) -> str:
    """How many files in which phases, and one of them."""
    phases = sorted({phase for each in paths.values() for phase in each})
    first = sorted(paths)[0]
    shown = os.path.relpath(first, prefix) if first.startswith(f"{prefix}/") else first
    files = f"{len(paths)} file{'' if len(paths) == 1 else 's'}"
    return f"{files} used in {', '.join(phases)}, as {shown}"
