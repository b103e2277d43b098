"""porttrace doctor: what it says is so, and what is missing is told with what to do."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from porttrace import doctor, tiers
from porttrace.cli import doctor as command

PROGRAM = str(Path(sys.executable).parent / "porttrace")


def test_a_machine_with_everything() -> None:
    found = doctor.diagnose()
    assert [tier.name for tier in found.tiers] == list(tiers.TIERS)
    assert {tier.name for tier in found.tiers if tier.works} == set(tiers.available_tiers())
    assert found.system["python"].startswith(sys.version.split()[0])


def test_exit_status_and_json() -> None:
    done = subprocess.run([PROGRAM, "doctor", "--json"], capture_output=True, text=True, check=False)
    said = json.loads(done.stdout)
    assert done.returncode == (0 if said["healthy"] else 1)
    assert said["healthy"] == (all(tier["works"] for tier in said["tiers"]) and not said["problems"])


def test_text_names_each_tier_and_what_it_stops(capsys: pytest.CaptureFixture[str]) -> None:
    command.main([])
    text = capsys.readouterr().out
    assert all(f"  {name}" in text for name in tiers.TIERS)
    assert text.count("stops ") >= 3


@pytest.mark.parametrize(
    ("name", "value", "tier", "told"),
    [
        ("landlock_abi", lambda: 0, "fence", "CONFIG_SECURITY_LANDLOCK"),
        ("supervisor_available", lambda: False, "supervisor", "Linux 5.14"),
        ("_package", lambda name: Path("/no/such") / name, "tracelib", "install porttrace again"),
    ],
)
def test_a_missing_tier_is_never_silent(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    value: object,
    tier: str,
    told: str,
) -> None:
    monkeypatch.setattr(doctor, name, value)
    assert command.main([]) == 1
    text = capsys.readouterr().out
    assert f"{tier:10} MISSING" in text
    assert told in text


def test_a_library_that_the_loader_refuses_is_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Seen by starting a program with it, not by looking whether a file is there."""
    (tmp_path / "libtracelib.so").write_bytes(b"not a library")
    monkeypatch.setattr(doctor, "_package", lambda name: tmp_path / name)
    (tracelib,) = [tier for tier in doctor.diagnose().tiers if tier.name == "tracelib"]
    assert not tracelib.works


def test_an_old_landlock_says_what_it_does_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "landlock_abi", lambda: 2)
    (fence,) = [tier for tier in doctor.diagnose().tiers if tier.name == "fence"]
    assert fence.works
    assert "truncate" in fence.detail
    assert "rename and link" not in fence.detail


def test_a_missing_build_user_is_told() -> None:
    notes = doctor.diagnose("no-such-user-here").notes
    assert any("useradd" in note and "no-such-user-here" in note for note in notes)
