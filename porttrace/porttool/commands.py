"""What the host gives to Tcl: names, and what each does. Words arrive as text, answers leave as Tcl values.

A command raises PorttraceError (one line, shown to the user) or OSError; the host makes Tcl errors of both.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from porttrace.errors import PorttraceError
from porttrace.identity import Identity, privileged
from porttrace.porttool import interactive, spawn
from porttrace.porttool.settings import Settings
from porttrace.porttool.ui import LEVELS, Ui
from porttrace.sdk import find_sdk
from porttrace.streams import answer
from porttrace.tclbridge import tcllist
from porttrace.tclbridge.tcllist import TclValue
from porttrace.waiting import end_of, read_lines

__all__ = ["HostCommands", "Interrupted"]

_BLOCK = 1 << 20


class Interrupted(BaseException):
    """A signal asked port to end. ``number`` is the signal."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by signal {number}")
        self.number = number


def program_words() -> list[str]:
    """How this program is started: by its plain name where PATH leads to it."""
    given = Path(sys.argv[0])
    if given.suffix == ".py":  # python -m
        given = Path(sys.executable).parent / "port"
    found = shutil.which(given.name)
    words = [given.name if found is not None and os.path.realpath(found) == os.path.realpath(given) else str(given)]
    # Under sudo the environment is sudo's, and so may be the PATH; the user types it again.
    by_sudo = Path(os.environ.get("SUDO_COMMAND", "").split(" ")[0]).name == given.name
    return ["sudo", *words] if by_sudo else words


