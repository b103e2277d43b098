"""Real source packages by name, for benchmarks and recall runs: nothing of them is committed.

``apt_source("hello", directory)`` unpacks Debian's source package. The system's own apt configuration stays as it
is: a private one repeats its entries with ``deb-src``.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path


class SourceError(RuntimeError):
    """A source package could not be had; the message says which and why."""


def _deb_src_entries() -> str:
    """The machine's apt entries, asking for sources instead of binaries (formats of sources.list(5))."""
    out: list[str] = []
    etc = Path("/etc/apt")
    for path in sorted(
        [etc / "sources.list", *etc.glob("sources.list.d/*.sources"), *etc.glob("sources.list.d/*.list")]
    ):
        if not path.is_file():
            continue
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".sources":
            for stanza in re.split(r"\n\s*\n", text):
                fields = dict(re.findall(r"^(\w[\w-]*):[ \t]*(.+)$", stanza, re.MULTILINE))
                if "Types" not in fields or "deb" not in fields["Types"].split():
                    continue
                options = f"[signed-by={fields['Signed-By']}] " if fields.get("Signed-By", "").startswith("/") else ""
                for uri in fields["URIs"].split():
                    for suite in fields["Suites"].split():
                        out.append(f"deb-src {options}{uri} {suite} {fields.get('Components', '')}")
        else:
            out += [re.sub(r"^deb\s", "deb-src ", line) for line in text.splitlines() if re.match(r"deb\s", line)]
    # Only Debian's own archives carry sources of the packages that we want; others answer with an error.
    return "\n".join(line for line in out if " main" in line and "cloud-sdk" not in line) + "\n"


def apt_source(package: str, directory: Path, *, patched: bool = True) -> Path:
    """Unpack Debian's source `package` below `directory` and return the unpacked tree (cached there).

    Without `patched` it is the upstream author's tree, as it was before Debian's patches. Raises SourceError where
    apt-get is missing or refuses.
    """
    done = directory / (f"{package}.tree" if patched else f"{package}.upstream")
    if done.is_dir():
        return done
    private = directory / "apt"
    for sub in ("lists/partial", "archives/partial", "etc"):
        (private / sub).mkdir(parents=True, exist_ok=True)
    (private / "etc" / "sources.list").write_text(_deb_src_entries(), encoding="utf-8")
    options = [
        "-o", f"Dir::Etc::SourceList={private}/etc/sources.list",
        "-o", "Dir::Etc::SourceParts=/dev/null",
        "-o", f"Dir::State::Lists={private}/lists",
        "-o", "APT::Sandbox::User=root",
        "-qq",
    ]  # fmt: skip
    work = directory / f"{done.name}.apt"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    try:
        if not any(path.is_file() and "Sources" in path.name for path in (private / "lists").iterdir()):
            subprocess.run(["apt-get", *options, "update"], check=True, capture_output=True)
        subprocess.run(
            ["apt-get", *options, "--download-only", "source", package], check=True, capture_output=True, cwd=work
        )
        unpack = [
            "dpkg-source",
            *([] if patched else ["--skip-patches"]),
            "-x",
            *(path.name for path in work.glob("*.dsc")),
        ]
        subprocess.run(unpack, check=True, capture_output=True, cwd=work)
    except FileNotFoundError as error:
        raise SourceError(f"{package}: no {error.filename} here; give the source tree by hand as {done}") from error
    except subprocess.CalledProcessError as error:
        last = error.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
        raise SourceError(f"{package}: apt-get source failed: {last[0]}") from error
    trees = [path for path in work.iterdir() if path.is_dir()]
    if len(trees) != 1:
        raise SourceError(f"{package}: apt-get source left {len(trees)} trees, expected one")
    trees[0].rename(done)
    return done
