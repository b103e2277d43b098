"""What is published: source archive, wheels, and the workflows that make them; macOS' as far as it can be seen."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import struct
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import lief
import pytest
from conftest import ROOT, made_once, prefix_script
from ruamel.yaml import YAML
from test_macos_library import pairs, rows_of
from test_sipcopy import compiled

from porttrace import machosign

sys.path.insert(0, str(ROOT / "scripts"))
import macos_library
import universal_wheel

BIN = Path(sys.executable).parent
ENVIRONMENT = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONNOUSERSITE": "1"}
NAMES = ("libtracelib.dylib", "porttrace-launch")
MACHINES = {"x86_64": "x86_64", "aarch64": "arm64"}  # meson's word and that of a wheel's tag


def run(*words: object, cwd: Path, **more: object) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        **more,  # type: ignore[call-overload]
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done  # type: ignore[no-any-return]


# ---- the source archive, and a wheel from it ----


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if subprocess.run(["git", "rev-parse"], cwd=ROOT, capture_output=True).returncode:
        pytest.skip("NOT CHECKED: the source archive is made from a git checkout, and this is none")

    def make(directory: Path) -> None:
        run(sys.executable, "-c", f"import mesonpy; mesonpy.build_sdist({os.fspath(directory)!r})", cwd=ROOT)

    (found,) = made_once(tmp_path_factory, "sdist", make).iterdir()
    return found


def test_the_archive_has_what_is_committed(archive: Path) -> None:
    committed = run("git", "ls-tree", "-r", "--name-only", "-z", "HEAD", cwd=ROOT).stdout.split("\0")[:-1]
    with tarfile.open(archive) as tar:
        names = {m.name.partition("/")[2] for m in tar.getmembers() if m.isfile() or m.issym()}
    assert names == {*committed, "PKG-INFO"}


@pytest.fixture(scope="module")
def wheel(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    def make(directory: Path) -> None:
        pip = [sys.executable, "-m", "pip", "wheel", "-q", "--disable-pip-version-check"]
        run(*pip, "--no-deps", "--no-build-isolation", "--no-cache-dir", "-w", directory, archive, cwd=directory)

    (found,) = made_once(tmp_path_factory, "wheel", make).glob("*.whl")
    return found


def test_the_wheel_has_what_is_installed_here(wheel: Path) -> None:
    """Nothing that is needed is missing in the archive: the same comes of it as of the checkout."""
    here = {str(f) for f in distribution("porttrace").files or ()}
    here = {f for f in here if not f.startswith("../") and "__pycache__" not in f and ".dist-info/" not in f}
    with zipfile.ZipFile(wheel) as made:
        assert {name for name in made.namelist() if ".dist-info/" not in name} == here


def test_the_wheel_carries_its_licence(wheel: Path) -> None:
    """Which asks for that of binary forms."""
    with zipfile.ZipFile(wheel) as made:
        (text,) = [made.read(name) for name in made.namelist() if name.endswith(".dist-info/licenses/LICENSE")]
        (metadata,) = [made.read(name) for name in made.namelist() if name.endswith(".dist-info/METADATA")]
    assert text == (ROOT / "LICENSE").read_bytes()
    assert b"\nLicense-Expression: BSD-3-Clause\n" in metadata


@pytest.fixture(scope="module")
def repaired(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As cibuildwheel leaves it: with the tag of the image in which it builds."""
    if not sys.platform.startswith("linux"):
        return wheel
    image = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["cibuildwheel"]["linux"]
    plat = f"{image['manylinux-x86_64-image']}_{platform.machine()}"
    if tuple(int(n) for n in platform.libc_ver()[1].split(".")) > (2, 36):  # a younger one's headers ask for more
        plat = "auto"

    def make(directory: Path) -> None:
        run("auditwheel", "repair", "--plat", plat, "-w", directory, wheel, cwd=directory)

    (found,) = made_once(tmp_path_factory, "repaired", make).glob("*.whl")
    assert f"-{plat}." in found.name or plat == "auto"
    return found


def test_nothing_is_put_into_the_wheel(wheel: Path, repaired: Path) -> None:
    """Of the system its programs need only the C library, which auditwheel leaves where it is."""
    names = []
    for one in (wheel, repaired):
        with zipfile.ZipFile(one) as made:
            names.append({n for n in made.namelist() if ".dist-info/" not in n and not n.endswith("/")})
            tags = re.findall(r"^Tag: (.*)", made.read("porttrace-0.1.0.dist-info/WHEEL").decode(), re.M)
    assert names[0] == names[1]
    assert sys.platform == "darwin" or all("-manylinux_" in tag for tag in tags)


