"""Order of version numbers, as MacPorts' VERSION collation has it.

SQLite keeps the unique index of the ports table in this order, so a registry that both MacPorts and we write
must be sorted alike: these rules (rpm's, as MacPorts reads them) are a fact of the file format.
"""

from __future__ import annotations

import re

_SEGMENT = re.compile(r"[0-9]+|[A-Za-z]+")


def vercmp(a: str, b: str) -> int:
    """Compare two versions: negative, zero or positive as ``a`` is older than, the same as or newer than ``b``.

    Runs of digits and runs of ASCII letters are compared from the left; everything else only separates.
    Numbers compare by value; a number is newer than letters; of two runs of letters the common length decides
    (``rc`` and ``r`` are the same: MacPorts has it so); what is left over makes its version the newer one.
    """
    if a == b:
        return 0
    at = bt = 0
    while at < len(a) and bt < len(b):
        segment_a, segment_b = _SEGMENT.search(a, at), _SEGMENT.search(b, bt)
        if segment_a is None or segment_b is None:
            return (segment_a is not None) - (segment_b is not None)
        text_a, text_b = segment_a.group(), segment_b.group()
        if text_a[0].isdigit() != text_b[0].isdigit():
            return 1 if text_a[0].isdigit() else -1
        if text_a[0].isdigit():
            value_a, value_b = int(text_a), int(text_b)
            if value_a != value_b:
                return 1 if value_a > value_b else -1
        else:
            common = min(len(text_a), len(text_b))
            if text_a[:common] != text_b[:common]:
                return 1 if text_a[:common] > text_b[:common] else -1
        at, bt = segment_a.end(), segment_b.end()
    return (at < len(a)) - (bt < len(b))
