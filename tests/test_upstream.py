"""One upstream package in a Portfile that declares too little; bench/upstream.py tries six."""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from pathlib import Path
from types import ModuleType

import pytest
from conftest import ROOT


@pytest.fixture(scope="module")
def upstream() -> ModuleType:
    spec = importlib.util.spec_from_file_location("upstream", ROOT / "bench/upstream.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules["upstream"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_perl_module_whose_tests_need_another(upstream: ModuleType) -> None:
    """Perl's own MakeMaker, real sources; the smallest of the six."""
    cache = Path(tempfile.gettempdir()) / "porttrace-sources"
    cache.mkdir(exist_ok=True)
    (port,) = (port for port in upstream.PORTS if port.name == "p5-test-fatal")
    try:
        for each in (port, *(p for p in upstream.PROVIDERS if p.name == "p5-try-tiny")):
            each.tree(cache)
    except upstream.SourceError as error:
        pytest.skip(f"NOT CHECKED: no upstream package was tried: {error}")
    with upstream.Ground(cache) as ground:
        ground.install("p5-try-tiny")
        outcome = upstream.try_port(ground, port)
    assert outcome.said == ["depends_test-append port:p5-try-tiny"], outcome.text
    assert outcome.after and len(outcome.lines) <= upstream.SCREEN, outcome.text


def test_what_was_measured_is_written_down() -> None:
    text = (ROOT / "bench/results/upstream.md").read_text()
    rows = [row for row in text.splitlines() if row.startswith("| ") and not row.startswith("| built")]
    assert len(rows) == 6 and all("| these |" in row and "| yes |" in row for row in rows)
    assert "/tmp/" not in text and "/work" not in text