def test_the_wheel_works_where_no_source_is(repaired: Path, open_tmp: Path) -> None:
    """In an empty environment, without a variable: `porttrace run` and `port -t`."""
    home = open_tmp / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", home, cwd=open_tmp)
    python = home / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "-q", "--disable-pip-version-check"]
    run(*pip, "--no-deps", "--no-index", repaired, cwd=open_tmp)
    (site,) = home.glob("lib/python*/site-packages")
    ours = Path(sysconfig.get_paths()["platlib"])
    for name in ("cffi", "pycparser", "zstandard"):
        shutil.copytree(ours / name, site / name, ignore=shutil.ignore_patterns("__pycache__"))
    for extension in ours.glob("_cffi_backend*.so"):
        shutil.copy(extension, site)
    prefix_script.open_up(home)
    bare = ["env", "-i", "PATH=/usr/bin:/bin:/usr/sbin:/sbin"]
    report = open_tmp / "report.json"
    hidden = "/usr/local/nothing-of-ours"
    words = f"cat {hidden}; test -e /bin/sh"
    run(*bare, home / "bin" / "porttrace", "run", "--report", report, "--", "/bin/sh", "-c", words, cwd=open_tmp)
    found = json.loads(report.read_text())
    assert "tracelib" in found["tiers"]
    assert hidden in {finding["path"] for finding in found["findings"]}
    prefix = prefix_script.make(open_tmp / "prefix")
    port = [*bare, home / "bin" / "port", "--prefix", prefix]
    run(*port, "install", "stray", cwd=open_tmp)
    said = run(*port, "-t", "install", "foo", cwd=open_tmp)
    assert "include/stray.h" in said.stdout + said.stderr
    assert (prefix / "bin" / "foo").exists()


# ---- macOS ----


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What meson.build makes for arm64, with the cross compiler in place of Apple's: a directory."""
    return made_once(tmp_path_factory, "native", build_native) / "b" / "csrc"


def build_native(directory: Path) -> None:
    zig = f"'{sys.executable}', '-m', 'ziglang'"
    target = f"aarch64-macos.{macos_library.MINIMUM}"
    (directory / "cross.ini").write_text(
        f"[binaries]\nc = [{zig}, 'cc', '-target', '{target}']\nar = [{zig}, 'ar']\nstrip = 'true'\n"
        "[host_machine]\nsystem = 'darwin'\ncpu_family = 'aarch64'\ncpu = 'aarch64'\nendian = 'little'\n"
    )
    run("meson", "setup", directory / "b", ROOT, "--cross-file", directory / "cross.ini", cwd=directory)
    said = run("ninja", "-C", directory / "b", "-t", "targets", "all", cwd=directory).stdout
    # All but the two steps of the core that need macOS' Python.
    objects = re.findall(r"^(csrc/_core\S+\.o): c_COMPILER$", said, re.M)
    wanted = [name for name in objects if "__core.c" not in name]
    assert len(wanted) == len(objects) - 1 > 5
    run("ninja", "-C", directory / "b", "csrc/libtracelib.dylib", "csrc/porttrace-launch", *wanted, cwd=directory)


def test_meson_builds_the_library_and_the_launcher(native: Path) -> None:
    made = {name: lief.MachO.parse(str(native / name)) for name in NAMES}
    for name, fat in made.items():
        assert fat is not None, name
        binary = fat.at(0)
        assert {library.name for library in binary.libraries if library.command.name == "LOAD_DYLIB"} == {
            "/usr/lib/libSystem.B.dylib"
        }
        assert list(binary.build_version.minos)[:2] == [11, 0]
    library = made["libtracelib.dylib"]
    assert library is not None
    exchanged = sorted(theirs for _, theirs in pairs(library.at(0)))
    assert exchanged == sorted(f"_{row.name}" for row in rows_of("aarch64")), "as scripts/macos_library.py makes it"


def half_a_wheel(directory: Path, machine: str, programs: dict[str, bytes], extra: dict[str, bytes]) -> Path:
    tag = f"cp311-cp311-macosx_11_0_{MACHINES[machine]}"
    files = {
        "porttrace/__init__.py": b"",
        **{f"porttrace/{name}": data for name, data in programs.items()},
        "porttrace-0.1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: porttrace\nVersion: 0.1.0\n",
        "porttrace-0.1.0.dist-info/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: {tag}\n".encode(),
        **extra,
    }
    record = "".join(universal_wheel._record(name, data) for name, data in files.items())
    files["porttrace-0.1.0.dist-info/RECORD"] = f"{record}porttrace-0.1.0.dist-info/RECORD,,\n".encode()
    output = directory / f"porttrace-0.1.0-{tag}.whl"
    with zipfile.ZipFile(output, "w") as made:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (0o100755 if name in ("porttrace/porttrace-launch",) else 0o100644) << 16
            made.writestr(entry, data)
    return output


