"""What the tests share: directories that the build user can read, prefixes, and a runner of the installed port."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import pytest
from ground import Ground, a_ground

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
#: Seconds after which a run of port counts as hung; far above what any test's build takes.
PATIENCE = 120


def heed_signals() -> None:
    """Have the programs that tests start end by signals also where the suite itself was told to ignore them.

    What nohup, or a shell for a job in the background, ignores would be ignored by all that is started from here. What
    is caught, as here from now on, a program that is started has as usual. The suite goes on ignoring it.
    """
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda number, frame: None)


heed_signals()


def load_script(name: str) -> ModuleType:
    """A program of scripts/ as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


prefix_script = load_script("prefix")

#: The beginning of a Portfile that fetches nothing and does not configure; to be formatted with a name.
PORT_HEAD = """\
PortSystem 1.0
name {name}
version 1.0
categories devel
license public-domain
maintainers nomaintainer
description a port of the tests
long_description a port of the tests
homepage https://porttrace.invalid/
distfiles
extract.mkdir yes
use_configure no
"""


@dataclass(frozen=True)
class Result:
    """How a command ended: its status, and both outputs as text."""

    status: int
    out: str
    err: str
    pid: int

    @property
    def text(self) -> str:
        """Both outputs, the errors last."""
        return self.out + self.err


