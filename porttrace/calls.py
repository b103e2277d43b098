"""Names of the intercepted calls: the rows of csrc/calls.table, by number."""

from __future__ import annotations

from functools import cache
from typing import Any

from porttrace._core import ffi, lib

__all__ = ["call_names"]


@cache
def call_names() -> tuple[str, ...]:
    """All names in the order of their numbers; empty where this build of the core does not know them."""
    name: Any = getattr(lib, "pt_call_name", None)
    if name is None:
        return ()
    names: list[str] = []
    while text := name(len(names)):
        names.append(bytes(ffi.string(text)).decode("ascii"))
    return tuple(names)
