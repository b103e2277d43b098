"""Dependency tests of many ports: in dependency order, each in a prefix of its own, on this machine or on Dask."""

from __future__ import annotations

from porttrace.sweep.plan import Node, Plan
from porttrace.sweep.results import Results

__all__ = ["Node", "Plan", "Results"]
