"""Names of the intercepted calls: the rows of csrc/calls.table, by number."""

from __future__ import annotations

from functools import cache
from typing import Any

from porttrace._core import ffi, lib

__all__ = ["call_names"]


@cache
def call_names() -> tuple[str, ...]:
    """All names in the order of their numbers; number 0 is no call."""
    texts: Any = lib.pt_op_names
    return tuple(bytes(ffi.string(texts[number])).decode("ascii") for number in range(lib.pt_op_count))
