"""The command ``port``."""

from __future__ import annotations

import contextlib
import getopt
import os
import signal
import sys
from importlib.resources import files
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from porttrace.errors import PorttraceError, UsageError
from porttrace.identity import Identity
from porttrace.porttool import NO_TCL
from porttrace.porttool.commands import HostCommands, Interrupted
from porttrace.porttool.settings import Settings
from porttrace.porttool.ui import Ui
from porttrace.streams import STANDARD_OUTPUT, complain, guarded
from porttrace.tclbridge import tcllist

if TYPE_CHECKING:
    from porttrace.tclbridge.phaselog import PhaseLog

__all__ = ["main"]

USAGE = """\
usage: port [options] ACTION [NAME [@VERSION] [+VARIANT ...] [KEY=VALUE ...] ...]

Actions
  fetch checksum extract patch configure build test destroot archive
  install activate deactivate uninstall clean
  installed contents provides deps info list

  shell           a shell in the work directory, as a phase works there: by default the phase
                  that failed (--phase PHASE: another); without a terminal it reads commands
  deptest         build under trace, run the tests, judge the dependencies (port deptest --help)
  sweep           the same for many ports or all, each in a prefix of its own (port sweep --help)

Options
  -t              trace mode: a phase sees its declared dependencies only
  -k              keep the work directory after an installation
  -n              leave the dependencies alone
  -f              force
  -s              build from source even where an archive is at hand
  -b              use archives only, build nothing
  -p              go on with the next port where one fails
  -v, -d, -q      more output, debugging output, errors only
  -D PORTDIR      the port in this directory
  --prefix DIR    the prefix (its configuration is DIR/etc/macports/macports.conf)
  --with-trace-sdk=NAME
                  show the SDK (or sysroot) NAME in the place of /, in trace mode
  --report FILE   write what trace mode found in all phases, as JSON (porttrace report, explain and diff read it);
                  - is standard output, and all messages go to the standard error then
  --audit         like -t, but refuse nothing and record what would have been refused (for porttrace learn)
  --absent        like -t, and keep in the report what was looked for and is not there (porttrace deps --absent)
  -h, --help      this text
  --version       the version

Examples
  port -t install foo              build foo inside the fence, with its dependencies, and install it
  port -t --report foo.json install foo; porttrace report --format html -o foo.html foo.json
  port -t deps foo                 set what foo declares against what its last traced build used
  port -v -t test foo +doc         run the tests of a variant; say all that was asked for
  port -D ./ports/devel/foo build  build the port in a directory
  port -k install foo build.jobs=1 keep the work directory; set an option of the Portfile
  port -t shell foo                look around where the build of foo failed, inside the same fence
  port installed                   list what is installed

Exit status: 0; 1 where something failed; 2 for a wrong command line. deptest and sweep: 3 where dependencies are to be
changed. shell: that of the shell.
"""
_FLAGS = {"-t": "trace", "-k": "keep", "-n": "nodeps", "-f": "force", "-s": "source", "-b": "binary", "-p": "proceed"}
_OPTIONS = "tknfspbdvqD:h"
_LEVELS = {"-q": 0, "-v": 2, "-d": 3}


def main() -> int:
    """Entry point. Returns the exit status: 0, 1 where something failed, 2 for a wrong command line."""
    return guarded("port", _main)


def _main() -> int:
    os.umask(0o022)
    argv = sys.argv[1:]
    try:
        long = ["prefix=", "with-trace-sdk=", "report=", "audit", "absent", "help", "version"]
        given, words = getopt.getopt(argv, _OPTIONS, long)
    except getopt.GetoptError as error:
        return _wrong(str(error))
    ui = Ui()
    options: dict[str, str] = {}
    prefix = None
    for name, value in given:
        if name in ("-h", "--help"):
            print(USAGE, end="")
            return 0
        if name == "--version":
            return _version()
        if name in _LEVELS:
            ui.level = _LEVELS[name]
        elif name in _FLAGS:
            options[_FLAGS[name]] = "1"
        elif name == "-D":
            options["portdir"] = value
        elif name == "--prefix":
            if not value:
                return _wrong("option --prefix requires a directory")
            prefix = Path(value)
        elif name == "--report":
            options["report"] = value
        elif name == "--absent":
            options["absent"] = options["trace"] = "1"
        elif name == "--audit":
            options["audit"] = options["trace"] = "1"
        else:
            options["sdk"] = value
    if not words:
        return _wrong("no action given")
    if words == ["help"]:
        print(USAGE, end="")
        return 0
    if words == ["version"]:
        return _version()
    try:
        if words[0] == "deptest":
            from porttrace.porttool import deptest

            own = [f"--prefix={prefix}"] if prefix is not None else []
            own += [name for name, _ in given if name in ("-q", "-v", "-d")]
            return deptest.main(own, words[1:])
        if words[0] == "sweep":
            from porttrace.porttool import sweep

            return sweep.main(ui, prefix, words[1:])
        _refuse_late(words)
        return _run(ui, prefix, options, words)
    except PorttraceError as error:
        ui.say("error", str(error))
        return 2 if isinstance(error, UsageError) else 1
    except BrokenPipeError:
        raise
    except OSError as error:
        ui.say("error", f"{f'{error.filename}: ' if error.filename else ''}{error.strerror}")
        return 1


