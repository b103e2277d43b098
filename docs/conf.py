"""The site: `make docs`. The pages of reference/ are made from the code each time."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "scripts"))

import reference_doc  # noqa: E402

reference_doc.write(HERE / "reference")

project = "porttrace"
html_title = "porttrace"
extensions = ["myst_parser"]
myst_heading_anchors = 4
html_theme = "furo"
html_copy_source = False
html_show_sphinx = False
nitpicky = True
smartquotes = False  # an option is --name
