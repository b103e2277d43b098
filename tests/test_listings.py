"""What listings left out: directories that only undeclared ports fill, and what is no sign of anything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from porttrace.registry import Registry
from porttrace.registry.models import NewPort

PORTTRACE = str(Path(sys.executable).with_name("porttrace"))
LISTER = """
#include <dirent.h>
#include <stdio.h>
int main(int argc, char **argv)
{
    struct dirent *e;
    for (int i = 1; i < argc; i++) {
        DIR *d = opendir(argv[i]);
        while (d && (e = readdir(d)))
            puts(e->d_name);
    }
    return 0;
}
"""
FILES = {
    "host": ("bin/host", "lib/both/host.so"),
    "plug": ("bin/plug", "lib/host/plugins/b.so", "lib/host/plugins/a.so", "lib/both/plug.so"),
    "more": ("lib/host/plugins/c.so",),
    "py-mod": ("lib/python3/site-packages/mod.py",),
}


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A prefix with a host whose plug-ins others install."""
    with tempfile.TemporaryDirectory(prefix="porttrace-listings-", dir="/opt") as name:
        top = Path(name)
        top.chmod(0o755)
        database = top / "var/macports/registry/registry.db"
        database.parent.mkdir(parents=True)
        with Registry.open(database, write=True) as registry:
            for port, files in FILES.items():
                for file in files:
                    (top / file).parent.mkdir(parents=True, exist_ok=True)
                    (top / file).write_text("x")
                paths = tuple(os.fsencode(top / file) for file in files)
                registry.activate(registry.add(NewPort(port, "1.0", files=paths)))
        yield top


@pytest.fixture(params=["dynamic", "static"], scope="module")
def lister(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that lists directories; the static one is held by the supervisor."""
    source, program = (tmp_path_factory.mktemp("lister") / name for name in ("lister.c", "lister"))
    source.write_text(LISTER)
    program = source.with_name(request.param)
    subprocess.run(["cc", "-o", program, source, *(["-static"] if request.param == "static" else [])], check=True)
    return program


def left_out(place: Path, *command: str | Path, deps: str = "host") -> dict[str, list[str]]:
    """Port -> files that a run of `command` says were left out of a listing."""
    report = place / "report.json"
    options = ["-q", "--prefix", place, "--deps", deps, "--report", report]
    subprocess.run(
        [PORTTRACE, "run", *options, "--", *command], cwd="/srv", check=True, capture_output=True, timeout=60
    )
    found: dict[str, list[str]] = {}
    for finding in json.loads(report.read_text())["findings"]:
        if finding["kind"] == "undeclared-dependency" and finding["access"] == "list":
            assert "left out of the listing" in finding["reason"] and finding["fix"], finding
            found.setdefault(finding["port"], []).append(os.path.relpath(finding["path"], place))
    return found


def test_a_directory_that_only_undeclared_ports_fill(place: Path, lister: Path) -> None:
    found = left_out(place, lister, place / "lib/host/plugins")
    assert found == {"plug": ["lib/host/plugins/a.so"], "more": ["lib/host/plugins/c.so"]}
    assert left_out(place, lister, place / "lib/host/plugins", deps="host,more") == {}, "more's directory, too"
    assert left_out(place, lister, place / "lib/host/plugins", deps="plug,more") == {}


def test_what_says_nothing(place: Path, lister: Path) -> None:
    assert left_out(place, lister, place / "bin", place / "lib", place) == {}, "directories that are everybody's"
    assert left_out(place, lister, place / "lib/both") == {}, "host has a file there"
    assert left_out(place, lister, place / "lib/host") == {}, "nothing was left out"
    assert left_out(place, lister, place / "bin", place / "lib/host/plugins") == {}, "one that lists everything"
    assert left_out(place, lister, place / "lib/host/nothing") == {}


def test_python_lists_before_it_looks(place: Path) -> None:
    script = f"import sys; sys.path.insert(0, '{place}/lib/python3/site-packages')\ntry:\n import json, mod\n" \
        "except ImportError:\n pass"  # fmt: skip
    assert left_out(place, "/usr/bin/python3", "-c", script) == {}
    (phase,) = json.loads((place / "report.json").read_text())["context"]["phases"]
    assert list(phase["listed"]) == [f"{place}/lib/python3/site-packages"], "an audit has to decide"


def test_it_is_told_in_words(place: Path, lister: Path) -> None:
    options = ["--prefix", place, "--deps", "host"]
    done = subprocess.run(
        [PORTTRACE, "run", *options, "--", lister, place / "lib/host/plugins"],
        capture_output=True,
        text=True,
        cwd="/srv",
    )
    assert done.stdout.split() == [".", ".."]
    assert f"{place}/lib/host/plugins/a.so\n    belongs to port plug" in done.stderr
    assert "left out of a listing by " in done.stderr
