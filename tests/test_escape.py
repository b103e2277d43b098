"""The escape suite against the default tiers: nothing gets through that is not declared, with its reason."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "escape"))
import runner

USERS = ["macports", "root"] if os.geteuid() == 0 else ["macports"]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="system calls of Linux")


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("tiers", ["default", "paranoid"])
def test_nothing_gets_through(user: str, tiers: str) -> None:
    flavours = ["dynamic", "inline", "static", "32bit-int80", "musl", "go", "rust", "script"]
    # the races are won, where they can be, by the second try; the matrix in docs is made with more patience
    results, missing = runner.run_all([user], [tiers], flavours, patience=1)
    assert set(missing) <= {"32bit-int80", "musl", "go", "rust"}
    assert runner.unexpected(results) == []
    assert not [key for key, outcome in results.items() if "crashed" in outcome.note]
    if missing:
        pytest.skip(
            f"NOT CHECKED: attempts compiled as {', '.join(missing)}, for which no compiler is here; the rest is held"
        )


@pytest.mark.parametrize("user", USERS)
def test_the_attempts_work_where_nothing_holds_them(user: str) -> None:
    """An attempt that does nothing would be held by anything."""
    results, _ = runner.run_all([user], ["none"], ["dynamic", "go", "rust"])
    worked = sum(outcome.escaped for outcome in results.values())
    assert len(results) >= 80
    assert worked / len(results) > 0.85


def test_declared_exceptions_are_needed() -> None:
    """One that is held by now must leave the list."""
    for kind, name in runner.EXCEPTIONS:
        results, _ = runner.run_all(USERS[:1], ["default"], ["dynamic"], only=name, kinds=kind)
        assert any(outcome.escaped for outcome in results.values()), f"{kind} {name} is held: take it off the list"


def test_what_got_through_is_told() -> None:
    """A failure that comes once in a thousand runs has to say what it was."""
    results, _ = runner.run_all(USERS[:1], ["none"], ["dynamic"], only="open,truncate")
    notes = {key[3].kind: outcome.note for key, outcome in results.items() if outcome.escaped}
    assert "read: 'GOT secret contents" in notes["read"]
    assert "changed: " in notes["write"]
    assert "b'untouched\\n' -> b''" in notes["write"]


def test_attempts_that_do_not_compile_are_not_taken_for_an_absent_compiler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(runner.FLAVOURS, "broken", ["gcc", "-Dmmap=;;"])
    with pytest.raises(SystemExit, match=r"broken: the attempts do not compile: .*error"):
        runner.build(tmp_path, ["broken"])
    monkeypatch.setitem(runner.FLAVOURS, "incomplete", ["gcc", "-nostdinc"])
    assert runner.build(tmp_path, ["incomplete"]) == {}
