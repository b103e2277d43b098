"""What is measured against, and with: an empty library, a Landlock launcher, a spawner, the loop of calls."""

from __future__ import annotations

import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent


def build_native(out: Path) -> Path:
    """Compile them into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    cc = ["cc", "-O2", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([*cc, "-shared", "-fPIC", "-o", out / "empty.so", HERE / "native/empty.c"], check=True)
    for name in ("landlock", "spawn"):
        subprocess.run([*cc, "-o", out / name, HERE / f"native/{name}.c"], check=True)
    subprocess.run([*cc, "-D_GNU_SOURCE", "-o", out / "micro", HERE / "micro.c"], check=True)
    return out