@pytest.fixture(scope="module")
def intel(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return compiled("x86_64", tmp_path_factory.mktemp("intel"))


@pytest.mark.parametrize("machine", ["x86_64", "arm64"])
def test_wheels_are_joined(native: Path, intel: bytes, tmp_path: Path, machine: str) -> None:
    """Library and launcher for both machines, signed as they were; pip takes the wheel on each of them."""
    programs = {"x86_64": dict.fromkeys(NAMES, intel)}
    programs["aarch64"] = {name: (native / name).read_bytes() for name in NAMES}
    for one in MACHINES:
        half_a_wheel(tmp_path, one, programs[one], {})
    universal_wheel.main(["", os.fspath(tmp_path)])
    (joined,) = tmp_path.iterdir()
    assert joined.name == "porttrace-0.1.0-cp311-cp311-macosx_11_0_universal2.whl"
    target = tmp_path / "installed"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--only-binary", ":all:"]
    pip += ["--platform", f"macosx_14_0_{machine}", "--python-version", "3.11", "--implementation", "cp"]
    run(*pip, "--target", target, joined, cwd=tmp_path)
    for name in NAMES:
        data = (target / "porttrace" / name).read_bytes()
        slices = machosign.slices(data)
        assert [body for _, _, body in slices] == [programs["x86_64"][name], programs["aarch64"][name]]
        assert machosign.check(slices[1][2]) & 2
    assert (target / "porttrace" / "porttrace-launch").stat().st_mode & 0o111
    with zipfile.ZipFile(joined) as made:
        listed = made.read("porttrace-0.1.0.dist-info/RECORD").decode()
        for name in made.namelist():
            assert universal_wheel._record(name, made.read(name)) in listed or name.endswith("RECORD")
        assert b"Tag: cp311-cp311-macosx_11_0_universal2\n" in made.read("porttrace-0.1.0.dist-info/WHEEL")


MACHO = struct.pack("<I", 0xFEEDFACF) + bytes(60)


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"porttrace/_version.py": b"1"}, "only in one of the halves: porttrace/_version.py"),
        ({"porttrace/__init__.py": b"# another"}, "__init__.py is not the same"),
        ({"porttrace/porttrace-launch": b"#!/bin/sh\n"}, "porttrace-launch is not the same"),
    ],
)
def test_halves_that_do_not_belong_together(tmp_path: Path, extra: dict[str, bytes], words: str) -> None:
    intel = half_a_wheel(tmp_path, "x86_64", {"porttrace-launch": MACHO}, {})
    arm = half_a_wheel(tmp_path, "aarch64", {"porttrace-launch": MACHO}, extra)
    with pytest.raises(SystemExit, match=words):
        universal_wheel.join(intel, arm, tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([intel, arm])


def test_a_missing_half_is_named(tmp_path: Path) -> None:
    half_a_wheel(tmp_path, "x86_64", {"porttrace-launch": MACHO}, {})
    with pytest.raises(SystemExit, match="not one wheel for each machine"):
        universal_wheel.main(["", os.fspath(tmp_path)])


# ---- workflows ----


def test_workflows_are_what_the_service_understands() -> None:
    workflows = sorted((ROOT / ".github" / "workflows").iterdir())
    assert len(workflows) >= 2
    run(BIN / "check-jsonschema", "--builtin-schema", "vendor.github-workflows", *workflows, cwd=ROOT)


def test_workflows_give_nothing_away() -> None:
    """No credentials kept, no more rights than are needed, no text of others in a shell: without asking a network."""
    run(BIN / "zizmor", "--offline", "--quiet", "--min-severity", "medium", ".github/workflows", cwd=ROOT)


def test_the_wheels_that_are_made() -> None:
    """By the configuration, as cibuildwheel reads it: one for each Python on each machine of the workflow."""
    (job,) = [
        job
        for job in YAML(typ="safe").load((ROOT / ".github" / "workflows" / "wheels.yml").read_text())["jobs"].values()
        if "matrix" in job.get("strategy", {})
    ]
    (pythons,) = [s["with"]["python-version"].split() for s in job["steps"] if "setup-python" in s.get("uses", "")]
    assert pythons[0] == "3.11" and len(pythons) >= 4
    made, wanted = [], []
    for one in job["strategy"]["matrix"]["include"]:
        system = "macos" if one["os"].startswith("macos") else "linux"
        words = ["--print-build-identifiers", "--platform", system, "--archs", ",".join(one["archs"].split())]
        made += run("cibuildwheel", *words, cwd=ROOT).stdout.split()
        kind = {"macos": "macosx", "linux": "manylinux"}[system]
        wanted += [f"cp{p.replace('.', '')}-{kind}_{arch}" for p in pythons for arch in one["archs"].split()]
    assert sorted(made) == sorted(wanted) and len(made) == 4 * len(pythons)


def test_workflows_call_what_there_is() -> None:
    """Targets of make, scripts and paths that steps name."""
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
    for workflow in (ROOT / ".github" / "workflows").iterdir():
        text = workflow.read_text()
        assert set(re.findall(r"^\s*- run: make ([a-z-]+)", text, re.M)) <= targets
        for script in re.findall(r"scripts/[\w.-]+", text):
            assert (ROOT / script).exists(), script
