"""How fast this machine is just now, for the few tests that hold processor time to a bound."""

from __future__ import annotations

import time

_USUAL = 0.2
"""Seconds of a processor for the work below on the machine on which the bounds were set, when that did nothing else."""


def pace() -> float:
    """By how much to multiply a bound: 1, and more where a processor is slower, or its memory busy with others."""
    start = time.process_time()
    names = {b"/opt/local/share/dir%d/sub%d/file%d" % (i % 3000, i % 17, i): i for i in range(200_000)}
    assert sum(names[name] for name in sorted(names)) == 200_000 * 199_999 // 2
    return max(1.0, (time.process_time() - start) / _USUAL)
