"""An installed MacPorts for the tests: its own port, with a prefix, a registry and a ports tree of the test's.

Nothing of the MacPorts itself is changed but for the one directory that `porttrace integrate` makes, and that one is
taken away again. The scratch prefix lies beside the MacPorts (below /tmp a trace mode would have less to hide).
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from conftest import PATIENCE, ROOT, Prefix, Result, load_script, run_command

import porttrace

_PACKAGES = ("porttrace", "cffi", "_cffi_backend*", "zstandard")


def open_to_all(path: Path) -> bool:
    """Whether every user can get at `path`."""
    try:
        return all(parent.stat().st_mode & 0o001 for parent in path.parents) and bool(path.stat().st_mode & 0o004)
    except OSError:
        return False


def open_python(directory: Path) -> Path:
    """A Python below `directory` with this porttrace in it, that the build user can start. LookupError: there is none.

    This one will do where it lies in the open; else a copy of what is installed is put to the system's Python.
    """
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    for name in (sys.executable, f"/usr/bin/{version}", f"/usr/local/bin/{version}"):
        python = Path(name)
        if python.exists() and open_to_all(python.resolve()):
            break
    else:
        raise LookupError(f"no {version} that every user can start")
    venv = directory / "venv"
    subprocess.run([python.resolve(), "-m", "venv", "--without-pip", venv], check=True)
    target = next((venv / "lib").glob("python3*")) / "site-packages"
    source = Path(porttrace.__file__).parent.parent
    for pattern in _PACKAGES:
        for entry in source.glob(pattern):
            if entry.is_dir():
                shutil.copytree(entry, target / entry.name)
            else:
                shutil.copy2(entry, target / entry.name)
    load_script("prefix").open_up(venv)
    return venv / "bin" / "python3"


@dataclass(frozen=True)
class Macports:
    """A scratch prefix of an installed MacPorts. `home` is where the MacPorts itself lies, `python` runs our core."""

    home: Path
    prefix: Prefix
    python: Path

    @property
    def path(self) -> Path:
        """The scratch prefix."""
        return self.prefix.path

    @property
    def package(self) -> Path:
        """Where the integrated package lies."""
        return self.home / "libexec/macports/lib/porttrace1.1"

    def run(self, *words: str | Path, timeout: float = PATIENCE, env: dict[str, str] | None = None) -> Result:
        """Run the MacPorts' own port, whatever its status."""
        argv = [self.home / "bin/port", *words]
        return run_command(argv, env={**self.env, **(env or {})}, timeout=timeout, cwd=Path("/"))

    @property
    def env(self) -> dict[str, str]:
        """The environment that port is started with."""
        return {
            "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
            "HOME": "/nonexistent",
            "PORTSRC": str(self.path / "etc/macports/macports.conf"),
        }

    def port(self, *words: str | Path, timeout: float = PATIENCE) -> Result:
        """Run port, which has to succeed."""
        result = self.run(*words, timeout=timeout)
        assert result.status == 0, f"port {' '.join(map(str, words))}: status {result.status}\n{result.text}"
        return result

    def porttrace(self, *words: str | Path) -> Result:
        """Run porttrace with the Python that the build user can reach."""
        start = "import sys; from porttrace.cli.main import main; sys.exit(main())"
        return run_command([self.python, "-I", "-c", start, *words], env=self.env, cwd=Path("/"))

    def index(self) -> None:
        """Make the tree's index anew, after a Portfile has changed what other ports ask for."""
        done = run_command([self.home / "bin/portindex", "-f", self.prefix.tree], env=self.env, cwd=self.prefix.tree)
        assert done.status == 0, done.text

    def forget(self, *names: str) -> None:
        """Uninstall ports and throw their work away."""
        for name in names:
            if name in self.prefix.installed():
                self.port("-f", "uninstall", name)
            self.port("clean", "--all", name)


@contextmanager
def appended(portfile: Path, text: str) -> Iterator[None]:
    """The Portfile with this at its end; afterwards it is as it was."""
    former = portfile.read_text()
    portfile.write_text(former + text)
    try:
        yield
    finally:
        portfile.write_text(former)


@contextmanager
def scratch_macports(home: Path) -> Iterator[Macports]:
    """A scratch prefix of the MacPorts at `home`, integrated; everything is as it was afterwards.

    One test process at a time works with one MacPorts.
    """
    lock = os.open(home, os.O_RDONLY | os.O_DIRECTORY)
    directory = Path(tempfile.mkdtemp(prefix="porttrace-test-", dir=home.parent))
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        directory.chmod(0o755)
        path = load_script("prefix").make(
            directory / "prefix", settings=_settings(directory / "prefix"), tree=ROOT / "ports"
        )
        for name in ("archive_sites", "pubkeys", "variants"):
            (path / "etc/macports" / f"{name}.conf").write_text("")
        for name in ("registry", "distfiles", "build", "logs", "software", "home", "incoming/verified"):
            (path / "var/macports" / name).mkdir(parents=True)
        shutil.chown(path / "var/macports/home", "macports", "macports")
        (path / "share").mkdir()
        (path / "share/macports").symlink_to(home / "share/macports")
        host = Macports(home, Prefix(path), open_python(directory))
        host.index()
        former = directory / "former"
        if host.package.exists():
            shutil.copytree(host.package, former, symlinks=True)
        try:
            yield host
        finally:
            if host.package.exists():
                shutil.rmtree(host.package)
            if former.exists():
                shutil.copytree(former, host.package, symlinks=True)
    finally:
        shutil.rmtree(directory)
        os.close(lock)


def _settings(prefix: Path) -> dict[str, str]:
    etc = prefix / "etc/macports"
    return {
        "applications_dir": str(prefix / "Applications"),
        "frameworks_dir": str(prefix / "Library/Frameworks"),
        "sources_conf": str(etc / "sources.conf"),
        "archive_sites_conf": str(etc / "archive_sites.conf"),
        "pubkeys_conf": str(etc / "pubkeys.conf"),
        "variants_conf": str(etc / "variants.conf"),
        "startupitem_install": "no",
    }
