"""docs/systems.md: every system that was promised has a row, and every test named there exists."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest
from conftest import ROOT

SYSTEMS = (
    "`-t` on port(1)",
    "unix socket in `/tmp/macports/{pid of port}`",
    "injected tracelib",
    "filemap, four cases",
    "filemap bytes",
    "ask",
    "deny, and which kind",
    "filemap built from Tcl",
    "SDK redirection",
    "noisy programs",
    "dependency tests by maintainers",
    "binary packages",
    "deny writes outside the workpath",
    "deny reads of non-dependencies",
    "deny the rest that is not base OS",
    "logging only on request",
    "port(1)'s own permissions",
    "one call sets the policy up",
    "`macports` user",
    "OS agents",
)
TEXT = (ROOT / "docs" / "systems.md").read_text()
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in TEXT.splitlines() if line.startswith("| ")][
    1:
]
NAMED = sorted(set(re.findall(r"`(tests/\w+\.py)::(\w+)`", TEXT)))


@cache
def functions_of(file: str) -> frozenset[str]:
    tree = ast.parse((ROOT / file).read_text())
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_system_has_a_row_with_a_test(system: str) -> None:
    (row,) = [row for row in ROWS if row[1].startswith(system) and (system != "ask" or row[1] == "ask")]
    assert re.search(r"`tests/\w+\.py::test_\w+`", row[2]), row


def test_no_row_is_of_another_system() -> None:
    assert len(ROWS) == len(SYSTEMS)


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_every_test_that_is_named_exists(file: str, name: str) -> None:
    assert name.startswith("test_") and name in functions_of(file)


def test_nothing_is_named_in_another_form() -> None:
    """What the table holds are names of tests and nothing that this file would pass over."""
    for row in ROWS:
        assert not re.sub(r"`tests/\w+\.py::test_\w+`", "", row[2]).strip(), row
