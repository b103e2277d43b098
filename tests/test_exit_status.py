"""One convention for exit statuses: 2 is a wrong command line, 1 is what failed, and both are 125 of porttrace run."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import BIN, Prefix, run_command

from porttrace.cli.main import COMMANDS

WRONG = [
    [],
    ["nosuch"],
    ["explain", ""],
    ["explain", "--phase", "build", "/x"],
    ["explain", "--map", "/x", "/x"],
    ["run"],
    ["run", "--tiers", "nosuch", "--", "true"],
    ["run", "--tiers", "", "--", "true"],
    ["run", "--deps", "a", "--", "true"],
    ["run", "--read", "", "--", "true"],
    ["doctor", "--js"],
    ["agents", "--js"],
    *([name, "--no-such-option"] for name in COMMANDS),
]
FAILED = [
    ["explain", "/x", "/no/report"],
    ["report", "/no/report"],
    ["deps", "/no/report"],
    ["diff", "/no/report", "/no/report"],
    ["learn", "/no/report"],
    ["filemap", "dump", "/no/filemap"],
    ["integrate", "/no/prefix"],
    ["run", "--log", "/no/log", "--", "true"],
    ["run", "--report", "/dev/null/r.json", "--", "false"],
]


def named(words: list[str]) -> str:
    return " ".join(word or "''" for word in words) or "nothing"


@pytest.mark.parametrize("words", WRONG, ids=named)
def test_a_wrong_command_line_of_porttrace(words: list[str], tmp_path: Path) -> None:
    done = run_command([BIN / "porttrace", *words], cwd=tmp_path)
    assert done.status == (125 if words[:1] == ["run"] else 2), done.text
    assert done.err and not done.out
    assert not words or done.err.count("\n") == 1


def test_a_command_that_is_not_there(tmp_path: Path) -> None:
    done = run_command([BIN / "porttrace", "run", "--", "/no/command"], cwd=tmp_path)
    assert done.status == 127 and done.err.count("\n") == 1, "as of env(1)"


@pytest.mark.parametrize("words", FAILED, ids=named)
def test_what_cannot_be_done(words: list[str], tmp_path: Path) -> None:
    done = run_command([BIN / "porttrace", *words], cwd=tmp_path)
    assert done.status == (125 if words[0] == "run" else 1), done.text
    assert done.err.count("\n") == 1


@pytest.mark.parametrize("words", [["run", "--", "true"], ["explain", "/x"], ["integrate", "x"]], ids=named)
def test_a_directory_that_was_removed_around_a_command_is_named_as_such(words: list[str], tmp_path: Path) -> None:
    line = 'cd "$1" && rmdir "$1" && shift && exec "$@"'
    done = run_command(["sh", "-c", line, "sh", str(tmp_path), BIN / "porttrace", *words], cwd=tmp_path.parent)
    assert done.status == (125 if words[0] == "run" else 1), done.text
    assert done.err == "porttrace: the current directory has been removed: change to one that exists\n"


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--nosuch", "install", "foo"],
        ["nosuch", "foo"],
        ["install"],
        ["install", ""],
        ["install", "foo", "--nosuch"],
        ["install", "foo", "+"],
        ["-b", "-s", "install", "foo"],
        ["-b", "build", "foo"],
        ["contents"],
        ["info"],
        ["shell"],
        ["shell", "foo", "--phase"],
        ["shell", "foo", "--phase", "nosuch"],
        ["deptest"],
        ["deptest", ""],
        ["deptest", "+doc"],
        ["deptest", "--verify", "foo"],
        ["deptest", "--report", "r.json", "foo", "tally"],
        ["deptest", "--archives", "/", "foo"],
        ["deptest", "foo", "configure.cc=tcc"],
        ["sweep", "--jobs", "0", "all"],
        ["sweep", "--timeout", "-1", "all"],
        ["sweep", "--timeout", "nan", "all"],
        ["sweep", "--directory", "", "all"],
        ["sweep", "foo", "+doc"],
    ],
    ids=named,
)
def test_a_wrong_command_line_of_port(prefix: Prefix, words: list[str], tmp_path: Path) -> None:
    result = run_command(prefix.argv(*words), cwd=tmp_path)
    assert result.status == 2, result.text
    assert result.err.count("\n") == 1 and not result.out


@pytest.mark.parametrize("words", [["install", "nosuch"], ["info", "nosuch"], ["shell", "foo"], ["sweep", "nosuch"]])
def test_what_port_cannot_do(prefix: Prefix, words: list[str]) -> None:
    assert prefix.fails(*words).status == 1


@pytest.mark.parametrize("words", [["--report", "/dev/null/r"], ["--absent", "--archives", "/no/archives"]], ids=named)
def test_nothing_is_built_for_what_cannot_be_done(prefix: Prefix, words: list[str]) -> None:
    result = prefix.fails("deptest", *words, "tally")
    assert result.status == 1 and result.err.count("\n") == 1, result.text


def test_a_port_that_there_is_not_is_told_once(prefix: Prefix) -> None:
    result = prefix.fails("deptest", "nosuch")
    assert result.status == 1 and result.err == f"Error: nothing was built: port nosuch not found in {prefix.tree}\n"
