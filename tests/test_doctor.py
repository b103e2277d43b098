"""porttrace doctor: what it says is so, and what is missing is told with what to do."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_tcl_integrate import macports

from porttrace import doctor, tiers
from porttrace.cli import doctor as command
from porttrace.errors import PorttraceError
from porttrace.integrate import integrate

PROGRAM = str(Path(sys.executable).parent / "porttrace")


def test_a_machine_with_everything() -> None:
    found = doctor.diagnose()
    assert [tier.name for tier in found.tiers] == list(tiers.TIERS)
    assert {tier.name for tier in found.tiers if tier.works} == set(tiers.available_tiers())
    assert found.system["python"].startswith(sys.version.split()[0])
    assert found.used == tiers.available_tiers()
    assert found.system["kernel"] == os.uname().release
    assert found.system["landlock"] == f"ABI {tiers.landlock_abi()}"
    assert found.system["seccomp notify"] == "yes"


def test_exit_status_and_json() -> None:
    done = subprocess.run([PROGRAM, "doctor", "--json"], capture_output=True, text=True, check=False)
    said = json.loads(done.stdout)
    assert done.returncode == (0 if said["healthy"] else 1)
    assert said["healthy"] == (all(tier["works"] for tier in said["tiers"]) and not said["problems"])
    assert said["used"] == [tier["name"] for tier in said["tiers"] if tier["works"]]
    assert set(said) == {"healthy", "system", "used", "tiers", "prefixes", "notes", "problems"}


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
    left = ", ".join(name for name in tiers.TIERS if name != tier)
    if name != "_package":  # without its programs nothing works
        assert f"a run would use: {left}" in text
    assert "not all tiers work" in text


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


# --- seen working, not assumed ---


def tier(name: str) -> doctor.Tier:
    (found,) = [tier for tier in doctor.diagnose().tiers if tier.name == name]
    return found


def launcher(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str) -> None:
    """Another launcher in the place of ours; the rest of the installation stays."""
    other = tmp_path / "launcher"
    other.write_text(f"#!/bin/sh\n{script}\n")
    other.chmod(0o755)
    real = doctor._package
    monkeypatch.setattr(doctor, "_package", lambda name: other if name == "porttrace-launch" else real(name))


RUN = 'while [ "$1" != -- ]; do shift; done; shift; exec "$@"'


@pytest.mark.parametrize(
    ("name", "script", "told"),
    [
        ("fence", RUN, "lets writes through"),
        ("fence", "echo not allowed here >&2; exit 125", "not allowed here"),
        ("fence", "exit 0", "nothing can be written inside"),
        ("supervisor", RUN, "a hidden file is seen"),
        ("supervisor", "echo no seccomp here >&2; exit 125", "no seccomp here"),
    ],
)
def test_a_tier_that_does_not_hold_is_seen(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, script: str, told: str
) -> None:
    launcher(monkeypatch, tmp_path, script)
    assert not tier(name).works
    assert told in tier(name).detail


def test_a_supervisor_that_does_not_start_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(self: object) -> None:
        raise PorttraceError("the supervisor did not start: it is broken")

    monkeypatch.setattr(doctor.Supervisor, "start", start)
    assert "it is broken" in tier("supervisor").detail
    assert not tier("supervisor").works


# --- what is no tier ---


def test_installed_macports_and_whether_trace_mode_is_in_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    good, integrated, old = (
        macports(tmp_path / name, version)
        for name, version in (("good", "2.10.5"), ("with", "2.12.5"), ("old", "2.3.0"))
    )
    monkeypatch.setattr("porttrace.integrate._reachable", lambda path, user: None)
    integrate(integrated)
    monkeypatch.setattr(doctor, "_candidates", lambda: [good, integrated, old, tmp_path])
    found = {prefix.path: prefix for prefix in doctor.diagnose().prefixes}
    assert found[str(good)] == doctor.Prefix(str(good), "2.10.5", "8.6", False)
    assert found[str(integrated)] == doctor.Prefix(str(integrated), "2.12.5", "8.6", True)
    assert "too old" in found[str(old)].trouble
    assert len(found) == 3
    command.main([])
    text = capsys.readouterr().out
    assert f"not integrated: porttrace integrate {good}" in text
    command.main(["--json"])
    assert {row["path"]: row["integrated"] for row in json.loads(capsys.readouterr().out)["prefixes"]} == {
        str(good): False,
        str(integrated): True,
        str(old): False,
    }


def test_the_port_command_leads_to_its_prefix(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/port").touch(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(tmp_path / "bin/port"))
    assert tmp_path in doctor._candidates()


def test_no_tcl_is_a_problem(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "tkinter", None)
    notes = doctor.diagnose().notes
    assert any("python3-tk" in note for note in notes) or shutil.which("tclsh") is None
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert command.main([]) == 1
    text = capsys.readouterr().out
    assert "tcl: none" in text
    assert "problem: no Tcl: install" in text


def test_no_place_for_sessions_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoExec:
        f_flag = os.ST_NOEXEC

    monkeypatch.setattr(os, "statvfs", lambda path: NoExec)
    found = doctor.diagnose()
    assert any("noexec" in problem for problem in found.problems)
    assert not found.healthy


def test_a_missing_musl_library_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    real = doctor._package
    monkeypatch.setattr(doctor, "_package", lambda name: Path("/no") if "musl" in name else real(name))
    found = doctor.diagnose()
    assert any("musl-tools" in note for note in found.notes)
    assert found.healthy, "such programs are supervised"


@pytest.mark.parametrize(
    ("said", "state"),
    [
        ("System Integrity Protection status: enabled.\n", "enabled"),
        ("System Integrity Protection status: disabled.", "disabled"),
        (
            "System Integrity Protection status: unknown (Custom Configuration).\n\nConfiguration:\n\tApple: off\n",
            "unknown (Custom Configuration)",
        ),
        ("", "unknown"),
    ],
)
def test_system_integrity_protection(said: str, state: str) -> None:
    assert doctor._sip(said) == state


def test_on_macos_there_are_two_tiers(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """As far as it can be tried here: what the programs of macOS say is made up."""
    answers = {"sw_vers": "14.5", "csrutil": "System Integrity Protection status: enabled."}
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(doctor, "_output", lambda words, text="": answers.get(words[0].rpartition("/")[2], ""))
    found = doctor._system()
    assert (found["macos"], found["sip"]) == ("14.5", "enabled")
    assert "landlock" not in found
    assert doctor._supervisor().missing == ("macOS has nothing of the kind; the fence holds writes there",)