class HostCommands:
    """The commands of one run of port. ``build_user`` is None where phases run as ourselves."""

    def __init__(
        self, ui: Ui, settings: Settings, build_user: Identity | None, given_prefix: Path | None = None
    ) -> None:
        self.ui, self.settings, self.build_user, self.given_prefix = ui, settings, build_user, given_prefix
        self.stopped_by: int | None = None
        self._own_groups = os.getgroups()
        self._locks: dict[str, int] = {}

    def table(self) -> dict[str, Callable[..., TclValue]]:
        """Tcl name -> function."""
        return {
            "ui_say": self.ui_say,
            "ui_progress": self.ui_progress,
            "answer": lambda text: answer("port", text.encode("utf-8", "replace").decode("utf-8")),
            "ui_level": lambda: self.ui.level,
            "log_phase": self.log_phase,
            "log_open": self.log_open,
            "log_close": self.log_close,
            "interrupted": lambda: self.stopped_by is not None,
            "setting": lambda key: self.settings[key],
            "setting_flag": lambda key: self.settings.flag(key),
            "settings_file": lambda: str(self.settings.file),
            "trees": lambda: [[str(tree.path), tree.default] for tree in self.settings.trees],
            "privileges": self.privileges,
            "effective_uid": os.geteuid,
            "build_user": lambda: self.build_user.name if self.build_user else "",
            "id_words": self.id_words,
            "give_to_build_user": self.give_to_build_user,
            "spawn": self.spawn,
            "converse": self.converse,
            "command_line": self.command_line,
            "hash_file": self.hash_file,
            "lock_file": self.lock_file,
            "unlock_file": self.unlock_file,
            "make_link": self.make_link,
            "find_sdk": self.find_sdk,
            "sed_in_place": self.sed_in_place,
            "download": self.download,
            "take_file": self.take_file,
            "cpu_count": lambda: len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        }

    def find_sdk(self, name: str) -> str:
        """The directory of the SDK that trace mode is to show in the place of /."""
        return os.fspath(find_sdk(name, self.settings.portdbpath))

    # --- messages ------------------------------------------------------------------------------------------------

    def ui_say(self, level: str, text: str) -> None:
        """Show and log a message."""
        if level not in LEVELS:
            raise PorttraceError(f"no such level of messages: {level}")
        self.ui.say(level, text)

    def ui_progress(self, text: str) -> None:
        """A line that the next one replaces, on a terminal only."""
        self.ui.progress(text)

    def log_phase(self, phase: str) -> None:
        """Name the phase in the log's lines."""
        self.ui.phase = phase

    def log_open(self, path: str) -> None:
        """Log to a file from now on; its directory is made."""
        with privileged():
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            self.ui.push_log(Path(path))

    def log_close(self) -> None:
        """Go back to the former log."""
        self.ui.pop_log()

    # --- ids -----------------------------------------------------------------------------------------------------

    def privileges(self, which: str) -> None:
        """Work with the build user's effective ids (``build``) or with our own again (``root``)."""
        user = self.build_user
        if user is None:
            return
        if os.geteuid() != os.getuid():
            os.seteuid(os.getuid())
            os.setegid(os.getgid())
            os.setgroups(self._own_groups)
        if which == "build":
            os.setgroups(user.groups)
            os.setegid(user.gid)
            os.seteuid(user.uid)

    def id_words(self) -> list[str]:
        """The words before a command line that give up our real ids too, where only the effective ones are lowered."""
        return spawn.id_prefix(self.build_user, self.settings.portdbpath) if os.geteuid() != os.getuid() else []

    def give_to_build_user(self, *paths: str) -> None:
        """Make the build user the owner of files or directories."""
        if self.build_user is not None:
            for path in paths:
                os.chown(path, self.build_user.uid, self.build_user.gid, follow_symlinks=False)

    # --- children ------------------------------------------------------------------------------------------------

    def spawn(self, directory: str, nice: str, environment: str, words: str, command: str) -> int:
        """Run a shell command line behind `words`; its output is logged, and shown with -v. Returns its status."""
        if self.stopped_by is not None:
            raise Interrupted(self.stopped_by)
        pairs = tcllist.split(environment)
        return spawn.run(
            ["/bin/sh", "-c", command],
            launcher=tcllist.split(words),
            directory=directory,
            env=dict(zip(pairs[::2], pairs[1::2], strict=True)),
            line=lambda text: self.ui.say("info", text),
            nice=int(nice) if nice else None,
        )

    def converse(self, label: str, about: str, directory: str, environment: str, words: str) -> int:
        """Run a shell behind `words` on our own standard input and outputs. Returns its status, 128+N for a signal N.

        On a terminal it is interactive, `about` is said first and `label` stands in its prompt.
        """
        if self.stopped_by is not None:
            raise Interrupted(self.stopped_by)
        pairs = tcllist.split(environment)
        env = dict(zip(pairs[::2], pairs[1::2], strict=True))
        terminal = sys.stdin.isatty() and sys.stdout.isatty()
        if terminal:
            self.ui.say("notice", about)
            env["PS1"] = f"[{label}] \\w $ "
        argv = interactive.shell_words(terminal, os.environ.get("SHELL", ""), self.settings.prefix)
        status = interactive.run(argv, tcllist.split(words), directory, env, terminal)
        return 128 - status if status < 0 else status

    def command_line(self, words: str) -> str:
        """A command line of this port, to be pasted into a shell: the program and the prefix as the user gave them."""
        own = [] if self.given_prefix is None else ["--prefix", str(self.given_prefix)]
        return shlex.join([*program_words(), *own, *tcllist.split(words)])

    def sed_in_place(self, words: str, flags: str, locale: str, expression: str, path: str) -> str:
        """Edit a file with sed(1), keeping its mode. Returns ``changed`` or ``unchanged``."""
        argv = [*tcllist.split(words), "sed", *tcllist.split(flags), "-e", expression, "--", path]
        environment = {**os.environ, "LC_ALL": locale}
        try:
            done = subprocess.run(argv, capture_output=True, env=environment, stdin=subprocess.DEVNULL, check=False)
        except FileNotFoundError:
            raise PorttraceError("reinplace: sed was not found in PATH") from None
        if done.returncode != 0:
            reason = done.stderr.decode("utf-8", "replace").strip().split("\n")[0]
            raise PorttraceError(f"reinplace {expression} {path}: {reason or f'sed ended with {done.returncode}'}")
        file = Path(path)
        if file.read_bytes() == done.stdout:
            return "unchanged"
        file.write_bytes(done.stdout)
        return "changed"

    def download(self, url: str, target: str, *options: str) -> None:
        """Fetch a URL into a file with curl(1); its own progress bar on a terminal. PorttraceError where it fails."""
        curl = shutil.which("curl")
        if curl is None:
            raise PorttraceError(f"{url}: curl is needed to fetch over a network and is not installed")
        part = target + ".TMP"
        show = self.ui.terminal and self.ui.level == 1
        argv = [*self.id_words(), curl, "-fL", "--progress-bar" if show else "-sS", *options, "-o", part, "--", url]
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=None if show else subprocess.PIPE)
        errors: list[bytes] = []
        try:
            with process.stderr or contextlib.nullcontext() as pipe:
                if pipe is not None:
                    read_lines(pipe.fileno(), errors.append)
            status = end_of(process)
        except BaseException:
            process.kill()
            process.wait()
            Path(part).unlink(missing_ok=True)
            raise
        if status != 0:
            Path(part).unlink(missing_ok=True)
            reason = b"\n".join(errors).decode("utf-8", "replace").strip().split("\n")[-1]
            raise PorttraceError(f"{url}: {reason or f'curl ended with {status}'}")
        Path(part).rename(target)

    def take_file(self, path: str, target: str) -> bool:
        """Copy a file to `target`, whole or not at all; False where there is none. Not judged by trace mode."""
        source, part = Path(path), Path(target + ".TMP")
        if not source.is_file():
            return False
        try:
            shutil.copyfile(source, part)
            part.chmod(0o644)
            part.rename(target)
        finally:
            part.unlink(missing_ok=True)
        return True

    # --- files ---------------------------------------------------------------------------------------------------

    def hash_file(self, kind: str, path: str) -> str:
        """A file's digest in hexadecimal, or its size in bytes; `kind` is sha256, rmd160, sha1, md5, size."""
        file = Path(path)
        if kind == "size":
            return str(file.stat().st_size)
        try:
            digest = hashlib.new({"rmd160": "ripemd160"}.get(kind, kind), usedforsecurity=False)
        except ValueError:
            raise PorttraceError(f"checksums of the type {kind} cannot be computed on this machine") from None
        with file.open("rb") as stream:
            while block := stream.read(_BLOCK):
                digest.update(block)
        return digest.hexdigest()

    def lock_file(self, path: str) -> str:
        """Open (making it) and lock a file; waits, and says so, where another port has it. Returns a handle."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.ui.say("notice", f"Waiting for lock on {path}")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        self._locks[str(descriptor)] = descriptor
        return str(descriptor)

    def unlock_file(self, handle: str) -> None:
        """Give a lock back."""
        os.close(self._locks.pop(handle))

    def make_link(self, kind: str, source: str, link: str) -> None:
        """A symbolic or hard link; a symbolic one may point at nothing."""
        if kind == "symbolic":
            Path(link).symlink_to(source)
        else:
            os.link(source, link, follow_symlinks=sys.platform == "darwin")
