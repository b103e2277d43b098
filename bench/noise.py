"""How much of what a build's report shows nobody can do anything about, and whether anything else is lost.

usage: bench/noise.py [--cache DIR] [--only NAME,…] [--show] [--path PATH]

Six real builds run under ``porttrace run`` at default verbosity. They use nothing but the base system, so every line
that is shown is noise. Then each runs once more with three things planted that somebody must act upon: a header and a
program in /usr/local and a file elsewhere, which the build finds when it is untraced. Each must be named in the report.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from builds import BUILDS, Build

PORTTRACE = Path(sys.executable).with_name("porttrace")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MOST = 5
"""Lines of findings that a build may show though nothing can be done about them."""
NAME = "porttrace-planted"


@contextlib.contextmanager
def planted() -> Iterator[tuple[str, list[str]]]:
    """Put the three files there; gives a script that looks for them, and their paths."""
    elsewhere = Path(tempfile.mkdtemp(prefix=NAME, dir="/opt"))
    header, tool = Path(f"/usr/local/include/{NAME}.h"), Path(f"/usr/local/bin/{NAME}")
    secret = elsewhere / "config.site"
    try:
        for path, text in ((header, "#define X\n"), (tool, "#!/bin/sh\n"), (secret, "X=1\n")):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        tool.chmod(0o755)
        script = (
            f"d=$(mktemp -d); echo '#include <{NAME}.h>' > $d/a.c; "
            "cc -I/usr/local/include -c -o $d/a.o $d/a.c 2>/dev/null; "
            f"rm -r $d; {NAME} 2>/dev/null; cat {secret} >/dev/null 2>&1; "
        )
        yield script, [str(header), str(tool), str(secret)]
    finally:
        shutil.rmtree(elsewhere)
        header.unlink(missing_ok=True)
        tool.unlink(missing_ok=True)


def run(build: Build, cache: Path, before: str, path: str) -> tuple[str, list[dict[str, object]]]:
    """The text of the report at default verbosity, and the findings. Raises RuntimeError where the build fails."""
    with tempfile.TemporaryDirectory(prefix="porttrace-noise-", dir="/srv") as name:
        tree, report = Path(name) / "tree", Path(name) / "report.json"
        shutil.copytree(build.tree(cache), tree, symlinks=True)
        env = {"PATH": path, "HOME": os.environ.get("HOME", "/"), "LANG": "de_DE.UTF-8", "TERM": "xterm"}
        script = f"{before}({build.script}) >build.out 2>&1 || {{ tail -3 build.out; exit 9; }}"
        argv = [str(PORTTRACE), "run", "--report", str(report), "--", "sh", "-c", script]
        done = subprocess.run(argv, cwd=tree, env=env, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{build.name}: status {done.returncode}: {done.stdout}{done.stderr}")
        return done.stderr, json.loads(report.read_text())["findings"]


def main() -> int:
    """The command line; 1 where a build shows too much or loses something."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "porttrace-sources")
    parser.add_argument("--only", default="")
    parser.add_argument("--path", default=PATH)
    parser.add_argument("--show", action="store_true", help="print what the reports say")
    options = parser.parse_args()
    options.cache.mkdir(exist_ok=True)
    only = [name for name in options.only.split(",") if name]
    print("| build | lines shown | findings folded or not shown | by kind | planted and named |\n|---|---|---|---|---|")
    bad = 0
    for build in BUILDS:
        if only and build.name not in only:
            continue
        text, findings = run(build, options.cache, "", options.path)
        lines = [line for line in text.splitlines() if line]
        with planted() as (script, paths):
            with_plants, _ = run(build, options.cache, script, options.path)
        # gcc looks for headers only in directories that it was told exist
        named = [path for path in paths if path in with_plants or f"{Path(path).parent} (" in with_plants]
        kinds = Counter(str(finding["kind"]) for finding in findings)
        detail = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        cells = [build.name, len(lines), len(findings), detail, f"{len(named)} of {len(paths)}"]
        print("|", " | ".join(map(str, cells)), "|", flush=True)
        bad += len(lines) > MOST or len(named) < len(paths)
        if options.show:
            print(text, end="", file=sys.stderr)
        for path in paths:
            if path not in named:
                print(f"NOT NAMED: {path}", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
