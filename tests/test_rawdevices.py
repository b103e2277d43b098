"""Disks as a row of blocks, and memory, go around every file: hidden from who could open them."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import BIN

from porttrace.identity import Identity
from porttrace.rawdevices import raw_devices

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="devices of Linux")
ROOT = Identity(0, 0, (0,), "root")
NOBODY = Identity(4_000_000, 4_000_000, (4_000_000,), "somebody")


def disks() -> list[Path]:
    return [path for path in Path("/dev").iterdir() if not path.is_symlink() and path.is_block_device()]


def test_all_disks_are_found() -> None:
    if not disks():
        pytest.skip("NOT CHECKED: no disk in /dev")
    assert {os.fsencode(path) for path in disks()} <= set(raw_devices(ROOT))
    assert b"/dev/null" not in raw_devices(ROOT)


def test_who_cannot_open_them_sees_them() -> None:
    """What the kernel refuses anyway needs no rule, and a listing of /dev shows it."""
    others = [path for path in disks() if not path.stat().st_mode & 0o006]
    assert not {os.fsencode(path) for path in others} & set(raw_devices(NOBODY))
    for path in others:
        group = path.stat().st_gid
        member = Identity(NOBODY.uid, NOBODY.gid, (group,), "somebody")
        assert (os.fsencode(path) in raw_devices(member)) == bool(path.stat().st_mode & 0o060)


def test_who_names_one_means_it() -> None:
    for path in disks():
        assert os.fsencode(path) not in raw_devices(ROOT, [os.fsencode(path)])


def test_memory_below_any_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() != 0:
        pytest.skip("NOT CHECKED: only root makes nodes")
    below = tmp_path / "below"
    below.mkdir()
    for name, minor in (("memory", 1), ("harmless", 3)):
        try:
            os.mknod(below / name, stat.S_IFCHR | 0o600, os.makedev(1, minor))
        except PermissionError:
            pytest.skip("NOT CHECKED: this root makes no nodes")
    (tmp_path / "link").symlink_to(below / "memory")
    (tmp_path / "file").touch()
    found = [path for path in raw_devices(ROOT, top=tmp_path) if not path.startswith(b"/proc")]
    assert found == [os.fsencode(below / "memory")]
    assert raw_devices(ROOT, top=tmp_path / "none") == []
    # a disk that is plugged in belongs to the phases that start then
    os.mknod(below / "later", stat.S_IFCHR | 0o600, os.makedev(1, 1))
    begun = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: begun + 11)
    assert os.fsencode(below / "later") in raw_devices(ROOT, top=tmp_path)


@pytest.mark.parametrize("tiers", ["tracelib", "supervisor,fence"])
def test_a_fenced_root_sees_no_disk(tmp_path: Path, tiers: str) -> None:
    if os.geteuid() != 0 or not disks():
        pytest.skip("NOT CHECKED: needs root, and a disk")
    disk = disks()[0]

    def said(*options: str) -> str:
        command = [BIN / "porttrace", "run", "--tiers", tiers, *options, "--", "/bin/sh", "-c"]
        text = f"ls {disk.parent} | grep -x {disk.name}; stat -c %n {disk}"
        done = subprocess.run(
            [*map(str, command), text], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
        )
        return done.stdout

    assert said() == ""
    assert said("--read", str(disk)) == f"{disk.name}\n{disk}\n"
    assert said("--map", "/=+") == ""


@pytest.mark.parametrize("tiers", ["tracelib", "supervisor", "fence"])
def test_nobody_makes_nodes(tmp_path: Path, tiers: str) -> None:
    """Each tier by itself; a fifo is no device."""
    command = [str(BIN / "porttrace"), "run", "--tiers", tiers, "--", "/bin/sh", "-c"]
    text = "mknod memory c 1 1; mknod nothing c 0 0; mknod pipe p; ls"
    done = subprocess.run([*command, text], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout == "pipe\n"
    bare = subprocess.run(["/bin/sh", "-c", text], cwd=tmp_path, capture_output=True, text=True, check=False)
    if "memory" not in bare.stdout:
        pytest.skip("NOT CHECKED: this user makes no nodes anyway")
