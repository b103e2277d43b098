"""Make a prefix of one's own: the directory into which port installs, with its configuration and a copy of the tree.

``python scripts/prefix.py DIRECTORY`` does it from the command line; the demo and the tests use :func:`make`.
The tree is copied, because phases run as the build user, who may not be able to read a checkout in somebody's home.
"""

from __future__ import annotations

import argparse
import os
import pwd
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

TREE = Path(__file__).resolve().parent.parent / "ports"


def build_user() -> str:
    """The user as whom phases are to run: ``macports`` for root, oneself for anybody else."""
    return "macports" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name


def make(prefix: Path, *, tree: Path = TREE, settings: Mapping[str, str] | None = None) -> Path:
    """Make a prefix.

    Args:
        prefix: the directory; made with mode 0755 where it does not exist.
        tree: the ports tree to copy to ``var/macports/sources/ports``.
        settings: more lines of macports.conf, by name; they replace the ones written here.

    Returns:
        The prefix, absolute.

    Raises:
        FileExistsError: the prefix has a configuration already, which is left alone.
        OSError: it could not be written.
    """
    prefix = prefix.absolute()
    etc = prefix / "etc" / "macports"
    if (etc / "macports.conf").exists():
        raise FileExistsError(f"{etc / 'macports.conf'} exists already: this is a prefix, and it is left as it is")
    sources = prefix / "var" / "macports" / "sources" / "ports"
    for directory in (prefix, etc, sources.parent):
        directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    # _sources is what the tarballs were made from: nothing that port reads. porttrace's own port is built from the
    # checkout that it lies in, and from what MacPorts' tree has.
    shutil.copytree(tree, sources, ignore=shutil.ignore_patterns("_sources", "porttrace"))
    open_up(prefix)
    values = {
        "prefix": str(prefix),
        "portdbpath": str(prefix / "var" / "macports"),
        "macportsuser": build_user(),
        **(settings or {}),
    }
    (etc / "macports.conf").write_text("".join(f"{name:20} {value}\n" for name, value in values.items()))
    (etc / "sources.conf").write_text(f"file://{sources} [default]\n")
    return prefix


def open_up(directory: Path) -> None:
    """Let everybody read what is below a directory, whatever the umask was."""
    for path in [directory, *directory.rglob("*")]:
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)


def main() -> int:
    """The command line; the exit status."""
    parser = argparse.ArgumentParser(description="Make a prefix of one's own for port, with a copy of the ports tree.")
    parser.add_argument("prefix", type=Path, metavar="DIRECTORY")
    try:
        prefix = make(parser.parse_args().prefix)
    except OSError as why:
        print(f"prefix: {why}", file=sys.stderr)
        return 1
    port = Path(__file__).resolve().parent.parent / ".venv" / "bin" / "port"
    print(f"{prefix} is ready; try:  {port} --prefix {prefix} -t install foo")
    return 0


if __name__ == "__main__":
    sys.exit(main())
