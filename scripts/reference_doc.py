"""Write the reference from the code: options of port and porttrace, fields of logs (docs/conf.py makes the site)."""

from __future__ import annotations

import argparse
import importlib
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from porttrace.cli.main import COMMANDS
from porttrace.logfields import FIELDS
from porttrace.porttool.main import USAGE

_MADE = "<!-- Made by scripts/reference_doc.py from the code: change it there. -->\n"
_PORT_COMMANDS = ("deptest", "sweep")


class _Caught(Exception):
    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.parser = parser


@contextmanager
def _catching() -> Iterator[None]:
    """Every parser that is about to parse is thrown instead."""
    usual = argparse.ArgumentParser.parse_args

    def parse_args(self: argparse.ArgumentParser, *_: object, **__: object) -> None:
        raise _Caught(self)

    argparse.ArgumentParser.parse_args = parse_args  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        argparse.ArgumentParser.parse_args = usual  # type: ignore[method-assign]


def parser_of(start: Callable[[], object]) -> argparse.ArgumentParser:
    """The parser of a command, which `start` begins. LookupError where it has none."""
    with _catching():
        try:
            start()
        except _Caught as caught:
            return caught.parser
    raise LookupError(f"{start} parses no options")


def _cell(text: str) -> str:
    """Text as a table's cell: nothing in it is markup."""
    return re.sub(r"([\\|<>*_$`\[\]{}])", r"\\\1", " ".join(text.split()))


def _code(text: str) -> str:
    return "`" + text.replace("|", "\\|") + "`"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(row)} |\n" for row in lines)


def command_page(parser: argparse.ArgumentParser) -> str:
    """One command: what it does, its options as a table, its epilog as it is."""
    rows = []
    for action in parser._actions:
        if action.help == argparse.SUPPRESS:
            continue
        names = list(action.option_strings) or [str(action.metavar or action.dest)]
        value = action.metavar or (action.dest.upper() if action.nargs != 0 and action.option_strings else "")
        shown = ", ".join(_code(f"{name} {value}".strip() if action.option_strings else name) for name in names)
        text = (action.help or "") % {"default": action.default, "prog": parser.prog}
        rows.append((shown, _cell(text)))
    usage = parser.format_usage().removeprefix("usage: ").strip()
    epilog = f"\n```text\n{parser.epilog.strip()}\n```\n" if parser.epilog else ""
    about = _cell(parser.description or "")
    return f"{about}\n\n```text\n{usage}\n```\n\n{_table(('argument', 'meaning'), rows)}{epilog}"


def _usage_rows(section: str) -> list[tuple[str, str]]:
    """Rows of a part of port's own help: a line that is indented further goes on with the one before."""
    rows: list[tuple[str, str]] = []
    text = USAGE.partition(f"\n{section}\n")[2].partition("\n\n")[0]
    for line in text.splitlines():
        if re.match(r"  \S", line):
            name, _, meaning = line.strip().partition("  ")
            rows.append((name, meaning.strip()))
        elif rows:
            rows[-1] = (rows[-1][0], f"{rows[-1][1]} {line.strip()}".strip())
    return rows


def port_page() -> str:
    """Options and actions of port."""
    options = [(_code(name), _cell(meaning)) for name, meaning in _usage_rows("Options")]
    actions = USAGE.partition("\nActions\n")[2].partition("\nOptions")[0]
    usage = USAGE.partition("\n")[0].removeprefix("usage: ")
    examples = USAGE.partition("\nExamples\n")[2]
    parts = [f"# port\n\n{_MADE}\n```text\n{usage}\n```\n\n## Options\n\n{_table(('option', 'meaning'), options)}"]
    parts.append(
        f"\n## Actions\n\n```text\n{actions.rstrip()}\n```\n\n## Examples\n\n```text\n{examples.rstrip()}\n```\n"
    )
    deptest = importlib.import_module("porttrace.porttool.deptest")
    sweep = importlib.import_module("porttrace.porttool.sweep")
    for name, parser in (
        ("deptest", parser_of(lambda: deptest.main([], []))),
        ("sweep", sweep.make_parser()),
    ):
        parts.append(f"\n## port {name}\n\n{command_page(parser)}")
    return "".join(parts)


def porttrace_page() -> str:
    """Options of porttrace's commands."""
    rows = [(f"[{name}](#porttrace-{name})", _cell(about)) for name, (_, about) in COMMANDS.items()]
    parts = [f"# porttrace\n\n{_MADE}\n{_table(('command', 'does'), rows)}"]
    for name, (module, _) in COMMANDS.items():
        start = partial(importlib.import_module(module).main, [])
        parts.append(f"\n## porttrace {name}\n\n{command_page(parser_of(start))}")
    return "".join(parts)


def log_page() -> str:
    """The fields of a log's lines."""
    rows = [(_code(field.name), field.type, _cell(field.meaning)) for field in FIELDS]
    values = "".join(
        f"\n## Values of {field.name}\n\n{_table(('value', 'means'), [(_code(v), _cell(m)) for v, m in field.values])}"
        for field in FIELDS
        if field.values
    )
    return (
        f"# The log\n\n{_MADE}\n`porttrace run --log FILE` writes a line of JSON for each access, in the order of "
        "time. Bytes of names that are no UTF-8 are lone surrogates (`\\udc80` to `\\udcff`), as Python's "
        f"`surrogateescape` reads them.\n\n{_table(('field', 'type', 'meaning'), rows)}{values}"
    )


PAGES = {"port": port_page, "porttrace": porttrace_page, "log": log_page}


def write(directory: Path) -> None:
    """Write all pages; those that have not changed are left alone."""
    directory.mkdir(exist_ok=True)
    for name, page in PAGES.items():
        file, text = directory / f"{name}.md", page()
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
