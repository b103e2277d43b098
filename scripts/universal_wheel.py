"""Join wheels for macOS, one for each machine, into universal2 ones: `python scripts/universal_wheel.py DIRECTORY`.

meson-python builds for one machine at a time. Programs and libraries become universal files, everything else must be
the same in both; the halves are removed. Runs anywhere: what it writes is looked at by tests/test_wheels.py.
"""

from __future__ import annotations

import base64
import hashlib
import re
import struct
import sys
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import macos_library

_NAME = re.compile(r"(?P<what>.+)-macosx_(?P<major>\d+)_(?P<minor>\d+)_(?P<machine>x86_64|arm64)\.whl")
_MACHO_64 = 0xFEEDFACF


def _named(wheel: Path) -> re.Match[str]:
    found = _NAME.fullmatch(wheel.name)
    if not found:
        raise SystemExit(f"{wheel.name} is no wheel for one machine of macOS")
    return found


def _is_program(data: bytes) -> bool:
    return len(data) > 4 and bool(struct.unpack_from("<I", data)[0] == _MACHO_64)


def _record(name: str, data: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(data)}\n"


def join(intel: Path, arm: Path, directory: Path) -> Path:
    """The universal2 wheel of two halves, in `directory`. SystemExit names what is not the same in both."""
    halves = {"x86_64": zipfile.ZipFile(intel), "aarch64": zipfile.ZipFile(arm)}
    names = [_named(intel), _named(arm)]
    if names[0]["what"] != names[1]["what"]:
        raise SystemExit(f"{intel.name} and {arm.name} are of different things")
    system = max((int(n["major"]), int(n["minor"])) for n in names)
    platform = f"macosx_{system[0]}_{system[1]}_universal2"
    output = directory / f"{names[0]['what']}-{platform}.whl"
    entries = halves["x86_64"].infolist()
    if {e.filename for e in entries} != {e.filename for e in halves["aarch64"].infolist()}:
        odd = {e.filename for e in entries} ^ {e.filename for e in halves["aarch64"].infolist()}
        raise SystemExit(f"only in one of the halves: {' '.join(sorted(odd))}")
    record = ""
    joined = 0
    with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED) as wheel:
        for entry in sorted(entries, key=lambda e: e.filename.endswith(".dist-info/RECORD")):
            parts = {machine: half.read(entry.filename) for machine, half in halves.items()}
            data = parts["x86_64"]
            if entry.filename.endswith(".dist-info/RECORD"):
                data = f"{record}{entry.filename},,\n".encode()
            elif entry.filename.endswith(".dist-info/WHEEL"):
                data = re.sub(rb"macosx_\d+_\d+_(x86_64|arm64)", platform.encode(), data)
            elif all(_is_program(part) for part in parts.values()):
                data = macos_library.join(parts)
                joined += 1
            elif data != parts["aarch64"]:
                output.unlink()
                raise SystemExit(f"{entry.filename} is not the same in both halves")
            record += _record(entry.filename, data)
            wheel.writestr(entry, data, zipfile.ZIP_DEFLATED)
    if not joined:
        output.unlink()
        raise SystemExit(f"there is no program in {intel.name}")
    return output


def main(argv: list[str]) -> None:
    """The command line."""
    if len(argv) != 2:
        raise SystemExit("usage: universal_wheel.py DIRECTORY")
    directory = Path(argv[1])
    arms = {_named(arm)["what"]: arm for arm in directory.glob("*_arm64.whl")}
    intels = sorted(directory.glob("*_x86_64.whl"))
    if not intels or {_named(intel)["what"] for intel in intels} != set(arms):
        raise SystemExit(f"{directory} has not one wheel for each machine of each Python")
    for intel in intels:
        arm = arms[_named(intel)["what"]]
        print(join(intel, arm, directory))
        intel.unlink()
        arm.unlink()


if __name__ == "__main__":
    main(sys.argv)
