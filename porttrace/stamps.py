"""When something happened, without a clock in the traced programs.

A record of the event file carries no time: a clock would cost each process a page fault. Its place in the file tells
the order, and looking now and then at how far the file is written tells the time of what was written since.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left

from porttrace._core import ffi, lib

__all__ = ["Stamps"]

_SHORTEST, _LONGEST = 0.02, 0.5
_PLACES_END = 1 << 40
"""No event file is that long: a stamp above is a time in ns (the supervisor's own)."""


class Stamps:
    """Samples of one event file's ends, taken by a thread until `stop`; `fd` stays open until then.

    `capacity`: the file's size in bytes when it was made.
    """

    def __init__(self, fd: int, capacity: int) -> None:
        self._fd = fd
        self._capacity = capacity
        self._began = time.monotonic()
        self._times: list[float] = []
        self._ends: tuple[list[int], list[int]] = ([], [])
        self._enough = threading.Event()
        self._take()
        self._thread = threading.Thread(target=self._run, name="porttrace stamps", daemon=True)
        self._thread.start()

    def _take(self) -> None:
        ends = ffi.new("uint64_t[2]")
        if lib.pt_events_ends(self._fd, ends):
            for known, end in zip(self._ends, ends, strict=True):
                known.append(max(int(end), known[-1] if known else 0))
            self._times.append(time.monotonic())

    def _run(self) -> None:
        # The longer it lasts, the coarser: a timeline has a few hundred places.
        while not self._enough.wait(min(_LONGEST, max(_SHORTEST, (time.monotonic() - self._began) / 300))):
            self._take()

    def stop(self) -> None:
        """Take no more samples."""
        if not self._enough.is_set():
            self._enough.set()
            self._thread.join()
            self._take()

    def when(self, stamp: int) -> float:
        """Monotonic seconds of a record's stamp: between the samples before and after it."""
        if stamp >= _PLACES_END:
            return stamp / 1e9
        if not self._times:
            return self._began
        ends = self._ends[0 if stamp >= self._capacity else 1]
        after = min(bisect_left(ends, stamp + 1), len(ends) - 1)
        before = max(after - 1, 0)
        span = ends[after] - ends[before]
        part = (stamp - ends[before]) / span if span > 0 else 1.0
        return self._times[before] + (self._times[after] - self._times[before]) * min(max(part, 0.0), 1.0)
