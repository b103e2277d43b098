"""Make a Python module of the package's data: ``gen_tables.py OUTPUT.py FILE.toml ...``.

The core of the drop-in is started anew for each port: to read these files as TOML would cost it a fifth of its start,
the module is compiled when it is installed.
"""

from __future__ import annotations

import pprint
import sys
import tomllib
from pathlib import Path


def main(output: str, files: list[str]) -> None:
    """Write the module."""
    tables = {Path(file).name: tomllib.loads(Path(file).read_text(encoding="utf-8")) for file in files}
    text = pprint.pformat(tables, width=120, sort_dicts=False)
    head = '"""Made from porttrace/data/*.toml by csrc/gen_tables.py."""\n\nfrom typing import Any\n\n'
    Path(output).write_text(f"{head}TABLES: dict[str, Any] = {text}\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
