"""The documentation as a site: built without a warning, its reference complete, its links checked."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
from pathlib import Path

import pytest
from conftest import BIN, ROOT, Result, load_script, run_command

from porttrace.cli.main import COMMANDS
from porttrace.codes import CODES
from porttrace.eventlog import ACCESSES
from porttrace.logfields import FIELDS


def copy_of_docs(directory: Path) -> Path:
    """The documents in a place of their own, with everything that they link to beside them."""
    for entry in ROOT.iterdir():
        if not entry.name.startswith(".") and entry.name not in ("docs", "build"):
            (directory / entry.name).symlink_to(entry)
    shutil.copytree(ROOT / "docs", directory / "docs", ignore=shutil.ignore_patterns("reference"))
    return directory / "docs"


def build(docs: Path, out: Path) -> Result:
    return run_command([BIN / "sphinx-build", "-W", "--keep-going", "-q", "-b", "html", docs, out])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("site")
    result = build(copy_of_docs(directory), directory / "out")
    assert result.status == 0, result.text
    return directory / "out"


def text_of(page: Path) -> str:
    """What a reader sees."""
    return html.unescape(re.sub(r"<[^>]*>", "", page.read_text()))


def test_every_document_is_a_page(site: Path) -> None:
    pages = {page.stem for page in site.glob("*.html")}
    assert {document.stem for document in (ROOT / "docs").glob("*.md")} <= pages
    assert {"port", "porttrace", "log"} == {page.stem for page in (site / "reference").glob("*.html")}


def test_links_of_the_pages_lead_somewhere(site: Path) -> None:
    """Of the finished pages, anchors too, whatever made them."""
    targets = {page: set(re.findall(r'\bid="([^"]+)"', page.read_text())) for page in site.rglob("*.html")}
    checked = 0
    for page in targets:
        for link in re.findall(r'<a [^>]*href="([^"]+)"', page.read_text()):
            path, _, anchor = html.unescape(link).partition("#")
            if re.match(r"[a-z]+:", path) or (page.name in ("genindex.html", "search.html") and not path):
                continue
            file = (page.parent / path).resolve() if path else page
            assert file.exists(), f"{page.name}: {link}"
            if anchor and file.suffix == ".html":
                assert anchor in targets[file], f"{page.name}: {link}"
            checked += 1
    assert checked > 500


def section_of(page: Path, anchor: str) -> str:
    """What a reader sees under one heading, up to the next section of the same or a higher rank."""
    (found,) = re.findall(rf'<section id="{re.escape(anchor)}">(.*?)</section>', page.read_text(), re.DOTALL)
    assert isinstance(found, str)
    return html.unescape(re.sub(r"<[^>]*>", "", found))


def options_missing(section: str, options: set[str]) -> set[str]:
    """Those that the table of a command does not begin a row with (text elsewhere may speak of another's option)."""
    return {
        option for option in options if not re.search(rf"(?:^|, ){re.escape(option)}(?![\w-])", section, re.MULTILINE)
    }


def test_the_reference_has_every_option(site: Path) -> None:
    """As the programs' own help has them, each in the section of its own command and in no other's table."""
    port = [["port"], ["port", "deptest"], ["port", "sweep"]]
    for page, words in (("port", port), ("porttrace", [["porttrace", name] for name in COMMANDS])):
        for command in words:
            anchor = "options" if command == ["port"] else "-".join(command)
            section = section_of(site / "reference" / f"{page}.html", anchor)
            shown = run_command([BIN / command[0], *command[1:], "--help"]).out
            options = set(re.findall(r"^ {2,4}(--?[a-z][\w-]*)", shown, re.MULTILINE))
            assert options, command
            assert options_missing(section, options) == set(), command


def test_an_option_in_another_section_does_not_count(site: Path) -> None:
    """`--map` belongs to `porttrace run`: had it moved to `porttrace doctor`, the check above would see it."""
    page = site / "reference" / "porttrace.html"
    assert options_missing(section_of(page, "porttrace-run"), {"--map", "--log"}) == set()
    assert options_missing(section_of(page, "porttrace-doctor"), {"--map", "--log"}) == {"--map", "--log"}


def test_the_reference_has_findings_calls_and_fields(site: Path) -> None:
    findings = (site / "findings.html").read_text()
    for code in CODES.values():
        assert f'id="{code.code.lower()}"' in findings
    coverage = text_of(site / "coverage.html")
    rows = re.findall(r"^call +(\w+)", (ROOT / "csrc/calls.table").read_text(), re.MULTILINE)
    for name in rows or ["open", "renameat2"]:
        assert re.search(rf"\b{name}\b", coverage), name
    log = text_of(site / "reference/log.html")
    for field in FIELDS:
        assert re.search(rf"\b{field.name}\b", log)


def test_the_fields_are_those_that_are_written(open_tmp: Path) -> None:
    source = (ROOT / "csrc/eventlog.c").read_text()
    assert [field.name for field in FIELDS] == re.findall(r'\\"([a-z]+)\\":', source)
    values = {field.name: [value for value, _ in field.values] for field in FIELDS}
    assert values["access"] == list(ACCESSES)
    outcomes = re.search(r"outcomes\[\] = \{([^}]*)\}", source)
    assert outcomes and set(values["verdict"]) == set(re.findall(r'"(\w+)"', outcomes[1]))
    log = open_tmp / "log"
    run_command([BIN / "porttrace", "run", "--log", log, "--", "sh", "-c", "cat /usr/local/x; ls ../"], cwd=open_tmp)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert lines
    kinds = {"number": int, "text": str, "text or null": (str, type(None))}
    for line in lines:
        assert set(line) <= {field.name for field in FIELDS}
        assert set(values) - set(line) <= {"asked"}
        for field in FIELDS:
            if field.name in line:
                assert isinstance(line[field.name], kinds[field.type]), (field.name, line)  # type: ignore[arg-type]


def test_a_broken_link_fails_the_build(tmp_path: Path) -> None:
    docs = copy_of_docs(tmp_path)
    page = docs / "tutorial.md"
    text = page.read_text()
    for old, new in (("(howto-ci.md)", "(howto-cd.md)"), ("(findings.md#pt001)", "(findings.md#pt999)")):
        assert old in text
        text = text.replace(old, new)
    page.write_text(text)
    result = build(docs, tmp_path / "out")
    assert result.status != 0 and "howto-cd.md" in result.text and "pt999" in result.text


def test_an_option_without_a_place_is_noticed() -> None:
    """Cells say what was written, whatever characters are in it."""
    reference = load_script("reference_doc")
    assert reference._cell("a|b *c* <d>\n  $e") == "a\\|b \\*c\\* \\<d\\> \\$e"
    assert reference._code("NAME|DIR") == "`NAME\\|DIR`"


def test_make_docs_builds_the_site() -> None:
    """The line of the Makefile is the one that is tested here."""
    recipe = (ROOT / "Makefile").read_text().partition("\ndocs: setup")[2].partition("\n\n")[0]
    assert "sphinx-build -W --keep-going -q -b html docs build/docs" in recipe
    assert os.access(BIN / "sphinx-build", os.X_OK)
