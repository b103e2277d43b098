"""Show what trace mode is for: the same port built without it and with it, side by side.

``stray`` is installed, ``foo`` does not declare it, and foo's configure script looks for it anyway. Run by
``make demo``. Everything that is shown is also checked: where a claim does not hold, the demo says which and fails.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
PORT = Path(sys.executable).parent / "port"
SESSIONS = Path("/tmp/macports")
PROBES = ("checking for stray.h", "checking for stray-config")
WIDTH = 58


class ClaimError(Exception):
    """Something that the demo says is not so."""


def claim(holds: object, what: str) -> None:
    """Say what holds; ClaimError where it does not."""
    if not holds:
        raise ClaimError(what)
    print(f"  ok  {what}")


class Demo:
    """One prefix of the demo's own, below /tmp, and the runs of port in it."""

    def __init__(self) -> None:
        self.top = Path(tempfile.mkdtemp(prefix="porttrace-demo-"))
        self.top.chmod(0o755)
        spec = importlib.util.spec_from_file_location("prefix", HERE / "prefix.py")
        assert spec is not None and spec.loader is not None
        prefix = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(prefix)
        self.prefix: Path = prefix.make(self.top / "prefix")
        self.pids: list[int] = []

    def port(self, *words: str, quiet: bool = True) -> str:
        """Run port to its end; both its outputs. ClaimError where it fails."""
        print(f"\n$ port {' '.join(words)}", flush=True)
        process = subprocess.Popen(
            [PORT, "--prefix", self.prefix, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self.pids.append(process.pid)
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if not quiet:
                print(f"  {line}", end="", flush=True)
        if process.wait() != 0:
            if quiet:
                print(textwrap.indent("".join(lines), "  "))
            raise ClaimError(f"port {' '.join(words)} ends with status 0 (it was {process.returncode})")
        return "".join(lines)

    def foo(self) -> str:
        """What the installed foo says of itself."""
        return subprocess.run(
            [self.prefix / "bin" / "foo", "--version"], check=True, capture_output=True, text=True
        ).stdout

    def leftovers(self) -> list[str]:
        """Session directories of our ports, and processes that still have our prefix in their command line."""
        found = [str(SESSIONS / str(pid)) for pid in self.pids if (SESSIONS / str(pid)).exists()]
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if entry.name != str(os.getpid()) and os.fsencode(self.prefix) in command:
                found.append(f"process {entry.name}: {command.replace(bytes(1), b' ').decode(errors='replace')}")
        return found

    def probes(self) -> list[str]:
        """What foo's configure script said about stray, from the config.log of the kept work directory."""
        (log,) = (self.prefix / "var/macports/build").glob("*/foo/work/foo-1.0/config.log")
        text = log.read_text(errors="replace")
        return [
            f"{probe}... {match[1]}"
            for probe in PROBES
            if (
                match := re.search(
                    rf"^configure:\d+: {re.escape(probe)}$.*?^configure:\d+: result: ([^\n]*)$", text, re.M | re.S
                )
            )
        ]


def side_by_side(prefix: Path, left: Sequence[str], right: Sequence[str]) -> None:
    """Print two columns, the prefix by its usual name."""
    columns = []
    for lines in (left, right):
        columns.append(
            [
                part
                for line in lines
                for part in textwrap.wrap(line.replace(str(prefix), "${prefix}"), WIDTH - 2) or [""]
            ]
        )
    for i in range(max(map(len, columns))):
        row = [column[i] if i < len(column) else "" for column in columns]
        print(f"  {row[0]:<{WIDTH}}| {row[1]}".rstrip())


def show(demo: Demo) -> None:
    """The whole demo. ClaimError where something is not as it says."""
    print(f"A prefix of its own: {demo.prefix}")
    demo.port("install", "stray", quiet=False)
    claim((demo.prefix / "include/stray.h").exists(), "stray is installed")

    demo.port("-k", "install", "foo")
    plain, plain_foo = demo.probes(), demo.foo()
    demo.port("uninstall", "foo")
    demo.port("clean", "foo")
    output = demo.port("-k", "-t", "install", "foo", quiet=False)
    traced, traced_foo = demo.probes(), demo.foo()

    print("\nThe same port, built twice on the same machine:\n")
    side_by_side(
        demo.prefix,
        ["port install foo", "-" * (WIDTH - 2), *plain, "", "foo --version", *plain_foo.splitlines()],
        ["port -t install foo", "-" * (WIDTH - 2), *traced, "", "foo --version", *traced_foo.splitlines()],
    )

    print("\nWhat was shown, checked:")
    config = str(demo.prefix / "bin" / "stray-config")
    header = str(demo.prefix / "include" / "stray.h")
    claim(
        len(plain) == 2 and plain[0].endswith("yes") and plain[1].endswith(config),
        "without -t foo's configure finds stray.h and stray-config",
    )
    claim("stray: 1.0" in plain_foo.splitlines(), "and foo is linked with stray, which it does not declare")
    claim(
        len(traced) == 2 and all(line.endswith("... no") for line in traced),
        "with -t it says no for both",
    )
    claim("stray: no" in traced_foo.splitlines(), "and foo is built without stray")
    for path in (header, config):
        told = [block for block in blocks(output, path) if "belongs to port stray" in block]
        claim(told, f"the report names the port of {path}")
        claim(
            any("in phase configure" in b and "asked for by" in b for b in told),
            "  the program that asked, and the phase",
        )
        claim(any("depends_lib-append" in b or "depends_build-append" in b for b in told), "  and the line to add")
    claim(not (left := demo.leftovers()), f"nothing is left in {SESSIONS}, no process still runs {left or ''}".rstrip())


def blocks(output: str, path: str) -> list[str]:
    """The parts of a report about a path: its own line and the lines that are indented below it."""
    lines = output.splitlines()
    found = []
    for i, line in enumerate(lines):
        if line.strip() == path:
            indent = len(line) - len(line.lstrip())
            below = []
            for more in lines[i + 1 :]:
                if len(more) - len(more.lstrip()) <= indent:
                    break
                below.append(more.strip())
            found.append("\n".join(below))
    return found


def main() -> int:
    """The command line; the exit status."""
    parser = argparse.ArgumentParser(description="Build foo without and with trace mode, side by side.")
    parser.add_argument("--keep", action="store_true", help="leave the demo's prefix in place")
    arguments = parser.parse_args()
    demo = Demo()
    try:
        show(demo)
    except ClaimError as why:
        print(f"\ndemo: this does not hold: {why}", file=sys.stderr)
        return 1
    finally:
        if arguments.keep:
            print(f"\nThe prefix stays: {demo.prefix}")
        else:
            shutil.rmtree(demo.top)
    return 0


if __name__ == "__main__":
    sys.exit(main())
