"""What is measured against, and with: an empty library, a launcher, a supervisor, a spawner, the calls."""

from __future__ import annotations

import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent


def build_native(out: Path) -> Path:
    """Compile them into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    cc = ["cc", "-O2", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([*cc, "-shared", "-fPIC", "-o", out / "empty.so", HERE / "native/empty.c"], check=True)
    for name in ("landlock", "notify", "spawn"):
        subprocess.run([*cc, "-o", out / name, HERE / f"native/{name}.c"], check=True)
    for name, how in (("micro", []), ("micro-static", ["-static"])):
        subprocess.run([*cc, *how, "-D_GNU_SOURCE", "-o", out / name, HERE / "micro.c"], check=True)
    return out
