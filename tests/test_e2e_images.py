"""Trace mode changes nothing about a build in which no undeclared dependency is involved."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT, Prefix, prefix_script

#: All but porttrace itself, whose dependencies are in MacPorts' own tree and not in this one.
PORTS = sorted({p.parent.name for p in (ROOT / "ports").glob("[!_]*/*/Portfile")} - {"porttrace"})
#: Ports that need the network the first time: their distfile is kept here, below the ignored build directory.
CACHE = ROOT / "build" / "distfiles"


def image(destroot: Path) -> Iterator[tuple[str, str]]:
    """Every entry of an image with its kind, mode and content."""
    for path in sorted(destroot.rglob("*")):
        name = str(path.relative_to(destroot))
        if path.is_symlink():
            yield name, f"link {path.readlink()}"
        elif path.is_dir():
            yield name, f"directory {path.stat().st_mode:o}"
        else:
            yield name, f"file {path.stat().st_mode:o} {hashlib.sha256(path.read_bytes()).hexdigest()}"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prefix]:
    """One prefix for all ports of this file, with the dependencies installed as they come."""
    import tempfile

    directory = Path(tempfile.mkdtemp(prefix="porttrace-test-"))
    directory.chmod(0o755)
    prefix = Prefix(prefix_script.make(directory / "prefix"))
    yield prefix
    shutil.rmtree(directory)


def lend_distfiles(prefix: Prefix, name: str) -> None:
    """Put what an earlier run has fetched into the prefix, so that the network is asked once."""
    target = prefix.path / "var/macports/distfiles" / name
    kept = CACHE / name
    if kept.is_dir() and not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(kept, target)
        prefix_script.open_up(target.parent)


def keep_distfiles(prefix: Prefix, name: str) -> None:
    """Remember what was fetched over the network."""
    target = prefix.path / "var/macports/distfiles" / name
    if target.is_dir() and not (CACHE / name).exists():
        shutil.copytree(target, CACHE / name)


@pytest.mark.parametrize("name", PORTS)
def test_same_image_with_and_without_trace_mode(shared: Prefix, name: str) -> None:
    if name == "hello":
        lend_distfiles(shared, name)
    images = []
    for trace in ((), ("-t",)):
        if name in shared.port("-q", "installed").text:
            shared.port("-f", "uninstall", name)
        shared.port(*trace, "-k", "-s", "install", name)
        entries = dict(image(shared.work(name) / "destroot"))
        assert any(value.startswith("file") for value in entries.values())
        (packed,) = (shared.path / "var/macports/software" / name).iterdir()
        entries["the image itself"] = hashlib.sha256(packed.read_bytes()).hexdigest()
        images.append(entries)
        shared.port("-f", "uninstall", name)
        shared.port("clean", name)
    if name == "hello":
        keep_distfiles(shared, name)
    assert images[0] == images[1]


@pytest.mark.parametrize("name", PORTS)
def test_its_own_tests_pass_under_trace_mode(shared: Prefix, name: str) -> None:
    if name == "hello":
        lend_distfiles(shared, name)
    if name == "stray":
        return  # has no test suite of its own: its Portfile does not claim one
    shared.port("-t", "test", name)
    shared.port("clean", name)


LEAKY = """PortSystem          1.0

name                leaky
version             1.0
categories          devel
license             public-domain
maintainers         nomaintainer
description         a build that looks at how it is watched
long_description    ${description}
homepage            https://porttrace.invalid/leaky

distfiles
extract.mkdir       yes
use_configure       no
build               { system -W ${workpath} "echo \\${LD_PRELOAD:-nothing} > seen" }
destroot            { xinstall -m 644 ${workpath}/seen ${destroot}/seen }
"""


def test_the_comparison_sees_a_difference(prefix: Prefix) -> None:
    prefix.add_port("devel", "leaky", LEAKY)
    images = []
    for trace in ((), ("-t",)):
        prefix.port(*trace, "destroot", "leaky")
        images.append(dict(image(prefix.work("leaky") / "destroot")))
        prefix.port("clean", "leaky")
    assert images[0]["seen"] != images[1]["seen"]


def test_the_tree_is_what_was_promised() -> None:
    texts = {name: next((ROOT / "ports").glob(f"[!_]*/{name}/Portfile")).read_text() for name in PORTS}
    assert {"foo", "libbar", "stray", "hello"} <= set(texts)
    for what in ("PortGroup           cmake", "use_configure       no", "configure.cmd       perl", "bin:python3"):
        assert any(what in text for text in texts.values()), what