def run_command(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float = PATIENCE,
) -> Result:
    """Run a command to its end in a process group of its own, killed where it takes longer than `timeout` seconds."""
    process = subprocess.Popen(
        [str(word) for word in argv],
        env=env,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="surrogateescape",
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        pytest.fail(f"{argv} did not end within {timeout} s\n{out}\n{err}")
    return Result(process.returncode, out, err, process.pid)


@dataclass(frozen=True)
class Prefix:
    """A prefix of a test's own, and port for it."""

    path: Path
    launcher: tuple[str | Path, ...] = (BIN / "port",)
    env: Mapping[str, str] = field(default_factory=lambda: {"PATH": os.environ["PATH"], "HOME": "/nonexistent"})

    @property
    def tree(self) -> Path:
        """The prefix's copy of the ports tree."""
        return self.path / "var" / "macports" / "sources" / "ports"

    @property
    def registry(self) -> Path:
        """The registry's database."""
        return self.path / "var" / "macports" / "registry" / "registry.db"

    def argv(self, *words: str | Path) -> list[str]:
        """The command line of port for this prefix; `words` are the user's: options, action, names."""
        return [str(word) for word in (*self.launcher, "--prefix", self.path, *words)]

    def run(self, *words: str | Path, timeout: float = PATIENCE) -> Result:
        """Run port, whatever its status."""
        return run_command(self.argv(*words), env=self.env, timeout=timeout)

    def port(self, *words: str | Path, timeout: float = PATIENCE) -> Result:
        """Run port, which has to succeed."""
        result = self.run(*words, timeout=timeout)
        assert result.status == 0, f"port {' '.join(map(str, words))}: status {result.status}\n{result.text}"
        return result

    def fails(self, *words: str | Path) -> Result:
        """Run port, which has to fail with a message and without a traceback."""
        result = self.run(*words)
        assert result.status not in (0, None) and result.status > 0, f"status {result.status}\n{result.text}"
        assert "Traceback" not in result.text and "invoked from within" not in result.text, result.text
        assert result.err.strip(), "failed without a word"
        return result

    def installed(self) -> set[str]:
        """The names of the active ports, read from the registry itself."""
        if not self.registry.exists():
            return set()
        with sqlite3.connect(f"file:{self.registry}?mode=ro", uri=True) as database:
            return {row[0] for row in database.execute("select name from ports where state = 'installed'")}

    def add_port(self, category: str, name: str, portfile: str, files: Mapping[str, str] | None = None) -> Path:
        """Put a port into the prefix's tree; returns its directory."""
        directory = self.tree / category / name
        (directory / "files").mkdir(parents=True)
        (directory / "Portfile").write_text(portfile)
        for path, text in (files or {}).items():
            (directory / "files" / path).write_text(text)
        prefix_script.open_up(directory)
        return directory

    def work(self, name: str) -> Path:
        """A port's work directory; AssertionError where there is not just one."""
        found = [p for p in (self.path / "var/macports/build").glob(f"*/{name}/work") if p.is_dir()]
        assert len(found) == 1, found
        return found[0]


def pytest_addoption(parser: pytest.Parser) -> None:
    """An installed MacPorts to try things in."""
    parser.addoption(
        "--macports-prefix",
        action="append",
        default=[],
        metavar="PREFIX",
        help="prefix of an unmodified MacPorts to try the drop-in in; may be given several times",
    )
    parser.addoption(
        "--macports-source",
        metavar="DIR",
        help="source tree of MacPorts base whose own tests of its trace library are run against ours",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """What asks for a MacPorts is done with each that was named."""
    if "macports_prefix" in metafunc.fixturenames:
        named = [Path(name) for name in metafunc.config.getoption("--macports-prefix")]
        skip = pytest.mark.skip(
            reason="NOT CHECKED: the drop-in in a real MacPorts (--macports-prefix PREFIX names one)"
        )
        metafunc.parametrize("macports_prefix", named or [pytest.param(None, marks=skip)], ids=str, scope="module")


@pytest.fixture(params=["root", "macports"])
def ground(request: pytest.FixtureRequest) -> Iterator[Ground]:
    """The same for each user that a phase runs as."""
    with a_ground(request.param) as made:
        yield made


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory outside all default places of a run: neither /tmp, nor base system, nor the current directory."""
    with tempfile.TemporaryDirectory(prefix="porttrace-test-", dir="/opt") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def work() -> Iterator[Path]:
    """The current directory of a run."""
    with tempfile.TemporaryDirectory(prefix="porttrace-work-", dir="/srv") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def macports_source(request: pytest.FixtureRequest) -> Path:
    """The source tree of MacPorts base that was named."""
    named = request.config.getoption("--macports-source")
    if not named:
        pytest.skip(
            "NOT CHECKED: MacPorts' own tests of its trace library (--macports-source DIR names its source tree)"
        )
    return Path(named)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what a run without a MacPorts says nothing about."""
    if not config.getoption("--macports-prefix"):
        terminalreporter.write_line(
            "NOT CHECKED: nothing was tried in a real MacPorts; do it with --macports-prefix PREFIX, once for each",
            yellow=True,
            bold=True,
        )


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A directory that `make` has filled, once for all workers of a run: for what takes long to build."""
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # of the run
    directory, done = base / f"once-{name}", base / f"once-{name}.done"
    with (base / f"once-{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir()
            make(directory)
            done.touch()
    return directory


@pytest.fixture
def open_tmp() -> Iterator[Path]:
    """A directory of mode 0755 below /tmp: the build user can reach it, unlike pytest's tmp_path."""
    directory = Path(tempfile.mkdtemp(prefix="porttrace-test-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


PrefixFactory = Callable[..., Prefix]


@pytest.fixture
def make_prefix(open_tmp: Path) -> PrefixFactory:
    """Makes a prefix by name, with a copy of the tree; more lines of macports.conf as keywords."""

    def factory(name: str = "prefix", **settings: str) -> Prefix:
        return Prefix(prefix_script.make(open_tmp / name, settings=settings))

    return factory


@pytest.fixture
def prefix(make_prefix: PrefixFactory) -> Prefix:
    """A prefix with a copy of the tree."""
    return make_prefix()


def sessions() -> set[str]:
    """The session directories that exist, by name (the pid of their port)."""
    directory = Path("/tmp/macports")
    return {entry.name for entry in directory.iterdir()} if directory.is_dir() else set()


def processes_of(user: str) -> dict[int, str]:
    """The live processes of a user: command lines by pid."""
    import pwd

    uid = pwd.getpwnam(user).pw_uid
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if entry.stat().st_uid == uid and (entry / "stat").read_text().rpartition(")")[2].split()[0] != "Z":
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it has just ended
    return found


def three_places(base: Path) -> Path:
    """Directories `in`, `outside`, `hidden` with a file each, open to all: what is refused there, porttrace refuses."""
    for name in ("in", "outside", "hidden"):
        (base / name).mkdir()
        (base / name).chmod(0o777)
        (base / name / "file").write_text("secret\n")
        (base / name / "file").chmod(0o666)
    return base
