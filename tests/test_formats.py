"""A report in its forms: text, SARIF (against types made from the standard's schema), annotations, the HTML page."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from browser import CHROMIUM, Browser
from conftest import ROOT, load_script
from pydantic import ValidationError
from pydantic_sarif.model import StaticAnalysisResultsFormatSarifVersion210JsonSchema as Sarif

from porttrace.codes import CODES, code_of
from porttrace.findings import FindingKind
from porttrace.formats import as_github, as_html, as_sarif, as_text
from porttrace.formats.place import declared_in, place_of
from porttrace.report import json_text

PORTTRACE = str(Path(sys.executable).with_name("porttrace"))
PORTFILE = """\
PortSystem 1.0
name foo
depends_build   port:pkgconfig \\
                bin:gmake:gmake
# depends_lib port:not-this
depends_lib     port:libbar
trace.read /etc/foo.conf
"""


def finding(kind: str, path: str, **more: Any) -> dict[str, Any]:
    program = {"exe": "/usr/bin/cc1", "parents": ["/bin/sh"], "chain": ["configure", "cc1"], "count": 2}
    plain = {"access": "read", "port": None, "phase": "configure", "count": 2, "rule": "", "fix": None, "built": "foo"}
    return {"kind": kind, "path": path, "programs": [program], "code": code_of(kind).code} | plain | more


@pytest.fixture
def report(tmp_path: Path) -> dict[str, Any]:
    portfile = tmp_path / "tree/devel/foo/Portfile"
    portfile.parent.mkdir(parents=True)
    portfile.write_text(PORTFILE)
    phase = {
        "port": "foo", "phase": "configure", "workpath": "/w", "prefix": "/p", "portfile": str(portfile),
        "registry": None, "deps": ["libbar"], "chains": {"libbar": ["libbar"], "zlib": ["libbar", "zlib"]},
        "strict": False, "audit": False, "read": [], "write": [], "used": {"libbar": {"/p/lib/x": ["read"]}},
        "start": 0.0, "seconds": 2.5, "programs_left_out": 0,
        "programs": [[None, "sh", "/bin/sh", 1, 0.0, 0.0], [0, "cc1", "/usr/bin/cc1", 40, 0.5, 2.0]],
    }  # fmt: skip
    return {
        "version": "1",
        "command": ["port", "install", "foo"],
        "tiers": ["tracelib"],
        "stats": {"processes": 41, "seconds": 2.5},
        "context": {"prefix": "/p", "registry": None, "portfile": str(portfile), "phases": [phase]},
        "findings": [
            finding("undeclared-dependency", "/p/include/stray.h", port="stray", fix="depends_lib-append port:stray"),
            finding("hidden", "/opt/a%b,c:d\n::error::x"),
            finding("absent", "/usr/local/include/nothing.h"),
            finding("unused-dependency", "", port="gmake"),
            finding("unused-allowance", "/etc/foo.conf", rule=f"trace.read, line 7 of {portfile}"),
            finding("write-outside", "/p/\udcff</script><script>alert(1)</script>", access="create"),
            finding("hidden", "/usr/local/include"),
        ],
    }


def tool(*words: str | Path, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run([PORTTRACE, "report", *words], capture_output=True, text=True, timeout=60, input=text)


def test_every_kind_has_a_code_and_none_twice() -> None:
    assert set(CODES) == {str(kind) for kind in FindingKind}
    assert len({code.code for code in CODES.values()}) == len(CODES)
    assert all(code.meaning and code.example and code.fix for code in CODES.values())
    # These are an interface: a code never changes its meaning.
    assert [f"{code.code} {kind}" for kind, code in CODES.items()] == [
        "PT001 undeclared-dependency", "PT002 hidden", "PT003 write-outside", "PT004 unowned", "PT005 absent",
        "PT006 redirected-missing", "PT007 unused-dependency", "PT008 untraced-process", "PT009 wrong-type",
        "PT010 undeclared-linkage", "PT011 unused-allowance",
    ]  # fmt: skip


def test_the_document_is_made_from_the_table() -> None:
    document = (ROOT / "docs/findings.md").read_text()
    assert document == load_script("findings_doc").text(), "run scripts/findings_doc.py"
    assert all(f"\n## {code.code}\n" in document for code in CODES.values())


def test_the_lines_of_a_portfile(report: dict[str, Any], tmp_path: Path) -> None:
    portfile = report["context"]["portfile"]
    assert [row for row in declared_in(portfile) if row[2]] == [
        (3, "build", "port:pkgconfig"),
        (4, "build", "bin:gmake:gmake"),
        (6, "lib", "port:libbar"),
    ]
    places = [place_of(each, report, tmp_path / "tree") for each in report["findings"]]
    assert [place.line if place else None for place in places] == [6, 6, 6, 4, 7, 6, 6]
    assert all(place is not None and place.relative and place.path == "devel/foo/Portfile" for place in places)
    outside = place_of(report["findings"][0], report, Path("/usr"))
    assert outside is not None and outside.path == portfile and not outside.relative
    report["context"]["phases"], report["context"]["portfile"] = [], None
    assert place_of(report["findings"][0], report, tmp_path) is None


def test_sarif_is_what_the_standard_says(report: dict[str, Any], tmp_path: Path) -> None:
    log = json.loads(json.dumps(as_sarif(report, tmp_path / "tree")))
    Sarif.model_validate(log)
    assert log["version"] == "2.1.0" and log["$schema"].endswith("sarif-2.1.0.json")
    (run,) = log["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert len({rule["id"] for rule in rules}) == len(rules)
    assert len(run["results"]) == len(report["findings"])
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["level"] in ("none", "note", "warning", "error") and result["message"]["text"]
        (location,) = result["locations"]
        assert location["physicalLocation"]["artifactLocation"] == {"uri": "devel/foo/Portfile", "uriBaseId": "SRCROOT"}
        assert location["physicalLocation"]["region"]["startLine"] >= 1
    assert run["originalUriBaseIds"]["SRCROOT"]["uri"].endswith("/tree/")
    marks = [result["partialFingerprints"]["porttraceFinding/v1"] for result in run["results"]]
    assert len(set(marks)) == len(marks)
    assert [result["ruleId"] for result in run["results"]][:2] == ["PT001", "PT002"]
    broken = copy.deepcopy(log)
    broken["runs"][0]["results"][0]["level"] = "grave"
    with pytest.raises(ValidationError):  # the model does look
        Sarif.model_validate(broken)
    for odd in ({"startLine": 0}, {"startLine": 1, "line": 2}):
        broken = copy.deepcopy(log)
        broken["runs"][0]["results"][0]["locations"][0]["physicalLocation"]["region"] = odd
        with pytest.raises(ValidationError):
            Sarif.model_validate(broken)


def test_annotations_cannot_be_broken_out_of(report: dict[str, Any], tmp_path: Path) -> None:
    lines = as_github(report, tmp_path / "tree").splitlines()
    assert len(lines) == 5, "absent files and noise are left out"
    assert all(
        re.match(r"::(error|warning|notice) file=devel/foo/Portfile,line=\d+,title=PT\d{3}%3A [^:]*::.+", line)
        for line in lines
    )
    assert lines[0].startswith("::error") and lines[-1].startswith("::warning")
    (odd,) = [line for line in lines if "a%25b" in line]
    assert "%0A::error" in odd, "a line break stays within its message"


def test_text_sums_up(report: dict[str, Any]) -> None:
    text = as_text(report)
    assert "belongs to port stray, which foo does not declare" in text
    assert "7 findings: 1 PT001 undeclared-dependency, 2 PT002 hidden (1 known harmless, -v shows them), 1 PT0" in text
    assert ", 1 PT005 absent (-v shows them)," in text and "-v shows" not in as_text(report, verbose=True)
    only = {"findings": [finding("hidden", "/usr/local/include")]}
    assert as_text(only) == "1 finding: 1 PT002 hidden (known harmless, -v shows them)\n"
    assert as_text({"findings": []}) == "nothing was found\n"
    assert "PT000 from-the-future" in as_text({"findings": [finding("from-the-future", "/x")]})


def test_the_command(report: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "r.json"
    file.write_text(json.dumps(report))
    known = tmp_path / "known.json"
    for form in ("text", "json", "sarif", "github", "html"):
        done = tool("--format", form, file)
        assert done.returncode == 0 and done.stdout, done.stderr
        assert tool("--format", form, "-o", tmp_path / f"out.{form}", file).stdout == ""
        assert (tmp_path / f"out.{form}").read_text() == done.stdout
    assert json.loads(tool("--json", file).stdout) == report
    assert tool("--strict", file).returncode == 3
    known.write_text(json.dumps(report))
    assert tool("--strict", "--baseline", known, file).returncode == 0
    assert tool("--baseline", known, file).stdout == "nothing was found\n"
    assert tool("-", text=json.dumps(report)).stdout == tool(file).stdout
    for words, status, said in (
        (["/nowhere"], 1, "cannot read"),
        ([], 2, "required"),
        (["--format", "pdf", file], 2, "invalid choice"),
    ):
        done = tool(*words)
        assert done.returncode == status and said in done.stderr and done.stderr.count("\n") == 1
    assert "examples:" in tool("--help").stdout


def test_the_page_holds_everything_and_nothing_else(report: dict[str, Any]) -> None:
    page = as_html(report)
    assert page.count("<script") == 2 and page.count("</script>") == 2, "what a path says is no markup"
    assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:)?//", page) and "@import" not in page and "url(" not in page
    page.encode("utf-8")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Any:
    if CHROMIUM is None:
        pytest.skip("NOT CHECKED: the HTML page was not looked at in a browser (apt install chromium-headless-shell)")
    with Browser(tmp_path_factory.mktemp("profile")) as one:
        yield one


def test_the_page_in_a_browser(report: dict[str, Any], browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(as_html(report), encoding="utf-8")
    colours = {}
    for dark in (False, True):
        browser.open(page, dark=dark)
        colours[dark] = browser.js("getComputedStyle(document.body).backgroundColor")
        browser.screenshot(tmp_path / f"{dark}.png")
        assert (tmp_path / f"{dark}.png").stat().st_size > 10_000
    assert colours[True] != colours[False]
    rows = "document.querySelectorAll('#rows tr').length"
    assert browser.js(rows) == 5, "absent files and noise wait behind their boxes"
    assert browser.js("document.querySelectorAll('#graph g').length") == 6
    assert browser.js("document.querySelectorAll('#graph .missing').length") == 1
    assert browser.js("document.querySelectorAll('#graph .superfluous').length") == 1
    assert browser.js("document.querySelectorAll('.bar').length") == 1
    assert browser.js("document.querySelectorAll('.tick').length") >= 2
    assert "sh" in browser.js("document.getElementById('processes').textContent")

    # By keyboard alone: to the search, type, on to the boxes, press one, open the first finding.
    def focus_on(what: str) -> None:
        for _ in range(40):
            if browser.js(f"document.activeElement.matches({json.dumps(what)})"):
                assert browser.js("getComputedStyle(document.activeElement).outlineStyle") != "none"
                return
            browser.key("Tab")
        pytest.fail(f"Tab does not reach {what}")

    focus_on("#q")
    for char in "stray":
        browser.key(char, char)
    assert browser.js(rows) == 1
    browser.js("document.getElementById('q').value = ''; show()")
    focus_on("#f-absent")
    browser.key(" ", " ")
    assert browser.js(rows) == 6
    focus_on("#f-noise")
    browser.key(" ", " ")
    assert browser.js(rows) == 7
    focus_on("th[data-key=path] button")
    browser.key("Enter", "\r")
    assert browser.js("document.querySelector('th[data-key=path]').getAttribute('aria-sort')") == "ascending"
    focus_on("#rows summary")
    browser.key("Enter", "\r")
    assert browser.js("document.querySelector('#rows details').open")
    # What to write is there to be copied.
    focus_on("#lines button")
    browser.key("Enter", "\r")
    assert browser.js("document.querySelector('#lines code').textContent") == "depends_lib-append port:stray"
    focus_on("#graph g")
    assert browser.js("document.querySelectorAll('#graph .lit').length") > 0, "a focused port shows its lines"
    # A phase opens to its programs, each where it ran.
    focus_on(".lane-of summary")
    browser.key("Enter", "\r")
    inner = "[...document.querySelectorAll('.lane.inner')].map(e => e.textContent.trim())"
    assert browser.eventually(f"{inner}.length")
    assert browser.js(inner) == ["sh \u00d71", "cc1 \u00d740"]
    left = "[...document.querySelectorAll('.lane.inner .bar')].map(e => [e.style.left, e.style.width])"
    assert browser.js(left) == [["0%", "0%"], ["20%", "60%"]]
    focus_on("#processes summary")
    if not browser.js("document.querySelector('#processes details').open"):
        browser.key("Enter", "\r")
    assert browser.eventually("document.querySelector('#processes ul summary') !== null")
    focus_on("#processes ul summary")
    browser.key("Enter", "\r")
    assert browser.eventually("document.querySelector('#processes ul ul')?.textContent").startswith("cc1 \u00d740")
    assert browser.complaints == []


def test_the_page_on_a_phone(report: dict[str, Any], browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(as_html(report), encoding="utf-8")
    browser.open(page, width=360, height=740)
    assert browser.js("document.documentElement.scrollWidth") <= 360, "it scrolls sideways"
    assert browser.complaints == []


def test_the_browser_would_complain(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "bad.html"
    page.write_text("<script>nosuchfunction()</script><img src='http://porttrace.invalid/x.png'>")
    browser.open(page)
    browser.js("1")
    assert any("nosuchfunction" in each for each in browser.complaints)
    assert any("porttrace.invalid" in each for each in browser.complaints)
    browser.complaints.clear()


@pytest.mark.parametrize("number", [0, 1, 3])
def test_json_has_a_line_for_each_finding(number: int) -> None:
    tricky = '\n "findings": ['
    row = finding("hidden", f"/opt/\udcff{tricky}") | {"rule": tricky}
    report = {"command": ["x", tricky], "findings": [row] * number, "stats": {"findings": [1]}, "more": None}
    text = json_text(report)
    assert json.loads(text) == report
    assert text.count("\n  {") == number and text.startswith('{\n "command": [\n  "x",') and text.endswith("\n}\n")
