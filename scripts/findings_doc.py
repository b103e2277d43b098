"""Write docs/findings.md from the table in porttrace/codes.py. With --check: only say whether it is up to date."""

from __future__ import annotations

import sys
from pathlib import Path

from porttrace.codes import CODES

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "findings.md"
_HEAD = """\
# Findings, code by code

<!-- Made by scripts/findings_doc.py from porttrace/codes.py: change it there. -->

Each finding has a stable code; reports (`code`), SARIF (`ruleId`), GitHub annotations and the HTML page use it.
`porttrace explain PATH REPORT` tells more about a single one. `error`, `warning` and `note` are the levels of SARIF;
`--strict` exits with 3 for PT001, PT002, PT003 and PT008, and where the report is not complete. What a
baseline (`--baseline FILE`) holds is accepted.

| code | kind | level | in short |
|---|---|---|---|
"""


def text() -> str:
    """The document."""
    rows = "".join(
        f"| [{code.code}](#{code.code.lower()}) | `{code.kind}` | {code.level} | {code.title} |\n"
        for code in CODES.values()
    )
    parts = [
        f"\n## {code.code}\n\n**{code.title}** (`{code.kind}`, {code.level})\n\n{code.meaning}\n\n"
        f"```\n{code.example}\n```\n\n**What to do.** {code.fix}\n" + (f"\n{code.details}\n" if code.details else "")
        for code in CODES.values()
    ]
    return _HEAD + rows + "".join(parts)


def main() -> int:
    """Exit status 1 where --check finds it out of date."""
    if "--check" in sys.argv[1:]:
        return int(not DOCUMENT.exists() or DOCUMENT.read_text(encoding="utf-8") != text())
    DOCUMENT.write_text(text(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