def _refuse_late(words: list[str]) -> None:
    """UsageError for an option after the action: it would be taken for a variant to leave out, and `port build foo -t`
    build foo without trace mode."""
    for word in words[1:]:
        if len(word) == 2 and word[0] == "-" and word[1] in _OPTIONS.replace(":", ""):
            raise UsageError(f"{word} stands after the action; options come first: port {word} {words[0]} ...")


def _wrong(reason: str) -> int:
    complain(f"port: {reason} (port --help shows what there is)")
    return 2


def _version() -> int:
    from porttrace._version import version

    print(f"Version: porttrace {version()}")
    return 0


def _build_user(settings: Settings) -> Identity | None:
    if os.geteuid() != 0 or settings["macportsuser"] == "root":
        return None
    try:
        return Identity.named(settings["macportsuser"])
    except PorttraceError as error:
        raise PorttraceError(f"{settings.file}: macportsuser: {error}") from None


def _run(ui: Ui, prefix: Path | None, options: dict[str, str], words: list[str]) -> int:
    try:
        import tkinter  # a package of its own in most systems
    except ImportError:
        raise PorttraceError(NO_TCL) from None
    from porttrace.porttool.host import Host

    settings = Settings(prefix, lambda text: ui.say("warn", text))
    from porttrace.porttool.registry_commands import RegistryCommands
    from porttrace.porttool.usage_commands import UsageCommands
    from porttrace.registry import Registry

    build_user = _build_user(settings)
    report = _report_file(options.pop("report", None))
    ui.output_taken = report == STANDARD_OUTPUT
    if report is not None:
        # Who may not write there cannot build there either, and port says so.
        with contextlib.suppress(OSError, PorttraceError):
            Registry.make(settings.portdbpath / "registry" / "registry.db")
    if settings.flag("portverbose") and ui.level == 1:
        ui.level = 2
    options["verbose"] = "1" if ui.level > 1 else ""
    commands = HostCommands(ui, settings, build_user, prefix)

    def stop(number: int) -> None:
        commands.stopped_by = number

    def on_signal(number: int, frame: FrameType | None) -> None:
        first = commands.stopped_by is None
        commands.stopped_by = number
        if first:  # the second one must not disturb the cleaning up
            raise Interrupted(number)

    host = Host(stop)
    if report is not None:
        from porttrace.tclbridge.phaselog import PhaseLog

        host.phase_log = PhaseLog()
    found = host.phase_log.note if host.phase_log is not None else None
    host.register(commands.table())
    registry = RegistryCommands(settings.portdbpath, settings.prefix, ui.say, build_user)
    host.register(registry.table())
    host.register(UsageCommands(settings.portdbpath, settings.prefix, ui.say, found).table())
    status = 1
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, on_signal)
        host.run("source", str(files("porttrace") / "tcl" / "port.tcl"))
        status = int(host.run("::port::main", tcllist.join(options_list(options)), *words))
    except (Interrupted, KeyboardInterrupt):
        pass
    except tkinter.TclError as error:
        if commands.stopped_by is None:
            ui.say("error", str(error).split("\n")[0])
            ui.say("debug", str(host.run("set", "::errorInfo")))
    finally:
        with contextlib.suppress(Interrupted):
            commands.privileges("root")
        host.close()
        ui.progress("")
        if report is not None and host.phase_log is not None:
            traced = options.get("trace") == "1"
            status = _write_report(ui, report, host.phase_log, words, status, traced=traced)
    if commands.stopped_by is not None:
        # Die of the signal, as everybody expects of a program that was interrupted.
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        signal.signal(commands.stopped_by, signal.SIG_DFL)
        os.kill(os.getpid(), commands.stopped_by)
    return status


def _report_file(name: str | None) -> str | None:
    """Absolute, because port changes its directory. PorttraceError before the work, not after it."""
    if name is None or name == STANDARD_OUTPUT:
        return name
    from porttrace.report import check_writable

    check_writable(name)
    return str(Path(name).absolute())


def _write_report(ui: Ui, name: str, log: PhaseLog, words: list[str], status: int, *, traced: bool) -> int:
    """Write what the phases found, also where one failed; the exit status becomes 1 where that is impossible."""
    from porttrace.report import write_report

    if not log.phases:
        why = "what was done before is not done again: port clean" if traced else "-t switches trace mode on"
        if traced and status:
            why = "it failed before anything was to be traced"  # the error stands above; cleaning would not help
        what = "the report" if name == STANDARD_OUTPUT else name
        ui.say("warn", f"nothing ran in trace mode: {what} is empty but for its head ({why})")
    try:
        write_report(name, log.report(["port", *words], status))
    except PorttraceError as error:
        ui.say("error", str(error))
        return 1
    return status


def options_list(options: dict[str, str]) -> list[str]:
    """A dict as the words of a Tcl dict."""
    return [word for pair in options.items() for word in pair]


if __name__ == "__main__":
    sys.exit(main())
