"""Make the distfiles of the tree's own ports from their sources in ports/_sources, and write their checksums.

Run by ``make distfiles``. For every directory ``ports/_sources/NAME-VERSION`` a tarball of that name is written to the
``files`` directory of the port NAME, and the ``checksums`` of its Portfile are replaced. The tar stream depends on the
sources alone: sorted names, one time stamp, no owner. The configure script of foo is made by autoconf; it is kept
beside its configure.ac, so that the tarball can be compared with its sources where no autoconf is installed
(``--autoconf`` makes it again first).
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import re
import shutil
import subprocess
import sys
import tarfile
import tkinter
from pathlib import Path

TREE = Path(__file__).resolve().parent.parent / "ports"
#: The time stamp of everything in a tarball: 2026-01-01 00:00 UTC, in seconds.
STAMP = 1767225600


def sources() -> dict[str, Path]:
    """The source directories by the name of their port."""
    return {d.name.rpartition("-")[0]: d for d in sorted((TREE / "_sources").iterdir()) if d.is_dir()}


def port_directory(name: str) -> Path:
    """The directory of a port in the tree; LookupError where there is none or more than one."""
    found = [p.parent for p in TREE.glob(f"[!_]*/{name}/Portfile")]
    if len(found) != 1:
        raise LookupError(f"{len(found)} ports are called {name} in {TREE}, expected one")
    return found[0]


def tar_stream(directory: Path) -> bytes:
    """The uncompressed tarball of a source directory."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path in [directory, *sorted(directory.rglob("*"))]:
            info = tar.gettarinfo(str(path), str(path.relative_to(directory.parent)))
            info.uid = info.gid = 0
            info.uname = info.gname = ""
            info.mtime = STAMP
            info.mode = 0o755 if info.isdir() or info.mode & 0o100 else 0o644
            if info.isreg():
                with path.open("rb") as f:
                    tar.addfile(info, f)
            else:
                tar.addfile(info)
    return buffer.getvalue()


def checksums(tarball: bytes) -> list[tuple[str, str]]:
    """What a Portfile says of a distfile: rmd160 and sha256 in hexadecimal, size in bytes."""
    tcl = tkinter.Tcl()
    tcl.eval("package require ripemd160")
    rmd160 = str(tcl.call("ripemd::ripemd160", "-hex", "--", tarball)).lower()
    return [("rmd160", rmd160), ("sha256", hashlib.sha256(tarball).hexdigest()), ("size", str(len(tarball)))]


def write(name: str, directory: Path) -> Path:
    """Write one port's tarball and the checksums of its Portfile; returns the tarball's path."""
    port = port_directory(name)
    target = port / "files" / f"{directory.name}.tar.gz"
    target.parent.mkdir(exist_ok=True)
    stream = tar_stream(directory)
    if not target.exists() or gzip.decompress(target.read_bytes()) != stream:
        target.write_bytes(gzip.compress(stream, mtime=0))
    sums = " \\\n".join(f"{'':20}{kind:<7} {value}" for kind, value in checksums(target.read_bytes())).lstrip()
    portfile = port / "Portfile"
    old = portfile.read_text()
    new, count = re.subn(r"^checksums +(?:.*\\\n)*.*$", f"checksums           {sums}", old, count=1, flags=re.MULTILINE)
    if count != 1:
        raise LookupError(f"{portfile} has no line checksums")
    if new != old:
        portfile.write_text(new)
    return target


def main() -> int:
    """Write all tarballs; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--autoconf", action="store_true", help="make foo's configure script again first")
    arguments = parser.parse_args()
    found = sources()
    if arguments.autoconf:
        subprocess.run(["autoreconf", "-fi"], cwd=found["foo"], check=True)
        shutil.rmtree(found["foo"] / "autom4te.cache")
    for name, directory in found.items():
        print(write(name, directory).relative_to(TREE.parent))
    return 0


if __name__ == "__main__":
    sys.exit(main())
