"""What a whole run of port found, phase by phase: for the report that port writes at its end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from porttrace.context import PhaseContext, phase_context
from porttrace.findings import Finding, merge
from porttrace.report import make_report

if TYPE_CHECKING:
    from porttrace.trace import Trace, TraceResult

__all__ = ["PhaseLog"]

_SUMS = ("processes", "programs", "events_lost", "events_unsound", "supervised_calls", "seconds")


class PhaseLog:
    """Collects each trace that ends."""

    def __init__(self) -> None:
        self.phases: list[PhaseContext] = []
        self._findings: list[Sequence[Finding]] = []
        self._tiers: list[str] = []
        self._stats: dict[str, Any] = dict.fromkeys(_SUMS, 0)
        self._incomplete: list[str] = []

    def add(
        self,
        trace: Trace,
        result: TraceResult,
        own: Sequence[Finding],
        *,
        deps: Iterable[str],
        registry: str,
        portfile: str,
        declared: Iterable[tuple[str, str]] | None = None,
        variants: str = "",
        tests: bool = False,
    ) -> None:
        """A trace that was stopped; `own`: what the port process itself asked for."""
        self.phases.append(
            phase_context(
                trace,
                result,
                registry=registry,
                deps=deps,
                portfile=portfile,
                declared=declared,
                variants=variants,
                tests=tests,
            )
        )
        self._findings.append(merge([result.findings, own]))
        self._tiers += [tier for tier in trace.tiers if tier not in self._tiers]
        for key in _SUMS:
            self._stats[key] = round(self._stats[key] + result.stats.get(key, 0), 3)
        self._incomplete += [f"phase {trace.policy.phase}: {reason}" for reason in result.incomplete]

    def note(self, findings: Sequence[Finding]) -> None:
        """What only a whole build tells, not one of its phases."""
        self._findings.append(findings)

    @property
    def findings(self) -> list[Finding]:
        """Of all phases so far, equal ones together."""
        return merge(self._findings)

    def report(self, command: Sequence[str], status: int) -> dict[str, Any]:
        """The report of the run."""
        stats = {**self._stats, "incomplete": self._incomplete, "phases": len(self.phases), "exit_status": status}
        return make_report(command, self._tiers, self.findings, stats, self.phases)
