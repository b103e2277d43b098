"""The sweep itself: starts what can be started, and writes down each result as it comes."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any

from porttrace.sweep import job as jobs
from porttrace.sweep.engine import Engine, EngineLost, lost
from porttrace.sweep.job import Job
from porttrace.sweep.plan import Node, Plan
from porttrace.sweep.results import Results

__all__ = ["Tell", "sweep"]

Tell = Callable[[Node | None, dict[str, Any], list[str]], None]
"""Called with a port that is done (None: only started), its outcome, and the names of those under way."""
_USABLE = ("right", "change", "built")
_HOW = {"failed": "failed", "crashed": "crashed", "blocked": "is blocked itself"}
_TICK = 2.0  # seconds; workers may have come meanwhile


def _why(needed: Node, status: str) -> str:
    return f"needs {needed.name}: {needed.error}" if needed.error else f"needs {needed.name}, which {_HOW[status]}"


def sweep(
    plan: Plan,
    results: Results,
    engine: Engine,
    make: Callable[[Node, Collection[str]], Job],
    tell: Tell,
    retry: bool = False,
) -> dict[str, str]:
    """Work on all ports that are not done; returns each one's status by its lower-cased name.

    `make` gets a port and the names of those that can be installed. With `retry` those that failed are done again.
    Raises EngineLost where the scheduler goes away.
    """
    status: dict[str, str] = {}
    for name in plan.order:
        before = results.done(plan.nodes[name])
        # What waits for another is decided anew: that one may have become well.
        if before is not None and before != "blocked" and not (retry and before not in _USABLE):
            status[name] = before
    todo = [name for name in plan.order if name not in status]
    running: dict[Future[dict[str, Any]], str] = {}

    def end(name: str, outcome: dict[str, Any]) -> None:
        node = plan.nodes[name]
        results.finish(node, outcome)
        status[name] = outcome["status"]
        tell(node, outcome, [plan.nodes[n].name for n in running.values()])

    while todo or running:
        capacity = engine.capacity()
        usable = {name for name, word in status.items() if word in _USABLE}
        lowest = min(plan.nodes[name].level for name in (*todo, *running.values()))
        for name in list(todo):
            node = plan.nodes[name]
            if not plan.ready(name, status, lowest):
                continue
            bad = [n for n in plan.closure(name) if n not in usable]
            if node.error or bad:
                todo.remove(name)
                results.begin(node)
                error = node.error or _why(plan.nodes[bad[0]], status[bad[0]])
                end(name, {"status": "failed" if node.error else "blocked", "error": error})
            elif len(running) < capacity:
                todo.remove(name)
                results.begin(node)
                running[engine.executor.submit(jobs.run, make(node, usable))] = name
                tell(None, {}, [plan.nodes[n].name for n in running.values()])
        if todo and not running and not capacity:
            time.sleep(_TICK)  # all workers are gone; others may come
        done, _ = wait(running, timeout=_TICK, return_when=FIRST_COMPLETED)
        for future in done:
            name = running.pop(future)
            try:
                outcome = future.result()
            except Exception as error:
                if lost(error, engine):
                    raise EngineLost("the Dask scheduler is gone; start the same again to go on") from None
                # What a worker did not survive several times.
                outcome = {"status": "crashed", "error": f"{type(error).__name__}: {str(error).splitlines()[0]}"}
            end(name, outcome)
    return status
