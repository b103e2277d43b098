"""README and docs/: links lead somewhere, and the commands that are shown exist."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from conftest import BIN, ROOT, run_command

DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")])
#: Of port(1); `deptest` has a help text of its own.
SHOWN = re.compile(
    r"(?<![\w./-])(?:\.venv/bin/)?(porttrace|port) "
    r"((?:-[\w-]+(?:[= ](?:/[\w/]+|FILE|DIR\|?\w*|[\w/]+\.json))? )*)([a-z]+)\b"
)


def code_of(document: Path) -> list[str]:
    """The commands in code: indented, fenced, or between backquotes; without what port prints."""
    text = document.read_text()
    code = re.findall(r"`([^`\n]+)`", text) + re.findall(r"^    (\S.*)$", text, re.MULTILINE)
    return [re.sub(r"\s#.*", "", line).removeprefix("$ ") for line in code]


def shown() -> set[tuple[str, str]]:
    found = set()
    for document in DOCUMENTS:
        for line in code_of(document):
            for command in line.split("; "):
                match = SHOWN.match(command)
                # Of MacPorts' own port there is more than of this one.
                if match and (match[1], document.name) != ("port", "macports.md"):
                    found.add((match[1], match[3]))
    return found


def known(program: str) -> set[str]:
    """The actions or commands of a program, from its own help."""
    text = run_command([BIN / program, "--help"]).out
    if program == "porttrace":
        return set(re.findall(r"^  ([a-z]+) ", text, re.MULTILINE))
    actions = text.partition("Actions\n")[2].partition("\nOptions")[0]
    return {word for line in actions.splitlines() for word in re.sub(r"  \s+.*", "", line.strip()).split()}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: d.name)
def test_links_lead_somewhere(document: Path) -> None:
    text = re.sub(r"```.*?```", "", document.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = document.parent / path if path else document
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}, target


def test_commands_that_are_shown_exist() -> None:
    found = shown()
    for program, least in (("port", 4), ("porttrace", 8)):
        words = {word for name, word in found if name == program}
        assert len(words) >= least, words
        assert words <= known(program), words - known(program)


def test_targets_of_make_that_are_shown_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {m[1] for d in DOCUMENTS for line in code_of(d) if (m := re.match(r"make ([a-z-]+)", line))}
    assert {"demo", "test"} <= named <= targets


def test_files_that_are_named_exist() -> None:
    """Paths below the source's own directories, as the documents write them."""
    for document in DOCUMENTS:
        for line in re.findall(r"`([^`\n]+)`", document.read_text()):
            for path in re.findall(r"(?:^|\s)((?:csrc|porttrace|scripts|tests|bench|ports|tcl|docs)/[\w./*-]+)", line):
                name = path.rstrip("./").partition("::")[0]
                assert list(ROOT.glob(name)), f"{document.name}: {path}"


def test_the_package_is_found_by_a_plain_tclsh_as_shown(open_tmp: Path) -> None:
    """The very lines of docs/tcl.md."""
    if shutil.which("tclsh") is None:
        pytest.skip("NOT CHECKED: there is no tclsh on this machine")
    text = (ROOT / "docs" / "tcl.md").read_text()
    (script,) = re.findall(r"```tcl\n(.*?)```", text, re.DOTALL)
    (open_tmp / "script.tcl").write_text(script)
    lines = "\n".join(re.findall(r"^    (\S.*)$", text, re.MULTILINE)[:2])
    assert lines.endswith("\ntclsh script.tcl")
    done = run_command(["sh", "-c", lines.replace(".venv/bin", str(BIN))], cwd=open_tmp)
    assert done.status == 0, done.text
    assert done.out.splitlines() == [
        "cat: /usr/include/zlib.h: No such file or directory",
        "hidden /usr/include/zlib.h",
    ]


def test_the_readmes_way_to_any_command(open_tmp: Path) -> None:
    """Its very lines, which a reader may type where the ones before them were typed: in the checkout."""
    text = (ROOT / "README.md").read_text().partition("Any other command goes inside a fence too")[2]
    lines = re.findall(r"^    (\S.*)$", text.partition("`porttrace doctor`")[0], re.MULTILINE)
    assert len(lines) == 4
    place = str(open_tmp / "tally")
    typed = "\n".join(f"{line.partition('  #')[0]}\necho status $?" for line in lines).replace("/tmp/tally", place)
    done = run_command(["sh", "-c", typed.replace("$PWD/.venv/bin", str(BIN))], cwd=ROOT)
    assert re.findall(r"^status (\d+)", done.out, re.MULTILINE) == ["0", "0", "2", "0"], done.text
    assert "/usr/include/ctype.h" in done.err and (open_tmp / "tally" / "r.json").exists()


def test_commands_of_tcl_that_are_shown_exist() -> None:
    text = (ROOT / "docs" / "tcl.md").read_text()
    source = (ROOT / "tcl" / "porttrace" / "porttrace.tcl").read_text()
    for name in set(re.findall(r"porttrace::([a-z_]+)", text)):
        assert re.search(rf"proc (?:::)?(?:porttrace::)?{name}\b|\b{name}\b", source), name


def test_every_document_is_reached_from_the_readme() -> None:
    seen, todo = set(), [ROOT / "README.md"]
    while todo:
        document = todo.pop()
        seen.add(document)
        for target in re.findall(r"\]\(([^)\s#]+\.md)", document.read_text()):
            file = (document.parent / target).resolve()
            if file not in seen and file.exists():
                todo.append(file)
    assert set(DOCUMENTS) <= seen, set(DOCUMENTS) - seen
