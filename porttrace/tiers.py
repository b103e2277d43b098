"""Which of the means to hold a build this machine has."""

from __future__ import annotations

import sys

from porttrace._core import lib
from porttrace.supervisor import supervisor_available

__all__ = ["TIERS", "available_tiers", "landlock_abi", "tiers_line"]

TIERS = ("tracelib", "supervisor", "fence")


def landlock_abi() -> int:
    """The version of the kernel's Landlock interface, 0 where there is none (landlock_create_ruleset(2))."""
    return int(lib.pt_landlock_abi())


def available_tiers() -> tuple[str, ...]:
    """The tiers that a run can use here."""
    tiers = ["tracelib"]
    if supervisor_available():
        tiers.append("supervisor")
    if landlock_abi() > 0 or sys.platform == "darwin":  # there it is Seatbelt, which every macOS has
        tiers.append("fence")
    return tuple(tiers)


def tiers_line(used: tuple[str, ...]) -> str:
    """What a run says of the tiers that it used and of those that it did not."""
    missing = [tier for tier in TIERS if tier not in used]
    return f"tiers used: {', '.join(used)}{'; not used: ' + ', '.join(missing) if missing else ''}"
