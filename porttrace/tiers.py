"""Which of the means to hold a build this machine has."""

from __future__ import annotations

import ctypes
import sys

from porttrace.supervisor import supervisor_available

__all__ = ["TIERS", "available_tiers", "landlock_abi", "tiers_line"]

TIERS = ("tracelib", "supervisor", "fence")
_SYS_LANDLOCK_CREATE_RULESET = 444  # the same number on every architecture
_LANDLOCK_CREATE_RULESET_VERSION = 1


def landlock_abi() -> int:
    """The version of the kernel's Landlock interface, 0 where there is none (landlock_create_ruleset(2))."""
    if sys.platform != "linux":
        return 0
    libc = ctypes.CDLL(None, use_errno=True)
    abi = libc.syscall(
        ctypes.c_long(_SYS_LANDLOCK_CREATE_RULESET),
        None,
        ctypes.c_size_t(0),
        ctypes.c_uint(_LANDLOCK_CREATE_RULESET_VERSION),
    )
    return max(int(abi), 0)


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
