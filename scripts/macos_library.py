"""Cross-compile the macOS library from any system and join its halves: `python scripts/macos_library.py [OUTPUT]`.

The compiler, and what it knows of libSystem, come from the package ziglang; no SDK is needed. The sources are those
that csrc/meson.build lists for macOS, where the ordinary build makes the same library with the native compiler.
"""

from __future__ import annotations

import re
import struct
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent
MINIMUM = "11.0"  # the first macOS on arm64
MACHINES = {"x86_64": (0x01000007, 3), "aarch64": (0x0100000C, 0)}  # cputype and cpusubtype of a fat header
PAGE = 14  # slices are aligned to arm64's pages, 2 to the power of this
_WORDS = (
    "-std=gnu11 -O2 -Wall -Wextra -Werror -fvisibility=hidden -fno-stack-protector -U_FORTIFY_SOURCE "
    "-D_FORTIFY_SOURCE=0 -fno-sanitize=all"
)
FLAGS = _WORDS.split()
LINK = ["-dynamiclib", "-install_name", "@rpath/libtracelib.dylib"]


def sources() -> list[str]:
    """The library's files for macOS, relative to csrc/."""
    text = (SOURCE / "csrc" / "meson.build").read_text()
    found: list[str] = []
    for name in ("tracelib_common", "tracelib_darwin", "policy_sources"):
        listed = re.search(rf"^{name} = files\((.*?)^\)", text, re.S | re.M)
        if not listed:
            raise SystemExit(f"csrc/meson.build has no list {name}")
        found += re.findall(r"'([^']+)'", listed[1])
    return [name for name in found if name not in ("version.c", "filemap.c")]


def generate(directory: Path) -> None:
    """Write what the sources include from csrc/calls.table."""
    for what, name in (("reals", "reals.h"), ("interpose", "interpose.inc"), ("ops.h", "ops.h")):
        csrc = SOURCE / "csrc"
        subprocess.run(
            [sys.executable, csrc / "gen_calls.py", csrc / "calls.table", what, directory / name], check=True
        )


def compile_one(machine: str, directory: Path) -> Path:
    """The library for one machine. Raises subprocess.CalledProcessError where it does not compile."""
    csrc = SOURCE / "csrc"
    output = directory / f"libtracelib-{machine}.dylib"
    words = [
        "-target",
        f"{machine}-macos.{MINIMUM}",
        *FLAGS,
        *LINK,
        f"-I{directory}",
        f"-I{csrc}",
        f"-I{csrc / 'tracelib'}",
    ]
    files = [str(csrc / name) for name in sources()]
    subprocess.run([sys.executable, "-m", "ziglang", "cc", *words, "-o", str(output), *files], check=True)
    return output


def join(halves: dict[str, bytes]) -> bytes:
    """A universal file: the fat header of <mach-o/fat.h> (big-endian), then each slice on a page of its own."""
    header = struct.pack(">II", 0xCAFEBABE, len(halves))
    body = b""
    start = 1 << PAGE
    for machine, data in halves.items():
        cpu, subtype = MACHINES[machine]
        at = start + len(body)
        header += struct.pack(">IIIII", cpu, subtype, at, len(data), PAGE)
        body += data + b"\0" * (-len(data) % start)
    return header + b"\0" * (start - len(header)) + body


def build(output: Path) -> Path:
    """Make the universal library at `output`, with the halves beside it."""
    output.parent.mkdir(parents=True, exist_ok=True)
    generate(output.parent)
    output.write_bytes(join({machine: compile_one(machine, output.parent).read_bytes() for machine in MACHINES}))
    output.chmod(0o755)
    return output


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else SOURCE / "build" / "macos" / "libtracelib.dylib"
    try:
        print(build(target))
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"the macOS library does not compile: {error}") from None
