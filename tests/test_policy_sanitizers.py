"""The policy code under the address and undefined-behaviour sanitizers, fed with hostile input."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from tracelib_build import policy_sources

ROOT = Path(__file__).parent.parent
SOURCES = [*policy_sources(), ROOT / "csrc" / "builder.c", ROOT / "csrc" / "owners.c"]


def build(out: Path, *flags: str) -> None:
    cc = shutil.which("cc")
    assert cc, "a C compiler is needed"
    command = [
        cc,
        "-std=gnu11",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-g",
        "-O1",
        *flags,
        f"-I{ROOT / 'csrc'}",
        "-o",
        str(out),
    ]
    command += [str(ROOT / "tests/fuzz/policy_fuzz.c"), *map(str, SOURCES)]
    subprocess.run(command, check=True)


@pytest.fixture(scope="module")
def fuzzer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("fuzz") / "policy_fuzz"
    build(out, "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    return out


@pytest.mark.parametrize("seed", [1, 2])
def test_hostile_images_filemaps_and_trees(fuzzer: Path, seed: int) -> None:
    rounds = 2500 * int(os.environ.get("PORTTRACE_FUZZ", "1"))
    seed += int(os.environ.get("PORTTRACE_FUZZ_SEED", "0"))
    run = subprocess.run([fuzzer, str(seed), str(rounds)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-4000:]
    sound = [int(n) for n in re.findall(r"\d+", run.stdout)]
    assert all(n > 100 for n in sound), run.stdout  # otherwise the inputs no longer get past the first check
