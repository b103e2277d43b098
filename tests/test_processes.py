"""Which processes can have been started since a moment: told by their numbers, without looking at all there are."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from porttrace import processes
from porttrace.processes import Moment, members

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="NOT CHECKED here: /proc is Linux'")


@pytest.fixture
def numbers(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """What the system says of its counters, to be changed by a test."""
    said = {"ns_last_pid": 5000, "pid_max": 32768, "forks": 100_000}
    monkeypatch.setattr(processes, "_number", said.__getitem__)
    monkeypatch.setattr(processes, "_forks", lambda: said["forks"])
    return said


def born(since: Moment) -> list[int] | None:
    """Of some ids those that can have been given away since, or None where the numbers do not tell."""
    decide = processes._born_after(since)
    return None if decide is None else [pid for pid in (1, 400, 4999, 5000, 5001, 6000, 6001, 32000) if decide(pid)]


def test_the_window_of_a_short_phase(numbers: dict[str, int]) -> None:
    since = Moment(0, 5000, 100_000)
    assert born(since) == []
    numbers.update(ns_last_pid=6000, forks=101_500)  # others of another namespace count as forks too
    assert born(since) == [5001, 6000]


def test_the_counter_went_round(numbers: dict[str, int]) -> None:
    since = Moment(0, 6000, 100_000)
    numbers.update(ns_last_pid=4999, forks=100_000 + 31_000)
    assert born(since) == [1, 400, 4999, 6001, 32000]


@pytest.mark.parametrize(
    ("changed", "since"),
    [
        ({"forks": 100_000 + 32_000}, Moment(0, 5000, 100_000)),  # it may have gone round more than once
        ({"ns_last_pid": 6000}, Moment(0, 5000, 100_000)),  # more ids than forks: somebody has set it
        ({"ns_last_pid": 0}, Moment(0, 5000, 100_000)),  # a kernel that does not tell
        ({"forks": 0}, Moment(0, 5000, 0)),
        ({"pid_max": 0}, Moment(0, 5000, 100_000)),
    ],
)
def test_where_numbers_tell_nothing_all_are_looked_at(
    numbers: dict[str, int], changed: dict[str, int], since: Moment
) -> None:
    numbers.update(changed)
    assert born(since) is None


@pytest.mark.parametrize("blind", [False, True])
def test_members_are_found_either_way(blind: bool) -> None:
    since = Moment.now()
    if blind:
        since = replace(since, number=0)
    with tempfile.TemporaryDirectory() as name:
        child = subprocess.Popen(["sleep", "60"], env={"MARK": f"{name}/policy"})
        try:
            assert members(Path(name), since=since) == {child.pid}
            assert members(Path(name)) == {child.pid}
        finally:
            child.kill()
            child.wait()


def test_a_phase_looks_at_few(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    real = processes._process
    monkeypatch.setattr(processes, "_process", lambda pid: looked.append(pid) or real(pid))
    before = subprocess.Popen(["sleep", "60"])
    since = Moment.now()
    child = subprocess.Popen(["sleep", "60"])
    try:
        members(Path("/nowhere"), since=since)
        assert child.pid in looked
        assert before.pid not in looked, "what was there before is of no interest"
    finally:
        for process in (before, child):
            process.kill()
            process.wait()
