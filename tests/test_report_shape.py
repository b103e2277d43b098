"""A report that is none, or half one: one line that says where, and no reader stumbles over what was let through."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from porttrace.baseline import compare, fresh
from porttrace.cli import explain as cli_explain
from porttrace.context import read_context
from porttrace.errors import PorttraceError
from porttrace.explain import explain
from porttrace.formats import FORMATS
from porttrace.learn import learn
from porttrace.report import read_report
from porttrace.report_shape import differs

PORTTRACE = Path(sys.executable).with_name("porttrace")
PROGRAM = {"exe": "/usr/bin/cc1", "parents": ["/bin/sh"], "chain": ["sh", "cc1"], "count": 1}
FINDING = {
    "kind": "undeclared-dependency", "path": "/p/include/stray.h", "access": "read", "code": "PT001", "reason": None,
    "port": "stray", "phase": "build", "rule": "/p=?", "fix": "depends_lib-append port:stray", "built": "foo",
    "count": 1, "programs": [PROGRAM],
}  # fmt: skip
PHASE = {
    "port": "foo", "phase": "build", "workpath": "/w", "prefix": "/p", "registry": "/r", "portfile": "/nowhere",
    "deps": ["bar"], "declared": [["lib", "port:bar"]], "variants": "", "tests": False, "chains": {"bar": ["bar"]},
    "strict": False, "audit": False, "read": [["/p", "ask", None, "prefix", []]], "write": [],
    "used": {"bar": {"/p/lib/libbar.a": ["read"]}}, "listed": {"/p/lib": "/bin/ls"}, "probed": {"/q": ["/q", "/x"]},
    "start": 0.0, "seconds": 1.5, "programs": [[None, "cc", "/bin/cc", 1, 0.0, 1]], "programs_left_out": 0,
}  # fmt: skip
REPORT = {
    "version": "1", "command": ["port", "build"], "tiers": ["tracelib"],
    "findings": [FINDING, FINDING | {"kind": "hidden"}, FINDING | {"kind": "write-outside", "access": "create"}],
    "stats": {"exit_status": 0, "incomplete": ["it broke off"]},
    "context": {"prefix": "/p", "registry": "/r", "portfile": "/nowhere", "phases": [PHASE]},
}  # fmt: skip
ODD: list[Any] = [None, 3, "x", True, [], [3], {}, {"x": 3}, "a\0b", "a\ud800"]


def variants(value: Any = REPORT, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Each place of the report with each odd value in it."""
    for odd in ODD:
        changed: Any = {"": copy.deepcopy(REPORT)}
        at = changed
        for step in ("", *path)[:-1]:
            at = at[step]
        at[("", *path)[-1]] = odd
        yield path, changed[""]
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in children:
        yield from variants(inner, (*path, name))


def test_a_whole_report_is_one(tmp_path: Path) -> None:
    assert differs(REPORT) is None
    made = tmp_path / "r.json"
    subprocess.run([PORTTRACE, "run", "-q", "--report", made, "--", "sh", "-c", "cat /opt/x; true"], check=True)
    assert differs(json.loads(made.read_text())) is None
    assert differs({"findings": [{"kind": "later", "path": "/x", "access": "later"}], "more": 1}) is None


@pytest.mark.parametrize(
    ("path", "odd", "said"),
    [
        ((), [], "it is not an object"),
        (("findings",), {}, "findings is not a list"),
        (("findings", 0), 3, "findings[0] is not an object"),
        (("findings", 1), {"kind": "hidden", "path": "/x"}, "findings[1] has no access"),
        (("findings", 0, "path"), "a\0b", "findings[0].path is not text (without NUL)"),
        (("findings", 0, "path"), "a\ud800", "findings[0].path is not text (without NUL)"),
        (("findings", 0, "programs", 0, "chain"), [1], "findings[0].programs[0].chain[0] is not text (without NUL)"),
        (("stats", "incomplete"), 5, "stats.incomplete is not a list"),
        (("context", "phases", 0, "used"), {"a": []}, "context.phases[0].used.a is not an object"),
        (
            ("context", "phases", 0, "listed"),
            {"a\0": "x"},
            "a name in context.phases[0].listed is not text (without NUL)",
        ),
        (("findings", 0, "port"), "x\nexec rm", "findings[0].port is not a word"),
        (("findings", 0, "phase"), "[exit]", "findings[0].phase is not a word"),
        (("context", "phases", 0, "chains"), {"a;b": []}, "a name in context.phases[0].chains is not a word"),
        (("context", "phases", 0, "programs", 0), [1], "context.phases[0].programs[0] is not a list of 6"),
        (("context", "phases", 0, "seconds"), "x", "context.phases[0].seconds is not a number"),
        (("context", "phases", 0, "strict"), 1, "context.phases[0].strict is not true or false"),
    ],
)
def test_the_place_is_named(path: tuple[Any, ...], odd: Any, said: str) -> None:
    changed: Any = [copy.deepcopy(REPORT)]
    at, last = changed, 0
    for step in path:
        at, last = at[last], step
    at[last] = odd
    assert differs(changed[0]) == said


def test_what_is_let_through_can_be_read(tmp_path: Path) -> None:
    """By every reader; where the context is broken in what its words mean, that is said as PorttraceError."""
    passed = 0
    for path, report in variants():
        if differs(report) is not None:
            continue
        passed += 1
        try:
            for write in FORMATS.values():
                write(report, tmp_path, True).encode()
            learn(report["findings"], noise=True)
            compare(report, REPORT)
            fresh(REPORT, report)
            cli_explain.text(explain("/p/include/stray.h", read_context(report), report["findings"]))
        except PorttraceError:
            pass
        except Exception as error:
            pytest.fail(f"{path}: {error!r}")
    assert passed > 100


def escaped(value: Any, name: str = "") -> Any:
    """The report with an order to the terminal in each text whose words are not fixed."""
    if isinstance(value, dict):
        return {key: escaped(inner, key) for key, inner in value.items()}
    if isinstance(value, list):
        return [escaped(inner, name) for inner in value]
    fixed = ("kind", "access", "read", "write", "port", "phase", "built", "deps", "bar")
    return f"{value}\x1b[31m" if isinstance(value, str) and name not in fixed else value


def test_nothing_in_a_report_reaches_the_terminal_as_an_order(tmp_path: Path) -> None:
    report = escaped(REPORT)
    assert differs(report) is None
    texts = {name: FORMATS[name](report, tmp_path, True) for name in FORMATS}
    texts["explain"] = cli_explain.text(explain("/p/include/stray.h", read_context(report), report["findings"]))
    texts["learn"] = learn(report["findings"], noise=True).portfile()
    assert [name for name, text in texts.items() if "\x1b" in text] == []


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"[" * 200_000, "nested too deeply"),
        (b'{"findings": [{"kind": "\xff"}]}', "codec can't decode"),
        (b'{"findings": [', "is not a report: it is not JSON .*; one is written by port -t --report FILE"),
        (b" \n", "is not a report: it is empty; one is written by port -t --report FILE"),
        (
            json.dumps({"findings": [], "context": {"phases": [{"listed": {"a\nb": 3}}]}}).encode(),
            "listed.a\\nb is not text",
        ),
    ],
)
def test_one_line(tmp_path: Path, data: bytes, said: str) -> None:
    file = tmp_path / "r.json"
    file.write_bytes(data)
    with pytest.raises(PorttraceError, match=said.replace("\\", r"\\")) as raised:
        read_report(file)
    assert "\n" not in str(raised.value)
