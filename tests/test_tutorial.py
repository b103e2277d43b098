"""The tutorial, done word for word: its files are written, its commands run, and they print what it shows."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from conftest import BIN, ROOT

TUTORIAL = ROOT / "docs" / "tutorial.md"


@dataclass
class Step:
    """A file to write, or a command with what it prints."""

    file: str = ""
    text: str = ""
    command: str = ""
    shown: list[str] = field(default_factory=list)
    status: int = 0


def steps(text: str) -> list[Step]:
    """In the order of the page."""
    found: list[Step] = []
    for name, kind, body in re.findall(r"(?:File `([^`]+)`:\n\n)?```(\w+)\n(.*?)```", text, re.DOTALL):
        if name:
            found.append(Step(file=name, text=body))
            continue
        assert kind == "console", f"a block that is neither a file nor commands: {body}"
        for line in body.splitlines():
            if line.startswith("$ "):
                command, _, status = line[2:].partition("   # exit status ")
                found.append(Step(command=command, status=int(status or 0)))
            else:
                found[-1].shown.append(line)
    return found


def as_shown(shown: list[str], printed: str) -> bool:
    """Whether the output is what the page shows; `...` is any number of lines, or of characters in a line."""
    pattern = ""
    for line in shown:
        part = ".*?".join(re.escape(each) for each in line.split("..."))
        pattern += r"(?:[^\n]*\n)*?" if line == "..." else part.replace(".*?", r"[^\n]*?") + r"\n"
    return re.fullmatch(pattern, printed) is not None


class Shell:
    """One bash, in which directories and variables stay."""

    def __init__(self, directory: Path) -> None:
        env = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "HOME": str(directory), "LANG": "C.UTF-8"}
        self._bash = subprocess.Popen(
            ["bash"],
            cwd=ROOT,
            env=env | {"GIT_CONFIG_NOSYSTEM": "1"},  # nobody has told this git who commits
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, command: str) -> tuple[int, str]:
        """Status, and both outputs."""
        assert self._bash.stdin is not None and self._bash.stdout is not None
        self._bash.stdin.write(f'{{ {command}\n}} </dev/null\necho "@@$?"\n')
        self._bash.stdin.flush()
        lines = ""
        for line in self._bash.stdout:
            if re.fullmatch(r"@@\d+\n", line):
                return int(line[2:]), lines
            lines += line
        pytest.fail(f"the shell ended in {command}: {lines}")

    def close(self) -> None:
        self._bash.communicate()


@pytest.fixture
def shell(open_tmp: Path) -> Iterator[Shell]:
    one = Shell(open_tmp)
    yield one
    one.close()


def test_all_of_it(shell: Shell, open_tmp: Path) -> None:
    for needed in ("git", "cc"):
        if shutil.which(needed) is None:
            pytest.skip(f"NOT CHECKED: the tutorial was not done, there is no {needed}")
    place = str(open_tmp / "tutorial")
    text = TUTORIAL.read_text().replace("/tmp/tutorial", place).replace("$PWD/.venv/bin", str(BIN))
    todo = steps(text)
    assert len([step for step in todo if step.command]) > 15 and len([step for step in todo if step.file]) == 2
    for step in todo:
        if step.file:
            directory = shell.run("pwd")[1].strip()
            (Path(directory) / step.file).write_text(step.text)
            continue
        status, printed = shell.run(step.command)
        assert status == step.status, f"$ {step.command}\n{printed}"
        assert not step.shown or as_shown(step.shown, printed), (
            f"$ {step.command}\n{printed}\n--- the page:\n{step.shown}"
        )
    merged = shell.run("git log --oneline main; git show main:devel/greet/Portfile")[1]
    assert "greet: new port" in merged and "port:stray" not in merged and "port:libbar" in merged
    assert os.access(f"{place}/bin/greet", os.X_OK)


def test_the_comparison_can_fail() -> None:
    assert as_shown(["a", "...", "see ... here"], "a\nx\ny\nsee me here\n")
    assert as_shown(["...", "b"], "b\n")
    assert not as_shown(["a"], "a\nb\n") and not as_shown(["a", "..."], "b\n") and not as_shown(["a.c"], "abc\n")
