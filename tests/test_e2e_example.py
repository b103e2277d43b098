"""Portfile.example builds, and its allowances do what its comments say."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT, Prefix, prefix_script


@pytest.fixture
def site() -> Iterator[Path]:
    """A directory that no phase sees unless it is allowed: not in /tmp, not in the base system."""
    directory = Path(tempfile.mkdtemp(prefix="porttrace-test-", dir="/srv" if os.geteuid() == 0 else Path.home()))
    for name in ("include", "data", "cache"):
        (directory / name).mkdir()
    (directory / "include/site.h").write_text("#define SITE 1\n")
    (directory / "data/licence").write_text("1234\n")
    prefix_script.open_up(directory)
    (directory / "cache").chmod(0o777)
    yield directory
    shutil.rmtree(directory)


def put(prefix: Prefix, site: Path) -> int:
    """Put the example into the tree, for this site; returns the line of its first allowance."""
    text = (ROOT / "Portfile.example").read_text().replace("/srv/site", str(site))
    prefix.add_port("devel", "example", text)
    return next(n for n, line in enumerate(text.splitlines(), 1) if line.startswith("trace.read-append"))


def test_the_example_builds(prefix: Prefix, site: Path) -> None:
    line = put(prefix, site)
    result = prefix.port("-v", "-t", "install", "example")
    report = (prefix.path / "share/example/report").read_text().splitlines()
    assert report == [
        f"configure sees {site}/include/site.h",
        f"configure misses {site}/data/licence",
        "configure misses /usr/bin/perl",
        "configure sees /etc/example.conf",
        f"build sees {site}/include/site.h",
        f"build sees {site}/data/licence",
        "build sees /usr/bin/perl",
        "build sees /etc/example.conf",
        "colour = green",
    ]
    assert (site / "cache/entry").read_text() == "used\n"
    assert "of the Portfile allowed nothing" not in result.text  # all of them had a use
    assert re.search(rf"may also read {re.escape(str(site))}/include, from line {line} of the Portfile", result.text), (
        result.text
    )


def test_without_its_allowances_it_sees_nothing(prefix: Prefix, site: Path) -> None:
    put(prefix, site)
    portfile = prefix.tree / "devel/example/Portfile"
    portfile.write_text(
        re.sub(r"^.*trace[._](read|write|hide)-append.*$", "", portfile.read_text(), flags=re.MULTILINE)
    )
    # The shell's own message about the cache is the build's failure: writing there is refused.
    result = prefix.fails("-t", "install", "example")
    assert "was attempted outside sandbox" in result.text
    assert not (site / "cache/entry").exists()


def test_it_builds_without_trace_mode_too(prefix: Prefix, site: Path) -> None:
    put(prefix, site)
    prefix.port("install", "example")
    report = (prefix.path / "share/example/report").read_text().splitlines()
    assert "configure sees /usr/bin/perl" in report
    assert "build misses /etc/example.conf" in report
