"""Where the ports of a sweep are worked on: threads of this process, or the workers of a Dask scheduler."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from porttrace.errors import PorttraceError
from porttrace.sweep import job as jobs

__all__ = ["Engine", "EngineLost", "connect", "local"]

_PATIENCE = 5  # seconds for a scheduler to answer


class EngineLost(PorttraceError):
    """The scheduler is gone; nothing is wrong with the ports."""


@dataclass
class Engine:
    """An executor, how many jobs it works on at a time, and how it is told to stop those of one sweep."""

    executor: Executor
    most: int
    client: Any = None

    def capacity(self) -> int:
        """How many jobs to have under way now: workers come and go."""
        if self.client is None:
            return self.most
        threads: int = sum(self.client.nthreads().values())
        return min(self.most, threads) if self.most else threads

    def stop(self, token: str) -> None:
        """End what is under way."""
        jobs.stop_all(token)
        if self.client is not None and self.client.status == "running":
            self.client.run(jobs.stop_all, token, on_error="ignore")


@contextmanager
def local(most: int) -> Iterator[Engine]:
    """`most` ports at a time on this machine."""
    with ThreadPoolExecutor(most) as executor:
        yield Engine(executor, most)


@contextmanager
def connect(address: str, most: int, directory: str, token: str) -> Iterator[Engine]:
    """The workers of the Dask scheduler at `address`; `most` is 0 for as many ports at a time as they have threads.

    PorttraceError where Dask is not installed, the scheduler does not answer, or a worker cannot do the work.
    """
    try:
        distributed = importlib.import_module("distributed")
    except ImportError:
        raise PorttraceError(
            "--scheduler needs Dask, which is not installed: pip install 'porttrace[sweep]' (here and on the workers)"
        ) from None
    for name in ("distributed", "distributed.client"):  # we say ourselves what has gone
        logging.getLogger(name).handlers[:] = [logging.NullHandler()]
    try:
        scheme, where = distributed.comm.parse_address(address)
        distributed.comm.registry.get_backend(scheme)
        distributed.comm.addressing.parse_host_port(where)
    except ValueError as error:
        raise PorttraceError(f"--scheduler {address}: {error} (as tcp://HOST:8786)") from None
    try:
        client = distributed.Client(address, timeout=_PATIENCE, set_as_default=False)
    except OSError as error:
        reason = str(error).split("\n")[0] or type(error).__name__
        raise PorttraceError(f"the Dask scheduler {address} does not answer: {reason}") from None
    with client:
        _check(client, address, directory, token)
        # A port whose process takes its worker along is tried on another one, as often as the scheduler allows.
        yield Engine(client.get_executor(pure=False), most, client)


def _check(client: Any, address: str, directory: str, token: str) -> None:
    """PorttraceError where a worker cannot do the work."""
    if not client.nthreads():
        raise PorttraceError(f"the Dask scheduler {address} has no workers: start some (dask worker {address})")
    mine = jobs.version()
    for worker, theirs in client.run(jobs.version, on_error="return").items():
        if isinstance(theirs, BaseException):
            raise PorttraceError(f"the worker {worker} cannot work for a sweep: {theirs} (install porttrace there)")
        if theirs != mine:
            raise PorttraceError(f"the worker {worker} has porttrace {theirs}, this machine {mine}: install the same")
    for worker, hindered in client.run(jobs.probe, directory, token, on_error="return").items():
        if hindered:
            raise PorttraceError(f"the worker {worker} {hindered}")


def lost(error: BaseException, engine: Engine) -> bool:
    """Whether a job's exception means that the scheduler is gone, rather than that the job went wrong."""
    if engine.client is None:
        return False
    return engine.client.status != "running" or type(error).__name__ in ("CancelledError", "FutureCancelledError")
