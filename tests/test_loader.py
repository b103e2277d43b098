"""What the loader finds by itself: a library that is hidden is not loaded, whoever names the place where it lies."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the loader of Linux")

Done = subprocess.CompletedProcess[str]
PORTTRACE = str(Path(sys.executable).parent / "porttrace")
LIBRARY = """
#include <stdio.h>
int who(void) { return puts(NAME); }
__attribute__((constructor)) static void start(void) { puts("started " NAME); fflush(stdout); }
"""
OPENS = """
#include <dlfcn.h>
#include <stdio.h>
int main(int argc, char **argv)
{
	void *h = dlopen(argc > 1 ? argv[1] : "libloadme.so", RTLD_NOW);
	if (!h)
		return printf("%s\\n", dlerror()), 3;
	int (*who)(void) = (int (*)(void))dlsym(h, "who");
	return who ? who() < 0 : 0;
}
"""
LINKED = """
#include <stdio.h>
int who(void);
int main(int argc, char **argv) { who(); printf("%s %d\\n", argv[argc - 1], argc); return 0; }
"""
MISSING = "cannot open shared object file: No such file or directory"


class Place:
    """Two libraries of one name, of which one is hidden, and programs that nobody in the session can change."""

    def __init__(self, top: Path) -> None:
        self.top = top
        for name in ("hidden", "shown", "bin", "work"):
            (top / name).mkdir()
        self.compile("lib.c", LIBRARY, "hidden/libloadme.so", "-shared", "-fPIC", '-DNAME="hidden"')
        self.compile("lib.c", LIBRARY, "shown/libloadme.so", "-shared", "-fPIC", '-DNAME="shown"')

    def compile(self, name: str, text: str, out: str, *flags: str) -> None:
        (self.top / name).write_text(text)
        subprocess.run(["cc", "-O1", "-w", "-o", self.top / out, self.top / name, *flags], check=True)

    def program(self, text: str, *runpath: str) -> str:
        path = ":".join(str(self.top / p) for p in runpath)
        link = [f"-L{self.top}/hidden", "-lloadme"] if text == LINKED else []
        self.compile("prog.c", text, "bin/prog", *link, *([f"-Wl,-rpath,{path}"] if path else []))
        return str(self.top / "bin" / "prog")

    def run(self, *words: str, options: tuple[str, ...] = (), around: tuple[str, ...] = ()) -> tuple[Done, set[str]]:
        """The process, and the paths that were reported as hidden."""
        report = self.top / "report.json"
        maps = [f"--map={self.top}/hidden=-", f"--write={self.top}/bin=-", f"--read={self.top}"]
        command = [*around, PORTTRACE, "run", f"--report={report}", *options, *maps, "--", "/usr/bin/env", *words]
        done = subprocess.run(command, cwd=self.top / "work", capture_output=True, text=True, timeout=60, check=False)
        findings = json.loads(report.read_text())["findings"]
        return done, {f["path"] for f in findings if f["kind"] == "hidden"}


@pytest.fixture
def place() -> Iterator[Place]:
    top = Path(tempfile.mkdtemp(prefix="porttrace-loader-")).resolve()
    top.chmod(0o755)
    yield Place(top)
    shutil.rmtree(top)


@pytest.mark.parametrize("text", [OPENS, LINKED], ids=["dlopen", "linked"])
def test_the_loader_goes_on_behind_a_hidden_library(place: Place, text: str) -> None:
    done, hidden = place.run(place.program(text, "hidden", "shown"), *(["one", "two"] if text == LINKED else []))
    assert done.stdout.splitlines()[:2] == ["started shown", "shown"], done
    assert text != LINKED or done.stdout.splitlines()[2:] == ["two 3"], done
    assert f"{place.top}/hidden/libloadme.so" in hidden


@pytest.mark.parametrize("text", [OPENS, LINKED], ids=["dlopen", "linked"])
def test_where_there_is_no_other_the_loader_says_so(place: Place, text: str) -> None:
    done, hidden = place.run(place.program(text, "hidden"))
    assert f"libloadme.so: {MISSING}" in done.stdout + done.stderr, done
    assert "started" not in done.stdout
    assert done.returncode == (127 if text == LINKED else 3)
    assert f"{place.top}/hidden/libloadme.so" in hidden


@pytest.mark.parametrize("text", [OPENS, LINKED], ids=["dlopen", "linked"])
def test_a_variable_names_the_place(place: Place, text: str) -> None:
    program = place.program(text)
    done, _ = place.run(f"LD_LIBRARY_PATH={place.top}/hidden:{place.top}/shown", program)
    assert done.stdout.splitlines()[:2] == ["started shown", "shown"], done


def test_without_a_supervisor_dlopen_takes_the_visible_one(place: Place) -> None:
    done, hidden = place.run(place.program(OPENS, "hidden", "shown"), options=("--tiers=tracelib",))
    assert done.stdout.splitlines()[:2] == ["started shown", "shown"], done
    assert hidden == {f"{place.top}/hidden/libloadme.so"}


def test_without_a_supervisor_a_linked_one_is_at_least_told(place: Place) -> None:
    """It is loaded before any code of ours runs; the report says so."""
    done, hidden = place.run(place.program(LINKED, "hidden"), options=("--tiers=tracelib",))
    assert "hidden" in done.stdout
    assert hidden == {f"{place.top}/hidden/libloadme.so"}


def test_what_the_loaders_cache_leads_to(place: Place) -> None:
    """Hidden here: a library of the system, which the loader knows by its cache and its own directories."""
    listed = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=True).stdout
    lines = [line.split() for line in listed.splitlines()]
    path = next(
        Path(words[-1]).resolve() for words in lines if words and words[0] == "libz.so.1" and "x86-64" in words[1]
    )
    program = place.program(OPENS)
    shown, _ = place.run(program, "libz.so.1")
    assert shown.returncode == 0, shown
    done, hidden = place.run(program, "libz.so.1", options=(f"--map={path}=-",))
    assert done.returncode == 3, done
    assert f"libz.so.1: {MISSING}" in done.stdout, done
    assert str(path) in hidden


def test_what_its_cache_alone_leads_to(place: Place) -> None:
    """As /usr/local/lib on Debian: no place of the loader's own, and first in its cache."""
    (place.top / "conf").write_text(f"{place.top}/hidden\n")
    cache, inner = place.top / "cache", ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "-r"]
    subprocess.run(["/sbin/ldconfig", "-X", "-f", place.top / "conf", "-C", cache], check=True)
    mount = [*inner, "sh", "-c", 'mount --bind "$0" /etc/ld.so.cache && exec "$@"', str(cache)]
    if subprocess.run([*mount, "true"], capture_output=True, check=False).returncode:
        pytest.skip("NOT CHECKED: a cache of the loader's own needs a mount name space")
    for text in (OPENS, LINKED):
        done, hidden = place.run(place.program(text), around=tuple(mount))
        # as where the file was removed and the cache is old
        assert f"libloadme.so: {MISSING}" in done.stdout + done.stderr, (text, done)
        assert "started" not in done.stdout
        assert f"{place.top}/hidden/libloadme.so" in hidden


def test_what_is_visible_is_opened_as_ever(place: Place) -> None:
    """A program's own RUNPATH counts, and the finding list stays empty."""
    done, hidden = place.run(place.program(OPENS, "shown"))
    assert done.stdout.splitlines() == ["started shown", "shown"], done
    assert not hidden
